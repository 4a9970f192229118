#include "train/step_runner.h"

namespace ember {
namespace {

// Steps between two copies of records. One copy may be under way when the next is due, so a ring of twice as many
// suffices (Optimizer::kRecords).
constexpr std::int64_t kBetweenCopies = Optimizer::kRecords / 2;
// Steps after which all rows of the word embedding are brought up to date, where a step is far shorter than the replay
// of thousands of updates that a rare word's row would otherwise wait for. The bits are the same.
constexpr std::int64_t kBetweenSweeps = 128;

}  // namespace

StepRunner::StepRunner(Kernels& kernels, Bert& model, Optimizer& optimizer, Batches& batches, std::uint64_t seed,
                       bool record, std::int64_t steps_done)
    : kernels_(kernels),
      model_(model),
      optimizer_(optimizer),
      batches_(batches),
      seed_(seed),
      record_(record),
      reservations_(model.reservations()),
      readback_(kernels.make_readback(Optimizer::kRecords * sizeof(StepRecord))),
      given_(steps_done),
      asked_(steps_done),
      received_(steps_done) {}

BatchShape StepRunner::step(std::int64_t rows) {
  const BatchShape exact = batches_.exact_shape(rows), shape = batches_.shape(exact);
  if (!kernels_.on_host() && given_ % kBetweenSweeps == 0) optimizer_.catch_up();
  if (RecordedWork* recorded = recording_of(shape))
    recorded->run();
  else
    give(shape);
  batches_.advance(rows);
  ++given_;
  return exact;
}

// Null: the step is to be given call by call. So is the first of a shape, since only then is all scratch memory there
// and every algorithm chosen.
RecordedWork* StepRunner::recording_of(const BatchShape& shape) {
  if (!record_) return nullptr;
  if (reservations_ != model_.reservations()) shapes_.clear();
  reservations_ = model_.reservations();
  const auto [known, is_new] = shapes_.try_emplace(shape);
  if (is_new) return nullptr;
  if (known->second == nullptr) known->second = kernels_.record([&] { give(shape); });
  record_ = known->second != nullptr;
  return known->second.get();
}

void StepRunner::give(const BatchShape& shape) {
  const Batch batch = batches_.gather(shape);
  optimizer_.catch_up(batch);
  model_.forward(batch, Randomness{seed_, 0, &optimizer_.step_state()->steps});
  const Bert::Loss result = model_.loss(batch, optimizer_.step_state());
  model_.backward(batch);
  optimizer_.step(model_, batch, result.loss);
}

std::span<const StepRecord> StepRunner::records(Wait wait) {
  records_.clear();
  const bool at_once = wait == Wait::yes || kernels_.on_host();
  if (received_ < asked_ && readback_->ready()) receive();
  if (given_ > asked_ && (at_once || given_ - asked_ >= kBetweenCopies)) {
    receive();
    readback_->start(optimizer_.records());
    asked_ = given_;
  }
  if (at_once) receive();
  return records_;
}

void StepRunner::receive() {
  if (received_ == asked_) return;
  const auto* ring = static_cast<const StepRecord*>(readback_->wait());
  for (; received_ < asked_; ++received_) records_.push_back(ring[received_ % Optimizer::kRecords]);
}

}  // namespace ember
