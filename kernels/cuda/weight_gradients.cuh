// Gradients of weights, dweight = doutᵀ in, on tensor cores, mma.m16n8k16, for blocks of launches that compute what is
// there, of all layers and shapes (deferred_gradients.cu).  dweight: (O, I) f32, dout: (M, O), in: (M, I) f16.
//
// A block has a tile of dweight and passes over the rows of dout and in, the product's inner dimension, in stages of
// kStageRows: while a stage is multiplied the next kStages - 1 are on their way to shared memory. Both operands lie by
// rows of the inner dimension, so both come from there transposed. Rows and columns beyond the last are zeros. The sum
// over the rows has one order.
//
// A product of (O, I) and M rows moves 4 O I bytes, and 2 M (O ceil(I / 160) + I ceil(O / 64)) from the second-level
// cache; 2 M O I operations. For TinyBERT at 320 rows, three layers and the last one's queries, keys and values, by the
// block's tile:
//
//   tile        warps  a warp's   tiles  cache    of the sums are of dweight
//   64 x 160    2 x 4  32 x 40    384    53 MB    94%
//   128 x 160   4 x 2  32 x 80    214    36 MB    85%
//
// An H200 has 132 multiprocessors, so that the 384 of the first, three to a multiprocessor, would be on the device at
// once and leave little of it idle; the second's two to one leave a fifth.
#pragma once

#include "kernels/cuda/gradient_job.cuh"
#include "kernels/cuda/shared_tile.cuh"
#include "runtime/cuda/device.h"

namespace ember::weight_gradients {

constexpr int kThreads = kGradientThreads;
constexpr int kStep = 16;  // rows of an mma

// Of the block's tile: so many warps side by side, each with kM fragments of 16 outputs and kN of 8 inputs.
constexpr int kWarpsOfInputs = 4, kM = 2, kN = 5;
constexpr int kOutputs = kThreads / kWarpSize / kWarpsOfInputs * kM * 16, kInputs = kWarpsOfInputs * kN * 8;

// How many blocks a multiprocessor's registers must have room for, and the stages.
constexpr int kTogether = 3;
constexpr int kStageRows = 32, kStages = 4;

constexpr int kDoutStride = tile_stride(kOutputs), kInStride = tile_stride(kInputs);
constexpr int kStageHalves = kStageRows * (kDoutStride + kInStride);
constexpr std::size_t kSharedBytes = sizeof(std::uint16_t) * kStages * kStageHalves;
constexpr std::int64_t kMostRows = 768;  // of 1,024 hardly faster than Matmul's, of 1,232 slower (docs/performance.md)

// ---- On the device --------------------------------------------------------------------------------------------------

// What the calling thread copies of each stage: a vector of every kAtOnce-th row, dout's or in's.
class Copies {
 public:
  __device__ Copies(const GradientJob& job, int output, int input) : left_(job.rows) {
    const int vector = static_cast<int>(threadIdx.x) % kVectors;
    row_ = static_cast<int>(threadIdx.x) / kVectors;
    const bool of_dout = vector < kDoutVectors;
    const int c = (of_dout ? vector : vector - kDoutVectors) * kTileVector;
    exists_ = of_dout ? output + c < job.cols : input + c < job.inputs;
    stride_ = of_dout ? job.from_stride : job.in_stride;
    from_ = (of_dout ? static_cast<const __half*>(job.from) + output : job.in + input) + row_ * stride_ + c;
    to_stride_ = of_dout ? kDoutStride : kInStride;
    to_ = (of_dout ? 0 : kStageRows * kDoutStride) + row_ * to_stride_ + c;
  }

  // Begins with the next stage, whose group ends here; an empty one when all rows are under way.
  __device__ void ask(std::uint16_t* stage) {
    if (left_ > 0 && row_ < kAtOnce) {
#pragma unroll
      for (int r = 0; r < kStageRows; r += kAtOnce)
        if (row_ + r < kStageRows)
          copy_or_clear(stage + to_ + r * to_stride_, from_ + r * stride_, exists_ && row_ + r < left_);
      from_ += kStageRows * stride_;
      left_ -= kStageRows;
    }
    commit_copies();
  }

 private:
  static constexpr int kDoutVectors = kOutputs / kTileVector, kVectors = kDoutVectors + kInputs / kTileVector;
  static constexpr int kAtOnce = kThreads / kVectors;  // rows

  const __half* from_;
  std::int64_t stride_;
  int row_, to_, to_stride_, left_;
  bool exists_;
};

// A warp's part of the tile: its first output and input there, and its sums.
struct WarpTile {
  int output, input;
  float d[kM][kN][4] = {};

  __device__ WarpTile() {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    output = warp / kWarpsOfInputs * kM * 16;
    input = warp % kWarpsOfInputs * kN * 8;
  }

  // d += doutᵀ in of a stage.
  __device__ void multiply(const std::uint16_t* stage) {
    // The row of the four 8 x 8 matrices that a lane points to: those of dout by outputs first, those of in by rows.
    const std::uint16_t* dout =
        stage + (lane_index() / 16 * 8 + lane_index() % 8) * kDoutStride + output + lane_index() / 8 % 2 * 8;
    const std::uint16_t* in = stage + kStageRows * kDoutStride + lane_index() % 16 * kInStride + input;
#pragma unroll
    for (int k = 0; k < kStageRows; k += kStep) {
      std::uint32_t a[kM][4], b[kN][2];
#pragma unroll
      for (int m = 0; m < kM; ++m) ldmatrix_x4_trans(a[m], dout + k * kDoutStride + m * 16);
#pragma unroll
      for (int n = 0; n + 1 < kN; n += 2) {
        std::uint32_t two[4];
        ldmatrix_x4_trans(two, in + k * kInStride + n * 8 + lane_index() / 16 * 8);
        b[n][0] = two[0], b[n][1] = two[1], b[n + 1][0] = two[2], b[n + 1][1] = two[3];
      }
      static_assert(kN % 2 == 1);
      ldmatrix_x2_trans(b[kN - 1], in + k * kInStride + (kN - 1) * 8);
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int n = 0; n < kN; ++n) mma_m16n8k16(d[m][n], a[m], b[n][0], b[n][1]);
    }
  }

  // `first_output`, `first_input`: the block's. Inputs come by eight, so a fragment has all of them or none. The
  // sums beyond are zero, or not finite as some of those before them.
  __device__ void write(const GradientJob& job, int first_output, int first_input, float& squares) const {
    const int o = first_output + output + lane_index() / 4, i = first_input + input;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = o + m * 16 + half * 8;
        if (row >= job.cols) continue;
        float* to = job.to + row * job.to_stride + i + lane_index() % 4 * 2;
#pragma unroll
        for (int n = 0; n < kN; ++n)
          if (i + n * 8 < job.inputs)
            *reinterpret_cast<float2*>(to + n * 8) = make_float2(d[m][n][2 * half], d[m][n][2 * half + 1]);
      }
#pragma unroll
    for (const auto& fragments : d)
#pragma unroll
      for (const auto& fragment : fragments)
#pragma unroll
        for (const float x : fragment) squares += x * x;
  }
};

// Tile `block` of a product; adds what it writes to the squares. `memory`: kSharedBytes.
__device__ inline void multiply(const GradientJob& job, int block, std::uint16_t* memory, float& squares) {
  const int across = (job.inputs + kInputs - 1) / kInputs;
  const int output = block / across * kOutputs, input = block % across * kInputs;
  Copies copies(job, output, input);
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) copies.ask(memory + stage * kStageHalves);
  WarpTile mine;
  const int stages = (job.rows + kStageRows - 1) / kStageRows;
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    await_copies_but<kStages - 2>();
    // The stage is there for all; all have read the one before, whose place the next to be asked for takes.
    __syncthreads();
    copies.ask(memory + (stage + kStages - 1) % kStages * kStageHalves);
    mine.multiply(memory + stage % kStages * kStageHalves);
  }
  mine.write(job, output, input, squares);
}

// ---- On the host ----------------------------------------------------------------------------------------------------

inline unsigned blocks_of(const GradientJob& job) {
  return blocks_for(job.cols, kOutputs) * blocks_for(job.inputs, kInputs);
}

// Where kernels start early (runtime/cuda/device.h), from compute capability 9.0 on: operands of f16 whose vectors of 8
// are aligned, of up to kMostRows rows, and a gradient whose pairs are.
inline bool serves(const Tensor& dweight, const Tensor& dout, const Tensor& in, const DeviceInfo& device) {
  return starts_early() && device.shared_memory >= kSharedBytes && !in.empty() && in.rows <= kMostRows &&
         vectorises(kTileVector, {dout, in}) && vectorises(2, {dweight});
}

}  // namespace ember::weight_gradients
