#include "tests/simt/cublaslt_fake.h"

#include <cublasLt.h>

#include <array>
#include <cstring>
#include <functional>

#include "simt/grid.h"
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
template <typename Handle, typename Attribute>
cublasStatus_t set(Handle handle, Attribute attribute, const void* value, std::size_t bytes) {
  if (bytes > sizeof(std::uint64_t)) return CUBLAS_STATUS_INVALID_VALUE;
  std::uint64_t& to = attributes(handle).of.at(static_cast<std::size_t>(attribute));
  to = 0;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

const void* bias_of(cublasLtMatmulDesc_t operation) {
  return reinterpret_cast<const void*>(attributes(operation).of[CUBLASLT_MATMUL_DESC_BIAS_POINTER]);
}

// Column by column.
void write_bias(void* d, const Attributes& layout, const void* bias) {
  const std::size_t bytes = layout.of[CUBLASLT_MATRIX_LAYOUT_TYPE] == CUDA_R_32F ? 4 : 2;
  const std::size_t rows = layout.of[CUBLASLT_MATRIX_LAYOUT_ROWS];
  for (std::size_t c = 0; c < layout.of[CUBLASLT_MATRIX_LAYOUT_COLS]; ++c) {
    std::byte* column = static_cast<std::byte*>(d) + c * layout.of[CUBLASLT_MATRIX_LAYOUT_LD] * bytes;
    if (bias == nullptr)
      std::memset(column, 0, rows * bytes);
    else
      std::memcpy(column, bias, rows * bytes);
  }
}

}  // namespace

FakeCublasLt& cublaslt() {
  static FakeCublasLt instance;
  return instance;
}

}  // namespace simt

using simt::attributes;
using simt::cublaslt;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return simt::create(handle);
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return simt::destroy(handle);
}
std::size_t cublasLtGetVersion() {
  return 1;
}
const char* cublasLtGetStatusName(cublasStatus_t) {
  return "a status";
}
const char* cublasLtGetStatusString(cublasStatus_t) {
  return "a failure";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t, cudaDataType) {
  return simt::create(operation);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return simt::destroy(operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  return simt::set(operation, attribute, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t cols, std::int64_t stride) {
  const cublasStatus_t status = simt::create(layout);
  auto& of = attributes(*layout).of;
  of[CUBLASLT_MATRIX_LAYOUT_TYPE] = type, of[CUBLASLT_MATRIX_LAYOUT_ROWS] = rows;
  of[CUBLASLT_MATRIX_LAYOUT_COLS] = cols, of[CUBLASLT_MATRIX_LAYOUT_LD] = static_cast<std::uint64_t>(stride);
  return status;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return simt::destroy(layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  return simt::set(layout, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return simt::create(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return simt::destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  return simt::set(preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  const auto& preferred = attributes(preference).of;
  cublaslt().questions.push_back({simt::bias_of(operation), preferred[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK],
                                  preferred[CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES],
                                  attributes(d).of[CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET]});
  *count = 0;
  for (const std::uint64_t algorithm : cublaslt().offered) {
    if (*count == most) break;
    results[*count] = {};
    results[(*count)++].algo.data[0] = algorithm;
  }
  return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  return cublaslt().refused.contains(algorithm->data[0]) ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void*, const void*,
                              cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t, const void*, const void*,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, std::size_t workspace,
                              cudaStream_t stream) {
  const simt::FakeCublasLt::Product product{algorithm->data[0], simt::bias_of(operation), workspace};
  if (cublaslt().failing.contains(product.algorithm)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const std::function<void()> write = [=, of_d = attributes(layout)] { simt::write_bias(d, of_d, product.bias); };
  const cudaError_t error = simt::perform(stream, [=] {
    simt::run_library(stream, write);
    cublaslt().products.push_back(product);
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
