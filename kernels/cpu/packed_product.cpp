#include "kernels/cpu/packed_product.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/cpu/row_pass.h"

namespace ember {
namespace {

// A tile of the output lives in registers: kRows broadcasts of the input against two vectors of the weight. Of the 16
// (AVX2) or 32 (AVX-512) registers 2 kRows are sums, two hold the weight, one the broadcast.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 12;
#else
constexpr int kLanes = 8, kRows = 6;
#endif
constexpr int kColumns = 2 * kLanes;
// How far ahead of the product the weight is asked for: a panel is read once, in order, from memory that is slower than
// the multipliers. 64 rows are 8 KB (docs/performance.md).
constexpr std::int64_t kAhead = 64;
using Vector [[gnu::vector_size(kLanes * sizeof(float)), gnu::aligned(4), gnu::may_alias]] = float;

std::int64_t panels(std::int64_t columns) {
  return (columns + kColumns - 1) / kColumns;
}

// `Rows` rows and kColumns columns of a product with one panel of the weight, which is (I, kColumns), plus `bias`.
// Another panel at `next`, if there is one, is asked for meanwhile, into the second-level cache.
template <int Rows>
void tile(float* out, std::int64_t out_stride, const float* in, std::int64_t in_stride, const float* panel,
          std::int64_t inner, const float* bias, const float* next) {
  Vector sum[Rows][2];
  for (int r = 0; r < Rows; ++r) std::memcpy(sum[r], bias, sizeof sum[r]);
  for (std::int64_t k = 0; k < inner; ++k) {
    for (int c = 0; c < kColumns; c += 16) {
      __builtin_prefetch(panel + (k + kAhead) * kColumns + c);
      if (next != nullptr) __builtin_prefetch(next + k * kColumns + c, 0, 2);
    }
    const Vector left = *reinterpret_cast<const Vector*>(panel + k * kColumns);
    const Vector right = *reinterpret_cast<const Vector*>(panel + k * kColumns + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const float value = in[r * in_stride + k];
      sum[r][0] += value * left;
      sum[r][1] += value * right;
    }
  }
  for (int r = 0; r < Rows; ++r) std::memcpy(out + r * out_stride, sum[r], sizeof sum[r]);
}

using Tile = void (*)(float*, std::int64_t, const float*, std::int64_t, const float*, std::int64_t, const float*,
                      const float*);

template <std::size_t... I>
constexpr std::array<Tile, sizeof...(I)> tiles_up_to(std::index_sequence<I...>) {
  return {tile<static_cast<int>(I) + 1>...};
}
constexpr auto kTiles = tiles_up_to(std::make_index_sequence<kRows>());

// All rows of one panel's columns, in tiles of equal height: a low last one would leave the multipliers idle.
void multiply_panel(Tensor out, Tensor in, const float* panel, Tensor bias, std::int64_t column) {
  const std::int64_t width = std::min<std::int64_t>(kColumns, out.cols - column);
  const std::int64_t tiles = (out.rows + kRows - 1) / kRows;
  float added[kColumns] = {};
  if (!bias.empty()) std::copy_n(bias.f32() + column, width, added);
  for (std::int64_t t = 0; t < tiles; ++t) {
    const std::int64_t begin = t * out.rows / tiles, rows = (t + 1) * out.rows / tiles - begin;
    // The last of several tiles finds its panel in the cache, so memory is idle while it multiplies.
    const float* next = t > 0 && t + 1 == tiles ? panel + in.cols * kColumns : nullptr;
    const Tile multiply = kTiles[static_cast<std::size_t>(rows - 1)];
    if (width == kColumns) {
      multiply(out.row(begin) + column, out.stride, in.row(begin), in.stride, panel, in.cols, added, next);
      continue;
    }
    float block[kRows][kColumns];
    multiply(block[0], kColumns, in.row(begin), in.stride, panel, in.cols, added, next);
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(block[r], width, out.row(begin + r) + column);
  }
}

}  // namespace

std::size_t packed_bytes(Tensor weight) {
  return static_cast<std::size_t>(panels(weight.rows) * kColumns * weight.cols) * sizeof(float);
}

void pack_weight(float* packed, Tensor weight) {
  std::fill_n(packed, packed_bytes(weight) / sizeof(float), 0.0f);
  for (std::int64_t o = 0; o < weight.rows; ++o) {
    float* to = packed + o / kColumns * kColumns * weight.cols + o % kColumns;
    const float* from = weight.row(o);
    for (std::int64_t i = 0; i < weight.cols; ++i) to[i * kColumns] = from[i];
  }
}

void packed_product(Tensor out, Tensor in, const float* packed, Tensor bias, int threads) {
  const std::int64_t count = panels(out.cols);
  parallel_for(count, useful_threads(threads, count, out.rows * out.cols * 8),
               [&](std::int64_t p) { multiply_panel(out, in, packed + p * kColumns * in.cols, bias, p * kColumns); });
}

}  // namespace ember
