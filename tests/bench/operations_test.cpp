// That no method of Kernels lacks a benchmark, and that every benchmark can be called again and again.
#include "bench/operations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <regex>
#include <set>
#include <stdexcept>

#include "bench/shapes.h"
#include "runtime/file.h"
#include "tests/support.h"

namespace ember {
namespace {

// The names of the virtual methods of class Kernels in the text of its header. std::logic_error without that class.
std::vector<std::string> kernel_methods(std::string_view header) {
  const std::size_t begin = header.find("class Kernels {");
  if (begin == std::string_view::npos) throw std::logic_error("no class Kernels in the header");
  std::string text(header.substr(begin, header.find("\n};", begin) - begin));
  text = std::regex_replace(text, std::regex("//[^\n]*"), "");
  // virtual <type> <name>(
  static const std::regex method(R"(\bvirtual\s+[\w:<>&*,\s]*?([a-z]\w*)\s*\()");
  std::vector<std::string> names;
  for (std::sregex_iterator match(text.begin(), text.end(), method), end; match != end; ++match)
    names.push_back((*match)[1]);
  return names;
}

// Methods that compute nothing of a step, hence have no benchmark.
const std::set<std::string>& methods_without_benchmark() {
  static const std::set<std::string> names{
      "device_name",
      "activation_type",
      "product_type",
      "on_host",
      "tokens_at_once",
      "most_head_columns",
      "defers_gradients",  // what the device is
      "allocate",
      "upload",
      "download",
      "make_readback",  // its memory
      "record",         // how work is given to it
      "batch_shape",    // arithmetic of the host
      "choices",
      "use_choices",       // what was chosen by measurement
      "finish_gradients",  // within every backward
      "start_gradients",   // the same, begun earlier
      "defers_updates",
      "await_updates",  // within start_updates
      "freeze",
      "thaw",  // once when a model is loaded; what they are for is linear_forward:frozen_*
  };
  return names;
}

// The methods of `header` that are neither there nor in `measured`.
std::vector<std::string> methods_not_measured(std::string_view header, const std::set<std::string>& measured) {
  std::vector<std::string> missing;
  for (const std::string& name : kernel_methods(header))
    if (!measured.contains(name) && !methods_without_benchmark().contains(name)) missing.push_back(name);
  return missing;
}

std::set<std::string> measured_methods() {
  std::set<std::string> methods;
  for (const Operation& operation : all_operations()) methods.insert(operation.method);
  return methods;
}

std::string header() {
  return read_file(testing::source_dir() / "kernels" / "kernels.h");
}

TEST(KernelMethods, EveryOperationHasABenchmark) {
  EXPECT_EQ(methods_not_measured(header(), measured_methods()), std::vector<std::string>{});
}

TEST(KernelMethods, EveryNameIsAMethod) {
  const std::vector<std::string> list = kernel_methods(header());
  const std::set<std::string> methods(list.begin(), list.end());
  for (const std::string& name : measured_methods()) EXPECT_TRUE(methods.contains(name)) << name;
  for (const std::string& name : methods_without_benchmark()) EXPECT_TRUE(methods.contains(name)) << name;
  EXPECT_TRUE(methods.contains("attention_backward"));
  EXPECT_TRUE(methods.contains("on_host"));
}

// Written in every way that the header has, and some that it has not.
constexpr const char* kHeader = R"(
class Other {
  virtual void elsewhere(int) = 0;
};
class Kernels {
 public:
  virtual ~Kernels() = default;
  // virtual void in_a_comment() = 0;
  virtual std::string device_name() const = 0;
  virtual Buffer allocate(std::size_t bytes) = 0;  // virtual too
  virtual void gelu_forward(Tensor out, Tensor in,
                            Tensor bias) = 0;
  virtual void
  new_operation(Tensor out) = 0;
  virtual std::vector<std::pair<int, float>> pairs_of(std::span<const Tensor> list) { return {}; }
  virtual const Tensor* pointer(Tensor) = 0;
  void not_virtual();
};
class After {
  virtual void later() = 0;
};
)";

TEST(KernelMethods, ReadsTheHeader) {
  EXPECT_EQ(kernel_methods(kHeader), (std::vector<std::string>{"device_name", "allocate", "gelu_forward",
                                                               "new_operation", "pairs_of", "pointer"}));
  EXPECT_THROW(kernel_methods("class Something {\n};\n"), std::logic_error);
}

TEST(KernelMethods, AGapIsFound) {
  EXPECT_EQ(methods_not_measured(kHeader, {"gelu_forward"}),
            (std::vector<std::string>{"new_operation", "pairs_of", "pointer"}));
  EXPECT_EQ(methods_not_measured(kHeader, {"gelu_forward", "new_operation", "pairs_of", "pointer"}),
            std::vector<std::string>{});
  // The real header against a registry that lacks one.
  std::set<std::string> fewer = measured_methods();
  ASSERT_EQ(fewer.erase("adamw_replay"), 1u);
  EXPECT_EQ(methods_not_measured(header(), fewer), std::vector<std::string>{"adamw_replay"});
}

TEST(Operations, NamesAreDifferent) {
  std::set<std::string> names;
  for (const Operation& operation : all_operations())
    EXPECT_TRUE(names.insert(operation.name()).second) << operation.name();
}

// A model that is quickly computed.
Problem small_problem() {
  BertConfig model = model_shape("tinybert");
  model.vocabulary = 1200, model.hidden = 64, model.layers = 2, model.heads = 2, model.ffn = 96, model.positions = 48;
  return {model, synthetic_texts(lengths_of_tokens(60), model.vocabulary, model.label_count())};
}

class Calls : public ::testing::TestWithParam<Precision> {};

TEST_P(Calls, EveryOperationRunsAgainAndAgain) {
  const auto make = []() -> std::unique_ptr<Kernels> {
    try {
      return make_cpu_kernels(GetParam(), 2);
    } catch (const Error&) {
      return nullptr;
    }
  };
  const auto kernels = make();
  if (kernels == nullptr) GTEST_SKIP() << "this processor does not compute in bf16";
  const Problem problem = small_problem();
  for (const Operation& operation : all_operations()) {
    if (!applies(operation, *kernels)) continue;
    SCOPED_TRACE(operation.name());
    Workspace workspace(*kernels, problem);
    const Prepared prepared = operation.prepare(workspace);
    for (int i = 0; i < 3; ++i) {
      if (prepared.reset) prepared.reset();
      ASSERT_NO_THROW(prepared.call());
    }
    EXPECT_GT(prepared.work.bytes, 0);
    EXPECT_TRUE(std::isfinite(prepared.work.flop) && prepared.work.flop >= 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, Calls, ::testing::Values(Precision::fp32, Precision::bf16, Precision::int8),
                         [](const auto& info) {
                           return info.param == Precision::fp32   ? "fp32"
                                  : info.param == Precision::bf16 ? "bf16"
                                                                  : "int8";
                         });

// In one place the least traffic is known otherwise: the operands' own sizes.
TEST(Operations, BytesAreThoseOfTheOperands) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Problem problem = small_problem();
  for (const Operation& operation : linear_operations()) {
    if (operation.name() != "linear_forward:ffn_in") continue;
    Workspace workspace(*kernels, problem);
    const double n = 60, c = 64, f = 96;
    EXPECT_DOUBLE_EQ(operation.prepare(workspace).work.bytes, 4 * (n * c + f * c + n * f));
    EXPECT_DOUBLE_EQ(operation.prepare(workspace).work.flop, 2 * n * c * f);
    return;
  }
  FAIL() << "linear_forward:ffn_in is not there";
}

}  // namespace
}  // namespace ember
