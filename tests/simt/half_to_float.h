// fp16 bits to float, by the processor's instruction where the build may use it.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace simt {

inline float half_to_float(std::uint16_t bits) {
#ifdef __F16C__
  return _cvtsh_ss(bits);
#else
  return __half2float(__half(__half_raw{bits}));
#endif
}

}  // namespace simt
