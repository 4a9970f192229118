#include "bench/work.h"

namespace ember::work {
namespace {

constexpr double kFloat = sizeof(float), kInt = sizeof(std::int32_t);

// FLOP an element. LayerNorm forward: mean 1, variance 3, normalising 2, weight and bias 2. Backward: the normalised
// element 2, dout weight 1, the two means 1 + 2, the result 4, the gradients of weight and bias 2 + 1.
constexpr double kLayerNorm = 8, kLayerNormBackward = 13;
// Of a (query, key) pair and head: scale, maximum, subtraction, exp, sum, division.
constexpr double kSoftmax = 6;

double if_active(bool dropout) {
  return dropout ? 1 : 0;
}
// Matrices more to read, and additions to an element.
double if_any(bool branch) {
  return branch ? 1 : 0;
}

// The rows of attention's queries.
double query_rows(const BatchSize& batch, Queries queries) {
  return queries == Queries::all ? batch.tokens : batch.sequences;
}
double pair_count(const BatchSize& batch, Queries queries) {
  return queries == Queries::all ? batch.pairs : batch.tokens;
}
double cu_seqlens_bytes(const BatchSize& batch) {
  return kInt * (batch.sequences + 1);
}

}  // namespace

// Tokens read and written; ids, offsets and occurrences written; lengths and labels read.
Work gather_batch(const BatchSize& batch, double k) {
  constexpr double kLong = sizeof(std::int64_t);
  return {kInt * (3 * batch.tokens + 2 * batch.unique + 1) + cu_seqlens_bytes(batch) +
              batch.sequences * (4 * kLong + kInt + kFloat * k),
          0};
}

Work embeddings_forward(const BatchSize& batch, double c, bool dropout, Widths widths) {
  const double n = batch.tokens;
  const double tables = kFloat * c * (batch.unique + batch.max_length + 1), norm = kFloat * 2 * c;
  const double ids = kInt * n + cu_seqlens_bytes(batch), moments = kFloat * 2 * n;
  return {ids + tables + norm + moments + 2 * n * c * widths.activation, n * c * (2 + kLayerNorm + if_active(dropout))};
}

Work embeddings_backward(const BatchSize& batch, double c, double p, double t, bool branch, bool dropout,
                         Widths widths) {
  const double n = batch.tokens;
  const double dtables = kFloat * c * (batch.unique + p + t), norm = kFloat * 3 * c;
  const double ids = kInt * (n + batch.unique + 1) + cu_seqlens_bytes(batch), moments = kFloat * 2 * n;
  const double adds = 3;  // to the rows of three tables
  return {ids + dtables + norm + moments + (3 + if_any(branch)) * n * c * widths.activation,
          n * c * (if_any(branch) + if_active(dropout) + kLayerNormBackward + adds)};
}

Work linear_forward(double m, double o, double i, bool bias, double out, Widths widths) {
  const double bias_bytes = bias ? o * out : 0;
  return {m * i * widths.activation + o * i * widths.product + m * o * out + bias_bytes,
          2 * m * o * i + (bias ? m * o : 0)};
}

Work linear_backward_input(double m, double o, double i, Widths widths) {
  return {(m * o + m * i) * widths.activation + o * i * widths.product, 2 * m * o * i};
}

Work linear_backward_weight(double m, double o, double i, bool bias, Widths widths) {
  return {(m * o + m * i) * widths.activation + kFloat * (o * i + (bias ? o : 0)), 2 * m * o * i + (bias ? m * o : 0)};
}

// The product, written and not read again, and GELU's output.
Work linear_gelu_forward(double m, double o, double i, Widths widths) {
  const Work product = linear_forward(m, o, i, false, widths.activation, widths), gelu = gelu_forward(m, o, widths);
  return {product.bytes + gelu.bytes - m * o * widths.activation, product.flop + gelu.flop};
}

// The product's gradient is neither written nor read.
Work linear_gelu_backward(double m, double o, double i, Widths widths) {
  const Work product = linear_backward_input(m, o, i, widths), gelu = gelu_backward(m, i, widths);
  return {product.bytes + gelu.bytes - 2 * m * i * widths.activation, product.flop + gelu.flop};
}

Work round_weights(double elements, Widths widths) {
  return {elements * (kFloat + widths.product), 0};
}

// Two products of D terms for each pair and head: q kᵀ and p v.
Work attention_forward(const BatchSize& batch, double c, double h, Queries queries, bool dropout, Widths widths) {
  const double pairs = pair_count(batch, queries);
  return {(2 * query_rows(batch, queries) + 2 * batch.tokens) * c * widths.activation + cu_seqlens_bytes(batch),
          pairs * (4 * c + h * (kSoftmax + if_active(dropout)))};
}

// Five products: q kᵀ again, dout vᵀ, pᵀ dout, ds k and dsᵀ q. Of a pair and head besides: the softmax again, dropout
// of p and of its gradient, the row's mean 2, ds = p (dp - mean) scale 3.
Work attention_backward(const BatchSize& batch, double c, double h, Queries queries, bool dropout, Widths widths) {
  const double pairs = pair_count(batch, queries), m = query_rows(batch, queries);
  return {(3 * m + 4 * batch.tokens) * c * widths.activation + cu_seqlens_bytes(batch),
          pairs * (10 * c + h * (kSoftmax + 5 + 2 * if_active(dropout)))};
}

// q Wk and Wv z are products of B rows, the scores and the sums of rows of C terms for each row and head; besides, of a
// sequence and head, the sum of p, and the bias.
Work first_attention_forward(const BatchSize& batch, double c, double h, bool dropout, Widths widths) {
  const double b = batch.sequences, n = batch.tokens;
  return {(2 * b + n + 2) * c * widths.activation + 2 * c * c * widths.product + cu_seqlens_bytes(batch),
          4 * b * c * c + n * h * (4 * c + kSoftmax + if_active(dropout) + 1) + 2 * b * c};
}

// Products of B rows: dout Wv, Wk dg and the two gradients of the weights; of C terms for each row and head: dp, the
// two shares of din, dg. Of a row and head besides as in attention_backward without its softmax, and dp's constant; of
// a sequence the constant and the gradient of bv.
Work first_attention_backward(const BatchSize& batch, double c, double h, bool dropout, Widths widths) {
  const double b = batch.sequences, n = batch.tokens;
  return {(3 * b + 2 * n + 2) * c * widths.activation + 2 * c * c * (widths.product + kFloat) + kFloat * 2 * c +
              cu_seqlens_bytes(batch),
          8 * b * c * c + n * h * (8 * c + 6 + 2 * if_active(dropout)) + 4 * b * c};
}

// Besides, the product of B queries; no query is an operand.
Work cls_attention_forward(const BatchSize& batch, double c, double h, bool dropout, Widths widths) {
  const Work first = first_attention_forward(batch, c, h, dropout, widths);
  return {first.bytes + c * c * widths.product + c * widths.activation, first.flop + batch.sequences * (2 * c * c + c)};
}

// Besides, the gradients of the queries' product, and the residual's that joins them; dfirst is read and no dquery is
// written.
Work cls_attention_backward(const BatchSize& batch, double c, double h, bool dropout, Widths widths) {
  const Work first = first_attention_backward(batch, c, h, dropout, widths);
  return {first.bytes + c * c * (widths.product + kFloat) + c * (widths.activation + kFloat),
          first.flop + batch.sequences * (4 * c * c + 3 * c)};
}

// Bias and residual are added.
Work residual_layernorm_forward(double m, double c, bool dropout, Widths widths) {
  return {4 * m * c * widths.activation + kFloat * (3 * c + 2 * m), m * c * (2 + kLayerNorm + if_active(dropout))};
}

// Reads the norm's weight; writes the gradients of weight, bias and the bias before.
Work residual_layernorm_backward(double m, double c, bool branch, bool dropout, Widths widths) {
  return {(4 + if_any(branch)) * m * c * widths.activation + kFloat * (4 * c + 2 * m),
          m * c * (if_any(branch) + kLayerNormBackward + 1 + if_active(dropout))};
}

// Bias 1, x / sqrt 2, erf, + 1, times x, times 1/2.
Work gelu_forward(double m, double f, Widths widths) {
  return {2 * m * f * widths.activation + kFloat * f, m * f * 6};
}

// Bias 1, Phi 4, phi 4, x phi + Phi 2, times dout 1, dbias 1.
Work gelu_backward(double m, double f, Widths widths) {
  return {3 * m * f * widths.activation + kFloat * 2 * f, m * f * 13};
}

Work gather_first(const BatchSize& batch, double c, Widths widths) {
  return {2 * batch.sequences * c * widths.activation + cu_seqlens_bytes(batch), 0};
}

Work gather_first_backward(const BatchSize& batch, double c, Widths widths) {
  return {3 * batch.sequences * c * widths.activation + cu_seqlens_bytes(batch), batch.sequences * c};
}

Work tanh_forward(double b, double c, bool dropout, Widths widths) {
  return {3 * b * c * widths.activation + kFloat * c, b * c * (2 + if_active(dropout))};
}

// activated² 1, 1 - that 1, times dout 1, dbias 1.
Work tanh_backward(double b, double c, bool dropout, Widths widths) {
  return {3 * b * c * widths.activation + kFloat * c, b * c * (4 + if_active(dropout))};
}

// What is not between the two: pooled, or dlogits weight.
Work head_forward(double b, double c, double k, bool dropout, Widths widths) {
  const Work activation = tanh_forward(b, c, dropout, widths), product = linear_forward(b, k, c, true, kFloat, widths);
  return {activation.bytes + product.bytes - b * c * widths.activation, activation.flop + product.flop};
}
Work head_backward(double b, double c, double k, bool dropout, Widths widths) {
  const Work activation = tanh_backward(b, c, dropout, widths), product = linear_backward_input(b, k, c, widths);
  return {activation.bytes + product.bytes - 2 * b * c * widths.activation, activation.flop + product.flop};
}

// The loss: max, x y, subtraction, exp, + 1, log, addition, sum; sigmoid 2 more; dlogits 2.
Work sigmoid_bce(double b, double k, Widths widths) {
  return {b * k * (3 * kFloat + widths.activation) + kFloat, b * k * 12};
}

Work gradient_norm(double elements) {
  return {kFloat * elements, 2 * elements};
}

Work gradient_norm_in_step(double elements) {
  return {0, gradient_norm(elements).flop};
}

// Scaling g 1, m 3, v 4, the square root, its factor, epsilon, division, step size, decay and subtraction 7.
Work adamw(double elements, double working) {
  return {elements * (7 * kFloat + working), elements * 15};
}

Work adamw_rows(double u, double c, double working) {
  const Work elements = adamw(u * c, working);
  return {elements.bytes + kInt * 3 * u, elements.flop};  // ids; row_updates twice
}

// An update without a gradient: m 1, v 1, the rest 7.
Work adamw_replay(double rows, double c, double missed, double working) {
  return {rows * c * (6 * kFloat + working) + kInt * 3 * rows + static_cast<double>(sizeof(AdamWUpdate)) * missed,
          rows * c * missed * 9};
}

Work finish_step() {
  return {2.0 * sizeof(StepState), 0};
}

Work adamw_step(double elements, double u, double c, double working) {
  const Work dense = adamw(elements, working), rows = adamw_rows(u, c, working), end = finish_step();
  return {dense.bytes + rows.bytes + end.bytes, dense.flop + rows.flop + end.flop};
}

}  // namespace ember::work
