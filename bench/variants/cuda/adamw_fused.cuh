// AdamW, rung 2: one kernel a tensor that loads an element's state, updates it in registers (kernels/adamw_update.h)
// and stores it with its working copy: 30 bytes an element, and a fifth of the launches.
//
// Rung 3: 4 elements to a thread, whose loads and stores are single instructions of 16 bytes (8 for the copy): fewer
// instructions for the same bytes, and more bytes on their way for each warp. What is left are 73 launches: on a fast
// GPU they take longer than the work of most tensors, which rung 4 has in a single one.
#pragma once

#include "bench/variants/cuda/adamw_dense.cuh"

namespace ember::variants {

// V elements to a thread from element `begin` on; the elements after the last whole vector are left alone.
template <int V>
__global__ void adamw_fused_kernel(AdamWTensor t, std::int64_t begin) {
  const std::int64_t i = begin + thread_in_grid() * V;
  if (i + V > t.size || t.step->finite == 0) return;
  const AdamWUpdate update = t.update();
  const float scale = t.scale();
  float w[V], m[V], v[V], g[V];
  load<V>(w, t.weights + i);
  load<V>(m, t.m + i);
  load<V>(v, t.v + i);
  load<V>(g, t.gradient + i);
#pragma unroll
  for (int j = 0; j < V; ++j) update_element(w[j], m[j], v[j], scale * g[j], update);
  store<V>(t.weights + i, w);
  store<V>(t.m + i, m);
  store<V>(t.v + i, v);
  if (t.working != nullptr) store<V>(t.working + i, w);
}

inline bool aligned_for_vectors(const AdamWTensor& t) {
  for (const void* data : {static_cast<const void*>(t.weights), static_cast<const void*>(t.m),
                           static_cast<const void*>(t.v), static_cast<const void*>(t.gradient),
                           static_cast<const void*>(t.working)})  // 16 bytes are more than the copy needs
    if (reinterpret_cast<std::uintptr_t>(data) % 16 != 0) return false;
  return true;
}

template <int V>
void adamw_fused(Device& device, const AdamWCall& a) {
  for (const AdamWParameter& parameter : with_dense_table(a, dense_gradient(device, a))) {
    const AdamWTensor t(parameter, a);
    const std::int64_t in_vectors = V > 1 && aligned_for_vectors(t) ? t.size / V * V : 0;
    launch_threads(device, "adamw_fused", in_vectors / V, 256, adamw_fused_kernel<V>, t, std::int64_t{0});
    launch_threads(device, "adamw_fused", t.size - in_vectors, 256, adamw_fused_kernel<1>, t, in_vectors);
  }
}

}  // namespace ember::variants
