// Folders that are another run's, or nobody's.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/train/trainer_fixture.h"
#include "train/output_folder.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using TrainerFolderTest = testing::TrainerTest;

TEST_F(TrainerFolderTest, DoesNotWriteOverARun) {
  TrainOptions o = options("out");
  run(o);
  const std::string before = model(o.out);
  EXPECT_NE(complaint(o).find("--resume"), std::string::npos);
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
  EXPECT_NE(complaint(o).find("--epochs"), std::string::npos);
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

TEST_F(TrainerFolderTest, LeavesForeignModelsAlone) {
  TrainOptions o = options("out");
  run(o);
  fs::remove_all(o.out / "checkpoints");
  fs::remove(o.out / "metrics.jsonl");
  o.resume = true;
  EXPECT_NE(complaint(o), "");
  o = options("fine"), o.out = o.model;
  EXPECT_NE(complaint(o).find("--model"), std::string::npos);
  o.overwrite = true;
  EXPECT_NE(complaint(o).find("--model"), std::string::npos);
  fs::create_directory_symlink(o.out, scratch / "link");
  o.model = scratch / "link";
  EXPECT_NE(complaint(o).find("is the folder of --model"), std::string::npos) << complaint(o);
}

TEST_F(TrainerFolderTest, LeavesForeignFilesAlone) {
  for (const std::string name : {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json",
                                 "added_tokens.json", "model.safetensors.index.json", "pytorch_model.bin"}) {
    TrainOptions o = options(name + ".folder");
    fs::create_directories(o.out);
    std::ofstream(o.out / name) << "precious";
    EXPECT_NE(complaint(o).find(": holds " + name), std::string::npos) << complaint(o);
    o.resume = true;
    EXPECT_NE(complaint(o).find(": holds " + name + " but no metrics.jsonl"), std::string::npos) << complaint(o);
    EXPECT_EQ(read_file(o.out / name), "precious");
    EXPECT_FALSE(fs::exists(o.out / "metrics.jsonl"));
  }
  TrainOptions o = options("with a log");
  fs::create_directories(o.out);
  std::ofstream(o.out / "metrics.jsonl") << "precious";
  EXPECT_NE(complaint(o).find(": holds metrics.jsonl"), std::string::npos) << complaint(o);
  EXPECT_EQ(read_file(o.out / "metrics.jsonl"), "precious");
  for (const std::string name : {"tokenizer.json", "added_tokens.json"}) {
    o = options(name + ".folder");
    o.overwrite = true;
    run(o, 1);
    EXPECT_FALSE(fs::exists(o.out / name)) << "transformers would read it beside the run's own";
  }
}

TEST_F(TrainerFolderTest, OneRunAtATimeInAFolder) {
  TrainOptions o = options("out");
  fs::create_directory(o.out);
  const int other = ::open(o.out.c_str(), O_RDONLY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  EXPECT_NE(complaint(o).find("another train"), std::string::npos);
  ::close(other);
  EXPECT_EQ(complaint(o), "");
}

}  // namespace
}  // namespace ember
