// Products of many rows go to Matmul; the rest is one kernel for up to kMostJobs jobs, kThreads threads to a block:
//
//   product       dweight = doutᵀ in of few rows: a block has a tile of 64 x 64 elements of dweight, a thread 4 x 4 of
//                 them, and passes over the rows in steps of kStep, staged in shared memory. (O, I) of M rows: moves
//                 4 O I bytes, and (O + I) M halves once per tile; 2 M O I operations, below what the same bytes cost
//                 where M <= kFewRows, so that tensor cores would win nothing but another launch.
//   column sums   a block has 32 columns; thread rows take every kGroups-th row, then the first adds what the others
//                 have. Reads an element once, for one addition.
//   tokens        the embeddings' tables (token_sums.cuh): 128 threads to a row, 4 columns to a thread.
#include <algorithm>
#include <utility>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/deferred_gradients.h"
#include "kernels/cuda/matmul_operands.h"
#include "kernels/cuda/token_sums.cuh"
#include "kernels/cuda/work_list.cuh"
#include "runtime/cuda/launch.h"
#include "runtime/cuda/memory.h"

namespace ember {
namespace {

constexpr std::int64_t kFewRows = 64;
constexpr int kThreads = 256, kGroups = kThreads / kWarpSize;
constexpr int kTile = 64, kEach = 4, kAcross = kTile / kEach, kStep = 16;
constexpr int kTableRows = kThreads / kSumThreads;  // a block
constexpr std::size_t kMostJobs = 56;               // a launch

struct Job {
  float* to;
  const void* from;
  const __half* in;
  std::int64_t to_stride, from_stride, in_stride;
  int rows, cols, inputs;  // without inputs, column sums
  bool halves;             // whether `from` is f16
};

struct JobList {
  Job job[kMostJobs];
  int first_block[kMostJobs];
  int count, end;  // the jobs', and the block after their last; the tables' follow
  int table_rows;
  TokenSums tokens;
};
static_assert(sizeof(JobList) <= 4096, "all that the arguments of a kernel may be");

// ---- On the device --------------------------------------------------------------------------------------------------

template <typename T>
__device__ float sum_of_rows(const Job& job, int first, int c) {
  const T* from = static_cast<const T*>(job.from) + c;
  float total = 0;
#pragma unroll 4
  for (int row = first; row < job.rows; row += kGroups) {
    float x[1];
    load<1>(x, from + row * job.from_stride);
    total += x[0];
  }
  return total;
}

__device__ void sum_columns(const Job& job, int block) {
  EMBER_SHARED(float, of_groups, kThreads);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, group = static_cast<int>(threadIdx.x) / kWarpSize;
  const int c = block * kWarpSize + lane;
  float total = 0;
  if (c < job.cols) total = job.halves ? sum_of_rows<__half>(job, group, c) : sum_of_rows<float>(job, group, c);
  of_groups[threadIdx.x] = total;
  __syncthreads();
  if (group != 0 || c >= job.cols) return;
  for (int g = 1; g < kGroups; ++g) total += of_groups[g * kWarpSize + lane];
  job.to[c] = total;
}

// Columns [first, first + kTile) of kStep rows as floats, zeros past the end.
__device__ void stage(float* to, const __half* from, std::int64_t stride, int rows, int cols, int first) {
  for (int i = static_cast<int>(threadIdx.x); i < kStep * kTile; i += kThreads) {
    const int row = i / kTile, c = first + i % kTile;
    to[i] = row < rows && c < cols ? __half2float(from[row * stride + c]) : 0.0f;
  }
}

__device__ void multiply_tile(const Job& job, int block) {
  EMBER_SHARED(float, douts, kStep* kTile);
  EMBER_SHARED(float, ins, kStep* kTile);
  const int tiles = (job.inputs + kTile - 1) / kTile;
  const int output = block / tiles * kTile, input = block % tiles * kTile;
  const int x = static_cast<int>(threadIdx.x) % kAcross, y = static_cast<int>(threadIdx.x) / kAcross;
  const auto* dout = static_cast<const __half*>(job.from);
  float sums[kEach][kEach] = {};
  for (int begin = 0; begin < job.rows; begin += kStep) {
    if (begin > 0) __syncthreads();  // all have read the rows before
    stage(douts, dout + begin * job.from_stride, job.from_stride, job.rows - begin, job.cols, output);
    stage(ins, job.in + begin * job.in_stride, job.in_stride, job.rows - begin, job.inputs, input);
    __syncthreads();
    for (int row = 0; row < kStep; ++row) {
#pragma unroll
      for (int a = 0; a < kEach; ++a)
#pragma unroll
        for (int b = 0; b < kEach; ++b)
          sums[a][b] += douts[row * kTile + y + a * kAcross] * ins[row * kTile + x + b * kAcross];
    }
  }
#pragma unroll
  for (int a = 0; a < kEach; ++a)
#pragma unroll
    for (int b = 0; b < kEach; ++b) {
      const int o = output + y + a * kAcross, i = input + x + b * kAcross;
      if (o < job.cols && i < job.inputs) job.to[o * job.to_stride + i] = sums[a][b];
    }
}

__device__ void sum_table_rows(const TokenSums& tokens, int rows, int block) {
  const int thread = static_cast<int>(threadIdx.x), row = block * kTableRows + thread / kSumThreads;
  if (row >= rows) return;
  if (tokens.vectors)
    sum_tokens<4>(tokens, row, thread % kSumThreads);
  else
    sum_tokens<1>(tokens, row, thread % kSumThreads);
}

__global__ void __launch_bounds__(kThreads) gradient_sums_kernel(const __grid_constant__ JobList list) {
  const int block = static_cast<int>(blockIdx.x);
  if (block >= list.end) return sum_table_rows(list.tokens, list.table_rows, block - list.end);
  const int j = item_of(list.first_block, list.count, block);
  const Job& job = list.job[j];
  if (job.inputs == 0)
    sum_columns(job, block - list.first_block[j]);
  else
    multiply_tile(job, block - list.first_block[j]);
}

// ---- On the host ----------------------------------------------------------------------------------------------------

Job job_of(const GradientSum& sum) {
  return {sum.to.f32(),
          sum.from.data,
          static_cast<const __half*>(sum.in.data),
          sum.to.stride,
          sum.from.stride,
          sum.in.stride,
          static_cast<int>(sum.from.rows),
          static_cast<int>(sum.from.cols),
          static_cast<int>(sum.in.cols),
          sum.from.dtype == DType::f16};
}

unsigned blocks_of(const GradientSum& sum) {
  return sum.in.cols == 0 ? blocks_for(sum.from.cols, kWarpSize)
                          : blocks_for(sum.from.cols, kTile) * blocks_for(sum.in.cols, kTile);
}

// As many sums as a list holds, and one batch's tables, to a launch.
void compute(std::span<const GradientSum> sums, std::span<const TokenGradients> tokens, cudaStream_t stream) {
  while (!sums.empty() || !tokens.empty()) {
    JobList list{};
    unsigned blocks = 0;
    for (; !sums.empty() && static_cast<std::size_t>(list.count) < kMostJobs; sums = sums.subspan(1)) {
      list.job[list.count] = job_of(sums.front());
      list.first_block[list.count++] = static_cast<int>(blocks);
      blocks += blocks_of(sums.front());
    }
    list.end = static_cast<int>(blocks);
    if (!tokens.empty()) {
      const TokenGradients& now = tokens.front();
      list.tokens = TokenSums(now.to, now.from, now.batch);
      list.table_rows = static_cast<int>(rows_of_tables(now.to));
      blocks += blocks_for(list.table_rows, kTableRows);
      tokens = tokens.subspan(1);
    }
    launch("gradient_sums", stream, dim3(blocks), dim3(kThreads), 0, gradient_sums_kernel, list);
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

void* DeferredGradients::keep(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256, kLeast = std::size_t{1} << 20;
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  for (; block_ < memory_.size(); ++block_, used_ = 0)
    if (used_ + bytes <= memory_[block_].size()) break;
  if (block_ == memory_.size()) memory_.push_back(device_buffer(std::max(bytes, kLeast)));
  void* memory = static_cast<std::byte*>(memory_[block_].data()) + used_;
  used_ += bytes;
  return memory;
}

void DeferredGradients::add_parts(std::span<const Tensor> sums, const void* parts, std::int64_t count) {
  const auto size = static_cast<std::int64_t>(sums.size());
  for (std::int64_t s = 0; s < size; ++s) {
    const Tensor& sum = sums[static_cast<std::size_t>(s)];
    if (sum.cols == 0) continue;
    const std::int64_t stride = part_stride(sum.cols);
    auto* of_sum = count == 0 ? nullptr : static_cast<float*>(const_cast<void*>(parts)) + s * stride;
    few_rows_.push_back({sum, {of_sum, count, sum.cols, size * stride, DType::f32}, {}});
  }
}

void DeferredGradients::add_columns(Tensor sum, Tensor matrix) {
  require(has_shape(sum, 1, matrix.cols) && matrix.dtype == DType::f16, "column sums: shapes");
  if (sum.cols > 0) few_rows_.push_back({sum, matrix, {}});
}

void DeferredGradients::add_product(Tensor dweight, Tensor dout, Tensor in) {
  require_backward_weight_operands(dweight, dout, in);
  if (dweight.empty()) return;
  (in.rows <= kFewRows ? few_rows_ : many_rows_).push_back({dweight, dout, in});
}

void DeferredGradients::add_tokens(const EmbeddingTensors& dtables, Tensor dsum, const Batch& batch) {
  if (rows_of_tables(dtables) > 0 && dsum.cols > 0) tokens_.push_back({dtables, dsum, batch});
}

void DeferredGradients::start(const Stream& stream, Matmul& matmul, Tensor later) {
  const auto waits = [later](const GradientSum& product) {
    return product.to.rows == later.rows && product.to.cols == later.cols;
  };
  const auto first = std::stable_partition(many_rows_.begin(), many_rows_.end(), waits);
  const std::vector<GradientSum> products(std::make_reverse_iterator(many_rows_.end()),
                                          std::make_reverse_iterator(first));
  if (products.empty()) return;
  many_rows_.erase(first, many_rows_.end());
  multiply(products, matmul, &products_side_.begin(stream));
  started_ = true;
}

void DeferredGradients::finish(const Stream& stream, Matmul& matmul) {
  std::vector<GradientSum> products = std::exchange(many_rows_, {});
  const std::vector<GradientSum> sums = std::exchange(few_rows_, {});
  const std::vector<TokenGradients> tokens = std::exchange(tokens_, {});
  block_ = used_ = 0;
  std::reverse(products.begin(), products.end());
  const bool beside = !products.empty() && !(sums.empty() && tokens.empty());
  compute(sums, tokens, beside ? side_.begin(stream) : stream);
  multiply(products, matmul);
  if (beside) side_.join(stream);
  if (std::exchange(started_, false)) products_side_.join(stream);
  for (const Buffer& block : memory_) poison(block.data(), block.size(), stream);
}

}  // namespace ember
