// Where a benchmark's operands live: memory of a device, filled with numbers like a model's.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/work.h"
#include "data/dataset.h"
#include "kernels/kernels.h"
#include "model/batches.h"
#include "model/config.h"

namespace ember {

// One size at which operations are measured.
struct Problem {
  BertConfig model;
  Dataset texts;  // of one batch
};

class Workspace {
 public:
  // Kernels and problem must outlive it. `frozen_width` as Backend has it.
  Workspace(Kernels& kernels, const Problem& problem, double frozen_width = 0);
  Workspace(Kernels& kernels, Problem&& problem, double frozen_width = 0) = delete;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  Kernels& kernels() const { return kernels_; }
  const BertConfig& model() const { return model_; }
  // All texts, in the device's memory, with targets.
  const Batch& batch() const { return batch_; }
  BatchSize batch_size() const;
  // Cuts it from the data set anew; each time the queue must be at its beginning.
  Batch gather() { return batches_.gather(batches_.exact_shape(texts_.size())); }
  void rewind() { batches_.rewind(); }
  Widths widths() const;
  // With frozen weights.
  Widths frozen_widths() const;
  // Bytes of an element of the optimizer's working copy; 0 where there is none.
  double working_width() const;

  // New tensors, valid as long as the workspace. The numbers are uniform on [-1, 1] times `scale`, so none that
  // operations make of them is subnormal, which would take a processor's slow way.
  Tensor activations(std::int64_t rows, std::int64_t cols, float scale = 1);
  Tensor floats(std::int64_t rows, std::int64_t cols, float scale = 1);
  Tensor product_weights(std::int64_t rows, std::int64_t cols);  // in product_type()
  // Like a LayerNorm's: weights near one, biases near zero; and the moments of rows of the numbers above.
  LayerNormTensors norm(std::int64_t cols);
  Moments moments(std::int64_t rows);
  // f32 weights, moments, gradient (`gradient_rows`; as many as the weights where negative) and working copy.
  AdamWParameter parameter(std::int64_t rows, std::int64_t cols, std::int64_t gradient_rows = -1);

  // Values in the device's memory.
  template <typename T>
  T* upload(const std::vector<T>& values) {
    auto* to = static_cast<T*>(allocate(values.size() * sizeof(T)));
    kernels_.upload(to, values.data(), values.size() * sizeof(T));
    return to;
  }

 private:
  Batch gather_all();
  Tensor tensor(std::int64_t rows, std::int64_t cols, DType type, float scale, float offset = 0);
  void* allocate(std::size_t bytes);

  Kernels& kernels_;
  const BertConfig& model_;
  const Dataset& texts_;
  Batches batches_;
  Batch batch_;
  double frozen_width_;
  std::vector<Buffer> memory_;
};

}  // namespace ember
