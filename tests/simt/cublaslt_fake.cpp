#include "tests/simt/cublaslt_fake.h"

#include <cuda_fp16.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <thread>
#include <utility>

#include "simt/grid.h"
#include "simt/half_to_float.h"
#include "simt/runtime_state.h"

namespace simt {
namespace {

// What any of cuBLASLt's descriptors holds: a value for each of its attributes.
struct Attributes {
  std::array<std::uint64_t, 64> of{};
};
template <typename Handle>
Attributes& attributes(Handle handle) {
  return *reinterpret_cast<Attributes*>(handle);
}

template <typename Handle>
cublasStatus_t create(Handle* handle) {
  *handle = reinterpret_cast<Handle>(new Attributes);
  return CUBLAS_STATUS_SUCCESS;
}
template <typename Handle>
cublasStatus_t destroy(Handle handle) {
  delete &attributes(handle);
  return CUBLAS_STATUS_SUCCESS;
}
// Of `size` bytes, as is documented.
template <typename Handle, typename Attribute>
cublasStatus_t set(Handle handle, Attribute attribute, const void* value, std::size_t bytes, std::size_t size) {
  if (bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
  std::uint64_t& to = attributes(handle).of.at(static_cast<std::size_t>(attribute));
  to = 0;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

const void* bias_of(cublasLtMatmulDesc_t operation) {
  return reinterpret_cast<const void*>(attributes(operation).of[CUBLASLT_MATMUL_DESC_BIAS_POINTER]);
}

bool aligned(const void* data, std::uint64_t bytes) {
  return bytes == 0 || reinterpret_cast<std::uintptr_t>(data) % bytes == 0;
}

// One matrix or a batch of them, column by column.
struct Matrices {
  Matrices(const void* first, cublasLtMatrixLayout_t layout)
      : data(static_cast<std::byte*>(const_cast<void*>(first))),
        half(attributes(layout).of[CUBLASLT_MATRIX_LAYOUT_TYPE] == CUDA_R_16F),
        rows(number(layout, CUBLASLT_MATRIX_LAYOUT_ROWS)),
        cols(number(layout, CUBLASLT_MATRIX_LAYOUT_COLS)),
        stride(number(layout, CUBLASLT_MATRIX_LAYOUT_LD)),
        count(number(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)),
        step(number(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET)) {}

  std::byte* at(std::int64_t n, std::int64_t row, std::int64_t col) const {
    return data + (half ? 2 : 4) * (n * step + col * stride + row);
  }
  float read(std::int64_t n, std::int64_t row, std::int64_t col) const { return read(at(n, row, col)); }
  float read(const std::byte* from) const {
    std::uint16_t bits;
    float value;
    if (half)
      std::memcpy(&bits, from, sizeof bits), value = half_to_float(bits);
    else
      std::memcpy(&value, from, sizeof value);
    return value;
  }
  void write(std::int64_t n, std::int64_t col, std::span<const float> values) const {
    std::vector<__half> rounded;
    if (half) std::transform(values.begin(), values.end(), std::back_inserter(rounded), __float2half_rn);
    std::memcpy(at(n, 0, col), half ? static_cast<const void*>(rounded.data()) : values.data(),
                values.size() * (half ? 2 : 4));
  }
  // One of the batch, or its transpose, without what lies between the columns.
  std::vector<float> packed(std::int64_t n, bool transposed) const {
    std::vector<float> out;
    out.reserve(static_cast<std::size_t>(rows * cols));
    for (std::int64_t c = 0; c < (transposed ? rows : cols); ++c)
      for (std::int64_t r = 0; r < (transposed ? cols : rows); ++r)
        out.push_back(transposed ? read(n, c, r) : read(n, r, c));
    return out;
  }
  // Whether the device has them, each as aligned as was promised.
  bool valid(std::uint64_t alignment) const {
    if (rows <= 0 || cols <= 0 || stride < rows || count <= 0) return false;
    for (std::int64_t n = 0; n < count; ++n) {
      const std::byte *begin = at(n, 0, 0), *end = at(n, rows, cols - 1);
      if (!aligned(begin, alignment) || !is_device_memory(begin, static_cast<std::size_t>(end - begin))) return false;
    }
    return true;
  }

  std::byte* data;
  bool half;
  std::int64_t rows, cols, stride, count, step;

 private:
  static std::int64_t number(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute) {
    return static_cast<std::int64_t>(attributes(layout).of[attribute]);
  }
};

constexpr std::uint64_t kTypeOfD = ~std::uint32_t{0};  // a bias' default

// The words of an algorithm.
enum Word : std::size_t { kName, kAlignedA, kAlignedB, kAlignedC, kAlignedD, kAlignedBias, kSeal = 7 };
bool was_offered(const cublasLtMatmulAlgo_t& algorithm) {
  return algorithm.data[kSeal] == ~algorithm.data[kName];
}

std::size_t workspace_needed(std::uint64_t name) {
  const auto found = cublaslt().workspace_of.find(name);
  return found == cublaslt().workspace_of.end() ? 0 : found->second;
}

// d = alpha op(a) op(b) + beta c + bias
struct Multiplication {
  Matrices a, b, c, d;
  bool transposed_a, transposed_b;
  float alpha, beta;
  const void* bias;  // or null
  void* workspace;
  std::size_t workspace_bytes;

  std::int64_t inner() const { return transposed_a ? a.rows : a.cols; }
  bool valid_bias(std::uint64_t alignment) const {
    const std::size_t bytes = static_cast<std::size_t>(d.rows) * (d.half ? 2 : 4);
    return bias == nullptr || (aligned(bias, alignment) && is_device_memory(bias, bytes));
  }
  bool valid_workspace(std::size_t needed) const {
    constexpr std::uint64_t kAlignment = 256;
    return workspace_bytes >= needed && aligned(workspace, kAlignment) && is_device_memory(workspace, workspace_bytes);
  }
  bool valid(const cublasLtMatmulAlgo_t& algorithm) const {
    return a.half && b.half && a.count == d.count && b.count == d.count && c.count == d.count &&
           (transposed_a ? a.cols : a.rows) == d.rows && (transposed_b ? b.rows : b.cols) == d.cols &&
           (transposed_b ? b.cols : b.rows) == inner() && a.valid(algorithm.data[kAlignedA]) &&
           b.valid(algorithm.data[kAlignedB]) && c.valid(algorithm.data[kAlignedC]) &&
           d.valid(algorithm.data[kAlignedD]) && valid_bias(algorithm.data[kAlignedBias]) &&
           valid_workspace(workspace_needed(algorithm.data[kName]));
  }
  void run() const {
    // As an algorithm may that uses all of it.
    const std::size_t ends = std::min<std::size_t>(workspace_bytes, 64);
    std::memset(workspace, 0xFF, ends);
    std::memset(static_cast<std::byte*>(workspace) + workspace_bytes - ends, 0xFF, ends);
    std::vector<float> added(static_cast<std::size_t>(d.rows));
    for (std::size_t row = 0; bias != nullptr && row < added.size(); ++row)
      added[row] = d.read(static_cast<const std::byte*>(bias) + (d.half ? 2 : 4) * row);
    // A few columns at a time, whose sums stay in the cache.
    const std::int64_t block = std::max<std::int64_t>(1, (1 << 16) / d.rows);
    std::vector<float> sums(static_cast<std::size_t>(block * d.rows));
    for (std::int64_t n = 0; n < d.count; ++n) {
      const std::vector<float> left = a.packed(n, transposed_a), right = b.packed(n, transposed_b);
      for (std::int64_t begin = 0; begin < d.cols; begin += block) {
        const std::int64_t cols = std::min(block, d.cols - begin);
        // To dnnl_sgemm, which goes by rows, the columns are rows.
        dnnl_sgemm('N', 'N', cols, d.rows, inner(), alpha, right.data() + begin * inner(), inner(), left.data(), d.rows,
                   0.0f, sums.data(), d.rows);
        for (std::int64_t col = 0; col < cols; ++col) {
          const std::span<float> column(sums.data() + col * d.rows, added.size());
          for (std::size_t row = 0; row < added.size(); ++row) {
            if (beta != 0) column[row] += beta * c.read(n, static_cast<std::int64_t>(row), begin + col);
            column[row] += added[row];
          }
          d.write(n, begin + col, column);
        }
      }
    }
  }
};

}  // namespace

FakeCublasLt& cublaslt() {
  static FakeCublasLt instance;
  return instance;
}

}  // namespace simt

using simt::attributes;
using simt::cublaslt;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return cublaslt().starting == CUBLAS_STATUS_SUCCESS ? simt::create(handle) : cublaslt().starting;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return simt::destroy(handle);
}
std::size_t cublasLtGetVersion() {
  return cublaslt().version;
}
const char* cublasLtGetStatusName(cublasStatus_t) {
  return "a status";
}
const char* cublasLtGetStatusString(cublasStatus_t) {
  return "a failure";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t sums, cudaDataType scale) {
  const cublasStatus_t status = simt::create(operation);
  auto& of = attributes(*operation).of;
  of[CUBLASLT_MATMUL_DESC_COMPUTE_TYPE] = sums, of[CUBLASLT_MATMUL_DESC_SCALE_TYPE] = scale;
  of[CUBLASLT_MATMUL_DESC_EPILOGUE] = CUBLASLT_EPILOGUE_DEFAULT;
  of[CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE] = simt::kTypeOfD;
  return status;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return simt::destroy(operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  return simt::set(operation, attribute, value, bytes, attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? 8 : 4);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t cols, std::int64_t stride) {
  const cublasStatus_t status = simt::create(layout);
  auto& of = attributes(*layout).of;
  of[CUBLASLT_MATRIX_LAYOUT_TYPE] = type, of[CUBLASLT_MATRIX_LAYOUT_ROWS] = rows;
  of[CUBLASLT_MATRIX_LAYOUT_COLS] = cols, of[CUBLASLT_MATRIX_LAYOUT_LD] = static_cast<std::uint64_t>(stride);
  of[CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT] = 1;
  return status;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return simt::destroy(layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  return simt::set(layout, attribute, value, bytes, attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? 4 : 8);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  const cublasStatus_t status = simt::create(preference);
  for (const auto alignment : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    attributes(*preference).of[alignment] = 256;
  return status;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return simt::destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  return simt::set(preference, attribute, value, bytes, attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  *count = 0;
  if (cublaslt().answering != CUBLAS_STATUS_SUCCESS) return cublaslt().answering;
  const auto& preferred = attributes(preference).of;
  const void* bias = simt::bias_of(operation);
  const simt::FakeCublasLt::Question question{
      bias,
      preferred[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK],
      preferred[CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES],
      attributes(d).of[CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET],
      {preferred[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], preferred[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES],
       preferred[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES], preferred[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES]}};
  cublaslt().questions.push_back(question);
  for (const std::uint64_t algorithm : cublaslt().offered) {
    if (*count == most) break;
    cublasLtMatmulHeuristicResult_t& result = results[(*count)++];
    result = {};
    result.state = cublaslt().unsupported.contains(algorithm) ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    result.algo.data[simt::kName] = algorithm;
    result.algo.data[simt::kSeal] = ~algorithm;
    std::copy(question.aligned.begin(), question.aligned.end(), result.algo.data + simt::kAlignedA);
    const auto address = reinterpret_cast<std::uintptr_t>(bias);
    result.algo.data[simt::kAlignedBias] = address & ~(address - 1);
  }
  const cublasStatus_t status = *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
  if (const auto meanwhile = std::exchange(cublaslt().meanwhile, nullptr)) meanwhile();
  return status;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  const std::uint64_t name = algorithm->data[simt::kName];
  result->workspaceSize = simt::workspace_needed(name);
  return !simt::was_offered(*algorithm) || cublaslt().refused.contains(name) ? CUBLAS_STATUS_NOT_SUPPORTED
                                                                             : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const auto& of = attributes(operation).of;
  const simt::FakeCublasLt::Product product{algorithm->data[simt::kName], simt::bias_of(operation), workspace,
                                            workspace_bytes, stream};
  const bool with_bias = of[CUBLASLT_MATMUL_DESC_EPILOGUE] == CUBLASLT_EPILOGUE_BIAS;
  const simt::Multiplication multiplication{{a, layout_a},
                                            {b, layout_b},
                                            {c, layout_c},
                                            {d, layout_d},
                                            of[CUBLASLT_MATMUL_DESC_TRANSA] == CUBLAS_OP_T,
                                            of[CUBLASLT_MATMUL_DESC_TRANSB] == CUBLAS_OP_T,
                                            *static_cast<const float*>(alpha),
                                            *static_cast<const float*>(beta),
                                            with_bias ? product.bias : nullptr,
                                            workspace,
                                            workspace_bytes};
  cublaslt().tried.insert(product.algorithm);
  if (cublaslt().failing.contains(product.algorithm)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const std::uint64_t bias_type = of[CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE],
                      type = attributes(layout_d).of[CUBLASLT_MATRIX_LAYOUT_TYPE];
  if (!simt::was_offered(*algorithm) || !multiplication.valid(*algorithm) ||
      of[CUBLASLT_MATMUL_DESC_COMPUTE_TYPE] != CUBLAS_COMPUTE_32F ||
      of[CUBLASLT_MATMUL_DESC_SCALE_TYPE] != CUDA_R_32F || (bias_type != simt::kTypeOfD && bias_type != type) ||
      (with_bias && product.bias == nullptr))
    return CUBLAS_STATUS_INVALID_VALUE;
  const std::function<void()> work = [=] {
    if (cublaslt().slow.contains(product.algorithm)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    multiplication.run();
  };
  const cudaError_t error = simt::perform(stream, [=] {
    simt::run_library(work);
    cublaslt().products.push_back(product);
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
