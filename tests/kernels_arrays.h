// The arrays that kernels_driver.cc calls the kernels with.
#pragma once

#include <cstdio>
#include <deque>
#include <string>

#include "batch_norm.h"

namespace mobile {

// The arrays of one call: inputs are filled with draws, outputs are printed in the end.
class Arrays {
 public:
  explicit Arrays(std::string name) : name_(std::move(name)) {}

  float* input(Index n, float low = -1, float high = 1) {
    float* values = output("", n);
    for (Index i = 0; i < n; ++i) values[i] = low + (high - low) * draw();
    return values;
  }

  float* output(const char* name, Index n) {
    names_.push_back(name);
    arrays_.emplace_back(n);
    arrays_.back().shrink_to_fit();
    return arrays_.back().data();
  }

  Stored* stored(Index n) {
    stored_.emplace_back(n);
    stored_.back().shrink_to_fit();
    return stored_.back().data();
  }

  BatchNorm batch_norm(const char* name, Index channels, bool frozen, bool gradients) {
    BatchNorm bn{};
    bn.gamma = input(channels, 0.5, 1.5);
    bn.beta = input(channels);
    bn.running_mean = input(channels, -0.2f, 0.2f);
    bn.running_var = input(channels, 0.5, 1.5);
    names_.end()[-1] = names_.end()[-2] = name;  // they move
    bn.mean = output("", channels);
    bn.inv_std = output("", channels);
    if (gradients) bn.d_gamma = output(name, channels), bn.d_beta = output(name, channels);
    bn.epsilon = 1e-3f;
    bn.momentum = 0.9f;
    bn.frozen = frozen;
    return bn;
  }

  // Each array's largest error, as a share of the largest of its values.
  void print_errors(const Arrays& right) const {
    for (size_t i = 0; i < arrays_.size(); ++i) {
      if (names_[i].empty()) continue;
      double error = 0, size = 0;
      for (size_t j = 0; j < arrays_[i].size(); ++j) {
        const double distance = std::fabs(double(arrays_[i][j]) - right.arrays_[i][j]);
        error = distance <= error ? error : distance;  // NaN stays
        size = std::max(size, std::fabs(double(right.arrays_[i][j])));
      }
      std::printf("%s %s %.9g %.9g\n", name_.c_str(), names_[i].c_str(), error, size);
    }
  }

  void print() const {
    for (size_t i = 0; i < arrays_.size(); ++i) {
      if (names_[i].empty()) continue;
      double size = 0, mixture = 0;  // the second one notices values that changed places
      for (size_t j = 0; j < arrays_[i].size(); ++j) {
        size += double(arrays_[i][j]) * arrays_[i][j];
        mixture += arrays_[i][j] * std::sin(double(j + 1));
      }
      std::printf("%s %s %.9g %.9g\n", name_.c_str(), names_[i].c_str(), std::sqrt(size), mixture);
    }
  }

 private:
  float draw() {  // 0 to 1
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return float(state_ >> 40) / float(1 << 24);
  }

  std::string name_;
  uint64_t state_ = 1;
  std::deque<std::vector<float>> arrays_;
  std::deque<std::vector<Stored>> stored_;
  std::deque<std::string> names_;
};

}  // namespace mobile
