// Running a grid of blocks.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <functional>

namespace simt {

// Calls `thread` for every thread of every block and returns when all have ended. The sizes must be valid;
// `most_shared` is the number of bytes that a block may have in static and dynamic shared memory together. Reports a
// thread that ends without await_previous_grid() where `early`; and to TSan what such a thread does before is not
// ordered after the grid before it in `stream`, if nothing else was run in between.
void run_grid(const void* stream, dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t most_shared, bool early,
              const std::function<void()>& thread);

// What a library's grid does in `stream`, which starts when all before it has ended and lets none start early.
void run_library(const void* stream, const std::function<void()>& work);

// To TSan, what follows comes after all grids so far: for whoever waits for them, and for what a stream runs that is no
// grid.
void await_grids();

}  // namespace simt
