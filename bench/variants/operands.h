// TinyBERT's operands for the ladders (hidden 312, 12 heads), in the memory and types of a backend.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "bench/variants/ladder.h"

namespace ember::variants {

constexpr std::int64_t kHidden = 312, kHeads = 12, kPositions = 512, kVocabulary = 30522, kFeedForward = 1200;

// Memory of a backend's, freed together.
class Memory {
 public:
  explicit Memory(Kernels& kernels) : kernels_(kernels) {}
  Tensor zeros(std::int64_t rows, std::int64_t cols, DType type = DType::f32);
  // Uniform between -scale and scale.
  Tensor random(std::int64_t rows, std::int64_t cols, DType type = DType::f32, float scale = 1);
  template <typename T>
  T* copy(const std::vector<T>& values) {
    const std::size_t bytes = values.size() * sizeof(T);
    blocks_.push_back(kernels_.allocate(bytes));
    kernels_.upload(blocks_.back().data(), values.data(), bytes);
    return static_cast<T*>(blocks_.back().data());
  }
  Kernels& kernels() { return kernels_; }

 private:
  Kernels& kernels_;
  std::deque<Buffer> blocks_;
};

// 16 sequences of 308 tokens in all, GoEmotions' mean, and of 41 at most, as often as `copies` says.
Batch packed_batch(Memory& memory, std::int64_t copies);

LayerNormCall layernorm_call(Memory& memory, std::int64_t rows, float dropout);
AttentionCall attention_call(Memory& memory, const Batch& batch, float dropout);

// TinyBERT's weights in training: 72 dense tensors and the word embedding, of which each step touches the rows of 308
// tokens drawn so that the n-th most frequent word has a probability of about 1 / n.
class AdamWTraining {
 public:
  explicit AdamWTraining(Kernels& kernels);
  AdamWCall next();     // the call of the next step; after the last one of the schedule step 0 again
  double rows() const;  // of the table that a step touches, on average

 private:
  static constexpr std::int32_t kSteps = 16384, kBatches = 512;
  AdamWParameter parameter(std::int64_t rows, std::int64_t cols, Tensor gradient, bool decayed);

  Memory memory_;
  std::vector<AdamWParameter> dense_;
  AdamWParameter table_;
  std::vector<std::int64_t> first_id_{0};  // of each batch of ids
  std::int32_t* ids_;
  std::int32_t* row_updates_;
  AdamWUpdate* schedule_;
  StepState* state_;
  std::int32_t step_ = 0;
};

}  // namespace ember::variants
