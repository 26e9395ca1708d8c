// The layers of a classifier: products of a few rows (images) with wide weights, stored [in, out]
// as Paddle has them. Each thread takes its own columns of every result, so nothing is added up.
#pragma once

#include "squeeze_excite.h"

namespace mobile {

// Part of the C interface: y = x weight + bias.
struct Dense {
  Index threads, rows, in, out;
  const float* x;       // [N, in]
  const float* weight;  // [in, out]
  const float* bias;    // [out] or null
  float* y;             // [N, out]
  // Backward only. Gradients that are null are not computed.
  const float* dy;  // [N, out]
  float *dx, *d_weight, *d_bias;
};

inline void dense_forward(const Dense& d) {
  parallel(d.threads, [&](Index share) {
    const Range columns = share_of(d.out, d.threads, share);
    const Index count = columns.end - columns.begin;
    if (count == 0) return;
    float* y = d.y + columns.begin;
    gemm('N', 'N', d.rows, count, d.in, 1, d.x, d.in, d.weight + columns.begin, d.out, 0, y, d.out);
    if (!d.bias) return;
    for (Index r = 0; r < d.rows; ++r)
      for (Index c = 0; c < count; ++c) y[r * d.out + c] += d.bias[columns.begin + c];
  });
}

inline void dense_backward(const Dense& d) {
  parallel(d.threads, [&](Index share) {
    const Range inputs = share_of(d.in, d.threads, share);
    const Index first = inputs.begin, count = inputs.end - first;
    if (share == 0) bias_gradient(d.dy, d.rows, d.out, d.d_bias);
    if (count == 0) return;
    if (d.d_weight)  // rows of x^T dy
      gemm('T', 'N', count, d.out, d.rows, 1, d.x + first, d.in, d.dy, d.out, 0,
           d.d_weight + first * d.out, d.out);
    if (d.dx)  // columns of dy weight^T
      gemm('N', 'T', d.rows, count, d.out, 1, d.dy, d.out, d.weight + first * d.out, d.out, 0,
           d.dx + first, d.in);
  });
}

}  // namespace mobile
