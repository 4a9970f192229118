#include "runtime/arena.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "runtime/ceil_div.h"

namespace ember {
namespace {

constexpr std::size_t kHugePage = 2 << 20;  // of x86-64 and of arm64 with pages of 4 KB

}  // namespace

Buffer host_buffer(std::size_t bytes) {
  if (bytes == 0) return {};
  // A large block is walked from end to end at every step: with huge pages it takes a few translations, not thousands.
  const bool large = bytes >= 2 * kHugePage;
  const std::size_t alignment = large ? kHugePage : Arena::kAlignment;
  const bool countable = bytes <= SIZE_MAX - alignment;  // else rounding up would wrap to nothing
  void* data = countable ? std::aligned_alloc(alignment, round_up(bytes, alignment)) : nullptr;
  check(data != nullptr, "out of memory: {} bytes were asked for", bytes);
  if (large) madvise(data, round_up(bytes, alignment), MADV_HUGEPAGE);  // a wish: without it pages are small
  // Though new memory is zero as a rule: no step and no text then meets a page for the first time.
  std::memset(data, 0, round_up(bytes, Arena::kAlignment));
  return Buffer(data, bytes, [](void* pointer) { std::free(pointer); });
}

void* Arena::take(std::size_t bytes) {
  const std::size_t offset = used_;
  used_ += round_up(bytes, kAlignment);
  if (base_ == nullptr) return nullptr;
  if (used_ > capacity_)
    throw std::logic_error(fmt::format("arena of {} bytes asked for {}: it was measured too small", capacity_, used_));
  return base_ + offset;
}

}  // namespace ember
