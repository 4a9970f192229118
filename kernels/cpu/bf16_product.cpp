// Products of our own for processors with AVX512-BF16 or AMX, whose instructions multiply pairs of bf16 that stand side
// by side in the inner dimension. Both operands are brought into that form at every call: the left one as a whole, the
// right one a panel at a time, just before its thread multiplies it. That costs 2 to 4% of a product of 300 rows
// with AVX512-BF16, and so the weights need no other copy than the one in bf16 that the optimizer writes, and no
// library compiles a primitive for every new number of tokens.
#include "kernels/cpu/bf16_product.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

#include "kernels/cpu/matrix_tile.h"
#include "kernels/cpu/team.h"

namespace ember {
namespace {

using Word = std::uint32_t;  // a pair, the lower index in the lower half

struct Bf16Product {
  using Group = Word;
  using Sum = float;
  using Groups = Lanes<Word>;
  using Sums = Lanes<float>;
  static Sums add(Sums sums, Word group, Groups groups) {
    return (Sums)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(static_cast<int>(group)), (__m512bh)groups);
  }
#if defined(__AMX_BF16__)
  template <bool Tall>
  static void multiply() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (Tall) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
#endif
};

using Bf16Left = NarrowLeft<Word>;
constexpr bool kByRows = Bf16Left::kInnerStep > 1;  // the left operand's layout; MatrixLeft's, not TiledLeft's

// With those that only fill up the last step.
std::int64_t pairs(std::int64_t size) {
  return ((size + 1) / 2 + Bf16Left::kInnerStep - 1) / Bf16Left::kInnerStep * Bf16Left::kInnerStep;
}
const std::uint16_t* bf16_row(Tensor t, std::int64_t r) {
  return static_cast<const std::uint16_t*>(t.data) + r * t.stride;
}

// ---- Words ----------------------------------------------------------------------------------------------------------

// Masks that leave nothing out stand here because g++ 12 warns of uninitialised values inside the forms without.
constexpr __mmask16 kAll = 0xFFFF;

// The first `count` of 16 or more.
__mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFF : count <= 0 ? 0 : (1 << count) - 1);
}

// 32 floats, of which `count` are there, as 16 pairs of neighbours.
__m512i round_pairs(const float* values, std::int64_t count) {
  const __m512 lower = _mm512_maskz_loadu_ps(first_lanes(count), values);
  const __m512 upper = _mm512_maskz_loadu_ps(first_lanes(count - 16), values + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(upper, lower);
}

// 16 halves and another 16, which follow them, as 16 pairs of one of each.
__m512i interleave(__m512i halves) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_maskz_permutexvar_epi16(0xFFFFFFFF, order, halves);
}

// `count` columns of rows 2 k and 2 k + 1, from `column` on, as pairs of one of each; zeros behind the last row.
__m512i pair_of_rows(Tensor t, std::int64_t k, std::int64_t column, std::int64_t count) {
  const __mmask16 mask = 2 * k < t.rows ? first_lanes(count) : 0, second = 2 * k + 1 < t.rows ? mask : 0;
  if (t.dtype == DType::bf16) {
    const std::uint16_t* row = bf16_row(t, 2 * k) + column;
    const __m256i lower = _mm256_maskz_loadu_epi16(mask, row), upper = _mm256_maskz_loadu_epi16(second, row + t.stride);
    return interleave(_mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(lower), upper, 1));
  }
  const float* row = t.row(2 * k) + column;
  const __m512 lower = _mm512_maskz_loadu_ps(mask, row), upper = _mm512_maskz_loadu_ps(second, row + t.stride);
  return interleave((__m512i)_mm512_cvtne2ps_pbh(upper, lower));
}

__m512i low_words(__m512i a, __m512i b) {
  return _mm512_maskz_unpacklo_epi32(kAll, a, b);
}
__m512i high_words(__m512i a, __m512i b) {
  return _mm512_maskz_unpackhi_epi32(kAll, a, b);
}
__m512i low_halves(__m512i a, __m512i b) {
  return _mm512_maskz_unpacklo_epi64(0xFF, a, b);
}
__m512i high_halves(__m512i a, __m512i b) {
  return _mm512_maskz_unpackhi_epi64(0xFF, a, b);
}
__m512i even_quarters(__m512i a, __m512i b) {
  return _mm512_maskz_shuffle_i32x4(kAll, a, b, 0x88);
}
__m512i odd_quarters(__m512i a, __m512i b) {
  return _mm512_maskz_shuffle_i32x4(kAll, a, b, 0xDD);
}

// 16 rows of 16 words become 16 columns, in four rounds that each interleave pairs of rows.
void transpose(__m512i (&r)[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) a[i] = low_words(r[i], r[i + 1]), a[i + 1] = high_words(r[i], r[i + 1]);
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = low_halves(a[i + j], a[i + j + 2]);
      b[i + 2 * j + 1] = high_halves(a[i + j], a[i + j + 2]);
    }
  for (int j = 0; j < 4; ++j) {  // b[4 i + j] now has words j, 4 + j, 8 + j, 12 + j of rows 4 i to 4 i + 3
    const __m512i even = even_quarters(b[j], b[4 + j]), even_below = even_quarters(b[8 + j], b[12 + j]);
    const __m512i odd = odd_quarters(b[j], b[4 + j]), odd_below = odd_quarters(b[8 + j], b[12 + j]);
    r[j] = even_quarters(even, even_below), r[8 + j] = odd_quarters(even, even_below);
    r[4 + j] = even_quarters(odd, odd_below), r[12 + j] = odd_quarters(odd, odd_below);
  }
}

// ---- The left operand, as Bf16Left has it ---------------------------------------------------------------------------

// Rows [begin, begin + rows) of `in`, pairs along the columns.
void pack_row_tile(Word* to, Tensor in, std::int64_t begin, std::int64_t rows) {
  const std::int64_t inner = pairs(in.cols);
  if constexpr (kByRows) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t k = 0; k < inner; k += 16)
        _mm512_storeu_si512(to + r * inner + k, round_pairs(in.row(begin + r) + 2 * k, in.cols - 2 * k));
    return;
  }
  for (std::int64_t k = 0; k < inner; k += 16) {
    __m512i block[16];
    for (int i = 0; i < 16; ++i)
      block[i] = i < rows ? round_pairs(in.row(begin + i) + 2 * k, in.cols - 2 * k) : _mm512_setzero_si512();
    transpose(block);
    for (std::int64_t i = 0; i < std::min<std::int64_t>(16, inner - k); ++i)
      _mm512_mask_storeu_epi32(to + (k + i) * rows, first_lanes(rows), block[i]);
  }
}

// Columns [begin, begin + rows) of `in`, pairs along its rows.
void pack_column_tile(Word* to, Tensor in, std::int64_t begin, std::int64_t rows) {
  const std::int64_t inner = pairs(in.rows);
  if constexpr (kByRows) {
    for (std::int64_t r = 0; r < rows; r += 16)
      for (std::int64_t k = 0; k < inner; k += 16) {
        __m512i block[16];
        for (int i = 0; i < 16; ++i) block[i] = pair_of_rows(in, k + i, begin + r, rows - r);
        transpose(block);
        for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (r + i) * inner + k, block[i]);
      }
    return;
  }
  for (std::int64_t k = 0; k < inner; ++k)
    _mm512_mask_storeu_epi32(to + k * rows, first_lanes(rows), pair_of_rows(in, k, begin, rows));
}

// ---- Panels of the right operand ------------------------------------------------------------------------------------

// Rows [column, column + width) of the weight as columns, pairs along the inputs; the columns behind repeat the last.
void pack_outputs(Word* panel, Tensor weight, std::int64_t column, std::int64_t width) {
  for (std::int64_t c = 0; c < kTileColumns; c += 16)
    for (std::int64_t k = 0; k < pairs(weight.cols); k += 16) {
      const std::int64_t halves = std::min<std::int64_t>(32, weight.cols - 2 * k);
      const auto mask = static_cast<__mmask32>((std::uint64_t{1} << halves) - 1);
      __m512i block[16];
      for (int i = 0; i < 16; ++i) {
        const std::uint16_t* from = bf16_row(weight, column + std::min(c + i, width - 1)) + 2 * k;
        block[i] = halves == 32 ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi16(mask, from);
      }
      transpose(block);
      for (std::int64_t i = 0; i < std::min<std::int64_t>(16, pairs(weight.cols) - k); ++i)
        _mm512_storeu_si512(panel + (k + i) * kTileColumns + c, block[i]);
    }
}

// Columns [column, column + width) of a weight or of activations, pairs along the rows.
void pack_columns(Word* panel, Tensor t, std::int64_t column, std::int64_t width) {
  for (std::int64_t k = 0; k < pairs(t.rows); ++k)
    for (std::int64_t c = 0; c < kTileColumns; c += 16)
      _mm512_storeu_si512(panel + k * kTileColumns + c, pair_of_rows(t, k, column + c, width - c));
}

// ---- The product ----------------------------------------------------------------------------------------------------

// out = start + left x right, with sums of `inner` pairs. pack_left(to, begin, rows) packs the tile of those rows;
// panel_of(column, width, own) gives the panel, in its thread's memory `own` or elsewhere.
template <typename PackLeft, typename PanelOf>
void multiply(Tensor out, const float* start, std::int64_t inner, Scratch& scratch, int threads,
              const PackLeft& pack_left, const PanelOf& panel_of) {
  const std::int64_t count = panels(out.cols), panel_words = inner * kTileColumns;
  const RowTiles<Bf16Left> tiles(out.rows);
  const int used = useful_threads(threads, count * tiles.count, out.size() * inner / 8);
  // Where there are more threads than panels, several share one.
  const std::int64_t shares = std::min((used + count - 1) / count, tiles.count);
  auto* own = static_cast<Word*>(scratch(static_cast<std::size_t>(tiles.padded() * inner + used * panel_words) * 4));
  Word* left = own + used * panel_words;
  in_team(used, [&](const Team& team) {
    [[maybe_unused]] const MatrixRegisters registers;
    team.share(tiles.count, [&](std::int64_t t) {
      pack_left(left + tiles.begin(t) * inner, tiles.begin(t), tiles.begin(t + 1) - tiles.begin(t));
    });
    team.wait();
    team.share(count * shares, [&](std::int64_t task) {
      const std::int64_t column = task / shares * kTileColumns, share = task % shares;
      const std::int64_t width = std::min<std::int64_t>(kTileColumns, out.cols - column);
      const Word* panel = panel_of(column, width, own + team.thread() * panel_words);
      multiply_panel<Bf16Product>(out, start, Bf16Left{left}, {panel, inner}, column, tiles,
                                  share * tiles.count / shares, (share + 1) * tiles.count / shares, kSumsOutput);
    });
  });
}

template <typename PanelOf>
void forward(Tensor out, Tensor in, Tensor bias, Scratch& scratch, int threads, const PanelOf& panel_of) {
  multiply(
      out, bias.empty() ? nullptr : bias.f32(), pairs(in.cols), scratch, threads,
      [&](Word* to, std::int64_t begin, std::int64_t rows) { pack_row_tile(to, in, begin, rows); }, panel_of);
}

}  // namespace

void bf16_forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads) {
  forward(out, in, bias, scratch, threads, [&](std::int64_t column, std::int64_t width, Word* own) {
    pack_outputs(own, weight, column, width);
    return own;
  });
}

void bf16_backward_input(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads) {
  multiply(
      din, nullptr, pairs(dout.cols), scratch, threads,
      [&](Word* to, std::int64_t begin, std::int64_t rows) { pack_row_tile(to, dout, begin, rows); },
      [&](std::int64_t column, std::int64_t width, Word* own) {
        pack_columns(own, weight, column, width);
        return own;
      });
}

void bf16_backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads) {
  multiply(
      dweight, nullptr, pairs(in.rows), scratch, threads,
      [&](Word* to, std::int64_t begin, std::int64_t rows) { pack_column_tile(to, dout, begin, rows); },
      [&](std::int64_t column, std::int64_t width, Word* own) {
        pack_columns(own, in, column, width);
        return own;
      });
}

std::size_t bf16_packed_bytes(Tensor weight) {
  return static_cast<std::size_t>(panels(weight.rows) * kTileColumns * pairs(weight.cols)) * sizeof(Word);
}

void bf16_pack(void* packed, Tensor weight) {
  for (std::int64_t column = 0; column < weight.rows; column += kTileColumns)
    pack_outputs(static_cast<Word*>(packed) + column * pairs(weight.cols), weight, column,
                 std::min<std::int64_t>(kTileColumns, weight.rows - column));
}

void bf16_packed_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads) {
  forward(out, in, bias, scratch, threads, [&](std::int64_t column, std::int64_t, Word*) {
    return static_cast<const Word*>(packed) + column * pairs(in.cols);
  });
}

}  // namespace ember
#endif
