// A tensor as a weight file has it, whatever the kind of file, and its elements as numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/tensor.h"

namespace ember {

// Dimensions that a reader of weight files takes, so that a file cannot ask for much more memory than it is long.
inline constexpr std::size_t kMaxRank = 64;

struct StoredTensor {
  std::string name;
  std::string dtype;  // F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL F8_E4M3 F8_E5M2 C64
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;        // into the mapped file
  std::vector<std::int64_t> strides = {};  // in elements, where `bytes` are walked so; empty: one after the other
  std::shared_ptr<const std::filesystem::path> file = {};  // one for all of its tensors; null: of no file

  std::int64_t elements() const;
  // Bytes of all elements one after the other.
  std::uint64_t size() const;
  // "model.safetensors: tensor embeddings", with the whole path, for messages.
  std::string where() const;
  // "F32 [312, 1200]", likewise.
  std::string description() const;
};

// Bytes of one element; 0 for a type that the list above does not have.
std::uint64_t element_bytes(std::string_view dtype);

// Whether copy_elements takes it: F64, F32, F16, BF16.
bool is_floating(const StoredTensor& tensor);

// The elements [begin, begin + count) in row-major order, as they are stored: a view of the file, or of `scratch` where
// strides have to be walked.
std::span<const std::byte> stored_elements(const StoredTensor& tensor, std::int64_t begin, std::int64_t count,
                                           std::vector<std::byte>& scratch);

// The same as numbers of type `to`, f32 or f16, each rounded once, to nearest even. Error naming the tensor for a dtype
// that is not floating, and for a finite number beyond f16's largest, 65504.
void copy_elements(const StoredTensor& tensor, std::int64_t begin, std::int64_t count, DType to, void* out);

// All elements; `out` must have their size.
void copy_to_f32(const StoredTensor& tensor, float* out);

// Error where `bytes`, all of a weight file's, are what Git has in the place of one that Git LFS keeps: a clone without
// git-lfs has nothing else.
void refuse_lfs_pointer(std::span<const std::byte> bytes, const std::filesystem::path& path);

// Whether none of `count` numbers of type f32 or f16, at any address, is infinite or no number.
bool all_finite(const void* numbers, std::int64_t count, DType type);

// Rounds floats to f16, to nearest even; one beyond its largest becomes infinite.
std::uint16_t to_f16(double value);

}  // namespace ember
