// Compiled without TSan, whose instrumentation would attribute the switch itself to a fiber; EMBER_SIMT_TSAN says
// that the rest of the program has it.
#include "simt/fiber.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define EMBER_SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMBER_SIMT_ASAN 1
#endif
#endif
#ifdef EMBER_SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef EMBER_SIMT_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace simt {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kGuard = 4096;

#ifdef EMBER_SIMT_TSAN
constexpr unsigned kNoSynchronisation = 1;
#endif

}  // namespace

#ifdef EMBER_SIMT_ASAN
const std::size_t Fiber::kStack = 512 << 10;  // redzones make frames large
#else
const std::size_t Fiber::kStack = 128 << 10;
#endif

struct Fiber::Entry {
  static void arrived(context::transfer_t transfer, void* frame) {
    Fiber& from = *static_cast<Fiber*>(transfer.data);
    from.context_ = transfer.fctx;
#ifdef EMBER_SIMT_ASAN
    const void* stack = nullptr;
    __sanitizer_finish_switch_fiber(frame, &stack, &from.size_);
    from.stack_ = static_cast<char*>(const_cast<void*>(stack));
#else
    static_cast<void>(frame);
#endif
  }
  static Fiber* starting;
  static void start(context::transfer_t transfer) {
    arrived(transfer, nullptr);
    starting->entry_();
    std::abort();
  }
};
Fiber* Fiber::Entry::starting = nullptr;

Fiber::Fiber() {
#ifdef EMBER_SIMT_TSAN
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(void (*entry)(), std::size_t stack) : size_(stack), entry_(entry) {
  void* memory = ::mmap(nullptr, stack + kGuard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED || ::mprotect(memory, kGuard, PROT_NONE) != 0) {
    std::perror("simt: no memory for the stack of a thread");
    std::abort();
  }
  stack_ = static_cast<char*>(memory) + kGuard;
  context_ = context::make_fcontext(stack_ + stack, stack, &Entry::start);
#ifdef EMBER_SIMT_TSAN
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

Fiber::Fiber(Stackless) {
#ifdef EMBER_SIMT_TSAN
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

void Fiber::resume(Fiber& from) {
#ifdef EMBER_SIMT_ASAN
  __sanitizer_start_switch_fiber(&from.asan_frame_, stack_, size_);
#endif
  impersonate();
  Entry::starting = this;
  const context::transfer_t back = context::jump_fcontext(context_, &from);
  Entry::arrived(back, from.asan_frame_);
}

void Fiber::impersonate() {
#ifdef EMBER_SIMT_TSAN
  __tsan_switch_to_fiber(tsan_fiber_, kNoSynchronisation);
#endif
}

void release([[maybe_unused]] void* tag) {
#ifdef EMBER_SIMT_TSAN
  __tsan_release(tag);
#endif
}

void acquire([[maybe_unused]] void* tag) {
#ifdef EMBER_SIMT_TSAN
  __tsan_acquire(tag);
#endif
}

}  // namespace simt
