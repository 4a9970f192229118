// A model with its optimizer on one backend, for tests that hold two of them side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "model/batches.h"
#include "model/bert.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace ember::testing {

constexpr BatchLimits kRigLimits{72, 5};  // four short texts and a filling

struct RigOptions {
  AdamWOptions optimizer = {};
  int steps = 50;  // of the schedule
  BatchLimits limits = kRigLimits;
  float deviation = 0.2f;  // of the weights
};

struct Rig {
  static constexpr std::uint64_t kSeed = 5;  // of dropout

  Rig(BertConfig of, std::unique_ptr<Kernels> on, const RigOptions& options = {})
      : config(std::move(of)), kernels(std::move(on)), weights(config, *kernels), batches(*kernels, config) {
    draw_all(weights, options.deviation, 7, *kernels);
    model = std::make_unique<Bert>(config, weights, *kernels, Purpose::training, options.limits);
    optimizer = std::make_unique<Optimizer>(config, weights, *kernels, options.optimizer,
                                            Schedule(2e-3, 0.1, options.steps), options.steps);
  }

  // Returns the loss.
  float step(const Dataset& texts, int s) {
    batches.take(texts);
    float loss = 0;
    kernels->download(&loss, step(batches.next(texts.size()), s).data, sizeof loss);
    return loss;
  }

  // Likewise, on the device.
  Tensor step(const Batch& batch, int s) {
    optimizer->catch_up(batch);
    model->forward(batch, Randomness{kSeed, static_cast<std::uint32_t>(s)});
    const Tensor loss = model->loss(batch, optimizer->step_state()).loss;
    model->backward(batch);
    optimizer->step(*model, batch, loss);
    return loss;
  }

  void set_state(const StepState& state) {
    kernels->upload(const_cast<StepState*>(optimizer->step_state()), &state, sizeof state);
  }

  // Weights and moments, every row brought up to date.
  std::vector<std::uint8_t> image() {
    optimizer->catch_up();
    std::vector<std::uint8_t> bytes;
    for (const BertWeights* set : {&weights, &optimizer->first_moments(), &optimizer->second_moments()})
      for (const Parameter& parameter : set->list) {
        const std::size_t begin = bytes.size(), size = static_cast<std::size_t>(parameter.value.size()) * sizeof(float);
        bytes.resize(begin + size);
        kernels->download(bytes.data() + begin, parameter.value.data, size);
      }
    return bytes;
  }

  BertConfig config;
  std::unique_ptr<Kernels> kernels;
  BertWeights weights;
  Batches batches;
  std::unique_ptr<Bert> model;
  std::unique_ptr<Optimizer> optimizer;
};

}  // namespace ember::testing
