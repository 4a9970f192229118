// Sums of the squares of gradients, one for each block of the launches that compute them (deferred_gradients.cu), so
// that gradient_norm need not read the gradients again. They serve the norm of just these gradients.
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
  // Sums, 256 KB. A small batch has 8,640 of BERT-base's layers' weights.
  static constexpr std::size_t kRoom = std::size_t{1} << 15;

  // Of a launch that computes gradients: a sum for each of its blocks, in memory of the device. Null where there is no
  // room for them and one more behind, which the norm writes, or where others are left out, so that these would be of
  // no use. The same sequence of calls is given the same memory again after each finish(), because captured graphs
  // refer to it.
  double* take(unsigned blocks) {
    if (omitted_ || used_ + blocks >= kRoom) {
      omitted_ = true;
      return nullptr;
    }
    if (memory_.size() == 0) memory_ = device_buffer(kRoom * sizeof(double));
    return static_cast<double*>(memory_.data()) + std::exchange(used_, used_ + blocks);
  }
  // What the launches compute. Of rows that are not adjacent they are of no use.
  void add(const Tensor& gradient) {
    of_now_.push_back(gradient);
    omitted_ |= !gradient.contiguous();
  }
  // Others are computed without such sums.
  void omit() { omitted_ = true; }
  void finish() {
    if (omitted_) of_now_.clear(), used_ = 0;
    finished_ = std::exchange(of_now_, {});
    count_ = std::exchange(used_, 0);
    omitted_ = false;
  }

  // DeferredGradients::squares_of. A part may be several gradients, as queries', keys' and values' weights are, or a
  // gradient several parts.
  std::span<double> of(std::span<const Tensor> gradients) const {
    std::vector<std::int64_t> of_parts(finished_.size());  // elements that each has in common with the gradients
    for (const Tensor& gradient : gradients) {
      std::int64_t of_gradient = 0;
      for (std::size_t p = 0; p < finished_.size(); ++p) {
        const std::int64_t common = common_elements(gradient, finished_[p]);
        of_gradient += common, of_parts[p] += common;
      }
      if (of_gradient != gradient.size()) return {};
    }
    for (std::size_t p = 0; p < finished_.size(); ++p)
      if (of_parts[p] != finished_[p].size()) return {};
    return {static_cast<double*>(memory_.data()), count_};
  }

 private:
  // Whose rows are adjacent.
  static std::int64_t common_elements(const Tensor& a, const Tensor& b) {
    const auto begin_of = [](const Tensor& t) { return reinterpret_cast<std::intptr_t>(t.f32()); };
    constexpr std::int64_t kSize = sizeof(float);
    const std::intptr_t begin = std::max(begin_of(a), begin_of(b)),
                        end = std::min(begin_of(a) + a.size() * kSize, begin_of(b) + b.size() * kSize);
    return std::max<std::int64_t>(0, end - begin) / kSize;
  }

  Buffer memory_;
  std::vector<Tensor> of_now_, finished_;
  std::size_t used_ = 0, count_ = 0;  // sums
  bool omitted_ = false;
};

}  // namespace ember
