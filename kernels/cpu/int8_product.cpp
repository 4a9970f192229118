#include "kernels/cpu/int8_product.h"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cpu/matrix_tile.h"
#include "kernels/cpu/team.h"
#include "kernels/cpu/vector_math.h"
#include "runtime/ceil_div.h"

namespace ember {
namespace {

// Sums of products of u8 and s8 in 32 bits. With VNNI a group is four of each. The older multiply-add has sums of two
// in 16 bits, and another multiplication widens these: there a group is eight, and first two such sums, of inputs 0, 1,
// 4 and 5 and of 2, 3, 6 and 7, are added, so that there are three multiplications for what would take four.
struct IntegerProduct {
#if defined(__AVX512BW__) && !defined(__AVX512VNNI__)
  static constexpr int kParts = 2, kRows = kTileRows;
#elif defined(__AVX2__) && !defined(__AVX512F__) && !defined(__AVXVNNI__)
  static constexpr int kParts = 2, kRows = 4;  // 16 registers hold no more beside two groups and what becomes of them
#else
  static constexpr int kParts = 1, kRows = kTileRows;
#endif
  struct Group {
    std::int32_t parts[kParts];
  };
  struct Groups {
    Lanes<std::int32_t> parts[kParts];
  };
  using Sum = std::int32_t;
  using Sums = Lanes<std::int32_t>;

  static Sums add(Sums sums, Group group, Groups groups) {
#if defined(__AVX512VNNI__)
    return (Sums)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(group.parts[0]), (__m512i)groups.parts[0]);
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
    return (Sums)_mm256_dpbusd_avx_epi32((__m256i)sums, _mm256_set1_epi32(group.parts[0]), (__m256i)groups.parts[0]);
#elif defined(__AVX512BW__)
    const __m512i first = _mm512_maddubs_epi16(_mm512_set1_epi32(group.parts[0]), (__m512i)groups.parts[0]);
    const __m512i second = _mm512_maddubs_epi16(_mm512_set1_epi32(group.parts[1]), (__m512i)groups.parts[1]);
    return sums + (Sums)_mm512_madd_epi16(_mm512_adds_epi16(first, second), _mm512_set1_epi16(1));
#elif defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i first = _mm256_maddubs_epi16(_mm256_set1_epi32(group.parts[0]), (__m256i)groups.parts[0]);
    const __m256i second = _mm256_maddubs_epi16(_mm256_set1_epi32(group.parts[1]), (__m256i)groups.parts[1]);
    return sums + (Sums)_mm256_madd_epi16(_mm256_adds_epi16(first, second), _mm256_set1_epi16(1));
#else
    for (int shift = 0; shift < 32; shift += 8)
      sums += (group.parts[0] >> shift & 0xFF) * ((groups.parts[0] << (24 - shift)) >> 24);
    return sums;
#endif
  }
#if defined(__AMX_INT8__)
  static constexpr int kSplit = 1;
  template <bool Tall>
  static void multiply() {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    if constexpr (Tall) {
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
  }
#endif
};

using Group = IntegerProduct::Group;
using IntegerLeft = NarrowLeft<Group, IntegerProduct::kRows>;
constexpr int kGroup = sizeof(Group);  // inputs of a group
constexpr float kMostActivation = 254;
constexpr int kFold = 32;  // rows are searched for their ends in that many interleaved parts

// With those that only fill up the last step.
std::int64_t groups(std::int64_t size) {
  constexpr std::int64_t kStep = kGroup * IntegerLeft::kInnerStep;
  return ceil_div(size, kStep) * IntegerLeft::kInnerStep;
}

// A quantised weight in memory: the panels, then s[o] and s[o] sum u[o, .] for as many columns as the panels have.
struct PackedWeight {
  PackedWeight(const void* memory, std::int64_t outputs, std::int64_t inputs)
      : panel_groups(groups(inputs) * kTileColumns),
        data(static_cast<const Group*>(memory)),
        scales(reinterpret_cast<const float*>(data + panels(outputs) * panel_groups)),
        sums(scales + panels(outputs) * kTileColumns) {}
  std::int64_t panel_groups;
  const Group* data;
  const float *scales, *sums;
};

// Quantised rows in scratch: the groups as IntegerLeft has them, for every thread a row of its own, a[m] and b[m].
struct QuantisedRows {
  QuantisedRows(Scratch& scratch, const RowTiles<IntegerLeft>& tiles, std::int64_t cols, int threads)
      : row_groups(groups(cols)),
        data(static_cast<Group*>(
            scratch(static_cast<std::size_t>((tiles.padded() + threads) * row_groups) * sizeof(Group) +
                    static_cast<std::size_t>(2 * tiles.rows) * sizeof(float)))),
        own(data + tiles.padded() * row_groups),
        scales(reinterpret_cast<float*>(own + threads * row_groups)),
        offsets(scales + tiles.rows) {}
  std::int64_t row_groups;
  Group *data, *own;
  float *scales, *offsets;
};

struct Ends {
  float lowest, highest;
  float defect;  // zero, or NaN when an element is not finite
};

// Of one number or more. The last part overlaps the one before it.
Ends ends(const float* values, std::int64_t size) {
  const auto lower = [](float a, float b) { return a < b ? a : b; };
  const auto higher = [](float a, float b) { return a > b ? a : b; };
  if (size < kFold) {
    float padded[kFold];
    std::fill_n(padded, kFold, values[0]);
    std::copy_n(values, size, padded);
    return ends(padded, kFold);
  }
  float lowest[kFold], highest[kFold], defects[kFold] = {};
  std::fill_n(lowest, kFold, std::numeric_limits<float>::max());
  std::fill_n(highest, kFold, std::numeric_limits<float>::lowest());
  for (std::int64_t begin = 0; begin < size; begin += kFold) {
    const float* part = values + std::min(begin, size - kFold);
#pragma omp simd
    for (int j = 0; j < kFold; ++j) {
      lowest[j] = lower(part[j], lowest[j]);
      highest[j] = higher(part[j], highest[j]);
      defects[j] += part[j] - part[j];
    }
  }
  return {fold(lowest, lower), fold(highest, higher), fold(defects, [](float a, float b) { return a + b; })};
}

struct RowScale {
  float scale, offset;
};

// `values` as unsigned numbers at `to`, followed by zeros to the end of their last group.
RowScale quantise_row(std::uint8_t* to, const float* values, std::int64_t size) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  constexpr float kConstant = 1e-30f;  // a smaller range counts as none: its inverse may be infinite
  const Ends found = ends(values, size);
  const float range = found.highest - found.lowest, lowest = found.lowest;
  const bool varies = range > kConstant;
  const float inverse = varies ? kMostActivation / range : 0.0f;
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i)
    to[i] = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>((values[i] - lowest) * inverse + kRound));
  std::fill(to + size, to + groups(size) * kGroup, std::uint8_t{0});
  return {(varies ? range / kMostActivation : 0.0f) + found.defect, lowest};
}

// One tile of `in`. A row is quantised in the thread's own, whose groups are then dealt out.
void quantise_tile(const QuantisedRows& to, Tensor in, std::int64_t begin, std::int64_t rows, int thread) {
  Group* tile = to.data + begin * to.row_groups;
  for (std::int64_t r = 0; r < rows; ++r) {
    Group* own = to.own + thread * to.row_groups;
    const RowScale row = quantise_row(reinterpret_cast<std::uint8_t*>(own), in.row(begin + r), in.cols);
    to.scales[begin + r] = row.scale, to.offsets[begin + r] = row.offset;
    IntegerLeft::put_row(tile, r, rows, own, to.row_groups);
  }
}

// What a tile's integer sums become: outputs, from the first row and column on.
struct DequantisedOutput {
  void put(int r, int column, Lanes<std::int32_t> integers) const {
    const auto load = [column](const float* from) {
      Lanes<float> values;
      std::memcpy(&values, from + column, sizeof values);
      return values;
    };
    const Lanes<float> sums = __builtin_convertvector(integers, Lanes<float>);
    const Lanes<float> values =
        row_scales[r] * (load(scales) * sums) + (row_offsets[r] * load(weight_sums) + load(bias));
    std::memcpy(data + r * stride + column, &values, sizeof values);
  }
  DequantisedOutput below(std::int64_t rows) const {
    return {data + rows * stride, stride, row_scales + rows, row_offsets + rows, scales, weight_sums, bias};
  }
  float* data;
  std::int64_t stride;
  const float *row_scales, *row_offsets, *scales, *weight_sums, *bias;
};

void multiply_columns(Tensor out, const QuantisedRows& in, const PackedWeight& weight, Tensor bias, std::int64_t p) {
  const std::int64_t column = p * kTileColumns;
  const Group* panel = weight.data + p * weight.panel_groups;
  float added[kTileColumns] = {};
  if (!bias.empty()) std::copy_n(bias.f32() + column, std::min<std::int64_t>(kTileColumns, out.cols - column), added);
  multiply_panel<IntegerProduct>(
      out, nullptr, IntegerLeft{in.data}, {panel, in.row_groups, panel + weight.panel_groups}, column,
      [&](float* data, std::int64_t stride, std::int64_t row) {
        return DequantisedOutput{
            data, stride, in.scales + row, in.offsets + row, weight.scales + column, weight.sums + column, added};
      });
}

// What the weights of one output, as integers, may have for 127 at most: the largest size of one, or, without VNNI, the
// largest sum of those of one sign whose products are added in 16 bits. Each of the four is rounded by a half at most,
// to 129 together, and 129 kMostActivation does not saturate. (With a scale of few bits, a denormal one, it may.) NaN
// when an element is not finite.
float most_together(const float* values, std::int64_t size) {
  const Ends found = ends(values, size);
  float most = std::max(-found.lowest, found.highest);
  for (std::int64_t begin = 0; IntegerProduct::kParts > 1 && begin < size; begin += 2) {
    if (begin % kGroup >= kGroup / 2) continue;
    float positive = 0, negative = 0;
    for (const std::int64_t i : {begin, begin + 1, begin + kGroup / 2, begin + kGroup / 2 + 1})
      if (i < size) (values[i] > 0 ? positive : negative) += values[i];
    most = std::max({most, positive, -negative});
  }
  return most + found.defect;
}

// Of input i of a column in its panel, in bytes.
std::int64_t place(std::int64_t i, std::int64_t column) {
  const std::int64_t vectors = i / kGroup * 2 + column / kLanes;
  return ((vectors * IntegerProduct::kParts + i % kGroup / 4) * kLanes + column % kLanes) * 4 + i % 4;
}

}  // namespace

std::size_t int8_bytes(Tensor weight) {
  return static_cast<std::size_t>(panels(weight.rows) * kTileColumns) *
         (static_cast<std::size_t>(groups(weight.cols)) * sizeof(Group) + 2 * sizeof(float));
}

void int8_pack(void* packed, Tensor weight) {
  std::memset(packed, 0, int8_bytes(weight));
  const PackedWeight to(packed, weight.rows, weight.cols);
  for (std::int64_t o = 0; o < weight.rows; ++o) {
    const float* values = weight.row(o);
    const float scale = most_together(values, weight.cols) / 127;
    auto* panel = reinterpret_cast<std::int8_t*>(const_cast<Group*>(to.data) + o / kTileColumns * to.panel_groups);
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < weight.cols; ++i) {
      // Clamped, since a scale of few bits (denormal weights) may be far too small.
      const float value = scale > 0 ? std::clamp(std::nearbyint(values[i] / scale), -127.0f, 127.0f) : 0.0f;
      panel[place(i, o % kTileColumns)] = static_cast<std::int8_t>(value);
      sum += static_cast<std::int64_t>(value);
    }
    const_cast<float*>(to.scales)[o] = scale;
    const_cast<float*>(to.sums)[o] = scale * static_cast<float>(sum);
  }
}

void int8_product(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads) {
  const PackedWeight weight(packed, out.cols, in.cols);
  const RowTiles<IntegerLeft> tiles(in.rows);
  const QuantisedRows rows(scratch, tiles, in.cols, threads);
  const std::int64_t count = panels(out.cols);
  in_team(useful_threads(threads, count, out.size() * 8), [&](const Team& team) {
    [[maybe_unused]] const MatrixRegisters registers;
    team.share(tiles.count,
               [&](std::int64_t t) { quantise_tile(rows, in, tiles.begin(t), tiles.height(t), team.thread()); });
    team.wait();
    team.share(count, [&](std::int64_t p) { multiply_columns(out, rows, weight, bias, p); });
  });
}

}  // namespace ember
