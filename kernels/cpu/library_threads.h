// How many threads oneDNN takes: as many as OpenMP gives the thread that calls it, which is not a backend's to keep.
#pragma once

#include <omp.h>

namespace ember {

// As long as it lives, `threads` for this thread.
class LibraryThreads {
 public:
  explicit LibraryThreads(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~LibraryThreads() { omp_set_num_threads(before_); }
  LibraryThreads(const LibraryThreads&) = delete;
  LibraryThreads& operator=(const LibraryThreads&) = delete;

 private:
  int before_;
};

}  // namespace ember
