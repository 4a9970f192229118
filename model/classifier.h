// The public interface: load a fine-tuned model directory, give texts, get scores.
//
//   ember::Classifier classifier("out");
//   const std::int32_t joy = classifier.labels().find("joy");
//   for (const ember::Scores& scores : classifier.predict(texts)) use(scores.probabilities[joy]);
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/examples.h"
#include "kernels/kernels.h"

namespace ember {

// What a model says of one text; element k belongs to labels().name(k).
struct Scores {
  std::vector<float> probabilities;  // sigmoid of the logits
  std::vector<float> logits;
};

struct ClassifierOptions {
  // Tokens of a text that count, [CLS] and [SEP] included; without: as many as in training (model_max_length of
  // tokenizer_config.json), or the model's positions where they are fewer or nothing is stated.
  std::optional<std::int64_t> max_length = std::nullopt;
  // 0: as many as there are processors, or as a container's quota allows (runtime/shares.h). Those of libgomp wait for
  // each other by spinning: where other threads want the processors too, take one, or start the program with
  // OMP_WAIT_POLICY=passive.
  int threads = 0;
  Precision precision = Precision::fp32;
};

// One classifier serves one thread at a time. A process that is forked after predict() on several threads cannot
// predict on several: OpenMP's are not in it, and it would wait for them for ever. Before the first predict(), or with
// one thread, it can.
class Classifier {
 public:
  // Error as load_hugging_face reports it; also for a model without a trained pooler, a max_length that is below 2 or
  // above the model's positions, and a precision that the CPU lacks.
  explicit Classifier(const std::filesystem::path& directory, const ClassifierOptions& options = {});
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;
  ~Classifier();

  const Labels& labels() const;
  std::int64_t max_length() const;  // in effect
  std::int64_t cut() const;         // texts so far that had more tokens
  // Scores in the order of the texts. Texts are packed without padding into batches of bounded size; the scores of a
  // text do not depend on its neighbours beyond rounding. Bytes that are not UTF-8 count as U+FFFD, which the tokenizer
  // drops. Error when damaged weights give a score that is not finite.
  std::vector<Scores> predict(std::span<const std::string> texts);
  Scores predict(std::string_view text);
  // Into `scores`, whose memory is used again: without any allocation once a text as long has been scored.
  void predict(std::string_view text, Scores& scores);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ember
