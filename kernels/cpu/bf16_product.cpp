// Products of our own for processors with AVX512-BF16, whose instruction multiplies pairs of bf16 that stand side by
// side in the inner dimension. Both operands are brought into that form at every call: the left one as a whole, the
// right one a panel at a time, just before its thread multiplies it. That costs 2 to 4% of a product of 300 rows, and
// so the weights need no other copy than the one in bf16 that the optimizer writes, and no library compiles a primitive
// for every new number of tokens.
#include "kernels/cpu/bf16_product.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#include <omp.h>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/register_tile.h"
#include "kernels/cpu/row_pass.h"

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
};

std::int64_t pairs(std::int64_t size) {
  return (size + 1) / 2;
}
const std::uint16_t* bf16_row(Tensor t, std::int64_t r) {
  return static_cast<const std::uint16_t*>(t.data) + r * t.stride;
}
constexpr Word pair_of(std::uint16_t lower, std::uint16_t upper) {
  return lower | static_cast<Word>(upper) << 16;
}

// ---- The left operand, in words -------------------------------------------------------------------------------------

// A row of `from` as pairs of neighbours.
void round_row(Word* to, const float* from, std::int64_t size) {
  auto* halves = reinterpret_cast<std::uint16_t*>(to);
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) halves[i] = to_bf16(from[i]);
  if (size % 2 != 0) halves[size] = 0;
}

// Two rows, one element of each in a pair. The second is null behind the last of an odd number.
void pair_rows(Word* to, const float* lower, const float* upper, std::int64_t size) {
  if (upper == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) to[i] = to_bf16(lower[i]);
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) to[i] = pair_of(to_bf16(lower[i]), to_bf16(upper[i]));
  }
}
const float* row_or_null(Tensor t, std::int64_t r) {
  return r < t.rows ? t.row(r) : nullptr;
}

// ---- Panels of the right operand ------------------------------------------------------------------------------------

// g++ 12 warns of uninitialised values inside the forms of these instructions that have no mask.
constexpr __mmask16 kAll = 0xFFFF;
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

// Rows [column, column + width) of the weight as columns, pairs along the inputs.
void pack_outputs(Word* panel, Tensor weight, std::int64_t column, std::int64_t width) {
  const std::int64_t whole = weight.cols / 2;
  for (std::int64_t c = 0; c < kTileColumns; c += 16)
    for (std::int64_t k = 0; k < whole; k += 16) {
      const std::int64_t count = std::min<std::int64_t>(16, whole - k);
      const auto mask = static_cast<__mmask16>((1u << count) - 1);
      __m512i block[16];
      for (int i = 0; i < 16; ++i)
        block[i] = c + i < width ? _mm512_maskz_loadu_epi32(mask, bf16_row(weight, column + c + i) + 2 * k)
                                 : _mm512_setzero_si512();
      transpose(block);
      for (int i = 0; i < count; ++i) _mm512_storeu_si512(panel + (k + i) * kTileColumns + c, block[i]);
    }
  if (weight.cols % 2 == 0) return;
  for (std::int64_t c = 0; c < kTileColumns; ++c)
    panel[whole * kTileColumns + c] = c < width ? bf16_row(weight, column + c)[weight.cols - 1] : 0;
}

// Columns [column, column + width) of the weight, pairs along the outputs.
void pack_inputs(Word* panel, Tensor weight, std::int64_t column, std::int64_t width) {
  for (std::int64_t k = 0; k < pairs(weight.rows); ++k) {
    const std::uint16_t* lower = bf16_row(weight, 2 * k) + column;
    const std::uint16_t* upper = 2 * k + 1 < weight.rows ? bf16_row(weight, 2 * k + 1) + column : nullptr;
    Word* to = panel + k * kTileColumns;
    if (upper != nullptr && width == kTileColumns) {
#pragma omp simd
      for (int c = 0; c < kTileColumns; ++c) to[c] = pair_of(lower[c], upper[c]);
      continue;
    }
    for (std::int64_t c = 0; c < kTileColumns; ++c)
      to[c] = c < width ? pair_of(lower[c], upper == nullptr ? std::uint16_t{0} : upper[c]) : 0;
  }
}

// Columns [column, column + width) of activations, pairs along the rows.
void pack_rows(Word* panel, Tensor in, std::int64_t column, std::int64_t width) {
  for (std::int64_t k = 0; k < pairs(in.rows); ++k) {
    const float *lower = in.row(2 * k) + column, *upper = row_or_null(in, 2 * k + 1);
    Word* to = panel + k * kTileColumns;
    if (upper != nullptr && width == kTileColumns) {
      pair_rows(to, lower, upper + column, kTileColumns);
      continue;
    }
    pair_rows(to, lower, upper == nullptr ? nullptr : upper + column, width);
    std::fill(to + width, to + kTileColumns, Word{0});
  }
}

// ---- The product ----------------------------------------------------------------------------------------------------

// Words from row to row of scratch: an odd number of vectors, so that a column does not fall into few sets of the
// cache.
std::int64_t word_stride(std::int64_t words) {
  return ((words + kLanes - 1) / kLanes | 1) * kLanes;
}

// The left operand in scratch: `rows` rows of `words` words, made by fill(to, row).
struct LeftRows {
  std::int64_t rows, words;
  std::int64_t stride() const { return word_stride(words); }
};

// out = start + left x right, with sums of `inner` pairs. transposed: the rows in scratch are left's columns.
// panel_of(column, width, own) gives the panel, in its thread's memory `own` or elsewhere.
template <typename Fill, typename PanelOf>
void multiply(Tensor out, Start<float> start, LeftRows rows, bool transposed, std::int64_t inner, Scratch& scratch,
              int threads, const Fill& fill, const PanelOf& panel_of) {
  const std::int64_t count = panels(out.cols), panel_words = inner * kTileColumns;
  const RowTiles tiles(out.rows);
  const int used = useful_threads(threads, count * tiles.count, out.size() * inner / 8);
  // Where there are more threads than panels, several share one.
  const std::int64_t shares = std::min((used + count - 1) / count, tiles.count);
  auto* left =
      static_cast<Word*>(scratch(static_cast<std::size_t>(rows.rows * rows.stride() + used * panel_words) * 4));
  Word* own = left + rows.rows * rows.stride();
  const LeftOperand<Word> operand =
      transposed ? LeftOperand<Word>{left, 1, rows.stride()} : LeftOperand<Word>{left, rows.stride(), 1};
#pragma omp parallel num_threads(used)
  {
#pragma omp for schedule(static)
    for (std::int64_t r = 0; r < rows.rows; ++r) fill(left + r * rows.stride(), r);
#pragma omp for schedule(static)
    for (std::int64_t task = 0; task < count * shares; ++task) {
      const std::int64_t column = task / shares * kTileColumns, share = task % shares;
      const std::int64_t width = std::min<std::int64_t>(kTileColumns, out.cols - column);
      const Word* panel = panel_of(column, width, own + omp_get_thread_num() * panel_words);
      multiply_panel<Bf16Product>(out, start, operand, {panel, inner}, column, tiles, share * tiles.count / shares,
                                  (share + 1) * tiles.count / shares);
    }
  }
}

template <typename PanelOf>
void forward(Tensor out, Tensor in, Tensor bias, Scratch& scratch, int threads, const PanelOf& panel_of) {
  const std::int64_t inner = pairs(in.cols);
  multiply(
      out, {bias.empty() ? nullptr : bias.f32(), 0}, {in.rows, inner}, false, inner, scratch, threads,
      [&](Word* to, std::int64_t r) { round_row(to, in.row(r), in.cols); }, panel_of);
}

}  // namespace

void bf16_forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads) {
  forward(out, in, bias, scratch, threads, [&](std::int64_t column, std::int64_t width, Word* own) {
    pack_outputs(own, weight, column, width);
    return own;
  });
}

void bf16_backward_input(Tensor din, Tensor dout, Tensor weight, bool accumulate, Scratch& scratch, int threads) {
  const std::int64_t inner = pairs(dout.cols);
  multiply(
      din, {accumulate ? din.f32() : nullptr, din.stride}, {dout.rows, inner}, false, inner, scratch, threads,
      [&](Word* to, std::int64_t r) { round_row(to, dout.row(r), dout.cols); },
      [&](std::int64_t column, std::int64_t width, Word* own) {
        pack_inputs(own, weight, column, width);
        return own;
      });
}

void bf16_backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads) {
  const std::int64_t inner = pairs(in.rows);
  multiply(
      dweight, {nullptr, 0}, {inner, dout.cols}, true, inner, scratch, threads,
      [&](Word* to, std::int64_t k) { pair_rows(to, dout.row(2 * k), row_or_null(dout, 2 * k + 1), dout.cols); },
      [&](std::int64_t column, std::int64_t width, Word* own) {
        pack_rows(own, in, column, width);
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
