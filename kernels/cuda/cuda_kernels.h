// The CUDA backend: f16 activations and product weights, f32 statistics, gradients of parameters and optimizer state.
// Each method is defined in the file of its operation and launches on one stream, which gradients
// (deferred_gradients.h) and updates beside a step (start_updates) leave and join again. After the first call with a
// shape, which may take memory and measure algorithms, nothing but allocate, upload, download and Readback::wait waits
// for the device. Shapes are checked on the host; what lies in device memory (token ids, cu_seqlens, the update count
// of a row) is trusted. A backend belongs to the thread that made it, whose current device is its own, and all of a
// process to GPUs of one kind (allow_early_starts).
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/cuda/deferred_gradients.h"
#include "kernels/cuda/few_rows_product.h"
#include "kernels/cuda/matmul.h"
#include "kernels/kernels.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/side_stream.h"
#include "runtime/cuda/stream.h"

namespace ember {

class CudaKernels final : public Kernels {
 public:
  // `device`: "cuda" or "cuda:N". Error where use_device (runtime/cuda/device.h) throws it.
  explicit CudaKernels(std::string_view device = "cuda");
  ~CudaKernels() override;

  std::string device_name() const override;
  DType activation_type() const override { return DType::f16; }
  DType product_type() const override { return DType::f16; }
  Buffer allocate(std::size_t bytes) override;
  void upload(void* to_device, const void* from_host, std::size_t bytes) override;
  void download(void* to_host, const void* from_device, std::size_t bytes) override;
  std::unique_ptr<Readback> make_readback(std::size_t bytes) override;
  // As a CUDA graph. An operation must have been called before with operands of the same shapes: until then its scratch
  // memory may have to grow, and the algorithm of a product to be found.
  std::unique_ptr<RecordedWork> record(const std::function<void()>& work) override;
  static constexpr std::int64_t kMostHeadColumns = 64;  // that attention's kernels have tiles for
  std::int64_t most_head_columns() const override { return kMostHeadColumns; }
  // The algorithms of the products.
  std::string choices() const override { return matmul_.algorithms(); }
  bool use_choices(std::string_view text) override { return matmul_.use_algorithms(text); }

  BatchShape batch_shape(const BatchShape& exact, std::int64_t positions) const override;
  Batch gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                     std::int32_t padding_id) override;
  void embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch, const EmbeddingTensors& tables,
                          const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override;
  void embeddings_backward(const EmbeddingTensors& dtables, const LayerNormTensors& dnorm, Tensor dsum, Tensor dout,
                           Tensor dbranch, Tensor sum, Moments moments, const Batch& batch,
                           const LayerNormTensors& norm, const Dropout& dropout) override;
  void linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) override;
  // cuBLASLt reads weights as they lie and repacks nothing, so there is no copy to keep.
  void freeze(std::span<const Tensor>) override {}
  void thaw(std::span<const Tensor>) override {}
  void linear_backward_input(Tensor din, Tensor dout, Tensor weight) override;
  void linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) override;
  bool defers_gradients() const override { return true; }
  void finish_gradients() override { deferred_.finish(stream_, matmul_); }
  void start_gradients(Tensor later) override { deferred_.start(stream_, matmul_, later); }
  void linear_gelu_forward(Tensor out, Tensor before, Tensor in, Tensor weight, Tensor bias) override;
  void linear_gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor weight, Tensor before, Tensor bias) override;
  void round_weights(Tensor working, Tensor weight) override;
  void attention_forward(Tensor out, Tensor query, Tensor key, Tensor value, const Batch& batch, std::int64_t heads,
                         std::int64_t positions, Queries queries, const Dropout& dropout) override;
  void attention_backward(Tensor dquery, Tensor dkey, Tensor dvalue, Tensor dout, Tensor query, Tensor key,
                          Tensor value, const Batch& batch, std::int64_t heads, std::int64_t positions, Queries queries,
                          const Dropout& dropout) override;
  void cls_attention_forward(Tensor out, Tensor first, Tensor kept, Tensor in, Tensor weight, Tensor bias,
                             const Batch& batch, std::int64_t heads, std::int64_t positions,
                             const Dropout& dropout) override;
  Tensor cls_attention_backward(Tensor din, Tensor dspread, Tensor dweight, Tensor dbias, Tensor dkept, Tensor dfirst,
                                Tensor dout, Tensor kept, Tensor first, Tensor in, Tensor weight, Tensor bias,
                                const Batch& batch, std::int64_t heads, std::int64_t positions,
                                const Dropout& dropout) override;
  void residual_layernorm_forward(Tensor out, Tensor sum, Moments moments, Tensor in, Tensor bias, Tensor residual,
                                  const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override;
  void residual_layernorm_backward(Tensor dresidual, Tensor din, Tensor dbias, const LayerNormTensors& dnorm,
                                   Tensor dout, Tensor dbranch, Tensor sum, Moments moments,
                                   const LayerNormTensors& norm, const Dropout& dropout) override;
  void gelu_forward(Tensor out, Tensor in, Tensor bias) override;
  void gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor in, Tensor bias) override;
  void gather_first(Tensor out, Tensor in, const Batch& batch) override;
  void gather_first_backward(Tensor din, Tensor dout, const Batch& batch) override;
  void tanh_forward(Tensor out, Tensor activated, Tensor in, Tensor bias, const Dropout& dropout) override;
  void tanh_backward(Tensor din, Tensor dbias, Tensor dout, Tensor activated, const Dropout& dropout) override;
  void head_forward(Tensor logits, Tensor pooled, Tensor activated, Tensor in, Tensor bias, Tensor weight,
                    Tensor weight_bias, const Dropout& dropout) override;
  void head_backward(Tensor din, Tensor dbias, Tensor dlogits, Tensor activated, Tensor weight,
                     const Dropout& dropout) override;
  void sigmoid_bce(Tensor loss, Tensor dlogits, Tensor probabilities, Tensor logits, Tensor targets,
                   const StepState* state) override;
  void gradient_norm(StepState* state, std::span<const Tensor> gradients) override;
  void adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate* schedule, const StepState* state,
             float max_norm) override;
  void adamw_rows(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates,
                  const AdamWUpdate* schedule, const StepState* state, float max_norm) override;
  void adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count, std::int32_t* row_updates,
                    const AdamWUpdate* schedule, const StepState* state) override;
  void adamw_catch_up(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                      const std::int32_t* also, std::int32_t* row_updates, const AdamWUpdate* schedule,
                      const StepState* state) override;
  void finish_step(StepState* state, const LossScaling& scaling, const StepLog& log) override;
  void adamw_step(std::span<const AdamWParameter> parameters, const AdamWParameter& table, const std::int32_t* ids,
                  std::int32_t* row_updates, const AdamWUpdate* schedule, StepState* state, float max_norm,
                  const LossScaling& scaling, const StepLog& log) override;
  bool defers_updates() const override { return starts_early(); }
  void start_updates(ParameterGroups groups, const AdamWUpdate* schedule, StepState* before, float max_norm) override;
  bool await_updates() override;

  // The stream of all work but gradients' and updates beside a step.
  const Stream& stream() const { return stream_; }

 private:
  // Device memory for the operation at hand, 256-byte aligned; the next operation may overwrite it. It grows to
  // twice what it was or to what is asked for, whichever is more, so that a step allocates nothing. A block outgrown
  // stays allocated until the end, because work in flight and captured graphs may refer to it.
  void* scratch(std::size_t bytes);
  bool code_can_await();
  // When a grid may start that reads weights, a batch's lengths or the number of the step before it awaits the grid
  // before it; and one that also writes some.
  GridStart start_of_reader() { return std::exchange(settled_, true) ? GridStart::early : GridStart::after; }
  GridStart start_of_update() { return std::exchange(settled_, false) ? GridStart::early : GridStart::after; }
  few_rows::Launch for_product() { return {device_, stream(), start_of_reader()}; }
  // `count` counters of blocks (reduce.cuh), zero between launches; they grow and stay as scratch does.
  unsigned* arrivals(std::int64_t count = 1);

  DeviceInfo device_;  // first: the members after it live on the current device
  Stream stream_;
  Matmul matmul_{stream_};
  DeferredGradients deferred_{device_};
  SideStream updates_side_;
  std::vector<Event> updates_done_;                        // of each group
  std::size_t updates_started_ = 0, updates_awaited_ = 0;  // groups
  std::vector<Buffer> scratch_, arrivals_;
  Buffer updates_arrival_ = allocate(sizeof(unsigned));  // the blocks of start_updates, which others run beside
  // Whether a grid has been awaited since one that writes what others read early: weights (adamw and the like,
  // round_weights), a batch (gather_batch), the number of the step (finish_step). Not after a recording is made or run.
  // What follows await_updates is behind an event, and so never early.
  bool settled_ = true;
};

}  // namespace ember
