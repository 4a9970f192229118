#include "bench/step_work.h"

#include <algorithm>
#include <cstring>

#include "model/bert.h"
#include "train/optimizer.h"
#include "train/step_runner.h"

namespace ember {
namespace {

// Memory that is never touched: addresses that differ, and nothing behind them.
class Counter final : public Kernels {
 public:
  Counter(const BatchSize& batch, StepTypes types)
      : batch_(batch), types_(types), widths_{number_of_bytes(types.activations), number_of_bytes(types.products)} {}

  const std::vector<OperationWork>& calls() const { return calls_; }
  void forget() { calls_.clear(); }

  std::string device_name() const override { return "none"; }
  DType activation_type() const override { return types_.activations; }
  DType product_type() const override { return types_.products; }
  Buffer allocate(std::size_t bytes) override {
    const std::uintptr_t address = next_;
    next_ += (bytes / Arena::kAlignment + 1) * Arena::kAlignment;
    return Buffer(reinterpret_cast<void*>(address), bytes, [](void*) {});
  }
  void upload(void*, const void*, std::size_t) override {}
  void download(void* to_host, const void*, std::size_t bytes) override { std::memset(to_host, 0, bytes); }
  std::unique_ptr<Readback> make_readback(std::size_t) override { return nullptr; }
  void freeze(std::span<const Tensor>) override {}
  void thaw(std::span<const Tensor>) override {}

  Batch gather_batch(const BatchArrays& arrays, const RowQueue&, const BatchShape& shape, std::int32_t) override {
    count("gather_batch", work::gather_batch(batch_, number(arrays.targets.cols)));
    return batch_of(arrays, shape, static_cast<std::int64_t>(batch_.unique));
  }
  void embeddings_forward(Tensor out, Tensor, Moments, const Batch&, const EmbeddingTensors&, const LayerNormTensors&,
                          float, const Dropout& dropout) override {
    count("embeddings_forward", work::embeddings_forward(batch_, number(out.cols), dropout.active(), widths_));
  }
  void embeddings_backward(const EmbeddingTensors& dtables, const LayerNormTensors&, Tensor, Tensor dout,
                           Tensor dbranch, Tensor, Moments, const Batch&, const LayerNormTensors&,
                           const Dropout& dropout) override {
    count("embeddings_backward",
          work::embeddings_backward(batch_, number(dout.cols), number(dtables.position.rows), number(dtables.type.rows),
                                    !dbranch.empty(), dropout.active(), widths_));
  }
  void linear_forward(Tensor out, Tensor in, Tensor, Tensor bias) override {
    count("linear_forward", work::linear_forward(number(out.rows), number(out.cols), number(in.cols), !bias.empty(),
                                                 number_of_bytes(out.dtype), widths_));
  }
  void linear_backward_input(Tensor din, Tensor dout, Tensor) override {
    count("linear_backward_input",
          work::linear_backward_input(number(din.rows), number(dout.cols), number(din.cols), widths_));
  }
  void linear_backward_weight(Tensor, Tensor dbias, Tensor dout, Tensor in) override {
    count("linear_backward_weight",
          work::linear_backward_weight(number(in.rows), number(dout.cols), number(in.cols), !dbias.empty(), widths_));
  }
  void linear_gelu_forward(Tensor out, Tensor, Tensor in, Tensor, Tensor) override {
    count("linear_gelu_forward",
          work::linear_gelu_forward(number(out.rows), number(out.cols), number(in.cols), widths_));
  }
  void linear_gelu_backward(Tensor din, Tensor, Tensor dout, Tensor, Tensor, Tensor) override {
    count("linear_gelu_backward",
          work::linear_gelu_backward(number(din.rows), number(dout.cols), number(din.cols), widths_));
  }
  void round_weights(Tensor, Tensor) override {}  // once a model
  void attention_forward(Tensor, Tensor, Tensor key, Tensor, const Batch&, std::int64_t heads, std::int64_t,
                         Queries queries, const Dropout& dropout) override {
    count("attention_forward",
          work::attention_forward(batch_, number(key.cols), number(heads), queries, dropout.active(), widths_));
  }
  void attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor key, Tensor, const Batch&, std::int64_t heads,
                          std::int64_t, Queries queries, const Dropout& dropout) override {
    count("attention_backward",
          work::attention_backward(batch_, number(key.cols), number(heads), queries, dropout.active(), widths_));
  }
  void cls_attention_forward(Tensor, Tensor, Tensor, Tensor in, Tensor, Tensor, const Batch&, std::int64_t heads,
                             std::int64_t, const Dropout& dropout) override {
    count("cls_attention_forward",
          work::cls_attention_forward(batch_, number(in.cols), number(heads), dropout.active(), widths_));
  }
  Tensor cls_attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor in,
                                Tensor, Tensor, const Batch&, std::int64_t heads, std::int64_t,
                                const Dropout& dropout) override {
    count("cls_attention_backward",
          work::cls_attention_backward(batch_, number(in.cols), number(heads), dropout.active(), widths_));
    return {};
  }
  void residual_layernorm_forward(Tensor out, Tensor, Moments, Tensor, Tensor, Tensor, const LayerNormTensors&, float,
                                  const Dropout& dropout) override {
    count("residual_layernorm_forward",
          work::residual_layernorm_forward(number(out.rows), number(out.cols), dropout.active(), widths_));
  }
  void residual_layernorm_backward(Tensor, Tensor, Tensor, const LayerNormTensors&, Tensor dout, Tensor dbranch, Tensor,
                                   Moments, const LayerNormTensors&, const Dropout& dropout) override {
    count("residual_layernorm_backward",
          work::residual_layernorm_backward(number(dout.rows), number(dout.cols), !dbranch.empty(), dropout.active(),
                                            widths_));
  }
  void gelu_forward(Tensor out, Tensor, Tensor) override {
    count("gelu_forward", work::gelu_forward(number(out.rows), number(out.cols), widths_));
  }
  void gelu_backward(Tensor din, Tensor, Tensor, Tensor, Tensor) override {
    count("gelu_backward", work::gelu_backward(number(din.rows), number(din.cols), widths_));
  }
  void gather_first(Tensor out, Tensor, const Batch&) override {
    count("gather_first", work::gather_first(batch_, number(out.cols), widths_));
  }
  void gather_first_backward(Tensor din, Tensor, const Batch&) override {
    count("gather_first_backward", work::gather_first_backward(batch_, number(din.cols), widths_));
  }
  void tanh_forward(Tensor out, Tensor, Tensor, Tensor, const Dropout& dropout) override {
    count("tanh_forward", work::tanh_forward(number(out.rows), number(out.cols), dropout.active(), widths_));
  }
  void tanh_backward(Tensor din, Tensor, Tensor, Tensor, const Dropout& dropout) override {
    count("tanh_backward", work::tanh_backward(number(din.rows), number(din.cols), dropout.active(), widths_));
  }
  void head_forward(Tensor logits, Tensor, Tensor, Tensor in, Tensor, Tensor, Tensor, const Dropout& dropout) override {
    count("head_forward",
          work::head_forward(number(in.rows), number(in.cols), number(logits.cols), dropout.active(), widths_));
  }
  void head_backward(Tensor din, Tensor, Tensor dlogits, Tensor, Tensor, const Dropout& dropout) override {
    count("head_backward",
          work::head_backward(number(din.rows), number(din.cols), number(dlogits.cols), dropout.active(), widths_));
  }
  void sigmoid_bce(Tensor, Tensor, Tensor, Tensor logits, Tensor, const StepState*) override {
    count("sigmoid_bce", work::sigmoid_bce(number(logits.rows), number(logits.cols), widths_));
  }
  void gradient_norm(StepState*, std::span<const Tensor> gradients) override {
    double elements = 0;
    for (const Tensor& gradient : gradients) elements += number(gradient.size());
    count("gradient_norm", work::gradient_norm_in_step(elements));
  }
  void adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate*, const StepState*, float) override {
    double elements = 0;
    for (const AdamWParameter& parameter : parameters) elements += number(parameter.weights.size());
    count("adamw", work::adamw(elements, working_width()));
  }
  void adamw_rows(const AdamWParameter& table, const std::int32_t*, std::int32_t*, const AdamWUpdate*, const StepState*,
                  float) override {
    count("adamw_rows", work::adamw_rows(number(table.gradient.rows), number(table.weights.cols), working_width()));
  }
  void adamw_replay(const AdamWParameter& table, const std::int32_t*, std::int64_t rows, std::int32_t*,
                    const AdamWUpdate*, const StepState*) override {
    count("adamw_replay", work::adamw_replay(number(rows), number(table.weights.cols), 0, working_width()));
  }
  void finish_step(StepState*, const LossScaling&, const StepLog&) override {
    count("finish_step", work::finish_step());
  }

 private:
  static double number_of_bytes(DType type) { return static_cast<double>(size_of(type)); }
  double working_width() const { return types_.products == DType::f32 ? 0 : widths_.product; }
  void count(const char* method, Work work) { calls_.push_back({method, work}); }

  BatchSize batch_;
  StepTypes types_;
  Widths widths_;
  std::uintptr_t next_ = 1 << 20;
  std::vector<OperationWork> calls_;
};

// As many texts and tokens; only the numbers matter.
Dataset texts_of(const BatchSize& batch) {
  Dataset dataset;
  const auto rows = static_cast<std::int64_t>(batch.sequences), tokens = static_cast<std::int64_t>(batch.tokens);
  const std::vector<std::int32_t> label{0};
  for (std::int64_t row = 0; row < rows; ++row)
    dataset.append(std::vector<std::int32_t>(static_cast<std::size_t>((row + 1) * tokens / rows - row * tokens / rows)),
                   label);
  return dataset;
}

}  // namespace

std::vector<OperationWork> step_work(const BertConfig& config, const BatchSize& batch, StepTypes types) {
  Counter counter(batch, types);
  BertWeights weights(config, counter);
  Optimizer optimizer(config, weights, counter, {}, Schedule(1, 0, 1), 1);
  const Dataset texts = texts_of(batch);
  Batches batches(counter, config, texts);
  const BatchShape shape = batches.exact_shape(texts.size());
  batches.reserve({shape.tokens, shape.sequences});
  Bert model(config, weights, counter, Purpose::training, {shape.tokens, shape.sequences});
  constexpr std::int64_t kStepsDone = 1;  // before the first step all rows of the word embedding are brought up to date
  StepRunner runner(counter, model, optimizer, batches, 0, false, kStepsDone);
  counter.forget();
  runner.step(texts.size());
  return counter.calls();
}

double floor_seconds(const std::vector<OperationWork>& calls, const Peaks& peaks) {
  double seconds = 0;
  for (const OperationWork& call : calls)
    seconds += std::max(call.work.bytes / peaks.bytes_per_second, call.work.flop / peaks.flop_per_second);
  return seconds;
}

}  // namespace ember
