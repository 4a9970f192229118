// The flags that predict and evaluate share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/kernels.h"

namespace ember {

struct ModelOptions {
  std::string directory;
  std::string precision_name = "fp32";
  std::optional<std::int64_t> max_length;
  int threads = 0;

  Precision precision() const { return precision_named(precision_name); }
};

void add_model_options(CLI::App& app, ModelOptions& options);

// Error unless --threshold is a number from 0 to 1.
void check_threshold(double threshold);

}  // namespace ember
