// A data set of three rows, with padding (0) among its tokens and a row without a label.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace ember::testing {

inline Dataset small_dataset() {
  using Ids = std::vector<std::int32_t>;
  Dataset dataset;
  dataset.append(Ids{101, 7, 0, 7, 102}, Ids{0, 2});
  dataset.append(Ids{101, 102}, Ids{});
  dataset.append(Ids{101, 0, 3, 102}, Ids{1});
  return dataset;
}

}  // namespace ember::testing
