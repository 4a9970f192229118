#include "bench/operations.h"

namespace ember {

std::vector<Operation> all_operations() {
  std::vector<Operation> all;
  for (const auto part : {batch_operations, embedding_operations, linear_operations, attention_operations,
                          row_operations, optimizer_operations}) {
    std::vector<Operation> operations = part();
    all.insert(all.end(), std::make_move_iterator(operations.begin()), std::make_move_iterator(operations.end()));
  }
  return all;
}

bool applies(const Operation& operation, const Kernels& kernels) {
  if (operation.method == "round_weights") return kernels.product_type() != DType::f32;
  return !operation.frozen || kernels.on_host();
}

}  // namespace ember
