#include "bench/workspace.h"

#include <algorithm>

#include "bench/shapes.h"

namespace ember {
namespace {

constexpr std::uint32_t kSeed = 0x9E3779B9u;

// Xorshift (Marsaglia 2003): any numbers do, and a model has many.
float next_uniform(std::uint32_t& state) {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f;
}

}  // namespace

Workspace::Workspace(Kernels& kernels, const Problem& problem, double frozen_width)
    : kernels_(kernels),
      model_(problem.model),
      texts_(problem.texts),
      batches_(kernels, model_, texts_),
      batch_(gather_all()),
      frozen_width_(frozen_width) {}

// Without a filling, and with the number of ids as it is, so that every backend has the same to do.
Batch Workspace::gather_all() {
  const BatchShape shape = batches_.exact_shape(texts_.size());
  batches_.reserve({shape.tokens, shape.sequences});
  Batch batch = gather();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch.unique));
  kernels_.download(ids.data(), batch.unique_ids, ids.size() * sizeof(std::int32_t));
  batch.unique = std::find(ids.begin(), ids.end(), -1) - ids.begin();
  return batch;
}

BatchSize Workspace::batch_size() const {
  return size_of_batch(texts_, 0, texts_.size());
}

Widths Workspace::widths() const {
  return {static_cast<double>(size_of(kernels_.activation_type())),
          static_cast<double>(size_of(kernels_.product_type()))};
}

Widths Workspace::frozen_widths() const {
  return {widths().activation, frozen_width_ > 0 ? frozen_width_ : widths().product};
}

double Workspace::working_width() const {
  return kernels_.product_type() == DType::f32 ? 0 : widths().product;
}

Tensor Workspace::activations(std::int64_t rows, std::int64_t cols, float scale) {
  return tensor(rows, cols, kernels_.activation_type(), scale);
}

Tensor Workspace::floats(std::int64_t rows, std::int64_t cols, float scale) {
  return tensor(rows, cols, DType::f32, scale);
}

Tensor Workspace::product_weights(std::int64_t rows, std::int64_t cols) {
  return tensor(rows, cols, kernels_.product_type(), 0.04f);
}

LayerNormTensors Workspace::norm(std::int64_t cols) {
  return {tensor(1, cols, DType::f32, 0.1f, 1), floats(1, cols, 0.1f)};
}

// The mean of uniform numbers on [-1, 1] is 0, their variance 1/3.
Moments Workspace::moments(std::int64_t rows) {
  return {floats(1, rows, 0.1f), tensor(1, rows, DType::f32, 0.1f, 1.7f)};
}

AdamWParameter Workspace::parameter(std::int64_t rows, std::int64_t cols, std::int64_t gradient_rows) {
  AdamWParameter parameter;
  parameter.weights = floats(rows, cols, 0.04f);
  parameter.first_moment = floats(rows, cols, 1e-3f);
  parameter.second_moment = tensor(rows, cols, DType::f32, 1e-7f, 1e-6f);
  parameter.gradient = floats(gradient_rows < 0 ? rows : gradient_rows, cols, 1e-3f);
  if (working_width() > 0) parameter.working = product_weights(rows, cols);
  return parameter;
}

Tensor Workspace::tensor(std::int64_t rows, std::int64_t cols, DType type, float scale, float offset) {
  const auto count = static_cast<std::size_t>(rows * cols);
  std::vector<float> values(count);
  std::uint32_t state = kSeed + static_cast<std::uint32_t>(memory_.size());
  for (float& value : values) value = offset + scale * next_uniform(state);
  if (type == DType::f32) return matrix(upload(values), rows, cols, type);
  // The device itself rounds them.
  const Buffer exact = kernels_.allocate(count * sizeof(float));
  kernels_.upload(exact.data(), values.data(), count * sizeof(float));
  const Tensor rounded = matrix(allocate(count * size_of(type)), rows, cols, type);
  kernels_.round_weights(rounded, matrix(exact.data(), rows, cols));
  return rounded;
}

void* Workspace::allocate(std::size_t bytes) {
  memory_.push_back(kernels_.allocate(bytes));
  return memory_.back().data();
}

}  // namespace ember
