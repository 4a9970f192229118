#include <fmt/format.h>

#include <cstdio>

#include "bench/backend.h"

namespace ember {
namespace {

using Backends = std::vector<std::unique_ptr<Backend>>;

// Where the processor lacks bf16, Error, or a line for `absent` if that is not null.
void add_bf16(Backends& backends, int threads, std::vector<std::string>* absent) {
  try {
    backends.push_back(make_cpu_backend(Precision::bf16, threads));
  } catch (const Error& error) {
    if (absent == nullptr) throw;
    absent->push_back(fmt::format("cpu-bf16: not measured: {}", error.what()));
  }
}

void add_cuda(Backends& backends, const std::string& device) {
#ifdef EMBER_WITH_CUDA
  backends.push_back(make_cuda_backend(device));
#else
  static_cast<void>(backends);
  fail("--device {}: this build has no CUDA backend; use --device cpu", device);
#endif
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend_if_present(std::vector<std::string>& absent) {
  std::string reason;
#ifdef EMBER_WITH_CUDA
  try {
    if (cuda_device_present(reason)) return make_cuda_backend("cuda");
    if (reason.empty()) reason = "no GPU";
  } catch (const Error& error) {
    reason = error.what();
  }
#else
  reason = "this build has no CUDA backend";
#endif
  absent.push_back("cuda: not measured: " + reason);
  return nullptr;
}

Backends make_backends(Job job, const std::string& device, int threads, std::vector<std::string>& absent) {
  const bool cuda = device == "cuda" || device.rfind("cuda:", 0) == 0, any = device == "auto";
  const bool all = job == Job::operations, int8 = all && device == "cpu-int8";
  check(cuda || any || int8 || device == "cpu" || device == "cpu-bf16",
        "--device {}: must be auto, cpu, cpu-bf16,{} cuda or cuda:N", printable(device), all ? " cpu-int8," : "");
  Backends backends;
  if (any || device == "cpu") backends.push_back(make_cpu_backend(Precision::fp32, threads));
  if (any || device == "cpu-bf16") add_bf16(backends, threads, any ? &absent : nullptr);
  if (int8 || (any && all)) backends.push_back(make_cpu_backend(Precision::int8, threads));
  if (any)
    if (auto present = make_cuda_backend_if_present(absent)) backends.push_back(std::move(present));
  if (cuda) add_cuda(backends, device);
  return backends;
}

void print_absent(const std::vector<std::string>& absent) {
  for (const std::string& line : absent) fmt::print(stderr, "{}\n", line);
}

}  // namespace ember
