// Matrix products on the device: f16 operands, sums in f32, by cuBLASLt (tests/simt/matmul_cpu.cpp under the emulator).
// Rows may lie apart (Tensor::stride), so blocks of columns are operands like any other. All work goes to the stream.
//
// The same product gives the same bits, run after run: cuBLASLt has several algorithms for a shape, whose sums differ
// in order. The fastest of its suggestions is found by measurement the first time that a shape comes up, and kept (see
// AlgorithmCache). Algorithms that add with atomics are not taken.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <string_view>

#include "runtime/tensor.h"

namespace ember {

class Matmul {
 public:
  // On the current device. Throws Error when cuBLASLt cannot be used there.
  explicit Matmul(cudaStream_t stream);
  Matmul(Matmul&&) noexcept;
  Matmul& operator=(Matmul&&) noexcept;
  ~Matmul();  // keeps what was measured in a file

  // out = in weightᵀ + bias.  out: (M, O) f16 or f32, in: (M, I) f16, weight: (O, I) f16, bias: (O) of out's type, or
  // empty.
  void forward(Tensor out, Tensor in, Tensor weight, Tensor bias);
  // din = dout weight, or din += dout weight when `accumulate`.  din: (M, I) f16, dout: (M, O) f16.
  void backward_input(Tensor din, Tensor dout, Tensor weight, bool accumulate);
  // dweight = doutᵀ in, and dbias = column sums of dout where the product does that on the way. Returns whether it did;
  // the caller sums otherwise. dweight: (O, I) f32; dbias: (O) f32 or empty. No rows (M = 0) give zeros.
  [[nodiscard]] bool backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in);

  // The algorithms of all shapes so far as text, for a checkpoint; and such text taken back, which goes before what is
  // measured or was read from the file. Text of another device or version of cuBLASLt changes nothing, since its bits
  // are out of reach. Throws Error when it is not such a text.
  std::string algorithms() const;
  void use_algorithms(std::string_view text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ember
