// What a training step has to do, whoever does it: the work of every operation that model and optimizer call, by the
// contracts (bench/work.h). The calls are counted and none is made, so that the count follows the trainer's own code.
#pragma once

#include <string>
#include <vector>

#include "bench/peaks.h"
#include "bench/work.h"
#include "kernels/kernels.h"
#include "model/config.h"

namespace ember {

struct OperationWork {
  std::string method;  // of Kernels
  Work work;
};

// What a step's memory holds.
struct StepTypes {
  DType activations = DType::f32, products = DType::f32;
};

// The calls of a step, in order, on a batch of those numbers, with training's dropout; joined operations
// (linear_gelu_forward) count as one, on any backend, and the norm without the gradients' bytes. Rows of the word
// embedding that a batch reads are brought up to date for their bytes alone, since a step does not know how many
// updates they have missed; that all of them are brought up to date now and then is left out.
std::vector<OperationWork> step_work(const BertConfig& config, const BatchSize& batch, StepTypes types);

// The time of a step whose every operation runs at the device's peak, reading and writing each operand above once, in
// memory: the sum over the operations of the longer of bytes and FLOP. Caches can beat it, launches and reductions come
// on top.
double floor_seconds(const std::vector<OperationWork>& calls, const Peaks& peaks);

}  // namespace ember
