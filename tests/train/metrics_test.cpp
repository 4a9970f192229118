// Expected values of counts are scikit-learn's 1.9.1: precision_recall_fscore_support(y, p >= threshold,
// zero_division=0) and accuracy_score, with the probabilities in float32 (which matters at 0.7 and 0.9, which no float
// is).
#include "train/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/error.h"
#include "runtime/philox.h"
#include "tests/support.h"

namespace ember {
namespace {

constexpr std::int64_t kLabels = 5;

// Row 3 has no label, label 3 no row.
const std::vector<float> kTargets = {1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0,
                                     0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1};
const std::vector<float> kProbabilities = {0.7f,  0.1f,  0.2f,  0.1f,  0.3f,  0.38f, 0.41f, 0.05f, 0.01f, 0.92f,
                                           0.65f, 0.23f, 0.43f, 0.19f, 0.9f,  0.1f,  0.2f,  0.05f, 0,     0.1f,
                                           0.56f, 0.27f, 0.7f,  0.01f, 0.68f, 0.87f, 0.23f, 0.9f,  0.17f, 0.02f,
                                           0.71f, 0,     0.5f,  0.09f, 0.2f,  0.32f, 0.81f, 0.32f, 0.03f, 1};

void expect_score(const PrecisionRecallF1& actual, double precision, double recall, double f1,
                  const std::string& what) {
  EXPECT_NEAR(actual.precision, precision, 1e-12) << what;
  EXPECT_NEAR(actual.recall, recall, 1e-12) << what;
  EXPECT_NEAR(actual.f1, f1, 1e-12) << what;
}

TEST(Metrics, AreThoseOfScikitLearnAtOneHalf) {
  const Metrics metrics = measure(kProbabilities, kTargets, kLabels, 0.5);
  EXPECT_EQ(metrics.threshold, 0.5);
  expect_score(metrics.micro, 0.6153846153846154, 0.6666666666666666, 0.64, "micro");
  expect_score(metrics.macro, 0.5433333333333333, 0.5599999999999999, 0.47333333333333333, "macro");
  expect_score(metrics.weighted, 0.7708333333333334, 0.6666666666666666, 0.6583333333333333, "weighted");
  EXPECT_DOUBLE_EQ(metrics.subset_accuracy, 0.375);
  ASSERT_EQ(metrics.labels.size(), 5u);
  const double precision[] = {0.8, 1.0, 0.6666666666666666, 0.0, 0.25},
               recall[] = {0.8, 0.3333333333333333, 0.6666666666666666, 0.0, 1.0},
               f1[] = {0.8, 0.5, 0.6666666666666666, 0.0, 0.4};
  const std::int64_t support[] = {5, 3, 3, 0, 1};
  for (std::size_t k = 0; k < 5; ++k) {
    expect_score(metrics.labels[k].score, precision[k], recall[k], f1[k], "label " + std::to_string(k));
    EXPECT_EQ(metrics.labels[k].support, support[k]);
  }
}

TEST(Metrics, CompareTheThresholdInSinglePrecision) {
  const Metrics metrics = measure(kProbabilities, kTargets, kLabels, 0.7);
  expect_score(metrics.micro, 0.6666666666666666, 0.5, 0.5714285714285714, "micro");
  expect_score(metrics.macro, 0.5666666666666667, 0.4533333333333333, 0.43, "macro");
  expect_score(metrics.weighted, 0.8194444444444445, 0.5, 0.5791666666666667, "weighted");
  EXPECT_DOUBLE_EQ(metrics.subset_accuracy, 0.375);
}

TEST(Metrics, HoldAtBothEndsOfTheThreshold) {
  const Metrics all = measure(kProbabilities, kTargets, kLabels, 0);
  expect_score(all.micro, 0.3, 1.0, 0.46153846153846156, "micro");
  expect_score(all.macro, 0.3, 0.8, 0.41647241647241645, "macro");
  expect_score(all.weighted, 0.4583333333333333, 1.0, 0.6117586117586117, "weighted");
  EXPECT_EQ(all.subset_accuracy, 0);
  const Metrics none = measure(kProbabilities, kTargets, kLabels, 1);
  expect_score(none.micro, 1.0, 0.08333333333333333, 0.15384615384615385, "micro");
  expect_score(none.macro, 0.2, 0.2, 0.2, "macro");
  expect_score(none.weighted, 0.08333333333333333, 0.08333333333333333, 0.08333333333333333, "weighted");
  EXPECT_DOUBLE_EQ(none.subset_accuracy, 0.125);
}

TEST(Metrics, AreZeroWhereNothingIsTrueOrPredicted) {
  const std::vector<float> targets(6, 0), probabilities(6, 0.1f);
  const Metrics metrics = measure(probabilities, targets, 2, 0.5);
  expect_score(metrics.micro, 0, 0, 0, "micro");
  expect_score(metrics.weighted, 0, 0, 0, "weighted");
  EXPECT_EQ(metrics.subset_accuracy, 1);  // every row's empty label set is right
}

TEST(Sweep, IsScikitLearnsAtEveryThreshold) {
  const double micro[] = {0.5217391304347826,
                          0.5581395348837209,
                          0.6153846153846154,
                          0.6486486486486487,
                          0.6875,
                          0.7096774193548387,
                          0.7142857142857143,
                          0.6666666666666666,
                          0.64,
                          0.64,
                          0.5833333333333334,
                          0.6086956521739131,
                          0.6086956521739131,
                          0.5714285714285714,
                          0.3333333333333333,
                          0.3333333333333333,
                          0.23529411764705882,
                          0.125,
                          0.15384615384615385};
  const double macro[] = {0.4329370629370629,
                          0.45717948717948714,
                          0.4904761904761904,
                          0.4904761904761904,
                          0.5166666666666667,
                          0.5433333333333333,
                          0.536103896103896,
                          0.5142857142857143,
                          0.47333333333333333,
                          0.47333333333333333,
                          0.42000000000000004,
                          0.4377777777777777,
                          0.4377777777777777,
                          0.43,
                          0.26666666666666666,
                          0.26666666666666666,
                          0.16666666666666666,
                          0.1,
                          0.2};
  const double accuracy[] = {0,    0,    0,    0,     0.25,  0.25,  0.375, 0.375, 0.375, 0.375,
                             0.25, 0.25, 0.25, 0.375, 0.125, 0.125, 0.125, 0.125, 0.125};
  const std::vector<SweepPoint> points = sweep(kProbabilities, kTargets, kLabels);
  ASSERT_EQ(points.size(), 19u);
  for (std::size_t i = 0; i < points.size(); ++i) {
    EXPECT_DOUBLE_EQ(points[i].threshold, 0.05 * static_cast<double>(i + 1));
    EXPECT_NEAR(points[i].f1_micro, micro[i], 1e-12) << i;
    EXPECT_NEAR(points[i].f1_macro, macro[i], 1e-12) << i;
    EXPECT_NEAR(points[i].subset_accuracy, accuracy[i], 1e-12) << i;
  }
  EXPECT_DOUBLE_EQ(best_micro(points).threshold, 0.35);
}

TEST(Sweep, OfEqualPointsTheLowestThresholdIsBest) {
  const std::vector<SweepPoint> points = {{0.1, 0.5, 0, 0}, {0.2, 0.6, 0, 0}, {0.3, 0.6, 0, 0}, {0.4, 0.1, 1, 1}};
  EXPECT_EQ(best_micro(points).threshold, 0.2);
  EXPECT_THROW(best_micro({}), std::logic_error);
}

// Whatever the data: recall falls and never rises with the threshold, perfect scores give 1, micro lies in [0, 1], and
// the order of the rows does not matter.
TEST(Metrics, HaveTheirPropertiesOnRandomData) {
  constexpr std::size_t kRows = 37, kWidth = 7;
  std::vector<float> probabilities, targets;
  for (std::uint64_t i = 0; i < kRows * kWidth; ++i) {
    const PhiloxBlock words = random_block(7, 0, 0, i);
    probabilities.push_back(static_cast<float>(words[0]) / 4294967296.0f);
    targets.push_back(words[1] % 4 == 0 ? 1.0f : 0.0f);
  }
  double recall = 1;
  for (int i = 0; i <= 20; ++i) {
    const Metrics metrics = measure(probabilities, targets, kWidth, i / 20.0);
    EXPECT_LE(metrics.micro.recall, recall);
    recall = metrics.micro.recall;
    for (const PrecisionRecallF1& score : {metrics.micro, metrics.macro, metrics.weighted}) {
      for (const double value : {score.precision, score.recall, score.f1})
        EXPECT_TRUE(value >= 0 && value <= 1) << value;
    }
    EXPECT_NEAR(metrics.weighted.recall, metrics.micro.recall, 1e-12);  // an identity of the definitions
  }
  expect_score(measure(targets, targets, kWidth, 0.5).micro, 1, 1, 1, "perfect");
  EXPECT_EQ(measure(targets, targets, kWidth, 0.5).subset_accuracy, 1);

  std::vector<float> turned_probabilities = probabilities, turned_targets = targets;
  std::rotate(turned_probabilities.begin(), turned_probabilities.begin() + 5 * kWidth, turned_probabilities.end());
  std::rotate(turned_targets.begin(), turned_targets.begin() + 5 * kWidth, turned_targets.end());
  const Metrics here = measure(probabilities, targets, kWidth, 0.3),
                there = measure(turned_probabilities, turned_targets, kWidth, 0.3);
  EXPECT_EQ(here.micro.f1, there.micro.f1);
  EXPECT_EQ(here.macro.f1, there.macro.f1);
  EXPECT_EQ(here.subset_accuracy, there.subset_accuracy);
}

// Sixty-fourths, so that every sum is exact.
TEST(CalibrationError, IsTheOneComputedByHand) {
  const std::vector<float> probabilities = {34 / 64.0f, 1 / 64.0f, 1,          32 / 64.0f,
                                            16 / 64.0f, 3 / 64.0f, 62 / 64.0f, 33 / 64.0f},
                           targets = {1, 0, 0, 0, 0, 1, 1, 1};
  const double first = 2 / 8.0 * (1 / 2.0 - 2 / 64.0),      // 1 and 3, of which one's label is set
      fourth = 1 / 8.0 * (16 / 64.0 - 0),                   // 16
      eighth = 3 / 8.0 * (2 / 3.0 - 33 / 64.0),             // 32, 33 and 34, two set
      last = 2 / 8.0 * ((62 + 64) / 2.0 / 64.0 - 1 / 2.0);  // 62 and 64, one set
  EXPECT_NEAR(first + fourth + eighth + last, 167 / 512.0, 1e-15);
  for (const std::int64_t labels : {1, 2, 8})  // pairs are pairs, of whatever row
    EXPECT_EQ(expected_calibration_error(probabilities, targets, labels), 167 / 512.0);
}

TEST(CalibrationError, IsZeroOfScoresThatAreRightAndOneOfThoseThatAreWrong) {
  EXPECT_EQ(expected_calibration_error(kTargets, kTargets, kLabels), 0);
  std::vector<float> wrong;
  for (const float target : kTargets) wrong.push_back(1 - target);
  EXPECT_EQ(expected_calibration_error(wrong, kTargets, kLabels), 1);
  const std::vector<float> share(4, 0.25f), one_in_four = {0, 0, 1, 0};
  EXPECT_EQ(expected_calibration_error(share, one_in_four, 2), 0);
}

// What a label that is set and one that is not give whose scores share a bin, and whose scores do not.
double together(float set, float unset) {
  return std::abs((static_cast<double>(set) + unset) / 2 - 0.5);
}
double apart(float set, float unset) {
  return ((1 - static_cast<double>(set)) + unset) / 2;
}

TEST(CalibrationError, AnEdgeBelongsToTheBinAboveItAndOneToTheLast) {
  const auto error_of = [](float set, float unset) {
    return expected_calibration_error(std::vector{set, unset}, std::vector{1.0f, 0.0f}, 1);
  };
  for (int edge = 1; edge < 15; ++edge) {
    float above = static_cast<float>(edge / 15.0);  // no edge but 0 and 1 is a float: of those not below it the first
    if (15 * static_cast<double>(above) < edge) above = std::nextafter(above, 1.0f);
    const float below = std::nextafter(above, 0.0f);
    EXPECT_DOUBLE_EQ(error_of(below, above), apart(below, above)) << edge;
    EXPECT_DOUBLE_EQ(error_of(std::nextafter(below, 0.0f), below), together(std::nextafter(below, 0.0f), below))
        << edge;
    EXPECT_DOUBLE_EQ(error_of(above, std::nextafter(above, 1.0f)), together(above, std::nextafter(above, 1.0f)))
        << edge;
  }
  EXPECT_EQ(error_of(0.9375f, 1), together(0.9375f, 1));
  EXPECT_EQ(error_of(0, 0.0625f), together(0, 0.0625f));
  EXPECT_EQ(error_of(0, 1), apart(0, 1));
}

TEST(Metrics, RefuseWhatIsNoProbability) {
  for (const float wrong :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0.1f, 1.1f})
    for (const std::size_t place : {std::size_t{0}, std::size_t{17}, kProbabilities.size() - 1}) {
      std::vector<float> probabilities = kProbabilities;
      probabilities[place] = wrong;
      EXPECT_THROW(measure(probabilities, kTargets, kLabels, 0.5), Error) << wrong << " at " << place;
      EXPECT_THROW(sweep(probabilities, kTargets, kLabels), Error);
      EXPECT_THROW(expected_calibration_error(probabilities, kTargets, kLabels), Error);
    }
}

TEST(Metrics, SayWhereAScoreIsNoProbability) {
  std::vector<float> probabilities = kProbabilities;
  probabilities[3 * kLabels + 2] = -0.5f;
  const std::string message = "row 3, label 2: the model's score is -0.5, not a probability";
  EXPECT_EQ(testing::error_of([&] { measure(probabilities, kTargets, kLabels, 0.5); }), message);
  EXPECT_EQ(testing::error_of([&] { expected_calibration_error(probabilities, kTargets, kLabels); }), message);
}

TEST(Metrics, RefuseWrongThresholdsAndShapes) {
  for (const double threshold : {std::nan(""), -0.01, 1.01, std::numeric_limits<double>::infinity()})
    EXPECT_THROW(measure(kProbabilities, kTargets, kLabels, threshold), Error) << threshold;
  EXPECT_THROW(measure({}, {}, kLabels, 0.5), Error);
  EXPECT_THROW(measure(kProbabilities, kTargets, 7, 0.5), std::logic_error);
  EXPECT_THROW(measure(kProbabilities, kTargets, 0, 0.5), std::logic_error);
  EXPECT_THROW(measure(std::span(kProbabilities).first(5), kTargets, kLabels, 0.5), std::logic_error);
  EXPECT_THROW(expected_calibration_error({}, {}, kLabels), Error);
  EXPECT_THROW(expected_calibration_error(kProbabilities, kTargets, 7), std::logic_error);
}

}  // namespace
}  // namespace ember
