// What AdamW's kernels see of a parameter.
#pragma once

#include "kernels/cuda/vector_io.cuh"
#include "kernels/kernels.h"

namespace ember {

// One parameter, or a part of it; working is null where there is no such copy.
struct AdamWState {
  float *weights, *m, *v;
  __half* working;
};

inline AdamWState state_of(const AdamWParameter& parameter) {
  return {parameter.weights.f32(), parameter.first_moment.f32(), parameter.second_moment.f32(),
          parameter.working.empty() ? nullptr : static_cast<__half*>(parameter.working.data)};
}

}  // namespace ember
