// All CUDA rungs in one unit, because most of what compiling them costs is CUDA's headers.
#include <memory>

#include "bench/variants/cuda/adamw_fused.cuh"
#include "bench/variants/cuda/adamw_passes.cuh"
#include "bench/variants/cuda/attention_on_chip.cuh"
#include "bench/variants/cuda/attention_packed.cuh"
#include "bench/variants/cuda/attention_padded.cuh"
#include "bench/variants/cuda/layernorm_block.cuh"
#include "bench/variants/cuda/layernorm_thread.cuh"
#include "bench/variants/cuda/layernorm_warp.cuh"
#include "bench/variants/shipped.h"

namespace ember::variants {
namespace {

template <typename Call>
Rung<Call> rung(const char* name, const std::shared_ptr<Device>& device, void (*run)(Device&, const Call&)) {
  return {name, [device, run](const Call& call) { run(*device, call); }};
}

// AdamW, rung 4: all tensors in one launch of the shipped kernel. Its stream is not the one that fills the gradient.
void adamw_one_launch(Device& device, const AdamWCall& a) {
  const auto parameters = with_dense_table(a, dense_gradient(device, a));
  device.stream.synchronize();
  device.kernels.adamw(parameters, a.schedule, a.state, a.max_norm);
}

}  // namespace

Ladders cuda_ladders(Kernels& kernels) {
  const auto device = std::make_shared<Device>(kernels);
  Ladders ladders;
  ladders.layernorm = {rung("1_thread", device, layernorm_thread), rung("2_block", device, layernorm_block),
                       rung("3_warp", device, layernorm_warp), rung("4_registers", device, layernorm_registers),
                       shipped_layernorm("5_fused_shipped", kernels)};
  ladders.attention = {rung("1_padded", device, attention_padded), rung("2_packed", device, attention_packed),
                       rung("3_on_chip", device, attention_on_chip),
                       shipped_attention("4_tensor_cores_shipped", kernels)};
  ladders.adamw = {rung("1_passes", device, adamw_passes), rung("2_fused", device, adamw_fused<1>),
                   rung("3_vectors", device, adamw_fused<4>), rung("4_one_launch", device, adamw_one_launch),
                   lazy_adamw("5_lazy_shipped", kernels)};
  ladders.synchronize = [] { check_cuda(cudaDeviceSynchronize(), "waiting for the device"); };
  return ladders;
}

}  // namespace ember::variants
