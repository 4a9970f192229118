#include "bench/operations.h"

namespace ember {
namespace {

// Queries, keys and values as blocks of columns of one product's output, as the model has them.
struct Qkv {
  Qkv(Workspace& w, Queries queries) {
    const std::int64_t n = w.batch().tokens, c = w.model().hidden;
    const Tensor block = w.activations(n, 3 * c);
    query = queries == Queries::all ? block.columns(0, c) : w.activations(w.batch().sequences, c);
    key = block.columns(c, c), value = block.columns(2 * c, c);
  }
  Tensor query, key, value;
};

Dropout dropout(bool training) {
  return training ? training_dropout(Site::attention_probabilities) : Dropout{};
}

Prepared forward(Workspace& w, Queries queries, bool training) {
  const BertConfig& model = w.model();
  const Qkv in(w, queries);
  const Tensor out = w.activations(in.query.rows, model.hidden);
  return {[=, &w, heads = model.heads, positions = model.positions, batch = w.batch()] {
            w.kernels().attention_forward(out, in.query, in.key, in.value, batch, heads, positions, queries,
                                          dropout(training));
          },
          work::attention_forward(w.batch_size(), number(model.hidden), number(model.heads), queries, training,
                                  w.widths())};
}

Prepared backward(Workspace& w, Queries queries) {
  const BertConfig& model = w.model();
  const Qkv in(w, queries), gradients(w, queries);
  const Tensor dout = w.activations(in.query.rows, model.hidden);
  return {
      [=, &w, heads = model.heads, positions = model.positions, batch = w.batch()] {
        w.kernels().attention_backward(gradients.query, gradients.key, gradients.value, dout, in.query, in.key,
                                       in.value, batch, heads, positions, queries, dropout(true));
      },
      work::attention_backward(w.batch_size(), number(model.hidden), number(model.heads), queries, true, w.widths())};
}

// The operands of the last layer's attention, from rows to [CLS].
struct First {
  explicit First(Workspace& w)
      : query(w.activations(w.batch().sequences, w.model().hidden)),
        in(w.activations(w.batch().tokens, w.model().hidden)),
        weight(w.product_weights(2 * w.model().hidden, w.model().hidden)),
        bias(w.activations(1, 2 * w.model().hidden)),
        kept(w.activations(w.batch().tokens, 2 * w.model().hidden)) {}
  Tensor query, in, weight, bias, kept;
};

Prepared first_forward(Workspace& w) {
  const BertConfig& model = w.model();
  const First x(w);
  const Tensor out = w.activations(x.query.rows, model.hidden);
  return {[=, &w, heads = model.heads, positions = model.positions, batch = w.batch()] {
            w.kernels().first_attention_forward(out, x.kept, x.query, x.in, x.weight, x.bias, batch, heads, positions,
                                                dropout(true));
          },
          work::first_attention_forward(w.batch_size(), number(model.hidden), number(model.heads), true, w.widths())};
}

Prepared first_backward(Workspace& w) {
  const BertConfig& model = w.model();
  const std::int64_t c = model.hidden;
  const First x(w);
  const Tensor dquery = w.activations(x.query.rows, c), din = w.activations(x.in.rows, c),
               dkept = w.activations(x.in.rows, 2 * c), dout = w.activations(x.query.rows, c),
               dweight = w.floats(2 * c, c), dbias = w.floats(1, 2 * c);
  return {[=, &w, heads = model.heads, positions = model.positions, batch = w.batch()] {
            w.kernels().first_attention_backward(dquery, din, dweight, dbias, dkept, dout, x.kept, x.query, x.in,
                                                 x.weight, x.bias, batch, heads, positions, dropout(true));
            w.kernels().finish_gradients();
          },
          work::first_attention_backward(w.batch_size(), number(model.hidden), number(model.heads), true, w.widths())};
}

// The same with the queries, from the layer's input.
struct Cls {
  explicit Cls(Workspace& w)
      : first(w.activations(w.batch().sequences, w.model().hidden)),
        in(w.activations(w.batch().tokens, w.model().hidden)),
        weight(w.product_weights(3 * w.model().hidden, w.model().hidden)),
        bias(w.activations(1, 3 * w.model().hidden)),
        kept(w.activations(w.batch().tokens, 3 * w.model().hidden)) {}
  Tensor first, in, weight, bias, kept;
};

Prepared cls_forward(Workspace& w) {
  const BertConfig& model = w.model();
  const Cls x(w);
  const Tensor out = w.activations(x.first.rows, model.hidden);
  return {[=, &w, heads = model.heads, positions = model.positions, batch = w.batch()] {
            w.kernels().cls_attention_forward(out, x.first, x.kept, x.in, x.weight, x.bias, batch, heads, positions,
                                              dropout(true));
          },
          work::cls_attention_forward(w.batch_size(), number(model.hidden), number(model.heads), true, w.widths())};
}

Prepared cls_backward(Workspace& w) {
  const BertConfig& model = w.model();
  const std::int64_t c = model.hidden;
  const Cls x(w);
  const Tensor din = w.activations(x.in.rows, c), dspread = w.activations(x.in.rows, c),
               dkept = w.activations(x.in.rows, 3 * c), dfirst = w.activations(x.first.rows, c, 1e-3f),
               dout = w.activations(x.first.rows, c), dweight = w.floats(3 * c, c), dbias = w.floats(1, 3 * c);
  return {[=, &w, heads = model.heads, positions = model.positions, batch = w.batch()] {
            w.kernels().cls_attention_backward(din, dspread, dweight, dbias, dkept, dfirst, dout, x.kept, x.first, x.in,
                                               x.weight, x.bias, batch, heads, positions, dropout(true));
            w.kernels().finish_gradients();
          },
          work::cls_attention_backward(w.batch_size(), number(c), number(model.heads), true, w.widths())};
}

}  // namespace

std::vector<Operation> attention_operations() {
  return {
      {"attention_forward", "", Extent::batches, false, [](Workspace& w) { return forward(w, Queries::all, true); }},
      {"attention_forward", "inference", Extent::batches, false,
       [](Workspace& w) { return forward(w, Queries::all, false); }},
      {"attention_forward", "first", Extent::batches, false,
       [](Workspace& w) { return forward(w, Queries::first, true); }},
      {"attention_backward", "", Extent::batches, false, [](Workspace& w) { return backward(w, Queries::all); }},
      {"attention_backward", "first", Extent::batches, false, [](Workspace& w) { return backward(w, Queries::first); }},
      {"first_attention_forward", "", Extent::batches, true, first_forward},
      {"first_attention_backward", "", Extent::batches, true, first_backward},
      {"cls_attention_forward", "", Extent::batches, true, cls_forward},
      {"cls_attention_backward", "", Extent::batches, true, cls_backward},
  };
}

}  // namespace ember
