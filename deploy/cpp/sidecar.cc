#include "sidecar.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include <yaml-cpp/yaml.h>

#include "error.h"

namespace {

constexpr int kVersion = 1, kMultiLabel = 2;

Preprocess preprocess_of(const YAML::Node& node) {
  Preprocess spec;
  spec.resize_size = node["resize_size"].as<int>();
  spec.crop_size = node["crop_size"].as<int>();
  spec.interpolation = node["interpolation"].as<std::string>();
  if (node["fit"]) spec.fit = node["fit"].as<std::string>();
  if (spec.fit != "crop" && spec.fit != "pad" && spec.fit != "squash")
    throw UserError("fit " + spec.fit + " is not one of crop, pad, squash",
                    "build this program again from the release that exported the model");
  for (size_t c = 0; c < 3; ++c) {
    spec.mean[c] = static_cast<float>(node["mean"][c].as<double>());
    spec.std[c] = static_cast<float>(node["std"][c].as<double>());
  }
  return spec;
}

}  // namespace

Sidecar read_sidecar(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "inference.yml";
  const std::string hint =
      "python tools/export_model.py --pretrained WEIGHTS --save-inference-dir FOLDER"
      "  # writes it beside the model files";
  if (!std::filesystem::is_regular_file(path)) throw UserError("no file " + path.string(), hint);
  try {
    const YAML::Node content = YAML::LoadFile(path.string());
    const int version = content["version"].as<int>();
    if (version != kVersion && version != kMultiLabel)
      throw UserError(path.string() + " has version " + content["version"].as<std::string>() +
                          "; this program reads versions " + std::to_string(kVersion) + " and " +
                          std::to_string(kMultiLabel),
                      "export the model again");
    Sidecar sidecar;
    sidecar.preprocess = preprocess_of(content["preprocess"]);
    if (content["classes"].IsSequence())
      sidecar.classes = content["classes"].as<std::vector<std::string>>();
    for (const auto& entry : content["outputs"])
      sidecar.softmax[entry.first.as<std::string>()] =
          entry.second["softmax"].as<bool>() || entry.second["sigmoid"].as<bool>(false);
    if (version == kMultiLabel)
      sidecar.thresholds = content["model"]["thresholds"].as<std::vector<double>>();
    for (const auto& entry : content["files"])
      sidecar.bytes[entry.first.as<std::string>()] = entry.second["bytes"].as<uintmax_t>();
    if (const YAML::Node limits = content["model"]["known_limits"])
      sidecar.known_limits = limits.as<std::vector<double>>();
    return sidecar;
  } catch (const YAML::Exception& error) {
    throw UserError(path.string() + " cannot be understood: " + error.what(),
                    "export the model again");
  }
}

bool Sidecar::unknown(const std::vector<float>& probs) const {
  if (known_limits.size() != probs.size()) return false;
  std::vector<double> logs;  // of what the softmax gives as 0 there is none
  double mean = 0;
  for (const float prob : probs) {
    logs.push_back(std::log(static_cast<double>(std::max(prob, FLT_MIN))));
    mean += logs.back() / static_cast<double>(probs.size());
  }
  for (size_t k = 0; k < logs.size(); ++k)
    if (logs[k] - mean >= known_limits[k]) return false;
  return true;
}

void Sidecar::check(const std::filesystem::path& file) const {
  if (!std::filesystem::is_regular_file(file))
    throw UserError("no file " + file.string(), "copy the whole export folder");
  const auto known = bytes.find(file.filename().string());
  if (known == bytes.end() || known->second != std::filesystem::file_size(file))
    throw UserError(file.string() + " is not the file that inference.yml beside it describes",
                    "copy all files of the export folder again");
}
