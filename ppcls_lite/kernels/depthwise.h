// Depthwise convolution, one image at a time, row by row. The rows that a kernel reaches are kept
// in a ring, already normalised and activated, so the activation of an image is never stored.
#pragma once

#include "batch_norm.h"

namespace mobile {

struct DepthwiseShape {
  Index height, width, channels, kernel, stride, pad_top, pad_left, out_height, out_width;

  // Floats of an input row between its zero margins: what the last output of the row reaches.
  Index padded_width() const {
    return std::max(pad_left + width, (out_width - 1) * stride + kernel);
  }
};

// The last `size` rows of an image, each with zero margins; rows outside of it are zero.
class RowRing {
 public:
  RowRing(Scratch& scratch, Index size, Index image_rows, Index margin, Index width, Index channels)
      : size_(size),
        image_rows_(image_rows),
        margin_(margin * channels),
        row_(width * channels),
        memory_(scratch.take_zeros((size + 1) * row_)) {}

  // Row r; valid until row r + size is written.
  const float* row(Index r) const {
    const bool outside = r < 0 || r >= image_rows_;
    return memory_ + (outside ? size_ : r % size_) * row_;
  }
  // Where the values of row r, without its margins, are to be written.
  float* inside(Index r) { return memory_ + (r % size_) * row_ + margin_; }

 private:
  Index size_, image_rows_, margin_, row_;
  float* memory_;
};

// [C, K, K] to [K, K, C], and back.
inline void taps_first(const float* weights, Index taps, Index channels, float* out) {
  for (Index c = 0; c < channels; ++c)
    for (Index k = 0; k < taps; ++k) out[k * channels + c] = weights[c * taps + k];
}
inline void channels_first(const float* by_tap, Index taps, Index channels, float* out) {
  for (Index c = 0; c < channels; ++c)
    for (Index k = 0; k < taps; ++k) out[c * taps + k] = by_tap[k * channels + c];
}

// ---- one row of outputs from a few rows of inputs ----

// Neighbouring outputs that share the inputs they load, in registers.
constexpr int kOutputs = 7;

template <class Lane, int taps, int stride, int outputs>
inline void correlate_some(const float* const* rows, const float* const* weights, Index row_count,
                           Index channels, Index c, Index x, float* out, Index out_step) {
  Lane sums[outputs] = {};
  for (Index r = 0; r < row_count; ++r) {
    Lane w[taps];
#pragma GCC unroll 8
    for (int j = 0; j < taps; ++j) w[j] = load<Lane>(weights[r * taps + j] + c);
    const float* input = rows[r] + x * stride * channels + c;
#pragma GCC unroll 32
    for (int i = 0; i < (outputs - 1) * stride + taps; ++i) {
      const Lane value = load<Lane>(input + i * channels);
#pragma GCC unroll 8
      for (int j = 0; j < taps; ++j)
        if (i >= j && (i - j) % stride == 0 && (i - j) / stride < outputs)
          sums[(i - j) / stride] += w[j] * value;
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < outputs; ++o) store(out + (x + o) * out_step + c, sums[o]);
}

// out[x] = sum over rows r and taps j of weights[r * taps + j] * rows[r][x * stride + j]
template <int taps, int stride>
void correlate(const float* const* rows, const float* const* weights, Index row_count,
               Index outputs, Index channels, float* out, Index out_step) {
  for_channels(channels, [&](Index c, auto lane) {
    using Lane = decltype(lane);
    Index x = 0;
    for (; x + kOutputs <= outputs; x += kOutputs)
      correlate_some<Lane, taps, stride, kOutputs>(rows, weights, row_count, channels, c, x, out,
                                                   out_step);
    for (; x + 4 <= outputs; x += 4)
      correlate_some<Lane, taps, stride, 4>(rows, weights, row_count, channels, c, x, out,
                                            out_step);
    for (; x < outputs; ++x)
      correlate_some<Lane, taps, stride, 1>(rows, weights, row_count, channels, c, x, out,
                                            out_step);
  });
}

template <class Lane, int taps, int stride, int outputs>
inline void correlate_gradient_some(const float* input, const float* dz, Index channels, Lane* even,
                                    Lane* odd) {
  Lane d[outputs];
#pragma GCC unroll 8
  for (int o = 0; o < outputs; ++o) d[o] = load<Lane>(dz + o * channels);
#pragma GCC unroll 32
  for (int i = 0; i < (outputs - 1) * stride + taps; ++i) {
    const Lane value = load<Lane>(input + i * channels);
#pragma GCC unroll 8
    for (int j = 0; j < taps; ++j) {
      if (i < j || (i - j) % stride != 0 || (i - j) / stride >= outputs) continue;
      const int o = (i - j) / stride;
      // Two sums a tap for the smallest kernel: three chains would wait for each other.
      if (taps <= 3 && o % 2)
        odd[j] += d[o] * value;
      else
        even[j] += d[o] * value;
    }
  }
}

// d_weights [K * K, C] += the products of one row of dz with the rows of inputs it came from.
template <int taps, int stride>
void add_correlation_gradient(const float* const* rows, const float* dz, Index outputs,
                              Index channels, float* d_weights) {
  for_channels(channels, [&](Index c, auto lane) {
    using Lane = decltype(lane);
    for (Index r = 0; r < taps; ++r) {
      Lane even[taps] = {}, odd[taps] = {};
      const float *input = rows[r] + c, *d = dz + c;
      Index x = 0;
      for (; x + kOutputs <= outputs; x += kOutputs)
        correlate_gradient_some<Lane, taps, stride, kOutputs>(
            input + x * stride * channels, d + x * channels, channels, even, odd);
      for (; x < outputs; ++x)
        correlate_gradient_some<Lane, taps, stride, 1>(input + x * stride * channels,
                                                       d + x * channels, channels, even, odd);
#pragma GCC unroll 8
      for (int j = 0; j < taps; ++j) {
        float* sum = d_weights + (r * taps + j) * channels + c;
        store(sum, load<Lane>(sum) + even[j] + odd[j]);
      }
    }
  });
}

// ---- choosing the compiled variant ----

using Correlate = void (*)(const float* const*, const float* const*, Index, Index, Index, float*,
                           Index);
using AddCorrelationGradient = void (*)(const float* const*, const float*, Index, Index, float*);

inline Correlate correlate_for(Index taps, Index stride) {
  if (stride == 2)
    return taps == 3 ? correlate<3, 2> : taps == 5 ? correlate<5, 2> : correlate<7, 2>;
  constexpr Correlate by_taps[] = {nullptr,         correlate<1, 1>, correlate<2, 1>,
                                   correlate<3, 1>, correlate<4, 1>, correlate<5, 1>,
                                   nullptr,         correlate<7, 1>};
  return by_taps[taps];
}

inline AddCorrelationGradient correlation_gradient_for(Index kernel, Index stride) {
  if (stride == 2)
    return kernel == 3   ? add_correlation_gradient<3, 2>
           : kernel == 5 ? add_correlation_gradient<5, 2>
                         : add_correlation_gradient<7, 2>;
  return kernel == 3   ? add_correlation_gradient<3, 1>
         : kernel == 5 ? add_correlation_gradient<5, 1>
                       : add_correlation_gradient<7, 1>;
}

constexpr Index kMostTaps = 49;

// ---- one image ----

// fill(r, to): writes input row r [width, C]. done(y, row): called for each finished output row.
template <class Fill, class Done>
void depthwise_image(const DepthwiseShape& s, const float* by_tap, Stored* out, Fill fill,
                     Done done) {
  Scratch& scratch = Scratch::of_this_thread();
  RowRing inputs(scratch, s.kernel, s.height, s.pad_left, s.padded_width(), s.channels);
  const Index width = s.out_width * s.channels;
  float* work = scratch.take(kKeptInPlace ? 0 : width);
  const Correlate correlate = correlate_for(s.kernel, s.stride);
  const float *rows[7], *weights[kMostTaps];
  for (Index k = 0; k < s.kernel * s.kernel; ++k) weights[k] = by_tap + k * s.channels;
  Index filled = 0;
  for (Index y = 0; y < s.out_height; ++y) {
    const Index top = y * s.stride - s.pad_top;
    for (; filled < std::min(top + s.kernel, s.height); ++filled)
      fill(filled, inputs.inside(filled));
    for (Index i = 0; i < s.kernel; ++i) rows[i] = inputs.row(top + i);
    Stored* kept = out + y * width;
    float* row = in_place(kept, work);
    correlate(rows, weights, s.kernel, s.out_width, s.channels, row, s.channels);
    keep(row, width, kept);
    done(y, kept);
  }
}

// The gradient of one input row from the rows of dz that it was read for. With a stride of 2, even
// and odd inputs were read by different taps; each parity is a correlation of its own.
template <class Ring>
void input_gradient_row(const DepthwiseShape& s, const float* by_tap, const Ring& dz,
                        Index dz_margin, Index y, float* dx) {
  const float *rows[7], *weights[kMostTaps];
  for (Index phase = 0; phase < s.stride; ++phase) {
    const Index outputs = (s.width - phase + s.stride - 1) / s.stride;
    Index last = s.kernel - 1;  // the tap that reads input `phase` for the leftmost output
    while (last >= 0 && (phase + s.pad_left - last) % s.stride != 0) --last;
    const Index taps = last / s.stride + 1;
    const Index leftmost = (phase + s.pad_left - last) / s.stride;  // exact, may be negative
    Index count = 0;
    for (Index i = 0; i < s.kernel; ++i) {
      const Index reach = y + s.pad_top - i;
      if (reach < 0 || reach % s.stride != 0 || reach / s.stride >= s.out_height) continue;
      rows[count] = dz.row(reach / s.stride) + (dz_margin + leftmost) * s.channels;
      for (Index j = 0; j < taps; ++j)
        weights[count * taps + j] = by_tap + (i * s.kernel + last - j * s.stride) * s.channels;
      ++count;
    }
    if (outputs > 0)
      correlate_for(taps, 1)(rows, weights, count, outputs, s.channels, dx + phase * s.channels,
                             s.stride * s.channels);
  }
}

// fill(r, to): as above. fill_dz(y, to): writes row y of dz. done(r, dx): takes the gradient of
// input row r; null rows are not computed. d_by_tap [K * K, C] is added to; it may be null.
template <class Fill, class FillGradient, class Done>
void depthwise_image_backward(const DepthwiseShape& s, const float* by_tap, bool wants_input,
                              float* d_by_tap, Fill fill, FillGradient fill_dz, Done done) {
  Scratch& scratch = Scratch::of_this_thread();
  const Index margin = s.kernel;
  RowRing inputs(scratch, s.kernel, s.height, s.pad_left, s.padded_width(), s.channels);
  RowRing dz(scratch, s.kernel, s.out_height, margin, s.out_width + 2 * margin, s.channels);
  float* dx = scratch.take(s.width * s.channels);
  const AddCorrelationGradient add_gradient = correlation_gradient_for(s.kernel, s.stride);
  const float* rows[7];
  Index filled = 0, finished = 0;
  for (Index y = 0; y < s.out_height; ++y) {
    fill_dz(y, dz.inside(y));
    const Index top = y * s.stride - s.pad_top;
    if (d_by_tap) {
      for (; filled < std::min(top + s.kernel, s.height); ++filled)
        fill(filled, inputs.inside(filled));
      for (Index i = 0; i < s.kernel; ++i) rows[i] = inputs.row(top + i);
      add_gradient(rows, dz.row(y) + margin * s.channels, s.out_width, s.channels, d_by_tap);
    }
    if (!wants_input) continue;
    // Input rows that no later row of dz was computed from.
    const bool is_last = y + 1 == s.out_height;
    const Index end = is_last ? s.height : std::min(top + s.stride, s.height);
    for (; finished < end; ++finished) {
      input_gradient_row(s, by_tap, dz, margin, finished, dx);
      done(finished, dx);
    }
  }
}

}  // namespace mobile
