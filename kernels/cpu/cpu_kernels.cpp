#include "kernels/cpu/cpu_kernels.h"

#include <fmt/format.h>

#include <cstring>

#include "kernels/cpu/matrix_permission.h"
#include "runtime/shares.h"

namespace ember {
namespace {

// What this copy of the kernels was compiled for (kernels/make_cpu_kernels.cpp).
constexpr const char* kInstructions =
#if defined(__AMX_TILE__)
    "AMX";
#elif defined(__AVX512BF16__)
    "AVX-512 with bf16";
#elif defined(__AVX512VNNI__)
    "AVX-512 with VNNI";
#elif defined(__AVX512F__)
    "AVX-512";
#elif defined(__AVXVNNI__)
    "AVX2 with VNNI";
#elif defined(__AVX2__)
    "AVX2";
#else
    "no vector extensions asked for";
#endif

constexpr bool kHasBf16 =
#if defined(__AVX512BF16__)
    true;
#else
    false;
#endif

// The host's own memory: the copy is made at once.
class HostReadback final : public Readback {
 public:
  explicit HostReadback(std::size_t bytes) : memory_(host_buffer(bytes)) {}
  void start(const void* from_device) override { std::memcpy(memory_.data(), from_device, memory_.size()); }
  bool ready() const override { return true; }
  const void* wait() override { return memory_.data(); }

 private:
  Buffer memory_;
};

}  // namespace

CpuKernels::CpuKernels(Precision precision, int threads) : precision_(precision), threads_(thread_count(threads)) {
  check(precision != Precision::bf16 || kHasBf16,
        "bf16: needs a processor, and kernels, with AVX512-BF16 or AMX, here they are for {}; use fp32", kInstructions);
#if defined(__AMX_TILE__)
  check(may_use_matrix_registers(), "this build needs AMX, which the processor or the system does not have");
#endif
}

CpuKernels::~CpuKernels() = default;

std::string CpuKernels::device_name() const {
  return fmt::format("cpu ({} thread{}, {})", threads_, threads_ == 1 ? "" : "s", kInstructions);
}

std::int64_t CpuKernels::tokens_at_once() const {
  constexpr std::int64_t kMost = 512;
#if defined(__AMX_TILE__)
  constexpr std::int64_t kFp32 = 224;  // as many as make it worth while to split the weights
#else
  constexpr std::int64_t kFp32 = 144;
#endif
  const std::int64_t of_thread = precision_ == Precision::fp32 ? kFp32 : precision_ == Precision::int8 ? 256 : kMost;
  return std::min(kMost, of_thread * threads_);
}

Buffer CpuKernels::allocate(std::size_t bytes) {
  return host_buffer(bytes);
}

void CpuKernels::upload(void* to_device, const void* from_host, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to_device, from_host, bytes);
}

void CpuKernels::download(void* to_host, const void* from_device, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to_host, from_device, bytes);
}

std::unique_ptr<Readback> CpuKernels::make_readback(std::size_t bytes) {
  return std::make_unique<HostReadback>(bytes);
}

std::unique_ptr<Kernels> EMBER_CPU_FACTORY(Precision precision, int threads) {
  return std::make_unique<CpuKernels>(precision, threads);
}

}  // namespace ember
