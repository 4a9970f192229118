// The index of every operation: one method each, with its contract. A backend implements an operation in one file of
// the operation's name, kernels/cpu/attention.cpp say, or of the one that it is a form of: adamw_rows stands in adamw,
// cls_attention in attention. The model (model/bert.h) is written once against this class.
//
// Letters: B sequences, N tokens of the batch (the sum of the lengths), C hidden size, H heads, D = C / H head dim,
// F feed-forward size, V vocabulary, K labels, M rows of any operand, U different tokens of the batch.
// "Activations" are Tensors of activation_type(); statistics, gradients of parameters and everything in the optimizer
// are f32. Outputs are overwritten unless a method says "adds to". Operands do not overlap unless a method says that
// they may. All methods are deterministic: the same operands (and number of threads) give the same bits. A tensor of
// the wrong shape is a defect of the caller's and throws std::logic_error. After any other exception out of a step, a
// recording included, what has been deferred is undefined: a backend is then of no more use for steps.
// Weights, biases, batches and a dropout's counter are written by upload, round_weights, gather_batch and the
// optimizer's methods alone, so a backend may read them before the work that it was given before is done.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/batch.h"
#include "runtime/arena.h"
#include "runtime/philox.h"
#include "runtime/tensor.h"

namespace ember {

// Of the matrix products. int8: of linear_forward with frozen weights, everything else in fp32; for inference on the
// CPU.
enum class Precision { fp32, bf16, int8 };

// Of that name, as above. Error for another.
inline Precision precision_named(std::string_view name) {
  if (name == "bf16") return Precision::bf16;
  if (name == "int8") return Precision::int8;
  check(name == "fp32", "{}: no such precision, expected fp32, bf16 or int8", printable(name));
  return Precision::fp32;
}

// Weight and bias (C) of a LayerNorm, or their gradients.
struct LayerNormTensors {
  Tensor weight, bias;
};

// Per row: mean and 1 / sqrt(variance + eps), (M) each, saved by a LayerNorm's forward for its backward.
struct Moments {
  Tensor mean, rstd;
};

// The three tables summed at the input, or their gradients; the gradient of `word` has U rows (kernels/batch.h).
struct EmbeddingTensors {
  Tensor word;      // (V, C)
  Tensor position;  // (P, C)
  Tensor type;      // (T, C); every token is of type 0
};

// Which rows of each sequence ask in attention: all, or only the first ([CLS]), all that the last layer needs.
enum class Queries { all, first };

// Weights with the state of their optimizer: equal shapes, f32, rows adjacent. `working` is the copy that linear
// products read, in product_type(); empty where that is f32, the weights themselves then serve. `gradient` (of the loss
// times the loss scale) has the weights' size, rows adjacent, or U rows where a method says so. Without `decayed` the
// weights do not decay.
struct AdamWParameter {
  Tensor weights, first_moment, second_moment, working, gradient;
  bool decayed = true;
};

// One update's coefficients. eta: learning rate, lambda: weight decay, t: the number of updates including this one. The
// corrections must be of the betas below, rounded as they are: 1 - 0.999f is off by 1.3e-5 from 0.001. Aligned for a
// GPU to read it in two loads.
struct alignas(16) AdamWUpdate {
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float epsilon = 1e-8f;         // above 0
  float decay = 1;               // 1 - eta lambda
  float step_size = 0;           // eta / (1 - beta1^t)
  float inverse_correction = 1;  // 1 / sqrt(1 - beta2^t)
};

// Where training stands, in memory of the device, so that no decision of a step waits for the host. Mixed precision
// after Micikevicius et al. 2018, "Mixed precision training", section 3.2: the loss is multiplied by a scale that keeps
// small gradients from vanishing in fp16; a step whose gradient overflowed is skipped.
struct StepState {
  float loss_scale = 1;
  float gradient_norm = 0;       // of the last step, of the unscaled gradients, before clipping
  std::int32_t finite = 1;       // whether that norm is; if not the step was skipped
  std::int32_t updates = 0;      // of the weights so far
  std::int32_t clean_steps = 0;  // since the scale changed, or a step was skipped
  std::int32_t skipped = 0;      // steps so far
  std::int32_t steps = 0;        // updates + skipped: the number of the step at hand, which dropout reads
};

// What a step leaves for whoever watches.
struct StepRecord {
  float loss = 0;
  StepState state;  // after it
};

// Where steps leave their records: that of step s in records[s % capacity]; and their state as it was when its updates
// were due, before the step was counted. Null: nowhere.
struct StepLog {
  const float* loss = nullptr;  // of the step at hand
  StepRecord* records = nullptr;
  std::int32_t capacity = 0;
  StepState* before = nullptr;
};

// The scale halves at every skipped step whose loss is finite, or is not told (StepLog), down to 2^-24, and doubles
// after `growth_interval` clean ones, up to 2^24. growth_interval 0: the scale stays.
struct LossScaling {
  std::int32_t growth_interval = 0;
};

// Work recorded with its arguments, to be given to the device again and again as a whole.
class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  virtual void run() = 0;
};

// A copy from the device that the host need not wait for.
class Readback {
 public:
  virtual ~Readback() = default;
  // Begins to copy, once the work given so far is done. An earlier copy must have been waited for.
  virtual void start(const void* from_device) = 0;
  // Whether wait() would return at once.
  virtual bool ready() const = 0;
  // Returns what was copied, valid until the next start; waits if it is still under way.
  virtual const void* wait() = 0;
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  // ---- The device -------------------------------------------------------------------------------------------------
  virtual std::string device_name() const = 0;  // "cpu (2 threads, AVX2)"
  virtual DType activation_type() const = 0;
  virtual DType product_type() const = 0;          // of the weights that linear_* read
  virtual Buffer allocate(std::size_t bytes) = 0;  // zero-filled, on the device
  // Both return when the host's memory may be used again; download waits for all work before it.
  virtual void upload(void* to_device, const void* from_host, std::size_t bytes) = 0;
  virtual void download(void* to_host, const void* from_device, std::size_t bytes) = 0;
  virtual bool on_host() const { return false; }  // whether the device's memory is the host's
  // The most tokens that a batch to be scored should have: enough rows for the products, and few enough that what these
  // write stays in the caches (docs/performance_cpu_inference.md).
  virtual std::int64_t tokens_at_once() const { return 512; }
  virtual std::unique_ptr<Readback> make_readback(std::size_t bytes) = 0;
  // Calls `work`, which only gives work to the device (it neither allocates nor up- or downloads), and keeps it without
  // running it. Null, and `work` not called, where a recording is no faster than the calls. Each operation must have
  // been called before with operands of the same shapes and steps, not in a recording; start_updates need not.
  virtual std::unique_ptr<RecordedWork> record(const std::function<void()>& work) {
    static_cast<void>(work);
    return nullptr;
  }
  // The columns of a head that attention takes at most.
  virtual std::int64_t most_head_columns() const { return std::numeric_limits<std::int64_t>::max(); }
  // What was chosen by measurement and may change last bits, as text for a checkpoint: a run that goes on with the same
  // choices goes on with the same bits. Empty: there was no choice. Error when the text is not of this backend; false
  // when it is of another device or another version of a library, and changes nothing.
  virtual std::string choices() const { return {}; }
  virtual bool use_choices(std::string_view text) {
    check(text.empty(), "none were expected, since this backend makes no choices, but there is {}", printable(text));
    return true;
  }

  // ---- Batches ----------------------------------------------------------------------------------------------------
  // The shape of a batch, from its own (sequences = rows). Where work is recorded for a shape, tokens are rounded up,
  // so that few shapes occur, and max_length up to `positions` at most: a filling of 1 to `positions` tokens then
  // follows. It changes nothing but itself: without targets its gradient is zero, and no other sequence sees it.
  virtual BatchShape batch_shape(const BatchShape& exact, std::int64_t positions) const {
    static_cast<void>(positions);
    return exact;
  }
  // Takes the next shape.rows rows of the queue, and moves the queue on. `shape`: of those rows, exact or
  // batch_shape's. Returns views of `arrays`. Every id and label of the data is trusted.
  virtual Batch gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                             std::int32_t padding_id) = 0;

  // ---- Embeddings -------------------------------------------------------------------------------------------------
  // sum[n] = word[token n] + position[place of n in its sequence] + type[0];  out = dropout(LayerNorm(sum)).
  // out, sum: (N, C). Devlin et al. 2019 (BERT), section 3; LayerNorm: Ba, Kiros and Hinton 2016.
  virtual void embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch,
                                  const EmbeddingTensors& tables, const LayerNormTensors& norm, float epsilon,
                                  const Dropout& dropout) = 0;
  // From the gradient of out, dout + dbranch as residual_layernorm_backward takes it, (N, C) each: the gradients of the
  // tables (word: U rows; position: all P rows, zero where unused; type: all T rows) and of the LayerNorm. dsum (N, C)
  // is scratch and receives the gradient of sum; it may be dout or dbranch. A backend that defers gradients needs dsum
  // and the batch as they are until it has finished them.
  virtual void embeddings_backward(const EmbeddingTensors& dtables, const LayerNormTensors& dnorm, Tensor dsum,
                                   Tensor dout, Tensor dbranch, Tensor sum, Moments moments, const Batch& batch,
                                   const LayerNormTensors& norm, const Dropout& dropout) = 0;

  // ---- Linear -----------------------------------------------------------------------------------------------------
  // out = in weightᵀ + bias.  out: (M, O), in: (M, I), weight: (O, I) in product_type(), bias: (O) of out's type, or
  // empty. out is f32 or of activation_type().
  virtual void linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) = 0;
  // Promises that the values of `weights` stay as they are until thaw: linear_forward may then read copies of them in
  // an order of its own. For inference. Freezing again replaces the copy.
  virtual void freeze(std::span<const Tensor> weights) = 0;
  virtual void thaw(std::span<const Tensor> weights) = 0;
  // din = dout weight.
  virtual void linear_backward_input(Tensor din, Tensor dout, Tensor weight) = 0;
  // dweight = doutᵀ in; dbias = column sums of dout unless dbias is empty.
  virtual void linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) = 0;
  // A backend that defers gradients computes those of parameters (dweight, dbias, dnorm and the like, of this and every
  // other backward below) only in finish_gradients, those of all layers together. Until then such outputs are
  // undefined, and dout and in of linear_backward_weight must stay as they are; the other methods' inputs need not.
  // Other backends have nothing left to do.
  virtual bool defers_gradients() const { return false; }
  virtual void finish_gradients() {}
  // Says that much has been deferred, which the backend may begin to compute beside what is called next. More gradients
  // of weights of the shape of `later` are to come, so that one that takes those of a shape together may leave them;
  // none, if that is empty.
  virtual void start_gradients(Tensor later) { static_cast<void>(later); }

  // A linear layer without its bias, which GELU adds: before = in weightᵀ, out = gelu(before + bias).  out, before: (M,
  // O) of activation_type(), bias: (O) f32; all else as in linear_forward and gelu_forward. By default by these. out
  // may be `before`, which then is not kept.
  virtual void linear_gelu_forward(Tensor out, Tensor before, Tensor in, Tensor weight, Tensor bias);
  // Back through the GELU that a linear layer's input came from: with dactivated = dout weight, the gradient of in =
  // gelu(before + bias), din = dactivated gelu'(before + bias) and dbias = its column sums.  din, before: (M, I), dout:
  // (M, O), weight: (O, I), dbias, bias: (I). By default by linear_backward_input and gelu_backward.
  virtual void linear_gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor weight, Tensor before, Tensor bias);

  // working = weight rounded to product_type(), to the nearest even. Same shape; weight f32.
  virtual void round_weights(Tensor working, Tensor weight) = 0;

  // ---- Attention --------------------------------------------------------------------------------------------------
  // For each sequence and head, with q, k, v the head's D columns of the sequence's rows:
  //   out = dropout(softmax(q kᵀ / sqrt(D))) v.
  // query, out: (N, C), or (B, C) for Queries::first: row b is the first row of sequence b. key, value: (N, C).
  // Element of the dropout stream for query row n (its row among the N), head h, place j of the key in its sequence:
  // (n H + h) 4 ceil(P / 4) + j with P = `positions`, so that it depends on nothing but the token.
  // Vaswani et al. 2017, section 3.2; the probabilities are never stored (Dao et al. 2022, FlashAttention).
  virtual void attention_forward(Tensor out, Tensor query, Tensor key, Tensor value, const Batch& batch,
                                 std::int64_t heads, std::int64_t positions, Queries queries,
                                 const Dropout& dropout) = 0;
  // The gradients of query, key and value, shaped like them. Probabilities are recomputed.
  virtual void attention_backward(Tensor dquery, Tensor dkey, Tensor dvalue, Tensor dout, Tensor query, Tensor key,
                                  Tensor value, const Batch& batch, std::int64_t heads, std::int64_t positions,
                                  Queries queries, const Dropout& dropout) = 0;

  // attention_forward for Queries::first of the rows that keys and values are products of: with weight = [Wk; Wv] (2C,
  // C) in product_type(), bias = [bk, bv] (2C) as linear_forward takes it and in (N, C),
  //   key = in Wkᵀ + bk,  value = in Wvᵀ + bv,  out = attention(query, key, value).  out, query: (B, C).
  // A backend need not compute them, since only B rows ask: the scores of a head are also (q Wk) · in + a constant that
  // softmax does not see, its output is Wv (sum of p in) + bv sum of p. kept (N, 2C) is memory for backward.
  // By default the products and attention_forward.
  virtual void first_attention_forward(Tensor out, Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias,
                                       const Batch& batch, std::int64_t heads, std::int64_t positions,
                                       const Dropout& dropout);
  // The gradients of query, in, weight and bias, shaped like them (dweight, dbias: f32). kept as forward left it; dkept
  // (N, 2C) is scratch, which a backend that defers gradients needs, as it does `in`, until it has finished them. The
  // true gradient of bk is zero.
  virtual void first_attention_backward(Tensor dquery, Tensor din, Tensor dweight, Tensor dbias, Tensor dkept,
                                        Tensor dout, Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias,
                                        const Batch& batch, std::int64_t heads, std::int64_t positions,
                                        const Dropout& dropout);

  // The attention of a layer of whose output only [CLS] is read, from its input, in (N, C): with weight = [Wq; Wk; Wv]
  // (3C, C) and bias (3C) as above,
  //   first[b] = in[cu_seqlens[b]],  query = first Wqᵀ + bq,  out = attention of query, key and value as above.
  // out, first: (B, C). kept (N, 3C), rows adjacent, is memory for backward.
  // By default gather_first, the product of the queries and first_attention_forward.
  virtual void cls_attention_forward(Tensor out, Tensor first, Tensor kept, Tensor in, Tensor weight, Tensor bias,
                                     const Batch& batch, std::int64_t heads, std::int64_t positions,
                                     const Dropout& dropout);
  // The gradients of weight and bias, shaped like them, and of in: that is din + what is returned, dspread or an empty
  // tensor, for a LayerNorm's backward to add. din and dspread are (N, C); a backend need not write to dspread. dfirst
  // is the gradient of `first` by its other uses, which that of `in` includes; it may be overwritten. kept as forward
  // left it; dkept (N, 3C), rows adjacent, is scratch. A backend that defers gradients needs in, first and dkept as
  // they are until it has finished them.
  virtual Tensor cls_attention_backward(Tensor din, Tensor dspread, Tensor dweight, Tensor dbias, Tensor dkept,
                                        Tensor dfirst, Tensor dout, Tensor kept, Tensor first, Tensor in, Tensor weight,
                                        Tensor bias, const Batch& batch, std::int64_t heads, std::int64_t positions,
                                        const Dropout& dropout);

  // ---- Between the products ---------------------------------------------------------------------------------------
  // sum = residual + dropout(in + bias);  out = LayerNorm(sum).  All (M, C); bias (C). sum may be in or residual.
  virtual void residual_layernorm_forward(Tensor out, Tensor sum, Moments moments, Tensor in, Tensor bias,
                                          Tensor residual, const LayerNormTensors& norm, float epsilon,
                                          const Dropout& dropout) = 0;
  // From the gradient of out, dout + dbranch, (M, C) each: the residual's share and that of the branch beside it, added
  // in f32 as they are read, so that the sum is neither rounded nor stored. dbranch is empty where there is none.
  // dresidual = gradient of sum; din = dropout's share of it; dbias = column sums of din; the LayerNorm's. dresidual
  // and din may each be dout or dbranch, not both the same. With dropout inactive din equals dresidual but is written
  // all the same.
  virtual void residual_layernorm_backward(Tensor dresidual, Tensor din, Tensor dbias, const LayerNormTensors& dnorm,
                                           Tensor dout, Tensor dbranch, Tensor sum, Moments moments,
                                           const LayerNormTensors& norm, const Dropout& dropout) = 0;
  // out = gelu(in + bias) with gelu(x) = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2.  (M, F); bias (F). out may be in.
  // Hendrycks and Gimpel 2016; the exact form, not the tanh approximation.
  virtual void gelu_forward(Tensor out, Tensor in, Tensor bias) = 0;
  // din = dout (Phi(x) + x phi(x)) at x = in + bias; dbias = column sums of din. din may be dout.
  virtual void gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor in, Tensor bias) = 0;

  // ---- Head -------------------------------------------------------------------------------------------------------
  // out[b] = in[cu_seqlens[b]]: the first row of each sequence.  out: (B, C), in: (N, C).
  virtual void gather_first(Tensor out, Tensor in, const Batch& batch) = 0;
  // din[cu_seqlens[b]] += dout[b]; the other rows of din are left as they are.
  virtual void gather_first_backward(Tensor din, Tensor dout, const Batch& batch) = 0;
  // activated = tanh(in + bias); out = dropout(activated).  (B, C); bias (C). activated may be in.
  virtual void tanh_forward(Tensor out, Tensor activated, Tensor in, Tensor bias, const Dropout& dropout) = 0;
  // din = dropout's share of dout times (1 - activated²); dbias = column sums of din. din may be dout.
  virtual void tanh_backward(Tensor din, Tensor dbias, Tensor dout, Tensor activated, const Dropout& dropout) = 0;

  // The head after the pooler's product: activated = tanh(in + bias), pooled = dropout(activated), logits = pooled
  // weightᵀ + weight_bias.  logits: (B, K) f32, all else as in tanh_forward and linear_forward. By default by these.
  virtual void head_forward(Tensor logits, Tensor pooled, Tensor activated, Tensor in, Tensor bias, Tensor weight,
                            Tensor weight_bias, const Dropout& dropout);
  // Back to the pooler's product: din and dbias as tanh_backward makes them of dlogits weight, which is not rounded on
  // every backend. weight and weight_bias have their gradients by linear_backward_weight.
  virtual void head_backward(Tensor din, Tensor dbias, Tensor dlogits, Tensor activated, Tensor weight,
                             const Dropout& dropout);

  // ---- Loss -------------------------------------------------------------------------------------------------------
  // With x = logits (B, K), y = targets (R, K), R <= B, all f32: loss (1) = mean over R K of max(x, 0) - x y +
  // log(1 + exp(-|x|)), the binary cross-entropy of sigmoid(x) in the first R rows; dlogits = state->loss_scale
  // (sigmoid(x) - y) / (R K) there and 0 in the others, of activation_type(); probabilities = sigmoid(x) in all. Empty
  // outputs are not computed; targets may be empty when only probabilities are asked for. A null `state` is a scale
  // of 1.
  virtual void sigmoid_bce(Tensor loss, Tensor dlogits, Tensor probabilities, Tensor logits, Tensor targets,
                           const StepState* state) = 0;

  // ---- Optimizer --------------------------------------------------------------------------------------------------
  // state->gradient_norm = the L2 norm of all elements of all `gradients`, f32 with adjacent rows, / state->loss_scale;
  // state->finite = whether that is finite. A backend that defers gradients may have summed their squares as it
  // computed them: of gradients that the last finish_gradients computed (called or recorded; a recorded norm runs after
  // it), none may have been changed since.
  virtual void gradient_norm(StepState* state, std::span<const Tensor> gradients) = 0;
  // AdamW with decoupled decay (Loshchilov and Hutter 2019; Kingma and Ba 2015), per element, by the coefficients
  // schedule[state->updates], with the gradient first scaled by min(1, max_norm / (state->gradient_norm + 1e-6)) /
  // state->loss_scale (max_norm 0: no clipping):
  //   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
  //   w = decay w - step_size m / (sqrt(v) inverse_correction + epsilon);  working = w
  // An m below the smallest normal float becomes zero, so that momentum ends. One inline function with explicit
  // multiply-adds serves this and the two below, so dense and lazy give the same bits. Does nothing unless
  // state->finite. `schedule` is in memory of the device, one entry for every update of the run.
  virtual void adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate* schedule, const StepState* state,
                     float max_norm) = 0;
  // The same for rows ids[u] of a table, with gradient (U, C) and row_updates[id], the number of updates a row has
  // seen, which must stand at state->updates and becomes one more. Ids of -1 are passed over, here and below.
  virtual void adamw_rows(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates,
                          const AdamWUpdate* schedule, const StepState* state, float max_norm) = 0;
  // Brings rows to state->updates: applies to each the updates schedule[row_updates[id]..] with gradient zero, as if it
  // had been updated at each of them. `ids` (count), or every row of the table when null. No gradient is read. Of a
  // table that decays alone, as the word embedding does.
  virtual void adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                            std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* state) = 0;
  // adamw_replay of `ids`, and of row also[0] (in memory of the device), which must not be among them. By default by
  // adamw_replay.
  virtual void adamw_catch_up(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                              const std::int32_t* also, std::int32_t* row_updates, const AdamWUpdate* schedule,
                              const StepState* state);
  // The end of a step: counts it in state->steps and state->updates or state->skipped, adapts the loss scale and leaves
  // a record.
  virtual void finish_step(StepState* state, const LossScaling& scaling, const StepLog& log) = 0;
  // All that follows the norm: adamw_rows of `table`, adamw of `parameters`, finish_step. By default by these.
  virtual void adamw_step(std::span<const AdamWParameter> parameters, const AdamWParameter& table,
                          const std::int32_t* ids, std::int32_t* row_updates, const AdamWUpdate* schedule,
                          StepState* state, float max_norm, const LossScaling& scaling, const StepLog& log);
  // A backend that defers updates gains where those of the weights that the next step reads late are left to that step.
  virtual bool defers_updates() const { return false; }
  // Those updates: adamw of each group of parameters by `before`, what StepLog has kept of their step; then
  // before->finite = 0, so that to do it again does nothing. They may take place beside what is called next: until
  // await_updates, whose every call awaits one group more in their order, nothing else may touch what the group refers
  // to; `before`, until it has awaited the last. One group or more. Another call first awaits what is left of this one,
  // and a recording must await all that it starts. By default at once, in memory of the host.
  using ParameterGroups = std::span<const std::span<const AdamWParameter>>;
  virtual void start_updates(ParameterGroups groups, const AdamWUpdate* schedule, StepState* before, float max_norm);
  // False if there was none left to await.
  virtual bool await_updates() { return false; }
  // Awaits all that are left.
  void finish_updates() {
    while (await_updates()) continue;
  }
};

// The CPU backend, compiled for the best instructions that this processor has (kernels/make_cpu_kernels.cpp), which
// computes on thread_count(threads) threads (runtime/shares.h; `threads` up to kMostThreads). EMBER_CPU_LEVEL in the
// environment names others. Throws Error when the CPU lacks `precision` or what the name says, when that is no level's,
// or when it has none of them.
std::unique_ptr<Kernels> make_cpu_kernels(Precision precision = Precision::fp32, int threads = 0);

// The CUDA backend on `device`, "cuda" (the first GPU) or "cuda:N"; and whether there is a GPU to try; if there is one
// or a driver, and it is of no use, `fault` says why in a clause, else it is empty. Defined only where Ember is built
// with CUDA (kernels/cuda). Error in one line where the device cannot be used. To be used from the thread that made it,
// and no two in a process on GPUs of different kinds.
std::unique_ptr<Kernels> make_cuda_kernels(std::string_view device);
bool cuda_device_present(std::string& fault);

}  // namespace ember
