// A linear layer's three products by the instructions of AVX512-BF16 or AMX, which multiply pairs of bf16 in the inner
// dimension. Both operands are brought into that form at every call, by the thread that multiplies them: the left one
// in blocks, the right one a panel at a time. So the weights need no other copy than the one that the optimizer writes,
// and no library compiles a primitive for every new number of tokens.
#pragma once

#if defined(__AVX512BF16__)
#include "kernels/cpu/matrix_tile.h"
#include "kernels/cpu/pair_words.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/team.h"
#include "runtime/ceil_div.h"

namespace ember {

// kParts = 1: of operands in bf16, or rounded to it. 3 (AMX alone): of operands in fp32, each number the sum of three.
// Results do not depend on `threads`. What the functions compute is in linear_products.h. Left is a parameter so that
// what its other form lacks is not looked up.
template <int kParts, typename Left = NarrowLeft<Word>>
class PairProduct {
 public:
  static void forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads) {
    forward(out, in, bias, scratch, threads,
            [&](Word* own, std::int64_t column, Block inner) { return pack_outputs(own, weight, column, inner); });
  }
  static void backward_input(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads) {
    multiply(
        din, nullptr, dout.cols, scratch, threads,
        [&](Word* to, Block rows, Block inner) { pack_row_tile(to, dout, rows, inner); },
        [&](Word* own, std::int64_t column, Block inner) { return pack_columns(own, weight, column, inner); });
  }
  static void backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads) {
    multiply(
        dweight, nullptr, in.rows, scratch, threads,
        [&](Word* to, Block rows, Block inner) { pack_column_tile(to, dout, rows, inner); },
        [&](Word* own, std::int64_t column, Block inner) { return pack_columns(own, in, column, inner); });
  }

  // The packed form is all panels of a weight.
  static std::size_t packed_bytes(Tensor weight) {
    return static_cast<std::size_t>(panels(weight.rows) * panel_words(pairs(weight.cols))) * sizeof(Word);
  }
  static void pack(void* packed, Tensor weight) {
    const Block inner{0, pairs(weight.cols)};
    for (std::int64_t p = 0; p < panels(weight.rows); ++p)
      pack_outputs(static_cast<Word*>(packed) + p * panel_words(inner.end), weight, p * kTileColumns, inner);
  }
  static void packed_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads) {
    forward(out, in, bias, scratch, threads, [&](Word*, std::int64_t column, Block inner) {
      const Word* panel = static_cast<const Word*>(packed) + column * pairs(in.cols) * kParts;
      return Panel<Word>{panel + panel_words(inner.begin), inner.size() * kParts};
    });
  }
  // Forward by panels that are still to be split: of each the floats (I, kTileColumns), one panel after the other.
  static void panels_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads) {
    forward(out, in, bias, scratch, threads, [&](Word* own, std::int64_t column, Block inner) {
      auto* panel = const_cast<float*>(static_cast<const float*>(packed)) + column * in.cols;
      return pack_columns(own, matrix(panel, in.cols, kTileColumns), 0, inner);
    });
  }

 private:
  struct Arithmetic {
    using Group = Word;
    using Sum = float;
    using Groups = Lanes<Word>;
    using Sums = Lanes<float>;
    static Sums add(Sums sums, Word group, Groups groups) {
      return (Sums)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(static_cast<int>(group)),
                                    (__m512bh)groups);
    }
#if defined(__AMX_BF16__)
    static constexpr int kSplit = kParts;
    template <bool Tall>
    static void multiply() {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (Tall) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
#else
    static_assert(kParts == 1);
#endif
  };

  // Rows, columns or pairs [begin, end).
  struct Block {
    std::int64_t begin, end;
    std::int64_t size() const { return end - begin; }
  };

  // Pairs of an inner dimension, with those that only fill up the last step.
  static std::int64_t pairs(std::int64_t size) {
    return round_up(ceil_div(size, 2), Left::kInnerStep);
  }
  static constexpr std::int64_t panel_words(std::int64_t inner) {
    return inner * kParts * kTileColumns;
  }
  // Where words go, of 16 pairs all of one part before the next: 16 words at `data`, those of the next row or column
  // `stride` words further, of the next part `part_stride` words.
  struct Place {
    Word* data;
    std::int64_t stride, part_stride;
  };

  [[gnu::always_inline]] static void put(Place to, std::int64_t i, Unsplit<kParts> numbers, __mmask16 lanes = kAll) {
    const Words<kParts> words = split(numbers);
    for (int p = 0; p < kParts; ++p)
      _mm512_mask_storeu_epi32(to.data + i * to.stride + p * to.part_stride, lanes, words.parts[p]);
  }

  // 16 pairs of each of 16 rows, row(i), become 16 columns, of which the first `count` are stored.
  template <typename Row>
  [[gnu::always_inline]] static void put_transposed(Place to, const Row& row, std::int64_t count = 16,
                                                    __mmask16 lanes = kAll) {
    constexpr int kHalves = sizeof(Unsplit<kParts>) / sizeof(__m512i);
    __m512i block[kHalves][16];
    for (int i = 0; i < 16; ++i) {
      const Unsplit<kParts> numbers = row(i);
      for (int h = 0; h < kHalves; ++h) block[h][i] = numbers.halves[h];
    }
    for (auto& half : block) transpose(half);
    for (std::int64_t j = 0; j < count; ++j) {
      Unsplit<kParts> numbers;
      for (int h = 0; h < kHalves; ++h) numbers.halves[h] = block[h][j];
      put(to, j, numbers, lanes);
    }
  }

  // ---- The left operand, as Left has it: pairs `inner` of `rows` ----------------------------------------------------

  // Pairs along the columns of `in`.
  static void pack_row_tile(Word* to, Tensor in, Block rows, Block inner) {
    for (std::int64_t k = 0; k < inner.size(); k += 16) {
      const auto row = [=](std::int64_t r) { return pairs_of_row<kParts>(in, rows.begin + r, inner.begin + k); };
      if constexpr (Left::kInnerStep > 1) {
        for (std::int64_t r = 0; r < rows.size(); ++r) put(tile(to, r, k, inner), r % 16, row(r));
      } else {
        const auto there = [=](int i) { return i < rows.size() ? row(i) : Unsplit<kParts>{_mm512_setzero_si512()}; };
        put_transposed({to + k * rows.size(), rows.size(), 0}, there, std::min<std::int64_t>(16, inner.size() - k),
                       first_lanes(rows.size()));
      }
    }
  }

  // Columns `rows` of `in`, pairs along its rows.
  static void pack_column_tile(Word* to, Tensor in, Block rows, Block inner) {
    if constexpr (Left::kInnerStep > 1) {
      for (std::int64_t r = 0; r < rows.size(); r += 16)
        for (std::int64_t k = 0; k < inner.size(); k += 16)
          put_transposed(tile(to, r, k, inner), [=](int i) {
            return pairs_of_rows<kParts>(in, inner.begin + k + i, rows.begin + r, rows.size() - r);
          });
    } else {
      for (std::int64_t k = 0; k < inner.size(); ++k)
        put({to, rows.size(), 0}, k, pairs_of_rows<kParts>(in, inner.begin + k, rows.begin, rows.size()),
            first_lanes(rows.size()));
    }
  }

  // Of MatrixLeft, the one that has row r and pair k.
  static Place tile(Word* to, std::int64_t r, std::int64_t k, Block inner) {
    return {to + Left::place(r / 16 * 16, k * kParts, inner.size() * kParts), 16, 256};
  }

  // ---- Panels of the right operand: pairs `inner` of the columns from `column` on -----------------------------------

  // Rows of the weight as columns, pairs along the inputs; the columns behind repeat the last.
  static Panel<Word> pack_outputs(Word* panel, Tensor weight, std::int64_t column, Block inner) {
    for (std::int64_t c = 0; c < kTileColumns; c += 16)
      for (std::int64_t k = 0; k < inner.size(); k += 16)
        put_transposed(
            columns_of(panel, c, k),
            [=](int i) {
              const std::int64_t row = std::min(column + c + i, weight.rows - 1);
              return pairs_of_row<kParts>(weight, row, inner.begin + k);
            },
            std::min<std::int64_t>(16, inner.size() - k));
    return {panel, inner.size() * kParts};
  }

  // Columns of a weight or of activations, pairs along the rows.
  static Panel<Word> pack_columns(Word* panel, Tensor t, std::int64_t column, Block inner) {
    for (std::int64_t k = 0; k < inner.size(); k += 16)
      for (std::int64_t j = 0; j < std::min<std::int64_t>(16, inner.size() - k); ++j)
        for (std::int64_t c = 0; c < kTileColumns; c += 16)
          put(columns_of(panel, c, k), j,
              pairs_of_rows<kParts>(t, inner.begin + k + j, column + c, t.cols - column - c));
    return {panel, inner.size() * kParts};
  }

  // 16 from c on, of pair k.
  static Place columns_of(Word* panel, std::int64_t c, std::int64_t k) {
    return {panel + k * kParts * kTileColumns + c, kTileColumns, 16 * kTileColumns};
  }

  // ---- The product --------------------------------------------------------------------------------------------------

  // The left operand is packed in blocks of 1 MB at most, which stay in the second-level cache while the panels pass;
  // each block of the inner dimension adds its sums to the output.
  static constexpr std::int64_t kMostRows = 384, kMostInner = 640 / (Left::kInnerStep * kParts) * Left::kInnerStep;

  // Block i of `count` equal ones, in whole steps.
  static Block block_of(Block whole, std::int64_t i, std::int64_t count, std::int64_t step) {
    const std::int64_t steps = ceil_div(whole.size(), step);
    return {whole.begin + i * steps / count * step, std::min(whole.end, whole.begin + (i + 1) * steps / count * step)};
  }

  // out = start + left x right, with an inner dimension of `size`. pack_left(to, rows, inner) packs a tile of that
  // block; panel_of(own, column, inner) gives a panel of it, in its thread's memory `own` or elsewhere. The longer side
  // of the output is shared among the threads, then the other; each packs all that it needs, which with two of them
  // takes less time than to read what another processor has packed.
  template <typename PackLeft, typename PanelOf>
  static void multiply(Tensor out, const float* start, std::int64_t size, Scratch& scratch, int threads,
                       const PackLeft& pack_left, const PanelOf& panel_of) {
    const std::int64_t inner = pairs(size), tiles = ceil_div(out.rows, Left::kRows), columns = panels(out.cols);
    const std::int64_t used = useful_threads(threads, tiles * columns, out.size() * inner * kParts / 8);
    const bool tall = out.rows > out.cols;
    const std::int64_t longer = std::min(used, tall ? tiles : columns);
    const std::int64_t shorter = std::min(used / longer, tall ? columns : tiles);
    const std::int64_t down = tall ? longer : shorter, across = tall ? shorter : longer;
    const std::int64_t own_words = panel_words(std::min(inner, kMostInner)) + left_words(out.rows, inner);
    auto* memory = static_cast<Word*>(scratch(static_cast<std::size_t>(down * across * own_words) * sizeof(Word)));
    parallel_for(down * across, static_cast<int>(down * across), [&](std::int64_t task) {
      [[maybe_unused]] const MatrixRegisters registers;
      multiply_share(out, block_of({0, out.rows}, task / across, down, Left::kRows),
                     block_of({0, out.cols}, task % across, across, kTileColumns), start, inner,
                     memory + task * own_words, pack_left, panel_of);
    });
  }

  // Whole lines of a cache, so that the panel of the next thread begins with one.
  static std::int64_t left_words(std::int64_t rows, std::int64_t inner) {
    return round_up(RowTiles<Left>::rounded(std::min(rows, kMostRows)) * std::min(inner, kMostInner) * kParts, 16);
  }

  // Those rows and columns of the output. `own`: a panel, then a block of the left operand.
  template <typename PackLeft, typename PanelOf>
  static void multiply_share(Tensor out, Block rows, Block columns, const float* start, std::int64_t all, Word* own,
                             const PackLeft& pack_left, const PanelOf& panel_of) {
    Word* left = own + panel_words(std::min(all, kMostInner));
    const std::int64_t inner_blocks = std::max<std::int64_t>(1, ceil_div(all, kMostInner));
    const std::int64_t row_blocks = ceil_div(rows.size(), kMostRows);
    for (std::int64_t b = 0; b < inner_blocks * row_blocks; ++b) {
      const Block inner = block_of({0, all}, b / row_blocks, inner_blocks, Left::kInnerStep);
      const Block block = block_of(rows, b % row_blocks, row_blocks, Left::kRows);
      const RowTiles<Left> tiles(block.size());
      for (std::int64_t t = 0; t < tiles.count; ++t)
        pack_left(left + tiles.begin(t) * inner.size() * kParts,
                  Block{block.begin + tiles.begin(t), block.begin + tiles.begin(t + 1)}, inner);
      for (std::int64_t column = columns.begin; column < columns.end; column += kTileColumns) {
        const Panel<Word> panel = panel_of(own, column, inner);
        const auto panel_product = [&](const float* from, const auto& output) {
          multiply_panel<Arithmetic>(out.row_block(block.begin, block.size()), from, Left{left}, panel, column, output);
        };
        inner.begin == 0 ? panel_product(start, kSumsOutput) : panel_product(nullptr, kAddedOutput);
      }
    }
  }

  template <typename PanelOf>
  static void forward(Tensor out, Tensor in, Tensor bias, Scratch& scratch, int threads, const PanelOf& panel_of) {
    multiply(
        out, bias.empty() ? nullptr : bias.f32(), in.cols, scratch, threads,
        [&](Word* to, Block rows, Block inner) { pack_row_tile(to, in, rows, inner); }, panel_of);
  }
};

}  // namespace ember
#endif
