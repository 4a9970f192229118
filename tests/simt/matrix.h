// The tensor-core wrappers of runtime/cuda/simt.h, emulated. ldmatrix reads shared memory from the calling lane's own
// instructions, so that the sanitizers see the access.
#pragma once

#include "simt/block.h"

namespace simt {

// Fragment i of `r`: two neighbouring elements of the 8 x 8 matrix of b16 whose rows lanes 8 i .. 8 i + 7 point at
// (PTX ISA, "ldmatrix"); `transpose`: of its transpose. Every lane gives a row, whatever `count` is.
void load_matrices(std::uint32_t* r, int count, bool transpose, const void* row, Place place);

}  // namespace simt

namespace ember {

inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, simt::Place place = simt::Place::current()) {
  simt::load_matrices(r, 4, false, row, place);
}
inline void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row, simt::Place place = simt::Place::current()) {
  simt::load_matrices(r, 2, true, row, place);
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, simt::Place place = simt::Place::current()) {
  simt::load_matrices(r, 4, true, row, place);
}
inline void mma_m16n8k8(float (&d)[4], const std::uint32_t (&a)[2], std::uint32_t b,
                        simt::Place place = simt::Place::current()) {
  simt::multiply_accumulate(d, a, b, place);
}
inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                         simt::Place place = simt::Place::current()) {
  simt::multiply_accumulate(d, {a[0], a[1]}, b0, place);
  simt::multiply_accumulate(d, {a[2], a[3]}, b1, place);
}

}  // namespace ember
