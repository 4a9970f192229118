// What products by oneDNN have in common.
#pragma once

#include <omp.h>

#include <algorithm>

#include "kernels/cpu/team.h"
#include "runtime/tensor.h"

namespace ember {

// How many threads oneDNN takes: as many as OpenMP gives the thread that calls it, which is not a backend's to keep. As
// long as this lives, `threads`.
class LibraryThreads {
 public:
  explicit LibraryThreads(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~LibraryThreads() { omp_set_num_threads(before_); }
  LibraryThreads(const LibraryThreads&) = delete;
  LibraryThreads& operator=(const LibraryThreads&) = delete;

 private:
  int before_;
};

// Every row of `out` = bias, which a product is then to be added to. False: there is none, and nothing was written.
inline bool start_with_bias(Tensor out, Tensor bias, int threads) {
  if (bias.empty()) return false;
  parallel_for(out.rows, useful_threads(threads, out.rows, out.size()),
               [&](std::int64_t r) { std::copy_n(bias.f32(), out.cols, out.row(r)); });
  return true;
}

}  // namespace ember
