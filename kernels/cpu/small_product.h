// Products of small matrices for attention, where a head's 26 columns and a sentence's 19 rows are too few for a
// library call. One routine serves all its products: the left operand is read one element at a time, so that strides
// transpose it for free; the right one in panels of kPanel columns, to which the caller pads it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/vector_math.h"
#include "runtime/ceil_div.h"

namespace ember {

constexpr std::int64_t kPanel = 16;
#if defined(__AVX512F__)
constexpr std::int64_t kPanelRows = 12;  // of 32 registers that hold a panel's row each
#else
constexpr std::int64_t kPanelRows = 6;  // fill 12 of AVX2's 16 registers
#endif

// `size` rounded up to whole panels.
constexpr std::int64_t whole_panels(std::int64_t size) {
  return round_up(size, kPanel);
}

// Elements from row to row of scratch for rows of `size` floats: an odd number of panels, so that the rows of a panel
// do not all fall into the same few sets of the cache.
constexpr std::int64_t panel_stride(std::int64_t size) {
  return (whole_panels(size) / kPanel | 1) * kPanel;
}

// The left operand: element (r, k) is data[r row + k inner].
struct Strided {
  const float* data;
  std::int64_t row, inner;
};

struct Panels {
  const float* data;
  std::int64_t stride;
};

// What small_product is made of: `R` rows of c and one panel, c = a b or c += a b, in registers. `left` by reference: a
// copy on the stack would be read in wider pieces than it has just been written in, for which processors wait.
template <int R>
void panel_product(float* c, std::int64_t c_stride, const Strided& left, Panels b, std::int64_t inner,
                   bool accumulate) {
  constexpr int kVectors = kPanel / kLanes;
  Lanes<float> sums[R][kVectors] = {};
  for (std::int64_t k = 0; k < inner; ++k) {
    Lanes<float> right[kVectors];
    for (int v = 0; v < kVectors; ++v) std::memcpy(&right[v], b.data + k * b.stride + v * kLanes, sizeof right[v]);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v) sums[r][v] += left.data[r * left.row + k * left.inner] * right[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVectors; ++v) {
      float* to = c + r * c_stride + v * kLanes;
      Lanes<float> before;
      if (accumulate) std::memcpy(&before, to, sizeof before), sums[r][v] += before;
      std::memcpy(to, &sums[r][v], sizeof sums[r][v]);
    }
}

template <std::size_t... I>
constexpr auto panel_products_up_to(std::index_sequence<I...>) {
  return std::array{panel_product<static_cast<int>(I) + 1>...};
}

// c = a b, or c += a b when `accumulate`; c is (rows, cols). Every element is summed in the same order wherever it
// lies.
inline void small_product(float* c, std::int64_t c_stride, Strided a, Panels b, std::int64_t rows, std::int64_t inner,
                          std::int64_t cols, bool accumulate = false) {
  constexpr auto kByRows = panel_products_up_to(std::make_index_sequence<kPanelRows>());
  // Rows are shared out evenly: 19 as 5 + 5 + 5 + 4 or 10 + 9, because a single row would wait for each of its
  // additions.
  const std::int64_t blocks = ceil_div(rows, kPanelRows);
  for (std::int64_t j = 0; j < cols; j += kPanel) {
    const std::int64_t width = std::min(kPanel, cols - j);
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t begin = block * rows / blocks, count = (block + 1) * rows / blocks - begin;
      const auto multiply = kByRows[static_cast<std::size_t>(count - 1)];
      const Strided left{a.data + begin * a.row, a.row, a.inner};
      float* to = c + begin * c_stride + j;
      if (width == kPanel) {
        multiply(to, c_stride, left, {b.data + j, b.stride}, inner, accumulate);
        continue;
      }
      alignas(64) float part[kPanelRows][kPanel];
      multiply(part[0], kPanel, left, {b.data + j, b.stride}, inner, false);
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::int64_t i = 0; accumulate && i < width; ++i) part[r][i] += to[r * c_stride + i];
        copy_first(to + r * c_stride, part[r], static_cast<int>(width));
      }
    }
  }
}

}  // namespace ember
