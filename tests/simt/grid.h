// Running a grid of blocks.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <functional>

namespace simt {

// Calls `thread` for every thread of every block and returns when all have ended. The sizes must be valid;
// `most_shared` is the number of bytes that a block may have in static and dynamic shared memory together. Reports a
// thread that ends without await_previous_grid() where `early`.
void run_grid(dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t most_shared, bool early,
              const std::function<void()>& thread);

}  // namespace simt
