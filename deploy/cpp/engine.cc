#include "engine.h"

#include <dlfcn.h>

#include "error.h"

namespace {

std::filesystem::path library(const std::string& engine) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() /
         ("libengine_" + engine + ".so");
}

}  // namespace

const std::vector<EngineKind>& engine_kinds() {
  static const std::vector<EngineKind> kinds{
      {"openvino", {"inference.onnx", "inference.pdmodel"}},
      {"paddle_inference", {"inference.pdmodel", "inference.json"}},
  };
  return kinds;
}

bool is_built(const std::string& engine) {
  return std::filesystem::is_regular_file(library(engine));
}

std::unique_ptr<Engine> load_engine(const std::string& engine, const std::filesystem::path& file,
                                    int threads, bool features) {
  // RTLD_LOCAL: see engine.h. It is never closed: these libraries do not survive that.
  void* handle = dlopen(library(engine).c_str(), RTLD_NOW | RTLD_LOCAL);
  auto create = handle ? reinterpret_cast<CreateEngine>(dlsym(handle, "create_engine")) : nullptr;
  if (!create) throw UserError("engine " + engine + " does not load: " + dlerror());
  try {
    return std::unique_ptr<Engine>(create(file.c_str(), threads, features));
  } catch (const std::exception& error) {
    throw UserError(engine + " cannot read " + file.string() + ": " + error.what());
  }
}
