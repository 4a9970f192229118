// Cutting a batch from a data set.
#include "bench/operations.h"

namespace ember {

std::vector<Operation> batch_operations() {
  const auto prepare = [](Workspace& w) -> Prepared {
    return {[&w] { w.gather(); }, work::gather_batch(w.batch_size(), number(w.model().label_count())),
            [&w] { w.rewind(); }};
  };
  return {{"gather_batch", "", Extent::batches, false, prepare}};
}

}  // namespace ember
