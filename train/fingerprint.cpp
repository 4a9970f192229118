#include "train/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "runtime/fnv1a.h"
#include "runtime/shares.h"

namespace ember {
namespace {

void add(Digest& digest, const Dataset& dataset) {
  digest.add(std::span(std::as_const(dataset.token_ids)));
  digest.add(std::span(std::as_const(dataset.offsets)));
  digest.add(std::span(std::as_const(dataset.label_ids)));
  digest.add(std::span(std::as_const(dataset.label_offsets)));
}

// FNV-1a goes byte by byte, about a gigabyte a second; by pieces, several threads share it.
constexpr std::size_t kPiece = std::size_t{1} << 16;  // numbers

std::vector<std::span<const float>> pieces_of(const BertWeights& weights, const HostView& view) {
  std::vector<std::span<const float>> pieces;
  for (const Parameter& parameter : weights.list)
    for (std::span<const float> left = view.of(parameter); !left.empty();) {
      pieces.push_back(left.first(std::min(kPiece, left.size())));
      left = left.subspan(pieces.back().size());
    }
  return pieces;
}

}  // namespace

void Digest::add(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < bytes; ++i) hash_ = fnv1a(hash_, next[i]);
}

std::string Digest::hex() const {
  return fmt::format("{:016x}", hash_);
}

std::string data_fingerprint(const TokenizerSource& tokenizer, const Labels& labels, const Dataset& train,
                             const Dataset& dev) {
  Digest digest;
  const std::string& vocabulary = tokenizer.vocabulary.text();
  digest.add(vocabulary.c_str(), vocabulary.size() + 1);
  digest.add(&tokenizer.lower_case, sizeof tokenizer.lower_case);
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
  const std::vector<std::span<const float>> pieces = pieces_of(weights, view);
  std::vector<std::uint64_t> values(pieces.size());
  in_shares(count_shares(threads, pieces.size(), 1), pieces.size(),
            [&](std::size_t, std::size_t begin, std::size_t end) {
              for (std::size_t i = begin; i < end; ++i) {
                Digest of_piece;
                of_piece.add(pieces[i]);
                values[i] = of_piece.value();
              }
            });
  digest.add(std::span(std::as_const(values)));
  return digest.hex();
}

}  // namespace ember
