// Folders that are another run's, or nobody's.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "kernels/cpu/cpu_kernels.h"
#include "tests/train/trainer_fixture.h"
#include "train/output_folder.h"

namespace {
bool there_are_locks = true;
}

// The whole program's.
extern "C" int flock(int file, int operation) noexcept {
  if (there_are_locks) return static_cast<int>(syscall(SYS_flock, file, operation));
  errno = ENOLCK;
  return -1;
}

namespace ember {
namespace {

namespace fs = std::filesystem;
using TrainerFolderTest = testing::TrainerTest;

// A device whose memory does not do for a step.
struct SmallKernels final : CpuKernels {
  SmallKernels() : CpuKernels(Precision::fp32, 1) {}
  void gradient_norm(StepState*, std::span<const Tensor>) override { fail("no memory"); }
};

TEST_F(TrainerFolderTest, TheModelThatIsThereStaysUntilAStepIsDone) {
  TrainOptions o = options("out");
  run(o);
  const std::string before = model(o.out), log = read_file(o.out / "metrics.jsonl");
  o.overwrite = true, o.recipe.seed = 5;
  SmallKernels small;
  testing::OverflowingKernels overflowing;
  for (const auto& [kernels, said] : {std::pair<CpuKernels*, const char*>{&small, "no memory"},
                                      {&overflowing, "step 1: the gradient is not finite"}}) {
    EXPECT_CONTAINS(testing::error_of([&] { train(o, *kernels, Progress::Style::silent, [] { return 0; }); }), said);
    EXPECT_EQ(model(o.out), before);
    EXPECT_EQ(read_file(o.out / "metrics.jsonl"), log);
    EXPECT_TRUE(fs::exists(o.out / "checkpoints/step-48/state.json"));
  }
}

TEST_F(TrainerFolderTest, DoesNotWriteOverARun) {
  TrainOptions o = options("out");
  run(o);
  const std::string before = model(o.out);
  EXPECT_CONTAINS(complaint(o), "--resume");
  EXPECT_EQ(model(o.out), before);
  o.overwrite = true, o.recipe.seed = 5;
  run(o);
  EXPECT_NE(model(o.out), before);
  EXPECT_EQ(events(o.out, "end").size(), 1u);
}

TEST_F(TrainerFolderTest, OverwritesOnlyForARunThatCanBe) {
  TrainOptions o = options("out");
  run(o);
  const std::string before = model(o.out), log = read_file(o.out / "metrics.jsonl");
  o.overwrite = true, o.recipe.epochs = 1 << 30;
  EXPECT_CONTAINS(complaint(o), "--epochs");
  EXPECT_EQ(model(o.out), before);
  EXPECT_EQ(read_file(o.out / "metrics.jsonl"), log);
  EXPECT_TRUE(fs::exists(o.out / "checkpoints/step-48"));
}

// Two that start at the same time, neither of which finds the other there.
TEST_F(TrainerFolderTest, AFolderThatWasMadeMeanwhileIsAnothers) {
  const TrainOptions o = options("out");
  OutputFolder late(o);
  run(o);
  const std::string before = model(o.out);
  EXPECT_THROW(late.prepare(), Error);
  EXPECT_EQ(model(o.out), before);
  EXPECT_TRUE(fs::exists(o.out / "checkpoints/step-48"));
}

TEST_F(TrainerFolderTest, AFolderThatWasMadeMeanwhileIsOverwrittenIfTold) {
  TrainOptions o = options("out");
  o.overwrite = true;
  OutputFolder late(o);
  run(o);
  late.prepare();
  EXPECT_TRUE(fs::exists(o.out / "model.safetensors")) << "before clear()";
}

// A run that is killed before its first evaluation leaves none of another's.
TEST_F(TrainerFolderTest, OverwritingLeavesNothingOfTheRunBefore) {
  TrainOptions o = options("out");
  run(o);
  o.overwrite = true;
  OutputFolder folder(o);
  folder.prepare();
  folder.clear();
  for (const char* name : {"model.safetensors", "metrics.jsonl", "checkpoints/step-48", "checkpoints/step-32"})
    EXPECT_FALSE(fs::exists(o.out / name)) << name;
}

TEST_F(TrainerFolderTest, WhatCannotBeOverwrittenIsNamed) {
  TrainOptions o = options("out");
  o.overwrite = true;
  fs::create_directories(o.out / "model.safetensors" / "mine");
  EXPECT_EQ(complaint(o), (o.out / "model.safetensors").string() + ": cannot be removed: Directory not empty");
}

TEST_F(TrainerFolderTest, LeftoversOfKilledRunsAreRemoved) {
  TrainOptions o = options("out");
  run(o, 1);
  const fs::path leftover = o.out / ".model.safetensors.77.partial";
  std::ofstream(leftover) << "half";
  o.resume = true;
  run(o, 1);
  EXPECT_FALSE(fs::exists(leftover));
}

TEST_F(TrainerFolderTest, ResumingSaysWhereThereIsNoCheckpoint) {
  using Notes = std::vector<std::string>;
  TrainOptions o = options("out");
  const Notes fresh{o.out.string() + " holds no checkpoint: starting from the beginning"};
  for (const char* state : {"absent", "empty"}) {
    o.resume = false;
    EXPECT_EQ(OutputFolder(o).notes(), Notes()) << state;
    o.resume = true;
    EXPECT_EQ(OutputFolder(o).notes(), fresh) << state;
    fs::create_directories(o.out);
  }
}

TEST_F(TrainerFolderTest, LeavesForeignModelsAlone) {
  TrainOptions o = options("out");
  run(o);
  fs::remove_all(o.out / "checkpoints");
  fs::remove(o.out / "metrics.jsonl");
  o.resume = true;
  EXPECT_NE(complaint(o), "");
  o = options("fine"), o.out = o.model;
  EXPECT_CONTAINS(complaint(o), "--model");
  o.overwrite = true;
  EXPECT_CONTAINS(complaint(o), "--model");
  fs::create_directory_symlink(o.out, scratch / "link");
  o.model = scratch / "link";
  EXPECT_CONTAINS(complaint(o), "is the folder of --model");
}

TEST_F(TrainerFolderTest, LeavesForeignFilesAlone) {
  for (const std::string name :
       {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "added_tokens.json",
        "adapter_config.json", "model.safetensors.index.json", "pytorch_model.bin"}) {
    TrainOptions o = options(name + ".folder");
    fs::create_directories(o.out);
    std::ofstream(o.out / name) << "precious";
    EXPECT_CONTAINS(complaint(o), ": holds " + name);
    o.resume = true;
    EXPECT_CONTAINS(complaint(o), ": holds " + name + " but no metrics.jsonl");
    EXPECT_EQ(read_file(o.out / name), "precious");
    EXPECT_FALSE(fs::exists(o.out / "metrics.jsonl"));
  }
  TrainOptions o = options("with a log");
  fs::create_directories(o.out);
  std::ofstream(o.out / "metrics.jsonl") << "precious";
  EXPECT_CONTAINS(complaint(o), ": holds metrics.jsonl");
  EXPECT_EQ(read_file(o.out / "metrics.jsonl"), "precious");
  o = options("with checkpoints");
  fs::create_directories(o.out / "checkpoints");
  EXPECT_CONTAINS(complaint(o), ": holds checkpoints");
  for (const std::string name : {"tokenizer.json", "added_tokens.json", "adapter_config.json"}) {
    o = options(name + ".folder");
    o.overwrite = true;
    run(o, 1);
    EXPECT_FALSE(fs::exists(o.out / name)) << "transformers would read it beside the run's own";
  }
}

TEST_F(TrainerFolderTest, APathThatLeadsNowhereIsNamed) {
  TrainOptions o = options("loop");
  fs::create_symlink(o.out, o.out);
  EXPECT_EQ(complaint(o), "--out " + o.out.string() + ": Too many levels of symbolic links");
}

TEST_F(TrainerFolderTest, OneRunAtATimeInAFolder) {
  TrainOptions o = options("out");
  fs::create_directory(o.out);
  const int other = ::open(o.out.c_str(), O_RDONLY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  EXPECT_CONTAINS(complaint(o), "another train");
  EXPECT_THROW(OutputFolder{o}, Error) << "before it reads what the other writes";
  ::close(other);
  EXPECT_EQ(complaint(o), "");
}

TEST_F(TrainerFolderTest, AFileSystemMayHaveNoLocks) {
  there_are_locks = false;
  const std::string message = complaint(options("out"));
  there_are_locks = true;
  EXPECT_EQ(message, "");
}

TEST_F(TrainerFolderTest, AFolderIsARunsFromWhenItIsMade) {
  TrainOptions o = options("out");
  OutputFolder one(o);
  one.prepare();
  o.resume = true;
  EXPECT_EQ(testing::error_of([&] { OutputFolder{o}; }), o.out.string() + ": another train is writing there");
}

}  // namespace
}  // namespace ember
