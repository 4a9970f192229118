// Attention of the first rows without keys and values: only B rows ask, so their queries are carried to the rows, and
// not the N rows to the heads. For head h of a sequence with rows x (L, C), query q (D) and scale s = 1 / sqrt(D):
//   g = q Wk_h (C),  scores = s g · x_j,  p = softmax, p~ = dropout(p),  z = sum p~_j x_j (C),
//   out = Wv_h z + bv_h sum p~_j;  bk shifts all scores of a row alike, which softmax does not see.
// Backward, with dz = dout Wv_h and P~, dS (H, L) of a sequence (attention_probabilities.h):
//   dp~_j = dz · x_j + dout · bv_h,  dx = P~ᵀ dz + s dSᵀ g,  dg = s dS x,  dq = Wk_h dg,
//   dWk_h = qᵀ dg and dWv_h = doutᵀ z over the batch,  dbv_h = sum of dout sum p~,  dbk = 0.
// 2 B C² + 2 N H C multiply-adds forward where keys and values alone take 2 N C².
#include <algorithm>

#include "kernels/cpu/attention_head.h"
#include "kernels/cpu/attention_probabilities.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/small_product.h"
#include "kernels/cpu/team.h"
#include "kernels/require.h"

namespace ember {
namespace {

// One row of `stride` floats per sequence and head.
struct HeadRows {
  float* data;
  std::int64_t heads, stride;
  float* of_sequence(std::int64_t b) const { return data + b * heads * stride; }
  float* of_head(std::int64_t h) const { return data + h * stride; }  // of the first sequence
  std::int64_t sequence_stride() const { return heads * stride; }
};

struct Operands {
  Tensor query, in, weight, bias;
  Tensor key_weight() const { return weight.row_block(0, query.cols); }
  Tensor value_weight() const { return weight.row_block(query.cols, query.cols); }
  const float* value_bias() const { return bias.empty() ? nullptr : bias.f32() + query.cols; }
};

// What all threads share. Backward's own parts are null in forward.
struct Shared {
  Shared(Arena& arena, const AttentionCall& call, bool backward) {
    const auto rows = [&](bool needed) {
      const std::int64_t stride = panel_stride(call.query.cols);
      return HeadRows{needed ? arena.matrix(call.pairs(), stride).f32() : nullptr, call.heads, stride};
    };
    g = rows(true), z = rows(true), dg = rows(backward), dz = rows(backward);
    sums = arena.vector(call.pairs()).f32();
    constants = backward ? arena.vector(call.pairs()).f32() : nullptr;
  }
  HeadRows g, z, dg, dz;
  float *sums, *constants;  // per pair: sum of p~; dout · bv
};

// What a thread has of its own, for one sequence.
struct Own {
  Own(Arena& arena, const AttentionCall& call, bool backward) {
    const std::int64_t length = panel_stride(call.batch.max_length), heads = panel_stride(call.heads);
    transposed = arena.matrix(call.query.cols, heads).f32();
    by_token = arena.matrix(call.batch.max_length, heads).f32();
    scores = arena.matrix(call.heads, length).f32();
    dscores = backward ? arena.matrix(call.heads, length).f32() : nullptr;
    multipliers = call.dropout.active() ? arena.matrix(call.heads, length).f32() : nullptr;
    tail = arena.matrix(std::max(call.batch.max_length, call.dim), kPanel).f32();
  }
  float* transposed;                      // (C, H)
  float* by_token;                        // (L, H)
  float *scores, *dscores, *multipliers;  // (H, L)
  float* tail;                            // the last columns of a right operand whose rows are not padded
};

// small_product whose right operand's rows end with the last column; c's are filled with zeros to the end of their
// panel.
void product_of_rows(float* c, std::int64_t c_stride, Strided a, Panels b, std::int64_t rows, std::int64_t inner,
                     std::int64_t cols, float* tail) {
  const std::int64_t whole = cols / kPanel * kPanel, rest = cols - whole;
  if (whole > 0) small_product(c, c_stride, a, b, rows, inner, whole);
  if (rest == 0) return;
  for (std::int64_t k = 0; k < inner; ++k)
    std::fill_n(std::copy_n(b.data + k * b.stride + whole, rest, tail + k * kPanel), kPanel - rest, 0.0f);
  small_product(c + whole, c_stride, a, {tail, kPanel}, rows, inner, kPanel);
}

float dot(const float* a, const float* b, std::int64_t size) {
  return sum_of(size, [=](std::int64_t i) { return a[i] * b[i]; });
}

// rows[b, h] = x[b, h's columns] weight[h's rows] for every b: queries to g, dout to dz.
void to_rows(const HeadRows& rows, Tensor x, Tensor weight, const AttentionCall& call, std::int64_t h, const Own& own) {
  const std::int64_t column = h * call.dim;
  product_of_rows(rows.of_head(h), rows.sequence_stride(), {x.f32() + column, x.stride, 1},
                  {weight.row(column), weight.stride}, x.rows, call.dim, weight.cols, own.tail);
}

// x[b, h's columns] = weight[h's rows] rows[b, h] for every b: z to out, dg to dquery.
void from_rows(Tensor x, const HeadRows& rows, Tensor weight, const AttentionCall& call, std::int64_t h) {
  for (std::int64_t o = h * call.dim; o < (h + 1) * call.dim; ++o)
    for (std::int64_t b = 0; b < x.rows; ++b)
      x.row(b)[o] = dot(rows.of_head(h) + b * rows.sequence_stride(), weight.row(o), weight.cols);
}

// to (H, L) = scale rows (H, C) xᵀ, the panels' ends zero. By way of its transpose, so that x is read as it lies.
void times_tokens(float* to, const float* rows, std::int64_t rows_stride, Tensor in, const AttentionHead& sequence,
                  float scale, const AttentionCall& call, const Own& own) {
  const std::int64_t heads = panel_stride(call.heads), stride = panel_stride(sequence.length);
  pack_transposed(own.transposed, rows, rows_stride, call.heads, in.cols, scale);
  small_product(own.by_token, heads, {in.row(sequence.first_token), in.stride, 1}, {own.transposed, heads},
                sequence.length, in.cols, whole_panels(call.heads));
  for (std::int64_t h = 0; h < call.heads; ++h) {
    for (std::int64_t j = 0; j < sequence.length; ++j) to[h * stride + j] = own.by_token[j * heads + h];
    std::fill(to + h * stride + sequence.length, to + h * stride + whole_panels(sequence.length), 0.0f);
  }
}

// For blocks of heads as large as softmax takes: block(first row, number of rows).
template <typename Block>
void by_blocks(std::int64_t heads, const Block& block) {
  for (std::int64_t h = 0; h < heads; h += kProbabilityRows) block(h, std::min(kProbabilityRows, heads - h));
}

// own.scores = the probabilities of sequence b before dropout, own.multipliers what dropout multiplies them by.
void probabilities(const Operands& x, const Shared& shared, const AttentionCall& call, const AttentionHead& sequence,
                   std::int64_t b, const Own& own) {
  const std::int64_t stride = panel_stride(sequence.length);
  times_tokens(own.scores, shared.g.of_sequence(b), shared.g.stride, x.in, sequence, call.scale, call, own);
  by_blocks(call.heads, [&](std::int64_t h, std::int64_t rows) {
    softmax(own.scores + h * stride, stride, rows, sequence.length);
  });
  if (!call.dropout.active()) return;
  dropout_multiplier_rows(own.multipliers, stride, call.heads, sequence.first_token * call.heads * call.row_elements,
                          call.row_elements, sequence.length, call.dropout);
  for (std::int64_t h = 0; h < call.heads; ++h)  // the padding is multiplied by zeros: it must not be NaN
    std::fill(own.multipliers + h * stride + sequence.length,
              own.multipliers + h * stride + whole_panels(sequence.length), 0.0f);
}

// z and the sums of p~ from p~ in own.scores.
void weigh_tokens(const Operands& x, const Shared& shared, const AttentionCall& call, const AttentionHead& sequence,
                  std::int64_t b, const Own& own) {
  const std::int64_t stride = panel_stride(sequence.length);
  product_of_rows(shared.z.of_sequence(b), shared.z.stride, {own.scores, stride, 1},
                  {x.in.row(sequence.first_token), x.in.stride}, call.heads, sequence.length, x.in.cols, own.tail);
  for (std::int64_t h = 0; h < call.heads; ++h) {
    float sum = 0;
    for (std::int64_t j = 0; j < sequence.length; ++j) sum += own.scores[h * stride + j];
    shared.sums[b * call.heads + h] = sum;
  }
}

void sequence_forward(const Operands& x, const Shared& shared, const AttentionCall& call, std::int64_t b,
                      const Own& own) {
  const AttentionHead sequence(call, b * call.heads);
  probabilities(x, shared, call, sequence, b, own);
  for (std::int64_t h = 0; call.dropout.active() && h < call.heads; ++h) {
    const std::int64_t begin = h * panel_stride(sequence.length);
#pragma omp simd
    for (std::int64_t j = begin; j < begin + sequence.length; ++j) own.scores[j] *= own.multipliers[j];
  }
  weigh_tokens(x, shared, call, sequence, b, own);
}

void sequence_backward(Tensor din, const Operands& x, const Shared& shared, const AttentionCall& call, std::int64_t b,
                       const Own& own) {
  const AttentionHead sequence(call, b * call.heads);
  const std::int64_t length = sequence.length, stride = panel_stride(length);
  probabilities(x, shared, call, sequence, b, own);
  times_tokens(own.dscores, shared.dz.of_sequence(b), shared.dz.stride, x.in, sequence, 1, call, own);
  for (std::int64_t h = 0; h < call.heads; ++h)
    for (std::int64_t j = 0; j < length; ++j) own.dscores[h * stride + j] += shared.constants[b * call.heads + h];
  by_blocks(call.heads, [&](std::int64_t h, std::int64_t rows) {
    const std::int64_t begin = h * stride;
    softmax_backward(own.scores + begin, own.dscores + begin, call.dropout.active() ? own.multipliers + begin : nullptr,
                     stride, rows, length);
  });
  for (std::int64_t h = 0; h < call.heads; ++h) {
#pragma omp simd
    for (std::int64_t j = h * stride; j < h * stride + length; ++j) own.dscores[j] *= call.scale;
  }
  weigh_tokens(x, shared, call, sequence, b, own);
  float* dx = din.row(sequence.first_token);
  small_product(dx, din.stride, {own.scores, 1, stride}, {shared.dz.of_sequence(b), shared.dz.stride}, length,
                call.heads, din.cols);
  small_product(dx, din.stride, {own.dscores, 1, stride}, {shared.g.of_sequence(b), shared.g.stride}, length,
                call.heads, din.cols, true);
  product_of_rows(shared.dg.of_sequence(b), shared.dg.stride, {own.dscores, stride, 1},
                  {x.in.row(sequence.first_token), x.in.stride}, call.heads, length, x.in.cols, own.tail);
}

// dweight[h's rows] = x[h's columns]ᵀ rows[h], summed over the batch.
void weight_gradient(Tensor dweight, Tensor x, const HeadRows& rows, const AttentionCall& call, std::int64_t h) {
  const std::int64_t column = h * call.dim;
  small_product(dweight.row(column), dweight.stride, {x.f32() + column, 1, x.stride},
                {rows.of_head(h), rows.sequence_stride()}, call.dim, x.rows, dweight.cols);
}

// Memory for Shared, and behind it for every thread's Own.
struct Layout {
  Layout(const AttentionCall& call, bool backward, int threads) : call(call), backward(backward) {
    Arena measure;
    Shared(measure, call, backward);
    shared_bytes = measure.used();
    measure.reset();
    Own(measure, call, backward);
    own_bytes = measure.used();
    total = shared_bytes + own_bytes * static_cast<std::size_t>(threads);
  }
  Shared shared(void* memory) const {
    Arena arena(memory, shared_bytes);
    return {arena, call, backward};
  }
  Own own(void* memory, int thread) const {
    Arena arena(static_cast<std::byte*>(memory) + shared_bytes + own_bytes * static_cast<std::size_t>(thread),
                own_bytes);
    return {arena, call, backward};
  }
  const AttentionCall& call;
  bool backward;
  std::size_t shared_bytes, own_bytes, total;
};

void require_weight(const AttentionCall& call, Tensor weight, Tensor bias) {
  const std::int64_t c = call.query.cols;
  require(has_shape(weight, 2 * c, c), "first_attention: shape of the weight");
  require(bias.empty() || has_shape(bias, 1, 2 * c), "first_attention: shape of the bias");
}

}  // namespace

void CpuKernels::first_attention_forward(Tensor out, Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias,
                                         const Batch& batch, std::int64_t heads, std::int64_t positions,
                                         const Dropout& dropout) {
  if (weight.dtype != DType::f32)
    return Kernels::first_attention_forward(out, kept, query, in, weight, bias, batch, heads, positions, dropout);
  const AttentionCall call(query, in, in, batch, heads, positions, Queries::first, dropout);
  require_weight(call, weight, bias);
  require(has_shape(out, query.rows, query.cols), "first_attention_forward: shape of the output");
  const Operands x{query, in, weight, bias};
  const Layout layout(call, false, threads_);
  void* memory = scratch(layout.total);
  const Shared shared = layout.shared(memory);
  in_team(threads_, [&](const Team& team) {
    const Own own = layout.own(memory, team.thread());
    team.share(heads, [&](std::int64_t h) { to_rows(shared.g, query, x.key_weight(), call, h, own); });
    team.wait();
    team.deal(batch.sequences, 1, [&](std::int64_t b) { sequence_forward(x, shared, call, b, own); });
    team.wait();
    team.share(heads, [&](std::int64_t h) {
      from_rows(out, shared.z, x.value_weight(), call, h);
      for (std::int64_t b = 0; !bias.empty() && b < batch.sequences; ++b)
        for (std::int64_t o = h * call.dim; o < (h + 1) * call.dim; ++o)
          out.row(b)[o] += x.value_bias()[o] * shared.sums[b * heads + h];
    });
  });
}

void CpuKernels::first_attention_backward(Tensor dquery, Tensor din, Tensor dweight, Tensor dbias, Tensor dkept,
                                          Tensor dout, Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias,
                                          const Batch& batch, std::int64_t heads, std::int64_t positions,
                                          const Dropout& dropout) {
  if (weight.dtype != DType::f32)
    return Kernels::first_attention_backward(dquery, din, dweight, dbias, dkept, dout, kept, query, in, weight, bias,
                                             batch, heads, positions, dropout);
  const AttentionCall call(query, in, in, batch, heads, positions, Queries::first, dropout);
  require_weight(call, weight, bias);
  require(all_have_shape({dquery, dout}, query.rows, query.cols), "first_attention_backward: shape of dquery or dout");
  require(has_shape(din, in.rows, in.cols), "first_attention_backward: shape of din");
  require(has_shape(dweight, weight.rows, weight.cols), "first_attention_backward: shape of dweight");
  require(dbias.empty() || has_shape(dbias, 1, weight.rows), "first_attention_backward: shape of dbias");
  const Operands x{query, in, weight, bias};
  const Layout layout(call, true, threads_);
  void* memory = scratch(layout.total);
  const Shared shared = layout.shared(memory);
  const std::int64_t c = query.cols;
  in_team(threads_, [&](const Team& team) {
    const Own own = layout.own(memory, team.thread());
    team.share(heads, [&](std::int64_t h) {
      to_rows(shared.g, query, x.key_weight(), call, h, own);
      to_rows(shared.dz, dout, x.value_weight(), call, h, own);
      const std::int64_t column = h * call.dim;
      for (std::int64_t b = 0; b < batch.sequences; ++b)
        shared.constants[b * heads + h] =
            bias.empty() ? 0 : dot(dout.row(b) + column, x.value_bias() + column, call.dim);
    });
    team.wait();
    team.deal(batch.sequences, 1, [&](std::int64_t b) { sequence_backward(din, x, shared, call, b, own); });
    team.wait();
    team.share(heads, [&](std::int64_t h) {
      from_rows(dquery, shared.dg, x.key_weight(), call, h);
      weight_gradient(dweight.row_block(0, c), query, shared.dg, call, h);
      weight_gradient(dweight.row_block(c, c), dout, shared.z, call, h);
      for (std::int64_t o = h * call.dim; !dbias.empty() && o < (h + 1) * call.dim; ++o) {
        float sum = 0;
        for (std::int64_t b = 0; b < batch.sequences; ++b) sum += dout.row(b)[o] * shared.sums[b * heads + h];
        dbias.f32()[o] = 0;
        dbias.f32()[c + o] = sum;
      }
    });
  });
}

}  // namespace ember
