// What bench_step says: lines of tables, and objects of the results file.
#pragma once

#include <span>
#include <string>

#include "bench/inference.h"
#include "bench/step_work.h"
#include "bench/training_step.h"

namespace ember {

// All but as_json end in a newline.
std::string training_head();
std::string training_line(const StepResult& result);
// How the phases and the memory grow with the tokens of a batch; nothing for fewer than two sizes.
std::string training_growth(std::span<const StepResult> results);

// What the operations of a step on a batch of that size have to do, by method, and the floor on a device of those
// peaks.
std::string floor_table(const std::vector<OperationWork>& calls, const BatchSize& batch, const Peaks& peaks);

std::string inference_head();
std::string inference_line(const InferenceResult& result);
std::string inference_growth(std::span<const InferenceResult> results);

std::string as_json(const StepResult& result, const std::string& backend, const std::string& lengths);
std::string as_json(const InferenceResult& result, const std::string& backend);
// The exponents as results of their own; empty where there are none.
std::string growth_json(std::span<const StepResult> results, const std::string& backend, const std::string& lengths);

}  // namespace ember
