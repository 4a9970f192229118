// out = in weightᵀ + bias for a weight that is packed once. A library's product packs its operands at every call, which
// for a sentence of twenty tokens costs as much as the product itself. After Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication" (ACM TOMS 2008), without blocks: the fewer rows there are, the better all of
// them stay in a cache while the panels pass (docs/performance_cpu.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/tensor.h"

namespace ember {

// Bytes of the packed form of a weight (O, I).
std::size_t packed_bytes(Tensor weight);
// `packed` must be aligned to 64 bytes.
void pack_weight(float* packed, Tensor weight);
// out (M, O), in (M, I), bias (O) or empty. Every element is summed in the order of I, whatever `threads` is.
void packed_product(Tensor out, Tensor in, const float* packed, Tensor bias, int threads);

}  // namespace ember
