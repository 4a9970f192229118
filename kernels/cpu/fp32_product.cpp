// Products of weights in fp32. With AMX each float is the sum of three bf16, and a product of two floats that of six
// of theirs: the matrix registers multiply bf16 at 10 to 15 times the rate at which AVX-512 multiplies floats.
// Elsewhere they are oneDNN's sgemm, which packs both operands as it goes, and, of weights that are packed once, one of
// our own: for a sentence of twenty tokens packing would cost as much as the product itself. After Goto and van de
// Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 2008), without blocks: the fewer rows there are,
// the better all of them stay in a cache while the panels pass (docs/performance_cpu_inference.md).
#include <algorithm>

#include "kernels/cpu/linear_products.h"
#include "kernels/cpu/pair_product.h"
#include "kernels/cpu/register_tile.h"
#include "kernels/cpu/team.h"

#if !defined(__AMX_BF16__)
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

#include "kernels/require.h"
#endif

namespace ember {
namespace {

#if defined(__AMX_BF16__)
using Unpacked = PairProduct<3>;
#else
// How many threads oneDNN takes: as many as OpenMP gives the thread that calls it, which is not a backend's to keep. As
// long as this lives, `threads`, or as many of them as there can be: sgemm shares a product out before it has its
// threads, and where OpenMP then gives fewer, the shares of the others are left undone without a word.
class LibraryThreads {
 public:
  explicit LibraryThreads(int threads) : before_(omp_get_max_threads()), dynamic_(omp_get_dynamic()) {
    const bool alone = omp_get_active_level() >= omp_get_max_active_levels();
    omp_set_num_threads(alone ? 1 : std::min(threads, omp_get_thread_limit()));
    omp_set_dynamic(0);
  }
  ~LibraryThreads() {
    omp_set_num_threads(before_);
    omp_set_dynamic(dynamic_);
  }
  LibraryThreads(const LibraryThreads&) = delete;
  LibraryThreads& operator=(const LibraryThreads&) = delete;

 private:
  int before_, dynamic_;
};

// Left alone, oneDNN would take what the processor has, not what these kernels are compiled for, and bits would differ
// between processors. False, and nothing done, where the program has used oneDNN before.
bool limit_library() {
#if defined(__AVX512F__)
  return dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core) == dnnl::status::success;
#elif defined(__AVX2__)
  return dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2) == dnnl::status::success;
#else
  return true;
#endif
}

// c = beta c + op(a) op(b), row-major, op(x) = xᵀ where the flag says so.
void sgemm(bool transpose_a, bool transpose_b, Tensor c, Tensor a, Tensor b, float beta, int threads) {
  [[maybe_unused]] static const bool limited = limit_library();
  const LibraryThreads limit(threads);
  const std::int64_t inner = transpose_a ? a.rows : a.cols;
  if (inner == 0) {  // which oneDNN refuses
    for (std::int64_t r = 0; beta == 0 && r < c.rows; ++r) std::fill_n(c.row(r), c.cols, 0.0f);
    return;
  }
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', c.rows, c.cols, inner, 1.0f,
                                          a.f32(), a.stride, b.f32(), b.stride, beta, c.f32(), c.stride);
  require(status == dnnl_success, "oneDNN's sgemm failed");
}

struct Unpacked {
  static void forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch&, int threads) {
    if (!bias.empty())
      parallel_for(out.rows, useful_threads(threads, out.rows, out.size()),
                   [&](std::int64_t r) { std::copy_n(bias.f32(), out.cols, out.row(r)); });
    sgemm(false, true, out, in, weight, bias.empty() ? 0.0f : 1.0f, threads);
  }
  static void backward_input(Tensor din, Tensor dout, Tensor weight, Scratch&, int threads) {
    sgemm(false, false, din, dout, weight, 0.0f, threads);
  }
  static void backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch&, int threads) {
    sgemm(true, false, dweight, dout, in, 0.0f, threads);
  }
};
#endif

// The panels as they are, in fp32: to split one is quick beside multiplying it by many rows.
std::size_t panel_bytes(Tensor weight) {
  return static_cast<std::size_t>(panels(weight.rows) * kTileColumns * weight.cols) * sizeof(float);
}

void pack_panels(void* packed, Tensor weight) {
  auto* panel = static_cast<float*>(packed);
  std::fill_n(panel, panel_bytes(weight) / sizeof(float), 0.0f);
  for (std::int64_t o = 0; o < weight.rows; ++o) {
    float* to = panel + o / kTileColumns * kTileColumns * weight.cols + o % kTileColumns;
    const float* from = weight.row(o);
    for (std::int64_t i = 0; i < weight.cols; ++i) to[i * kTileColumns] = from[i];
  }
}

void panels_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads) {
#if defined(__AMX_BF16__)
  // To split all panels takes longer than to multiply so few rows as floats.
  constexpr std::int64_t kMostInVectors = 80;
  if (out.rows > kMostInVectors) return Unpacked::panels_forward(out, in, packed, bias, scratch, threads);
#else
  static_cast<void>(scratch);
#endif
  const std::int64_t count = panels(out.cols), floats = kTileColumns * in.cols;
  const float* start = bias.empty() ? nullptr : bias.f32();
  parallel_for(count, useful_threads(threads, count, out.rows * out.cols * 8), [&](std::int64_t p) {
    const float* panel = static_cast<const float*>(packed) + p * floats;
    multiply_panel<FloatProduct>(out, start, StridedLeft<float>{in.f32(), in.stride, 1},
                                 {panel, in.cols, panel + floats}, p * kTileColumns, kSumsOutput);
  });
}

}  // namespace

const LinearProducts& fp32_products() {
  static constexpr LinearProducts kProducts{
      Unpacked::forward, Unpacked::backward_input, Unpacked::backward_weight, panel_bytes, pack_panels, panels_forward};
  return kProducts;
}

}  // namespace ember
