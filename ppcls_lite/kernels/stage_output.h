// The output stage of a block: forward the last batch norm and the shortcut, backward the sums of
// the gradient that comes in.
#pragma once

#include "block.h"

namespace mobile {

inline void output_stage(const Block& b) {
  const Affine project(b.project_bn, b.out_channels);
  const Index rows = b.images * b.out_pixels(), channels = b.out_channels;
  const float *scale = project.scale.data(), *shift = project.shift.data();
  parallel(b.threads, [&](Index share) {
    const Range range = share_of(rows, b.threads, share);
    for_row_groups(range.end - range.begin, [&](Index r, auto group) {
      for_channels(channels, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        const Lane k = load<Lane>(scale + c), s = load<Lane>(shift + c);
        for (int i = 0; i < group; ++i) {
          const Index at = (range.begin + r + i) * channels + c;
          Lane y = load<Lane>(b.project_z + at) * k + s;
          if (b.shortcut) y += load<Lane>(b.x + at);
          store(b.y + at, y);
        }
      });
    });
  });
}

inline Linear output_stage_backward(const Block& b) {
  const Index rows = b.images * b.out_pixels(), channels = b.out_channels;
  PairSums sums(b.threads, channels);
  parallel(b.threads, [&](Index share) {
    const Range range = share_of(rows, b.threads, share);
    for (Index r = range.begin; r < range.end; r += kFloatRows)
      add_sums(b.dy + r * channels, b.project_z + r * channels, std::min(kFloatRows, range.end - r),
               b.project_bn.mean, sums, share);
  });
  return Linear(b.project_bn, sums);
}

}  // namespace mobile
