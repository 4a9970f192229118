#include "train/saver.h"

#include <chrono>
#include <system_error>

namespace ember {
namespace {

constexpr std::size_t kMostSets = 3;

// Of one configuration, so their memory is laid out alike.
void copy(const BertWeights& to, const BertWeights& from, Kernels& kernels) {
  kernels.download(to.memory.data(), from.memory.data(), from.memory.size());
}

}  // namespace

Saver::Saver(const BertConfig& config, Kernels& kernels)
    : config_(config),
      kernels_(kernels),
      host_(kernels.on_host() ? nullptr : make_cpu_kernels(Precision::fp32, 1)),
      lanes_(kMostSets + 1) {}

Saver::~Saver() {
  for (const Lane& lane : lanes_)
    if (lane.writing.valid()) lane.writing.wait();
}

void Saver::save(Sets sets, const std::function<void(Sets, Kernels&)>& write) {
  if (host_ == nullptr) return write(sets, kernels_);
  check();
  Lane& lane = lanes_.at(sets.size());
  if (lane.writing.valid()) lane.writing.get();
  while (lane.copies.size() < sets.size()) lane.copies.push_back(std::make_unique<BertWeights>(config_, *host_));
  std::vector<const BertWeights*> copies;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    copy(*lane.copies[i], *sets[i], kernels_);
    copies.push_back(lane.copies[i].get());
  }
  const auto job = [this, copies = std::move(copies), write, number = given_] {
    in_turn(number, [&] { write(copies, *host_); });
  };
  try {
    lane.writing = std::async(std::launch::async, job).share();
  } catch (const std::system_error&) {  // no thread for it
    std::packaged_task<void()> here(job);
    lane.writing = here.get_future().share();
    here();
  }
  ++given_;
}

// Waits for all jobs before this one. A number and not their futures, which would keep what they wrote for ever.
void Saver::in_turn(std::int64_t number, const std::function<void()>& write) {
  std::unique_lock lock(mutex_);
  turn_.wait(lock, [&] { return done_ == number; });
  if (failure_ == nullptr) {
    lock.unlock();
    std::exception_ptr failure;
    try {
      write();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure;
  }
  ++done_;
  turn_.notify_all();
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

void Saver::check() const {
  for (const Lane& lane : lanes_)
    if (lane.writing.valid() && lane.writing.wait_for(std::chrono::seconds(0)) == std::future_status::ready)
      lane.writing.get();
}

void Saver::finish() const {
  for (const Lane& lane : lanes_)
    if (lane.writing.valid()) lane.writing.get();
}

}  // namespace ember
