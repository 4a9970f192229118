// What a kernel file includes for CUDA, and nothing else of CUDA's. Under nvcc it is CUDA itself; any other compiler
// gets the SIMT emulator (tests/simt), whose targets alone have simt/ on their include path. So that one source serves
// both, kernels
// - declare shared memory with the two macros below and launch through runtime/cuda/launch.h;
// - use tensor cores, and start early, through the functions below, which hold the only inline assembly of the project;
// - call full-mask collectives from code that all lanes of a warp reach, and __syncwarp() between a write to shared
//   memory and another lane's read, ldmatrix included.
#pragma once

#ifndef __CUDACC__
#include "simt/emulator.h"
#else

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

// `name`: the block's array of n elements of T. 16-byte aligned, uninitialised.
#define EMBER_SHARED(T, name, n) __shared__ __align__(16) T name[n]
// unsigned char* const name: the dynamic shared memory of the launch, 16-byte aligned, uninitialised.
#define EMBER_DYNAMIC_SHARED(name)                                      \
  extern __shared__ __align__(16) unsigned char ember_dynamic_shared[]; \
  unsigned char* const name = ember_dynamic_shared

namespace ember {

// Waits until the grid before this one in the stream is done and what it wrote can be read; then the grid after this
// one may come to the multiprocessors, to wait in its turn. So a grid may read before it waits what neither the grid
// before it writes nor any later one: that all grids before that are done, holds. For launch_early
// (runtime/cuda/launch.h). Code for compute capabilities below 9.0 has no such instruction, and must not start early on
// a newer device either. PTX ISA, "griddepcontrol".
__device__ __forceinline__ void await_previous_grid() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ bool code_can_await() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return true;
#else
  return false;
#endif
}

// Waits until kWarps warps of the block, all lanes of each, are at the barrier of `group`, 0 to kGroups - 1 (at most
// 15), and orders memory between them as __syncthreads() does for the block. The branches are there because for a
// barrier whose number is not known when the code is made a block reserves all 16, which multiprocessors have only 16
// to 64 of. PTX ISA, "barrier".
template <int kGroups, int kWarps>
__device__ __forceinline__ void barrier_of_warps(int group) {
  static_assert(kGroups >= 1 && kGroups <= 15);  // 0 is that of __syncthreads()
  if constexpr (kGroups > 1) {
    if (group != kGroups - 1) return barrier_of_warps<kGroups - 1, kWarps>(group);
  }
  asm volatile("barrier.sync %0, %1;" ::"n"(kGroups), "n"(32 * kWarps) : "memory");
}

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Begins to copy 16 bytes, both addresses multiples of 16, from global to shared memory past the first-level cache; all
// of a thread's copies are there after its await_copies(), for the others after a barrier behind that. Below compute
// capability 8.0 they are there at once. PTX ISA, "cp.async".
__device__ __forceinline__ void begin_copy(void* shared, const void* global) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}
__device__ __forceinline__ void await_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
// For copies on their way by turns: those that the thread has begun since its last commit_copies() are a group from
// here on, which may be empty; await_copies_but waits for all its groups but the last kGroups, and for no copy that is
// in none. PTX ISA, "cp.async.commit_group", "cp.async.wait_group".
__device__ __forceinline__ void commit_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kGroups>
__device__ __forceinline__ void await_copies_but() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

// Loads 8 x 8 matrices of b16 from shared memory. Lane 8 m + i gives the address (16-byte aligned) of row i of matrix
// m; r[m] receives, in lane 4 g + t, the elements (g, 2 t) and (g, 2 t + 1), low half first; of the transposes with
// _trans. All lanes take part, and of _x2 those from 16 on give the address of any row: sm_75 takes no other. PTX ISA,
// "ldmatrix".
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d (16 x 8, fp32) += a (16 x 8, fp16) b (8 x 8, fp16), over the warp. Lane 4 g + t holds
//   a[0]: (g, 2 t), (g, 2 t + 1)   a[1]: (g + 8, 2 t), (g + 8, 2 t + 1)   b: (2 t, g), (2 t + 1, g)
//   d[0], d[1]: (g, 2 t), (g, 2 t + 1)   d[2], d[3]: (g + 8, 2 t), (g + 8, 2 t + 1).
// So d rounded to fp16 pairs is the a of a next product. PTX ISA, "Matrix Fragments for mma.m16n8k8".
__device__ __forceinline__ void mma_m16n8k8(float (&d)[4], const std::uint32_t (&a)[2], std::uint32_t b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b));
}

// d (16 x 8, fp32) += a (16 x 16, fp16) b (16 x 8, fp16): the same of two such products, the first of a[0], a[1] and
// b[0]; one instruction from compute capability 8.0 on. PTX ISA, "Matrix Fragments for mma.m16n8k16".
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  mma_m16n8k8(d, {a[0], a[1]}, b0);
  mma_m16n8k8(d, {a[2], a[3]}, b1);
#endif
}

}  // namespace ember

#endif
