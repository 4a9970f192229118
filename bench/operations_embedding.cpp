#include "bench/operations.h"

namespace ember {
namespace {

constexpr Site kSite = Site::embeddings;

Prepared embeddings_forward(Workspace& w, const Dropout& dropout) {
  const BertConfig& model = w.model();
  const std::int64_t n = w.batch().tokens, c = model.hidden;
  const EmbeddingTensors tables{w.floats(model.vocabulary, c), w.floats(model.positions, c), w.floats(model.types, c)};
  const Tensor out = w.activations(n, c), sum = w.activations(n, c);
  const auto norm = w.norm(c);
  const auto moments = w.moments(n);
  return {[=, &w, batch = w.batch()] {
            w.kernels().embeddings_forward(out, sum, moments, batch, tables, norm, 1e-12f, dropout);
          },
          work::embeddings_forward(w.batch_size(), number(c), dropout.active(), w.widths())};
}

Prepared embeddings_backward(Workspace& w) {
  const BertConfig& model = w.model();
  const Batch& batch = w.batch();
  const std::int64_t n = batch.tokens, c = model.hidden;
  const EmbeddingTensors dtables{w.floats(batch.unique, c), w.floats(model.positions, c), w.floats(model.types, c)};
  const Tensor dsum = w.activations(n, c), dout = w.activations(n, c), dbranch = w.activations(n, c),
               sum = w.activations(n, c);
  const auto norm = w.norm(c), dnorm = w.norm(c);
  const auto moments = w.moments(n);
  const Dropout dropout = training_dropout(kSite);
  return {[=, &w] {
            w.kernels().embeddings_backward(dtables, dnorm, dsum, dout, dbranch, sum, moments, batch, norm, dropout);
            w.kernels().finish_gradients();
          },
          work::embeddings_backward(w.batch_size(), number(c), number(model.positions), number(model.types), true, true,
                                    w.widths())};
}

}  // namespace

std::vector<Operation> embedding_operations() {
  return {
      {"embeddings_forward", "", Extent::batches, false,
       [](Workspace& w) { return embeddings_forward(w, training_dropout(kSite)); }},
      {"embeddings_forward", "inference", Extent::batches, false,
       [](Workspace& w) { return embeddings_forward(w, {}); }},
      {"embeddings_backward", "", Extent::batches, false, embeddings_backward},
  };
}

}  // namespace ember
