// The counts of bytes and FLOP, against counts by hand at sizes where every term shows.
#include "bench/work.h"

#include <gtest/gtest.h>

namespace ember {
namespace {

constexpr Widths kFp32{4, 4}, kFp16{2, 2}, kBf16{4, 2};
// Two sequences of 3 and 5 tokens, 6 different ones.
constexpr BatchSize kWorkBatch{2, 8, 5, 6, 9 + 25};
constexpr double kCuSeqlens = 4 * 3;

void expect(Work work, double bytes, double flop) {
  EXPECT_DOUBLE_EQ(work.bytes, bytes);
  EXPECT_DOUBLE_EQ(work.flop, flop);
}

TEST(Work, GatherBatchCountsIdsAndLabels) {
  // Tokens in and out, occurrences, ids with their offsets, lengths; a row's two pairs of offsets, its label, its
  // targets.
  expect(work::gather_batch(kWorkBatch, 7), 4 * (3 * 8 + 2 * 6 + 1) + kCuSeqlens + 2 * (4 * 8 + 4 + 4 * 7), 0);
}

TEST(Work, LinearForward) {
  expect(work::linear_forward(8, 3, 10, false, 4, kFp32), 4 * (8 * 10 + 3 * 10 + 8 * 3), 2 * 8 * 3 * 10);
  expect(work::linear_forward(8, 3, 10, true, 4, kFp32), 4 * (8 * 10 + 3 * 10 + 8 * 3 + 3), 2 * 8 * 3 * 10 + 8 * 3);
  // fp16 operands, a bias and an output of f32 (the classifier's logits).
  expect(work::linear_forward(8, 3, 10, true, 4, kFp16), 2 * (8 * 10 + 3 * 10) + 4 * (8 * 3 + 3),
         2 * 8 * 3 * 10 + 8 * 3);
  expect(work::linear_forward(8, 3, 10, false, 4, kBf16), 4 * 8 * 10 + 2 * 3 * 10 + 4 * 8 * 3, 480);
}

TEST(Work, LinearBackward) {
  expect(work::linear_backward_input(8, 3, 10, kFp16), 2 * (8 * 3 + 3 * 10 + 8 * 10), 480);
  expect(work::linear_backward_weight(8, 3, 10, false, kFp16), 2 * (8 * 3 + 8 * 10) + 4 * 30, 480);
  expect(work::linear_backward_weight(8, 3, 10, true, kFp16), 2 * (8 * 3 + 8 * 10) + 4 * (30 + 3), 480 + 24);
  expect(work::round_weights(30, kBf16), 30 * 6, 0);
}

TEST(Work, LinearAndGeluTogether) {
  // in, before and out; the weight; the bias.
  expect(work::linear_gelu_forward(8, 3, 10, kFp16), 2 * (8 * 10 + 2 * 8 * 3 + 3 * 10) + 4 * 3, 480 + 6 * 8 * 3);
  // dout, before and din; the weight; the bias and its gradient.
  expect(work::linear_gelu_backward(8, 3, 10, kFp16), 2 * (8 * 3 + 2 * 8 * 10 + 3 * 10) + 8 * 10, 480 + 13 * 8 * 10);
}

TEST(Work, AttentionCountsPairsOfTokens) {
  const double c = 12, h = 3;
  expect(work::attention_forward(kWorkBatch, c, h, Queries::all, false, kFp32), 4 * 4 * 8 * c + kCuSeqlens,
         34 * (4 * c + h * 6));
  expect(work::attention_forward(kWorkBatch, c, h, Queries::all, true, kFp16), 2 * 4 * 8 * c + kCuSeqlens,
         34 * (4 * c + h * 7));
  // The first row of each sequence asks: 2 queries, 8 pairs.
  expect(work::attention_forward(kWorkBatch, c, h, Queries::first, false, kFp32), 4 * (2 * 2 + 2 * 8) * c + kCuSeqlens,
         8 * (4 * c + h * 6));
  expect(work::attention_backward(kWorkBatch, c, h, Queries::all, false, kFp32), 4 * 7 * 8 * c + kCuSeqlens,
         34 * (10 * c + h * 11));
  expect(work::attention_backward(kWorkBatch, c, h, Queries::first, true, kFp32), 4 * (3 * 2 + 4 * 8) * c + kCuSeqlens,
         8 * (10 * c + h * 13));
}

TEST(Work, FirstAttentionCountsRowsForEachHead) {
  const double c = 12, h = 3, b = 2, n = 8;
  expect(work::first_attention_forward(kWorkBatch, c, h, true, kFp16),
         2 * (2 * b + n) * c + 2 * 2 * c * c + 2 * 2 * c + kCuSeqlens,
         4 * b * c * c + n * h * (4 * c + 6 + 1 + 1) + 2 * b * c);
  expect(work::first_attention_backward(kWorkBatch, c, h, false, kFp32),
         4 * (3 * b + 2 * n) * c + 8 * 2 * c * c + 8 * 2 * c + kCuSeqlens,
         8 * b * c * c + n * h * (8 * c + 6) + 4 * b * c);
  expect(work::cls_attention_forward(kWorkBatch, c, h, true, kFp16),
         2 * (2 * b + n) * c + 2 * 3 * c * c + 2 * 3 * c + kCuSeqlens,
         6 * b * c * c + n * h * (4 * c + 6 + 1 + 1) + 3 * b * c);
  expect(work::cls_attention_backward(kWorkBatch, c, h, false, kFp32),
         4 * (3 * b + 2 * n) * c + 8 * 3 * c * c + 8 * 3 * c + kCuSeqlens,
         12 * b * c * c + n * h * (8 * c + 6) + 7 * b * c);
}

TEST(Work, EmbeddingsTouchTheRowsThatTheBatchNames) {
  const double c = 12;
  const double tables = 4 * c * (6 + 5 + 1), ids = 4 * 8 + kCuSeqlens, moments = 2 * 4 * 8, norm = 2 * 4 * c;
  expect(work::embeddings_forward(kWorkBatch, c, false, kFp32), tables + ids + moments + norm + 2 * 4 * 8 * c,
         8 * c * (2 + 8));
  expect(work::embeddings_forward(kWorkBatch, c, true, kFp16), tables + ids + moments + norm + 2 * 2 * 8 * c,
         8 * c * (2 + 8 + 1));
  const double positions = 64, types = 2;
  const double dtables = 4 * c * (6 + positions + types), places = 4 * (8 + 7) + kCuSeqlens;
  expect(work::embeddings_backward(kWorkBatch, c, positions, types, false, true, kFp32),
         dtables + places + moments + 3 * 4 * c + 3 * 4 * 8 * c, 8 * c * (13 + 3 + 1));
  expect(work::embeddings_backward(kWorkBatch, c, positions, types, true, false, kFp16),
         dtables + places + moments + 3 * 4 * c + 4 * 2 * 8 * c, 8 * c * (1 + 13 + 3));
}

TEST(Work, Rows) {
  const double m = 8, c = 12, elements = m * c;
  expect(work::residual_layernorm_forward(m, c, true, kFp32), 4 * 4 * elements + 4 * 3 * c + 8 * m, 11 * elements);
  expect(work::residual_layernorm_forward(m, c, false, kFp16), 2 * 4 * elements + 4 * 3 * c + 8 * m, 10 * elements);
  expect(work::residual_layernorm_backward(m, c, false, true, kFp16), 2 * 4 * elements + 4 * 4 * c + 8 * m,
         15 * elements);
  // A second gradient is read and added.
  expect(work::residual_layernorm_backward(m, c, true, false, kFp16), 2 * 5 * elements + 4 * 4 * c + 8 * m,
         15 * elements);
  expect(work::gelu_forward(m, c, kFp16), 2 * 2 * elements + 4 * c, 6 * elements);
  expect(work::gelu_backward(m, c, kFp32), 3 * 4 * elements + 8 * c, 13 * elements);
  expect(work::tanh_forward(m, c, true, kFp32), 3 * 4 * elements + 4 * c, 3 * elements);
  expect(work::tanh_backward(m, c, false, kFp16), 3 * 2 * elements + 4 * c, 4 * elements);
}

TEST(Work, HeadAndLoss) {
  expect(work::gather_first(kWorkBatch, 12, kFp16), 2 * 2 * 2 * 12 + kCuSeqlens, 0);
  expect(work::gather_first_backward(kWorkBatch, 12, kFp32), 4 * 3 * 2 * 12 + kCuSeqlens, 2 * 12);
  // in, activated and pooled; the weight; biases and logits.
  expect(work::head_forward(2, 12, 28, true, kFp16), 3 * 2 * 2 * 12 + 2 * 28 * 12 + 4 * (12 + 28 + 2 * 28),
         2 * 12 * 3 + 2 * 2 * 28 * 12 + 2 * 28);
  // din and activated; dlogits; the weight; dbias.
  expect(work::head_backward(2, 12, 28, true, kFp16), 2 * 2 * 2 * 12 + 2 * 2 * 28 + 2 * 28 * 12 + 4 * 12,
         2 * 12 * 5 + 2 * 2 * 28 * 12);
  expect(work::sigmoid_bce(2, 28, kFp16), 2 * 28 * (3 * 4 + 2) + 4, 2 * 28 * 12);
}

TEST(Work, Optimizer) {
  expect(work::gradient_norm(100), 400, 200);
  expect(work::gradient_norm_in_step(100), 0, 200);
  expect(work::adamw(100, 0), 2800, 1500);
  expect(work::adamw(100, 2), 3000, 1500);  // the 30 bytes an element of kernels/cuda/adamw.cu
  expect(work::adamw_rows(6, 12, 2), 72 * 30 + 6 * 3 * 4, 72 * 15);
  // However many updates a row has missed, it is read and written once.
  const double once = 72 * 24 + 6 * 3 * 4;
  expect(work::adamw_replay(6, 12, 1, 0), once + sizeof(AdamWUpdate), 72 * 9);
  expect(work::adamw_replay(6, 12, 16, 0), once + 16 * sizeof(AdamWUpdate), 16 * 72 * 9);
  expect(work::finish_step(), 2 * sizeof(StepState), 0);
  expect(work::adamw_step(100, 6, 12, 2), 172 * 30 + 6 * 3 * 4 + 2 * sizeof(StepState), 172 * 15);
}

}  // namespace
}  // namespace ember
