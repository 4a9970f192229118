#include "train/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "runtime/shares.h"

namespace ember {
namespace {

void add(Digest& digest, const Dataset& dataset) {
  digest.add(std::span(std::as_const(dataset.token_ids)));
  digest.add(std::span(std::as_const(dataset.offsets)));
  digest.add(std::span(std::as_const(dataset.label_ids)));
  digest.add(std::span(std::as_const(dataset.label_offsets)));
}

// FNV-1a goes byte by byte, a second for a gigabyte or two; by pieces, several threads share a parameter.
constexpr std::size_t kPiece = std::size_t{1} << 16;  // numbers

std::uint64_t digest_of(std::span<const float> values, std::size_t piece) {
  Digest digest;
  digest.add(values.subspan(piece * kPiece, std::min(kPiece, values.size() - piece * kPiece)));
  return digest.value();
}

}  // namespace

void Digest::add(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < bytes; ++i) hash_ = (hash_ ^ next[i]) * 0x100000001B3u;
}

std::string Digest::hex() const {
  return fmt::format("{:016x}", hash_);
}

std::string data_fingerprint(const Labels& labels, const Dataset& train, const Dataset& dev) {
  Digest digest;
  for (const std::string& name : labels.names()) digest.add(name.c_str(), name.size() + 1);
  ::ember::add(digest, train);
  ::ember::add(digest, dev);
  return digest.hex();
}

std::string model_fingerprint(const BertConfig& config, const BertWeights& weights, Kernels& kernels, int threads) {
  const HostView view(weights, kernels);
  Digest digest;
  const std::string text = config_json(config);
  digest.add(text.data(), text.size());
  for (const Parameter& parameter : weights.list) {
    const std::span<const float> values = view.of(parameter);
    std::vector<std::uint64_t> pieces((values.size() + kPiece - 1) / kPiece);
    in_shares(count_shares(threads, pieces.size(), 1), pieces.size(),
              [&](std::size_t, std::size_t begin, std::size_t end) {
                for (std::size_t piece = begin; piece < end; ++piece) pieces[piece] = digest_of(values, piece);
              });
    digest.add(std::span(std::as_const(pieces)));
  }
  return digest.hex();
}

}  // namespace ember
