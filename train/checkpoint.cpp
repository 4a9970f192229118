#include "train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/strict_json.h"
#include "model/checkpoint_match.h"
#include "model/json_file.h"
#include "runtime/file.h"
#include "runtime/parse_whole.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kFormat = 5;
constexpr std::string_view kPrefix = "step-";
constexpr const char* kChoices = "choices.txt";  // beside state.json, since it may be larger than JSON is let be
constexpr const char* kMoments = "optimizer.safetensors";
constexpr const char* kState = "state.json";
constexpr const char* kBest = "best.safetensors";
constexpr const char* kRemoved = "removed";                               // the use of a temporary name
constexpr std::string_view kFirst = "exp_avg.", kSecond = "exp_avg_sq.";  // PyTorch's names of the moments

// ---- state.json -----------------------------------------------------------------------------------------------------

// A count, which JSON may give as any number.
template <typename T>
T whole_number(const nlohmann::json& json, const char* name) {
  const nlohmann::json& value = json.at(name);
  check(value.is_number_integer() && value >= 0 && value <= std::numeric_limits<T>::max(),
        "{} is {}, a whole number was expected", name, printable(value.dump()));
  return value;
}

Json to_json(const DevResult& result) {
  return {{"step", result.step},         {"epoch", result.epoch},       {"loss", result.loss},
          {"f1_micro", result.f1_micro}, {"f1_macro", result.f1_macro}, {"subset_accuracy", result.subset_accuracy}};
}

DevResult dev_result(const nlohmann::json& json) {
  return {whole_number<std::int64_t>(json, "step"),
          json.at("epoch"),
          json.at("loss"),
          json.at("f1_micro"),
          json.at("f1_macro"),
          json.at("subset_accuracy")};
}

Json to_json(const StepState& state) {
  return {{"loss_scale", state.loss_scale},
          {"updates", state.updates},
          {"clean_steps", state.clean_steps},
          {"skipped", state.skipped}};
}

StepState step_state(const nlohmann::json& json) {
  StepState state;
  state.loss_scale = json.at("loss_scale");
  state.updates = whole_number<std::int32_t>(json, "updates");
  state.clean_steps = whole_number<std::int32_t>(json, "clean_steps");
  state.skipped = whole_number<std::int32_t>(json, "skipped");
  const std::int64_t steps = std::int64_t{state.updates} + state.skipped;
  check(steps <= std::numeric_limits<std::int32_t>::max(), "{} steps are more than 2^31", steps);
  state.steps = static_cast<std::int32_t>(steps);
  check(state.loss_scale > 0 && std::isfinite(state.loss_scale), "loss_scale is {}, a positive number was expected",
        state.loss_scale);
  return state;
}

TrainingState training_state(const nlohmann::json& json) {
  return {whole_number<std::int64_t>(json, "step"),
          whole_number<std::int64_t>(json, "epoch"),
          whole_number<std::int64_t>(json, "position"),
          dev_result(json.at("best")),
          whole_number<std::int64_t>(json, "evaluations_since_best"),
          json.at("loss_sum"),
          whole_number<std::int64_t>(json, "loss_steps")};
}

std::string state_json(const TrainingState& state, const StepState& step_state, const RunIdentity& identity) {
  Json json = {{"format", kFormat},
               {"step", state.step},
               {"epoch", state.epoch},
               {"position", state.position},
               {"best", to_json(state.best)},
               {"evaluations_since_best", state.evaluations_since_best},
               {"loss_sum", state.loss_sum},
               {"loss_steps", state.loss_steps},
               {"step_state", to_json(step_state)}};
  json.update(to_json(identity));
  return json.dump(2) + "\n";
}

// state.json's part of a checkpoint.
void read_state(const fs::path& file, Checkpoint& checkpoint) {
  const nlohmann::json json = read_json_object(file);
  try {
    const int format = whole_number<int>(json, "format");
    check(format == kFormat, "format {}, this program reads {}", format, kFormat);
    checkpoint.step_state = step_state(json.at("step_state"));
    checkpoint.state = training_state(json);
    check(checkpoint.state.step == checkpoint.step_state.steps, "step is {}, of {} updates and {} skipped steps",
          checkpoint.state.step, checkpoint.step_state.updates, checkpoint.step_state.skipped);
    const TrainingState& state = checkpoint.state;
    check(state.best.step <= state.step && state.evaluations_since_best <= state.step && state.loss_steps <= state.step,
          "step is {}, but the best one is {}, evaluations since then {}, steps since the last event {}", state.step,
          state.best.step, state.evaluations_since_best, state.loss_steps);
    checkpoint.identity = run_identity(json);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: {}", file.string(), json_complaint(error));
  } catch (const Error& error) {
    fail("{}: {}", file.string(), error.what());
  }
}

// Reads all but the tensors' data, which is enough to tell a whole checkpoint from a damaged one.
Checkpoint open_checkpoint(const fs::path& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  read_state(path / kState, checkpoint);
  checkpoint.config = read_config(path / kConfigFile);
  checkpoint.choices = read_file(path / kChoices);
  checkpoint.metrics = read_file(path / kMetricsFile);
  const SafetensorsFile weights(path / kWeightsFile), moments(path / kMoments);
  return checkpoint;
}

// ---- Tensors --------------------------------------------------------------------------------------------------------

void write_moments(const fs::path& path, const CheckpointContent& content) {
  const HostView first(content.first_moments, content.kernels), second(content.second_moments, content.kernels);
  std::vector<TensorToStore> list;
  append_tensors(list, content.first_moments, first, kFirst);
  append_tensors(list, content.second_moments, second, kSecond);
  FileWriter file(path);
  write_safetensors(file, list, {{"format", "pt"}});
  file.finish();
}

void load(const SafetensorsFile& file, std::string_view prefix, BertWeights& set, Kernels& kernels) {
  std::vector<float> values;
  for (const Parameter& parameter : set.list) {
    const std::string name = std::string(prefix) + parameter.name;
    const StoredTensor* tensor = file.find(name);
    check(tensor != nullptr, "{}: tensor {} is missing", file.path().string(), name);
    check(tensor->dtype == "F32" && tensor->shape == parameter.shape, "{} is {}, expected F32 [{}]", tensor->where(),
          tensor->description(), fmt::join(parameter.shape, ", "));
    values.resize(static_cast<std::size_t>(parameter.value.size()));
    copy_to_f32(*tensor, values.data());
    kernels.upload(parameter.value.data, values.data(), values.size() * sizeof(float));
  }
}

// ---- Folders --------------------------------------------------------------------------------------------------------

fs::path folder(const fs::path& out) {
  return out / kCheckpoints;
}

// What lies in a folder; nothing where there is none. Error when it cannot be read, which must not pass for empty.
std::vector<fs::path> entries(const fs::path& directory) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    paths.push_back(entry->path());
  check(!error || error == std::errc::no_such_file_or_directory, "{}: cannot be read: {}", directory.string(),
        error.message());
  return paths;
}

// Steps of all checkpoints, newest first.
std::vector<std::int64_t> steps_in(const fs::path& out) {
  std::vector<std::int64_t> steps;
  for (const fs::path& path : entries(folder(out))) {
    const std::string name = path.filename().string();
    if (!name.starts_with(kPrefix)) continue;
    if (const auto step = parse_whole<std::int64_t>(std::string_view(name).substr(kPrefix.size())))
      steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

// Where there are no links, `best` is a copy.
bool hold_the_same(const fs::path& best, const fs::path& model) {
  std::error_code error;
  if (!fs::exists(model, error)) return false;
  if (fs::equivalent(best, model, error)) return true;
  const MappedFile one(best), other(model);
  return std::ranges::equal(one.bytes(), other.bytes());
}

// Takes the folder's name away first, so that a kill in between leaves no half-removed checkpoint.
void remove_checkpoint(const fs::path& path) {
  std::error_code error;
  const fs::path doomed = temporary_name(path, kRemoved);
  fs::rename(path, doomed, error);
  check(!error, "{}: cannot be removed: {}", path.string(), error.message());
  fs::remove_all(doomed, error);
  check(!error, "{}: cannot be removed: {}", doomed.string(), error.message());
}

void remove_leftovers_of(const fs::path& directory) {
  for (const fs::path& path : entries(directory)) {
    const auto name = parse_temporary_name(path.filename().string());
    const bool ours = name && (name->use == kPartial || (name->use == kRemoved && name->of.starts_with(kPrefix)));
    if (!ours) continue;
    std::error_code error;
    fs::remove_all(path, error);
    check(!error, "{}: cannot be removed: {}", path.string(), error.message());
  }
}

}  // namespace

fs::path checkpoint_path(const fs::path& out, std::int64_t step) {
  return folder(out) / fmt::format("{}{}", kPrefix, step);
}

void save_checkpoint(const fs::path& out, const CheckpointContent& content, std::int64_t keep) {
  std::error_code error;
  fs::create_directory(folder(out), error);
  check(!error, "{}: cannot be made: {}", folder(out).string(), error.message());
  const fs::path path = checkpoint_path(out, content.state.step);
  if (fs::exists(path, error)) remove_checkpoint(path);  // one that was found damaged
  write_directory_atomically(path, [&](const fs::path& partial) {
    save_hugging_face(partial, content.config, content.weights, content.kernels, content.tokenizer);
    write_moments(partial / kMoments, content);
    write_file_atomically(partial / kMetricsFile, content.metrics);
    write_file_atomically(partial / kChoices, content.choices);
    if (content.state.best.step > 0 && fs::exists(out / kWeightsFile, error))
      link_atomically(out / kWeightsFile, partial / kBest);
    write_file_atomically(partial / kState, state_json(content.state, content.step_state, content.identity));
  });
  for (const std::int64_t step : steps_in(out))
    if (step > content.state.step) remove_checkpoint(checkpoint_path(out, step));
  remove_old_checkpoints(out, content.state.step, keep);
}

void remove_old_checkpoints(const fs::path& out, std::int64_t newest, std::int64_t keep) {
  std::int64_t kept = 0;
  for (const std::int64_t step : steps_in(out))
    if (step <= newest && ++kept > keep) remove_checkpoint(checkpoint_path(out, step));
}

std::optional<Checkpoint> newest_checkpoint(const fs::path& out, std::vector<std::string>& notes) {
  std::string problem;
  for (const std::int64_t step : steps_in(out)) {
    const fs::path path = checkpoint_path(out, step);
    try {
      Checkpoint checkpoint = open_checkpoint(path);
      check(checkpoint.state.step == step, "{}: the state is of step {}", path.string(), checkpoint.state.step);
      return checkpoint;
    } catch (const ReadRefused&) {  // no damage: what may be whole must not be replaced
      throw;
    } catch (const Error& error) {
      if (problem.empty()) problem = error.what();
      notes.push_back(fmt::format("a damaged checkpoint is passed over: {}", error.what()));
    }
  }
  check(problem.empty(), "no checkpoint can be resumed: {}", problem);
  return std::nullopt;
}

bool restore(const Checkpoint& checkpoint, const BertConfig& config, BertWeights& weights, Optimizer& optimizer,
             Kernels& kernels) {
  check(checkpoint.config == config, "{}: differs from the model's configuration",
        (checkpoint.path / kConfigFile).string());
  load(SafetensorsFile(checkpoint.path / kWeightsFile), "", weights, kernels);
  const SafetensorsFile moments(checkpoint.path / kMoments);
  load(moments, kFirst, optimizer.first_moments(), kernels);
  load(moments, kSecond, optimizer.second_moments(), kernels);
  optimizer.resume(checkpoint.step_state);
  try {
    return kernels.use_choices(checkpoint.choices);
  } catch (const Error& error) {
    fail("{}: {}; without that folder --resume takes the one before", (checkpoint.path / kChoices).string(),
         error.what());
  }
}

bool holds_best(const Checkpoint& checkpoint) {
  std::error_code error;
  return checkpoint.state.best.step > 0 && fs::exists(checkpoint.path / kBest, error);
}

bool restore_best(const Checkpoint& checkpoint, const fs::path& out, const TokenizerSource& tokenizer) {
  const fs::path best = checkpoint.path / kBest, model = out / kWeightsFile;
  if (!holds_best(checkpoint) || hold_the_same(best, model)) return false;
  save_surroundings(out, checkpoint.config, tokenizer, DType::f32,
                    [](const fs::path& path, std::string_view content) { write_file_atomically(path, content); });
  link_atomically(best, model);
  return true;
}

void remove_checkpoints(const fs::path& out) {
  for (const std::int64_t step : steps_in(out)) remove_checkpoint(checkpoint_path(out, step));
}

void remove_leftovers(const fs::path& out) {
  remove_leftovers_of(out);
  remove_leftovers_of(folder(out));
}

}  // namespace ember
