// The two ends of a network: the stem, from images, and the last convolution with its pooling.
#pragma once

#include "depthwise.h"
#include "squeeze_excite.h"

namespace mobile {

// Part of the C interface: convolution from few channels, batch norm, activation.
struct Stem {
  Index threads, images, height, width, in_channels, out_channels;
  Index kernel, stride, pad_top, pad_left, out_height, out_width, activation;
  const float* x;       // [N, in, H, W]: as images come
  const float* weight;  // [out, in, K, K]
  BatchNorm bn;
  Stored* z;  // [N, Ho, Wo, out]
  float* y;   // [N, Ho, Wo, out]
  // Backward only. Images get no gradient.
  const float* dy;
  float* d_weight;  // or null
  Stored* d_y;      // work: [N, Ho, Wo, out]

  Index taps() const { return in_channels * kernel * kernel; }
  Index out_pixels() const { return out_height * out_width; }
  // As in DepthwiseShape.
  Index padded_width() const {
    return std::max(pad_left + width, (out_width - 1) * stride + kernel);
  }
};

// The rows of an image that output row y reaches, with margins: [in * K, padded_width].
inline void gather_rows(const Stem& s, Index image, Index y, float* rows) {
  const Index padded = s.padded_width();
  for (Index c = 0; c < s.in_channels; ++c)
    for (Index i = 0; i < s.kernel; ++i, rows += padded) {
      const Index from = y * s.stride - s.pad_top + i;
      std::fill(rows, rows + padded, 0.0f);
      if (from < 0 || from >= s.height) continue;
      const float* row = s.x + ((image * s.in_channels + c) * s.height + from) * s.width;
      std::copy(row, row + s.width, rows + s.pad_left);
    }
}

template <class Lane, int outputs>
inline void stem_outputs(const Stem& s, const float* rows, const float* by_tap, Index c, Index x,
                         float* z) {
  Lane sums[outputs] = {};
  const Index padded = s.padded_width();
  for (Index row = 0; row < s.in_channels * s.kernel; ++row)
    for (Index j = 0; j < s.kernel; ++j) {
      const Lane w = load<Lane>(by_tap + (row * s.kernel + j) * s.out_channels + c);
      const float* input = rows + row * padded + x * s.stride + j;
#pragma GCC unroll 8
      for (int o = 0; o < outputs; ++o) sums[o] += w * input[o * s.stride];
    }
#pragma GCC unroll 8
  for (int o = 0; o < outputs; ++o) store(z + (x + o) * s.out_channels + c, sums[o]);
}

inline void stem_convolution(const Stem& s) {
  std::vector<float> by_tap(s.taps() * s.out_channels);
  taps_first(s.weight, s.taps(), s.out_channels, by_tap.data());
  Moments moments(s.threads, s.out_channels, s.bn.frozen);
  parallel(s.threads, [&](Index share) {
    Scratch& scratch = Scratch::of_this_thread();
    const Index width = s.out_width * s.out_channels;
    float* rows = scratch.take(s.in_channels * s.kernel * s.padded_width());
    float* work = scratch.take(kKeptInPlace ? 0 : width);
    const Range range = share_of(s.images * s.out_height, s.threads, share);
    for (Index at = range.begin; at < range.end; ++at) {
      gather_rows(s, at / s.out_height, at % s.out_height, rows);
      Stored* kept = s.z + at * width;
      float* z = in_place(kept, work);
      for_channels(s.out_channels, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        Index x = 0;
        for (; x + kOutputs <= s.out_width; x += kOutputs)
          stem_outputs<Lane, kOutputs>(s, rows, by_tap.data(), c, x, z);
        for (; x < s.out_width; ++x) stem_outputs<Lane, 1>(s, rows, by_tap.data(), c, x, z);
      });
      keep(z, width, kept);
      moments.add(share, kept, s.out_width);
    }
  });
  moments.finish(s.bn);
}

// d_by_tap [in * K * K, out] += the products of one row of dz with the image rows it came from.
inline void add_stem_gradient(const Stem& s, const float* rows, const float* dz, float* d_by_tap) {
  constexpr int kTaps = 9;  // sums in registers: three rows of a 3 x 3 kernel
  const Index padded = s.padded_width(), taps = s.taps();
  for_channels(s.out_channels, [&](Index c, auto lane) {
    using Lane = decltype(lane);
    for (Index first = 0; first < taps; first += kTaps) {
      const int some = int(std::min<Index>(kTaps, taps - first));
      const float* inputs[kTaps];
      for (int t = 0; t < kTaps; ++t) {
        const Index tap = first + std::min(t, some - 1);
        inputs[t] = rows + tap / s.kernel * padded + tap % s.kernel;
      }
      Lane sums[kTaps] = {};
      for (Index x = 0; x < s.out_width; ++x) {
        const Lane d = load<Lane>(dz + x * s.out_channels + c);
#pragma GCC unroll 9
        for (int t = 0; t < kTaps; ++t) sums[t] += d * inputs[t][x * s.stride];
      }
      for (int t = 0; t < some; ++t) {
        float* sum = d_by_tap + (first + t) * s.out_channels + c;
        store(sum, load<Lane>(sum) + sums[t]);
      }
    }
  });
}

inline Linear stem_activation_backward(const Stem& s, const Affine& affine) {
  PairSums sums(s.threads, s.out_channels);
  parallel(s.threads, [&](Index share) {
    const Range range = share_of(s.images * s.out_height, s.threads, share);
    for (Index row = range.begin; row < range.end; ++row) {
      const Index at = row * s.out_width * s.out_channels;
      activation_backward(stored(s.dy + at, s.out_channels), s.z + at, s.out_width, s.activation,
                          affine, s.bn.mean, s.d_y + at, sums, share);
    }
  });
  return Linear(s.bn, sums);
}

inline void stem_weight_gradient(const Stem& s, const Linear& linear) {
  Partials partials(s.threads, s.taps() * s.out_channels);
  parallel(s.threads, [&](Index share) {
    Scratch& scratch = Scratch::of_this_thread();
    float* rows = scratch.take(s.in_channels * s.kernel * s.padded_width());
    float* dz = scratch.take(s.out_width * s.out_channels);
    const Range range = share_of(s.images * s.out_height, s.threads, share);
    for (Index row = range.begin; row < range.end; ++row) {
      const Index at = row * s.out_width * s.out_channels;
      gather_rows(s, row / s.out_height, row % s.out_height, rows);
      normalise_backward(s.d_y + at, s.z + at, s.out_width, s.out_channels, linear, dz);
      add_stem_gradient(s, rows, dz, partials.of(share));
    }
  });
  std::vector<float> d_by_tap(s.taps() * s.out_channels);
  partials.add_up(d_by_tap.data());
  channels_first(d_by_tap.data(), s.taps(), s.out_channels, s.d_weight);
}

// Part of the C interface: 1x1 convolution, batch norm, activation, mean over all pixels.
struct Head {
  Index threads, images, pixels, in_channels, out_channels, activation;
  const float* x;       // [N, H, W, in]
  const float* weight;  // [out, in]
  BatchNorm bn;
  Stored* z;  // [N, H, W, out]
  float* y;   // [N, out]
  // Backward only.
  const float* dy;       // [N, out]
  float *dx, *d_weight;  // or null
  Stored* d_y;           // work: [N, H, W, out]
};

inline void head_pooling(const Head& h) {
  const Affine affine(h.bn, h.out_channels);
  const Index channels = h.out_channels, image = h.pixels * channels;
  const float *scale = affine.scale.data(), *shift = affine.shift.data();
  parallel(h.threads, [&](Index share) {
    const Range range = share_of(h.images, h.threads, share);
    for (Index n = range.begin; n < range.end; ++n)
      with_activation(h.activation, [&](auto chosen) {
        const auto activated = [&](Index c, auto lane) {
          using Lane = decltype(lane);
          const Lane k = load<Lane>(scale + c), s = load<Lane>(shift + c);
          const Stored* z = h.z + n * image + c;
          return [=](Index r) { return activate<chosen()>(load<Lane>(z + r * channels) * k + s); };
        };
        column_sums(activated, h.pixels, channels, 1.0f / h.pixels, h.y + n * channels);
      });
  });
}

inline Linear head_pooling_backward(const Head& h) {
  const Affine affine(h.bn, h.out_channels);
  const Index channels = h.out_channels, image = h.pixels * channels;
  const float share_of_pixel = 1.0f / h.pixels;
  PairSums sums(h.threads, channels);
  parallel(h.threads, [&](Index share) {
    const Range range = share_of(h.images, h.threads, share);
    for (Index n = range.begin; n < range.end; ++n) {
      const auto gradient = [&](Index c, auto lane) {  // the same for all pixels
        using Lane = decltype(lane);
        const Lane d = load<Lane>(h.dy + n * channels + c) * share_of_pixel;
        return [=](Index) { return d; };
      };
      activation_backward(gradient, h.z + n * image, h.pixels, h.activation, affine, h.bn.mean,
                          h.d_y + n * image, sums, share);
    }
  });
  return Linear(h.bn, sums);
}

}  // namespace mobile
