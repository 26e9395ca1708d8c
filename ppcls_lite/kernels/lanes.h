// Channels stand innermost in every tensor here, and all of them are treated alike. So a loop body
// is written once, for a `Lane` of neighbouring channels: a whole vector, or a single float for the
// channels that are left over. Vectors are GCC's portable ones; the width follows the CPU.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace mobile {

using Index = int64_t;

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;  // SSE, NEON
#endif

template <int width>
struct Floats {
  typedef float type __attribute__((vector_size(width * sizeof(float))));
};
template <int width>
using Vector = typename Floats<width>::type;

template <class Lane>
inline Lane load(const float* p) {  // of any alignment
  Lane lane;
  std::memcpy(&lane, p, sizeof lane);
  return lane;
}

template <class Lane>
inline void store(float* p, Lane lane) {
  std::memcpy(p, &lane, sizeof lane);
}

// The upper half of a float: its sign, its exponent and 7 binary digits of its fraction.
struct Bf16 {
  uint16_t bits;
};

// As many integers as a lane has floats.
template <class Lane>
struct Integers {
  static constexpr int count = sizeof(Lane) / sizeof(float);
  typedef uint32_t words __attribute__((vector_size(count * sizeof(uint32_t))));
  typedef uint16_t halves __attribute__((vector_size(count * sizeof(uint16_t))));
};

template <class Lane>
inline Lane load(const Bf16* p) {
  using Words = typename Integers<Lane>::words;
  typename Integers<Lane>::halves halves;
  std::memcpy(&halves, p, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  Lane lane;
  std::memcpy(&lane, &words, sizeof lane);
  return lane;
}

// Rounds to the nearest, of two as near to the even one. NaN stays NaN.
template <class Lane>
inline void store(Bf16* p, Lane lane) {
#ifdef __AVX512BF16__  // one instruction; it also makes numbers below 2^-126 zero
  if constexpr (sizeof lane == 64) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)lane);
    std::memcpy(p, &rounded, sizeof rounded);
    return;
  }
  if constexpr (sizeof lane == 32) {
    const __m128bh rounded = _mm256_cvtneps_pbh((__m256)lane);
    std::memcpy(p, &rounded, sizeof rounded);
    return;
  }
#endif
  using Words = typename Integers<Lane>::words;
  using Halves = typename Integers<Lane>::halves;
  Words words;
  std::memcpy(&words, &lane, sizeof lane);
  const Words rounded = (words + 0x7fff + (words >> 16 & 1)) >> 16;
  const Words is_nan = (Words)((words & 0x7fffffff) > 0x7f800000);
  const Halves halves =
      __builtin_convertvector((rounded & ~is_nan) | ((words >> 16 | 0x40) & is_nan), Halves);
  std::memcpy(p, &halves, sizeof halves);
}

// What lies in memory between forward and backward: what the convolutions give, and gradients
// inside of a block. All arithmetic is on floats, whatever this is.
#ifdef MOBILE_BF16
using Stored = Bf16;
#else
using Stored = float;
#endif

// Calls body(c, Lane{}) so that the lanes cover channels 0 .. channels - 1 once each.
template <class Body>
inline void for_channels(Index channels, Body body) {
  Index c = 0;
  for (; c + kWidth <= channels; c += kWidth) body(c, Vector<kWidth>{});
  if constexpr (kWidth > 8)  // channel counts are multiples of 8 in all published networks
    for (; c + 8 <= channels; c += 8) body(c, Vector<8>{});
  for (; c < channels; ++c) body(c, 0.0f);
}

// A row of a convolution is computed as floats: in the place where it is kept, or in `work`, from
// where keep() takes it.
constexpr bool kKeptInPlace = std::is_same_v<Stored, float>;
inline float* in_place(float* kept, float*) { return kept; }
inline float* in_place(Bf16*, float* work) { return work; }
inline void keep(const float*, Index, float*) {}
inline void keep(const float* work, Index count, Bf16* kept) {
  for_channels(count, [&](Index i, auto lane) { store(kept + i, load<decltype(lane)>(work + i)); });
}

// Calls body(r, n) for groups of n rows that begin at row r; n is a compile-time 4, then 1. What
// belongs to a channel is read once for a group.
template <class Body>
inline void for_row_groups(Index rows, Body body) {
  Index r = 0;
  for (; r + 4 <= rows; r += 4) body(r, std::integral_constant<int, 4>{});
  for (; r < rows; ++r) body(r, std::integral_constant<int, 1>{});
}

// ---- the papers' non-linearities. Comparisons are written so that NaN comes out as NaN. ----

enum Activation : Index { kNone = 0, kRelu = 1, kRelu6 = 2, kHardSwish = 3 };

template <class Lane>
inline Lane clip(Lane y, float low, float high) {
  const Lane floor = Lane{} + low, ceiling = Lane{} + high;
  y = y < floor ? floor : y;
  return y > ceiling ? ceiling : y;
}

template <Index activation, class Lane>
inline Lane activate(Lane y) {
  const Lane zero = Lane{};
  if constexpr (activation == kRelu) return y < zero ? zero : y;
  if constexpr (activation == kRelu6) return clip(y, 0.0f, 6.0f);
  if constexpr (activation == kHardSwish) return y * clip(y + 3.0f, 0.0f, 6.0f) * (1.0f / 6);
  return y;
}

template <Index activation, class Lane>
inline Lane derivative(Lane y) {
  const Lane zero = Lane{}, one = zero + 1.0f;
  if constexpr (activation == kRelu) return y > zero ? one : zero;
  if constexpr (activation == kRelu6) {
    const Lane below_six = y < zero + 6.0f ? one : zero;
    return y > zero ? below_six : zero;
  }
  if constexpr (activation == kHardSwish) {
    const Lane between = (y + y + 3.0f) * (1.0f / 6);
    const Lane below_three = y >= zero + 3.0f ? one : between;
    return y <= zero - 3.0f ? zero : below_three;
  }
  return one;
}

// Calls body with the activation as a compile-time constant.
template <class Body>
inline void with_activation(Index activation, Body body) {
  switch (activation) {
    case kRelu: return body(std::integral_constant<Index, kRelu>{});
    case kRelu6: return body(std::integral_constant<Index, kRelu6>{});
    case kHardSwish: return body(std::integral_constant<Index, kHardSwish>{});
    default: return body(std::integral_constant<Index, kNone>{});
  }
}

}  // namespace mobile
