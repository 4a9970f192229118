// Shared memory of the running block: each array an exact chunk of the heap, so that ASan sees every overrun, new and
// filled with 0xFF (NaN) for each block.
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "simt/core.h"

namespace simt {
namespace {

struct Chunk {
  const void* declaration;  // null: the dynamic shared memory
  unsigned char* begin;
  std::size_t bytes;
};

struct SharedMemory {
  std::vector<Chunk> chunks;
  std::size_t used = 0, most = 0;
};

SharedMemory& memory() {
  static SharedMemory& instance = *new SharedMemory;
  return instance;
}

unsigned char* add_chunk(const void* declaration, std::size_t bytes) {
  constexpr std::size_t kAlignment = 16;
  void* data = nullptr;
  if (posix_memalign(&data, kAlignment, bytes) != 0) report("no memory for a block's shared memory");
  std::memset(data, 0xFF, bytes);
  memory().chunks.push_back({declaration, static_cast<unsigned char*>(data), bytes});
  memory().used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return memory().chunks.back().begin;
}

Chunk* find(const void* declaration) {
  for (Chunk& chunk : memory().chunks)
    if (chunk.declaration == declaration) return &chunk;
  return nullptr;
}

}  // namespace

void start_shared_memory(std::size_t dynamic_bytes, std::size_t most) {
  memory().most = most;
  if (dynamic_bytes > 0) add_chunk(nullptr, dynamic_bytes);
}

bool has_shared_memory() {
  return !memory().chunks.empty();
}

void end_shared_memory() {
  for (const Chunk& chunk : memory().chunks) std::free(chunk.begin);
  memory().chunks.clear();
  memory().used = 0;
}

void* shared_array(const void* declaration, std::size_t bytes) {
  if (find(declaration) == nullptr) {
    struct Request {
      const void* declaration;
      std::size_t bytes;
    } request{declaration, bytes};
    as_launcher(
        [](void* argument) {
          const auto& wanted = *static_cast<const Request*>(argument);
          add_chunk(wanted.declaration, wanted.bytes);
        },
        &request);
    if (memory().used > memory().most)
      report(fmt::format("a block uses {} bytes of shared memory, the limit is {}", memory().used, memory().most));
  }
  see_allocations();
  return find(declaration)->begin;
}

unsigned char* dynamic_shared() {
  const Chunk* chunk = find(nullptr);
  if (chunk == nullptr) report("a kernel uses dynamic shared memory and was launched without");
  see_allocations();
  return chunk->begin;
}

void require_shared_row(const void* row, const char* operation, Place place) {
  constexpr std::size_t kBytes = 16;
  const auto* begin = static_cast<const unsigned char*>(row);
  if (reinterpret_cast<std::uintptr_t>(row) % kBytes != 0)
    report(fmt::format("{} of a row whose address is not a multiple of 16 bytes", operation), place);
  for (const Chunk& chunk : memory().chunks)
    if (begin >= chunk.begin && begin + kBytes <= chunk.begin + chunk.bytes) return;
  report(fmt::format("{} of a row that is not within one array of shared memory", operation), place);
}

}  // namespace simt
