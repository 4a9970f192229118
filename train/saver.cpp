#include "train/saver.h"

#include <chrono>
#include <utility>

namespace ember {
namespace {

constexpr std::size_t kMostSets = 3;

void copy(const BertWeights& to, const BertWeights& from, Kernels& kernels) {
  for (std::size_t i = 0; i < from.list.size(); ++i) {
    const Tensor& value = from.list[i].value;
    kernels.download(to.list[i].value.data, value.data, static_cast<std::size_t>(value.size()) * size_of(value.dtype));
  }
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
  // A future keeps its job, so a job must not keep the future before it, nor that one's job, for ever.
  auto job = [this, copies = std::move(copies), write, before = last_]() mutable {
    if (before.valid()) std::exchange(before, {}).get();
    write(copies, *host_);
  };
  last_ = lane.writing = std::async(std::launch::async, std::move(job)).share();
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
