#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>

#include "model/safetensors.h"
#include "runtime/file.h"
#include "tests/record_writes.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

// A model, an optimizer and a state, all with telling values.
class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest()
      : config(testing::tiny_config()),
        kernels(make_cpu_kernels(Precision::fp32, 1)),
        weights(config, *kernels),
        optimizer(config, weights, *kernels, {}, Schedule(1e-3, 0, 100), 100),
        out(scratch / "out") {
    testing::write_tiny_model(scratch / "model");
    tokenizer.vocabulary = read_vocabulary(scratch / "model" / "vocab.txt");
    fs::create_directories(out);
    fill(weights, 1), fill(optimizer.first_moments(), 2), fill(optimizer.second_moments(), 3);
    optimizer.resume({.loss_scale = 8192, .updates = 37, .clean_steps = 12, .skipped = 3});
    state = {40, 2, 8, {32, 2.0, 1.0 / 3, 0.1, 0.2, 0.7}, 1, 0.1 + 0.2, 8};
    identity.flags = {{"--lr", "0.003"}, {"--seed", "42"}};
    identity.data = "0123456789abcdef", identity.model = "fedcba9876543210", identity.device = "cpu (2 threads)";
  }

  void fill(BertWeights& set, std::uint64_t seed) {
    testing::TinyRandom random{seed};
    for (const Parameter& parameter : set.list)
      for (std::int64_t i = 0; i < parameter.value.size(); ++i)
        parameter.value.f32()[i] = static_cast<float>(random.below(1 << 20)) / 3e5f - 1;
  }

  void save(std::int64_t step, std::int64_t keep = 2, const std::string& choices = "") {
    state.step = step;
    state.best.step = std::min(best_step, step);
    StepState step_state = optimizer.read_state();
    step_state.updates = static_cast<std::int32_t>(step) - step_state.skipped;
    save_checkpoint(out,
                    {state, identity, metrics, config, weights, optimizer.first_moments(), optimizer.second_moments(),
                     *kernels, step_state, choices, tokenizer},
                    keep);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(out / "checkpoints")) result.push_back(entry.path().filename());
    std::sort(result.begin(), result.end());
    return result;
  }

  std::string complaint(const RunIdentity& now) {
    return testing::error_of([&] {
      const Checkpoint found = newest_checkpoint(out, notes).value();
      require_same_run(found.identity, found.path, now);
    });
  }

  testing::TemporaryDirectory scratch;
  BertConfig config;
  std::unique_ptr<Kernels> kernels;
  BertWeights weights;
  Optimizer optimizer;
  fs::path out;
  TrainingState state;
  std::int64_t best_step = 32;
  RunIdentity identity;
  std::string metrics = "{\"event\":\"train\"}\n";
  std::vector<std::string> notes;
  TokenizerSource tokenizer;
};

void expect_same_bits(const BertWeights& a, const BertWeights& b) {
  for (std::size_t i = 0; i < a.list.size(); ++i)
    ASSERT_EQ(std::memcmp(a.list[i].value.data, b.list[i].value.data,
                          static_cast<std::size_t>(a.list[i].value.size()) * sizeof(float)),
              0)
        << a.list[i].name;
}

TEST_F(CheckpointTest, GivesBackEveryBit) {
  save(40);
  const Checkpoint checkpoint = newest_checkpoint(out, notes).value();
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(checkpoint.path, out / "checkpoints" / "step-40");
  EXPECT_EQ(checkpoint.state, state);
  EXPECT_EQ(checkpoint.metrics, metrics);
  EXPECT_EQ(checkpoint.identity.device, "cpu (2 threads)");
  EXPECT_EQ(complaint(identity), "");

  BertWeights again(config, *kernels);
  Optimizer other(config, again, *kernels, {}, Schedule(1e-3, 0, 100), 100);
  restore(checkpoint, config, again, other, *kernels);
  expect_same_bits(again, weights);
  expect_same_bits(other.first_moments(), optimizer.first_moments());
  expect_same_bits(other.second_moments(), optimizer.second_moments());
  const StepState stepped = other.read_state();
  EXPECT_EQ(stepped.updates, 37);
  EXPECT_EQ(stepped.skipped, 3);
  EXPECT_EQ(stepped.clean_steps, 12);
  EXPECT_EQ(stepped.loss_scale, 8192);
  other.catch_up();  // nothing is owed
  expect_same_bits(again, weights);
}

TEST_F(CheckpointTest, IsNoneWhereNoneIs) {
  EXPECT_FALSE(newest_checkpoint(out, notes).has_value());
}

TEST_F(CheckpointTest, KeepsTheNewest) {
  for (const std::int64_t step : {8, 9, 10, 100}) save(step);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-10", "step-100"}));
  save(101, 1);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-101"}));
}

TEST_F(CheckpointTest, OldOnesAreThoseUpToTheNewest) {
  for (const std::int64_t step : {8, 9, 10, 11}) save(step, 9);
  remove_old_checkpoints(out, 10, 2);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-10", "step-11", "step-9"}));
}

// A kill between the two leaves one without its name, which is no checkpoint any more.
TEST_F(CheckpointTest, LosesItsNameBeforeItsFiles) {
  save(8);
  const fs::path doomed = temporary_name(out / "checkpoints" / "step-8", "removed");
  testing::take_writes();
  save(9, 1);
  const std::vector<std::string> writes = testing::take_writes();
  EXPECT_EQ(writes.back(), "rename " + doomed.filename().string());
  EXPECT_EQ(names(), (std::vector<std::string>{"step-9"}));
}

TEST_F(CheckpointTest, OneThatCannotBeRemovedIsAnError) {
  save(8);
  const fs::path doomed = temporary_name(out / "checkpoints" / "step-8", "removed");
  fs::create_directories(doomed / "in the way");
  EXPECT_EQ(testing::error_of([&] { save(9, 1); }),
            (out / "checkpoints" / "step-8").string() + ": cannot be removed: Directory not empty");
}

// Those are what newest_checkpoint() passed over; as long as nothing newer is whole, they stay.
TEST_F(CheckpointTest, RemovesThoseOfLaterSteps) {
  for (const std::int64_t step : {8, 9, 11, 30}) save(step, 9);
  save(10);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-10", "step-9"}));
}

// JSON of the model's and the run's making is refused from 1.5 MiB on.
TEST_F(CheckpointTest, ChoicesMayBeMany) {
  const std::string choices(std::size_t{3} << 20, 'x');
  save(40, 2, choices);
  EXPECT_TRUE(newest_checkpoint(out, notes).value().choices == choices);
}

// It may be another time, and then hold a run.
TEST_F(CheckpointTest, AFolderThatCannotBeReadIsNotAnEmptyOne) {
  std::ofstream(out / "checkpoints") << "no folder";
  EXPECT_CONTAINS(testing::error_of([&] { newest_checkpoint(out, notes); }), "checkpoints: cannot be read: ");
  EXPECT_EQ(testing::error_of([&] { save(8); }).find((out / "checkpoints: cannot be made: ").string()), 0u);
}

TEST_F(CheckpointTest, SaysWhatDiffers) {
  save(40);
  RunIdentity other = identity;
  other.flags["--lr"] = "0.001";
  EXPECT_NE(complaint(other).find("was made with --lr 0.003, this run has 0.001; to train on, give its model as "),
            std::string::npos);
  other = identity, other.flags["--new"] = "1";  // that an Ember of before does not know
  EXPECT_CONTAINS(complaint(other), "was made with --new unknown, this run has 1; ");
  other = identity, other.data = "other";
  EXPECT_CONTAINS(complaint(other), "other data");
  other = identity, other.model = "other";
  EXPECT_CONTAINS(complaint(other), "another model");
  other = identity, other.device = "cpu (7 threads)";
  EXPECT_EQ(complaint(other), "");
}

TEST_F(CheckpointTest, PassesOverDamagedOnes) {
  save(8), save(9, 9), save(10, 9), save(11, 9), save(12, 9), save(13, 9);
  const fs::path checkpoints = out / "checkpoints";
  fs::resize_file(checkpoints / "step-12" / "optimizer.safetensors", 1000);
  fs::remove(checkpoints / "step-11" / "model.safetensors");
  std::ofstream(checkpoints / "step-10" / "state.json") << "{\"format\": 1, \"step\": ";
  fs::remove(checkpoints / "step-13" / "config.json");
  fs::create_directory(checkpoints / "step-x");
  EXPECT_EQ(newest_checkpoint(out, notes).value().state.step, 9);
  ASSERT_EQ(notes.size(), 4u);
  EXPECT_CONTAINS(notes[0], "step-13/config.json");
  EXPECT_CONTAINS(notes[1], "step-12/optimizer.safetensors");
  EXPECT_CONTAINS(notes[2], "step-11/model.safetensors");
  EXPECT_CONTAINS(notes[3], "step-10/state.json");
}

// As a copy that was put aside, which is neither resumed nor counted nor removed.
TEST_F(CheckpointTest, WhatHasAnotherNameIsNone) {
  save(8);
  const fs::path checkpoints = out / "checkpoints";
  for (const char* name : {"step-9.old", "kept-9"}) fs::copy(checkpoints / "step-8", checkpoints / name);
  EXPECT_EQ(newest_checkpoint(out, notes).value().state.step, 8);
  EXPECT_TRUE(notes.empty());
  save(10, 1);
  remove_checkpoints(out);
  EXPECT_EQ(names(), (std::vector<std::string>{"kept-9", "step-9.old"}));
}

// What is there and cannot be read may be whole.
TEST_F(CheckpointTest, AFileThatCannotBeReadIsNoDamage) {
  save(8), save(9);
  for (const std::string name :
       {"state.json", "config.json", "choices.txt", "metrics.jsonl", "model.safetensors", "optimizer.safetensors"}) {
    const fs::path file = out / "checkpoints" / "step-9" / name, kept = scratch / name;
    fs::rename(file, kept);
    fs::create_symlink(file, file);  // a loop; permissions are nothing to root
    const std::string message = testing::error_of([&] { newest_checkpoint(out, notes); });
    EXPECT_CONTAINS(message, "step-9/" + name + ": Too many levels");
    EXPECT_TRUE(notes.empty());
    fs::rename(kept, file);
  }
}

TEST_F(CheckpointTest, EveryFileIsFlushedBeforeTheCheckpointHasItsName) {
  testing::take_writes();
  save(8);
  const std::vector<std::string> writes = testing::take_writes();
  const std::string naming[] = {"flush " + temporary_name("step-8").string(), "rename step-8", "flush checkpoints"};
  const auto named = std::ranges::search(writes, naming).begin();
  ASSERT_NE(named, writes.end());
  for (const auto& entry : fs::directory_iterator(out / "checkpoints" / "step-8")) {
    const fs::path name = entry.path().filename();
    EXPECT_EQ(std::count(writes.begin(), named, "flush " + name.string()) +
                  std::count(writes.begin(), named, "flush " + temporary_name(name).string()),
              1)
        << name;
  }
}

TEST_F(CheckpointTest, WeightsThatAreNotFiniteAreNotSaved) {
  save(8, 1);
  weights.list[3].value.f32()[1] = std::numeric_limits<float>::infinity();
  const std::string message = testing::error_of([&] { save(9, 1); });
  EXPECT_CONTAINS(message, weights.list[3].name + " has numbers that are not finite");
  EXPECT_EQ(names(), (std::vector<std::string>{"step-8"}));
}

TEST_F(CheckpointTest, KeepsTheBestModelOfThen) {
  write_file_atomically(out / "model.safetensors", "best of 8");
  save(8);
  write_file_atomically(out / "model.safetensors", "best of 9");
  save(9);
  write_file_atomically(out / "model.safetensors", "a later one");
  const Checkpoint found = newest_checkpoint(out, notes).value();
  EXPECT_TRUE(restore_best(found, out, tokenizer));
  EXPECT_EQ(read_file(out / "model.safetensors"), "best of 9");
  EXPECT_EQ(read_file(out / "vocab.txt"), tokenizer.vocabulary.text());
  EXPECT_FALSE(restore_best(found, out, tokenizer));
  write_file_atomically(out / "model.safetensors", "best of 9");  // a copy
  EXPECT_FALSE(restore_best(found, out, tokenizer));
  EXPECT_EQ(read_file(out / "checkpoints" / "step-8" / "best.safetensors"), "best of 8");
}

// What lies in --out before the first evaluation is another run's.
TEST_F(CheckpointTest, HasNoBestModelBeforeTheFirstEvaluation) {
  write_file_atomically(out / "model.safetensors", "of another run");
  best_step = 0;
  save(8);
  const Checkpoint found = newest_checkpoint(out, notes).value();
  EXPECT_FALSE(fs::exists(found.path / "best.safetensors"));
  write_file_atomically(found.path / "best.safetensors", "best of none");
  EXPECT_FALSE(holds_best(found));
  EXPECT_FALSE(restore_best(found, out, tokenizer));
  EXPECT_EQ(read_file(out / "model.safetensors"), "of another run");
}

TEST_F(CheckpointTest, ABestModelOfTheSameSizeIsAnother) {
  write_file_atomically(out / "model.safetensors", "best of 8");
  save(8);
  write_file_atomically(out / "model.safetensors", "best of 9");
  EXPECT_TRUE(restore_best(newest_checkpoint(out, notes).value(), out, tokenizer));
  EXPECT_EQ(read_file(out / "model.safetensors"), "best of 8");
}

TEST_F(CheckpointTest, OlderOnesNameNoDevice) {
  save(12);
  const fs::path file = out / "checkpoints" / "step-12" / "state.json";
  nlohmann::json older = nlohmann::json::parse(read_file(file));
  older.erase("device");
  std::ofstream(file) << older;
  EXPECT_EQ(newest_checkpoint(out, notes).value().identity.device, "");
}

// Of the newest: the others' may follow from it.
TEST_F(CheckpointTest, RefusesWhenAllAreDamaged) {
  save(11), save(12);
  fs::remove(out / "checkpoints" / "step-11" / "state.json");
  std::ofstream(out / "checkpoints" / "step-12" / "state.json") << "{\"format\": 7}";
  const std::string message = testing::error_of([&] { newest_checkpoint(out, notes); });
  EXPECT_EQ(message.find("no checkpoint can be resumed: "), 0u) << message;
  EXPECT_CONTAINS(message, "step-12/state.json: ");
}

TEST_F(CheckpointTest, ImpossibleNumbersAreDamage) {
  const fs::path file = out / "checkpoints" / "step-12" / "state.json";
  save(12);
  const nlohmann::json whole = nlohmann::json::parse(read_file(file));
  for (const auto& [pointer, value] :
       std::vector<std::pair<std::string, nlohmann::json>>{{"/step_state/updates", 100000},
                                                           {"/step_state/updates", -3},
                                                           {"/step_state/updates", 9.5},
                                                           {"/step_state/updates", 99999999999},
                                                           {"/step_state/skipped", 5},
                                                           {"/step_state/loss_scale", 0},
                                                           {"/step_state/loss_scale", 1e39},
                                                           {"/position", -5},
                                                           {"/format", 4.5},
                                                           {"/format", 4},
                                                           {"/best/step", 13},
                                                           {"/best/step", 2.5},
                                                           {"/evaluations_since_best", 13},
                                                           {"/epoch", -1},
                                                           {"/loss_steps", 13},
                                                           {"/loss_steps", "many"}}) {
    nlohmann::json damaged = whole;
    damaged[nlohmann::json::json_pointer(pointer)] = value;
    std::ofstream(file) << damaged;
    notes.clear();
    EXPECT_THROW(newest_checkpoint(out, notes), Error) << pointer << " " << value;
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_CONTAINS(notes[0], "step-12/state.json: ");
  }
}

TEST_F(CheckpointTest, ReplacesADamagedOneOfItsStep) {
  save(12);
  fs::remove(out / "checkpoints" / "step-12" / "state.json");
  save(12);
  EXPECT_EQ(newest_checkpoint(out, notes).value().state.step, 12);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-12"}));
}

TEST_F(CheckpointTest, FailsWholeOrNotAtAll) {
  save(12);
  tokenizer.vocabulary = Vocabulary();  // the model has tokens
  EXPECT_THROW(save(13, 1), Error);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-12"}));
  EXPECT_EQ(newest_checkpoint(out, notes).value().state.step, 12);
}

TEST_F(CheckpointTest, LeftoversAreRemoved) {
  save(12);
  fs::create_directory(out / "checkpoints" / ".step-13.77.partial");
  std::ofstream(out / "checkpoints" / ".step-13.77.partial" / "model.safetensors") << "half";
  fs::create_directory(out / "checkpoints" / ".step-11.77.removed");
  std::ofstream(out / ".model.safetensors.77.partial") << "half";
  for (const char* mine : {".mine", ".notes.2026.removed"}) std::ofstream(out / mine) << "stays";
  remove_leftovers(out);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-12"}));
  EXPECT_FALSE(fs::exists(out / ".model.safetensors.77.partial"));
  for (const char* mine : {".mine", ".notes.2026.removed"}) EXPECT_TRUE(fs::exists(out / mine)) << mine;
}

TEST_F(CheckpointTest, OfAnotherShapeIsRefused) {
  save(12);
  BertConfig other = config;
  other.ffn = 64;
  BertWeights theirs(other, *kernels);
  Optimizer optimizer_of_theirs(other, theirs, *kernels, {}, Schedule(1e-3, 0, 1), 1);
  const auto complaint_of = [&](const BertConfig& of) {
    return testing::error_of(
        [&] { restore(newest_checkpoint(out, notes).value(), of, theirs, optimizer_of_theirs, *kernels); });
  };
  const std::string expected =
      (out / "checkpoints/step-12/config.json").string() + ": differs from the model's configuration";
  EXPECT_EQ(complaint_of(other), expected);
  other = config, other.hidden_dropout = 0.5f;
  EXPECT_EQ(complaint_of(other), expected);
}

TEST_F(CheckpointTest, MomentsOfAnotherModelAreRefused) {
  save(12);
  const Checkpoint checkpoint = newest_checkpoint(out, notes).value();
  const fs::path file = checkpoint.path / "optimizer.safetensors";
  const Parameter& first = weights.list.front();
  const float one = 1;
  const auto complaint_about = [&](const std::string& name) {
    const std::vector<TensorToStore> tensors{{{name, "F32", {1}}, std::as_bytes(std::span(&one, 1))}};
    write_file_atomically(file, [&](FileWriter& writer) { write_safetensors(writer, tensors, {}); });
    return testing::error_of([&] { restore(checkpoint, config, weights, optimizer, *kernels); });
  };
  const std::string tensor = file.string() + ": tensor exp_avg." + first.name;
  EXPECT_EQ(complaint_about("exp_avg." + first.name),
            fmt::format("{} is F32 [1], expected F32 [{}, {}]", tensor, first.shape[0], first.shape[1]));
  EXPECT_EQ(complaint_about("another"), tensor + " is missing");
}

}  // namespace
}  // namespace ember
