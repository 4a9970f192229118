// What an operation has to do, counted from its contract in kernels/kernels.h: one function for each method, by which
// bench_kernels turns times into rates. It is the least that any implementation must do, whatever ours does.
//
// Bytes: every operand that the contract names, once where it is read, once where it is written (twice where it is
// added to), in its own type; of a table only the rows that the batch names. Caches, scratch memory, what is computed
// again and what is read twice do not count.
// FLOP: one for each addition, subtraction, multiplication, division, comparison, square root, exp, log, erf and tanh
// of the formula, two for a multiply-add; column sums and the multiplication by dropout's factor included. Not counted:
// random numbers, conversions, and what is done once a row.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace ember {

struct Work {
  double bytes = 0;
  double flop = 0;
};

// Bytes of an element: of activations, and of the weights that products read.
struct Widths {
  double activation = 4;
  double product = 4;
};

// A batch's numbers, as in kernels/batch.h. pairs: the sum of the squared lengths, the (query, key) pairs of attention.
struct BatchSize {
  double sequences = 0, tokens = 0, max_length = 0, unique = 0, pairs = 0;
};

// A count as the functions below take it.
inline double number(std::int64_t count) {
  return static_cast<double>(count);
}

namespace work {

// Labels of one per text.
Work gather_batch(const BatchSize& batch, double k);
// Letters as in kernels.h; `dropout`: whether it is active.
Work embeddings_forward(const BatchSize& batch, double c, bool dropout, Widths widths);
// `branch`, here and below: whether there is a dbranch.
Work embeddings_backward(const BatchSize& batch, double c, double p, double t, bool branch, bool dropout,
                         Widths widths);

// `out`: bytes of an element of the output; `bias`: whether there is one.
Work linear_forward(double m, double o, double i, bool bias, double out, Widths widths);
Work linear_backward_input(double m, double o, double i, Widths widths);
Work linear_backward_weight(double m, double o, double i, bool bias, Widths widths);
// `o` and `i` of the layer's own weight, (O, I).
Work linear_gelu_forward(double m, double o, double i, Widths widths);
Work linear_gelu_backward(double m, double o, double i, Widths widths);
Work round_weights(double elements, Widths widths);

Work attention_forward(const BatchSize& batch, double c, double h, Queries queries, bool dropout, Widths widths);
Work attention_backward(const BatchSize& batch, double c, double h, Queries queries, bool dropout, Widths widths);
// By the way of B rows, which has less to do than keys and values unless sequences are short.
Work first_attention_forward(const BatchSize& batch, double c, double h, bool dropout, Widths widths);
Work first_attention_backward(const BatchSize& batch, double c, double h, bool dropout, Widths widths);
Work cls_attention_forward(const BatchSize& batch, double c, double h, bool dropout, Widths widths);
Work cls_attention_backward(const BatchSize& batch, double c, double h, bool dropout, Widths widths);

Work residual_layernorm_forward(double m, double c, bool dropout, Widths widths);
Work residual_layernorm_backward(double m, double c, bool branch, bool dropout, Widths widths);
Work gelu_forward(double m, double f, Widths widths);
Work gelu_backward(double m, double f, Widths widths);

Work gather_first(const BatchSize& batch, double c, Widths widths);
Work gather_first_backward(const BatchSize& batch, double c, Widths widths);
Work tanh_forward(double b, double c, bool dropout, Widths widths);
Work tanh_backward(double b, double c, bool dropout, Widths widths);
// All three outputs.
Work head_forward(double b, double c, double k, bool dropout, Widths widths);
Work head_backward(double b, double c, double k, bool dropout, Widths widths);
Work sigmoid_bce(double b, double k, Widths widths);

Work gradient_norm(double elements);
// Of a step's gradients, whose squares may be summed where they are written: nothing is read for it.
Work gradient_norm_in_step(double elements);
// `working`: bytes of an element of the working copy, 0 without one.
Work adamw(double elements, double working);
Work adamw_rows(double u, double c, double working);
// `missed`: the updates that each of the `rows` rows has missed.
Work adamw_replay(double rows, double c, double missed, double working);
Work finish_step();
Work adamw_step(double elements, double u, double c, double working);

}  // namespace work
}  // namespace ember
