// The CPU backend: fp32 activations, oneDNN or kernels of our own for the products, OpenMP over rows for the rest. Each
// method is defined in the file of its operation. The reference that the CUDA kernels are held against, and the default
// without a GPU.
#pragma once

#include <unordered_map>

#include "kernels/cpu/scratch.h"
#include "kernels/kernels.h"

namespace ember {

class CpuKernels : public Kernels {
 public:
  CpuKernels(Precision precision, int threads);
  ~CpuKernels() override;

  std::string device_name() const override;
  DType activation_type() const override { return DType::f32; }
  DType product_type() const override { return precision_ == Precision::bf16 ? DType::bf16 : DType::f32; }
  Buffer allocate(std::size_t bytes) override;
  void upload(void* to_device, const void* from_host, std::size_t bytes) override;
  void download(void* to_host, const void* from_device, std::size_t bytes) override;
  bool on_host() const override { return true; }
  std::int64_t tokens_at_once() const override;
  std::unique_ptr<Readback> make_readback(std::size_t bytes) override;

  Batch gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                     std::int32_t padding_id) override;
  void embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch, const EmbeddingTensors& tables,
                          const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override;
  void embeddings_backward(const EmbeddingTensors& dtables, const LayerNormTensors& dnorm, Tensor dsum, Tensor dout,
                           Tensor dbranch, Tensor sum, Moments moments, const Batch& batch,
                           const LayerNormTensors& norm, const Dropout& dropout) override;
  void linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) override;
  void freeze(std::span<const Tensor> weights) override;
  void thaw(std::span<const Tensor> weights) override;
  void linear_backward_input(Tensor din, Tensor dout, Tensor weight) override;
  void linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) override;
  void round_weights(Tensor working, Tensor weight) override;
  void attention_forward(Tensor out, Tensor query, Tensor key, Tensor value, const Batch& batch, std::int64_t heads,
                         std::int64_t positions, Queries queries, const Dropout& dropout) override;
  void attention_backward(Tensor dquery, Tensor dkey, Tensor dvalue, Tensor dout, Tensor query, Tensor key,
                          Tensor value, const Batch& batch, std::int64_t heads, std::int64_t positions, Queries queries,
                          const Dropout& dropout) override;
  void first_attention_forward(Tensor out, Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias,
                               const Batch& batch, std::int64_t heads, std::int64_t positions,
                               const Dropout& dropout) override;
  void first_attention_backward(Tensor dquery, Tensor din, Tensor dweight, Tensor dbias, Tensor dkept, Tensor dout,
                                Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias, const Batch& batch,
                                std::int64_t heads, std::int64_t positions, const Dropout& dropout) override;
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
  void sigmoid_bce(Tensor loss, Tensor dlogits, Tensor probabilities, Tensor logits, Tensor targets,
                   const StepState* state) override;
  void gradient_norm(StepState* state, std::span<const Tensor> gradients) override;
  void adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate* schedule, const StepState* state,
             float max_norm) override;
  void adamw_rows(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates,
                  const AdamWUpdate* schedule, const StepState* state, float max_norm) override;
  void adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count, std::int32_t* row_updates,
                    const AdamWUpdate* schedule, const StepState* state) override;
  void finish_step(StepState* state, const LossScaling& scaling, const StepLog& log) override;

 private:
  void* scratch(std::size_t bytes) { return scratch_(bytes); }

  const void* frozen(Tensor weight) const;
  std::size_t frozen_bytes(Tensor weight) const;

  struct Frozen {
    Tensor weight;
    const void* packed;
    std::shared_ptr<Buffer> memory;  // of all that were frozen together: one block, so that its pages can be huge
  };

  Precision precision_;
  int threads_;
  Scratch scratch_;
  std::unordered_map<const void*, Frozen> frozen_;  // by the weight's data
};

}  // namespace ember
