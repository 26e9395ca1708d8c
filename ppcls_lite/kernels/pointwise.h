// 1x1 convolutions are matrix products of rows (pixels) with weights [out, in]. The products come
// from a library; everything around them is done per tile of rows, small enough to stay in cache.
#pragma once

#include "batch_norm.h"

namespace mobile {

// Row-major C = alpha * op(A) op(B) + beta * C, the signature of oneDNN's dnnl_sgemm.
using Gemm = int (*)(char, char, Index, Index, Index, float, const float*, Index, const float*,
                     Index, float, float*, Index);
inline Gemm gemm = nullptr;

// Rows of a tile whose wider side has this many channels.
inline Index tile_rows(Index channels) { return std::clamp<Index>(48 * 1024 / channels, 64, 1024); }

// z [rows, out] = x [rows, in] weights^T
inline void pointwise(const float* x, const float* weights, Index rows, Index in, Index out,
                      float* z) {
  gemm('N', 'T', rows, out, in, 1, x, in, weights, in, 0, z, out);
}

// dx [rows, in] = dz [rows, out] weights + keep * dx
inline void pointwise_input_gradient(const float* dz, const float* weights, Index rows, Index in,
                                     Index out, float keep, float* dx) {
  gemm('N', 'N', rows, in, out, 1, dz, out, weights, in, keep, dx, in);
}

// d_weights [out, in] += dz^T x. oneDNN is far off its peak for few channels and thousands of
// rows (16 x 16 x 3136), so it never gets to see more than 512.
inline void add_pointwise_weight_gradient(const float* dz, const float* x, Index rows, Index in,
                                          Index out, float* d_weights) {
  for (Index r = 0; r < rows; r += 512)
    gemm('T', 'N', out, in, std::min<Index>(512, rows - r), 1, dz + r * out, out, x + r * in, in, 1,
         d_weights, in);
}

// Convolves all rows of x and gathers the statistics of the result.
inline void pointwise_stage(const float* x, const float* weights, Index rows, Index in, Index out,
                            Index threads, const BatchNorm& bn, Stored* z) {
  Moments moments(threads, out, bn.frozen);
  const Index tile = tile_rows(out), tiles = (rows + tile - 1) / tile;
  parallel(threads, [&](Index share) {
    float* work = Scratch::of_this_thread().take(kKeptInPlace ? 0 : tile * out);
    const Range range = share_of(tiles, threads, share);
    for (Index t = range.begin; t < range.end; ++t) {
      const Index begin = t * tile, count = std::min(tile, rows - begin);
      Stored* kept = z + begin * out;
      float* product = in_place(kept, work);
      pointwise(x + begin * in, weights, count, in, out, product);
      keep(product, count * out, kept);
      moments.add(share, kept, count);
    }
  });
  moments.finish(bn);
}

// From the gradient dy behind the batch norm to those of weights and input. `residual`, if any, is
// added to dx. d_weights and dx may be null.
inline void pointwise_stage_backward(const float* x, const float* weights, const Stored* z,
                                     const Stored* dy, const Linear& linear, Index rows, Index in,
                                     Index out, Index threads, const float* residual,
                                     float* d_weights, float* dx) {
  Partials partials(threads, d_weights ? out * in : 0);
  const Index tile = tile_rows(out), tiles = (rows + tile - 1) / tile;
  parallel(threads, [&](Index share) {
    float* dz = Scratch::of_this_thread().take(tile * out);
    const Range range = share_of(tiles, threads, share);
    for (Index t = range.begin; t < range.end; ++t) {
      const Index begin = t * tile, count = std::min(tile, rows - begin);
      normalise_backward(dy + begin * out, z + begin * out, count, out, linear, dz);
      if (d_weights)
        add_pointwise_weight_gradient(dz, x + begin * in, count, in, out, partials.of(share));
      if (!dx) continue;
      if (residual)
        std::copy(residual + begin * in, residual + (begin + count) * in, dx + begin * in);
      pointwise_input_gradient(dz, weights, count, in, out, residual ? 1 : 0, dx + begin * in);
    }
  });
  if (d_weights) partials.add_up(d_weights);
}

}  // namespace mobile
