#include "bench/peaks.h"

#include <memory>

#include "bench/shapes.h"
#include "bench/statistics.h"
#include "bench/time_call.h"

namespace ember {

Prepared peak_copy(Backend& backend) {
  const std::size_t bytes = backend.large_block();
  const auto from = std::make_shared<Buffer>(backend.kernels().allocate(bytes));
  const auto to = std::make_shared<Buffer>(backend.kernels().allocate(bytes));
  return {[&backend, from, to, bytes] { backend.copy(to->data(), from->data(), bytes); },
          {2 * static_cast<double>(bytes), 0}};
}

Prepared peak_product(Backend& backend, Workspace& workspace) {
  const std::int64_t n = backend.large_product();
  const Tensor out = workspace.activations(n, n), in = workspace.activations(n, n);
  const Tensor weight = workspace.product_weights(n, n);
  const auto size = static_cast<double>(n);
  const Widths widths = workspace.widths();
  return {[=, &backend] { backend.kernels().linear_forward(out, in, weight, {}); },
          work::linear_forward(size, size, size, false, widths.activation, widths)};
}

Peaks measure_peaks(Backend& backend, int repetitions) {
  const BertConfig config = model_shape("tinybert");
  const Problem problem{config, synthetic_texts(lengths_of_texts(1), config.vocabulary, config.label_count())};
  Workspace workspace(backend.kernels(), problem);
  const auto seconds = [&](const Prepared& prepared) {
    std::vector<double> all;
    for (int r = 0; r < repetitions; ++r) all.push_back(time_call(backend, prepared.call, nullptr, Cache::warm, {}));
    return median(all);
  };
  Peaks peaks;
  const Prepared product = peak_product(backend, workspace);
  peaks.flop_per_second = product.work.flop / seconds(product);
  const Prepared copy = peak_copy(backend);
  peaks.bytes_per_second = copy.work.bytes / seconds(copy);
  return peaks;
}

}  // namespace ember
