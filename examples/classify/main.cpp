// The three likeliest emotions of each argument: classify MODEL_DIRECTORY TEXT...
#include <algorithm>
#include <cstdio>
#include <exception>
#include <numeric>
#include <string>
#include <vector>

#include "model/classifier.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: classify MODEL_DIRECTORY TEXT...\n");
    return 2;
  }
  try {
    ember::Classifier classifier(argv[1]);
    const std::vector<std::string> texts(argv + 2, argv + argc);
    const std::vector<ember::Scores> scores = classifier.predict(texts);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::vector<float>& p = scores[i].probabilities;
      std::vector<std::int32_t> ids(p.size());
      std::iota(ids.begin(), ids.end(), 0);
      std::stable_sort(ids.begin(), ids.end(), [&](auto a, auto b) { return p[a] > p[b]; });
      std::printf("%s\n", texts[i].c_str());
      for (std::size_t rank = 0; rank < std::min<std::size_t>(3, ids.size()); ++rank)
        std::printf("  %s %.2f\n", classifier.labels().name(ids[rank]).c_str(), p[ids[rank]]);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "classify: %s\n", error.what());
    return 2;
  }
}
