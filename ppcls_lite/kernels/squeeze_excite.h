// Squeeze-excite: pooled -> hidden -> gate, for the few images of a tile at once.
#pragma once

#include "pointwise.h"

namespace mobile {

enum GateKind : Index { kHardSigmoid = 0, kSigmoid = 1 };

// Part of the C interface. N images, E channels that are gated, S squeezed ones.
struct SqueezeExcite {
  Index squeezed;    // S; 0: the block has none
  Index activation;  // of the hidden layer
  Index gate_kind;
  Index first;   // gates what batch norm gives; the block's activation comes after
  double slope;  // of the hard sigmoid clip(slope * y + 0.5, 0, 1)
  const float *reduce_weight, *reduce_bias;           // [S, E], [S] or null
  const float *restore_weight, *restore_bias;         // [E, S], [E] or null
  float *pooled, *hidden_y, *hidden, *gate_y, *gate;  // [N, E], [N, S] twice, [N, E] twice
  float *d_reduce_weight, *d_reduce_bias, *d_restore_weight, *d_restore_bias;  // or null
  float *d_hidden_y, *d_gate_y;  // work: [N, S], [N, E]
};

// total[c] = scale * sum over rows of value(c, lane)(row)
template <class Value>
inline void column_sums(Value value, Index rows, Index channels, float scale, float* total) {
  std::fill(total, total + channels, 0.0f);
  for_row_groups(rows, [&](Index r, auto group) {
    for_channels(channels, [&](Index c, auto lane) {
      using Lane = decltype(lane);
      Lane sum = load<Lane>(total + c);
      const auto column = value(c, lane);
      for (int i = 0; i < group; ++i) sum += column(r + i);
      store(total + c, sum);
    });
  });
  for (Index c = 0; c < channels; ++c) total[c] *= scale;
}

inline float gate_of(const SqueezeExcite& se, float y) {
  if (se.gate_kind == kSigmoid) return 1 / (1 + std::exp(-y));
  return clip(float(se.slope) * y + 0.5f, 0.0f, 1.0f);
}

inline float gate_derivative(const SqueezeExcite& se, float gate) {
  if (se.gate_kind == kSigmoid) return gate * (1 - gate);
  return gate <= 0 || gate >= 1 ? 0 : float(se.slope);
}

inline void add_bias(const float* bias, Index rows, Index columns, float* y) {
  if (!bias) return;
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) y[r * columns + c] += bias[c];
}

// From se.pooled to se.gate, for some images.
inline void compute_gates(const SqueezeExcite& se, Index channels, Range range) {
  const Index begin = range.begin, images = range.end - begin, squeezed = se.squeezed;
  float *hidden_y = se.hidden_y + begin * squeezed, *hidden = se.hidden + begin * squeezed;
  float *gate_y = se.gate_y + begin * channels, *gate = se.gate + begin * channels;
  pointwise(se.pooled + begin * channels, se.reduce_weight, images, channels, squeezed, hidden_y);
  add_bias(se.reduce_bias, images, squeezed, hidden_y);
  with_activation(se.activation, [&](auto chosen) {
    for (Index i = 0; i < images * squeezed; ++i) hidden[i] = activate<chosen()>(hidden_y[i]);
  });
  pointwise(hidden, se.restore_weight, images, squeezed, channels, gate_y);
  add_bias(se.restore_bias, images, channels, gate_y);
  for (Index i = 0; i < images * channels; ++i) gate[i] = gate_of(se, gate_y[i]);
}

// From the gradient of the gates, in se.d_gate_y, to that of the pooled values [images, E]; on the
// way se.d_gate_y and se.d_hidden_y come to hold what the weights' gradients are made from.
inline void gates_backward(const SqueezeExcite& se, Index channels, Range range, float* d_pooled) {
  const Index begin = range.begin, images = range.end - begin, squeezed = se.squeezed;
  const float *gate = se.gate + begin * channels, *hidden_y = se.hidden_y + begin * squeezed;
  float* d_gate_y = se.d_gate_y + begin * channels;
  float* d_hidden_y = se.d_hidden_y + begin * squeezed;
  for (Index i = 0; i < images * channels; ++i) d_gate_y[i] *= gate_derivative(se, gate[i]);
  pointwise_input_gradient(d_gate_y, se.restore_weight, images, squeezed, channels, 0, d_hidden_y);
  with_activation(se.activation, [&](auto chosen) {
    for (Index i = 0; i < images * squeezed; ++i)
      d_hidden_y[i] *= derivative<chosen()>(hidden_y[i]);
  });
  pointwise_input_gradient(d_hidden_y, se.reduce_weight, images, channels, squeezed, 0, d_pooled);
}

inline void bias_gradient(const float* dy, Index rows, Index columns, float* d_bias) {
  if (d_bias) column_sums(stored(dy, columns), rows, columns, 1, d_bias);
}

// The gradients of weights and biases, once gates_backward has seen all images.
inline void squeeze_excite_weight_gradients(const SqueezeExcite& se, Index channels, Index images,
                                            Index threads) {
  const auto layer = [&](const float* dy, const float* x, Index in, Index out, float* d_weight,
                         float* d_bias) {
    bias_gradient(dy, images, out, d_bias);
    if (!d_weight) return;
    std::fill(d_weight, d_weight + out * in, 0.0f);
    add_pointwise_weight_gradient(dy, x, images, in, out, d_weight);
  };
  parallel(std::min<Index>(2, threads), [&](Index share) {
    if (share == 0)
      layer(se.d_gate_y, se.hidden, se.squeezed, channels, se.d_restore_weight, se.d_restore_bias);
    if (share == 1 || threads == 1)
      layer(se.d_hidden_y, se.pooled, channels, se.squeezed, se.d_reduce_weight, se.d_reduce_bias);
  });
}

}  // namespace mobile
