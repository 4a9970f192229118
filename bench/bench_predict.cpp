// How long Classifier::predict takes on TinyBERT's shape with random weights, tokenisation included: one text of a
// given number of tokens on one thread, and many texts at once.
//   build/bench/bench_predict --benchmark_repetitions=9 --benchmark_report_aggregates_only
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "model/classifier.h"
#include "model/hugging_face.h"
#include "runtime/file.h"

namespace {

namespace fs = std::filesystem;

// A model directory of TinyBERT's shape, removed at the end.
class RandomModel {
 public:
  RandomModel() {
    std::string pattern = (fs::temp_directory_path() / "ember-bench-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    ember::BertConfig config;
    for (int i = 0; i < 28; ++i) config.labels.push_back("emotion " + std::to_string(i));
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (std::int64_t i = 5; i < config.vocabulary; ++i) vocabulary += "word" + std::to_string(i) + "\n";
    ember::write_file_atomically(path_ / "vocab.txt", vocabulary);
    ember::write_file_atomically(path_ / "config.json", ember::config_json(config));
    const auto kernels = ember::make_cpu_kernels();
    ember::LoadOptions options;
    options.labels = ember::Labels(config.labels);
    options.from_scratch = true;
    const ember::LoadedModel model = ember::load_hugging_face(path_, *kernels, options);
    ember::save_hugging_face(path_, model.config, model.weights, *kernels, {path_ / "vocab.txt", true});
  }
  ~RandomModel() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

const fs::path& model_path() {
  static const RandomModel model;
  return model.path();
}

// `tokens` of them with [CLS] and [SEP].
std::string text(std::int64_t tokens, std::int64_t seed) {
  std::string result;
  for (std::int64_t i = 0; i < tokens - 2; ++i)
    result += "word" + std::to_string(5 + (seed * 7919 + i * 104729) % 30000) + " ";
  return result;
}

void one_text(benchmark::State& state) {
  ember::Classifier classifier(model_path(), {.threads = 1});
  const std::string input = text(state.range(0), 1);
  for (auto _ : state) benchmark::DoNotOptimize(classifier.predict(input));
}
BENCHMARK(one_text)->Arg(8)->Arg(20)->Arg(128)->Unit(benchmark::kMillisecond);

void many_texts(benchmark::State& state) {
  ember::Classifier classifier(model_path(), {.threads = static_cast<int>(state.range(0))});
  std::vector<std::string> inputs;
  for (std::int64_t i = 0; i < 1000; ++i) inputs.push_back(text(6 + i % 30, i));
  for (auto _ : state) benchmark::DoNotOptimize(classifier.predict(inputs));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(inputs.size()));
}
BENCHMARK(many_texts)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
