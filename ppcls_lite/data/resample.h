// How rows of a picture are resized, for window.cc and for the C++ program in deploy/cpp.
//
// The arithmetic is Pillow's, so that the pixels are: weights of a triangle or a cubic, computed in
// double precision and rounded to 22 bits behind the point; sums in 32-bit integers; 8 bits after
// each direction. Compile with -ffp-contract=off: a fused multiply-add rounds once less, and then
// some weights differ in their last bit.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr int kBits = 22;  // behind a weight's point: 8 bits of pixel, 22, a sign, one to overshoot
constexpr int kHalf = 1 << (kBits - 1);
constexpr int kSlack = 12;  // bytes

double triangle(double x) {
  x = std::fabs(x);
  return x < 1 ? 1 - x : 0;
}

double cubic(double x) {  // Keys 1981, equation 4, with a = -1/2
  const double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// One direction of a resize: out[i] = sum over t < count[i] of weight[i * taps + t] * in[first[i] +
// t]
struct Axis {
  int taps = 0;  // a multiple of 4; the weights behind the last one needed are 0
  std::vector<int> first, count;
  std::vector<int32_t> weight;
  std::vector<int16_t> halves;  // the weights once more, as `resize_row` takes them

  int begin() const { return first.front(); }
  int end() const { return first.back() + count.back(); }

  // Outputs from..to-1 of `size`, which together show the stretch start..stop of 0..length.
  void prepare(int length, double start, double stop, int size, int from, int to, bool is_cubic) {
    const double scale = (stop - start) / size;
    const double stretch = scale < 1 ? 1 : scale;  // wider than the filter: antialiasing
    const double reach = (is_cubic ? 2.0 : 1.0) * stretch, inverse = 1.0 / stretch;
    taps = (static_cast<int>(std::ceil(reach)) * 2 + 1 + 3) / 4 * 4;
    first.resize(to - from);
    count.resize(to - from);
    weight.assign(static_cast<size_t>(to - from) * taps, 0);
    std::vector<double> exact(taps);
    for (int i = 0; i < to - from; ++i) {
      const double centre = start + (from + i + 0.5) * scale;
      const int low = std::max(static_cast<int>(centre - reach + 0.5), 0);
      const int high = std::min(static_cast<int>(centre + reach + 0.5), length);
      first[i] = low;
      count[i] = high - low;
      double sum = 0;
      for (int t = 0; t < high - low; ++t) {
        const double x = (t + low - centre + 0.5) * inverse;
        sum += exact[t] = is_cubic ? cubic(x) : triangle(x);
      }
      for (int t = 0; t < high - low; ++t) {
        const double w = (sum != 0 ? exact[t] / sum : exact[t]) * (1 << kBits);
        weight[static_cast<size_t>(i) * taps + t] = static_cast<int32_t>(w < 0 ? w - 0.5 : w + 0.5);
      }
    }
  }
};

uint8_t clip(int32_t sum) {
  sum >>= kBits;
  return static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

// A row of RGBx pixels -> RGB pixels, as many as the axis has. Reads up to kSlack bytes behind the
// row.
#ifdef __AVX2__

// Four taps at a time. There is no fast product of 32-bit numbers, but one of 16-bit numbers that
// adds up pairs; so a weight is cut into high * 2^kLow + low, which loses nothing:
// sum(w * p) = sum(high * p) * 2^kLow + sum(low * p), all modulo 2^32.
constexpr int kLow = 11;

void split_weights(Axis& axis) {
  const size_t n = axis.weight.size();
  axis.halves.resize(8 * n);
  for (size_t k = 0; k < n; ++k) {
    // [block of 4 taps][high, low][pair of taps][channel][tap of the pair]
    int16_t* block = &axis.halves[k / 4 * 32] + k % 4 / 2 * 8 + k % 2;
    for (int channel = 0; channel < 4; ++channel) {
      block[2 * channel] = static_cast<int16_t>(axis.weight[k] >> kLow);
      block[2 * channel + 16] = static_cast<int16_t>(axis.weight[k] & ((1 << kLow) - 1));
    }
  }
}

void resize_row(const Axis& axis, const uint8_t* row, uint8_t* out) {
  // R G B x R G B x ... of four pixels -> R R G G B B x x of two, then of the other two
  const __m128i pairs = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  const int n = static_cast<int>(axis.first.size());
  for (int i = 0; i < n; ++i) {
    const int16_t* weight = &axis.halves[static_cast<size_t>(i) * axis.taps * 8];
    const uint8_t* in = row + 4 * static_cast<size_t>(axis.first[i]);
    __m256i high = _mm256_setzero_si256(), low = _mm256_setzero_si256();
    for (int t = 0; t < axis.count[i]; t += 4, weight += 32) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 4 * t));
      const __m256i pixels = _mm256_cvtepu8_epi16(_mm_shuffle_epi8(bytes, pairs));
      const __m256i* w = reinterpret_cast<const __m256i*>(weight);
      high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, _mm256_loadu_si256(w)));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, _mm256_loadu_si256(w + 1)));
    }
    const __m256i both = _mm256_add_epi32(_mm256_slli_epi32(high, kLow), low);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(kHalf)), kBits);
    sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);  // cuts off below 0 and above 255
    const int32_t pixel = _mm_cvtsi128_si32(sum);
    std::memcpy(out + 3 * i, &pixel, 3);
  }
}

#else

void split_weights(Axis&) {}

void resize_row(const Axis& axis, const uint8_t* row, uint8_t* out) {
  const int n = static_cast<int>(axis.first.size());
  for (int i = 0; i < n; ++i) {
    const int32_t* weight = &axis.weight[static_cast<size_t>(i) * axis.taps];
    const uint8_t* in = row + 4 * static_cast<size_t>(axis.first[i]);
    int32_t sum[3] = {kHalf, kHalf, kHalf};
    for (int t = 0; t < axis.count[i]; ++t)
      for (int c = 0; c < 3; ++c) sum[c] += in[4 * t + c] * weight[t];
    for (int c = 0; c < 3; ++c) out[3 * i + c] = clip(sum[c]);
  }
}

#endif

// Rows of n bytes -> row i of the result. `sums` has room for n.
void resize_down(const Axis& axis, int i, const uint8_t* rows, int n, int32_t* __restrict sums,
                 uint8_t* __restrict out) {
  for (int x = 0; x < n; ++x) sums[x] = kHalf;
  for (int t = 0; t < axis.count[i]; ++t) {
    const int32_t weight = axis.weight[static_cast<size_t>(i) * axis.taps + t];
    const uint8_t* __restrict row =
        rows + static_cast<size_t>(axis.first[i] - axis.begin() + t) * n;
    for (int x = 0; x < n; ++x) sums[x] += weight * row[x];
  }
  for (int x = 0; x < n; ++x) out[x] = clip(sums[x]);
}

}  // namespace
