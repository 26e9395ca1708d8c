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
  std::map<std::string, uintmax_t> bytes;  // by file

  std::string class_name(size_t id) const {
    return id < classes.size() ? classes[id] : std::to_string(id);
  }
  // Throws UserError when a file is missing or has another size than the exported one.
  void check(const std::filesystem::path& file) const;
};

// Throws UserError: no such file, not understood, of another version.
Sidecar read_sidecar(const std::filesystem::path& folder);
