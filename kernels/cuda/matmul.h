// Matrix products on the device: f16 operands, sums in f32, of one term or more, by cuBLASLt (tests/simt/matmul_cpu.cpp
// under the emulator). Rows may lie apart (Tensor::stride), so blocks of columns are operands like any other. All work
// goes to the stream but what is to go beside it.
//
// The same product gives the same bits, run after run: cuBLASLt has several algorithms for a shape, whose sums differ
// in order. The fastest of its suggestions is found by measurement the first time that a shape comes up, and kept (see
// AlgorithmCache). Algorithms that add with atomics are not taken.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/cuda/stream.h"
#include "runtime/tensor.h"

namespace ember {

// Products of token counts up to the same multiple of this have the same algorithm, so batches are padded to one
// (gather_batch.cu).
inline constexpr std::int64_t kRowStep = 32;

// Products of one shape: how many, and the elements from an operand to the same one of the next.
struct ProductBatch {
  std::int64_t count = 1, dweight = 0, dout = 0, in = 0;
};

class Matmul {
 public:
  // On the current device. Throws Error when cuBLASLt cannot be used there.
  explicit Matmul(cudaStream_t stream);
  ~Matmul();  // keeps what was measured in a file

  // out = in weightᵀ + bias.  out: (M, O) f16 or f32, in: (M, I) f16, weight: (O, I) f16, bias: (O) of out's type, or
  // empty.
  void forward(Tensor out, Tensor in, Tensor weight, Tensor bias);
  // din = dout weight.  din: (M, I) f16, dout: (M, O) f16.
  void backward_input(Tensor din, Tensor dout, Tensor weight);
  // dweight = doutᵀ in, for each product of the batch.  dweight: (O, I) f32; dout: (M, O), in: (M, I) f16. On the
  // stream `beside`, if given, of which there may be one, with a workspace of its own.
  void backward_weight(Tensor dweight, Tensor dout, Tensor in, const ProductBatch& batch = {},
                       const Stream* beside = nullptr);

  // The algorithms of all shapes so far as text, for a checkpoint; and such text taken back, which goes before what is
  // measured or was read from the file. Text of another device or version of cuBLASLt changes nothing, since its bits
  // are out of reach; then it returns false. Throws Error when it is not such a text.
  std::string algorithms() const;
  bool use_algorithms(std::string_view text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ember
