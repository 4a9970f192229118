#include "runtime/arena.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ember {
namespace {

std::size_t aligned(std::size_t bytes) {
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

}  // namespace

Buffer host_buffer(std::size_t bytes) {
  if (bytes == 0) return {};
  const bool countable = bytes <= SIZE_MAX - Arena::kAlignment;  // else rounding up would wrap to nothing
  void* data = countable ? std::aligned_alloc(Arena::kAlignment, aligned(bytes)) : nullptr;
  check(data != nullptr, "out of memory: {} bytes were asked for", bytes);
  std::memset(data, 0, aligned(bytes));
  return Buffer(data, bytes, [](void* pointer) { std::free(pointer); });
}

void* Arena::take(std::size_t bytes) {
  const std::size_t offset = used_;
  used_ += aligned(bytes);
  if (base_ == nullptr) return nullptr;
  if (used_ > capacity_)
    throw std::logic_error(fmt::format("arena of {} bytes asked for {}: it was measured too small", capacity_, used_));
  return base_ + offset;
}

}  // namespace ember
