#include "tests/count_allocations.h"

#include <link.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace ember::testing {

std::atomic<std::int64_t> allocations{0};

}  // namespace ember::testing

namespace {

struct Range {
  std::uintptr_t begin = 0, end = 0;
};

// Where oneDNN's shared library lies; empty without one.
Range find_library() {
  Range range;
  const auto look = [](dl_phdr_info* object, std::size_t, void* found) {
    if (std::strstr(object->dlpi_name, "libdnnl") == nullptr) return 0;
    auto& into = *static_cast<Range*>(found);
    into.begin = object->dlpi_addr;
    for (int i = 0; i < object->dlpi_phnum; ++i)
      if (const auto& part = object->dlpi_phdr[i]; part.p_type == PT_LOAD)
        into.end = object->dlpi_addr + part.p_vaddr + part.p_memsz;  // the parts are in the order of their addresses
    return 1;
  };
  dl_iterate_phdr(look, &range);
  return range;
}

void count(const void* caller) {
  static const Range library = find_library();
  const auto address = reinterpret_cast<std::uintptr_t>(caller);
  if (address < library.begin || address >= library.end) ++ember::testing::allocations;
}

void* memory_of(std::size_t bytes) {
  return std::malloc(bytes == 0 ? 1 : bytes);
}

}  // namespace

// The array forms call these by default. So would the form that does not throw, but AddressSanitizer brings one of its
// own, whose memory the deletes below must not free. Not inlined: g++ takes an inlined pair of malloc and free for a
// mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  count(__builtin_return_address(0));
  return memory_of(bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  count(__builtin_return_address(0));
  if (void* memory = memory_of(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  count(__builtin_return_address(0));
  void* memory = nullptr;
  if (posix_memalign(&memory, static_cast<std::size_t>(alignment), bytes) == 0) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
