// The public interface: load a fine-tuned model directory, give texts, get scores.
//
//   ember::Classifier classifier("out");
//   for (const ember::Scores& scores : classifier.predict(texts)) ... scores.probabilities[classifier.labels().find("joy")]
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/examples.h"
#include "kernels/kernels.h"

namespace ember {

struct Scores {
  std::vector<float> probabilities;  // one per label, sigmoid of its logit
  std::vector<float> logits;
};

struct ClassifierOptions {
  std::int64_t max_length = 128;  // tokens of a text that count, [CLS] and [SEP] included
  int threads = 0;                // 0: all
  Precision precision = Precision::fp32;
};

// One classifier serves one thread at a time.
class Classifier {
 public:
  // Error as load_hugging_face reports it.
  explicit Classifier(const std::filesystem::path& directory, const ClassifierOptions& options = {});
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;
  ~Classifier();

  const Labels& labels() const;
  // Scores in the order of the texts. Texts are packed without padding into batches of bounded size; the scores of a
  // text do not depend on its neighbours beyond rounding.
  std::vector<Scores> predict(std::span<const std::string> texts);
  Scores predict(std::string_view text);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ember
