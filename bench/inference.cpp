#include "bench/inference.h"

#include <chrono>

#include "bench/statistics.h"

namespace ember {
namespace {

using Clock = std::chrono::steady_clock;

double predict_all(Classifier& classifier, const std::vector<std::string>& texts, Scores& scores) {
  const Clock::time_point start = Clock::now();
  if (texts.size() == 1)
    classifier.predict(texts.front(), scores);
  else
    classifier.predict(texts);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

InferenceResult time_predictions(Classifier& classifier, const std::vector<std::string>& texts, int repetitions,
                                 double seconds) {
  InferenceResult result;
  result.count = static_cast<std::int64_t>(texts.size());
  Scores scores;
  predict_all(classifier, texts, scores);
  for (int r = 0; r < repetitions; ++r) {
    std::vector<double> calls;
    for (double passed = 0; calls.empty() || passed < seconds; passed += calls.back())
      calls.push_back(predict_all(classifier, texts, scores));
    result.repetitions.push_back(median(calls));
  }
  return result;
}

}  // namespace ember
