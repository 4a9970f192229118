// Products of few rows (few_rows_product.h) as they are, with a bias at most.
#include "kernels/cuda/few_rows_product.cuh"

namespace ember {
namespace few_rows {
namespace {

// out = the sums + bias, rounded.
struct Store {
  Rows<__half> out;
  const __half* bias;  // or null

  struct Lane {
    std::uint32_t bias[kFragments] = {};

    __device__ Lane(const Store& to, const LanePlaces& at) {
      if (to.bias != nullptr) at.for_columns([&](int n, int column) { bias[n] = pair_at(to.bias + column); });
    }
    __device__ void ask(const Store&, const LanePlaces&) {}
    __device__ void write(const Store& to, const LanePlaces& at, const float (&d)[kFragments][4]) const {
      at.for_pairs([&](int half, int row, int n, int column) {
        float add[2];
        unpack(add, bias[n]);
        const float x[2] = {d[n][2 * half] + add[0], d[n][2 * half + 1] + add[1]};
        pair_at(to.out[row] + column) = pack(x);
      });
    }
  };
};

}  // namespace
}  // namespace few_rows

bool serves(const FewRowsProduct& p, const DeviceInfo& device) {
  if (!starts_early() || p.out.empty() || p.in.empty() || p.out.dtype != DType::f16) return false;
  if (!vectorises(kTileVector, {p.out, p.in, p.weight}) || (!p.bias.empty() && !vectorises(2, {p.bias}))) return false;
  return few_rows::with_division(
      p, device, [&]<typename Divided>(std::type_identity<Divided>) { return few_rows::at_once<Divided>(p, device); });
}

void run(const FewRowsProduct& p, const few_rows::Launch& on) {
  const few_rows::Store store{rows_of<__half>(p.out),
                              static_cast<const __half*>(p.bias.empty() ? nullptr : p.bias.data)};
  p.transposed ? few_rows::launch_few_rows<true>("few_rows_product", p, store, on)
               : few_rows::launch_few_rows<false>("few_rows_product", p, store, on);
}

}  // namespace ember
