// What a run learns from at each step, and that what it says of itself is so.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

#include "data/examples.h"
#include "data/tokenizer.h"
#include "kernels/cpu/cpu_kernels.h"
#include "model/hugging_face.h"
#include "tests/train/trainer_fixture.h"
#include "train/evaluation.h"
#include "train/fingerprint.h"
#include "train/inputs.h"
#include "train/metrics.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using testing::Json;
using TrainerLearningTest = testing::TrainerTest;

// Weights large enough that the losses of different texts are far apart.
void write_wide_config(const fs::path& model, float dropout) {
  BertConfig config = testing::tiny_config();
  config.initializer_range = 0.3f;
  config.hidden_dropout = config.attention_dropout = config.classifier_dropout = dropout;
  std::ofstream(model / "config.json") << config_json(config);
}

// At such a rate the weights stay what they were, so that a step's loss depends on its texts and masks alone.
constexpr double kRateOfNothing = 1e-12;
constexpr double kRoundings = 1e-6;

std::vector<double> losses_in(const std::vector<Json>& events) {
  std::vector<double> losses;
  for (const Json& event : events) losses.push_back(event.at("loss"));
  return losses;
}

TEST_F(TrainerLearningTest, TheSeedDrawsTheStartingWeights) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const auto fingerprint = [&](std::uint64_t seed) {
    TrainOptions o = options("out");
    o.recipe.seed = seed;
    const LoadedModel model = load_inputs(o, *kernels).model;
    return model_fingerprint(model.config, model.weights, *kernels);
  };
  EXPECT_EQ(fingerprint(1), fingerprint(1));
  EXPECT_NE(fingerprint(1), fingerprint(2));
}

TEST_F(TrainerLearningTest, EveryStepDrawsMasksOfItsOwn) {
  testing::write_tiny_split(scratch / "data/train.tsv", 1, 1);  // every step has the same text
  const auto losses_with = [&](float dropout) {
    write_wide_config(scratch / "model", dropout);
    TrainOptions o = options("out");
    o.recipe.epochs = 12, o.recipe.learning_rate = kRateOfNothing, o.evaluate.steps = 1, o.overwrite = true;
    run(o);
    std::vector<double> losses = losses_in(events(o.out, "train"));
    std::sort(losses.begin(), losses.end());
    return losses;
  };
  const std::vector<double> same = losses_with(0), masked = losses_with(0.1f);
  ASSERT_EQ(same.size(), 12u);
  ASSERT_EQ(masked.size(), 12u);
  EXPECT_LT(same.back() - same.front(), kRoundings);
  for (std::size_t i = 1; i < masked.size(); ++i) EXPECT_GT(masked[i] - masked[i - 1], kRoundings) << i;
}

TEST_F(TrainerLearningTest, EveryEpochHasAllTextsInAnOrderOfItsOwn) {
  write_wide_config(scratch / "model", 0);
  TrainOptions o = options("out");
  o.recipe.epochs = 3, o.recipe.learning_rate = kRateOfNothing, o.evaluate.steps = 1;
  run(o);
  const std::vector<double> losses = losses_in(events(o.out, "train"));
  ASSERT_EQ(losses.size(), 48u);
  // Of the sixteen batches of an epoch the last has two texts, the others four.
  const auto sum_of = [&](std::size_t epoch) {
    const auto first = losses.begin() + static_cast<std::ptrdiff_t>(epoch) * 16;
    return 4 * std::accumulate(first, first + 15, 0.0) + 2 * first[15];
  };
  for (const auto& [a, b] : {std::pair<std::size_t, std::size_t>{0, 1}, {1, 2}, {0, 2}}) {
    EXPECT_NEAR(sum_of(a), sum_of(b), 62 * kRoundings) << a << " " << b;
    int moved = 0;
    for (std::size_t i = 0; i < 16; ++i) moved += std::fabs(losses[16 * a + i] - losses[16 * b + i]) > 1e-4;
    EXPECT_GE(moved, 12) << a << " " << b;
  }
}

TEST_F(TrainerLearningTest, TheLossOfAnEventIsTheMeanOfTheStepsSinceTheLast) {
  write_wide_config(scratch / "model", 0);
  const auto losses_every = [&](std::int64_t steps) {
    TrainOptions o = options("out");
    o.recipe.epochs = 1, o.recipe.learning_rate = kRateOfNothing, o.evaluate.steps = steps, o.overwrite = true;
    run(o);
    return losses_in(events(o.out, "train"));
  };
  const std::vector<double> one = losses_every(1), four = losses_every(4);
  ASSERT_EQ(one.size(), 16u);
  ASSERT_EQ(four.size(), 4u);
  for (std::size_t i = 0; i < four.size(); ++i)
    EXPECT_NEAR(four[i], (one[4 * i] + one[4 * i + 1] + one[4 * i + 2] + one[4 * i + 3]) / 4, kRoundings) << i;
  EXPECT_GT(std::fabs(four[0] - four[1]), 1e-4);  // so that a mean over more than those would be seen
}

// What the clock decides, but not how much was done in that time.
TEST_F(TrainerLearningTest, TheSpeedsOfAnEventAreOfTheStepsSinceTheLast) {
  std::ofstream rows(scratch / "data/train.tsv");
  for (const char* words : {"", " word9", " word9 word10", " word9 word10 word11"})
    rows << "word5" << words << "\t0\tid\n";
  rows.close();
  TrainOptions o = options("out");
  o.recipe.epochs = 1, o.recipe.batch_size = 1, o.evaluate.steps = 1;
  run(o);
  std::vector<double> lengths;
  std::istringstream lines(read_file(o.out / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (const Json event = Json::parse(line); event["event"] == "train")
      lengths.push_back(event["tokens_per_second"].get<double>() / event["examples_per_second"].get<double>());
  std::sort(lengths.begin(), lengths.end());
  ASSERT_EQ(lengths.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(lengths[i], 3 + static_cast<double>(i), 1e-9);  // [CLS] and [SEP]
}

// So that a step takes that long at least: half of it to give, the other half to wait for its record.
constexpr std::chrono::milliseconds kHalfAStep{10};
struct SlowKernels final : CpuKernels {
  struct SlowReadback final : Readback {
    explicit SlowReadback(std::unique_ptr<Readback> of) : readback(std::move(of)) {}
    void start(const void* from_device) override { readback->start(from_device); }
    bool ready() const override { return readback->ready(); }
    const void* wait() override {
      std::this_thread::sleep_for(kHalfAStep);
      return readback->wait();
    }
    std::unique_ptr<Readback> readback;
  };
  SlowKernels() : CpuKernels(Precision::fp32, 1) {}
  std::unique_ptr<Readback> make_readback(std::size_t bytes) override {
    return std::make_unique<SlowReadback>(CpuKernels::make_readback(bytes));
  }
  Batch gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                     std::int32_t padding_id) override {
    std::this_thread::sleep_for(kHalfAStep);
    return CpuKernels::gather_batch(arrays, queue, shape, padding_id);
  }
};

TEST_F(TrainerLearningTest, AStepIsNoFasterThanItsParts) {
  TrainOptions o = options("out");
  o.max_steps = 30, o.evaluate.steps = 30, o.save.steps = 30;
  SlowKernels kernels;
  const std::string said = testing::stderr_of([&] { train(o, kernels, Progress::Style::lines, [] { return 0; }); });
  EXPECT_CONTAINS(said, "step 30/30  ");
  EXPECT_CONTAINS(said, "  left 0:00\n");  // the whole run would be 0:01
  const std::string log = read_file(o.out / "metrics.jsonl"), key = "\"examples_per_second\":";
  const std::size_t at = log.find(key);
  ASSERT_NE(at, std::string::npos);
  const std::chrono::duration<double> step = 2 * kHalfAStep;
  EXPECT_LE(std::stod(log.substr(at + key.size())), 4 / step.count());
}

// Of a device with memory of its own, whose steps' records come back in lots.
struct DistantKernels final : CpuKernels {
  DistantKernels() : CpuKernels(Precision::fp32, 1) {}
  bool on_host() const override { return false; }
  std::string choices() const override { return "the fast ones"; }
  bool use_choices(std::string_view text) override {
    used = text;
    return of_this_version;
  }
  std::string used;
  bool of_this_version = true;
};

TEST_F(TrainerLearningTest, ADeviceThatIsAheadOfItsRecordsLeavesTheSame) {
  const auto run_on = [&](Kernels& kernels, const char* out, bool resume, int steps) {
    TrainOptions o = options(out);
    o.recipe.epochs = 20, o.evaluate.steps = 150, o.save.steps = 170, o.resume = resume;
    int made = 0;
    train(o, kernels, Progress::Style::silent, [&] { return made++ == steps ? SIGTERM : 0; });
    return o.out;
  };
  CpuKernels near(Precision::fp32, 1);
  DistantKernels whole, first, second;
  const fs::path expected = run_on(near, "near", false, testing::kNever);
  run_on(whole, "whole", false, testing::kNever);
  run_on(first, "halves", false, 137);
  run_on(second, "halves", true, testing::kNever);
  EXPECT_EQ(whole.used, "");
  EXPECT_EQ(second.used, "the fast ones");
  for (const char* name : {"whole", "halves"}) {
    EXPECT_EQ(events(scratch / name), events(expected)) << name;
    EXPECT_EQ(model(scratch / name), model(expected)) << name;
    for (const char* file : {"model.safetensors", "optimizer.safetensors"})
      EXPECT_EQ(read_file(scratch / name / "checkpoints/step-320" / file),
                read_file(expected / "checkpoints/step-320" / file))
          << name << " " << file;
  }
}

// Whose records are there only when they are waited for.
struct LateKernels final : CpuKernels {
  struct LateReadback final : Readback {
    LateReadback(LateKernels& its, std::unique_ptr<Readback> of) : kernels(its), readback(std::move(of)) {}
    void start(const void* from_device) override {
      started = kernels.given;
      readback->start(from_device);
    }
    bool ready() const override { return false; }
    const void* wait() override {
      kernels.waited_after.push_back(kernels.given - started);
      return readback->wait();
    }
    LateKernels& kernels;
    std::unique_ptr<Readback> readback;
    int started = 0;
  };
  LateKernels() : CpuKernels(Precision::fp32, 1) {}
  bool on_host() const override { return false; }
  std::unique_ptr<Readback> make_readback(std::size_t bytes) override {
    return std::make_unique<LateReadback>(*this, CpuKernels::make_readback(bytes));
  }
  Batch gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                     std::int32_t padding_id) override {
    ++given;
    return CpuKernels::gather_batch(arrays, queue, shape, padding_id);
  }
  int given = 0;                  // batches
  std::vector<int> waited_after;  // so many more than when the records were asked for
};

// But for the first and the last, which are waited for at once, only before the next ones are asked for.
TEST_F(TrainerLearningTest, RecordsAreNotWaitedForBeforeThereIsNeed) {
  TrainOptions o = options("out");
  o.recipe.epochs = 20, o.max_steps = 193, o.evaluate.steps = o.save.steps = 193;
  LateKernels kernels;
  train(o, kernels, Progress::Style::silent, [] { return 0; });
  EXPECT_EQ(kernels.waited_after, (std::vector<int>{0, 64, 64, 0}));
}

// Not only when the next model is saved, which may be an hour later.
TEST_F(TrainerLearningTest, WhatCannotBeSavedEndsTheRunAtOnce) {
  TrainOptions o = options("out");
  constexpr int kSaves = 150;  // at this step and twice this
  o.recipe.epochs = 20, o.evaluate.steps = kSaves, o.save.steps = 1000;
  DistantKernels kernels;
  int asked = 0;
  const auto after_a_step = [&] {
    if (++asked == 2) fs::create_directory(o.out / "model.safetensors");
    if (asked > kSaves) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return 0;
  };
  EXPECT_EQ(testing::error_of([&] { train(o, kernels, Progress::Style::silent, after_a_step); }),
            (o.out / "model.safetensors").string() + ": cannot be written: Is a directory");
  EXPECT_LT(asked, 2 * kSaves);
}

TEST_F(TrainerLearningTest, TellsOfChoicesThatItCannotMakeAgain) {
  const auto said = [&](bool resume, bool of_this_version) {
    TrainOptions o = options("out");
    o.resume = resume, o.overwrite = !resume;
    DistantKernels kernels;
    kernels.of_this_version = of_this_version;
    int made = 0;
    return testing::stderr_of(
        [&] { train(o, kernels, Progress::Style::lines, [&] { return made++ == 3 ? SIGTERM : 0; }); });
  };
  const std::string note = "which was made with another version of cuBLASLt: the result may differ in its last bits\n";
  for (const bool resume : {false, true}) EXPECT_EQ(said(resume, true).find(note), std::string::npos);
  EXPECT_EQ(said(false, false).find(note), std::string::npos);
  EXPECT_CONTAINS(said(true, false), "/checkpoints/step-3\n" + note);
}

// What is shown to a person, with the steps' records on the host at once and later.
TEST_F(TrainerLearningTest, ADeviceThatIsAheadOfItsRecordsShowsNoOtherNumbers) {
  const auto shown = [&](Kernels& kernels, Progress::Style style, bool resume, int steps) {
    TrainOptions o = options("out");
    o.max_steps = 16, o.resume = resume, o.overwrite = !resume;
    int made = 0;
    return testing::stderr_of([&] { train(o, kernels, style, [&] { return made++ == steps ? SIGTERM : 0; }); });
  };
  using enum Progress::Style;
  CpuKernels near(Precision::fp32, 1);
  DistantKernels first, second, third;
  const auto last_line = [](const std::string& text) {  // without its speed
    const std::size_t begin = text.find("epoch 1/3  step 16/16  ");
    return text.substr(begin, text.find("  ", text.find("  lr ", begin) + 2) - begin);
  };
  const std::string line = last_line(shown(near, lines, false, testing::kNever));
  EXPECT_TRUE(line.ends_with("  lr 0.000188")) << line;  // a sixteenth
  EXPECT_EQ(last_line(shown(first, lines, false, testing::kNever)), line);

  // The first record is waited for.
  EXPECT_CONTAINS(shown(second, bar, false, 9), "epoch 1/3 step 1/16 loss 0.69");
  const std::string later = shown(third, bar, true, 1);
  EXPECT_CONTAINS(later, "epoch 1/3 step 10/16 loss 0.6");
  EXPECT_CONTAINS(later, " lr 0.0015 ");  // of the ninth step, half-way
}

// The model that lies in --out, measured anew on dev, is as good as the run says. At a threshold at which the measures
// differ, on a dev with rows that nothing in train prepares for.
TEST_F(TrainerLearningTest, TheBestModelIsAsGoodOnDevAsIsSaid) {
  std::ofstream(scratch / "data/dev.tsv", std::ios::app) << "word5 word6\t2,3\todd1\n"
                                                         << "word7\t0,1,2\todd2\n"
                                                         << "word8 word20\t0,3\todd3\n";
  TrainOptions o = options("out");
  o.recipe.epochs = 20, o.recipe.threshold = 0.25, o.evaluate.steps = 10;
  const DevResult best = run(o).state.best;

  const std::unique_ptr<Kernels> kernels = make_cpu_kernels(Precision::fp32, 1);
  const LoadedModel model = load_hugging_face(o.out, *kernels);
  const Labels labels = Labels::read(o.data / "labels.txt");
  Bert bert(model.config, model.weights, *kernels, Purpose::inference, {1024, 32});
  const auto scores_on = [&](const char* split) {
    const std::vector<Example> examples = read_examples(find_split(o.data, split), labels);
    const Dataset dataset = tokenize(examples, Tokenizer(model.tokenizer), *o.recipe.max_length, 1);
    return evaluate(bert, *kernels, model.config, dataset, 1024);
  };
  const auto measured = [&](const Evaluation& scores, double threshold) {
    return measure(scores.probabilities, scores.targets, labels.size(), threshold);
  };
  const Evaluation dev = scores_on("dev"), train = scores_on("train");
  const Metrics metrics = measured(dev, 0.25);
  EXPECT_NEAR(best.loss, dev.loss, kRoundings);
  EXPECT_DOUBLE_EQ(best.f1_micro, metrics.micro.f1);
  EXPECT_DOUBLE_EQ(best.f1_macro, metrics.macro.f1);
  EXPECT_DOUBLE_EQ(best.subset_accuracy, metrics.subset_accuracy);

  // None of them could stand for another.
  const auto far = [](double a, double b) { return std::fabs(a - b) > 1e-3; };
  EXPECT_TRUE(far(metrics.micro.f1, metrics.macro.f1)) << metrics.micro.f1;
  EXPECT_TRUE(far(metrics.micro.f1, metrics.subset_accuracy)) << metrics.micro.f1;
  EXPECT_TRUE(far(metrics.macro.f1, metrics.weighted.f1)) << metrics.macro.f1;
  EXPECT_TRUE(far(metrics.macro.f1, metrics.subset_accuracy)) << metrics.macro.f1;
  EXPECT_TRUE(far(metrics.micro.f1, measured(dev, 0.5).micro.f1)) << metrics.micro.f1;
  EXPECT_TRUE(far(dev.loss, train.loss)) << dev.loss;
  EXPECT_TRUE(far(metrics.micro.f1, measured(train, 0.25).micro.f1)) << metrics.micro.f1;

  // What the log says of that step is the same.
  const std::vector<Json> evaluations = events(o.out, "eval");
  const auto its = std::ranges::find_if(evaluations, [&](const Json& event) { return event.at("step") == best.step; });
  ASSERT_NE(its, evaluations.end());
  EXPECT_EQ(its->at("loss"), best.loss);
  EXPECT_EQ(its->at("f1_micro"), best.f1_micro);
  EXPECT_EQ(its->at("f1_macro"), best.f1_macro);
  EXPECT_EQ(its->at("subset_accuracy"), best.subset_accuracy);
  EXPECT_EQ(its->at("epoch"), best.epoch);
  EXPECT_DOUBLE_EQ(best.epoch, static_cast<double>(best.step) / 16);
  EXPECT_EQ(events(o.out, "end").at(0).at("best_f1_micro"), best.f1_micro);
}

// At once, not at the next evaluation: in between nothing would be learned, and a checkpoint could be made of it.
TEST_F(TrainerLearningTest, AGradientThatIsNotFiniteEndsTheRunAtItsStep) {
  TrainOptions o = options("out");
  o.recipe.learning_rate = 1e30, o.recipe.weight_decay = 0;
  const std::string message = complaint(o);  // the first step makes the weights too large for the second
  EXPECT_EQ(message.find("training diverged at step 2: the gradient is not finite; lower --lr"), 0u) << message;
  EXPECT_TRUE(events(o.out, "eval").empty());
  EXPECT_FALSE(fs::exists(o.out / "model.safetensors"));

  o.evaluate.steps = 1, o.overwrite = true;
  const std::string of_dev = complaint(o);
  EXPECT_EQ(of_dev.find("training diverged at step 1: the loss on dev is not finite; lower --lr"), 0u) << of_dev;
  EXPECT_FALSE(fs::exists(o.out / "model.safetensors"));
}

TEST_F(TrainerLearningTest, NoRateIsToBlameBeforeTheFirstUpdate) {
  testing::OverflowingKernels kernels;
  EXPECT_EQ(testing::error_of([&] { train(options("out"), kernels, Progress::Style::silent, [] { return 0; }); }),
            "step 1: the gradient is not finite with the weights of --model as they are, in fp32");
}

}  // namespace
}  // namespace ember
