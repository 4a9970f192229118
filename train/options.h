// What `train` is told: the folders, the recipe, and how the run is watched over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "kernels/kernels.h"

namespace CLI {
class App;
}

namespace ember {

// What makes one evaluation better than another, and with it less loss where that is equal.
enum class Metric { f1_micro, f1_macro, loss };
std::string to_string(Metric metric);

// How often something is done: every so many steps, or at the end of each epoch where `steps` is 0.
struct Every {
  std::int64_t steps = 0;
};
std::string to_string(Every every);

// All that decides how weights move. The values here are the reference experiment's.
struct Recipe {
  static constexpr std::int64_t kMaxLength = 128;

  std::int64_t epochs = 4;
  std::int64_t batch_size = 16;
  double learning_rate = 2e-5;
  double weight_decay = 0.01;
  double warmup_ratio = 0;                 // of all steps
  std::optional<std::int64_t> max_length;  // without: kMaxLength, or the model's positions where those are fewer
  double threshold = 0.5;
  std::uint64_t seed = 42;
  Metric metric = Metric::f1_micro;
};

// The recipe of that name. Error listing the names when there is none.
Recipe preset(const std::string& name);

struct TrainOptions {
  std::filesystem::path model, data, out;
  Recipe recipe;
  std::int64_t early_stopping = 0;  // evaluations without improvement before the run stops; 0: never
  std::int64_t max_steps = 0;       // 0: as many as the epochs have
  Every evaluate, save;
  std::int64_t keep = 2;  // checkpoints
  std::string device = "auto";
  std::string precision = "auto";
  int threads = 0;  // 0: all
  std::string optimizer = "lazy";
  bool graph = true;  // record steps where the device can
  bool resume = false;
  bool overwrite = false;
  bool from_scratch = false;
  bool new_classifier = false;
  bool skip_bad_rows = false;
  bool quiet = false;
};

// Declares the flags on `app`; parsing fills `options`. --preset may stand anywhere: the other flags override it.
void add_options(CLI::App& app, TrainOptions& options);

// Error naming the flag, its value and what it must be. Looks at no file.
void validate(const TrainOptions& options);

// The backend that --device, --precision and --threads ask for. Error when this build or machine has none such. Where
// --device auto passes over a GPU or a driver that is of no use, `note` says why, else it is empty.
std::unique_ptr<Kernels> make_kernels(const TrainOptions& options, std::string& note);

// The flags on which the bits of a run depend, as text, with the device and precision in effect: a run can only be
// resumed with the same ones. --threads is not among them, although another number may change last bits, so that a run
// can move to another machine.
std::map<std::string, std::string> identity(const TrainOptions& options, const Kernels& kernels);

}  // namespace ember
