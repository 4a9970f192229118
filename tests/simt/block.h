// What a running CUDA thread may ask of the emulator's core. Called from kernels only.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <source_location>

// Set by the core whenever another thread gets its turn.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace simt {

inline constexpr int kWarpSize = 32;
inline constexpr int kMostThreads = 1024;         // of a block
inline constexpr int kBarriers = 16;              // of a block
inline constexpr std::size_t kShared = 48 << 10;  // bytes a block may use without asking
inline constexpr int kMostWords = 2;              // 32-bit words that a lane hands over in one shuffle

// Where in the kernel's source a call stands, for the reports.
using Place = std::source_location;

// The grid before this one has always ended here; but a thread of one that was launched early must ask.
void await_previous_grid();
// Whether the device's own code has an instruction for that.
bool code_can_await();

// Ends the program, as a device would.
[[noreturn]] void trap();

// Waits until all threads of the block that have not ended are here, at this very call; orders memory.
void block_barrier(Place place);
// The same for all lanes of `warps` warps, by one of the block's other barriers.
void barrier_of_warps(int id, int warps, Place place);

// The block's memory for the declaration `key`: one exact chunk of the heap, filled with 0xFF on first use.
void* shared_array(const void* key, std::size_t bytes);
unsigned char* dynamic_shared();
// A copy to shared memory that its thread has begun, in the group that its next commit_copies() ends, counted from the
// thread's first.
struct Copy {
  void* to;
  const void* from;
  unsigned group;
};
void remember_copy(void* to, const void* from);
void commit_copies();
// Takes away one of the running thread's that are in a group, but not in the last `but`; false when there is none.
bool take_copy(Copy& copy, unsigned but);

// Aborts with a report unless `row` is 16 aligned bytes in the running block's shared memory.
void require_shared_row(const void* row, const char* operation, Place place);

// This thread's place in its warp.
int lane();

// Each of these waits until every lane of `mask` is in the same operation with the same mask. Several masks without a
// lane in common may be under way in one warp. The full mask means all lanes that the block has, in a last warp that is
// not whole. Naming an ended lane is reported. Only warp_barrier orders memory.
void warp_barrier(unsigned mask, Place place);
// Gives `words` 32-bit words away and receives those of lane `source`, which must be in the mask.
void shuffle(const char* operation, unsigned mask, const std::uint32_t* in, std::uint32_t* out, int words, int source,
             Place place);
// One bit per lane of the mask: whether its predicate holds.
unsigned ballot(const char* operation, unsigned mask, bool predicate, Place place);
// rows[i] = the pointer that lane i gave. All 32 lanes.
void exchange_pointers(const char* operation, const void* mine, const void* (&rows)[kWarpSize], Place place);
// d += a b in fp32, the fragments of mma.m16n8k8 (PTX ISA, "Matrix Fragments for mma.m16n8k8"). All 32 lanes.
void multiply_accumulate(float (&d)[4], const std::uint32_t (&a)[2], std::uint32_t b, Place place);

}  // namespace simt

namespace ember {
inline void await_previous_grid() {
  simt::await_previous_grid();
}
inline bool code_can_await() {
  return simt::code_can_await();
}
template <int kGroups, int kWarps>
void barrier_of_warps(int group, simt::Place place = simt::Place::current()) {
  simt::barrier_of_warps(group < kGroups ? 1 + group : 0, kWarps, place);
}
}  // namespace ember

[[noreturn]] inline void __trap() {
  simt::trap();
}
inline void __syncthreads(simt::Place place = simt::Place::current()) {
  simt::block_barrier(place);
}
