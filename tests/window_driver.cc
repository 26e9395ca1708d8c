// Decodes windows of the JPEG files named on the command line into buffers of their exact size and
// prints a sum for each. For sanitizers: damaged files have to end in -1, never in a report.
#include "window.cc"

int main(int count, char** files) {
  for (int i = 1; i < count; ++i) {
    std::FILE* file = std::fopen(files[i], "rb");
    std::vector<uint8_t> data(1 << 20);
    data.resize(std::fread(data.data(), 1, data.size(), file));
    data.shrink_to_fit();
    std::fclose(file);
    const int32_t boxes[][4] = {{0, 0, 61, 47}, {13, 5, 30, 22}, {60, 46, 61, 47}, {0, 3, 61, 9}};
    const int32_t sizes[][2] = {{17, 13}, {90, 70}, {1, 1}, {61, 47}};
    for (const auto& box : boxes)
      for (const auto& size : sizes)
        for (int way = 0; way < 12; ++way) {
          Window ask{};
          ask.data = data.data();
          ask.bytes = data.size();
          std::copy(box, box + 4, ask.box);
          std::copy(size, size + 2, ask.size);
          const int32_t cut = way % 3 == 2 && size[0] > 9 ? 5 : 0;
          const int32_t window[] = {cut, cut, size[0] - cut + (cut ? 1 : 0), size[1]};
          std::copy(window, window + 4, ask.window);
          ask.is_cubic = way % 2;
          ask.down_first = way / 2 % 2;
          ask.spare = way / 4 == 2 ? 1.5 : 0;
          std::vector<uint8_t> out(3 * (window[2] - window[0]) * (window[3] - window[1]));
          ask.out = out.data();
          long sum = 0;
          const int done = decode_window(&ask);
          for (size_t k = 0; k < out.size(); ++k) sum += out[k] * (k % 251 + 1);
          std::printf("%d %ld\n", i, done ? sum : -1);
        }
  }
}
