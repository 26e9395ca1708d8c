// What runs the model. Each engine is a library of its own that is loaded when it is asked for:
// two engines bring two versions of OpenVINO, which must not see each other.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

class Engine {
 public:
  virtual ~Engine() = default;
  // float32 [1, 3, H, W] -> float32 [K]
  virtual std::vector<float> run(const std::vector<float>& image, int size) = 0;
  // float32 [D] that the last layer read in the last run. Only of an engine made for them.
  virtual std::vector<float> features() { return {}; }
};

// What every engine's library exports. `threads` 0 is one per core. Throws std::exception, also
// where `features` are asked for and it has none.
extern "C" Engine* create_engine(const char* model_file, int threads, bool features);
using CreateEngine = Engine* (*)(const char*, int, bool);

struct EngineKind {
  std::string name;
  std::vector<std::string> files;  // that it reads, the preferred one first
};

// All engines, built or not, the preferred one first.
const std::vector<EngineKind>& engine_kinds();
// Whether an engine was built: its library lies beside this program.
bool is_built(const std::string& engine);
// Throws UserError: the library or the model cannot be loaded.
std::unique_ptr<Engine> load_engine(const std::string& engine, const std::filesystem::path& file,
                                    int threads, bool features);
