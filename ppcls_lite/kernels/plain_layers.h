// The layers of plain.h, as their formulas stand: whole arrays, double precision. Each `forward`
// returns what it computes, each `backward` the gradient of its input.
#pragma once

#include "block.h"

namespace mobile {

using Values = std::vector<double>;

inline void write(const Values& values, float* to) {
  if (to) std::copy(values.begin(), values.end(), to);
}

inline double plain_activation(Index kind, double y) {
  if (kind == kRelu) return std::max(y, 0.0);
  if (kind == kRelu6) return std::clamp(y, 0.0, 6.0);
  if (kind == kHardSwish) return y * std::clamp(y + 3, 0.0, 6.0) / 6;
  return y;
}

inline double plain_derivative(Index kind, double y) {
  if (kind == kRelu) return y > 0;
  if (kind == kRelu6) return y > 0 && y < 6;
  if (kind == kHardSwish) return y <= -3 ? 0 : y >= 3 ? 1 : (2 * y + 3) / 6;
  return 1;
}

inline Values activation(Index kind, Values y) {
  for (double& value : y) value = plain_activation(kind, value);
  return y;
}

inline Values activation_backward(Index kind, const Values& y, Values d) {
  for (size_t i = 0; i < y.size(); ++i) d[i] *= plain_derivative(kind, y[i]);
  return d;
}

// A 1x1 convolution, or a layer of squeeze-excite: [rows, in] to [rows, out], weights [out, in].
inline Values linear(const Values& x, const float* weight, const float* bias, Index in, Index out) {
  const Index rows = x.size() / in;
  Values y(rows * out);
  for (Index r = 0; r < rows; ++r)
    for (Index o = 0; o < out; ++o) {
      y[r * out + o] = bias ? bias[o] : 0;
      for (Index i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * weight[o * in + i];
    }
  return y;
}

inline Values linear_backward(const Values& dy, const Values& x, const float* weight, Index in,
                              Index out, float* d_weight, float* d_bias) {
  const Index rows = x.size() / in;
  Values dx(rows * in), dw(out * in), db(out);
  for (Index r = 0; r < rows; ++r)
    for (Index o = 0; o < out; ++o) {
      const double d = dy[r * out + o];
      db[o] += d;
      for (Index i = 0; i < in; ++i) {
        dx[r * in + i] += d * weight[o * in + i];
        dw[o * in + i] += d * x[r * in + i];
      }
    }
  write(dw, d_weight), write(db, d_bias);
  return dx;
}

// Calls body(output, input, weight), with their places, for every product of the convolution.
template <class Body>
inline void for_depthwise(const Block& b, Body body) {
  const Index k = b.kernel, channels = b.expanded;
  for (Index n = 0; n < b.images; ++n)
    for (Index y = 0; y < b.out_height; ++y)
      for (Index x = 0; x < b.out_width; ++x)
        for (Index i = 0; i < k; ++i)
          for (Index j = 0; j < k; ++j) {
            const Index row = y * b.stride - b.pad_top + i, column = x * b.stride - b.pad_left + j;
            if (row < 0 || row >= b.height || column < 0 || column >= b.width) continue;
            const Index out = ((n * b.out_height + y) * b.out_width + x) * channels;
            const Index in = ((n * b.height + row) * b.width + column) * channels;
            for (Index c = 0; c < channels; ++c) body(out + c, in + c, (c * k + i) * k + j);
          }
}

inline Values batch_norm(const BatchNorm& bn, Values z, Index channels) {
  const Index rows = z.size() / channels;
  for (Index c = 0; c < channels; ++c) {
    double mean = 0, variance = 0;
    for (Index r = 0; r < rows; ++r) mean += z[r * channels + c] / rows;
    for (Index r = 0; r < rows; ++r) variance += std::pow(z[r * channels + c] - mean, 2) / rows;
    if (bn.frozen) {
      mean = bn.running_mean[c], variance = bn.running_var[c];
    } else {
      const double kept = bn.momentum;
      bn.running_mean[c] = float(kept * bn.running_mean[c] + (1 - kept) * mean);
      bn.running_var[c] = float(kept * bn.running_var[c] + (1 - kept) * variance);
    }
    const double inv_std = 1 / std::sqrt(variance + bn.epsilon);
    bn.mean[c] = float(mean), bn.inv_std[c] = float(inv_std);
    for (Index r = 0; r < rows; ++r) {
      double& value = z[r * channels + c];
      value = (value - mean) * inv_std * bn.gamma[c] + bn.beta[c];
    }
  }
  return z;
}

inline Values batch_norm_backward(const BatchNorm& bn, const Values& z, Values d, Index channels) {
  const Index rows = z.size() / channels;
  for (Index c = 0; c < channels; ++c) {
    const auto normal = [&](Index r) { return (z[r * channels + c] - bn.mean[c]) * bn.inv_std[c]; };
    double d_beta = 0, d_gamma = 0;
    for (Index r = 0; r < rows; ++r) {
      d_beta += d[r * channels + c];
      d_gamma += d[r * channels + c] * normal(r);
    }
    if (bn.d_beta) bn.d_beta[c] = float(d_beta);
    if (bn.d_gamma) bn.d_gamma[c] = float(d_gamma);
    for (Index r = 0; r < rows; ++r) {
      double& value = d[r * channels + c];  // the statistics move with z, unless they are frozen
      if (!bn.frozen) value -= (d_beta + normal(r) * d_gamma) / rows;
      value *= bn.gamma[c] * bn.inv_std[c];
    }
  }
  return d;
}

// The gates of a block, a row of `gate` for each image: from `a`, the depthwise stage's output, to
// what project reads.
struct PlainSqueezeExcite {
  const Block& b;
  Values pooled{}, hidden_y{}, hidden{}, gate{}, scaled{};

  Index gate_at(Index i) const {  // of element i of `a`: its image's, its channel's
    return i / (b.out_pixels() * b.expanded) * b.expanded + i % b.expanded;
  }

  Values forward(const Values& a) {
    const SqueezeExcite& se = b.se;
    pooled = Values(b.images * b.expanded);
    for (size_t i = 0; i < a.size(); ++i) pooled[gate_at(i)] += a[i] / b.out_pixels();
    hidden_y = linear(pooled, se.reduce_weight, se.reduce_bias, b.expanded, se.squeezed);
    hidden = activation(se.activation, hidden_y);
    gate = linear(hidden, se.restore_weight, se.restore_bias, se.squeezed, b.expanded);
    for (double& g : gate)
      g = se.gate_kind == kSigmoid ? 1 / (1 + std::exp(-g))
                                   : std::clamp(se.slope * g + 0.5, 0., 1.);
    write(gate, se.gate);
    scaled = a;
    for (size_t i = 0; i < a.size(); ++i) scaled[i] *= gate[gate_at(i)];
    return activation(b.last_activation(), scaled);
  }

  Values backward(const Values& a, Values d) {
    const SqueezeExcite& se = b.se;
    d = activation_backward(b.last_activation(), scaled, d);
    Values dg(gate.size());
    for (size_t i = 0; i < d.size(); ++i) dg[gate_at(i)] += d[i] * a[i];
    for (size_t i = 0; i < dg.size(); ++i) {
      const double g = gate[i], between = g > 0 && g < 1 ? se.slope : 0;
      dg[i] *= se.gate_kind == kSigmoid ? g * (1 - g) : between;
    }
    dg = linear_backward(dg, hidden, se.restore_weight, se.squeezed, b.expanded,
                         se.d_restore_weight, se.d_restore_bias);
    dg = activation_backward(se.activation, hidden_y, dg);
    dg = linear_backward(dg, pooled, se.reduce_weight, b.expanded, se.squeezed, se.d_reduce_weight,
                         se.d_reduce_bias);
    for (size_t i = 0; i < d.size(); ++i)
      d[i] = d[i] * gate[gate_at(i)] + dg[gate_at(i)] / b.out_pixels();
    return d;
  }
};

}  // namespace mobile
