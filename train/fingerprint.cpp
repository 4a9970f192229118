#include "train/fingerprint.h"

#include <fmt/format.h>

#include <vector>

namespace ember {
namespace {

void add(Digest& digest, const Dataset& dataset) {
  digest.add(std::span(std::as_const(dataset.token_ids)));
  digest.add(std::span(std::as_const(dataset.offsets)));
  digest.add(std::span(std::as_const(dataset.label_ids)));
  digest.add(std::span(std::as_const(dataset.label_offsets)));
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

std::string model_fingerprint(const BertConfig& config, const BertWeights& weights, Kernels& kernels) {
  Digest digest;
  const std::string text = config_json(config);
  digest.add(text.data(), text.size());
  std::vector<float> values;
  for (const Parameter& parameter : weights.list) {
    values.resize(static_cast<std::size_t>(parameter.value.size()));
    kernels.download(values.data(), parameter.value.data, values.size() * sizeof(float));
    digest.add(std::span<const float>(values));
  }
  return digest.hex();
}

}  // namespace ember
