#include "train/optimizer.h"

#include <algorithm>

#include "kernels/step_state.h"

namespace ember {
namespace {

constexpr std::size_t kWord = 0;  // the word embedding's place in BertWeights::list

std::int32_t* i32(const Buffer& buffer) {
  return static_cast<std::int32_t*>(buffer.data());
}

// fp16 needs the scale: 65,536 at first, doubled after 2,000 clean steps, as torch.amp.GradScaler does.
constexpr float kFirstLossScale = 65536;
constexpr std::int32_t kGrowthInterval = 2000;

}  // namespace

Optimizer::Optimizer(const BertConfig& config, BertWeights& weights, Kernels& kernels, const AdamWOptions& options,
                     const Schedule& schedule, std::int64_t total_steps)
    : kernels_(kernels),
      config_(config),
      options_(options),
      first_(config, kernels),
      second_(config, kernels),
      row_updates_(kernels.allocate(static_cast<std::size_t>(config.vocabulary) * sizeof(std::int32_t))),
      padding_id_(kernels.allocate(sizeof(std::int32_t))),
      state_(kernels.allocate(sizeof(StepState))),
      before_(kernels.allocate(sizeof(StepState))),
      records_(kernels.allocate(kRecords * sizeof(StepRecord))),
      schedule_(kernels.allocate(static_cast<std::size_t>(total_steps) * sizeof(AdamWUpdate))) {
  kernels_.upload(padding_id_.data(), &config.pad_token_id, sizeof(std::int32_t));
  upload_schedule(schedule, total_steps);
  if (kernels_.activation_type() == DType::f16) scaling_.growth_interval = kGrowthInterval;
  const StepState state = first_state();
  kernels_.upload(state_.data(), &state, sizeof state);
  for (std::size_t i = 0; i < weights.list.size(); ++i)
    parameters_.push_back(
        {weights.list[i].value, first_.list[i].value, second_.list[i].value, {}, {}, weights.list[i].decayed});
  std::vector<std::size_t> begins = kernels.defers_updates() ? Bert::awaited(weights) : std::vector<std::size_t>{};
  begins.push_back(parameters_.size());
  const std::span<const AdamWParameter> all = parameters_;
  prompt_ = all.subspan(kWord + 1, begins.front() - kWord - 1);
  for (std::size_t g = 0; g + 1 < begins.size(); ++g)
    late_.push_back(all.subspan(begins[g], begins[g + 1] - begins[g]));
}

void Optimizer::upload_schedule(const Schedule& schedule, std::int64_t total_steps) {
  constexpr std::int64_t kBlock = 65536;  // a run of billions of steps would need as many on the host
  std::vector<AdamWUpdate> updates;
  for (std::int64_t begin = 0; begin < total_steps; begin += kBlock) {
    updates.clear();
    for (std::int64_t t = begin; t < std::min(begin + kBlock, total_steps); ++t)
      updates.push_back(adamw_update(options_, schedule.at(t), t + 1));
    kernels_.upload(static_cast<AdamWUpdate*>(schedule_.data()) + begin, updates.data(),
                    updates.size() * sizeof(AdamWUpdate));
  }
}

void Optimizer::catch_up(const Batch& batch) {
  if (options_.dense) return;
  start_updates();
  // The padding id is not among the unique ids, yet a text may spell [PAD] out.
  kernels_.adamw_catch_up(parameters_[kWord], batch.unique_ids, batch.unique, i32(padding_id_), i32(row_updates_),
                          schedule(), state());
}

void Optimizer::catch_up() {
  start_updates();
  kernels_.finish_updates();
  kernels_.adamw_replay(parameters_[kWord], nullptr, config_.vocabulary, i32(row_updates_), schedule(), state());
}

void Optimizer::step(const Bert& model, const Batch& batch, Tensor loss) {
  bind(model, batch);
  const auto max_norm = static_cast<float>(options_.max_norm);
  kernels_.gradient_norm(state(), gradients_);
  StepLog log;
  if (!loss.empty()) log = {loss.f32(), static_cast<StepRecord*>(records_.data()), kRecords};
  if (!late_.empty()) log.before = static_cast<StepState*>(before_.data());
  kernels_.adamw_step(prompt_, parameters_[kWord], batch.unique_ids, i32(row_updates_), schedule(), state(), max_norm,
                      scaling_, log);
  if (options_.dense) catch_up();
}

void Optimizer::start_updates() {
  if (late_.empty() || gradients_.empty()) return;
  kernels_.start_updates(late_, schedule(), static_cast<StepState*>(before_.data()),
                         static_cast<float>(options_.max_norm));
}

StepState Optimizer::first_state() const {
  StepState state;
  if (scaling_.growth_interval > 0) state.loss_scale = kFirstLossScale;
  return state;
}

StepState Optimizer::read_state() const {
  StepState state;
  kernels_.download(&state, state_.data(), sizeof state);
  return state;
}

bool Optimizer::can_lower_scale(const StepState& state) const {
  return scaling_.growth_interval > 0 && state.loss_scale > kSmallestLossScale;
}

void Optimizer::resume(const StepState& state) {
  kernels_.upload(state_.data(), &state, sizeof state);
  const std::vector<std::int32_t> current(static_cast<std::size_t>(config_.vocabulary), state.updates);
  kernels_.upload(row_updates_.data(), current.data(), current.size() * sizeof(std::int32_t));
}

// Takes the views of gradients and working copies again when the model has moved them; only the word embedding's
// gradient changes from batch to batch.
void Optimizer::bind(const Bert& model, const Batch& batch) {
  const BertTensors& now = model.gradients();
  // Another model's gradients may lie where the last one's did, its working copies elsewhere.
  const bool working_moved =
      model.has_working_copy() && parameters_.back().working.data != model.working().classifier_bias.data;
  if (gradients_.empty() || working_moved || gradients_[kWord].data != now.embeddings.word.data ||
      gradients_.back().data != now.classifier_bias.data) {
    const std::vector<Parameter> gradients = parameters(config_, now), working = parameters(config_, model.working());
    gradients_.clear();
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      gradients_.push_back(parameters_[i].gradient = gradients[i].value);
      if (model.has_working_copy()) parameters_[i].working = working[i].value;
    }
  }
  gradients_[kWord] = parameters_[kWord].gradient = now.embeddings.word.row_block(0, batch.unique);
}

}  // namespace ember
