// Names what is on images, like tools/predict.py: same sidecar, same pixels, same lines.

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <numeric>

#include <getopt.h>
#include <nlohmann/json.hpp>

#include "engine.h"
#include "error.h"
#include "picture.h"
#include "sidecar.h"

namespace fs = std::filesystem;

namespace {

constexpr const char* kHelp =
    R"(usage: classify --pretrained FOLDER --img-path IMAGE_OR_FOLDER [--flag VALUE ...]

Names what is on an image, or on all images of a folder.

  --pretrained PATH  export folder of tools/export_model.py, or a model file in it
  --img-path PATH    a JPEG or PNG, or a folder (searched recursively)
  --topk N           classes to list per image (default 5)
  --engine NAME      auto, openvino (.onnx, .pdmodel) or paddle_inference (.pdmodel, .json); auto takes
                     the first that was built and can run the file
  --threads N        for the model; 0 is one per core (default 0)
  --json             one JSON object per image and line
  --features         with --json and openvino: what the last layer reads of each image, too
  --help             this text

Status: 0, 1 when an image could not be read, 2 when something given cannot work.
)";

struct Options {
  std::string pretrained, img_path, engine = "auto";
  int topk = 5, threads = 0;
  bool json = false, features = false, help = false;
};

struct Ranked {
  size_t class_id;
  float prob;
};

int number(const std::string& flag, const std::string& text, int least) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least)
    throw UserError("--" + flag + " " + text + ": allowed is a whole number from " +
                    std::to_string(least));
  return value;
}

Options parse(int argc, char** argv) {
  static const option known[] = {
      {"pretrained", required_argument, nullptr, 'p'},
      {"img-path", required_argument, nullptr, 'i'},
      {"topk", required_argument, nullptr, 'k'},
      {"engine", required_argument, nullptr, 'e'},
      {"threads", required_argument, nullptr, 't'},
      {"json", no_argument, nullptr, 'j'},
      {"features", no_argument, nullptr, 'f'},
      {"help", no_argument, nullptr, 'h'},
      {nullptr, 0, nullptr, 0},
  };
  Options options;
  opterr = 0;
  for (int flag; (flag = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    const std::string value = optarg ? optarg : "";
    switch (flag) {
      case 'p': options.pretrained = value; break;
      case 'i': options.img_path = value; break;
      case 'k': options.topk = number("topk", value, 1); break;
      case 'e': options.engine = value; break;
      case 't': options.threads = number("threads", value, 0); break;
      case 'j': options.json = true; break;
      case 'f': options.features = true; break;
      case 'h': options.help = true; break;
      default:
        throw UserError(std::string(argv[optind - 1]) + ": unknown, or its value is missing",
                        std::string(argv[0]) + " --help");
    }
  }
  if (optind < argc)
    throw UserError(std::string(argv[optind]) + ": no flag comes before it",
                    std::string(argv[0]) + " --help");
  if (!options.help && (options.pretrained.empty() || options.img_path.empty()))
    throw UserError("--pretrained and --img-path are needed", std::string(argv[0]) + " --help");
  if (options.features && !options.json)
    throw UserError("--features is written by --json alone", "add --json");
  return options;
}

std::vector<fs::path> find_pictures(const std::string& path) {
  static const std::vector<std::string> extensions{
      ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp",  ".webp", ".gif",
      ".tif", ".tiff", ".ppm", ".pgm",  ".jp2", ".avif", ".heic", ".heif"};  // data/preprocess.py's
  if (fs::is_regular_file(path)) return {path};
  if (!fs::is_directory(path)) throw UserError(path + ": no such file or folder");
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    std::string extension = entry.path().extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(), ::tolower);
    const bool hidden = entry.path().filename().string().front() == '.';
    if (!hidden && entry.is_regular_file() &&
        std::count(extensions.begin(), extensions.end(), extension))
      found.push_back(entry.path());
  }
  if (found.empty()) throw UserError(path + ": the folder holds no image");
  std::sort(found.begin(), found.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return found;
}

// Engine and model file; throws UserError when nothing fits.
std::pair<std::string, fs::path> choose(const Options& options) {
  const fs::path given(options.pretrained);
  const bool is_folder = fs::is_directory(given);
  if (!fs::exists(given)) throw UserError("no file or folder " + given.string());
  std::string known;
  bool is_known = options.engine == "auto";
  for (const EngineKind& kind : engine_kinds()) {
    known += ", " + kind.name;
    is_known |= options.engine == kind.name;
    if (options.engine != "auto" && options.engine != kind.name) continue;
    if (!is_built(kind.name)) {
      if (options.engine == "auto") continue;
      throw UserError("engine " + kind.name + " was not built into this program",
                      "docs/cpp.md says what cmake needs for it");
    }
    for (const std::string& name : kind.files) {
      if (is_folder && fs::exists(given / name)) return {kind.name, given / name};
      if (!is_folder && given.extension() == fs::path(name).extension()) return {kind.name, given};
    }
    if (options.engine == kind.name)
      throw UserError("engine " + kind.name + " cannot run " + given.string() + "; it reads " +
                      kind.files[0] + " and " + kind.files[1]);
  }
  if (!is_known) throw UserError("engine '" + options.engine + "' is not one of auto" + known);
  throw UserError("nothing here can run " + given.string(),
                  "python tools/export_model.py --pretrained WEIGHTS --save-inference-dir FOLDER"
                  "  # writes what can be run");
}

std::vector<float> softmax(std::vector<float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  for (float& value : logits) value = std::exp(value - largest);
  const float sum = std::accumulate(logits.begin(), logits.end(), 0.0f);
  for (float& value : logits) value /= sum;
  return logits;
}

std::vector<float> sigmoid(std::vector<float> logits) {
  for (float& value : logits)
    value = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(value))));
  return logits;
}

// The classes that reach their thresholds, best first.
std::vector<Ranked> labels(const std::vector<Ranked>& ranking, const Sidecar& sidecar) {
  std::vector<Ranked> found;
  for (const Ranked& r : ranking)
    if (r.prob >= sidecar.thresholds.at(r.class_id)) found.push_back(r);
  return found;
}

nlohmann::ordered_json to_json(const std::vector<Ranked>& ranking, const Sidecar& sidecar) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Ranked& r : ranking)
    rows.push_back({{"class_id", r.class_id},
                    {"prob", static_cast<double>(r.prob)},
                    {"name", sidecar.class_name(r.class_id)}});
  return rows;
}

std::vector<Ranked> rank(const std::vector<float>& probs, size_t topk) {
  std::vector<Ranked> all;
  for (size_t id = 0; id < probs.size(); ++id) all.push_back({id, probs[id]});
  std::stable_sort(all.begin(), all.end(),
                   [](const Ranked& a, const Ranked& b) { return a.prob > b.prob; });
  all.resize(std::min(all.size(), topk));
  return all;
}

std::string shortest(double value) {  // what Python prints
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

void print(const fs::path& file, const std::vector<float>& probs, size_t topk,
           const Sidecar& sidecar, const std::string& engine, double milliseconds, bool as_json,
           const std::vector<float>& features) {
  const std::vector<Ranked> ranking = rank(probs, topk);
  std::vector<Ranked> above;
  if (!sidecar.thresholds.empty()) above = labels(rank(probs, probs.size()), sidecar);
  if (as_json) {
    nlohmann::ordered_json line{
        {"file", file.string()}, {"engine", engine}, {"topk", to_json(ranking, sidecar)}};
    if (!sidecar.known_limits.empty()) line["unknown"] = sidecar.unknown(probs);
    if (!sidecar.thresholds.empty()) line["labels"] = to_json(above, sidecar);
    if (!features.empty()) line["features"] = features;
    std::cout << line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) << std::endl;
    return;
  }
  std::printf("%s  (%s, %.1f ms)\n", file.c_str(), engine.c_str(), milliseconds);
  std::printf("class_id: %zu, prob: %s\n", ranking[0].class_id, shortest(ranking[0].prob).c_str());
  if (sidecar.unknown(probs)) std::printf("unknown: none of the classes that the model knows\n");
  if (!sidecar.thresholds.empty()) {
    std::string names;
    for (const Ranked& r : above)
      names += (names.empty() ? "" : ", ") + sidecar.class_name(r.class_id);
    std::printf("labels: %s\n", names.empty() ? "none" : names.c_str());
  }
  for (const Ranked& r : ranking)
    std::printf("  %6.2f %%  %zu  %s\n", 100.0 * r.prob, r.class_id,
                sidecar.class_name(r.class_id).c_str());
  std::printf("\n");
}

int run(const Options& options) {
  const std::vector<fs::path> files = find_pictures(options.img_path);
  const auto [name, model] = choose(options);
  const Sidecar sidecar = read_sidecar(fs::absolute(model).parent_path());
  sidecar.check(model);
  if (model.extension() != ".onnx") sidecar.check(fs::path(model).replace_extension(".pdiparams"));
  const std::unique_ptr<Engine> engine =
      load_engine(name, model, options.threads, options.features);
  const Preprocess& spec = sidecar.preprocess;
  const bool has_softmax = sidecar.softmax.at(model.filename().string());
  // The first run of an engine prepares its kernels; it would blur the times shown.
  engine->run(std::vector<float>(3 * static_cast<size_t>(spec.crop_size) * spec.crop_size),
              spec.crop_size);
  size_t failed = 0;
  for (const fs::path& file : files) {
    try {
      const Picture picture = read_picture(file.string());
      const auto begin = std::chrono::steady_clock::now();
      std::vector<float> out = engine->run(spec.normalize(spec.pixels(picture)), spec.crop_size);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - begin;
      if (!has_softmax) out = sidecar.thresholds.empty() ? softmax(out) : sigmoid(out);
      const std::vector<float> features =
          options.features ? engine->features() : std::vector<float>();
      print(file, out, options.topk, sidecar, name, took.count(), options.json, features);
    } catch (const PictureError& error) {
      ++failed;
      std::cerr << "classify: " << file.string() << ": " << error.what() << std::endl;
      if (options.json) {
        const nlohmann::ordered_json line{{"file", file.string()},
                                          {"error", file.string() + ": " + error.what()}};
        std::cout << line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
                  << std::endl;
      }
    }
  }
  if (failed)
    std::cerr << "classify: " << failed << " of " << files.size() << " images failed" << std::endl;
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv);
    if (!options.help) return run(options);
    std::cout << kHelp;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "classify: " << error.what() << std::endl;
    return 2;
  }
}
