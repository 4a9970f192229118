// The SIMT emulator: CUDA kernels compiled by a C++ compiler, unchanged, and run on the CPU. runtime/cuda/simt.h
// includes this file where nvcc would include CUDA's own headers. Each CUDA thread is a fiber; the threads of a block
// take turns on one host thread, switching only where they wait for each other, and blocks run one after another.
//
// What it shows: wrong values under any schedule of the threads (EMBER_SIMT_SCHEDULE), barriers and collectives that
// not all threads reach, reads of uninitialised memory (everything starts as 0xFF bytes, which are NaN), and with
// sanitizers accesses out of bounds (ASan), misaligned ones (UBSan) and races (TSan), within a block and between two
// that run one after the other; results that depend on which of several streams goes first, or on how far the host is
// ahead of them. What it cannot show is in docs/design.md, "Not covered".
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// Functions of all kinds are host functions. Plain `__shared__` would make one array for all blocks, whose overruns no
// sanitizer sees: EMBER_SHARED stands in its place.
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ use_EMBER_SHARED_instead
#define __launch_bounds__(...)

#include "simt/atomics.h"
#include "simt/block.h"
#include "simt/copies.h"
#include "simt/device_functions.h"
#include "simt/launch.h"
#include "simt/matrix.h"
#include "simt/warp.h"

// `name` is a reference to the block's array of n elements of T; each declaration has memory of its own.
#define EMBER_SHARED(T, name, n)          \
  static const char name##_declaration{}; \
  T(&name)[n] = *static_cast<T(*)[n]>(::simt::shared_array(&name##_declaration, sizeof(T[n])))
#define EMBER_DYNAMIC_SHARED(name) unsigned char* const name = ::simt::dynamic_shared()
