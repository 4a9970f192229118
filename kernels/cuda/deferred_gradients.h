// Gradients of parameters that wait for the end of backward (Kernels::finish_gradients), so that those of all layers
// are a handful of launches. Column sums, the second stages of column_sums.cuh among them, the embeddings' tables and
// products of up to 64 rows, or of up to 768 where kernels start early, are jobs of one kernel, launched at start(),
// where there are products for tensor cores, and at finish(). Other products are Matmul's, one batched product for all
// layers of a shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/gradient_job.cuh"
#include "kernels/cuda/gradient_squares.h"
#include "kernels/cuda/matmul.h"
#include "kernels/kernels.h"
#include "runtime/arena.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/side_stream.h"
#include "runtime/tensor.h"

namespace ember {

// to = fromᵀ in or, without `in`, the column sums of `from`.
struct GradientSum {
  Tensor to, from, in;
  GradientKind kind;
};

// The tables' gradients from the rows of `from` (N, C), one for each token: token_sums.cuh.
struct TokenGradients {
  EmbeddingTensors to;
  Tensor from;
  Batch batch;
};

class DeferredGradients {
 public:
  explicit DeferredGradients(const DeviceInfo& device) : device_(device) {}

  // Everything that is added must stay as it is until finish().

  // (count, sums, part_stride(cols)) floats of device memory, 256-byte aligned. The same sequence of calls is given the
  // same memory again after each finish(), and no block is ever freed, because captured graphs refer to them.
  float* keep_parts(std::int64_t count, std::int64_t sums, std::int64_t cols);
  // sums[s] = sum over p of parts[p][s].  sums: (1, cols) f32; parts: from keep_parts(count, S, cols). Without parts
  // zeros.
  void add_parts(std::span<const Tensor> sums, float* parts, std::int64_t count);
  // sum = the column sums of `matrix`.  sum: (1, O) f32; matrix: (M, O) f16.
  void add_columns(Tensor sum, Tensor matrix);
  // dweight = doutᵀ in.  dweight: (O, I) f32, dout: (M, O), in: (M, I) f16.
  void add_product(Tensor dweight, Tensor dout, Tensor in);
  // The gradients of the rows of a batch's words and of all positions; of the types but the first zeros.  dtables: word
  // (U, C), position (P, C), type (T, C) f32; dsum: (N, C) f16.
  void add_tokens(const EmbeddingTensors& dtables, Tensor dsum, const Batch& batch);

  // Computes what was added since the last time, Matmul's products beside all else: together they fill the device,
  // apart neither does. `stream` is that of `matmul`.
  void finish(const Stream& stream, Matmul& matmul);
  // Begins beside what `stream` is given next, to finish(), with the products that were added so far: with Matmul's but
  // for those of the shape of `later`; without one, with the sums too where there are products of our own.
  void start(const Stream& stream, Matmul& matmul, Tensor later);

  // Sums of squares, which together are those of all `gradients`, with room for one more behind them. Empty unless the
  // last finish(), called or captured, computed just these, none of them by Matmul or of rows apart, and had room.
  std::span<double> squares_of(std::span<const Tensor> gradients) const { return squares_.of(gradients); }

 private:
  std::vector<GradientSum> take(bool with_sums);

  const DeviceInfo& device_;
  std::vector<GradientSum> many_rows_, products_, sums_;  // Matmul's products; those of weight_gradients.cuh; all else
  std::vector<TokenGradients> tokens_;
  GradientSquares squares_;
  std::vector<Buffer> memory_;
  SideStream side_, products_side_;
  bool started_ = false;
  std::size_t block_ = 0, used_ = 0;  // of memory_: the block that keep_parts() takes from, and what is taken of it
};

}  // namespace ember
