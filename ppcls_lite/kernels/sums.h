// Sums over all rows of each channel, exact enough and the same for the same number of threads.
#pragma once

#include "threads.h"

namespace mobile {

// Rows that are summed up as float before they go to the double total.
constexpr Index kFloatRows = 256;

// Two sums per channel and share: float over some rows, then double.
class PairSums {
 public:
  PairSums(Index threads, Index channels)
      : threads_(threads),
        channels_(channels),
        rows_(threads),
        pending_(threads),
        floats_(threads * 2 * channels),
        doubles_(threads * 2 * channels) {}

  // The float sums [2, C] to which the caller adds `rows` more.
  float* open(Index share, Index rows) {
    rows_[share] += rows;
    pending_[share] += rows;
    return &floats_[share * 2 * channels_];
  }

  void close(Index share) {
    if (pending_[share] >= kFloatRows) flush(share);
  }

  void flush(Index share) {
    float* from = &floats_[share * 2 * channels_];
    double* to = &doubles_[share * 2 * channels_];
    for (Index i = 0; i < 2 * channels_; ++i) to[i] += from[i];
    std::fill(from, from + 2 * channels_, 0.0f);
    pending_[share] = 0;
  }

  void flush_all() {
    for (Index share = 0; share < threads_; ++share) flush(share);
  }

  double first(Index share, Index c) const { return doubles_[share * 2 * channels_ + c]; }
  double second(Index share, Index c) const { return doubles_[(share * 2 + 1) * channels_ + c]; }
  Index rows(Index share) const { return rows_[share]; }
  Index threads() const { return threads_; }
  Index channels() const { return channels_; }

 private:
  Index threads_, channels_;
  std::vector<Index> rows_, pending_;
  std::vector<float> floats_;
  std::vector<double> doubles_;
};

}  // namespace mobile
