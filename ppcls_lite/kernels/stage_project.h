// The project stage of a block. It reads what depthwise gives, tile by tile: normalised, activated,
// gated where the block has squeeze-excite, and multiplied by the weights.
#pragma once

#include "block.h"

namespace mobile {

// Rows (output pixels) that are worked on at once. With squeeze-excite they are whole images.
struct Tile {
  Index share, begin, count;
};

// Images of a tile where the gates need whole ones: enough rows for the matrix product, few enough
// to stay in cache.
inline Index images_per_tile(const Block& b) {
  return std::clamp<Index>(196 / b.out_pixels(), 1, 8);
}

// Calls body(tile, scratch) for tiles of all output pixels.
template <class Body>
inline void for_tiles(const Block& b, Body body) {
  const Index rows = b.images * b.out_pixels();
  const Index size = b.se.squeezed ? images_per_tile(b) * b.out_pixels() : tile_rows(b.expanded);
  const Index tiles = (rows + size - 1) / size;
  parallel(b.threads, [&](Index share) {
    Scratch& scratch = Scratch::of_this_thread();
    const Range range = share_of(tiles, b.threads, share);
    for (Index t = range.begin; t < range.end; ++t) {
      scratch.reset();
      body(Tile{share, t * size, std::min(size, rows - t * size)}, scratch);
    }
  });
}

// Calls body(n, at) for the images of a tile; `at` is where image n begins in arrays of the tile.
template <class Body>
inline void for_images(const Block& b, const Tile& tile, Body body) {
  const Index rows = b.out_pixels();
  for (Index r = 0; r < tile.count; r += rows) body((tile.begin + r) / rows, r * b.expanded);
}

inline Range images_of(const Block& b, const Tile& tile) {
  return {tile.begin / b.out_pixels(), (tile.begin + tile.count) / b.out_pixels()};
}

// ---- forward ----

// gated = activated * gate for image n, then the activation of blocks that gate before it; rows of
// gated begin row_step apart.
inline void apply_gate(const Block& b, Index n, const float* activated, Operand* gated) {
  const Index step = row_step(b.expanded, gated);
  const float* gate = b.se.gate + n * b.expanded;
  with_activation(b.last_activation(), [&](auto chosen) {
    for_row_groups(b.out_pixels(), [&](Index r, auto group) {
      for_channels(b.expanded, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        const Lane g = load<Lane>(gate + c);
        for (int i = 0; i < group; ++i) {
          const Lane value = load<Lane>(activated + (r + i) * b.expanded + c);
          store(gated + (r + i) * step + c, activate<chosen()>(value * g));
        }
      });
    });
  });
}

inline void apply_gates(const Block& b, const Tile& tile, const float* activated,
                        const OperandRows& gated) {
  for_images(b, tile, [&](Index n, Index at) {
    Operand* to = gated.at + at / b.expanded * gated.step;
    apply_gate(b, n, activated + at, to);
  });
}

// Means of the activated rows [rows, E] of each image, and the gates that come of them.
inline void squeeze_excite(const Block& b, const Tile& tile, const float* activated) {
  const Index channels = b.expanded, rows = b.out_pixels();
  for_images(b, tile, [&](Index n, Index at) {
    column_sums(stored(activated + at, channels), rows, channels, 1.0f / rows,
                b.se.pooled + n * channels);
  });
  compute_gates(b.se, channels, images_of(b, tile));
}

inline void project_stage(const Block& b, const Affine& depthwise) {
  Moments moments(b.threads, b.out_channels, b.project_bn.frozen);
  const auto weights = Weights::forward(b.project_weight, b.expanded, b.out_channels, b.threads);
  for_tiles(b, [&](const Tile& tile, Scratch& scratch) {
    const Stored* z = b.depthwise_z + tile.begin * b.expanded;
    const OperandRows read(scratch, tile.count, b.expanded);
    if (b.se.squeezed) {
      float* activated = in_place(read.at, scratch.take(kPacks ? tile.count * b.expanded : 0));
      normalise(z, tile.count, b.expanded, depthwise, b.first_activation(), activated);
      squeeze_excite(b, tile, activated);
      apply_gates(b, tile, activated, read);
    } else {
      normalise(z, tile.count, b.expanded, depthwise, b.activation, read.at);
    }
    Stored* project_z = b.project_z + tile.begin * b.out_channels;
    convolve(operand(read), weights, tile.count, project_z, scratch);
    moments.add(tile.share, project_z, tile.count);
  });
  moments.finish(b.project_bn);
}

// ---- backward ----

// For image n: d [pixels, E], the gradient of what apply_gate gives, becomes that of
// activated * gate; the gate's own goes to se.d_gate_y.
inline void apply_gate_backward(const Block& b, Index n, const float* activated, float* d) {
  const Index channels = b.expanded;
  const float* gate = b.se.gate + n * channels;
  with_activation(b.last_activation(), [&](auto chosen) {
    const auto d_gate = [&](Index c, auto lane) {
      using Lane = decltype(lane);
      const Lane g = load<Lane>(gate + c);
      return [=](Index r) {
        const Index at = r * channels + c;
        const Lane value = load<Lane>(activated + at);
        Lane gradient = load<Lane>(d + at);
        if constexpr (chosen() != kNone) {
          gradient *= derivative<chosen()>(value * g);
          store(d + at, gradient);
        }
        return gradient * value;
      };
    };
    column_sums(d_gate, b.out_pixels(), channels, 1, b.se.d_gate_y + n * channels);
  });
}

// For image n: the activated values have two ways to the output, through the product with the gate
// and through their mean, d_pooled [E] of which is the gradient. Both together go on to dY2.
inline void gated_activation_backward(const Block& b, const Tile& tile, Index n, const float* d,
                                      const float* d_pooled, const Affine& depthwise,
                                      PairSums& sums) {
  const Index channels = b.expanded, image = n * b.out_pixels() * channels;
  const float* gate = b.se.gate + n * channels;
  const auto gradient = [=](Index c, auto lane) {
    using Lane = decltype(lane);
    const Lane g = load<Lane>(gate + c), p = load<Lane>(d_pooled + c);
    return [=](Index r) { return load<Lane>(d + r * channels + c) * g + p; };
  };
  activation_backward(gradient, b.depthwise_z + image, b.out_pixels(), b.first_activation(),
                      depthwise, b.depthwise_bn.mean, b.d_depthwise_y + image, sums, tile.share);
}

// From d_gated, the gradient behind the gates, to dY2.
inline void squeeze_excite_backward(const Block& b, const Tile& tile, Scratch& scratch,
                                    const Affine& depthwise, const float* activated, float* d_gated,
                                    PairSums& sums) {
  const Range images = images_of(b, tile);
  const Index means = (images.end - images.begin) * b.expanded;
  float* d_pooled = scratch.take(means);
  for_images(b, tile,
             [&](Index n, Index at) { apply_gate_backward(b, n, activated + at, d_gated + at); });
  gates_backward(b.se, b.expanded, images, d_pooled);
  for (Index i = 0; i < means; ++i) d_pooled[i] /= float(b.out_pixels());
  for_images(b, tile, [&](Index n, Index at) {
    const float* d_means = d_pooled + (n - images.begin) * b.expanded;
    gated_activation_backward(b, tile, n, d_gated + at, d_means, depthwise, sums);
  });
}

// One tile, from dY3 and `project`, which makes dZ3 of it, to dY2 and its sums. What the projection
// has read is made once more.
inline void project_tile_backward(const Block& b, const Tile& tile, const Weights& weights,
                                  Scratch& scratch, const Affine& depthwise, const Linear& project,
                                  float* d_weight, PairSums& sums) {
  const Index in = tile.begin * b.expanded, out = tile.begin * b.out_channels;
  const Stored* z = b.depthwise_z + in;
  const OperandRows dz(scratch, tile.count, b.out_channels);
  normalise_backward(b.dy + out, b.project_z + out, tile.count, b.out_channels, project, dz.at);
  const OperandRows read(scratch, tile.count, b.expanded);
  float* activated = nullptr;
  if (b.se.squeezed) {
    activated = scratch.take(tile.count * b.expanded);
    normalise(z, tile.count, b.expanded, depthwise, b.first_activation(), activated);
    if (d_weight) apply_gates(b, tile, activated, read);
  } else if (d_weight) {
    normalise(z, tile.count, b.expanded, depthwise, b.activation, read.at);
  }
  if (d_weight)
    add_weight_gradient(dz, read.at, read.step, tile.count, b.expanded, b.out_channels, d_weight,
                        scratch);
  float* d_gated = in_place(read.at, scratch.take(kPacks ? tile.count * b.expanded : 0));
  convolve_backward(operand(dz), weights, tile.count, d_gated);
  if (b.se.squeezed)
    squeeze_excite_backward(b, tile, scratch, depthwise, activated, d_gated, sums);
  else
    activation_backward(stored(d_gated, b.expanded), z, tile.count, b.activation, depthwise,
                        b.depthwise_bn.mean, b.d_depthwise_y + in, sums, tile.share);
}

inline Linear project_stage_backward(const Block& b, const Affine& depthwise,
                                     const Linear& project) {
  const bool trained = b.d_project_weight;
  PairSums sums(b.threads, b.expanded);
  Partials d_weights(b.threads, trained ? b.out_channels * b.expanded : 0);
  const auto weights = Weights::backward(b.project_weight, b.expanded, b.out_channels);
  for_tiles(b, [&](const Tile& tile, Scratch& scratch) {
    float* d_weight = trained ? d_weights.of(tile.share) : nullptr;
    project_tile_backward(b, tile, weights, scratch, depthwise, project, d_weight, sums);
  });
  if (trained) d_weights.add_up(b.d_project_weight);
  if (b.se.squeezed) squeeze_excite_weight_gradients(b.se, b.expanded, b.images, b.threads);
  return Linear(b.depthwise_bn, sums);
}

}  // namespace mobile
