// What kernels/cuda/matmul.cpp asks of cuBLASLt and which algorithms it takes, with a cuBLASLt that only says what it
// was asked (cublaslt_fake.h). What a product computes, tests/cuda/matmul_test.cpp asks on a GPU.
#include <cublasLt.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>

#include "kernels/cuda/matmul.h"
#include "runtime/cuda/check.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/graph.h"
#include "tests/simt/cublaslt_fake.h"
#include "tests/simt/emulator_support.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::DeviceArray;

constexpr std::int64_t kMostRows = 64, kInputs = 8, kOutputs = 12;

class MatmulChoice : public ::testing::Test {
 protected:
  void SetUp() override {
    use_device("cuda");
    setenv("EMBER_CACHE_DIR", folder_.path().c_str(), 1);
    simt::cublaslt() = {};
  }

  // From `elements` past a multiple of 256 bytes; the room is the largest bias' and the largest distance's.
  static Tensor bias(const DeviceArray<float>& memory, std::int64_t elements, DType type) {
    return {reinterpret_cast<std::byte*>(memory.data()) + elements * static_cast<std::int64_t>(size_of(type)), 1,
            kOutputs, kOutputs, type};
  }
  static std::vector<float> numbers() {
    std::vector<float> values(32);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
    return values;
  }
  void forward(Matmul& matmul, std::int64_t rows, Tensor bias = {}) const {
    matmul.forward(matrix(out_.data(), rows, kOutputs, bias.empty() ? DType::f32 : bias.dtype),
                   matrix(in_.data(), rows, kInputs, DType::f16), matrix(weight_.data(), kOutputs, kInputs, DType::f16),
                   bias);
  }
  static std::uint64_t algorithm() { return simt::cublaslt().products.back().algorithm; }

  const testing::TemporaryDirectory folder_;
  Stream stream_;
  const DeviceArray<std::uint16_t> in_{kMostRows * kInputs}, weight_{kOutputs * kInputs};
  const DeviceArray<float> out_{kMostRows * kOutputs};
};

std::uintptr_t address(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

// The heuristic takes a bias for as aligned as the address that it sees.
TEST_F(MatmulChoice, ABiasIsAsAlignedAsCublasltWasTold) {
  const DeviceArray<float> memory(numbers());
  Matmul matmul(stream_);
  for (const DType type : {DType::f32, DType::f16})
    for (const std::int64_t elements : {0, 1, 2, 3, 8}) {
      const Tensor added = bias(memory, elements, type);
      forward(matmul, 3, added);
      const simt::FakeCublasLt::Product& product = simt::cublaslt().products.back();
      EXPECT_EQ(address(product.bias) % 16, 0u) << elements;
      if (address(added.data) % 16 == 0) {
        EXPECT_EQ(product.bias, added.data) << "copied for nothing";
      }
      const std::vector<float> out = out_.values(), all = memory.values();
      EXPECT_EQ(std::memcmp(out.data() + (type == DType::f32 ? 2 * kOutputs : kOutputs), added.data,
                            kOutputs * size_of(type)),
                0)
          << "the last row is the bias; " << elements;
    }
  ASSERT_FALSE(simt::cublaslt().questions.empty());
  for (const simt::FakeCublasLt::Question& question : simt::cublaslt().questions)
    EXPECT_EQ(address(question.bias) % 32, 16u) << "16 bytes and no more were promised";
}

// A recording copies the bias too, as it is then.
TEST_F(MatmulChoice, ARecordingCopiesABias) {
  const DeviceArray<float> memory(numbers());
  const Tensor added = bias(memory, 1, DType::f32);
  Matmul matmul(stream_);
  forward(matmul, 1, added);
  const Graph graph(stream_, [&] { forward(matmul, 1, added); });
  const std::vector<float> changed(kOutputs, 7.0f);
  check_cuda(cudaMemcpyAsync(added.data, changed.data(), kOutputs * sizeof(float), cudaMemcpyHostToDevice, stream_),
             "copying");
  graph.launch(stream_);
  const std::vector<float> out = out_.values();
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + kOutputs), changed);
}

TEST_F(MatmulChoice, SumsWithABiasHaveNoParts) {
  const DeviceArray<float> memory(numbers());
  Matmul matmul(stream_);
  forward(matmul, 1);
  forward(matmul, 1, bias(memory, 0, DType::f16));
  const auto& questions = simt::cublaslt().questions;
  ASSERT_EQ(questions.size(), 2u);
  EXPECT_EQ(questions[0].reduction_schemes, std::uint64_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  EXPECT_EQ(questions[1].reduction_schemes, std::uint64_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  for (const auto& product : simt::cublaslt().products)
    EXPECT_LE(product.workspace, questions[0].workspace) << "the copy of a bias is not to be overwritten";
}

// Of the same shape the same bits, whoever measures it first, whoever is killed then.
TEST_F(MatmulChoice, TwoThatLiveAtTheSameTimeTakeTheSame) {
  Matmul first(stream_), second(stream_);
  simt::cublaslt().offered = {5};
  forward(first, 32);
  EXPECT_EQ(algorithm(), 5u);
  simt::cublaslt().offered = {6};
  forward(second, 31);
  EXPECT_EQ(algorithm(), 5u) << "measured anew";
  Matmul third(stream_);
  forward(third, 32);
  EXPECT_EQ(algorithm(), 5u);
  forward(third, 33);
  EXPECT_EQ(algorithm(), 6u);
  EXPECT_EQ(simt::cublaslt().questions.size(), 2u);
}

TEST_F(MatmulChoice, AFileThatCannotBeWrittenIsNoReasonToStop) {
  write_file(folder_ / "file", "in the way of a folder");
  setenv("EMBER_CACHE_DIR", (folder_ / "file").c_str(), 1);
  Matmul matmul(stream_);
  EXPECT_NO_THROW(forward(matmul, 3));
  EXPECT_NE(matmul.algorithms().find("forward rows=32"), std::string::npos);
}

TEST_F(MatmulChoice, WhatDoesNotRunIsNotKept) {
  simt::cublaslt().offered = {1, 2};
  simt::cublaslt().failing = {1, 2};
  {
    Matmul matmul(stream_);
    EXPECT_THROW(forward(matmul, 3), std::logic_error);
    EXPECT_EQ(matmul.algorithms().find("forward"), std::string::npos);
  }
  simt::cublaslt().failing = {1};
  Matmul matmul(stream_);
  forward(matmul, 3);
  EXPECT_EQ(algorithm(), 2u);
}

TEST_F(MatmulChoice, AKnownAlgorithmThatIsRefusedIsMeasuredAgain) {
  {
    Matmul matmul(stream_);
    forward(matmul, 32);
  }
  simt::cublaslt().refused = {1};
  {
    Matmul matmul(stream_);
    EXPECT_THROW(forward(matmul, 32), std::logic_error) << "there is no other";
  }
  simt::cublaslt().offered = {2};
  for (int run = 0; run < 2; ++run) {
    Matmul matmul(stream_);
    forward(matmul, 32);
    EXPECT_EQ(algorithm(), 2u);
    EXPECT_EQ(simt::cublaslt().questions.size(), 3u) << "kept for the next run";
  }
}

// The heuristic sees the steps of the batch as they are, even where the measurement's are others.
TEST_F(MatmulChoice, TheHeuristicSeesTheStepsOfABatch) {
  const DeviceArray<float> dweight(2 * 150);
  Matmul matmul(stream_);
  const Tensor dout = matrix(out_.data(), 3, kOutputs, DType::f16), in = matrix(in_.data(), 3, kInputs, DType::f16);
  matmul.backward_weight(matrix(dweight.data(), kOutputs, kInputs), dout, in, {2, 150, 3 * kOutputs, 3 * kInputs});
  ASSERT_EQ(simt::cublaslt().questions.size(), 1u);
  EXPECT_EQ(simt::cublaslt().questions[0].step_of_d, 150u);
}

// Whatever is known of its multiple of 32 rows.
TEST_F(MatmulChoice, ANewShapeInARecordingIsADefect) {
  Matmul matmul(stream_);
  forward(matmul, 32);
  EXPECT_THROW(Graph(stream_, [&] { forward(matmul, 31); }), std::logic_error);
  forward(matmul, 31);
  EXPECT_NO_THROW(Graph(stream_, [&] { forward(matmul, 31); }));
}

}  // namespace
}  // namespace ember
