#include "model_options.h"

#include "runtime/error.h"

namespace ember {

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--model", options.directory, "directory of the fine-tuned model")->required()->type_name("DIR");
  app.add_option("--threads", options.threads, "processor threads, 0 for all or as many as a container may use")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--max-length", options.max_length,
                 "tokens of a text that count, [CLS] and [SEP] included (default: the model's model_max_length)")
      ->type_name("N");
  app.add_option("--precision", options.precision_name, "numbers that matrix products read: fp32, bf16 or int8")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->type_name("NAME")
      ->capture_default_str();
}

void check_threshold(double threshold) {
  check(threshold >= 0 && threshold <= 1, "--threshold {}: must be a number from 0 to 1", threshold);
}

}  // namespace ember
