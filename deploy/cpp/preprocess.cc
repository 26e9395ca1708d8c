#include "preprocess.h"

#include <algorithm>
#include <cmath>

#include "resample.h"

namespace {

// First pixel of the centre crop; negative where black is put in front.
int centre(int length, int crop) {
  // Python's round(): halves to the even number, as nearbyint does.
  return length >= crop ? static_cast<int>(std::nearbyint((length - crop) / 2.0))
                        : -((crop - length) / 2);
}

// One direction: the picture's length, the length it is resized to, and the part that is wanted.
struct Side {
  int length, resized, from, to;
};

Axis axis(const Side& side, bool is_cubic) {
  Axis axis;
  axis.prepare(side.length, 0, side.length, side.resized, side.from, side.to, is_cubic);
  split_weights(axis);
  return axis;
}

// Each direction rounds to 8 bits, so that their order shows in the pixels; this is Pillow 13's.
bool down_first(const Side& across, const Side& down) {
  return down.length > down.resized &&
         2 * (across.length - across.resized) < down.length - down.resized;
}

// RGB of the part, rows of `stride` bytes.
void filtered(const Picture& picture, const Side& x, const Side& y, bool is_cubic, uint8_t* out,
              size_t stride) {
  const Axis across = axis(x, is_cubic), down = axis(y, is_cubic);
  const int first = down.begin(), rows = down.end() - first, w = x.to - x.from, h = y.to - y.from;
  if (down_first(x, y)) {
    const int n = 4 * picture.width;
    std::vector<int32_t> sums(n);
    std::vector<uint8_t> row(n + kSlack);
    for (int i = 0; i < h; ++i) {
      resize_down(down, i, picture.row(first), n, sums.data(), row.data());
      resize_row(across, row.data(), out + i * stride);
    }
    return;
  }
  std::vector<int32_t> sums(3 * w);
  std::vector<uint8_t> kept(static_cast<size_t>(rows) * 3 * w);
  for (int i = 0; i < rows; ++i)
    resize_row(across, picture.row(first + i), &kept[static_cast<size_t>(i) * 3 * w]);
  for (int i = 0; i < h; ++i)
    resize_down(down, i, kept.data(), 3 * w, sums.data(), out + i * stride);
}

// The stored pixel under the middle of each wanted one, found by adding up steps, as Pillow does.
std::vector<int> nearest(const Side& side) {
  const double step = static_cast<double>(side.length) / side.resized;
  double position = step * 0.5;
  std::vector<int> found;
  for (int i = 0; i < side.to; ++i, position += step)
    if (i >= side.from) found.push_back(static_cast<int>(position));
  return found;
}

void picked(const Picture& picture, const Side& x, const Side& y, uint8_t* out, size_t stride) {
  const std::vector<int> columns = nearest(x), rows = nearest(y);
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < columns.size(); ++j)
      std::copy_n(picture.row(rows[i]) + 4 * static_cast<size_t>(columns[j]), 3,
                  out + i * stride + 3 * j);
}

}  // namespace

std::vector<uint8_t> Preprocess::pixels(const Picture& picture) const {
  const int known = fit == "pad" ? std::max(picture.width, picture.height)
                                 : std::min(picture.width, picture.height);
  const auto resized = [&](int length) {
    if (fit == "squash") return resize_size;
    const double product = static_cast<double>(static_cast<int64_t>(resize_size) * length);
    return std::max(static_cast<int>(product / known), 1);
  };
  Side x{picture.width, resized(picture.width), 0, 0},
      y{picture.height, resized(picture.height), 0, 0};
  const int left = centre(x.resized, crop_size), top = centre(y.resized, crop_size);
  x.from = std::max(left, 0), x.to = std::min(left + crop_size, x.resized);
  y.from = std::max(top, 0), y.to = std::min(top + crop_size, y.resized);
  const size_t stride = 3 * static_cast<size_t>(crop_size);
  std::vector<uint8_t> out(stride * crop_size);  // black outside of the picture
  uint8_t* begin = out.data() + (y.from - top) * stride + 3 * (x.from - left);
  if (interpolation == "nearest")
    picked(picture, x, y, begin, stride);
  else
    filtered(picture, x, y, interpolation == "bicubic", begin, stride);
  return out;
}

std::vector<float> Preprocess::normalize(const std::vector<uint8_t>& pixels) const {
  const size_t plane = pixels.size() / 3;
  std::vector<float> out(pixels.size());
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < plane; ++i)
      out[c * plane + i] = (static_cast<float>(pixels[3 * i + c]) / 255.0f - mean[c]) / std[c];
  return out;
}
