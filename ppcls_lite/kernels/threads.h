// Work is cut into as many contiguous shares as there are threads, and results are added up in the
// order of the shares: the same number of threads gives the same bits.
#pragma once

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "lanes.h"

namespace mobile {

// The number of threads that oneDNN's products start, of the calling thread's. oneDNN has an OpenMP
// of its own, Intel's in Paddle's wheel, which does not know that it is called from a share of
// ours.
struct ProductThreads {
  int (*get)() = nullptr;
  void (*set)(int) = nullptr;
};
inline ProductThreads product_threads;

// While it lives, this thread may call oneDNN's product (docs/kernels.md, "Signals"): it takes no
// signals, as a handler would run in oneDNN's memory on the heap, and starts no threads, which
// would take them. Signals wait, or another thread takes them; faults, which cannot wait, are not
// blocked.
class MayMultiply {
 public:
  MayMultiply() {
    sigset_t signals;
    sigfillset(&signals);
    for (int fault : {SIGBUS, SIGFPE, SIGILL, SIGSEGV}) sigdelset(&signals, fault);
    pthread_sigmask(SIG_BLOCK, &signals, &signals_before_);
    if (!product_threads.set) return;
    threads_before_ = product_threads.get();
    product_threads.set(1);
  }
  ~MayMultiply() {
    if (product_threads.set) product_threads.set(threads_before_);
    pthread_sigmask(SIG_SETMASK, &signals_before_, nullptr);
  }
  MayMultiply(const MayMultiply&) = delete;
  MayMultiply& operator=(const MayMultiply&) = delete;

 private:
  sigset_t signals_before_;
  int threads_before_ = 1;
};

// Calls body(share) for each share in 0 .. threads - 1, each on a thread of its own. All matrix
// products are computed in here, and nowhere else.
// Without OpenMP they are C++ threads: slower to start, but the thread sanitizer understands them.
template <class Body>
inline void parallel(Index threads, Body body) {
  const auto run = [&](Index share) {
    const MayMultiply here;
    body(share);
  };
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (Index share = 0; share < threads; ++share) run(share);
#else
  std::vector<std::thread> others;
  for (Index share = 1; share < threads; ++share) others.emplace_back(run, share);
  run(0);
  for (std::thread& other : others) other.join();
#endif
}

struct Range {
  Index begin, end;
};

// The share of `items` that falls to one of `threads`.
inline Range share_of(Index items, Index threads, Index share) {
  return {items * share / threads, items * (share + 1) / threads};
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <class Number>
using Aligned = std::unique_ptr<Number[], Free>;

// Memory that begins at a cache line, so that vectors do not straddle two.
template <class Number>
inline Aligned<Number> aligned(Index count) {
  const Index bytes = (count * Index(sizeof(Number)) + 63) / 64 * 64;
  return Aligned<Number>(static_cast<Number*>(std::aligned_alloc(64, bytes)));
}

// Scratch memory of a thread. It is kept from call to call, as fresh pages cost more than the work
// that is done in them.
class Scratch {
 public:
  // Everything that was taken before is free again.
  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    scratch.reset();
    return scratch;
  }

  void reset() {
    used_ = 0;
    outgrown_.clear();
  }

  // Room for `count` of them, at the beginning of a cache line.
  template <class Number = float>
  Number* take(Index count) {
    return reinterpret_cast<Number*>(take_floats((count * sizeof(Number) + 3) / sizeof(float)));
  }

  float* take_zeros(Index floats) {
    float* taken = take(floats);
    std::fill(taken, taken + floats, 0.0f);
    return taken;
  }

 private:
  float* take_floats(Index floats) {
    const Index rounded = (floats + 15) / 16 * 16;
    if (used_ + rounded > size_) {
      outgrown_.push_back(std::move(memory_));  // still in use until the next reset
      size_ = 2 * (used_ + rounded);
      memory_ = aligned<float>(size_);
      used_ = 0;
    }
    float* taken = memory_.get() + used_;
    used_ += rounded;
    return taken;
  }

  Aligned<float> memory_;
  std::vector<Aligned<float>> outgrown_;
  Index size_ = 0, used_ = 0;
};

// One array per share, to be added up at the end.
class Partials {
 public:
  Partials(Index threads, Index size) : threads_(threads), size_(size), values_(threads * size) {}

  float* of(Index share) { return &values_[share * size_]; }

  void add_up(float* total) const {
    parallel(threads_, [&](Index share) {
      const Range range = share_of(size_, threads_, share);
      for (Index i = range.begin; i < range.end; ++i) {
        float sum = 0;
        for (Index t = 0; t < threads_; ++t) sum += values_[t * size_ + i];
        total[i] = sum;
      }
    });
  }

 private:
  Index threads_, size_;
  std::vector<float> values_;
};

}  // namespace mobile
