// 64-bit FNV-1a (Fowler, Noll and Vo; RFC 9923), a hash that goes byte by byte: those of all beginnings of a text come
// from one pass.
#pragma once

#include <cstdint>

namespace ember {

inline constexpr std::uint64_t kFnv1aStart = 0xCBF29CE484222325u;

// The hash of what `hash` is of, with `byte` behind it.
constexpr std::uint64_t fnv1a(std::uint64_t hash, unsigned char byte) {
  return (hash ^ byte) * 0x100000001B3u;
}

}  // namespace ember
