#include "train/trainer.h"

#include <iterator>
#include <map>
#include <set>

#include "kernels/cpu/cpu_kernels.h"
#include "tests/train/trainer_fixture.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using testing::Json;
using testing::TrainerTest;

TEST_F(TrainerTest, LearnsAndLeavesAModel) {
  TrainOptions o = options("out");
  o.recipe.epochs = 30, o.save.steps = 400;
  const TrainOutcome outcome = run(o);
  EXPECT_EQ(outcome.interrupted, 0);
  EXPECT_EQ(outcome.state.step, 30 * 16);
  EXPECT_GT(outcome.state.best.f1_micro, 0.9);
  for (const char* name : {"model.safetensors", "config.json", "vocab.txt", "tokenizer_config.json",
                           "special_tokens_map.json", "metrics.jsonl"})
    EXPECT_TRUE(fs::exists(o.out / name)) << name;
  const std::vector<Json> evaluations = events(o.out, "eval");
  ASSERT_EQ(evaluations.size(), 30u);
  double best = -1;
  for (const Json& event : evaluations) best = std::max<double>(best, event.at("f1_micro"));
  EXPECT_EQ(best, outcome.state.best.f1_micro);
  const std::vector<Json> ends = events(o.out, "end");
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].at("best_step"), outcome.state.best.step);
  EXPECT_EQ(ends[0].at("best_epoch"), outcome.state.best.epoch);
}

// Every hundred steps and before each evaluation, once where both are.
TEST_F(TrainerTest, LogsTrainingEveryHundredStepsAndBeforeEvaluations) {
  TrainOptions o = options("out");
  o.recipe.epochs = 20, o.evaluate.steps = 150, o.save.steps = 1000;
  run(o);
  std::vector<int> steps;
  for (const Json& event : events(o.out, "train")) steps.push_back(event.at("step"));
  EXPECT_EQ(steps, (std::vector<int>{100, 150, 200, 300, 320}));
}

TEST_F(TrainerTest, LogsEverythingThatIsPromised) {
  run(options("out"));
  const std::vector<Json> trains = events(scratch / "out", "train"), evaluations = events(scratch / "out", "eval");
  ASSERT_EQ(trains.size(), 3u);
  EXPECT_EQ(trains[0].at("step"), 16);
  EXPECT_EQ(trains[0].at("epoch"), 1.0);
  EXPECT_EQ(trains[0].at("loss_scale"), 1);
  EXPECT_GT(trains[0].at("loss"), trains[2].at("loss"));
  EXPECT_GT(trains[0].at("grad_norm"), 0.0);
  EXPECT_DOUBLE_EQ(trains[0].at("lr"), 3e-3 * (48 - 15) / 48);  // of the step just made, the sixteenth
  for (const char* key : {"loss", "f1_micro", "f1_macro", "subset_accuracy", "threshold", "split", "step", "epoch"})
    EXPECT_TRUE(evaluations[0].contains(key)) << key;
  const std::vector<Json> checkpoints = events(scratch / "out", "checkpoint");
  ASSERT_EQ(checkpoints.size(), 3u);
  EXPECT_EQ(checkpoints[2].at("path"), "checkpoints/step-48");
  EXPECT_FALSE(fs::exists(scratch / "out/checkpoints/step-16"));  // --keep 2
}

TEST_F(TrainerTest, EveryEventHasItsKeys) {
  run(options("out"));
  const std::map<std::string, std::set<std::string>> expected{
      {"start", {"event", "flags", "data", "model", "device"}},
      {"train",
       {"event", "step", "epoch", "loss", "lr", "grad_norm", "loss_scale", "skipped_steps", "examples_per_second",
        "tokens_per_second"}},
      {"eval", {"event", "split", "step", "epoch", "loss", "f1_micro", "f1_macro", "subset_accuracy", "threshold"}},
      {"checkpoint", {"event", "step", "epoch", "path"}},
      {"end", {"event", "step", "epoch", "stopped_early", "best_step", "best_epoch", "best_f1_micro"}}};
  std::set<std::string> seen;
  std::istringstream lines(read_file(scratch / "out/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const Json event = Json::parse(line);
    std::set<std::string> keys;
    for (const auto& [key, value] : event.items()) keys.insert(key);
    const auto name = event["event"].get<std::string>();
    EXPECT_EQ(keys, expected.at(name)) << line;
    seen.insert(name);
    if (event["event"] != "train") continue;
    EXPECT_GT(event.at("examples_per_second"), 0);
    EXPECT_GT(event.at("tokens_per_second"), event.at("examples_per_second"));
    EXPECT_EQ(event.at("skipped_steps"), 0);
  }
  EXPECT_EQ(seen.size(), expected.size());
}

TEST_F(TrainerTest, TheDenseOptimizerGivesTheSameBits) {
  run(options("lazy"));
  TrainOptions dense = options("dense");
  dense.optimizer = "dense";
  run(dense);
  expect_same_run(scratch / "lazy", scratch / "dense");
}

// How often all rows of the word embedding are brought up to date, and memory is asked for.
struct CountingKernels final : CpuKernels {
  CountingKernels() : CpuKernels(Precision::fp32, 1) {}
  Buffer allocate(std::size_t bytes) override {
    ++allocations;
    return CpuKernels::allocate(bytes);
  }
  void adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count, std::int32_t* row_updates,
                    const AdamWUpdate* schedule, const StepState* state) override {
    whole_tables += ids == nullptr;
    CpuKernels::adamw_replay(table, ids, count, row_updates, schedule, state);
  }
  int whole_tables = 0, allocations = 0;
};

TEST_F(TrainerTest, OnlyTheDenseOptimizerUpdatesEveryRowAtEveryStep) {
  const auto whole_tables_with = [&](const char* optimizer) {
    TrainOptions o = options(optimizer);
    o.optimizer = optimizer;
    CountingKernels kernels;
    train(o, kernels, Progress::Style::silent, [] { return 0; });
    return kernels.whole_tables;
  };
  constexpr int kEvaluations = 3, kCheckpoints = 3;
  EXPECT_EQ(whole_tables_with("lazy"), kEvaluations + kCheckpoints);
  EXPECT_EQ(whole_tables_with("dense"), 48 + kEvaluations + kCheckpoints);
}

// Work that is recorded does not know of memory that comes later.
TEST_F(TrainerTest, HasRoomForEveryBatchWhenItBegins) {
  const auto write = [&](const char* name, int rows, int longer) {  // each `longer`th row
    std::ofstream out(scratch / "data" / name);
    for (int row = 1; row <= rows; ++row)
      out << (row % longer == 0 ? "word5 word6 word7 word8 word9 word10 word11" : "word5") << "\t0\tid\n";
  };
  constexpr int kEvery = 5;
  for (const bool of_dev : {false, true}) {  // where the largest batch is
    write("train.tsv", 40, of_dev ? 100 : 8);
    write("dev.tsv", of_dev ? 30 : 1, 1);
    TrainOptions o = options(of_dev ? "dev" : "train");
    o.evaluate.steps = kEvery, o.save.steps = 1000;
    CountingKernels kernels;
    std::vector<int> after;  // each step
    train(o, kernels, Progress::Style::silent, [&] { return after.push_back(kernels.allocations), 0; });
    ASSERT_EQ(after.size(), 31u);
    const int of_evaluation = after[30] - after[29];
    for (std::size_t step = 2; step <= 30; ++step)
      EXPECT_EQ(after[step] - after[step - 1], step % kEvery == 0 ? of_evaluation : 0) << of_dev << " " << step;
  }
}

TEST_F(TrainerTest, MaxStepsShortenTheSchedule) {
  TrainOptions o = options("out");
  o.max_steps = 20;
  EXPECT_EQ(run(o).state.step, 20);
  const std::vector<Json> trains = events(o.out, "train");
  EXPECT_DOUBLE_EQ(trains.back().at("lr"), 3e-3 / 20);  // the last of 20 steps
  EXPECT_EQ(events(o.out, "eval").back().at("step"), 20);
  EXPECT_TRUE(fs::exists(o.out / "checkpoints/step-20"));
  o = options("longer"), o.max_steps = 1000;
  EXPECT_EQ(run(o).state.step, 48);
}

TEST_F(TrainerTest, WarmsUp) {
  TrainOptions o = options("out");
  o.recipe.warmup_ratio = 0.5;
  run(o);
  EXPECT_DOUBLE_EQ(events(o.out, "train")[0].at("lr"), Schedule(3e-3, 0.5, 48).at(15));
  EXPECT_LT(events(o.out, "train")[0].at("lr"), 3e-3 * (48 - 15) / 48);
}

TEST_F(TrainerTest, DrawsANewClassifierForOtherLabels) {
  TrainOptions o = options("first");
  run(o);
  const fs::path data = scratch / "others";
  testing::write_tiny_data(data);
  std::ofstream(data / "labels.txt") << "north\neast\nsouth\nwest\n";
  o = options("second"), o.model = scratch / "first", o.data = data, o.from_scratch = false;
  EXPECT_CONTAINS(complaint(o), "--new-classifier");
  o.new_classifier = true;
  run(o);
  EXPECT_CONTAINS(read_file(o.out / "config.json"), "south");
}

TEST_F(TrainerTest, DrawsANewClassifierForTheSameLabelsIfTold) {
  TrainOptions o = options("first");
  run(o);
  o = options("kept"), o.model = scratch / "first", o.from_scratch = false, o.recipe.learning_rate = 1e-12;
  run(o);
  const TrainOptions kept = o;
  o.out = scratch / "drawn", o.new_classifier = true;
  run(o);
  EXPECT_EQ(read_file(o.out / "config.json"), read_file(kept.out / "config.json"));
  EXPECT_GT(events(o.out, "eval")[0].at("loss"), events(kept.out, "eval")[0].at("loss"));
}

// What is saved is what the run began with, whatever becomes of the folder of --model meanwhile.
TEST_F(TrainerTest, KeepsTheVocabularyThatItBeganWith) {
  const TrainOptions o = options("out");
  const std::string vocabulary = read_file(o.model / "vocab.txt");
  train(o, Progress::Style::silent, [&] {
    fs::remove(o.model / "vocab.txt");
    return 0;
  });
  EXPECT_EQ(read_file(o.out / "vocab.txt"), vocabulary);
  EXPECT_EQ(read_file(o.out / "checkpoints/step-48/vocab.txt"), vocabulary);
}

TEST_F(TrainerTest, WritesNothingWhereItIsStoppedBeforeItsFirstStep) {
  const TrainOptions o = options("out");
  const TrainOutcome outcome = run(o, 0);
  EXPECT_EQ(outcome.interrupted, SIGTERM);
  EXPECT_TRUE(outcome.checkpoint.empty());
  EXPECT_FALSE(fs::exists(o.out));
}

TEST_F(TrainerTest, StopsEarly) {
  for (const Metric metric : {Metric::f1_micro, Metric::f1_macro, Metric::loss}) {
    TrainOptions o = options(to_string(metric));
    o.recipe.metric = metric;
    o.recipe.learning_rate = 1e-12;  // nothing is learned, so the first evaluation stays the best
    o.recipe.threshold = 1;          // and nothing is predicted
    o.evaluate.steps = 3, o.early_stopping = 2;
    const TrainOutcome outcome = run(o);
    EXPECT_EQ(outcome.state.step, 9);
    EXPECT_EQ(outcome.state.best.step, 3);
    EXPECT_EQ(events(o.out, "end")[0].at("stopped_early"), true);
    EXPECT_TRUE(fs::exists(o.out / "checkpoints/step-9"));
    o.resume = true;
    EXPECT_EQ(run(o).state.step, 9);
    o.resume = false, o.overwrite = true, o.early_stopping = 20;  // more than there are evaluations
    EXPECT_EQ(run(o).state.step, 48);
    EXPECT_EQ(events(o.out, "end")[0].at("stopped_early"), false);
  }
}

TEST_F(TrainerTest, TheLossCanChoose) {
  TrainOptions o = options("out");
  o.recipe.metric = Metric::loss, o.recipe.threshold = 1;
  const TrainOutcome outcome = run(o);
  double least = 1;
  for (const Json& event : events(o.out, "eval")) least = std::min<double>(least, event.at("loss"));
  EXPECT_EQ(outcome.state.best.loss, least);
  EXPECT_EQ(events(o.out, "end")[0].at("best_loss"), least);
  EXPECT_NE(outcome.state.best.step, 16);
}

// As in the first epochs of a slow recipe: the model that is kept, and patience, go by the loss.
TEST_F(TrainerTest, TheLossChoosesWhereNothingIsPredictedYet) {
  for (const Metric metric : {Metric::f1_micro, Metric::f1_macro}) {
    TrainOptions o = options(to_string(metric));
    o.recipe.metric = metric, o.recipe.threshold = 1, o.early_stopping = 1;
    const TrainOutcome outcome = run(o);
    EXPECT_EQ(outcome.state.step, 48);
    double least = 1;
    for (const Json& event : events(o.out, "eval")) {
      EXPECT_EQ(event.at("f1_micro"), 0);
      least = std::min<double>(least, event.at("loss"));
    }
    EXPECT_EQ(outcome.state.best.loss, least);
    EXPECT_EQ(outcome.state.best.step, 32);
    EXPECT_EQ(model(o.out), read_file(o.out / "checkpoints/step-32/model.safetensors"));
  }
}

// At first every label is predicted everywhere, soon the frequent one alone, which is better by one measure and worse
// by the other.
TEST_F(TrainerTest, EachF1ChoosesByItself) {
  for (const char* split : {"train.tsv", "dev.tsv"}) {
    std::ofstream rows(scratch / "data" / split, std::ios::app);
    for (int i = 0; i < 60; ++i) rows << "word5 word" << 20 + i << "\t0\tid\n";
  }
  const auto best_by = [&](Metric metric, const char* name, double DevResult::*f1) {
    TrainOptions o = options(name);
    o.recipe.epochs = 1, o.recipe.metric = metric, o.recipe.threshold = 0.3, o.evaluate.steps = 4;
    const TrainOutcome outcome = run(o);
    double most = -1;
    for (const Json& event : events(o.out, "eval")) most = std::max<double>(most, event.at(name));
    EXPECT_EQ(outcome.state.best.*f1, most);
    EXPECT_EQ(events(o.out, "end")[0].at("best_" + std::string(name)), most);
    return outcome.state.best;
  };
  const DevResult micro = best_by(Metric::f1_micro, "f1_micro", &DevResult::f1_micro);
  const DevResult macro = best_by(Metric::f1_macro, "f1_macro", &DevResult::f1_macro);
  EXPECT_GT(micro.f1_micro, macro.f1_micro);
  EXPECT_LT(micro.f1_macro, macro.f1_macro);
}

TEST_F(TrainerTest, FlagsOfTheRecipeCount) {
  const auto trained = [&](const char* name, const auto& change) {
    TrainOptions o = options(name);
    o.recipe.epochs = 1;
    change(o);
    run(o);
    return model(o.out);
  };
  const std::string plain = trained("plain", [](TrainOptions&) {});
  EXPECT_EQ(trained("again", [](TrainOptions&) {}), plain);
  EXPECT_NE(trained("decay", [](TrainOptions& o) { o.recipe.weight_decay = 0.5; }), plain);
  EXPECT_NE(trained("length", [](TrainOptions& o) { o.recipe.max_length = 6; }), plain);
  EXPECT_NE(trained("rate", [](TrainOptions& o) { o.recipe.learning_rate *= 2; }), plain);
  EXPECT_EQ(trained("threshold", [](TrainOptions& o) { o.recipe.threshold = 1; }), plain);
  for (const Json& event : events(scratch / "threshold", "eval")) {
    EXPECT_EQ(event.at("f1_micro"), 0);
    EXPECT_EQ(event.at("threshold"), 1);
  }
}

TEST_F(TrainerTest, KeepsAsManyCheckpointsAsItIsTold) {
  TrainOptions o = options("out");
  o.save.steps = 10;
  for (const int keep : {1, 3}) {
    o.keep = keep, o.overwrite = true;
    run(o);
    EXPECT_EQ(std::distance(fs::directory_iterator(o.out / "checkpoints"), fs::directory_iterator()), keep);
  }
}

// From the same weights: the seed decides the order of the rows and the masks of dropout, and nothing else.
TEST_F(TrainerTest, TheSeedDecidesOrderAndMasks) {
  TrainOptions o = options("first");
  o.recipe.epochs = 1;
  run(o);
  testing::write_tiny_data(scratch / "one");
  testing::write_tiny_split(scratch / "one/train.tsv", 1, 1);  // in one order
  const auto trained = [&](const char* data, std::uint64_t seed, float dropout) {
    BertConfig config = testing::tiny_config();
    config.hidden_dropout = config.attention_dropout = config.classifier_dropout = dropout;
    std::ofstream(scratch / "first/config.json") << config_json(config);
    TrainOptions next = options("next");
    next.model = scratch / "first", next.data = scratch / data, next.from_scratch = false, next.overwrite = true;
    next.recipe.epochs = 1, next.recipe.seed = seed;
    run(next);
    return model(next.out);
  };
  EXPECT_NE(trained("one", 1, 0.1f), trained("one", 2, 0.1f));
  EXPECT_EQ(trained("one", 1, 0), trained("one", 2, 0));
  EXPECT_NE(trained("one", 1, 0.1f), trained("one", 1, 0));
  EXPECT_NE(trained("data", 1, 0), trained("data", 2, 0));
}

TEST_F(TrainerTest, BadInputTouchesNothing) {
  std::vector<std::pair<std::string, TrainOptions>> bad;
  const auto add = [&](const std::string& fragment) -> TrainOptions& {
    return bad.emplace_back(fragment, options("none")).second;
  };
  add("nowhere").data = scratch / "nowhere";
  add("nowhere").model = scratch / "nowhere";
  add("--batch-size").recipe.batch_size = 0;
  add("--max-length").recipe.max_length = 25;  // of 24 positions
  add("--device").device = "cuda:9999";
  add("model.safetensors").from_scratch = false;  // there is none
  add("--epochs").recipe.epochs = 1 << 30;
  const fs::path broken = scratch / "broken";
  testing::write_tiny_data(broken);
  std::ofstream(broken / "train.tsv", std::ios::app) << "word5\t17\tid\n";
  add("train.tsv").data = broken;
  for (const auto& [fragment, o] : bad) {
    const std::string message = complaint(o);
    EXPECT_NE(message.find(fragment), std::string::npos) << fragment << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_FALSE(fs::exists(o.out)) << message;
  }
  TrainOptions skipping = options("skipping");
  skipping.data = broken, skipping.skip_bad_rows = true;
  EXPECT_EQ(complaint(skipping), "");
}

TEST_F(TrainerTest, OutMustBeAFolder) {
  TrainOptions o = options("file");
  std::ofstream(o.out) << "precious";
  EXPECT_NE(complaint(o), "");
  EXPECT_EQ(read_file(o.out), "precious");
  o.out = o.out / "below";
  EXPECT_NE(complaint(o), "");
  o.out = "";
  EXPECT_EQ(complaint(o), "--out: a folder is missing");
}

TEST_F(TrainerTest, DivergenceIsAnError) {
  TrainOptions o = options("out");
  o.recipe.learning_rate = 1e30, o.recipe.weight_decay = 0;
  const std::string message = complaint(o);
  EXPECT_CONTAINS(message, "--lr");
}

}  // namespace
}  // namespace ember
