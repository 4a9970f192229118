// cuBLASLt's handles, owned, and its errors. Inside kernels/cuda/matmul.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <string_view>

namespace ember {

// Like check_cuda (runtime/cuda/check.h) for cuBLASLt.
void check_cublas(cublasStatus_t status, std::string_view doing);

template <auto kDestroy>
struct CublasDestroy {
  template <typename T>
  void operator()(T* handle) const noexcept {
    kDestroy(handle);  // fails on a handle that is none only
  }
};
using CublasHandle = std::unique_ptr<cublasLtContext, CublasDestroy<cublasLtDestroy>>;
using CublasOperation = std::unique_ptr<cublasLtMatmulDescOpaque_t, CublasDestroy<cublasLtMatmulDescDestroy>>;
using CublasLayout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, CublasDestroy<cublasLtMatrixLayoutDestroy>>;
using CublasPreference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, CublasDestroy<cublasLtMatmulPreferenceDestroy>>;

CublasHandle make_cublas_handle();
// f32 sums of f16 products, scaled in f32.
CublasOperation make_cublas_operation(cublasOperation_t a, cublasOperation_t b, cublasLtEpilogue_t epilogue);
// Column-major: element (r, c) at r + c stride.
CublasLayout make_cublas_layout(cudaDataType type, std::int64_t rows, std::int64_t cols, std::int64_t stride);
// `count` matrices, `step` elements from one to the next.
void set_batch(const CublasLayout& layout, std::int64_t count, std::int64_t step);
CublasPreference make_cublas_preference();

template <typename T>
void set(const CublasOperation& operation, cublasLtMatmulDescAttributes_t attribute, T value) {
  check_cublas(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value),
               "describing a matrix product");
}
template <typename T>
void set(const CublasPreference& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
               "choosing an algorithm");
}

}  // namespace ember
