// cuBLASLt is column-major, so each product is computed transposed: a row-major (R, C) matrix is to it a (C, R) one
// with the same stride, and outᵀ = weight inᵀ has out's memory. BIAS then runs along the dimension we need.
//
// Token counts differ from step to step. An algorithm is measured for counts rounded up to a multiple of 32 and used
// for all of them, if cuBLASLt accepts it; else for the count itself.
//
// What cuBLASLt may rely on is decided once for a shape, so it is part of the shape or always holds: operands are
// aligned as Shape says, and a bias to 16 bytes, for which one that is not is copied first.
#include "kernels/cuda/matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "kernels/cuda/algorithm_cache.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/matmul_operands.h"
#include "runtime/ceil_div.h"
#include "runtime/cuda/check.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/nvtx.h"
#include "runtime/error.h"

namespace ember {
namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what cuBLAS itself takes on its newest devices
constexpr std::size_t kBiasAlignment = 16, kBiasRoom = std::size_t{1} << 20;
constexpr std::int64_t kLongestBias = static_cast<std::int64_t>((kBiasRoom - kBiasAlignment) / sizeof(float));
constexpr int kCandidates = 16, kWarmUps = 2, kRounds = 3, kLaunches = 10;

enum class Use { forward, backward_input, backward_weight };

// All that decides which algorithms can compute a product, and how fast: d (m x n) = op(a) op(b), column-major.
struct Shape {
  Use use = Use::forward;
  std::int64_t rows = 0, inputs = 0, outputs = 0;  // M, I, O
  std::int64_t stride_a = 0, stride_b = 0, stride_d = 0;
  std::uint32_t align_a = 0, align_b = 0, align_d = 0;  // bytes, at most 16
  bool f32_out = false, bias = false;
  std::int64_t count = 1, step_a = 0, step_b = 0, step_d = 0;  // of a batch of products

  auto tied() const {
    return std::tie(use, rows, inputs, outputs, stride_a, stride_b, stride_d, align_a, align_b, align_d, f32_out, bias,
                    count, step_a, step_b, step_d);
  }
  bool operator<(const Shape& other) const { return tied() < other.tied(); }
};

// The name of its algorithm. How far the products of a batch lie apart changes with the memory, not with the speed.
std::string text_of(const Shape& s) {
  constexpr std::array kNames{"forward", "backward_input", "backward_weight"};
  return fmt::format("{} rows={} inputs={} outputs={} strides={},{},{} aligned={},{},{}{}{}{}",
                     kNames[static_cast<std::size_t>(s.use)], s.rows, s.inputs, s.outputs, s.stride_a, s.stride_b,
                     s.stride_d, s.align_a, s.align_b, s.align_d, s.f32_out ? " f32" : "", s.bias ? " bias" : "",
                     s.count > 1 ? fmt::format(" count={}", s.count) : "");
}

std::uint32_t alignment_of(const void* data) {
  constexpr int kMostBits = 4;
  return 1u << std::min(kMostBits, std::countr_zero(reinterpret_cast<std::uintptr_t>(data)));
}
// Of every operand of a batch.
std::uint32_t alignment_of(const Tensor& first, std::int64_t step) {
  const auto bytes = static_cast<std::uintptr_t>(step) * size_of(first.dtype);
  return alignment_of(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(first.data) | bytes));
}

// Elements of an operand, generous by a row; a multiple of every alignment.
std::int64_t step_of(std::int64_t rows, std::int64_t stride) {
  constexpr std::int64_t kAligned = 16;
  return round_up((rows + 1) * stride, kAligned);
}

// A product that cuBLASLt can run.
struct Plan {
  CublasOperation operation;
  CublasLayout a, b, d;
  cublasLtMatmulAlgo_t algorithm{};
  bool possible = false;
};

// cuBLASLt reads the alignment of biases off `bias`, which is null for a shape without.
Plan describe(const Shape& s, const void* bias) {
  const cudaDataType out = s.f32_out ? CUDA_R_32F : CUDA_R_16F;
  const auto layout = [](std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    return make_cublas_layout(CUDA_R_16F, rows, cols, stride);
  };
  Plan plan;
  switch (s.use) {
    case Use::forward:  // outᵀ (O, M) = weight (O, I) inᵀ (I, M)
      plan.operation =
          make_cublas_operation(CUBLAS_OP_T, CUBLAS_OP_N, s.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
      plan.a = layout(s.inputs, s.outputs, s.stride_a);
      plan.b = layout(s.inputs, s.rows, s.stride_b);
      plan.d = make_cublas_layout(out, s.outputs, s.rows, s.stride_d);
      break;
    case Use::backward_input:  // dinᵀ (I, M) = weightᵀ (I, O) doutᵀ (O, M)
      plan.operation = make_cublas_operation(CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT);
      plan.a = layout(s.inputs, s.outputs, s.stride_a);
      plan.b = layout(s.outputs, s.rows, s.stride_b);
      plan.d = make_cublas_layout(out, s.inputs, s.rows, s.stride_d);
      break;
    case Use::backward_weight:  // dweightᵀ (I, O) = inᵀ (I, M) dout (M, O)
      plan.operation = make_cublas_operation(CUBLAS_OP_N, CUBLAS_OP_T, CUBLASLT_EPILOGUE_DEFAULT);
      plan.a = layout(s.inputs, s.rows, s.stride_a);
      plan.b = layout(s.outputs, s.rows, s.stride_b);
      plan.d = make_cublas_layout(out, s.inputs, s.outputs, s.stride_d);
      break;
  }
  if (s.bias) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, out);
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  if (s.count > 1) {
    set_batch(plan.a, s.count, s.step_a);
    set_batch(plan.b, s.count, s.step_b);
    set_batch(plan.d, s.count, s.step_d);
  }
  return plan;
}

struct Operands {
  const void *a, *b;
  void* d;
  const void* bias;
};

std::string identity_of_device() {
  int device = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&device), "asking for the device");
  check_cuda(cudaGetDeviceProperties(&properties, device), "asking for the device");
  return fmt::format("{} sm_{}{}, cuBLASLt {}", properties.name, properties.major, properties.minor,
                     cublasLtGetVersion());
}

}  // namespace

struct Matmul::State {
  explicit State(cudaStream_t on)
      : stream(on),
        handle(make_cublas_handle()),
        workspace(device_buffer(kWorkspace + kBiasRoom)),
        identity(identity_of_device()),
        cache(identity, algorithm_cache_file(identity)) {
    check_cuda(cudaMemsetAsync(workspace.data(), 0, workspace.size(), stream), "clearing");
  }

  const Plan& plan(const Shape& shape);
  bool adopt(Plan& plan, const AlgorithmCache::Algorithm* algorithm) const;
  const AlgorithmCache::Algorithm* algorithm_of(const Shape& shape);
  void keep(const Shape& shape, const AlgorithmCache::Algorithm& algorithm);
  std::optional<AlgorithmCache::Algorithm> measure(const Shape& shape) const;
  std::vector<cublasLtMatmulHeuristicResult_t> suggestions(const Shape& shape) const;
  float milliseconds(const Plan& plan, const Operands& operands) const;
  cublasStatus_t run(const Plan& plan, const Operands& operands, const Stream* beside = nullptr) const;
  // False when cuBLASLt has no algorithm for the shape.
  bool multiply(const Shape& shape, Operands operands, const Stream* beside = nullptr);
  // Past what cuBLASLt is given of the workspace: aligned to kBiasAlignment and to no more, so that what cuBLASLt reads
  // off it is what holds for every bias.
  std::byte* bias_copy() const { return static_cast<std::byte*>(workspace.data()) + kWorkspace + kBiasAlignment; }
  Plan plan_of(const Shape& shape) const { return describe(shape, shape.bias ? bias_copy() : nullptr); }

  cudaStream_t stream;
  CublasHandle handle;
  Buffer workspace, workspace_beside;  // the second from the first use on
  std::string identity;
  AlgorithmCache cache;
  std::map<Shape, Plan> plans;
};

cublasStatus_t Matmul::State::run(const Plan& plan, const Operands& operands, const Stream* beside) const {
  if (operands.bias != nullptr) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  const float alpha = 1, beta = 0;
  return cublasLtMatmul(handle.get(), plan.operation.get(), &alpha, operands.a, plan.a.get(), operands.b, plan.b.get(),
                        &beta, operands.d, plan.d.get(), operands.d, plan.d.get(), &plan.algorithm,
                        beside == nullptr ? workspace.data() : workspace_beside.data(), kWorkspace,
                        beside == nullptr ? stream : beside->get());
}

// What cuBLASLt would try, best guess first, without the algorithms whose parts are added by atomics or in f16. With a
// bias a sum has no parts, since where it is added to them, and in which type, is not documented.
std::vector<cublasLtMatmulHeuristicResult_t> Matmul::State::suggestions(const Shape& shape) const {
  const Plan plan = plan_of(shape);
  const CublasPreference preference = make_cublas_preference();
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      std::uint32_t{shape.bias ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.align_a);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.align_b);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.align_d);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.align_d);
  std::vector<cublasLtMatmulHeuristicResult_t> results(kCandidates);
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle.get(), plan.operation.get(), plan.a.get(), plan.b.get(), plan.d.get(),
                                     plan.d.get(), preference.get(), kCandidates, results.data(), &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED)
    found = 0;
  else
    check_cublas(status, text_of(shape));
  results.resize(static_cast<std::size_t>(found));
  return results;
}

// Of one product, the shortest of a few rounds; infinite when the algorithm does not run after all.
float Matmul::State::milliseconds(const Plan& plan, const Operands& operands) const {
  float best = std::numeric_limits<float>::infinity();
  for (int i = 0; i < kWarmUps; ++i)
    if (run(plan, operands) != CUBLAS_STATUS_SUCCESS) return best;
  const Event start(Event::Kind::timing), end(Event::Kind::timing);
  for (int round = 0; round < kRounds; ++round) {
    check_cuda(cudaEventRecord(start.get(), stream), "timing");
    for (int i = 0; i < kLaunches; ++i) check_cublas(run(plan, operands), "timing an algorithm");
    check_cuda(cudaEventRecord(end.get(), stream), "timing");
    end.synchronize();
    best = std::min(best, Event::milliseconds(start, end) / kLaunches);
  }
  return best;
}

// The fastest, on memory of its own; none when no algorithm runs. The products of a batch lie close together there.
std::optional<AlgorithmCache::Algorithm> Matmul::State::measure(const Shape& shape) const {
  const ProfiledRange range("measuring the algorithms of a product");
  const auto candidates = suggestions(shape);
  if (candidates.empty()) return {};
  const auto a_rows = shape.use == Use::backward_weight ? shape.rows : shape.outputs, b_rows = shape.rows,
             d_rows = shape.use == Use::backward_weight ? shape.outputs : shape.rows;
  Shape packed = shape;
  packed.step_a = step_of(a_rows, shape.stride_a);
  packed.step_b = step_of(b_rows, shape.stride_b);
  packed.step_d = step_of(d_rows, shape.stride_d);
  Plan plan = plan_of(packed);
  const auto bytes = [&shape](std::int64_t step, std::size_t size) {
    return static_cast<std::size_t>(shape.count * step) * size;
  };
  const Buffer a = device_buffer(bytes(packed.step_a, 2)), b = device_buffer(bytes(packed.step_b, 2)),
               d = device_buffer(bytes(packed.step_d, 4));
  for (const Buffer* buffer : {&a, &b, &d})
    check_cuda(cudaMemsetAsync(buffer->data(), 0, buffer->size(), stream), "clearing");
  const Operands operands{a.data(), b.data(), d.data(), shape.bias ? bias_copy() : nullptr};
  const cublasLtMatmulHeuristicResult_t* fastest = nullptr;
  float least = std::numeric_limits<float>::infinity();
  for (const auto& candidate : candidates) {
    if (candidate.state != CUBLAS_STATUS_SUCCESS) continue;
    plan.algorithm = candidate.algo;
    const float time = milliseconds(plan, operands);
    if (time < least) least = time, fastest = &candidate;
  }
  check_cuda(cudaStreamSynchronize(stream), "timing algorithms");  // before their memory goes
  if (fastest == nullptr) return {};
  return std::to_array(fastest->algo.data);
}

// At once, for others that come to the shape, and in case this process is killed. The destructor tries again what fails
// here, and tells.
void Matmul::State::keep(const Shape& shape, const AlgorithmCache::Algorithm& algorithm) {
  cache.add(text_of(shape), algorithm);
  try {
    cache.save();
  } catch (const Error&) {
  }
}

// Known, measured by another instance or run, or measured now. Null when there is none.
const AlgorithmCache::Algorithm* Matmul::State::algorithm_of(const Shape& shape) {
  const std::string name = text_of(shape);
  if (const auto* known = cache.find(name)) return known;
  cache.reload();
  if (const auto* known = cache.find(name)) return known;
  const auto measured = measure(shape);
  cache.reload();  // another may have measured at the same time
  if (measured && cache.find(name) == nullptr) keep(shape, *measured);
  return cache.find(name);
}

// Whether cuBLASLt can compute just this shape so.
bool Matmul::State::adopt(Plan& plan, const AlgorithmCache::Algorithm* algorithm) const {
  if (algorithm == nullptr) return false;
  std::copy(algorithm->begin(), algorithm->end(), plan.algorithm.data);
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(handle.get(), plan.operation.get(), plan.a.get(), plan.b.get(), plan.d.get(),
                                 plan.d.get(), &plan.algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspace;
}

const Plan& Matmul::State::plan(const Shape& shape) {
  const auto [entry, added] = plans.try_emplace(shape);
  Plan& plan = entry->second;
  if (!added) return plan;
  try {
    cudaStreamCaptureStatus capturing{};
    check_cuda(cudaStreamIsCapturing(stream, &capturing), "asking for the state of a stream");
    if (capturing != cudaStreamCaptureStatusNone)
      throw std::logic_error("a matrix product of a new shape in a recording; run it once before: " + text_of(shape));
    plan = plan_of(shape);
    Shape rounded = shape;
    rounded.rows = round_up(shape.rows, kRowStep);
    plan.possible = adopt(plan, algorithm_of(rounded)) || adopt(plan, algorithm_of(shape));
    if (plan.possible) return plan;
    // What is known is of a batch with other steps, or of a file that is not what was written.
    const auto measured = measure(shape);
    plan.possible = measured && adopt(plan, &*measured);
    if (plan.possible) keep(shape, *measured);
  } catch (...) {
    plans.erase(entry);
    throw;
  }
  return plan;
}

bool Matmul::State::multiply(const Shape& shape, Operands operands, const Stream* beside) {
  const Plan& ready = plan(shape);
  if (!ready.possible) return false;
  if (beside != nullptr && workspace_beside.size() == 0) workspace_beside = device_buffer(kWorkspace);
  if (shape.bias && alignment_of(operands.bias) < kBiasAlignment) {
    const std::size_t bytes =
        static_cast<std::size_t>(shape.outputs) * size_of(shape.f32_out ? DType::f32 : DType::f16);
    check_cuda(cudaMemcpyAsync(bias_copy(), operands.bias, bytes, cudaMemcpyDeviceToDevice, stream), "copying a bias");
    operands.bias = bias_copy();
  }
  check_cublas(run(ready, operands, beside), text_of(shape));
  count_launch();
  return true;
}

Matmul::Matmul(cudaStream_t stream) : state_(std::make_unique<State>(stream)) {}

Matmul::~Matmul() {
  try {
    state_->cache.save();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "the algorithms of matrix products are measured again next time: %s\n", error.what());
  }
}

void Matmul::forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  require_forward_operands(out, in, weight, bias);
  require(bias.size() <= kLongestBias, "matmul forward: a bias longer than there is room for");
  if (out.empty()) return;
  const Shape shape{Use::forward,
                    in.rows,
                    in.cols,
                    out.cols,
                    weight.stride,
                    in.stride,
                    out.stride,
                    alignment_of(weight.data),
                    alignment_of(in.data),
                    alignment_of(out.data),
                    out.dtype == DType::f32,
                    !bias.empty()};
  require(state_->multiply(shape, {weight.data, in.data, out.data, bias.data}), "matmul forward: no algorithm");
}

void Matmul::backward_input(Tensor din, Tensor dout, Tensor weight) {
  require_backward_input_operands(din, dout, weight);
  if (din.empty()) return;
  const Shape shape{Use::backward_input,
                    din.rows,
                    din.cols,
                    dout.cols,
                    weight.stride,
                    dout.stride,
                    din.stride,
                    alignment_of(weight.data),
                    alignment_of(dout.data),
                    alignment_of(din.data),
                    false,
                    false};
  require(state_->multiply(shape, {weight.data, dout.data, din.data, nullptr}), "matmul input: no algorithm");
}

void Matmul::backward_weight(Tensor dweight, Tensor dout, Tensor in, const ProductBatch& batch, const Stream* beside) {
  require_backward_weight_operands(dweight, dout, in);
  if (dweight.empty()) return;
  const Shape shape{Use::backward_weight,
                    in.rows,
                    in.cols,
                    dout.cols,
                    in.stride,
                    dout.stride,
                    dweight.stride,
                    alignment_of(in, batch.in),
                    alignment_of(dout, batch.dout),
                    alignment_of(dweight, batch.dweight),
                    true,
                    false,
                    batch.count,
                    batch.in,
                    batch.dout,
                    batch.dweight};
  require(state_->multiply(shape, {in.data, dout.data, dweight.data, nullptr}, beside), "matmul weight: no algorithm");
}

std::string Matmul::algorithms() const {
  return state_->cache.text();
}

// Plans hold the algorithms that they were made with.
bool Matmul::use_algorithms(std::string_view text) {
  const bool ours = state_->cache.merge(text);
  state_->plans.clear();
  return ours;
}

}  // namespace ember
