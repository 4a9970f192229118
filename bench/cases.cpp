#include "bench/cases.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/shapes.h"
#include "bench/statistics.h"

namespace ember {
namespace {

struct Shape {
  const char* model;
  std::int64_t tokens;
  bool large;
};

// 20 tokens are one text, 308 a batch of 16, 2,048 about a hundred texts; the operands of 16,384 leave any cache. The
// first of a model is where Extent::model is measured.
constexpr Shape kShapes[] = {
    {"tinybert", 308, false},  {"tinybert", 20, false},    {"tinybert", 2048, false}, {"tinybert", 16384, false},
    {"minilm", 308, false},    {"minilm", 2048, false},    {"minilm", 16384, true},   {"bert-base", 308, false},
    {"bert-base", 2048, true}, {"bert-base", 16384, true},
};
constexpr std::int64_t kOneText = 20;
constexpr const char *kPeakCopy = "peak_copy", *kPeakProduct = "peak_product";

bool first_of_model(const Shape& shape) {
  const auto* first = std::find_if(std::begin(kShapes), std::end(kShapes), [&shape](const Shape& other) {
    return std::string_view(other.model) == shape.model;
  });
  return first->tokens == shape.tokens;
}

bool measured_on(const Operation& operation, const Shape& shape) {
  return operation.extent == Extent::batches || first_of_model(shape);
}

Problem problem_of(const std::string& model, std::int64_t tokens) {
  const BertConfig config = model_shape(model);
  // One text has just that length; a batch the lengths of a data set's.
  const std::vector<std::int64_t> lengths =
      tokens == kOneText ? std::vector<std::int64_t>{tokens} : lengths_of_tokens(tokens);
  return {config, synthetic_texts(lengths, config.vocabulary, config.label_count())};
}

Operation peak(const char* name) {
  return {name, "", Extent::model, false, nullptr};
}

}  // namespace

std::string Case::name() const {
  if (is_peak()) return fmt::format("{}/{}", operation, backend->name());
  return fmt::format("{}/{}/{}/{}/{}", operation, model, tokens, cache == Cache::warm ? "warm" : "cold",
                     backend->name());
}

struct Suite::Entry {
  Case measured;
  Operation operation;
};

// The operands of an entry, which serve every state of the caches.
struct Suite::Ready {
  explicit Ready(const Entry& entry)
      : measured(entry.measured),
        backend(measured.backend),
        problem(problem_of(measured.is_peak() ? "tinybert" : measured.model, std::max(measured.tokens, kOneText))),
        workspace(backend->kernels(), problem, backend->frozen_width()) {
    if (entry.operation.prepare) prepared = entry.operation.prepare(workspace);
    if (entry.operation.method == kPeakCopy) prepared = peak_copy(*backend);
    if (entry.operation.method == kPeakProduct) prepared = peak_product(*backend, workspace);
  }
  bool serves(const Case& other) const {
    return measured.operation == other.operation && measured.model == other.model && measured.tokens == other.tokens &&
           backend == other.backend;
  }

  const Case& measured;
  Backend* backend;
  Problem problem;
  Workspace workspace;
  Prepared prepared;
};

Suite::Suite(std::vector<std::unique_ptr<Backend>> backends, Budget budget, bool large)
    : backends_(std::move(backends)), budget_(budget) {
  const std::vector<Operation> operations = all_operations();
  for (const auto& backend : backends_) add_backend(*backend, operations, large);
}

Suite::~Suite() = default;

void Suite::add_backend(Backend& backend, const std::vector<Operation>& operations, bool large) {
  for (const char* name : {kPeakCopy, kPeakProduct})
    entries_.push_back({{name, "", 0, Cache::warm, &backend, {}, {}}, peak(name)});
  for (const Shape& shape : kShapes) {
    if (shape.large && !large) continue;
    for (const Operation& operation : operations) {
      const bool same_as_fp32 = (backend.name() == "cpu-bf16" && !operation.differs_in_bf16) ||
                                (backend.name() == "cpu-int8" && !operation.frozen);
      if (same_as_fp32 || !measured_on(operation, shape) || !applies(operation, backend.kernels())) continue;
      for (const Cache cache : {Cache::warm, Cache::cold})
        entries_.push_back({{operation.name(), shape.model, shape.tokens, cache, &backend, {}, {}}, operation});
    }
  }
}

std::size_t Suite::size() const {
  return entries_.size();
}

const Case& Suite::at(std::size_t i) const {
  return entries_[i].measured;
}

double Suite::run(std::size_t i) {
  Case& measured = entries_[i].measured;
  if (ready_ == nullptr || !ready_->serves(measured)) {
    ready_.reset();  // before the next one takes its memory
    ready_ = std::make_unique<Ready>(entries_[i]);
  }
  const Prepared& prepared = ready_->prepared;
  measured.work = prepared.work;
  measured.seconds.push_back(time_call(*measured.backend, prepared.call, prepared.reset, measured.cache, budget_));
  return measured.seconds.back();
}

Peaks Suite::peaks(const Backend& backend) const {
  Peaks peaks;
  for (const Entry& entry : entries_) {
    const Case& measured = entry.measured;
    if (!measured.is_peak() || measured.backend != &backend || measured.seconds.empty()) continue;
    const double seconds = median(measured.seconds);
    if (measured.operation == kPeakCopy) peaks.bytes_per_second = measured.work.bytes / seconds;
    if (measured.operation == kPeakProduct) peaks.flop_per_second = measured.work.flop / seconds;
  }
  return peaks;
}

}  // namespace ember
