// CUDA's atomic operations on global and shared memory: relaxed, as in CUDA, so that under TSan they order nothing by
// themselves. What came before a __threadfence() and an atomic operation after it comes before what follows an atomic
// operation on the same address and a __threadfence() after that.
#pragma once

#include <type_traits>

namespace simt {

void fence();
// To be called before each atomic operation. A fence sees those on the last eight addresses.
void atomic_operation(void* address);

// Replaces *address by update(*address) in one step and returns what was there.
template <typename T, typename Update>
T atomic_update(T* address, Update update) {
  T before, after;
  atomic_operation(address);
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  do after = update(before);
  while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

template <typename T, typename... Types>
concept OneOf = (std::is_same_v<T, Types> || ...);
// The types that CUDA has all of these operations for. (Of std::int64_t, a long, it has none.)
template <typename T>
concept AtomicInteger = OneOf<T, int, unsigned, unsigned long long>;
template <typename T>
concept AtomicWord = AtomicInteger<T> || OneOf<T, float>;
template <typename T>
concept AtomicNumber = AtomicWord<T> || OneOf<T, double>;

}  // namespace simt

// The types differ so that a literal may be given for a value, as CUDA's overloads allow.
template <simt::AtomicNumber T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return static_cast<T>(old + value); });
}
template <simt::AtomicInteger T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return old < value ? value : old; });
}
template <simt::AtomicWord T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T) { return value; });
}
template <simt::AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [&](T old) { return old == expected ? value : old; });
}

// Memory is sequential here, since one thread runs at a time: fences are for TSan.
inline void __threadfence() {
  simt::fence();
}
