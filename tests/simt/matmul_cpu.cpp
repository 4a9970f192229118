// Matmul for the emulator, which has no cuBLASLt: the same operands and roundings, computed by oneDNN's sgemm on the
// f16 numbers as floats.
#include <cuda_fp16.h>
#include <fmt/format.h>

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <oneapi/dnnl/dnnl.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_operands.h"
#include "runtime/cuda/check.h"
#include "simt/grid.h"
#include "simt/half_to_float.h"
#include "simt/runtime_state.h"

namespace ember {
namespace {

// The tensor's numbers, rows adjacent.
std::vector<float> floats(Tensor t) {
  std::vector<float> out(static_cast<std::size_t>(t.size()));
  for (std::int64_t i = 0; i < t.size(); ++i) {
    const std::int64_t from = i / t.cols * t.stride + i % t.cols;
    out[static_cast<std::size_t>(i)] = t.dtype == DType::f32
                                           ? static_cast<const float*>(t.data)[from]
                                           : simt::half_to_float(static_cast<const std::uint16_t*>(t.data)[from]);
  }
  return out;
}

void store(Tensor t, const std::vector<float>& values) {
  for (std::int64_t i = 0; i < t.size(); ++i) {
    const std::int64_t to = i / t.cols * t.stride + i % t.cols;
    const float value = values[static_cast<std::size_t>(i)];
    if (t.dtype == DType::f32)
      static_cast<float*>(t.data)[to] = value;
    else
      static_cast<__half*>(t.data)[to] = __float2half_rn(value);
  }
}

// out (rows, cols) = op(a) op(b) + out, where op transposes if asked; `inner` terms in each sum.
void product(std::vector<float>& out, std::int64_t rows, std::int64_t cols, std::int64_t inner, bool transpose_a,
             Tensor a, bool transpose_b, Tensor b) {
  const std::vector<float> left = floats(a), right = floats(b);
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', rows, cols, inner, 1.0f,
                                          left.data(), a.cols, right.data(), b.cols, 1.0f, out.data(), cols);
  require(status == dnnl_success, "oneDNN's sgemm failed");
}

std::string text_of(std::initializer_list<Tensor> operands) {
  std::string text;
  for (const Tensor& operand : operands)
    text += fmt::format("{} x {} by {} ", operand.rows, operand.cols, operand.stride);
  return text;
}

}  // namespace

struct Matmul::State {
  cudaStream_t stream;
  std::set<std::string> shapes;

  // cuBLASLt's algorithms are measured when a shape comes up, which no recording can hold.
  void require_known(const std::string& shape) {
    cudaStreamCaptureStatus capturing{};
    check_cuda(cudaStreamIsCapturing(stream, &capturing), "asking for the state of a stream");
    if (capturing != cudaStreamCaptureStatusNone && !shapes.contains(shape))
      throw std::logic_error("a matrix product of a new shape in a recording; run it once before: " + shape);
    shapes.insert(shape);
  }

  // Runs the computation in the stream: now, or when the graph that records it is launched.
  template <typename Computation>
  void enqueue(Computation computation, const Stream* beside = nullptr) const {
    const cudaStream_t where = beside == nullptr ? stream : beside->get();
    const std::function<void()> work = computation;
    check_cuda(simt::perform(where, [work] { simt::run_library(work); }), "a matrix product");
    count_launch();
  }
};

Matmul::Matmul(cudaStream_t stream) : state_(new State{stream, {}}) {}
Matmul::~Matmul() = default;

void Matmul::forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  require_forward_operands(out, in, weight, bias);
  if (out.empty()) return;
  state_->require_known("forward " + text_of({out, in, weight, bias}));
  state_->enqueue([=] {
    std::vector<float> sums(static_cast<std::size_t>(out.size()));
    product(sums, out.rows, out.cols, in.cols, false, in, true, weight);
    if (!bias.empty()) {
      const std::vector<float> added = floats(bias);
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += added[i % added.size()];
    }
    store(out, sums);
  });
}

void Matmul::backward_input(Tensor din, Tensor dout, Tensor weight) {
  require_backward_input_operands(din, dout, weight);
  if (din.empty()) return;
  state_->require_known("backward_input " + text_of({din, dout, weight}));
  state_->enqueue([=] {
    std::vector<float> sums(static_cast<std::size_t>(din.size()));
    product(sums, din.rows, din.cols, dout.cols, false, dout, false, weight);
    store(din, sums);
  });
}

void Matmul::backward_weight(Tensor dweight, Tensor dout, Tensor in, const ProductBatch& batch, const Stream* beside) {
  require_backward_weight_operands(dweight, dout, in);
  if (dweight.empty()) return;
  state_->require_known(fmt::format("backward_weight {} x {}, {} {} {}", text_of({dweight, dout, in}), batch.count,
                                    batch.dweight, batch.dout, batch.in));
  const auto nth = [](Tensor first, std::int64_t step, std::int64_t n) {
    if (n > 0)
      first.data = static_cast<std::byte*>(first.data) + n * step * static_cast<std::int64_t>(size_of(first.dtype));
    return first;
  };
  state_->enqueue(
      [=] {
        for (std::int64_t n = 0; n < batch.count; ++n) {
          std::vector<float> sums(static_cast<std::size_t>(dweight.size()));
          product(sums, dweight.rows, dweight.cols, in.rows, true, nth(dout, batch.dout, n), false,
                  nth(in, batch.in, n));
          store(nth(dweight, batch.dweight, n), sums);
        }
      },
      beside);
}

// There is nothing to choose from.
std::string Matmul::algorithms() const {
  return {};
}
bool Matmul::use_algorithms(std::string_view) {
  return true;
}

}  // namespace ember
