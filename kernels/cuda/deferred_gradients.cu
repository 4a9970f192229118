// What was added is computed by one of two kernels, of kThreads threads to a block, for up to kMostJobs jobs and the
// tables of one batch: weights' gradients on tensor cores (weight_gradients.cuh), where that serves them, in the first
// blocks, and the small sums (gradient_sums.cuh) in the others; products of many rows that it does not serve go to
// Matmul.
#include <algorithm>
#include <utility>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/deferred_gradients.h"
#include "kernels/cuda/gradient_sums.cuh"
#include "kernels/cuda/matmul_operands.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/token_sums.cuh"
#include "kernels/cuda/weight_gradients.cuh"
#include "kernels/cuda/work_list.cuh"
#include "runtime/ceil_div.h"
#include "runtime/cuda/launch.h"
#include "runtime/cuda/memory.h"

namespace ember {
namespace {

constexpr int kThreads = kGradientThreads;
constexpr std::size_t kMostJobs = 56;  // a launch

struct JobList {
  GradientJob job[kMostJobs];
  int first_block[kMostJobs];
  int count, end;  // the jobs', and the block after their last; the tables' follow
  int first_sum;   // the block after the last product's for tensor cores
  int table_rows;
  TokenSums tokens;
  double* squares;  // a sum for each block (gradient_squares.h); null: nowhere
};
static_assert(sizeof(JobList) <= 4096, "all that the arguments of a kernel may be");

// ---- On the device --------------------------------------------------------------------------------------------------

__device__ void sum_table_rows(const JobList& list, int block, float* memory, float& squares) {
  if (list.tokens.vectors)
    sum_tokens<gradient_sums::kVectorColumns>(list.tokens, list.table_rows, block, memory, squares);
  else
    sum_tokens<1>(list.tokens, list.table_rows, block, memory, squares);
}

__device__ void sum(const JobList& list, int block, float* memory, float& squares) {
  using namespace gradient_sums;
  if (block >= list.end) return sum_table_rows(list, block - list.end, memory, squares);
  const int j = item_of(list.first_block, list.count, block);
  const GradientJob& job = list.job[j];
  const int part = block - list.first_block[j];
  if (job.kind == GradientKind::few_rows)
    multiply_few_rows(job, part, memory, squares);
  else if (job.vectors)
    sum_columns<kVectorColumns>(job, part, memory, squares);
  else
    sum_columns<1>(job, part, memory, squares);
}

// `squares`: of the 40 or fewer numbers that the thread wrote. A float holds them: each is a sum over the rows of
// halves, of products of two, or of what is stored as halves besides, times a normalised number for a LayerNorm's
// weight, so that it is far below 2^60 or not finite. What begins to vanish, below 2^-63, no norm needs. All threads of
// a block call.
__device__ void leave_squares(float squares, double* sums) {
  if (sums == nullptr) return;
  const double sum = block_sum<kThreads>(static_cast<double>(squares));
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Lists without products for tensor cores; and those that begin with some, in blocks before `first_sum`.
__global__ void __launch_bounds__(kThreads) gradient_sums_kernel(const __grid_constant__ JobList list) {
  EMBER_SHARED(float, memory, gradient_sums::kSharedFloats);
  await_previous_grid();
  float squares = 0;
  sum(list, static_cast<int>(blockIdx.x), memory, squares);
  leave_squares(squares, list.squares);
}

__global__ void __launch_bounds__(kThreads, weight_gradients::kTogether)
    gradients_kernel(const __grid_constant__ JobList list) {
  if (!code_can_await()) return __trap();  // serves() says no there, so the rest need not be compiled
  static_assert(weight_gradients::kSharedBytes >= sizeof(float) * gradient_sums::kSharedFloats);
  EMBER_DYNAMIC_SHARED(memory);
  await_previous_grid();
  const int block = static_cast<int>(blockIdx.x);
  float squares = 0;
  if (block >= list.first_sum) {
    sum(list, block, reinterpret_cast<float*>(memory), squares);
  } else {
    const int j = item_of(list.first_block, list.count, block);
    weight_gradients::multiply(list.job[j], block - list.first_block[j], reinterpret_cast<std::uint16_t*>(memory),
                               squares);
  }
  leave_squares(squares, list.squares);
}

// ---- On the host ----------------------------------------------------------------------------------------------------

GradientJob job_of(const GradientSum& sum) {
  return {sum.to.f32(),
          sum.from.data,
          static_cast<const __half*>(sum.in.data),
          sum.to.stride,
          sum.from.stride,
          sum.in.stride,
          static_cast<int>(sum.from.rows),
          static_cast<int>(sum.from.cols),
          static_cast<int>(sum.in.cols),
          sum.kind,
          sum.from.dtype == DType::f16,
          vectorises(gradient_sums::kVectorColumns, {sum.from})};
}

unsigned blocks_of(const GradientJob& job) {
  using namespace gradient_sums;
  switch (job.kind) {
    case GradientKind::product:
      return weight_gradients::blocks_of(job);
    case GradientKind::few_rows:
      return blocks_for(job.cols, kTile) * blocks_for(job.inputs, kTile);
    case GradientKind::columns:
      break;
  }
  return blocks_for(job.cols, kWarpSize * (job.vectors ? kVectorColumns : 1));
}

// As many sums as a list holds, and one batch's tables, to a launch. Products for tensor cores come first.
void compute(std::span<const GradientSum> sums, std::span<const TokenGradients> tokens, GradientSquares& squares,
             cudaStream_t stream) {
  for (const GradientSum& sum : sums) squares.add(sum.to);
  for (const TokenGradients& of : tokens)
    for (const Tensor& table : {of.to.word, of.to.position, of.to.type.row_block(1, of.to.type.rows - 1)})
      squares.add(table);
  while (!sums.empty() || !tokens.empty()) {
    JobList list{};
    unsigned blocks = 0;
    for (; !sums.empty() && static_cast<std::size_t>(list.count) < kMostJobs; sums = sums.subspan(1)) {
      const GradientJob& job = list.job[list.count] = job_of(sums.front());
      list.first_block[list.count++] = static_cast<int>(blocks);
      blocks += blocks_of(job);
      if (job.kind == GradientKind::product) list.first_sum = static_cast<int>(blocks);
    }
    list.end = static_cast<int>(blocks);
    if (!tokens.empty()) {
      const TokenGradients& now = tokens.front();
      list.tokens = TokenSums(now.to, now.from, now.batch);
      list.table_rows = static_cast<int>(rows_of_tables(now.to));
      blocks += token_blocks(list.tokens, list.table_rows);
      tokens = tokens.subspan(1);
    }
    list.squares = squares.take(blocks);
    if (list.first_sum > 0)
      launch_early("gradients", stream, dim3(blocks), dim3(kThreads), weight_gradients::kSharedBytes, gradients_kernel,
                   list);
    else
      launch_early("gradient_sums", stream, dim3(blocks), dim3(kThreads), 0, gradient_sums_kernel, list);
  }
}

bool same_layout(const Tensor& a, const Tensor& b) {
  return a.rows == b.rows && a.cols == b.cols && a.stride == b.stride;
}

// Elements from a to b.
std::int64_t distance(const Tensor& a, const Tensor& b) {
  const auto bytes = reinterpret_cast<std::intptr_t>(b.data) - reinterpret_cast<std::intptr_t>(a.data);
  return bytes / static_cast<std::int64_t>(size_of(a.dtype));
}

// Each product with all later ones of its layout that lie at equal distances. Backward goes through the layers from the
// last to the first, memory the other way, so that the products come in the order opposite to that of their calls.
void multiply(std::span<const GradientSum> products, Matmul& matmul, const Stream* beside = nullptr) {
  std::vector<bool> done(products.size());
  for (std::size_t i = 0; i < products.size(); ++i) {
    if (done[i]) continue;
    const GradientSum& first = products[i];
    ProductBatch batch;
    for (std::size_t j = i + 1; j < products.size(); ++j) {
      const GradientSum& other = products[j];
      if (!same_layout(first.to, other.to) || !same_layout(first.from, other.from) || !same_layout(first.in, other.in))
        continue;
      const ProductBatch apart{batch.count + 1, distance(first.to, other.to), distance(first.from, other.from),
                               distance(first.in, other.in)};
      const bool fits = batch.count == 1
                            ? apart.dweight > 0 && apart.dout > 0 && apart.in > 0
                            : apart.dweight == batch.count * batch.dweight && apart.dout == batch.count * batch.dout &&
                                  apart.in == batch.count * batch.in;
      if (!fits) continue;
      if (batch.count == 1)
        batch = apart;
      else
        ++batch.count;
      done[j] = true;
    }
    matmul.backward_weight(first.to, first.from, first.in, batch, beside);
  }
}

}  // namespace

float* DeferredGradients::keep_parts(std::int64_t count, std::int64_t sums, std::int64_t cols) {
  constexpr std::size_t kAlignment = 256, kLeast = std::size_t{1} << 20;
  const std::size_t bytes = round_up(part_bytes(count, sums, cols), kAlignment);
  for (; block_ < memory_.size(); ++block_, used_ = 0)
    if (used_ + bytes <= memory_[block_].size()) break;
  if (block_ == memory_.size()) memory_.push_back(device_buffer(std::max(bytes, kLeast)));
  float* parts = memory_[block_].f32() + used_ / sizeof(float);
  used_ += bytes;
  return parts;
}

void DeferredGradients::add_parts(std::span<const Tensor> sums, float* parts, std::int64_t count) {
  const auto size = static_cast<std::int64_t>(sums.size());
  for (std::int64_t s = 0; s < size; ++s) {
    const Tensor& sum = sums[static_cast<std::size_t>(s)];
    if (sum.cols == 0) continue;
    const std::int64_t stride = part_stride(sum.cols);
    float* of_sum = count == 0 ? nullptr : parts + s * stride;
    sums_.push_back({sum, {of_sum, count, sum.cols, size * stride, DType::f32}, {}, GradientKind::columns});
  }
}

void DeferredGradients::add_columns(Tensor sum, Tensor matrix) {
  require(has_shape(sum, 1, matrix.cols) && matrix.dtype == DType::f16, "column sums: shapes");
  if (sum.cols > 0) sums_.push_back({sum, matrix, {}, GradientKind::columns});
}

void DeferredGradients::add_product(Tensor dweight, Tensor dout, Tensor in) {
  require_backward_weight_operands(dweight, dout, in);
  if (dweight.empty()) return;
  if (weight_gradients::serves(dweight, dout, in, device_))
    products_.push_back({dweight, dout, in, GradientKind::product});
  else if (in.rows <= gradient_sums::kFewRows)
    sums_.push_back({dweight, dout, in, GradientKind::few_rows});
  else
    many_rows_.push_back({dweight, dout, in, GradientKind::product});
}

void DeferredGradients::add_tokens(const EmbeddingTensors& dtables, Tensor dsum, const Batch& batch) {
  if (rows_of_tables(dtables) > 0 && dsum.cols > 0) tokens_.push_back({dtables, dsum, batch});
}

// The products of weight_gradients.cuh, those that take long first, and then, if they are wanted, the sums.
std::vector<GradientSum> DeferredGradients::take(bool with_sums) {
  std::vector<GradientSum> list = std::exchange(products_, {});
  std::stable_sort(list.begin(), list.end(),
                   [](const GradientSum& a, const GradientSum& b) { return a.in.rows > b.in.rows; });
  if (!with_sums) return list;
  list.insert(list.end(), sums_.begin(), sums_.end());
  sums_.clear();
  return list;
}

void DeferredGradients::start(const Stream& stream, Matmul& matmul, Tensor later) {
  if (!products_.empty()) {
    compute(take(later.empty()), {}, squares_, products_side_.begin(stream));
    started_ = true;
  }
  const auto waits = [later](const GradientSum& product) {
    return product.to.rows == later.rows && product.to.cols == later.cols;
  };
  const auto first = std::stable_partition(many_rows_.begin(), many_rows_.end(), waits);
  const std::vector<GradientSum> products(std::make_reverse_iterator(many_rows_.end()),
                                          std::make_reverse_iterator(first));
  if (products.empty()) return;
  many_rows_.erase(first, many_rows_.end());
  squares_.omit();
  multiply(products, matmul, &products_side_.begin(stream));
  started_ = true;
}

void DeferredGradients::finish(const Stream& stream, Matmul& matmul) {
  const std::vector<GradientSum> sums = take(true);
  std::vector<GradientSum> many_rows = std::exchange(many_rows_, {});
  const std::vector<TokenGradients> tokens = std::exchange(tokens_, {});
  block_ = used_ = 0;
  if (!many_rows.empty()) squares_.omit();
  std::reverse(many_rows.begin(), many_rows.end());
  const bool beside = !many_rows.empty() && !(sums.empty() && tokens.empty());
  compute(sums, tokens, squares_, beside ? side_.begin(stream) : stream);
  squares_.finish();
  multiply(many_rows, matmul);
  if (beside) side_.join(stream);
  if (std::exchange(started_, false)) products_side_.join(stream);
  for (const Buffer& block : memory_) poison(block.data(), block.size(), stream);
}

}  // namespace ember
