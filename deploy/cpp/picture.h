// Decoded pictures: JPEG by libjpeg-turbo, PNG by libpng, the EXIF orientation by libexif.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

// Rows of R G B x bytes, and a few spare bytes behind the last row, which resample.h may read.
struct Picture {
  int width = 0, height = 0;
  std::vector<uint8_t> rgbx;

  void allocate(int new_width, int new_height);
  uint8_t* row(int y) { return &rgbx[static_cast<size_t>(y) * width * 4]; }
  const uint8_t* row(int y) const { return &rgbx[static_cast<size_t>(y) * width * 4]; }
};

// A picture that cannot be read; the text says why.
struct PictureError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Reads a file as upright 8-bit RGB, like `load_image` of data/decode.py: transparency is dropped,
// of 16 bits the upper 8 in use are kept. Throws PictureError.
Picture read_picture(const std::string& path);
