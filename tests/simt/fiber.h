// Stacks to switch between, with what the sanitizers must be told about it. Boost.Context's fcontext does the switch:
// ucontext makes two system calls each time.
#pragma once

#include <cstddef>

namespace simt {

class Fiber {
 public:
  Fiber();                          // the stack that is running; where it is becomes known with the first switch
  static const std::size_t kStack;  // bytes, as much as a kernel needs
  // A stack of its own; `entry` runs at the first switch to it and never returns.
  explicit Fiber(void (*entry)(), std::size_t stack = kStack);
  struct Stackless {};
  explicit Fiber(Stackless);  // never runs: to be impersonated
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves `from`, the running stack, for this one; returns when something switches back. Under TSan this orders
  // nothing: each fiber is a thread of its own there.
  void resume(Fiber& from);

  // Under TSan, whose accesses are these from now on; no switch takes place.
  void impersonate();

 private:
  struct Entry;
  void* context_ = nullptr;
  char* stack_ = nullptr;
  std::size_t size_ = 0;
  void* asan_frame_ = nullptr;
  void* tsan_fiber_ = nullptr;
  void (*entry_)() = nullptr;
};

// Edges of happens-before for TSan, through the address of anything: acquire sees all that was released there before.
void release(void* tag);
void acquire(void* tag);

}  // namespace simt
