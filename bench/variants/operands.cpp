#include "bench/variants/operands.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "bench/variants/schedule.h"

namespace ember::variants {

Tensor Memory::zeros(std::int64_t rows, std::int64_t cols, DType type) {
  blocks_.push_back(kernels_.allocate(static_cast<std::size_t>(rows * cols) * size_of(type)));
  return matrix(blocks_.back().data(), rows, cols, type);
}

Tensor Memory::random(std::int64_t rows, std::int64_t cols, DType type, float scale) {
  std::minstd_rand generator(static_cast<unsigned>(blocks_.size() + 1));
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (float& value : values)
    value = scale * (static_cast<float>(generator()) / static_cast<float>(generator.max()) * 2 - 1);
  const Tensor floats = matrix(copy(values), rows, cols);
  if (type == DType::f32) return floats;
  const Tensor rounded = zeros(rows, cols, type);
  kernels_.round_weights(rounded, floats);
  return rounded;
}

Batch packed_batch(Memory& memory, std::int64_t copies) {
  const std::int64_t lengths[] = {5, 8, 9, 11, 13, 15, 16, 17, 19, 20, 22, 24, 26, 29, 33, 41};
  std::vector<std::int32_t> ends{0};
  for (std::int64_t copy = 0; copy < copies; ++copy)
    for (std::size_t i = 0; i < std::size(lengths); ++i)  // long and short ones mixed
      ends.push_back(ends.back() + static_cast<std::int32_t>(lengths[i * 7 % std::size(lengths)]));
  Batch batch;
  batch.sequences = static_cast<std::int64_t>(ends.size()) - 1;
  batch.tokens = ends.back();
  batch.max_length = *std::max_element(std::begin(lengths), std::end(lengths));
  batch.cu_seqlens = memory.copy(ends);
  return batch;
}

LayerNormCall layernorm_call(Memory& memory, std::int64_t rows, float dropout) {
  const DType type = memory.kernels().activation_type();
  const auto activations = [&] { return memory.random(rows, kHidden, type); };
  const auto vector = [&] { return memory.random(1, kHidden); };
  return {memory.zeros(rows, kHidden, type),
          memory.zeros(rows, kHidden, type),
          {memory.zeros(1, rows), memory.zeros(1, rows)},
          activations(),
          vector(),
          activations(),
          {vector(), vector()},
          1e-12f,
          {dropout, 42, 0x300, 1}};
}

AttentionCall attention_call(Memory& memory, const Batch& batch, float dropout) {
  const DType type = memory.kernels().activation_type();
  const Tensor qkv = memory.random(batch.tokens, 3 * kHidden, type), out = memory.zeros(batch.tokens, kHidden, type);
  const auto part = [&](std::int64_t i) { return qkv.columns(i * kHidden, kHidden); };
  return {out, part(0), part(1), part(2), batch, kHeads, kPositions, {dropout, 42, 0x200, 1}};
}

AdamWParameter AdamWTraining::parameter(std::int64_t rows, std::int64_t cols, Tensor gradient, bool decayed) {
  const DType working = memory_.kernels().product_type();
  return {memory_.random(rows, cols, DType::f32, 0.05f),
          memory_.zeros(rows, cols),
          memory_.zeros(rows, cols),
          working == DType::f32 ? Tensor{} : memory_.zeros(rows, cols, working),
          gradient,
          decayed};
}

AdamWTraining::AdamWTraining(Kernels& kernels) : memory_(kernels) {
  const auto add = [&](std::int64_t rows, std::int64_t cols) {
    const Tensor gradient = memory_.random(rows, cols, DType::f32, 1e-3f);
    dense_.push_back(parameter(rows, cols, gradient, rows > 1));
  };
  const auto linear = [&](std::int64_t out, std::int64_t in) { add(out, in), add(1, out); };
  const auto norm = [&] { add(1, kHidden), add(1, kHidden); };
  add(kPositions, kHidden), add(2, kHidden), norm();
  for (int layer = 0; layer < 4; ++layer) {
    for (int i = 0; i < 4; ++i) linear(kHidden, kHidden);  // query, key, value, output
    norm(), linear(kFeedForward, kHidden), linear(kHidden, kFeedForward), norm();
  }
  linear(kHidden, kHidden), linear(28, kHidden);

  std::mt19937 generator(1);
  std::vector<std::int32_t> ids;
  std::size_t most = 0;
  for (std::int32_t batch = 0; batch < kBatches; ++batch) {
    std::set<std::int32_t> rows;
    for (int token = 0; token < 308; ++token) {
      const double place = std::uniform_real_distribution<double>()(generator);
      rows.insert(static_cast<std::int32_t>(std::pow(static_cast<double>(kVocabulary), place)) - 1);
    }
    most = std::max(most, rows.size());
    ids.insert(ids.end(), rows.begin(), rows.end());
    first_id_.push_back(static_cast<std::int64_t>(ids.size()));
  }
  table_ = parameter(kVocabulary, kHidden, memory_.random(static_cast<std::int64_t>(most), kHidden, DType::f32, 1e-3f),
                     true);
  ids_ = memory_.copy(ids);
  row_updates_ = memory_.copy(std::vector<std::int32_t>(kVocabulary));
  schedule_ = memory_.copy(falling_schedule(kSteps));
  state_ = memory_.copy(std::vector<StepState>(1));
}

double AdamWTraining::rows() const {
  return static_cast<double>(first_id_.back()) / kBatches;
}

AdamWCall AdamWTraining::next() {
  if (step_ == kSteps) {
    const std::vector<std::int32_t> none(kVocabulary);
    memory_.kernels().upload(row_updates_, none.data(), none.size() * sizeof(std::int32_t));
    step_ = 0;
  }
  const StepState state{.gradient_norm = 2, .updates = step_};
  memory_.kernels().upload(state_, &state, sizeof state);
  const auto batch = static_cast<std::size_t>(step_++ % kBatches);
  AdamWParameter table = table_;
  table.gradient = table.gradient.row_block(0, first_id_[batch + 1] - first_id_[batch]);
  return {dense_, table, ids_ + first_id_[batch], row_updates_, schedule_, state_, 1};
}

}  // namespace ember::variants
