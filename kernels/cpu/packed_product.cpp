#include "kernels/cpu/packed_product.h"

#include <algorithm>

#include "kernels/cpu/register_tile.h"
#include "kernels/cpu/team.h"

namespace ember {

std::size_t packed_bytes(Tensor weight) {
  return static_cast<std::size_t>(panels(weight.rows) * kTileColumns * weight.cols) * sizeof(float);
}

void pack_weight(float* packed, Tensor weight) {
  std::fill_n(packed, packed_bytes(weight) / sizeof(float), 0.0f);
  for (std::int64_t o = 0; o < weight.rows; ++o) {
    float* to = packed + o / kTileColumns * kTileColumns * weight.cols + o % kTileColumns;
    const float* from = weight.row(o);
    for (std::int64_t i = 0; i < weight.cols; ++i) to[i * kTileColumns] = from[i];
  }
}

void packed_product(Tensor out, Tensor in, const float* packed, Tensor bias, int threads) {
  const std::int64_t count = panels(out.cols), floats = kTileColumns * in.cols;
  const RowTiles<StridedLeft<float>> tiles(out.rows);
  const float* start = bias.empty() ? nullptr : bias.f32();
  parallel_for(count, useful_threads(threads, count, out.rows * out.cols * 8), [&](std::int64_t p) {
    const float* panel = packed + p * floats;
    multiply_panel<FloatProduct>(out, start, StridedLeft<float>{in.f32(), in.stride, 1},
                                 {panel, in.cols, panel + floats}, p * kTileColumns, tiles, 0, tiles.count,
                                 kSumsOutput);
  });
}

}  // namespace ember
