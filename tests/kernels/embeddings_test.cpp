// embeddings_forward and _backward against the double oracle.
#include "tests/reference/embeddings.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/reproducible.h"

namespace ember {
namespace {

using testing::all_close;
using testing::draw;
using testing::PackedSequences;
using testing::Results;
using testing::results;
using testing::StridedMatrix;

constexpr float kEmbeddingsEpsilon = 1e-12f;
constexpr std::int64_t kTablePositions = 130, kTypes = 2;

struct EmbeddingsCase {
  std::string name;
  std::vector<std::int64_t> lengths;
  std::int64_t cols, vocabulary;
  float probability;
};

const EmbeddingsCase kEmbeddingsCases[] = {
    {"empty", {}, 312, 50, 0.1f},
    {"one_token", {1}, 312, 50, 0.0f},
    {"padding_token_only", {3, 1}, 26, 1, 0.1f},
    {"two_short", {1, 2}, 26, 5, 0.5f},
    {"longest", {128}, 312, 40, 0.1f},
    {"all_positions", {130, 1}, 32, 3, 0.0f},
    {"mixed", {19, 1, 128, 2, 31, 33, 32, 7, 64, 5, 1, 12, 22, 9, 30, 17}, 312, 300, 0.1f},
    {"mixed_without_dropout", {19, 1, 128, 2, 31, 33, 32}, 384, 1000, 0.0f},
    {"many_of_one", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 768, 4, 0.5f},
};

class Embeddings : public ::testing::TestWithParam<EmbeddingsCase> {
 protected:
  const std::int64_t cols = GetParam().cols, vocabulary = GetParam().vocabulary;
  const PackedSequences packed{GetParam().lengths, vocabulary, 7};
  const std::int64_t rows = packed.batch.tokens;
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x100, 3};
  const reference::Sequences sequences{packed.lengths, packed.tokens};
  const std::vector<double> dout = draw(rows * cols, 6), dbranch = draw(rows * cols, 7);
  const reference::Embeddings<double> oracle{draw(vocabulary * cols, 1),
                                             draw(kTablePositions* cols, 2),
                                             draw(kTypes* cols, 3),
                                             {draw(cols, 4), draw(cols, 5), kEmbeddingsEpsilon},
                                             dropout};
  const StridedMatrix word{vocabulary, cols, 0, oracle.word}, position{kTablePositions, cols, 0, oracle.position},
      type{kTypes, cols, 0, oracle.type}, weight{1, cols, 0, oracle.norm.weight}, bias{1, cols, 0, oracle.norm.bias};
  const LayerNormTensors norm{weight.view, bias.view};

  // out, sum, mean, rstd
  Results forward(Kernels& kernels, std::int64_t gap) const {
    const StridedMatrix out(rows, cols, gap), sum(rows, cols, gap), mean(1, rows, 0), rstd(1, rows, 0);
    kernels.embeddings_forward(out.view, sum.view, {mean.view, rstd.view}, packed.batch,
                               {word.view, position.view, type.view}, norm, kEmbeddingsEpsilon, dropout);
    return results({&out, &sum, &mean, &rstd});
  }

  // Whose memory dsum takes.
  enum class Into { own, dout, dbranch };
  // dsum, dword, dposition, dtype, dweight, dbias; from what forward left.
  Results backward(Kernels& kernels, const Results& saved, bool branch, Into into, std::int64_t gap) const {
    const auto doubles = [](const std::vector<float>& values) {
      return std::vector<double>(values.begin(), values.end());
    };
    const StridedMatrix sum(rows, cols, gap, doubles(saved[1])), mean(1, rows, 0, doubles(saved[2])),
        rstd(1, rows, 0, doubles(saved[3])), dout_(rows, cols, gap, dout), dbranch_(rows, cols, gap, dbranch),
        own_dsum(rows, cols, gap);
    const StridedMatrix dword(packed.batch.unique, cols, 0), dposition(kTablePositions, cols, 0),
        dtype(kTypes, cols, 0), dweight(1, cols, 0), dbias(1, cols, 0);
    const StridedMatrix& dsum = into == Into::own ? own_dsum : into == Into::dout ? dout_ : dbranch_;
    kernels.embeddings_backward({dword.view, dposition.view, dtype.view}, {dweight.view, dbias.view}, dsum.view,
                                dout_.view, branch ? dbranch_.view : Tensor{}, sum.view, {mean.view, rstd.view},
                                packed.batch, norm, dropout);
    return results({&dsum, &dword, &dposition, &dtype, &dweight, &dbias});
  }

  // The rows of a dense gradient that the batch's own one has.
  std::vector<double> unique_rows(const std::vector<double>& dense) const {
    std::vector<double> out;
    for (const std::int32_t id : packed.unique_ids)
      out.insert(out.end(), dense.begin() + id * cols, dense.begin() + (id + 1) * cols);
    return out;
  }
};

// The tolerances are those of layernorm_test.cpp, with the multipliers of dropout on top.
TEST_P(Embeddings, ForwardAgreesWithTheOracle) {
  const Results actual = testing::run_reproducibly([&](Kernels& kernels) { return forward(kernels, 0); });
  const auto sum = oracle.sum(sequences);
  const auto [mean, rstd] = oracle.norm.statistics(sum);
  EXPECT_TRUE(all_close(actual[1], sum, 2e-6, 0));
  EXPECT_TRUE(all_close(actual[2], mean, 2e-6, 0));
  EXPECT_TRUE(all_close(actual[3], rstd, 0, 4e-6));
  EXPECT_TRUE(all_close(actual[0], oracle.forward(sequences), 2e-5, 0));
}

TEST_P(Embeddings, BackwardAgreesWithTheOracle) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Results saved = forward(*kernels, 0);
  for (const bool branch : {false, true}) {
    SCOPED_TRACE(branch);
    const Results actual =
        testing::run_reproducibly([&](Kernels& kernels) { return backward(kernels, saved, branch, Into::own, 0); });
    const auto expected =
        oracle.backward(reference::output_gradient(dout, branch ? dbranch : std::vector<double>{}), sequences);
    const double size = branch ? 2 : 1, floor = size * 2e-5, atol = size * 2 * testing::sum_tolerance(rows);
    EXPECT_TRUE(all_close(actual[0], expected.sum, floor, 0));
    EXPECT_TRUE(all_close(actual[1], unique_rows(expected.word), floor + atol, 0));
    EXPECT_TRUE(all_close(actual[2], expected.position, floor + atol, 0));
    EXPECT_TRUE(all_close(actual[3], expected.type, atol, 0));
    EXPECT_TRUE(all_close(actual[4], expected.norm_weight, atol, 1e-6));
    EXPECT_TRUE(all_close(actual[5], expected.norm_bias, atol, 0));
  }
}

TEST_P(Embeddings, OperandsMayOverlapAndBeStrided) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const Results plain = forward(*kernels, 0);
  EXPECT_EQ(plain, forward(*kernels, 3));
  for (const bool branch : {false, true})
    for (const Into into : {Into::dout, Into::dbranch})
      EXPECT_EQ(backward(*kernels, plain, branch, Into::own, 0), backward(*kernels, plain, branch, into, 3));
}

INSTANTIATE_TEST_SUITE_P(Batches, Embeddings, ::testing::ValuesIn(kEmbeddingsCases),
                         [](const auto& tested) { return tested.param.name; });

TEST(EmbeddingsShapes, WrongOnesAreRefused) {
  const std::int64_t cols = 4;
  const PackedSequences packed({2, 3}, 10, 1);
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const auto filled = [&](std::int64_t rows) { return std::vector<double>(static_cast<std::size_t>(rows * cols)); };
  const StridedMatrix word(10, cols, 0, filled(10)), small(1, cols, 0, filled(1)), position(3, cols, 0, filled(3)),
      few_positions(2, cols, 0, filled(2)), out(5, cols, 0), sum(5, cols, 0), moments(1, 5, 0), few_rows(4, cols, 0);
  const LayerNormTensors norm{small.view, small.view};
  const auto forward = [&](const StridedMatrix& to, const StridedMatrix& words, const StridedMatrix& positions) {
    kernels->embeddings_forward(to.view, sum.view, {moments.view, moments.view}, packed.batch,
                                {words.view, positions.view, small.view}, norm, kEmbeddingsEpsilon, {});
  };
  EXPECT_NO_THROW(forward(out, word, position));
  EXPECT_THROW(forward(few_rows, word, position), std::logic_error);
  EXPECT_THROW(forward(out, small, position), std::logic_error) << "a token outside the vocabulary";
  EXPECT_THROW(forward(out, word, few_positions), std::logic_error) << "a sequence longer than the positions";
  const StridedMatrix dword(packed.batch.unique, cols, 0);
  const auto backward = [&](const StridedMatrix& words, Tensor dbranch) {
    kernels->embeddings_backward({words.view, position.view, small.view}, norm, sum.view, out.view, dbranch, sum.view,
                                 {moments.view, moments.view}, packed.batch, norm, {});
  };
  EXPECT_NO_THROW(backward(dword, {}));
  EXPECT_THROW(backward(word, {}), std::logic_error) << "a gradient of V rows instead of U";
  EXPECT_THROW(backward(dword, few_rows.view), std::logic_error);
}

}  // namespace
}  // namespace ember
