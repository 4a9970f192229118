#include <memory>

#include "bench/operations.h"

namespace ember {
namespace {

// The products of a layer, by their weights (O, I).
struct Product {
  const char* name;
  std::int64_t (*outputs)(const BertConfig&);
  std::int64_t (*inputs)(const BertConfig&);
};

constexpr Product kProducts[] = {
    {"qkv", [](const BertConfig& m) { return 3 * m.hidden; }, [](const BertConfig& m) { return m.hidden; }},
    {"attention", [](const BertConfig& m) { return m.hidden; }, [](const BertConfig& m) { return m.hidden; }},
    {"ffn_in", [](const BertConfig& m) { return m.ffn; }, [](const BertConfig& m) { return m.hidden; }},
    {"ffn_out", [](const BertConfig& m) { return m.hidden; }, [](const BertConfig& m) { return m.ffn; }},
};

// M, O and I of a problem.
struct Size {
  Size(const Workspace& w, const Product& product)
      : m(w.batch().tokens), o(product.outputs(w.model())), i(product.inputs(w.model())) {}
  std::int64_t m, o, i;
};

// Queries, keys and values alone have a bias in the product (model/bert.cpp).
bool has_bias(const Product& product) {
  return product.name == std::string_view("qkv");
}

// Frozen: as inference has it, with a weight that is frozen as long as the call is there.
Prepared forward(Workspace& w, const Product& product, bool frozen) {
  const Size size(w, product);
  const Tensor out = w.activations(size.m, size.o), in = w.activations(size.m, size.i);
  const std::vector<Tensor> weights{w.product_weights(size.o, size.i)};
  const Tensor bias = has_bias(product) ? w.activations(1, size.o) : Tensor{};
  std::shared_ptr<void> thaw_at_end;
  if (frozen) {
    w.kernels().freeze(weights);
    thaw_at_end = {nullptr, [&kernels = w.kernels(), weights](void*) { kernels.thaw(weights); }};
  }
  return {[=, &w] {
            static_cast<void>(thaw_at_end);
            w.kernels().linear_forward(out, in, weights.front(), bias);
          },
          work::linear_forward(number(size.m), number(size.o), number(size.i), has_bias(product), w.widths().activation,
                               frozen ? w.frozen_widths() : w.widths())};
}

Prepared backward_input(Workspace& w, const Product& product) {
  const Size size(w, product);
  const Tensor din = w.activations(size.m, size.i), dout = w.activations(size.m, size.o, 1e-3f);
  const Tensor weight = w.product_weights(size.o, size.i);
  return {[=, &w] { w.kernels().linear_backward_input(din, dout, weight); },
          work::linear_backward_input(number(size.m), number(size.o), number(size.i), w.widths())};
}

Prepared backward_weight(Workspace& w, const Product& product) {
  const Size size(w, product);
  const Tensor dweight = w.floats(size.o, size.i), dbias = has_bias(product) ? w.floats(1, size.o) : Tensor{};
  const Tensor dout = w.activations(size.m, size.o), in = w.activations(size.m, size.i);
  return {[=, &w] {
            w.kernels().linear_backward_weight(dweight, dbias, dout, in);
            w.kernels().finish_gradients();
          },
          work::linear_backward_weight(number(size.m), number(size.o), number(size.i), has_bias(product), w.widths())};
}

Prepared linear_gelu_forward(Workspace& w) {
  const Size size(w, kProducts[2]);
  const Tensor out = w.activations(size.m, size.o), before = w.activations(size.m, size.o);
  const Tensor in = w.activations(size.m, size.i), weight = w.product_weights(size.o, size.i),
               bias = w.floats(1, size.o);
  return {[=, &w] { w.kernels().linear_gelu_forward(out, before, in, weight, bias); },
          work::linear_gelu_forward(number(size.m), number(size.o), number(size.i), w.widths())};
}

Prepared linear_gelu_backward(Workspace& w) {
  const Size size(w, kProducts[3]);
  const Tensor din = w.activations(size.m, size.i), before = w.activations(size.m, size.i, 3);
  const Tensor dout = w.activations(size.m, size.o, 1e-3f), weight = w.product_weights(size.o, size.i);
  const Tensor dbias = w.floats(1, size.i), bias = w.floats(1, size.i);
  return {[=, &w] {
            w.kernels().linear_gelu_backward(din, dbias, dout, weight, before, bias);
            w.kernels().finish_gradients();
          },
          work::linear_gelu_backward(number(size.m), number(size.o), number(size.i), w.widths())};
}

Prepared round_weights(Workspace& w) {
  const std::int64_t rows = w.model().ffn, cols = w.model().hidden;
  const Tensor working = w.product_weights(rows, cols), weight = w.floats(rows, cols);
  return {[=, &w] { w.kernels().round_weights(working, weight); },
          work::round_weights(number(rows * cols), w.widths())};
}

}  // namespace

std::vector<Operation> linear_operations() {
  std::vector<Operation> operations;
  for (const Product& product : kProducts)
    operations.push_back({"linear_forward", product.name, Extent::batches, true,
                          [product](Workspace& w) { return forward(w, product, false); }});
  for (const Product& product : kProducts)
    operations.push_back({"linear_forward", std::string("frozen_") + product.name, Extent::batches, true,
                          [product](Workspace& w) { return forward(w, product, true); }, true});
  for (const Product& product : kProducts)
    operations.push_back({"linear_backward_input", product.name, Extent::batches, true,
                          [product](Workspace& w) { return backward_input(w, product); }});
  for (const Product& product : kProducts)
    operations.push_back({"linear_backward_weight", product.name, Extent::batches, true,
                          [product](Workspace& w) { return backward_weight(w, product); }});
  operations.push_back({"linear_gelu_forward", "", Extent::batches, true, linear_gelu_forward});
  operations.push_back({"linear_gelu_backward", "", Extent::batches, true, linear_gelu_backward});
  operations.push_back({"round_weights", "", Extent::model, true, round_weights});
  return operations;
}

}  // namespace ember
