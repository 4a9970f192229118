// train/saver.h on the CPU, whose weights are written at once; simt_saving_test has it write copies.
#include "train/saver.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/train/tiny_run.h"

namespace ember {
namespace {

TEST(Saver, WritesAtOnceOnTheCpu) {
  const BertConfig config;
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  Saver saver(config, *kernels);
  const BertWeights* const sets[] = {nullptr};
  bool written = false;
  saver.save(sets, [&](Saver::Sets saved, Kernels& of) { written = saved.data() == sets && &of == kernels.get(); });
  EXPECT_TRUE(written) << "not at once, or a copy";
  EXPECT_THROW(saver.save(sets, [](Saver::Sets, Kernels&) { throw std::runtime_error("full"); }), std::runtime_error);
  saver.check();
  saver.finish();
}

}  // namespace
}  // namespace ember
