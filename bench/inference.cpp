#include "bench/inference.h"

#include "bench/statistics.h"
#include "bench/time_call.h"

namespace ember {
namespace {

double predict_all(Classifier& classifier, const std::vector<std::string>& texts, Scores& scores) {
  return seconds_of([&] {
    if (texts.size() == 1)
      classifier.predict(texts.front(), scores);
    else
      classifier.predict(texts);
  });
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
