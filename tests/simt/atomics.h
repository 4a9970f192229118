// CUDA's atomic operations on global and shared memory: relaxed, as in CUDA, so that under TSan they order nothing.
#pragma once

#include <type_traits>

namespace simt {

// Replaces *address by update(*address) in one step and returns what was there.
template <typename T, typename Update>
T atomic_update(T* address, Update update) {
  T before, after;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  do after = update(before);
  while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

}  // namespace simt

// The types differ so that a literal may be given for a value, as CUDA's overloads allow.
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return static_cast<T>(old - value); });
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return old < value ? value : old; });
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return static_cast<T>(old & value); });
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return static_cast<T>(old | value); });
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T) { return value; });
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return old == expected ? value : old; });
}

// Memory is sequential here: one thread runs at a time. Under TSan a fence orders nothing, as without a barrier.
inline void __threadfence() {}
inline void __threadfence_block() {}
