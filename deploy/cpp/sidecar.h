// `inference.yml`, which tools/export_model.py writes beside the model files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "preprocess.h"

struct Sidecar {
  Preprocess preprocess;
  std::vector<std::string> classes;        // empty when names are unknown
  std::map<std::string, bool> softmax;     // by model file: probabilities come out, not logits
  std::vector<double> thresholds;          // of several labels a picture, one a class; else empty
  std::map<std::string, uintmax_t> bytes;  // by file
  // One a class; a picture that reaches none shows none of them. Empty where that is not decided.
  std::vector<double> known_limits;

  std::string class_name(size_t id) const {
    return id < classes.size() ? classes[id] : std::to_string(id);
  }
  // Whether probabilities are of a picture that shows none of the classes.
  bool unknown(const std::vector<float>& probs) const;
  // Throws UserError when a file is missing or has another size than the exported one.
  void check(const std::filesystem::path& file) const;
};

// Throws UserError: no such file, not understood, of another version.
Sidecar read_sidecar(const std::filesystem::path& folder);
