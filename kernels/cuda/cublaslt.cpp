#include "kernels/cuda/cublaslt.h"

#include <stdexcept>

#include "runtime/error.h"

namespace ember {

void check_cublas(cublasStatus_t status, std::string_view doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string message =
      fmt::format("cuBLASLt: {}: {} ({})", doing, cublasLtGetStatusString(status), cublasLtGetStatusName(status));
  switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:  // no driver, or none that fits
    case CUBLAS_STATUS_ALLOC_FAILED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
    case CUBLAS_STATUS_EXECUTION_FAILED:
      throw Error(message);
    default:
      throw std::logic_error(message);
  }
}

CublasHandle make_cublas_handle() {
  cublasLtHandle_t handle = nullptr;
  check_cublas(cublasLtCreate(&handle), "starting");
  return CublasHandle(handle);
}

CublasOperation make_cublas_operation(cublasOperation_t a, cublasOperation_t b, cublasLtEpilogue_t epilogue) {
  cublasLtMatmulDesc_t made = nullptr;
  check_cublas(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a matrix product");
  CublasOperation operation(made);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, a);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, b);
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  return operation;
}

CublasLayout make_cublas_layout(cudaDataType type, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(cols), stride),
               "describing a matrix");
  return CublasLayout(layout);
}

void set_batch(const CublasLayout& layout, std::int64_t count, std::int64_t step) {
  const auto matrices = static_cast<std::int32_t>(count);
  check_cublas(
      cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &matrices, sizeof matrices),
      "describing a batch");
  check_cublas(
      cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step),
      "describing a batch");
}

CublasPreference make_cublas_preference() {
  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm");
  return CublasPreference(preference);
}

}  // namespace ember
