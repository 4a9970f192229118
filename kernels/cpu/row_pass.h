// A pass over the rows of a matrix that may also sum columns, for gradients of parameters. The rows are cut into chunks
// that depend on nothing but their number; each chunk sums into memory of its own, and the chunks' sums are added in
// order. So the result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cpu/team.h"
#include "runtime/ceil_div.h"
#include "runtime/tensor.h"

namespace ember {

class RowPass {
 public:
  // Over a matrix (rows, cols). Every chunk is given `vectors` vectors of `cols` floats of its own.
  RowPass(std::int64_t rows, std::int64_t cols, int vectors, int threads)
      : rows_(rows),
        cols_(cols),
        chunk_rows_(std::max(kMinChunkRows, ceil_div(rows, kMaxChunks))),
        chunks_(ceil_div(rows, chunk_rows_)),
        vector_stride_(round_up(cols, 16)),
        vectors_(vectors),
        threads_(useful_threads(threads, chunks_, rows * cols)) {}

  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(chunks_ * vectors_ * vector_stride_) * sizeof(float);
  }

  // Calls body(begin, end, vector) for the rows [begin, end) of each chunk, where vector(i) is the chunk's i-th vector.
  // The first sums.size() of them start at zero and are added up into `sums`, each (cols); the others are not set.
  template <typename Body>
  void run(void* scratch, std::span<const Tensor> sums, const Body& body) const {
    auto* memory = static_cast<float*>(scratch);
    const auto vector_of = [&](std::int64_t chunk, std::int64_t i) {
      return memory + (chunk * vectors_ + i) * vector_stride_;
    };
    const auto count = static_cast<std::int64_t>(sums.size());
    parallel_for(chunks_, threads_, [&](std::int64_t chunk) {
      std::fill(vector_of(chunk, 0), vector_of(chunk, count), 0.0f);
      const std::int64_t begin = chunk * chunk_rows_;
      body(begin, std::min(begin + chunk_rows_, rows_), [&](std::int64_t i) { return vector_of(chunk, i); });
    });
    const std::int64_t blocks = ceil_div(cols_, kBlockCols);
    parallel_for(count * blocks, threads_, [&](std::int64_t task) {
      const std::int64_t i = task / blocks, begin = task % blocks * kBlockCols;
      const std::int64_t size = std::min(kBlockCols, cols_ - begin);
      float total[kBlockCols] = {};
      for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const float* part = vector_of(chunk, i) + begin;
        for (std::int64_t c = 0; c < size; ++c) total[c] += part[c];
      }
      std::copy(total, total + size, sums[static_cast<std::size_t>(i)].f32() + begin);
    });
  }

 private:
  static constexpr std::int64_t kMaxChunks = 64, kMinChunkRows = 8, kBlockCols = 128;

  std::int64_t rows_, cols_, chunk_rows_, chunks_, vector_stride_;
  int vectors_, threads_;
};

}  // namespace ember
