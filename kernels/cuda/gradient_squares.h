// Sums of the squares of gradients, one for each block of the launches that compute them (deferred_gradients.cu), so
// that the norm need not read the gradients again. What is asked for next is the norm of them all, so they serve only
// if all are there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "runtime/arena.h"
#include "runtime/cuda/memory.h"
#include "runtime/tensor.h"

namespace ember {

class GradientSquares {
 public:
  // Of a launch that computes gradients: a sum for each of its blocks, in memory of the device. Null where there is no
  // room for them, or where others are left out, so that these would be of no use. The same sequence of calls is given
  // the same memory again after each finish(), because captured graphs refer to it.
  double* take(unsigned blocks) {
    if (omitted_ || used_ + blocks >= kMost) {
      omitted_ = true;
      return nullptr;
    }
    if (memory_.size() == 0) memory_ = device_buffer(kMost * sizeof(double));
    return static_cast<double*>(memory_.data()) + std::exchange(used_, used_ + blocks);
  }
  // What the launches compute, all of it, each element once.
  void add(const Tensor& gradient) { of_now_.push_back(gradient); }
  // Others are computed without such sums.
  void omit() { omitted_ = true; }
  void finish() {
    if (omitted_) of_now_.clear(), used_ = 0;
    finished_ = std::exchange(of_now_, {});
    count_ = std::exchange(used_, 0);
    omitted_ = false;
  }

  // DeferredGradients::squares_of.
  std::span<double> of(std::span<const Tensor> gradients) const {
    std::int64_t elements = 0;
    for (const Tensor& gradient : gradients) elements += gradient.size();
    for (const Tensor& part : finished_) {
      std::int64_t asked_for = 0;  // of queries', keys' and values' weights, which are one, each is asked for
      for (const Tensor& gradient : gradients) asked_for += common_elements(part, gradient);
      if (asked_for != part.size()) return {};
      elements -= part.size();
    }
    if (elements != 0) return {};
    return {static_cast<double*>(memory_.data()), count_};
  }

 private:
  static constexpr std::size_t kMost = std::size_t{1} << 15;

  // Whose rows are adjacent.
  static std::int64_t common_elements(const Tensor& a, const Tensor& b) {
    return std::max<std::int64_t>(0, std::min(a.f32() + a.size(), b.f32() + b.size()) - std::max(a.f32(), b.f32()));
  }

  Buffer memory_;
  std::vector<Tensor> of_now_, finished_;
  std::size_t used_ = 0, count_ = 0;  // sums
  bool omitted_ = false;
};

}  // namespace ember
