// Unlike the core, compiled with whatever sanitizers the kernels have: these are the calling lane's loads.
#include "simt/matrix.h"

namespace simt {

void load_matrices(std::uint32_t* r, int count, bool transpose, const void* row, Place place) {
  const char* operation = transpose ? "ldmatrix.trans" : "ldmatrix";
  constexpr int kSize = 8;  // rows and columns of a matrix
  const int lane = simt::lane();
  require_shared_row(row, operation, place);  // of lanes whose row is not read, too: sm_75 takes no other address
  const void* rows[kWarpSize];
  exchange_pointers(operation, row, rows, place);
  for (int m = 0; m < count; ++m) {
    std::uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const int outer = lane / 4, inner = 2 * (lane % 4) + i;
      const auto* from = static_cast<const std::uint16_t*>(rows[kSize * m + (transpose ? inner : outer)]);
      pair[i] = from[transpose ? outer : inner];
    }
    r[m] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
  }
}

}  // namespace simt
