#include "runtime/arena.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support.h"

namespace ember {
namespace {

TEST(HostBuffer, IsAlignedAndZero) {
  for (const std::size_t bytes : {1u, 63u, 64u, 65u, 4097u}) {
    const Buffer buffer = host_buffer(bytes);
    EXPECT_EQ(buffer.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % Arena::kAlignment, 0u);
    const auto* data = static_cast<const unsigned char*>(buffer.data());
    EXPECT_TRUE(std::all_of(data, data + bytes, [](unsigned char byte) { return byte == 0; })) << bytes;
  }
}

TEST(HostBuffer, OfNothingIsEmpty) {
  EXPECT_EQ(host_buffer(0).data(), nullptr);
  EXPECT_EQ(host_buffer(0).size(), 0u);
}

TEST(HostBuffer, TooLargeIsAnError) {
  EXPECT_THROW(host_buffer(SIZE_MAX), Error);
#ifndef __SANITIZE_ADDRESS__  // whose allocator ends the program instead
  EXPECT_THROW(host_buffer(SIZE_MAX / 2), Error);
#endif
}

TEST(Buffer, MovedFromIsEmpty) {
  Buffer from = host_buffer(8);
  const Buffer to = std::move(from);
  EXPECT_EQ(to.size(), 8u);
  EXPECT_EQ(from.size(), 0u);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(from.data(), nullptr);
}

// Any layout: odd sizes, both widths, an empty tensor.
std::vector<Tensor> lay_out(Arena& arena) {
  return {arena.matrix(3, 5), arena.vector(7, DType::bf16), arena.matrix(0, 4), arena.vector(1), arena.matrix(2, 16)};
}

TEST(Arena, MeasuresWhatItThenHandsOut) {
  Arena measure;
  for (const Tensor& tensor : lay_out(measure)) EXPECT_EQ(tensor.data, nullptr);
  EXPECT_EQ(measure.used(), 4 * Arena::kAlignment + 64);
  const Buffer memory = host_buffer(measure.used());
  Arena arena(memory.data(), memory.size());
  const std::vector<Tensor> tensors = lay_out(arena);
  EXPECT_EQ(arena.used(), measure.used());
  const std::byte* end = static_cast<const std::byte*>(memory.data());
  for (const Tensor& tensor : tensors) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) % Arena::kAlignment, 0u);
    EXPECT_GE(static_cast<const std::byte*>(tensor.data), end) << "tensors overlap";
    end = static_cast<const std::byte*>(tensor.data) + static_cast<std::size_t>(tensor.size()) * size_of(tensor.dtype);
  }
  EXPECT_LE(end, static_cast<const std::byte*>(memory.data()) + memory.size());
}

TEST(Arena, PastItsCapacityIsADefect) {
  const Buffer memory = host_buffer(128);
  Arena arena(memory.data(), memory.size());
  arena.take(65);
  EXPECT_THROW(arena.take(1), std::logic_error);
  arena.reset();
  EXPECT_EQ(arena.take(128), memory.data());
}

TEST(Tensor, ViewsOfColumnsAndRows) {
  float data[12];
  for (int i = 0; i < 12; ++i) data[i] = static_cast<float>(i);
  const Tensor whole = matrix(data, 3, 4);
  const Tensor columns = whole.columns(1, 2);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(columns.size(), 6);
  EXPECT_EQ(columns.row(2)[1], 10.0f);
  const Tensor inner = columns.row_block(1, 2);
  EXPECT_EQ(inner.rows, 2);
  EXPECT_EQ(inner.row(0)[0], 5.0f);
  EXPECT_TRUE(whole.row_block(1, 2).contiguous());
  EXPECT_TRUE(columns.row_block(0, 1).contiguous());
  EXPECT_THROW(matrix(data, 2, 2, DType::bf16).f32(), std::logic_error);
}

TEST(Tensor, AViewWithoutMemoryHasNone) {
  const Tensor nothing = matrix(nullptr, 3, 4);
  EXPECT_EQ(nothing.columns(1, 2).data, nullptr);
  EXPECT_EQ(nothing.row_block(1, 2).data, nullptr);
  EXPECT_TRUE(nothing.row_block(1, 2).empty());
}

}  // namespace
}  // namespace ember
