// From a picture to the numbers a model reads: the pixels and values of data/preprocess.py.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "picture.h"

struct Preprocess {
  int resize_size = 256, crop_size = 224;
  std::string interpolation = "bilinear", fit = "crop";
  std::array<float, 3> mean{}, std{};

  // Resized as `fit` says, centre cut out: uint8 [H, W, 3].
  std::vector<uint8_t> pixels(const Picture& picture) const;
  // uint8 [H, W, 3] -> float32 [3, H, W].
  std::vector<float> normalize(const std::vector<uint8_t>& pixels) const;
};
