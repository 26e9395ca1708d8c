// Batch norm that is never stored. Forward, it is folded into one scale and shift per channel that
// its consumer applies while it reads Z:
//     Y = scale * Z + shift,  scale = gamma / std,  shift = beta - mean * scale
// Backward, the gradient of its input is linear in what is at hand, per channel:
//     dZ = a * dY + b * (Z - mean) + c
//     a = gamma / std,  b = -a / std^2 * sum(dY * (Z - mean)) / n,  c = -a * sum(dY) / n
// so the consumer of dZ forms it on the fly as well, once the two sums over dY are known.
#pragma once

#include <cmath>

#include "sums.h"

namespace mobile {

// Part of the C interface; abi.py reads the fields from here.
struct BatchNorm {
  const float *gamma, *beta;          // [C]
  float *running_mean, *running_var;  // [C]
  float *mean, *inv_std;              // [C], forward writes them for backward
  float *d_gamma, *d_beta;            // [C], null where they are not asked for
  float epsilon, momentum;            // momentum: share of the running statistics that is kept
  Index frozen;                       // normalises by the running statistics, which stay
};

// Scale and shift per channel.
struct Affine {
  Affine() = default;
  Affine(const BatchNorm& bn, Index channels) : scale(channels), shift(channels) {
    for (Index c = 0; c < channels; ++c) {
      scale[c] = bn.gamma[c] * bn.inv_std[c];
      shift[c] = bn.beta[c] - bn.mean[c] * scale[c];
    }
  }
  std::vector<float> scale, shift;
};

// Mean and variance of each channel, gathered tile by tile while the tile is in the cache.
// Every share takes the mean of its first rows as origin: sums and squares of values that lie far
// from it on one side would lose digits.
class Moments {
 public:
  Moments(Index threads, Index channels, bool frozen)
      : sums_(threads, channels), origin_(threads * channels), frozen_(frozen) {}

  void add(Index share, const Stored* z, Index rows) {
    const Index channels = sums_.channels();
    if (frozen_ || rows == 0) return;
    float* origin = &origin_[share * channels];
    if (sums_.rows(share) == 0) mean_of(z, std::min(rows, kFloatRows), channels, origin);
    for (Index begin = 0; begin < rows; begin += kFloatRows) {
      const Index some = std::min(kFloatRows, rows - begin);
      float* sum = sums_.open(share, some);
      add_rows(z + begin * channels, some, channels, origin, sum, sum + channels);
      sums_.close(share);
    }
  }

  // Writes what the batch norm goes on with, and moves its running statistics.
  // Like Paddle, and unlike torch, these take the biased variance.
  void finish(const BatchNorm& bn) {
    sums_.flush_all();
    for (Index c = 0; c < sums_.channels(); ++c) {
      if (frozen_) {
        bn.mean[c] = bn.running_mean[c];
        bn.inv_std[c] = float(1 / std::sqrt(bn.running_var[c] + bn.epsilon));
        continue;
      }
      double mean, variance;
      merge(c, &mean, &variance);
      bn.mean[c] = float(mean);
      bn.inv_std[c] = float(1 / std::sqrt(variance + bn.epsilon));
      const double kept = bn.momentum;
      bn.running_mean[c] = float(kept * bn.running_mean[c] + (1 - kept) * mean);
      bn.running_var[c] = float(kept * bn.running_var[c] + (1 - kept) * variance);
    }
  }

 private:
  static void add_rows(const Stored* z, Index rows, Index channels, const float* origin, float* sum,
                       float* square) {
    for_row_groups(rows, [&](Index r, auto group) {
      for_channels(channels, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        const Lane s = load<Lane>(sum + c), q = load<Lane>(square + c);
        const Lane o = load<Lane>(origin + c);
        Lane group_s = {}, group_q = {};  // fewer, larger addends: less rounding
        for (int i = 0; i < group; ++i) {
          const Lane distance = load<Lane>(z + (r + i) * channels + c) - o;
          group_s += distance;
          group_q += distance * distance;
        }
        store(sum + c, s + group_s);
        store(square + c, q + group_q);
      });
    });
  }

  static void mean_of(const Stored* z, Index rows, Index channels, float* mean) {
    for (Index c = 0; c < channels; ++c) {
      double sum = 0;
      for (Index r = 0; r < rows; ++r) sum += load<float>(z + r * channels + c);
      mean[c] = float(sum / rows);
    }
  }

  void merge(Index c, double* mean, double* variance) const {
    double rows = 0, total = 0;
    for (Index t = 0; t < sums_.threads(); ++t) {
      rows += sums_.rows(t);
      total += sums_.rows(t) * double(origin_[t * sums_.channels() + c]) + sums_.first(t, c);
    }
    *mean = total / rows;
    double squares = 0;
    for (Index t = 0; t < sums_.threads(); ++t) {
      if (sums_.rows(t) == 0) continue;
      const double n = sums_.rows(t), offset = sums_.first(t, c) / n;
      const double distance = origin_[t * sums_.channels() + c] + offset - *mean;
      squares += sums_.second(t, c) - n * offset * offset + n * distance * distance;
    }
    *variance = std::max(squares, 0.0) / rows;
    if (std::isnan(squares)) *variance = squares;
  }

  PairSums sums_;
  std::vector<float> origin_;
  bool frozen_;
};

// a, b, c of the gradient above.
struct Linear {
  Linear() = default;
  // Takes sum(dY) and sum(dY * (Z - mean)); also writes the gradients of gamma and beta.
  Linear(const BatchNorm& bn, PairSums& sums)
      : a(sums.channels()), b(sums.channels()), c(sums.channels()), mean(bn.mean) {
    sums.flush_all();
    double rows = 0;
    for (Index t = 0; t < sums.threads(); ++t) rows += sums.rows(t);
    for (Index i = 0; i < sums.channels(); ++i) {
      double dy = 0, dy_z = 0;
      for (Index t = 0; t < sums.threads(); ++t) {
        dy += sums.first(t, i);
        dy_z += sums.second(t, i);
      }
      const double inv_std = bn.inv_std[i], scale = bn.gamma[i] * inv_std;
      a[i] = float(scale);
      b[i] = bn.frozen ? 0 : float(-scale * inv_std * inv_std * dy_z / rows);
      c[i] = bn.frozen ? 0 : float(-scale * dy / rows);
      if (bn.d_gamma) bn.d_gamma[i] = float(dy_z * inv_std);
      if (bn.d_beta) bn.d_beta[i] = float(dy);
    }
  }
  std::vector<float> a, b, c;
  const float* mean = nullptr;
};

// How far apart the rows of what is computed for a product begin: those of bfloat16 at whole pairs.
inline Index row_step(Index channels, const float*) { return channels; }
inline Index row_step(Index channels, const Bf16*) { return (channels + 1) / 2 * 2; }

// out = activation(scale * z + shift); rows of out begin row_step apart.
template <class Out>
inline void normalise(const Stored* z, Index rows, Index channels, const Affine& affine,
                      Index activation, Out* out) {
  const Index step = row_step(channels, out);
  const float *scale = affine.scale.data(), *shift = affine.shift.data();
  with_activation(activation, [&](auto chosen) {
    for_row_groups(rows, [&](Index r, auto group) {
      for_channels(channels, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        const Lane k = load<Lane>(scale + c), s = load<Lane>(shift + c);
        for (int i = 0; i < group; ++i) {
          const Lane y = load<Lane>(z + (r + i) * channels + c) * k + s;
          store(out + (r + i) * step + c, activate<chosen()>(y));
        }
      });
    });
  });
}

// dz = a * dy + b * (z - mean) + c; rows of dz begin row_step apart.
template <class Gradient, class Out>
inline void normalise_backward(const Gradient* dy, const Stored* z, Index rows, Index channels,
                               const Linear& linear, Out* dz) {
  const Index step = row_step(channels, dz);
  for_row_groups(rows, [&](Index r, auto group) {
    for_channels(channels, [&](Index c, auto lane) {
      using Lane = decltype(lane);
      const Lane ka = load<Lane>(&linear.a[c]), kb = load<Lane>(&linear.b[c]);
      const Lane kc = load<Lane>(&linear.c[c]), mean = load<Lane>(linear.mean + c);
      for (int i = 0; i < group; ++i) {
        const Index at = (r + i) * channels + c;
        const Lane centred = load<Lane>(z + at) - mean;
        store(dz + (r + i) * step + c, load<Lane>(dy + at) * ka + (centred * kb + kc));
      }
    });
  });
}

// dy = gradient * activation'(scale * z + shift), and its two sums for Linear.
// gradient(c, lane) returns a function of the row: the gradient behind the activation.
template <class Gradient>
inline void activation_backward(Gradient gradient, const Stored* z, Index rows, Index activation,
                                const Affine& affine, const float* mean, Stored* dy, PairSums& sums,
                                Index share) {
  const Index channels = sums.channels();
  const float *scale = affine.scale.data(), *shift = affine.shift.data();
  float *sum = sums.open(share, rows), *product = sum + channels;
  with_activation(activation, [&](auto chosen) {
    for_row_groups(rows, [&](Index r, auto group) {
      for_channels(channels, [&](Index c, auto lane) {
        using Lane = decltype(lane);
        Lane s = load<Lane>(sum + c), p = load<Lane>(product + c);
        const Lane k = load<Lane>(scale + c), b = load<Lane>(shift + c);
        const Lane m = load<Lane>(mean + c);
        const auto column = gradient(c, lane);
        for (int i = 0; i < group; ++i) {
          const Index at = (r + i) * channels + c;
          const Lane value = load<Lane>(z + at);
          const Lane d = column(r + i) * derivative<chosen()>(value * k + b);
          store(dy + at, d);
          s += d;
          p += d * (value - m);
        }
        store(sum + c, s);
        store(product + c, p);
      });
    });
  });
  sums.close(share);
}

// A gradient that is stored as [rows, channels].
inline auto stored(const float* d, Index channels) {
  return [=](Index c, auto lane) {
    using Lane = decltype(lane);
    return [=](Index r) { return load<Lane>(d + r * channels + c); };
  };
}

// The sums for Linear of a batch norm without an activation.
inline void add_sums(const float* dy, const Stored* z, Index rows, const float* mean,
                     PairSums& sums, Index share) {
  const Index channels = sums.channels();
  float *sum = sums.open(share, rows), *product = sum + channels;
  for_row_groups(rows, [&](Index r, auto group) {
    for_channels(channels, [&](Index c, auto lane) {
      using Lane = decltype(lane);
      Lane s = load<Lane>(sum + c), p = load<Lane>(product + c);
      const Lane m = load<Lane>(mean + c);
      for (int i = 0; i < group; ++i) {
        const Index at = (r + i) * channels + c;
        const Lane d = load<Lane>(dy + at);
        s += d;
        p += d * (load<Lane>(z + at) - m);
      }
      store(sum + c, s);
      store(product + c, p);
    });
  });
  sums.close(share);
}

}  // namespace mobile
