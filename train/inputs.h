// What a run reads before it writes anything.
#pragma once

#include <string>
#include <vector>

#include "data/dataset.h"
#include "model/hugging_face.h"
#include "train/options.h"

namespace ember {

struct TrainingInputs {
  Labels labels;
  LoadedModel model;
  Dataset train, dev;
  std::vector<std::string> notes;  // what the user should know: rows skipped, bytes replaced, texts cut
};

// Reads and tokenises everything. Error as the readers of data/ and model/ report it, or when --max-length exceeds the
// model's positions.
TrainingInputs load_inputs(const TrainOptions& options, Kernels& kernels);

// What the user should know of starting weights: which were drawn afresh, how many are of no use.
std::vector<std::string> notes_on(const LoadReport& report);

}  // namespace ember
