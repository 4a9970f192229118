// Runs that go on where another stopped.
#include "tests/train/trainer_fixture.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using testing::Json;
using TrainerResumeTest = testing::TrainerTest;

// What a run that is to stop after a step says.
std::string said_at_once(const TrainOptions& options) {
  int asked = 0;
  return testing::stderr_of(
      [&] { train(options, Progress::Style::lines, [&] { return asked++ == 1 ? SIGTERM : 0; }); });
}

TEST_F(TrainerResumeTest, ResumesBitForBitFromAnyStep) {
  run(options("whole"));
  for (const int stop : {1, 2, 7, 15, 16, 17, 31, 33, 47}) {
    TrainOptions o = options("stopped" + std::to_string(stop));
    const TrainOutcome first = run(o, stop);
    EXPECT_EQ(first.interrupted, SIGTERM);
    EXPECT_EQ(first.state.step, stop);
    EXPECT_TRUE(fs::exists(first.checkpoint / "state.json"));
    o.resume = true;
    EXPECT_EQ(run(o).state.step, 48);
    expect_same_run(scratch / "whole", o.out);
  }
}

TEST_F(TrainerResumeTest, ARunThatStopsWhereItSavesHasSavedAlready) {
  TrainOptions o = options("out");
  const TrainOutcome stopped = run(o, 16);
  EXPECT_EQ(stopped.checkpoint.filename(), "step-16");
  EXPECT_TRUE(fs::exists(stopped.checkpoint / "state.json"));
  EXPECT_EQ(events(o.out, "checkpoint").size(), 1u);
  o.resume = true;
  run(o);
  EXPECT_EQ(events(o.out, "checkpoint").size(), 3u) << "of steps 16, 32 and 48";
}

TEST_F(TrainerResumeTest, ARunThatIsToStopAfterItsLastStepHasEnded) {
  const TrainOptions o = options("out");
  EXPECT_EQ(run(o, 48).interrupted, 0);
  EXPECT_EQ(events(o.out, "end").size(), 1u);
}

TEST_F(TrainerResumeTest, ResumesBitForBitStepByStep) {
  TrainOptions o = options("whole");
  o.evaluate.steps = 5, o.save.steps = 7;
  run(o);
  o.out = scratch / "steps", o.resume = true;
  int calls = 0;
  while (run(o, 1 + calls % 3).interrupted != 0) ASSERT_LT(++calls, 100);
  EXPECT_GE(calls, 20);
  expect_same_run(scratch / "whole", o.out);
}

TEST_F(TrainerResumeTest, ResumingAFinishedRunChangesNothing) {
  TrainOptions o = options("out");
  run(o);
  const std::string before = model(o.out);
  const std::vector<Json> log = events(o.out);
  o.resume = true;
  EXPECT_EQ(run(o).state.step, 48);
  EXPECT_EQ(model(o.out), before);
  EXPECT_EQ(events(o.out), log);
}

// As after a kill: metrics of steps that the checkpoint does not know, and a best model from the future.
TEST_F(TrainerResumeTest, ForgetsWhatCameAfterTheCheckpoint) {
  TrainOptions o = options("whole");
  o.evaluate.steps = 4;
  run(o);
  TrainOptions killed = options("killed");
  killed.evaluate.steps = 4;
  run(killed, 20);
  fs::copy(killed.out, scratch / "kept", fs::copy_options::recursive);
  killed.resume = true;
  run(killed, 17);
  for (const char* name : {"step-32", "step-37"}) fs::remove_all(killed.out / "checkpoints" / name);
  fs::copy(scratch / "kept" / "checkpoints" / "step-20", killed.out / "checkpoints" / "step-20",
           fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  run(killed);
  expect_same_run(scratch / "whole", killed.out);
}

// A kill between a checkpoint and the removal of the oldest; the last run of all has nothing left to save.
TEST_F(TrainerResumeTest, RemovesTheCheckpointThatTheKilledRunDidNotComeTo) {
  run(options("whole"));
  TrainOptions o = options("out");
  o.keep = 4;
  run(o);
  o.keep = 2, o.resume = true;
  run(o);
  expect_same_run(scratch / "whole", o.out);
  const fs::path all = scratch / "whole/checkpoints", left = o.out / "checkpoints";
  EXPECT_EQ(std::distance(fs::directory_iterator(left), fs::directory_iterator()), 2);
  for (const auto& entry : fs::directory_iterator(all)) EXPECT_TRUE(fs::exists(left / entry.path().filename()));
}

TEST_F(TrainerResumeTest, ResumeWithoutACheckpointBegins) {
  run(options("whole"));
  TrainOptions o = options("out");
  o.resume = true;
  run(o);
  expect_same_run(scratch / "whole", o.out);
}

TEST_F(TrainerResumeTest, ResumeRefusesAnotherRun) {
  TrainOptions o = options("out");
  run(o, 5);
  const std::string log = read_file(o.out / "metrics.jsonl");
  o.resume = true;
  TrainOptions other = o;
  other.recipe.learning_rate = 1e-3;
  EXPECT_CONTAINS(complaint(other), "--lr 0.003");
  other = o, other.recipe.seed = 1;
  EXPECT_CONTAINS(complaint(other), "--seed 42");
  other = o, other.data = scratch / "other";
  testing::write_tiny_data(other.data);
  testing::write_tiny_split(other.data / "dev.tsv", 20, 9);
  EXPECT_CONTAINS(complaint(other), "other data");
  // From weights in a file instead of drawn ones.
  other = o, other.from_scratch = false, other.model = scratch / "weights";
  fs::copy(o.out / "checkpoints/step-5", other.model);
  EXPECT_CONTAINS(complaint(other), "another model");
  EXPECT_EQ(read_file(o.out / "metrics.jsonl"), log);
  other = o, other.keep = 1, other.save.steps = 9;
  EXPECT_EQ(complaint(other), "");
}

// A run that is killed between its best model and the next checkpoint leaves one that the checkpoint does not know.
TEST_F(TrainerResumeTest, TheBestModelIsTheCheckpointsAgain) {
  run(options("whole"));
  for (const bool gone : {true, false}) {
    TrainOptions o = options(gone ? "gone" : "another");
    run(o, 17);
    fs::remove(o.out / "model.safetensors");
    if (!gone) fs::copy_file(scratch / "whole" / "checkpoints/step-48/model.safetensors", o.out / "model.safetensors");
    o.resume = true;
    const std::string said = said_at_once(o);
    EXPECT_CONTAINS(said, "resuming from " + (o.out / "checkpoints/step-17").string() + "\n");
    const std::string again =
        (o.out / "model.safetensors").string() + " is the best model so far again, that of step 16\n";
    EXPECT_CONTAINS(said, again);
    EXPECT_EQ(said.find("drawn afresh"), std::string::npos) << said;
    EXPECT_EQ(said_at_once(o).find(again), std::string::npos) << "where it is that already";
    run(o);
    expect_same_run(scratch / "whole", o.out);
  }
}

TEST_F(TrainerResumeTest, CheckpointsAloneAreARun) {
  run(options("whole"));
  fs::create_directory(scratch / "moved");
  for (const char* name : {"checkpoints", "metrics.jsonl"})
    fs::copy(scratch / "whole" / name, scratch / "moved" / name, fs::copy_options::recursive);
  TrainOptions o = options("moved");
  o.resume = true;
  run(o);
  expect_same_run(scratch / "whole", o.out);
  for (const char* name : {"config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"})
    EXPECT_EQ(read_file(o.out / name), read_file(scratch / "whole" / name)) << name;
}

TEST_F(TrainerResumeTest, ABestModelThatIsNowhereIsNoticed) {
  TrainOptions o = options("out");
  run(o, 17);
  fs::rename(o.out / "model.safetensors", scratch / "best");
  for (const fs::directory_entry& entry : fs::directory_iterator(o.out / "checkpoints"))
    fs::remove(entry.path() / "best.safetensors");
  o.resume = true;
  EXPECT_CONTAINS(complaint(o), "is gone");
  fs::rename(scratch / "best", o.out / "model.safetensors");
  EXPECT_EQ(complaint(o), "") << "one place is enough";
}

TEST_F(TrainerResumeTest, AFinishedRunWithoutItsCheckpointsIsNotStartedOver) {
  for (const int checkpoints : {3, 1}) {
    TrainOptions o = options("out of " + std::to_string(checkpoints));
    o.save.steps = 48 / checkpoints;
    run(o);
    fs::remove_all(o.out / "checkpoints");
    const std::string before = model(o.out), log = read_file(o.out / "metrics.jsonl");
    o.resume = true;
    EXPECT_CONTAINS(complaint(o), "metrics.jsonl tells of checkpoints, and none is there");
    EXPECT_EQ(model(o.out), before);
    EXPECT_EQ(read_file(o.out / "metrics.jsonl"), log);
  }
}

// As a kill before the first checkpoint leaves it.
TEST_F(TrainerResumeTest, ARunWithoutACheckpointIsStartedOverAsTheSameAlone) {
  TrainOptions o = options("out");
  run(o);
  const std::vector<Json> whole = events(o.out);
  const std::string log = read_file(o.out / "metrics.jsonl");
  fs::remove_all(o.out / "checkpoints");
  // A checkpoint is told of when its writing begins.
  const std::string part = log.substr(0, log.find("\n", log.find("\"checkpoint\"")) + 1);
  std::ofstream(o.out / "metrics.jsonl") << part;
  const std::string before = model(o.out);
  TrainOptions other = o;
  other.resume = true, other.recipe.learning_rate *= 2;
  EXPECT_CONTAINS(complaint(other), "--lr");
  EXPECT_TRUE(complaint(other).ends_with("; --overwrite starts afresh")) << complaint(other);
  EXPECT_EQ(model(o.out), before);
  EXPECT_EQ(read_file(o.out / "metrics.jsonl"), part);
  for (const std::string& nameless :
       {part.substr(part.find('\n') + 1), std::string(), std::string("{\"event\": 3}\n")}) {
    std::ofstream(o.out / "metrics.jsonl") << nameless;
    EXPECT_NE(complaint(other).find("does not say which run it is of"), std::string::npos) << nameless;
  }
  std::ofstream(o.out / "metrics.jsonl") << "{\"event\": \"start\"}\n";
  EXPECT_TRUE(complaint(other).ends_with("metrics.jsonl: its first line is damaged; --overwrite starts afresh"))
      << complaint(other);
  o.resume = true;
  const std::size_t second = log.find("\"checkpoint\"", part.size());
  std::ofstream(o.out / "metrics.jsonl") << log.substr(0, log.find("\n", second) + 1);
  EXPECT_CONTAINS(complaint(o), "tells of checkpoints, and none is there");
  std::ofstream(o.out / "metrics.jsonl") << part;
  run(o);
  EXPECT_EQ(events(o.out), whole);
}

// A checkpoint whose parts are whole and do not belong together.
TEST_F(TrainerResumeTest, ACheckpointOfAnotherPlaceInTheDataIsNotResumed) {
  TrainOptions o = options("out");
  run(o, 21);
  const fs::path file = o.out / "checkpoints/step-21/state.json";
  const std::string whole = read_file(file), log = read_file(o.out / "metrics.jsonl");
  ASSERT_EQ(Json::parse(whole).at("position"), 20);  // the sixth batch of the second epoch is next
  ASSERT_EQ(Json::parse(whole).at("epoch"), 1);
  o.resume = true;
  for (const auto& [key, value] : std::vector<std::pair<std::string, int>>{
           {"position", 21}, {"position", 24}, {"position", 0}, {"position", 84}, {"epoch", 0}, {"epoch", 2}}) {
    Json damaged = Json::parse(whole);
    damaged[key] = value;
    std::ofstream(file) << damaged;
    const std::string message = complaint(o);
    EXPECT_NE(message.find("checkpoints/step-21/state.json: is damaged: step 21 of 48"), std::string::npos)
        << key << " " << value << ": " << message;
    EXPECT_EQ(read_file(o.out / "metrics.jsonl"), log);
  }
  std::ofstream(file) << whole;
  EXPECT_EQ(run(o).state.step, 48);
}

TEST_F(TrainerResumeTest, ACheckpointOfAStepAfterTheLastIsNotResumed) {
  TrainOptions o = options("out");
  run(o);
  const fs::path later = o.out / "checkpoints/step-64";
  fs::rename(o.out / "checkpoints/step-48", later);
  Json state = Json::parse(read_file(later / "state.json"));
  state["step"] = state["step_state"]["updates"] = 64, state["epoch"] = 4;
  std::ofstream(later / "state.json") << state;
  o.resume = true;
  const std::string message = complaint(o);
  EXPECT_CONTAINS(message, "step-64/state.json: is damaged: step 64 of 48");
}

TEST_F(TrainerResumeTest, ACheckpointUnderAnotherStepsNameIsNotResumed) {
  TrainOptions o = options("out");
  run(o, 12);
  const fs::path checkpoints = o.out / "checkpoints";
  fs::copy(checkpoints / "step-12", scratch / "step-12", fs::copy_options::recursive);
  fs::rename(checkpoints / "step-12", checkpoints / "step-20");
  o.resume = true;
  const std::string message = complaint(o);
  EXPECT_CONTAINS(message, "checkpoints/step-20: the state is of step 12");
  // The one before is taken where there is one, and the run is that of step 12.
  fs::copy(scratch / "step-12", checkpoints / "step-12", fs::copy_options::recursive);
  run(o);
  run(options("whole"));
  expect_same_run(scratch / "whole", o.out);
}

}  // namespace
}  // namespace ember
