#include "bench/step_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench/kernel_report.h"
#include "bench/statistics.h"

namespace ember {
namespace {

constexpr const char* kTrainingRow = "{:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>10} {:>10} {:>9} {:>9}\n";
constexpr const char* kInferenceRow = "{:<24} {:>9} {:>6} {:>10}\n";

struct Phase {
  const char* name;
  double PhaseSeconds::*seconds;
};
constexpr Phase kPhases[] = {{"forward", &PhaseSeconds::forward},
                             {"backward", &PhaseSeconds::backward},
                             {"optimizer", &PhaseSeconds::optimizer},
                             {"step", &PhaseSeconds::step}};

std::vector<double> seconds_of(const StepResult& result, const Phase& phase) {
  std::vector<double> seconds;
  for (const PhaseSeconds& repetition : result.repetitions) seconds.push_back(repetition.*phase.seconds);
  return seconds;
}
double median_of(const StepResult& result, const Phase& phase) {
  return median(seconds_of(result, phase));
}

std::string megabytes(std::size_t bytes) {
  return bytes == 0 ? "n/a" : fmt::format("{:.0f} MB", static_cast<double>(bytes) * 1e-6);
}

// The law of each phase and of the memory, by name; `laws` of fewer than two sizes are none.
std::vector<std::pair<std::string, PowerLaw>> laws(std::span<const StepResult> results) {
  std::vector<double> tokens, memory;
  for (const StepResult& result : results) {
    tokens.push_back(result.tokens);
    memory.push_back(static_cast<double>(result.peak_memory));
  }
  const auto differ = std::minmax_element(tokens.begin(), tokens.end());
  if (tokens.empty() || *differ.first == *differ.second) return {};
  std::vector<std::pair<std::string, PowerLaw>> out;
  for (const Phase& phase : kPhases) {
    std::vector<double> seconds;
    for (const StepResult& result : results) seconds.push_back(median_of(result, phase));
    out.emplace_back(phase.name, fit_power_law(tokens, seconds));
  }
  if (*std::min_element(memory.begin(), memory.end()) > 0) out.emplace_back("memory", fit_power_law(tokens, memory));
  return out;
}

}  // namespace

std::string training_head() {
  return fmt::format(kTrainingRow, "batch", "tokens", "forward", "backward", "optimizer", "step", "cv", "floor",
                     "tokens/s", "examples/s", "launches", "memory");
}

std::string training_line(const StepResult& result) {
  const double step = median_of(result, kPhases[3]);
  return fmt::format(
      kTrainingRow, result.batch_size, fmt::format("{:.0f}", result.tokens), time_text(median_of(result, kPhases[0])),
      time_text(median_of(result, kPhases[1])), time_text(median_of(result, kPhases[2])), time_text(step),
      variation_text(variation(seconds_of(result, kPhases[3]))), time_text(result.floor),
      fmt::format("{:.0f}", result.tokens / step), fmt::format("{:.1f}", static_cast<double>(result.batch_size) / step),
      result.launches ? fmt::format("{}", *result.launches) : "n/a", megabytes(result.peak_memory));
}

std::string training_growth(std::span<const StepResult> results) {
  std::string text;
  for (const auto& [name, law] : laws(results))
    text +=
        fmt::format("{} {} ~ tokens^{:.2f} (R2 {:.2f})", text.empty() ? "growth:" : ",", name, law.exponent, law.r2);
  return text.empty() ? text : text + "\n";
}

std::string floor_table(const std::vector<OperationWork>& calls, const BatchSize& batch, const Peaks& peaks) {
  constexpr const char* kRow = "{:<28} {:>5} {:>9} {:>9} {:>9}\n";
  std::vector<std::string> methods;
  for (const OperationWork& call : calls)
    if (std::find(methods.begin(), methods.end(), call.method) == methods.end()) methods.push_back(call.method);
  std::string text = fmt::format("\nbatch of {:.0f}, {:.0f} tokens\n", batch.sequences, batch.tokens) +
                     fmt::format(kRow, "operation", "calls", "MB", "GFLOP", "floor");
  const auto add_row = [&](const std::string& name, const std::vector<OperationWork>& some) {
    Work work;
    for (const OperationWork& call : some) work.bytes += call.work.bytes, work.flop += call.work.flop;
    text += fmt::format(kRow, name, some.size(), fmt::format("{:.2f}", work.bytes * 1e-6),
                        fmt::format("{:.3f}", work.flop * 1e-9), time_text(floor_seconds(some, peaks)));
  };
  for (const std::string& method : methods) {
    std::vector<OperationWork> some;
    std::copy_if(calls.begin(), calls.end(), std::back_inserter(some),
                 [&](const OperationWork& call) { return call.method == method; });
    add_row(method, some);
  }
  add_row("step", calls);
  return text;
}

std::string inference_head() {
  return fmt::format(kInferenceRow, "texts", "time", "cv", "texts/s");
}

std::string inference_line(const InferenceResult& result) {
  const double seconds = median(result.repetitions);
  return fmt::format(kInferenceRow, result.texts, time_text(seconds), variation_text(variation(result.repetitions)),
                     fmt::format("{:.0f}", static_cast<double>(result.count) / seconds));
}

std::string inference_growth(std::span<const InferenceResult> results) {
  std::vector<double> tokens, seconds;
  for (const InferenceResult& result : results) {
    if (result.tokens == 0) continue;
    tokens.push_back(result.tokens);
    seconds.push_back(median(result.repetitions));
  }
  if (tokens.size() < 2) return {};
  const PowerLaw law = fit_power_law(tokens, seconds);
  return fmt::format("growth: one text ~ tokens^{:.2f} (R2 {:.2f})\n", law.exponent, law.r2);
}

std::string as_json(const StepResult& result, const std::string& backend, const std::string& lengths) {
  nlohmann::ordered_json json{{"kind", "training step"},
                              {"backend", backend},
                              {"lengths", lengths},
                              {"batch_size", result.batch_size},
                              {"tokens", result.tokens}};
  for (const Phase& phase : kPhases) {
    const std::vector<double> seconds = seconds_of(result, phase);
    json[phase.name] = {{"seconds", median(seconds)}, {"cv", variation(seconds)}, {"repetitions", seconds}};
  }
  const double step = median_of(result, kPhases[3]);
  json["floor_seconds"] = result.floor;
  json["tokens_per_second"] = result.tokens / step;
  json["examples_per_second"] = static_cast<double>(result.batch_size) / step;
  json["recorded"] = result.recorded;
  json["launches"] = result.launches ? nlohmann::ordered_json(*result.launches) : nlohmann::ordered_json();
  json["peak_memory_bytes"] = result.peak_memory;
  return json.dump();
}

std::string as_json(const InferenceResult& result, const std::string& backend) {
  const double seconds = median(result.repetitions);
  return nlohmann::ordered_json{
      {"kind", "inference"},
      {"backend", backend},
      {"texts", result.texts},
      {"count", result.count},
      {"tokens", result.tokens > 0 ? nlohmann::ordered_json(result.tokens) : nlohmann::ordered_json()},
      {"seconds", seconds},
      {"cv", variation(result.repetitions)},
      {"repetitions", result.repetitions},
      {"texts_per_second", static_cast<double>(result.count) / seconds}}
      .dump();
}

std::string growth_json(std::span<const StepResult> results, const std::string& backend, const std::string& lengths) {
  nlohmann::ordered_json json{{"kind", "growth with tokens"}, {"backend", backend}, {"lengths", lengths}};
  const auto all = laws(results);
  for (const auto& [name, law] : all) json[name] = {{"exponent", law.exponent}, {"r2", law.r2}};
  return all.empty() ? std::string() : json.dump();
}

}  // namespace ember
