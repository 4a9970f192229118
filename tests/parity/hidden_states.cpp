// hidden_states MODEL < TEXTS: the encoder's last hidden state of every line of standard input (128 tokens at most), as
// an int32 number of tokens N and N x hidden floats. For minilm.py.
#include <cstdio>
#include <iostream>
#include <string>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "model/batches.h"
#include "model/hugging_face.h"
#include "tests/model/layer_outputs.h"

int main(int argc, char** argv) {
  using namespace ember;
  if (argc != 2) return 2;
  testing::WatchedKernels kernels(1);
  const LoadedModel model = load_hugging_face(argv[1], kernels);
  const Tokenizer tokenizer(model.tokenizer);
  const testing::DeepenedModel deeper = testing::deepened(model.config, model.weights, kernels);
  for (std::string line; std::getline(std::cin, line);) {
    Dataset dataset;
    dataset.append(tokenizer.encode(line, 128), {});
    Batches batches(kernels, model.config, dataset, Batches::Targets::none);
    const Batch batch = batches.next(1);
    const std::vector<float> state = testing::layer_outputs(deeper, kernels, batch).back();
    const auto tokens = static_cast<std::int32_t>(batch.tokens);
    std::fwrite(&tokens, sizeof tokens, 1, stdout);
    std::fwrite(state.data(), sizeof(float), state.size(), stdout);
  }
  return 0;
}
