// Every method of Kernels that computes, ready to be called and measured: what bench_kernels runs, and what its tests
// hold against the list in kernels/kernels.h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/work.h"
#include "bench/workspace.h"

namespace ember {

// A call with its operands. Repeated calls do the same work on numbers of the same size: outputs are none of the
// inputs, and what a call uses up `reset` restores, which is called before each and not measured.
struct Prepared {
  std::function<void()> call;
  Work work;
  std::function<void()> reset = nullptr;
};

// Which problems a method is measured on.
enum class Extent {
  batches,  // every batch of every model
  model,    // once a model: it does not depend on the batch
};

struct Operation {
  std::string method;   // its name in kernels.h
  std::string variant;  // "" or how it is called: "ffn_in"
  Extent extent;
  // Whether it computes with product weights, makes their gradient or writes the optimizer's working copies, which is
  // all that differs between fp32 and bf16 on the CPU.
  bool differs_in_bf16;
  std::function<Prepared(Workspace&)> prepare;
  bool frozen = false;  // with weights that were promised not to change: all that int8 has, and no use on a GPU

  std::string name() const { return variant.empty() ? method : method + ":" + variant; }
};

// Dropout as in training, with probability 0.1.
inline Dropout training_dropout(Site site) {
  return {0.1f, 42, static_cast<std::uint32_t>(site), 1};
}

// In the order of kernels.h.
std::vector<Operation> all_operations();

// Whether the backend has it: round_weights needs a working copy to round to, frozen weights the host.
bool applies(const Operation& operation, const Kernels& kernels);

// The parts of all_operations(), a file each.
std::vector<Operation> batch_operations();
std::vector<Operation> embedding_operations();
std::vector<Operation> linear_operations();
std::vector<Operation> attention_operations();
std::vector<Operation> row_operations();
std::vector<Operation> optimizer_operations();

}  // namespace ember
