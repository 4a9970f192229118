// What kernels/cuda/matmul.cpp asks of cuBLASLt and which algorithms it takes, with a cuBLASLt that says what it was
// asked (cublaslt_fake.h). What a product computes, tests/cuda/matmul_test.cpp asks, of this cuBLASLt and on a GPU.
#include <cublasLt.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>

#include "kernels/cuda/matmul.h"
#include "runtime/cuda/check.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/graph.h"
#include "runtime/error.h"
#include "simt/device.h"
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
  // What has been multiplied, all that was asked for.
  static const std::vector<simt::FakeCublasLt::Product>& products() {
    testing::finish();
    return simt::cublaslt().products;
  }
  static std::uint64_t algorithm() { return products().back().algorithm; }
  static std::size_t questions() { return simt::cublaslt().questions.size(); }

  const testing::TemporaryDirectory folder_;
  Stream stream_;
  const DeviceArray<std::uint16_t> in_{std::vector<std::uint16_t>(kMostRows * kInputs)},
      weight_{std::vector<std::uint16_t>(kOutputs * kInputs)};
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
      const simt::FakeCublasLt::Product& product = products().back();
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

TEST_F(MatmulChoice, OfABiasThatIsCopiedNoMoreIsRead) {
  const DeviceArray<std::uint16_t> memory(std::vector<std::uint16_t>(kOutputs + 1));
  Matmul matmul(stream_);
  EXPECT_NO_THROW(forward(matmul, 3, matrix(memory.data() + 1, 1, kOutputs, DType::f16)));
}

TEST_F(MatmulChoice, ABiasOfTheHostIsRefused) {
  alignas(16) const std::array<float, kOutputs> here{};
  Matmul matmul(stream_);
  EXPECT_THROW(forward(matmul, 3, {const_cast<float*>(here.data()), 1, kOutputs, kOutputs, DType::f32}),
               std::logic_error);
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
  for (const auto& product : products())
    EXPECT_LE(product.workspace_bytes, questions[0].workspace) << "the copy of a bias is not to be overwritten";
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

// That of its multiple of 32 rows.
TEST_F(MatmulChoice, ACountWhoseAlgorithmIsRefusedHasOneOfItsOwn) {
  {
    Matmul matmul(stream_);
    forward(matmul, 32);
  }
  simt::cublaslt().refused = {1};
  simt::cublaslt().offered = {2};
  for (int run = 0; run < 2; ++run) {
    Matmul matmul(stream_);
    forward(matmul, 31);
    EXPECT_EQ(algorithm(), 2u);
    EXPECT_EQ(questions(), 2u) << "kept for the next run";
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

TEST_F(MatmulChoice, WhatNoAlgorithmIsOfferedFor) {
  simt::cublaslt().offered = {};
  simt::cublaslt().meanwhile = [] { simt::cublaslt().offered = {2}; };
  Matmul matmul(stream_);
  forward(matmul, 31);
  EXPECT_EQ(algorithm(), 2u) << "32 rows have none, 31 have one";
  simt::cublaslt().offered = {};
  EXPECT_THROW(forward(matmul, 33), std::logic_error);
}

TEST_F(MatmulChoice, TheFastestThatRunsIsTaken) {
  simt::cublaslt().offered = {1, 2, 3, 4, 5};
  simt::cublaslt().unsupported = {2};
  simt::cublaslt().failing = {3};
  simt::cublaslt().slow = {1, 5};
  Matmul matmul(stream_);
  forward(matmul, 3);
  EXPECT_EQ(algorithm(), 4u);
  EXPECT_EQ(simt::cublaslt().tried, (std::set<std::uint64_t>{1, 3, 4, 5})) << "nothing that was not offered";
}

TEST_F(MatmulChoice, WhatNeedsMoreRoomThanThereIsIsNotTaken) {
  {
    Matmul matmul(stream_);
    forward(matmul, 3);
  }
  const std::size_t room = simt::cublaslt().questions[0].workspace;
  simt::cublaslt().workspace_of = {{1, room}};
  Matmul enough(stream_);
  EXPECT_NO_THROW(forward(enough, 3));
  simt::cublaslt().workspace_of = {{1, room + 1}};
  Matmul short_of_it(stream_);
  EXPECT_THROW(forward(short_of_it, 3), std::logic_error);
}

// Two that measure at the same time agree: the one that comes later takes what is in the file by then.
TEST_F(MatmulChoice, WhatAnotherMeasuresMeanwhileIsTaken) {
  Matmul first(stream_), second(stream_);
  simt::cublaslt().meanwhile = [&] {
    simt::cublaslt().offered = {2};
    forward(second, 32);
  };
  forward(first, 32);
  EXPECT_EQ(algorithm(), 2u);
  EXPECT_EQ(questions(), 2u) << "neither knew of the other";
}

TEST_F(MatmulChoice, AlgorithmsOfACheckpointReplaceThoseInUse) {
  std::string text;
  {
    Matmul matmul(stream_);
    simt::cublaslt().offered = {2};
    forward(matmul, 3);
    text = matmul.algorithms();
  }
  setenv("EMBER_CACHE_DIR", (folder_ / "another").c_str(), 1);
  simt::cublaslt().offered = {1};
  Matmul matmul(stream_);
  forward(matmul, 3);
  EXPECT_EQ(algorithm(), 1u);
  matmul.use_algorithms(text);
  forward(matmul, 3);
  EXPECT_EQ(algorithm(), 2u);
}

TEST_F(MatmulChoice, AnotherDeviceOrLibraryIsMeasuredAnew) {
  const auto run = [this] {
    Matmul matmul(stream_);
    forward(matmul, 3);
    return questions();
  };
  EXPECT_EQ(run(), 1u);
  EXPECT_EQ(run(), 1u);
  simt::cublaslt().version = 2;
  EXPECT_EQ(run(), 2u);
  ++simt::device().major;
  EXPECT_EQ(run(), 3u);
  --simt::device().major;
}

TEST_F(MatmulChoice, TheFileIsWrittenAtTheEndWhereItCouldNotBeBefore) {
  write_file(folder_ / "file", "in the way of a folder");
  setenv("EMBER_CACHE_DIR", (folder_ / "file").c_str(), 1);
  {
    Matmul matmul(stream_);
    forward(matmul, 3);
    std::filesystem::remove(folder_ / "file");
  }
  Matmul matmul(stream_);
  forward(matmul, 3);
  EXPECT_EQ(questions(), 1u);
}

// Each is a shape of its own, in the plans as in the file, from which a second run has them all.
TEST_F(MatmulChoice, ShapesThatDifferInOneThingAreMeasuredEach) {
  struct Forward {
    std::int64_t rows = 3, inputs = 8, outputs = 8, stride_in = 16, stride_weight = 16, stride_out = 16;
    DType type = DType::f16;
    bool with_bias = false;
  };
  const std::vector<std::uint16_t> zeros(40 * 32);
  const DeviceArray<std::uint16_t> in(zeros), weight(zeros), bias(zeros);
  const DeviceArray<float> out(40 * 32);
  for (int run = 0; run < 2; ++run) {
    Matmul matmul(stream_);
    std::size_t shapes = 0;
    for (const Forward& f : {Forward{}, Forward{.rows = 33}, Forward{.inputs = 16}, Forward{.outputs = 16},
                             Forward{.stride_in = 24}, Forward{.stride_weight = 24}, Forward{.stride_out = 24},
                             Forward{.type = DType::f32}, Forward{.with_bias = true}}) {
      matmul.forward({out.data(), f.rows, f.outputs, f.stride_out, f.type},
                     {in.data(), f.rows, f.inputs, f.stride_in, DType::f16},
                     {weight.data(), f.outputs, f.inputs, f.stride_weight, DType::f16},
                     f.with_bias ? matrix(bias.data(), 1, f.outputs, f.type) : Tensor{});
      EXPECT_EQ(questions(), run == 0 ? ++shapes : 12u);
    }
    // The other uses, of the same numbers of rows, inputs and outputs.
    const Tensor halves{in.data(), 3, 8, 16, DType::f16}, square{weight.data(), 8, 8, 16, DType::f16},
        gradient{out.data(), 8, 8, 16, DType::f32}, single{out.data(), 3, 8, 16, DType::f16};
    matmul.backward_input(single, halves, square);
    EXPECT_EQ(questions(), run == 0 ? ++shapes : 12u);
    matmul.backward_weight(gradient, halves, halves);
    EXPECT_EQ(questions(), run == 0 ? ++shapes : 12u);
    matmul.backward_weight(gradient, halves, halves, {2, 8 * 16, 3 * 16, 3 * 16});
    EXPECT_EQ(questions(), run == 0 ? ++shapes : 12u);
    matmul.backward_weight(gradient, halves, halves, {2, 9 * 16, 4 * 16, 5 * 16});
    EXPECT_EQ(questions(), 12u) << "how far products lie apart does not decide which algorithm is fast";
  }
}

// To 16 bytes at most, and in all products of a batch. The fake refuses an algorithm that was promised more.
TEST_F(MatmulChoice, OperandsAreAsAlignedAsCublasltWasTold) {
  using Aligned = std::array<std::uint64_t, 4>;  // A, B, C and D
  struct Form {
    std::int64_t rows, cols;
    DType type;
  };
  struct Use {
    std::array<Form, 3> forms;
    std::function<void(Tensor, Tensor, Tensor)> run;  // of A, B and D
  };
  constexpr std::int64_t kRows = 3;
  constexpr Form kIn{kRows, kInputs, DType::f16}, kOut{kRows, kOutputs, DType::f16},
      kWeight{kOutputs, kInputs, DType::f16}, kGradient{kOutputs, kInputs, DType::f32};
  const std::vector<float> zeros(1024);
  const std::array<DeviceArray<float>, 3> memory{DeviceArray<float>(zeros), DeviceArray<float>(zeros),
                                                 DeviceArray<float>(zeros)};
  Matmul matmul(stream_);
  const Use forward{{kWeight, kIn, kOut}, [&](Tensor a, Tensor b, Tensor d) { matmul.forward(d, b, a, {}); }},
      backward_input{{kWeight, kOut, kIn}, [&](Tensor a, Tensor b, Tensor d) { matmul.backward_input(d, b, a); }},
      backward_weight{{kIn, kOut, kGradient}, [&](Tensor a, Tensor b, Tensor d) { matmul.backward_weight(d, b, a); }};
  // Without a question in between the promise is an earlier one.
  const auto promise = [&](const Use& use, const std::array<std::int64_t, 3>& shifts) -> std::optional<Aligned> {
    std::array<Tensor, 3> t;
    for (std::size_t i = 0; i < 3; ++i) {
      const auto [rows, cols, type] = use.forms[i];
      t[i] =
          matrix(reinterpret_cast<std::byte*>(memory[i].data()) + shifts[i] * static_cast<std::int64_t>(size_of(type)),
                 rows, cols, type);
    }
    const std::size_t before = questions();
    EXPECT_NO_THROW(use.run(t[0], t[1], t[2]));
    if (questions() == before) return {};
    return simt::cublaslt().questions.back().aligned;
  };
  for (const Use& use : {forward, backward_input, backward_weight}) {
    EXPECT_EQ(promise(use, {0, 0, 0}), (Aligned{16, 16, 16, 16}));
    EXPECT_EQ(promise(use, {8, 16, 24}), std::nullopt);
    for (const std::int64_t shift : {1, 2}) {
      const std::uint64_t half = 2 * static_cast<std::uint64_t>(shift),
                          d = static_cast<std::uint64_t>(shift) * size_of(use.forms[2].type);
      EXPECT_EQ(promise(use, {shift, 0, 0}), (Aligned{half, 16, 16, 16}));
      EXPECT_EQ(promise(use, {0, shift, 0}), (Aligned{16, half, 16, 16}));
      EXPECT_EQ(promise(use, {0, 0, shift}), (Aligned{16, 16, d, d}));
    }
  }
  const auto of_batch = [&](const ProductBatch& batch) {
    return promise(
        {backward_weight.forms, [&](Tensor a, Tensor b, Tensor d) { matmul.backward_weight(d, b, a, batch); }},
        {0, 0, 0});
  };
  EXPECT_EQ(of_batch({2, 96, 40, 24}), (Aligned{16, 16, 16, 16}));
  EXPECT_EQ(of_batch({2, 96, 40, 25}), (Aligned{2, 16, 16, 16}));
  EXPECT_EQ(of_batch({2, 96, 42, 24}), (Aligned{16, 4, 16, 16}));
  EXPECT_EQ(of_batch({2, 97, 40, 24}), (Aligned{16, 16, 4, 4}));
}

// The longest bias that is copied first fits behind the workspace, and a longer one is refused.
TEST_F(MatmulChoice, ABiasIsOfAMegabyteAtMost) {
  constexpr std::int64_t kLongest = (1 << 20) / 4 - 4;
  const DeviceArray<float> bias(std::vector<float>(kLongest + 2, 3.0f)), out(kLongest + 1);
  const DeviceArray<std::uint16_t> weight(std::vector<std::uint16_t>(kLongest + 1));
  Matmul matmul(stream_);
  const auto run = [&](std::int64_t outputs, float* from) {
    matmul.forward(matrix(out.data(), 1, outputs), matrix(in_.data(), 1, 1, DType::f16),
                   matrix(weight.data(), outputs, 1, DType::f16), matrix(from, 1, outputs));
  };
  simt::cublaslt().offered = {};  // for 32 rows, whose products would take long
  simt::cublaslt().meanwhile = [] { simt::cublaslt().offered = {1}; };
  run(kLongest, bias.data() + 1);
  EXPECT_EQ(out.values()[kLongest - 1], 3.0f);
  EXPECT_THROW(run(kLongest + 1, bias.data()), std::logic_error) << "copied or not";
}

// Products that run at the same time would overwrite each other's sums.
TEST_F(MatmulChoice, WorkBesideHasAStreamAndAWorkspaceOfItsOwn) {
  const Stream beside;
  const DeviceArray<float> dweight(kOutputs * kInputs);
  Matmul matmul(stream_);
  const auto product = [&](const Stream* on) {
    matmul.backward_weight(matrix(dweight.data(), kOutputs, kInputs), matrix(out_.data(), 3, kOutputs, DType::f16),
                           matrix(in_.data(), 3, kInputs, DType::f16), {}, on);
    return products().back();
  };
  const auto first = product(nullptr), second = product(&beside), third = product(&beside);
  EXPECT_EQ(first.stream, stream_.get());
  EXPECT_EQ(second.stream, beside.get());
  EXPECT_NE(first.workspace, second.workspace);
  EXPECT_EQ(second.workspace, third.workspace) << "a graph refers to it";
}

// What the machine lacks is an error that the user can read, all else a defect.
TEST_F(MatmulChoice, FailuresOfCublaslt) {
  Matmul matmul(stream_);
  for (const cublasStatus_t status : {CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_ALLOC_FAILED,
                                      CUBLAS_STATUS_ARCH_MISMATCH, CUBLAS_STATUS_EXECUTION_FAILED}) {
    simt::cublaslt().starting = simt::cublaslt().answering = status;
    EXPECT_THROW(Matmul{stream_}, Error) << status;
    EXPECT_THROW(forward(matmul, 3), Error) << status;
  }
  simt::cublaslt().starting = simt::cublaslt().answering = CUBLAS_STATUS_INVALID_VALUE;
  EXPECT_THROW(Matmul{stream_}, std::logic_error);
  EXPECT_THROW(forward(matmul, 3), std::logic_error);
  simt::cublaslt().answering = CUBLAS_STATUS_SUCCESS;
  forward(matmul, 3);
  simt::cublaslt().failing = {1};
  EXPECT_THROW(forward(matmul, 3), std::logic_error) << "its algorithm does not run any more";
}

TEST_F(MatmulChoice, AProductIsALaunch) {
  Matmul matmul(stream_);
  forward(matmul, 3);
  const std::int64_t before = launches();
  forward(matmul, 3);
  EXPECT_EQ(launches(), before + 1);
}

}  // namespace
}  // namespace ember
