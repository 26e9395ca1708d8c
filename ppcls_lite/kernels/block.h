// The inverted residual block: expand 1x1, depthwise, squeeze-excite where asked, project 1x1.
// Three arrays are stored between forward and backward: what each convolution gives (Z), before its
// batch norm. Everything else is made again, tile by tile, by whoever reads it.
#pragma once

#include "depthwise.h"
#include "squeeze_excite.h"

namespace mobile {

// Part of the C interface; the same fields stand in abi.py. All tensors are NHWC, float32 where
// nothing else is said.
struct Block {
  Index threads, images, height, width;
  Index in_channels, expanded, out_channels;
  Index kernel, stride, pad_top, pad_left, out_height, out_width;
  Index activation, shortcut;
  const float* x;                  // [N, H, W, in]
  const float* expand_weight;      // [E, in]; null: the block does not expand, E = in
  const float* depthwise_weight;   // [E, K, K]
  const float* project_weight;     // [out, E]
  BatchNorm expand_bn, depthwise_bn, project_bn;
  SqueezeExcite se;
  Stored* expand_z;                // [N, H, W, E]
  Stored* depthwise_z;             // [N, Ho, Wo, E]
  Stored* project_z;               // [N, Ho, Wo, out]
  float* y;                        // [N, Ho, Wo, out]
  // Backward only. Gradients that are null are not computed.
  const float* dy;                 // [N, Ho, Wo, out]
  float* dx;
  float *d_expand_weight, *d_depthwise_weight, *d_project_weight;
  Stored* d_expand_y;              // work: [N, H, W, E], gradient behind the batch norm
  Stored* d_depthwise_y;           // work: [N, Ho, Wo, E]

  Index pixels() const { return height * width; }
  Index out_pixels() const { return out_height * out_width; }
  DepthwiseShape depthwise_shape() const {
    return {height, width, expanded, kernel, stride, pad_top, pad_left, out_height, out_width};
  }
  // The activation before and after the gate.
  Index first_activation() const { return gated_first() ? Index(kNone) : activation; }
  Index last_activation() const { return gated_first() ? activation : Index(kNone); }
  bool gated_first() const { return se.squeezed && se.first; }
};

// Images that the projection takes at once, when the gates need whole images: enough rows for the
// matrix product, few enough to stay in cache.
inline Index images_per_tile(const Block& b) {
  return std::clamp<Index>(196 / b.out_pixels(), 1, 8);
}

// Rows of the tiles that the projection works in.
inline Index project_tile_rows(const Block& b) {
  return b.se.squeezed ? images_per_tile(b) * b.out_pixels() : tile_rows(b.expanded);
}

// Calls body(share, begin, count) for tiles of rows of all output pixels.
template <class Body>
inline void for_project_tiles(const Block& b, Body body) {
  const Index rows = b.images * b.out_pixels(), tile = project_tile_rows(b);
  const Index tiles = (rows + tile - 1) / tile;
  parallel(b.threads, [&](Index share) {
    Scratch& scratch = Scratch::of_this_thread();
    const Range range = share_of(tiles, b.threads, share);
    for (Index t = range.begin; t < range.end; ++t)
      body(share, scratch, t * tile, std::min(tile, rows - t * tile));
  });
}

// ---- forward ----

inline void depthwise_stage(const Block& b, const Affine& expand) {
  const Index channels = b.expanded, taps = b.kernel * b.kernel;
  std::vector<float> by_tap(taps * channels);
  taps_first(b.depthwise_weight, taps, channels, by_tap.data());
  Moments moments(b.threads, channels, b.depthwise_bn.frozen);
  parallel(b.threads, [&](Index share) {
    const Range range = share_of(b.images, b.threads, share);
    for (Index n = range.begin; n < range.end; ++n) {
      const Index image = n * b.pixels() * channels;
      depthwise_image(
          b.depthwise_shape(), by_tap.data(), b.depthwise_z + n * b.out_pixels() * channels,
          [&](Index row, float* to) {
            const Index from = image + row * b.width * channels;
            if (b.expand_weight)
              normalise(b.expand_z + from, b.width, channels, expand, b.activation, to);
            else
              std::copy(b.x + from, b.x + from + b.width * channels, to);
          },
          [&](Index, const Stored* row) { moments.add(share, row, b.out_width); });
    }
  });
  moments.finish(b.depthwise_bn);
}

// activated *= gate, for one image, followed by the activation of blocks that gate before it.
inline void apply_gate(const Block& b, const float* gate, const float* activated, float* gated) {
  with_activation(b.last_activation(), [&](auto chosen) {
    for_row_groups(b.out_pixels(), [&](Index r, auto group) {
      for_channels(b.expanded, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        const Lane g = load<Lane>(gate + c);
        for (int i = 0; i < group; ++i) {
          const Index at = (r + i) * b.expanded + c;
          store(gated + at, activate<chosen()>(load<Lane>(activated + at) * g));
        }
      });
    });
  });
}

inline void project_stage(const Block& b, const Affine& depthwise) {
  Moments moments(b.threads, b.out_channels, b.project_bn.frozen);
  const Index channels = b.expanded, image_rows = b.out_pixels();
  for_project_tiles(b, [&](Index share, Scratch& scratch, Index begin, Index count) {
    scratch.reset();
    float* activated = scratch.take(count * channels);
    float* work = scratch.take(kKeptInPlace ? 0 : count * b.out_channels);
    normalise(b.depthwise_z + begin * channels, count, channels, depthwise, b.first_activation(),
              activated);
    if (b.se.squeezed) {
      const Index first = begin / image_rows, end = (begin + count) / image_rows;
      for (Index n = first; n < end; ++n)
        column_sums(stored(activated + (n - first) * image_rows * channels, channels), image_rows,
                    channels, 1.0f / image_rows, b.se.pooled + n * channels);
      compute_gates(b.se, channels, first, end);
      for (Index n = first; n < end; ++n) {
        float* image = activated + (n - first) * image_rows * channels;
        apply_gate(b, b.se.gate + n * channels, image, image);
      }
    }
    Stored* kept = b.project_z + begin * b.out_channels;
    float* z = in_place(kept, work);
    pointwise(activated, b.project_weight, count, channels, b.out_channels, z);
    keep(z, count * b.out_channels, kept);
    moments.add(share, kept, count);
  });
  moments.finish(b.project_bn);
}

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

// ---- backward ----

inline Linear project_linear(const Block& b) {
  const Index rows = b.images * b.out_pixels(), channels = b.out_channels;
  PairSums sums(b.threads, channels);
  parallel(b.threads, [&](Index share) {
    const Range range = share_of(rows, b.threads, share);
    for (Index r = range.begin; r < range.end; r += kFloatRows)
      add_sums(b.dy + r * channels, b.project_z + r * channels,
               std::min(kFloatRows, range.end - r), b.project_bn.mean, sums, share);
  });
  return Linear(b.project_bn, sums);
}

// From d_gated, the gradient behind the gates of some images, to that of the depthwise
// convolution's batch norm: the way through the gates, and the way through the pooled values.
inline void gated_backward(const Block& b, Scratch& scratch, const Affine& depthwise, Index first,
                           Index end, const float* activated, float* d_gated, PairSums& sums,
                           Index share) {
  const Index channels = b.expanded, rows = b.out_pixels(), image = rows * channels;
  for (Index n = first; n < end; ++n) {
    const float *a = activated + (n - first) * image, *gate = b.se.gate + n * channels;
    float* d = d_gated + (n - first) * image;
    with_activation(b.last_activation(), [&](auto chosen) {
      const auto d_gate = [&](Index c, auto lane) {
        using Lane = decltype(lane);
        const Lane g = load<Lane>(gate + c);
        return [=](Index r) {
          const Index at = r * channels + c;
          const Lane value = load<Lane>(a + at);
          Lane gradient = load<Lane>(d + at);
          if constexpr (chosen() != kNone) {
            gradient *= derivative<chosen()>(value * g);
            store(d + at, gradient);
          }
          return gradient * value;
        };
      };
      column_sums(d_gate, rows, channels, 1, b.se.d_gate_y + n * channels);
    });
  }
  float* d_pooled = scratch.take((end - first) * channels);
  gates_backward(b.se, channels, first, end, d_pooled);
  for (Index i = 0; i < (end - first) * channels; ++i) d_pooled[i] /= float(rows);
  for (Index n = first; n < end; ++n) {
    const float *d = d_gated + (n - first) * image, *gate = b.se.gate + n * channels;
    const float* pooled = d_pooled + (n - first) * channels;
    const auto gradient = [=](Index c, auto lane) {
      using Lane = decltype(lane);
      const Lane g = load<Lane>(gate + c), p = load<Lane>(pooled + c);
      return [=](Index r) { return load<Lane>(d + r * channels + c) * g + p; };
    };
    activation_backward(gradient, b.depthwise_z + n * image, rows, b.first_activation(), depthwise,
                        b.depthwise_bn.mean, b.d_depthwise_y + n * image, sums, share);
  }
}

inline Linear project_stage_backward(const Block& b, const Affine& depthwise,
                                     const Linear& project) {
  const Index channels = b.expanded, image_rows = b.out_pixels();
  PairSums sums(b.threads, channels);
  Partials d_weights(b.threads, b.d_project_weight ? b.out_channels * channels : 0);
  for_project_tiles(b, [&](Index share, Scratch& scratch, Index begin, Index count) {
    scratch.reset();
    float* dz = scratch.take(count * b.out_channels);
    float* activated = scratch.take(count * channels);
    float* d_gated = scratch.take(count * channels);
    const Stored* z = b.depthwise_z + begin * channels;
    const Index first = begin / image_rows, end = (begin + count) / image_rows;
    normalise_backward(b.dy + begin * b.out_channels, b.project_z + begin * b.out_channels, count,
                       b.out_channels, project, dz);
    if (b.d_project_weight || b.se.squeezed)
      normalise(z, count, channels, depthwise, b.first_activation(), activated);
    if (b.d_project_weight) {
      const float* gated = activated;
      if (b.se.squeezed) {
        for (Index n = first; n < end; ++n) {
          const Index at = (n - first) * image_rows * channels;
          apply_gate(b, b.se.gate + n * channels, activated + at, d_gated + at);
        }
        gated = d_gated;
      }
      add_pointwise_weight_gradient(dz, gated, count, channels, b.out_channels,
                                    d_weights.of(share));
    }
    pointwise_input_gradient(dz, b.project_weight, count, channels, b.out_channels, 0, d_gated);
    if (b.se.squeezed)
      gated_backward(b, scratch, depthwise, first, end, activated, d_gated, sums, share);
    else
      activation_backward(stored(d_gated, channels), z, count, b.activation, depthwise,
                          b.depthwise_bn.mean, b.d_depthwise_y + begin * channels, sums, share);
  });
  if (b.d_project_weight) d_weights.add_up(b.d_project_weight);
  if (b.se.squeezed) squeeze_excite_weight_gradients(b.se, channels, b.images, b.threads);
  return Linear(b.depthwise_bn, sums);
}

inline Linear depthwise_stage_backward(const Block& b, const Affine& expand,
                                       const Linear& depthwise) {
  const Index channels = b.expanded, taps = b.kernel * b.kernel, row = b.width * channels;
  std::vector<float> by_tap(taps * channels), d_by_tap(taps * channels);
  taps_first(b.depthwise_weight, taps, channels, by_tap.data());
  PairSums sums(b.threads, channels);
  Partials partials(b.threads, taps * channels);
  parallel(b.threads, [&](Index share) {
    const Range range = share_of(b.images, b.threads, share);
    for (Index n = range.begin; n < range.end; ++n) {
      const Index in = n * b.pixels() * channels, out = n * b.out_pixels() * channels;
      depthwise_image_backward(
          b.depthwise_shape(), by_tap.data(), b.expand_weight || b.dx,
          b.d_depthwise_weight ? partials.of(share) : nullptr,
          [&](Index r, float* to) {
            if (b.expand_weight)
              normalise(b.expand_z + in + r * row, b.width, channels, expand, b.activation, to);
            else
              std::copy(b.x + in + r * row, b.x + in + (r + 1) * row, to);
          },
          [&](Index y, float* to) {
            const Index at = out + y * b.out_width * channels;
            normalise_backward(b.d_depthwise_y + at, b.depthwise_z + at, b.out_width, channels,
                               depthwise, to);
          },
          [&](Index r, const float* d) {
            if (b.expand_weight) {
              const Index at = in + r * row;
              activation_backward(stored(d, channels), b.expand_z + at, b.width, b.activation,
                                  expand, b.expand_bn.mean, b.d_expand_y + at, sums, share);
              return;
            }
            float* dx = b.dx + in + r * row;
            for (Index i = 0; i < row; ++i) dx[i] = d[i];
            if (b.shortcut)
              for (Index i = 0; i < row; ++i) dx[i] += b.dy[in + r * row + i];
          });
    }
  });
  if (b.d_depthwise_weight) {
    partials.add_up(d_by_tap.data());
    channels_first(d_by_tap.data(), taps, channels, b.d_depthwise_weight);
  }
  return b.expand_weight ? Linear(b.expand_bn, sums) : Linear();
}

}  // namespace mobile
