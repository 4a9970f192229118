// Running a grid of blocks.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <functional>

namespace simt {

// To be called by what is given to a stream (simt/runtime_state.h), which keeps `thread` and `work`.

// Calls `thread` for every thread of every block and returns when all have ended. The sizes must be valid;
// `most_shared` is the number of bytes that a block may have in static and dynamic shared memory together. Reports a
// thread that ends without await_previous_grid() where `early`. What order there is between grids, TSan has from
// simt/grid_order.h.
void run_grid(dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t most_shared, bool early,
              const std::function<void()>& thread);

// The same for what is no kernel of ours: a library's, or a copy.
void run_library(const std::function<void()>& work);

}  // namespace simt
