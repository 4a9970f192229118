// What lies between the products, the head and the loss.
#include "bench/operations.h"

namespace ember {
namespace {

Prepared residual_layernorm_forward(Workspace& w, const Dropout& dropout) {
  const std::int64_t m = w.batch().tokens, c = w.model().hidden;
  const Tensor out = w.activations(m, c), sum = w.activations(m, c), in = w.activations(m, c);
  const Tensor residual = w.activations(m, c), bias = w.floats(1, c);
  const auto norm = w.norm(c);
  const auto moments = w.moments(m);
  return {
      [=, &w] { w.kernels().residual_layernorm_forward(out, sum, moments, in, bias, residual, norm, 1e-12f, dropout); },
      work::residual_layernorm_forward(number(m), number(c), dropout.active(), w.widths())};
}

Prepared residual_layernorm_backward(Workspace& w) {
  const std::int64_t m = w.batch().tokens, c = w.model().hidden;
  const Tensor dresidual = w.activations(m, c), din = w.activations(m, c), dbias = w.floats(1, c);
  const Tensor dout = w.activations(m, c), dbranch = w.activations(m, c), sum = w.activations(m, c);
  const auto norm = w.norm(c), dnorm = w.norm(c);
  const auto moments = w.moments(m);
  return {[=, &w] {
            w.kernels().residual_layernorm_backward(dresidual, din, dbias, dnorm, dout, dbranch, sum, moments, norm,
                                                    training_dropout(Site::ffn_output));
            w.kernels().finish_gradients();
          },
          work::residual_layernorm_backward(number(m), number(c), true, true, w.widths())};
}

Prepared gelu_forward(Workspace& w) {
  const std::int64_t m = w.batch().tokens, f = w.model().ffn;
  const Tensor out = w.activations(m, f), in = w.activations(m, f, 3), bias = w.floats(1, f);
  return {[=, &w] { w.kernels().gelu_forward(out, in, bias); }, work::gelu_forward(number(m), number(f), w.widths())};
}

Prepared gelu_backward(Workspace& w) {
  const std::int64_t m = w.batch().tokens, f = w.model().ffn;
  const Tensor din = w.activations(m, f), dout = w.activations(m, f), in = w.activations(m, f, 3);
  const Tensor dbias = w.floats(1, f), bias = w.floats(1, f);
  return {[=, &w] {
            w.kernels().gelu_backward(din, dbias, dout, in, bias);
            w.kernels().finish_gradients();
          },
          work::gelu_backward(number(m), number(f), w.widths())};
}

Prepared gather_first(Workspace& w) {
  const std::int64_t b = w.batch().sequences, n = w.batch().tokens, c = w.model().hidden;
  const Tensor out = w.activations(b, c), in = w.activations(n, c);
  return {[=, &w, batch = w.batch()] { w.kernels().gather_first(out, in, batch); },
          work::gather_first(w.batch_size(), number(c), w.widths())};
}

Prepared gather_first_backward(Workspace& w) {
  const std::int64_t b = w.batch().sequences, n = w.batch().tokens, c = w.model().hidden;
  const Tensor din = w.activations(n, c), dout = w.activations(b, c, 1e-3f);
  return {[=, &w, batch = w.batch()] { w.kernels().gather_first_backward(din, dout, batch); },
          work::gather_first_backward(w.batch_size(), number(c), w.widths())};
}

Prepared tanh_forward(Workspace& w) {
  const std::int64_t b = w.batch().sequences, c = w.model().hidden;
  const Tensor out = w.activations(b, c), activated = w.activations(b, c), in = w.activations(b, c);
  const Tensor bias = w.floats(1, c);
  return {[=, &w] { w.kernels().tanh_forward(out, activated, in, bias, training_dropout(Site::pooler)); },
          work::tanh_forward(number(b), number(c), true, w.widths())};
}

Prepared tanh_backward(Workspace& w) {
  const std::int64_t b = w.batch().sequences, c = w.model().hidden;
  const Tensor din = w.activations(b, c), dout = w.activations(b, c), activated = w.activations(b, c);
  const Tensor dbias = w.floats(1, c);
  return {[=, &w] {
            w.kernels().tanh_backward(din, dbias, dout, activated, training_dropout(Site::pooler));
            w.kernels().finish_gradients();
          },
          work::tanh_backward(number(b), number(c), true, w.widths())};
}

Prepared head_forward(Workspace& w) {
  const std::int64_t b = w.batch().sequences, c = w.model().hidden, k = w.model().label_count();
  const Tensor logits = w.floats(b, k), pooled = w.activations(b, c), activated = w.activations(b, c);
  const Tensor in = w.activations(b, c), bias = w.floats(1, c), weight = w.product_weights(k, c),
               weight_bias = w.floats(1, k);
  return {[=, &w] {
            w.kernels().head_forward(logits, pooled, activated, in, bias, weight, weight_bias,
                                     training_dropout(Site::pooler));
          },
          work::head_forward(number(b), number(c), number(k), true, w.widths())};
}

Prepared head_backward(Workspace& w) {
  const std::int64_t b = w.batch().sequences, c = w.model().hidden, k = w.model().label_count();
  const Tensor din = w.activations(b, c), dbias = w.floats(1, c), dlogits = w.activations(b, k),
               activated = w.activations(b, c), weight = w.product_weights(k, c);
  return {[=, &w] {
            w.kernels().head_backward(din, dbias, dlogits, activated, weight, training_dropout(Site::pooler));
            w.kernels().finish_gradients();
          },
          work::head_backward(number(b), number(c), number(k), true, w.widths())};
}

Prepared sigmoid_bce(Workspace& w) {
  const std::int64_t b = w.batch().sequences, k = w.model().label_count();
  const Tensor loss = w.floats(1, 1), dlogits = w.activations(b, k), probabilities = w.floats(b, k);
  const Tensor logits = w.floats(b, k, 3);
  const StepState* state = w.upload<StepState>({{}});
  return {[=, &w, targets = w.batch().targets] {
            w.kernels().sigmoid_bce(loss, dlogits, probabilities, logits, targets, state);
          },
          work::sigmoid_bce(number(b), number(k), w.widths())};
}

}  // namespace

std::vector<Operation> row_operations() {
  const auto norm = [](bool training) {
    return [training](Workspace& w) {
      return residual_layernorm_forward(w, training ? training_dropout(Site::ffn_output) : Dropout{});
    };
  };
  return {
      {"residual_layernorm_forward", "", Extent::batches, false, norm(true)},
      {"residual_layernorm_forward", "inference", Extent::batches, false, norm(false)},
      {"residual_layernorm_backward", "", Extent::batches, false, residual_layernorm_backward},
      {"gelu_forward", "", Extent::batches, false, gelu_forward},
      {"gelu_backward", "", Extent::batches, false, gelu_backward},
      {"gather_first", "", Extent::batches, false, gather_first},
      {"gather_first_backward", "", Extent::batches, false, gather_first_backward},
      {"tanh_forward", "", Extent::batches, false, tanh_forward},
      {"tanh_backward", "", Extent::batches, false, tanh_backward},
      {"head_forward", "", Extent::batches, true, head_forward},
      {"head_backward", "", Extent::batches, true, head_backward},
      {"sigmoid_bce", "", Extent::batches, false, sigmoid_bce},
  };
}

}  // namespace ember
