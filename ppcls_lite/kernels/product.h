// Matrix products C = A B of bfloat16 with float sums, for the shapes of these networks: thousands
// of rows, but only 16 to 1000 columns and as many addends.
//
// A block of C, kRows by up to kVectors vectors, stays in registers while both operands are read
// once along the inner dimension: a vector of B's columns times one number of A. B lies in panels
// of kPanel columns, packed so that they are read in order; A lies as it comes.
#pragma once

#include "threads.h"

#if defined(MOBILE_BF16) && defined(__AVX512BF16__)

namespace mobile {

constexpr int kRows = 8;
constexpr int kVectors = 3;
constexpr Index kPanel = kVectors * kWidth;

// What an operand consists of: two numbers that follow each other along the inner dimension, which
// one instruction multiplies and adds up.
struct Pair {
  Bf16 first, second;
};

// Pairs that hold `count` numbers of the inner dimension.
inline Index pairs(Index count) { return (count + 1) / 2; }

using Wide = Vector<kWidth>;

inline void multiply_add(Wide& sum, const Pair* a, Wide b) {
  int pair;
  std::memcpy(&pair, a, sizeof pair);
  const __m512i all = _mm512_set1_epi32(pair);
  sum = (Wide)_mm512_dpbf16_ps((__m512)sum, (__m512bh)all, (__m512bh)(__m512)b);
}

inline void pack_lane(Wide first, Wide second, Pair* to) {
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

// A [rows, inner]: element (r, k) is at[r * row_step + k * inner_step].
struct Left {
  const Pair* at;
  Index row_step, inner_step;
};

// ---- B: packing ----

// B [inner, columns] in panels [inner, width]; width is kPanel, of the last panel as many whole
// vectors as are left. What is beyond `columns` is zero.
struct Panels {
  Pair* at;
  Index inner, columns;  // inner counts pairs

  static Index width(Index columns, Index first) {
    return std::min(kPanel, (columns - first + kWidth - 1) / kWidth * kWidth);
  }
  static Index size(Index inner, Index columns) {
    return inner * ((columns + kWidth - 1) / kWidth * kWidth);
  }
  Pair* panel(Index first) const { return at + first * inner; }
};

// Lane of a row's columns from c on; columns beyond the last are zero.
template <class Number>
inline Wide load_columns(const Number* row, Index c, Index columns) {
  if (c + kWidth <= columns) return load<Wide>(row + c);
  float values[kWidth] = {};
  for_channels(columns - c,
               [&](Index i, auto part) { store(values + i, load<decltype(part)>(row + c + i)); });
  return load<Wide>(values);
}

// Packs columns first .. first + width - 1 of a matrix [rows, columns], whose rows are the inner
// dimension and begin `step` apart, to [pairs(rows), width].
template <class Number>
inline void pack_columns(const Number* matrix, Index step, Index rows, Index first, Index columns,
                         Index width, Pair* to) {
  for (Index k = 0; k < rows; k += 2, to += width)
    for (Index c = 0; c < width; c += kWidth) {
      const Number* row = matrix + k * step;
      Wide next = {};
      if (k + 1 < rows) next = load_columns(row + step, first + c, columns);
      pack_lane(load_columns(row, first + c, columns), next, to + c);
    }
}

// Packs all columns.
template <class Number>
inline void pack_rows(const Number* matrix, Index step, Index rows, Panels to) {
  for (Index first = 0; first < to.columns; first += kPanel)
    pack_columns(matrix, step, rows, first, to.columns, Panels::width(to.columns, first),
                 to.panel(first));
}

// Packs a matrix [columns, inner] of which the product takes the transpose: the pairs `range` of
// the inner dimension.
inline void pack_transposed(const float* matrix, Index step, Index inner, Range range, Panels to) {
  for (Index first = 0; first < to.columns; first += kPanel) {
    const Index width = Panels::width(to.columns, first);
    for (Index k = range.begin; k < range.end; ++k)
      for (Index c = 0; c < width; ++c) {
        Pair pair = {};
        const float* at = matrix + (first + c) * step + 2 * k;
        if (first + c < to.columns) store(&pair.first, at[0]);
        if (first + c < to.columns && 2 * k + 1 < inner) store(&pair.second, at[1]);
        to.panel(first)[k * width + c] = pair;
      }
  }
}

// ---- the product ----

// The first `columns` floats of a vector.
template <class Out>
inline void store_columns(Out* row, Wide lane, Index columns) {
  float values[kWidth];
  store(values, lane);
  for_channels(columns,
               [&](Index c, auto part) { store(row + c, load<decltype(part)>(values + c)); });
}

// A block of C with all columns of its vectors, or (edge) with `last` columns in the last one.
template <bool add, int rows, int vectors, bool edge, class Out>
inline void multiply_block(Left a, const Pair* panel, Index inner, Out* c, Index step, Index last) {
  Wide sums[rows][vectors] = {};
  for (Index k = 0; k < inner; ++k) {
    Wide b[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
      std::memcpy(&b[v], panel + (k * vectors + v) * kWidth, sizeof b[v]);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        multiply_add(sums[r][v], a.at + r * a.row_step + k * a.inner_step, b[v]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      Out* to = c + r * step + v * kWidth;
      const bool whole = !edge || v + 1 < vectors;
      if constexpr (add) sums[r][v] += whole ? load<Wide>(to) : load_columns(to, 0, last);
      if (whole)
        store(to, sums[r][v]);
      else
        store_columns(to, sums[r][v], last);
    }
}

template <bool add, int vectors, class Out>
void multiply_panel(Left a, const Pair* panel, Index inner, Index rows, Out* c, Index step,
                    Index columns) {
  const Index last = columns - (vectors - 1) * kWidth;
  Index r = 0;
  const auto some = [&](auto count) {
    for (; r + count <= rows; r += count) {
      const Left from = {a.at + r * a.row_step, a.row_step, a.inner_step};
      Out* to = c + r * step;
      if (last == kWidth)
        multiply_block<add, count, vectors, false>(from, panel, inner, to, step, last);
      else
        multiply_block<add, count, vectors, true>(from, panel, inner, to, step, last);
    }
  };
  some(std::integral_constant<int, kRows>{});
  some(std::integral_constant<int, kRows / 2>{});
  some(std::integral_constant<int, 1>{});
}

// C [rows, columns] = A B, or C += A B; rows of C begin `step` apart. The order of the sums is the
// same for the same inner dimension, wherever a row or column lies.
template <bool add = false, class Out>
inline void multiply(Left a, Panels b, Index rows, Out* c, Index step) {
  for (Index first = 0; first < b.columns; first += kPanel) {
    const Index columns = std::min(kPanel, b.columns - first);
    const Pair* panel = b.panel(first);
    switch (Panels::width(b.columns, first) / kWidth) {
      case 3: multiply_panel<add, 3>(a, panel, b.inner, rows, c + first, step, columns); break;
      case 2: multiply_panel<add, 2>(a, panel, b.inner, rows, c + first, step, columns); break;
      default: multiply_panel<add, 1>(a, panel, b.inner, rows, c + first, step, columns);
    }
  }
}

}  // namespace mobile

#endif
