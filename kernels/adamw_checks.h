// What Kernels::adamw and its kin demand of a parameter, for every backend.
#pragma once

#include "kernels/kernels.h"
#include "kernels/require.h"

namespace ember {

// `working_type`: of the working copies that the backend writes.
inline void require_adamw_state(const AdamWParameter& parameter, DType working_type) {
  const Tensor &w = parameter.weights, &working = parameter.working;
  for (const Tensor& state : {w, parameter.first_moment, parameter.second_moment})
    require(has_shape(state, w.rows, w.cols) && state.contiguous(), "adamw: shapes of the state differ");
  if (working.empty()) return;
  require(has_shape(working, w.rows, w.cols, working_type) && working.contiguous(),
          "adamw: shape or type of the working copy");
}

// For a dense update: the gradient has the weights' size.
inline void require_adamw_gradient(const AdamWParameter& parameter) {
  const Tensor& gradient = parameter.gradient;
  require(gradient.size() == parameter.weights.size() && gradient.contiguous() && gradient.dtype == DType::f32,
          "adamw: shape of the gradient");
}

// For an update of rows: U of them.
inline void require_adamw_row_gradient(const AdamWParameter& table) {
  const Tensor& gradient = table.gradient;
  require(gradient.rows == 0 || has_shape(gradient, gradient.rows, table.weights.cols),
          "adamw_rows: shape of the gradient");
}

}  // namespace ember
