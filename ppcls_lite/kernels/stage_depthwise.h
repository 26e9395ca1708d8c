// The depthwise stage of a block, image by image and row by row. It reads what expand gives, or the
// block's input where nothing is expanded.
#pragma once

#include "block.h"

namespace mobile {

// Writes input row r of image n, [width, E]: what the depthwise convolution reads.
inline void depthwise_input(const Block& b, const Affine& expand, Index n, Index r, float* to) {
  const Index row = b.width * b.expanded, from = (n * b.height + r) * row;
  if (b.expand_weight)
    normalise(b.expand_z + from, b.width, b.expanded, expand, b.activation, to);
  else
    std::copy(b.x + from, b.x + from + row, to);
}

inline void depthwise_stage(const Block& b, const Affine& expand) {
  const Index channels = b.expanded, taps = b.kernel * b.kernel;
  std::vector<float> by_tap(taps * channels);
  taps_first(b.depthwise_weight, taps, channels, by_tap.data());
  Moments moments(b.threads, channels, b.depthwise_bn.frozen);
  parallel(b.threads, [&](Index share) {
    const Range images = share_of(b.images, b.threads, share);
    for (Index n = images.begin; n < images.end; ++n) {
      const auto fill = [&](Index r, float* to) { depthwise_input(b, expand, n, r, to); };
      const auto done = [&](Index, const Stored* row) { moments.add(share, row, b.out_width); };
      depthwise_image(b.depthwise_shape(), by_tap.data(),
                      b.depthwise_z + n * b.out_pixels() * channels, fill, done);
    }
  });
  moments.finish(b.depthwise_bn);
}

// Takes d, the gradient of input row r of image n: on to dY1 and its sums, or to the block's input.
inline void depthwise_input_backward(const Block& b, const Affine& expand, Index n, Index r,
                                     const float* d, PairSums& sums, Index share) {
  const Index row = b.width * b.expanded, at = (n * b.height + r) * row;
  if (b.expand_weight) {
    activation_backward(stored(d, b.expanded), b.expand_z + at, b.width, b.activation, expand,
                        b.expand_bn.mean, b.d_expand_y + at, sums, share);
    return;
  }
  float* dx = b.dx + at;
  for (Index i = 0; i < row; ++i) dx[i] = d[i];
  if (b.shortcut)
    for (Index i = 0; i < row; ++i) dx[i] += b.dy[at + i];
}

inline Linear depthwise_stage_backward(const Block& b, const Affine& expand,
                                       const Linear& depthwise) {
  const Index channels = b.expanded, taps = b.kernel * b.kernel;
  std::vector<float> by_tap(taps * channels), d_by_tap(taps * channels);
  taps_first(b.depthwise_weight, taps, channels, by_tap.data());
  PairSums sums(b.threads, channels);
  Partials partials(b.threads, taps * channels);
  parallel(b.threads, [&](Index share) {
    const Range images = share_of(b.images, b.threads, share);
    for (Index n = images.begin; n < images.end; ++n) {
      const auto fill = [&](Index r, float* to) { depthwise_input(b, expand, n, r, to); };
      const auto fill_dz = [&](Index y, float* to) {
        const Index at = (n * b.out_height + y) * b.out_width * channels;
        normalise_backward(b.d_depthwise_y + at, b.depthwise_z + at, b.out_width, channels,
                           depthwise, to);
      };
      const auto done = [&](Index r, const float* d) {
        depthwise_input_backward(b, expand, n, r, d, sums, share);
      };
      depthwise_image_backward(b.depthwise_shape(), by_tap.data(), b.expand_weight || b.dx,
                               b.d_depthwise_weight ? partials.of(share) : nullptr, fill, fill_dz,
                               done);
    }
  });
  if (b.d_depthwise_weight) {
    partials.add_up(d_by_tap.data());
    channels_first(d_by_tap.data(), taps, channels, b.d_depthwise_weight);
  }
  return b.expand_weight ? Linear(b.expand_bn, sums) : Linear();
}

}  // namespace mobile
