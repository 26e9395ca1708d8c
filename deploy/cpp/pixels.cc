// For the tests: pixels FOLDER PICTURE writes the centre crop, uint8 [H, W, 3], to the standard
// output.

#include <cstdio>
#include <iostream>

#include "sidecar.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    const std::vector<uint8_t> pixels =
        read_sidecar(argv[1]).preprocess.pixels(read_picture(argv[2]));
    return std::fwrite(pixels.data(), 1, pixels.size(), stdout) == pixels.size() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
