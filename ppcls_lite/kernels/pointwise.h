// 1x1 convolutions are matrix products of rows (pixels) with weights [out, in]. They are computed
// per tile of rows, small enough to stay in cache with everything that is done around them: by a
// library, or, where operands are bfloat16, by product.h.
#pragma once

#include "batch_norm.h"
#include "product.h"

namespace mobile {

// Row-major C = alpha * op(A) op(B) + beta * C, the signature of oneDNN's dnnl_sgemm.
using Gemm = int (*)(char, char, Index, Index, Index, float, const float*, Index, const float*,
                     Index, float, float*, Index);
inline Gemm gemm = nullptr;

// Rows of a tile whose wider side has this many channels.
inline Index tile_rows(Index channels) { return std::clamp<Index>(48 * 1024 / channels, 64, 1024); }

// ---- float32, by the library ----

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

enum class Write { kSet, kAdd };

#if !defined(MOBILE_BF16) || !defined(__AVX512BF16__)

// What convolutions of 1x1 multiply.
constexpr bool kPacks = false;
using Operand = float;

// Rows of a tile that a product reads.
struct OperandRows {
  OperandRows(Scratch& scratch, Index rows, Index channels)
      : step(channels), at(scratch.take(rows * step)) {}

  Index step;
  float* at;
};

// Weights [out, in] as a product takes them: for z = x weights^T, or (backward) dx = dz weights.
struct Weights {
  static Weights forward(const float* at, Index in, Index out, Index) { return {at, in, out}; }
  static Weights backward(const float* at, Index in, Index out) { return {at, in, out}; }
  const float* at = nullptr;
  Index in = 0, out = 0;
};

inline const float* operand(const float* x, Index, Index, Scratch&) { return x; }
inline const float* operand(const OperandRows& rows) { return rows.at; }

// z [rows, out] = x weights^T
inline void convolve(const float* x, const Weights& w, Index rows, Stored* z, Scratch& scratch) {
  float* product = in_place(z, scratch.take(kKeptInPlace ? 0 : rows * w.out));
  pointwise(x, w.at, rows, w.in, w.out, product);
  keep(product, rows * w.out, z);
}

// dx [rows, in] = dz weights, or dx += dz weights
template <Write write = Write::kSet>
inline void convolve_backward(const float* dz, const Weights& w, Index rows, float* dx) {
  pointwise_input_gradient(dz, w.at, rows, w.in, w.out, write == Write::kAdd, dx);
}

// d_weights [out, in] += dz^T x; rows of x begin x_step apart.
inline void add_weight_gradient(const OperandRows& dz, const float* x, Index, Index rows, Index in,
                                Index out, float* d_weights, Scratch&) {
  add_pointwise_weight_gradient(dz.at, x, rows, in, out, d_weights);
}

#else  // ---- bfloat16 ----

constexpr bool kPacks = true;
using Operand = Bf16;

// Rows of a tile that a product reads. Each begins at a whole pair; what is behind an odd number of
// channels is zero.
struct OperandRows {
  OperandRows(Scratch& scratch, Index rows, Index channels)
      : step(row_step(channels, (const Bf16*)nullptr)), at(scratch.take<Bf16>(rows * step)) {
    if (step > channels)
      for (Index r = 0; r < rows; ++r) store(at + r * step + channels, 0.0f);
  }

  Index step;
  Bf16* at;
};

// Weights [out, in], packed for z = x weights^T, or (backward) dx = dz weights.
class Weights {
 public:
  Weights() = default;
  static Weights forward(const float* at, Index in, Index out, Index threads) {
    Weights packed(pairs(in), out);
    parallel(threads, [&](Index share) {
      const Range range = share_of(packed.panels_.inner, threads, share);
      pack_transposed(at, in, in, range, packed.panels_);
    });
    return packed;
  }
  static Weights backward(const float* at, Index in, Index out) {
    Weights packed(pairs(out), in);
    pack_rows(at, in, out, packed.panels_);
    return packed;
  }
  const Panels& panels() const { return panels_; }

 private:
  Weights(Index inner, Index columns)
      : memory_(aligned<Pair>(Panels::size(inner, columns))),
        panels_{memory_.get(), inner, columns} {}

  Aligned<Pair> memory_;
  Panels panels_{};
};

inline Left operand(const OperandRows& rows) {
  return {reinterpret_cast<const Pair*>(rows.at), rows.step / 2, 1};
}

// x [rows, channels], rounded
inline Left operand(const float* x, Index rows, Index channels, Scratch& scratch) {
  const OperandRows rounded(scratch, rows, channels);
  for (Index r = 0; r < rows; ++r)
    for_channels(channels, [&](Index c, auto lane) {
      store(rounded.at + r * rounded.step + c, load<decltype(lane)>(x + r * channels + c));
    });
  return operand(rounded);
}

inline void convolve(Left x, const Weights& w, Index rows, Stored* z, Scratch&) {
  multiply(x, w.panels(), rows, z, w.panels().columns);
}

template <Write write = Write::kSet>
inline void convolve_backward(Left dz, const Weights& w, Index rows, float* dx) {
  multiply<write == Write::kAdd>(dz, w.panels(), rows, dx, w.panels().columns);
}

// d_weights [out, in] += dz^T x, where rows of x begin x_step apart. Sums are float over at most
// 512 rows, then added.
template <class Number>
inline void add_weight_gradient(const OperandRows& dz, const Number* x, Index x_step, Index rows,
                                Index in, Index out, float* d_weights, Scratch& scratch) {
  constexpr Index most = 512;
  const Index width = (out + kWidth - 1) / kWidth * kWidth;
  for (Index r = 0; r < rows; r += most) {
    const Index count = std::min(most, rows - r), inner = pairs(count);
    Pair* transposed = scratch.take<Pair>(inner * width);
    pack_columns(dz.at + r * dz.step, dz.step, count, 0, out, width, transposed);
    const Panels b{scratch.take<Pair>(Panels::size(inner, in)), inner, in};
    pack_rows(x + r * x_step, x_step, count, b);
    multiply<true>(Left{transposed, 1, width}, b, out, d_weights, in);
  }
}

#endif

// ---- the expand stage, which the head shares ----

// Convolves all rows of x and gathers the statistics of the result.
inline void pointwise_stage(const float* x, const float* weights, Index rows, Index in, Index out,
                            Index threads, const BatchNorm& bn, Stored* z) {
  Moments moments(threads, out, bn.frozen);
  const auto packed = Weights::forward(weights, in, out, threads);
  const Index tile = tile_rows(out), tiles = (rows + tile - 1) / tile;
  parallel(threads, [&](Index share) {
    Scratch& scratch = Scratch::of_this_thread();
    const Range range = share_of(tiles, threads, share);
    for (Index t = range.begin; t < range.end; ++t) {
      scratch.reset();
      const Index begin = t * tile, count = std::min(tile, rows - begin);
      convolve(operand(x + begin * in, count, in, scratch), packed, count, z + begin * out,
               scratch);
      moments.add(share, z + begin * out, count);
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
  const auto packed = dx ? Weights::backward(weights, in, out) : Weights();
  const Index tile = tile_rows(out), tiles = (rows + tile - 1) / tile;
  parallel(threads, [&](Index share) {
    Scratch& scratch = Scratch::of_this_thread();
    const Range range = share_of(tiles, threads, share);
    for (Index t = range.begin; t < range.end; ++t) {
      scratch.reset();
      const Index begin = t * tile, count = std::min(tile, rows - begin);
      const OperandRows dz(scratch, count, out);
      normalise_backward(dy + begin * out, z + begin * out, count, out, linear, dz.at);
      if (d_weights)
        add_weight_gradient(dz, x + begin * in, in, count, in, out, partials.of(share), scratch);
      if (!dx) continue;
      float* to = dx + begin * in;
      if (residual) {
        std::copy(residual + begin * in, residual + (begin + count) * in, to);
        convolve_backward<Write::kAdd>(operand(dz), packed, count, to);
      } else {
        convolve_backward(operand(dz), packed, count, to);
      }
    }
  });
  if (d_weights) partials.add_up(d_weights);
}

}  // namespace mobile
