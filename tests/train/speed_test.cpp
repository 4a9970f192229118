// The accounting of train/speed.h with made-up times.
#include "train/speed.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace ember {
namespace {

// Gives `steps` steps of 16 texts and 300 tokens in `seconds`.
void give(SpeedMeter& meter, int steps, double seconds) {
  for (int i = 0; i < steps; ++i) meter.give(16, 300);
  meter.spend(seconds);
}

void finish(SpeedMeter& meter, int steps) {
  for (int i = 0; i < steps; ++i) meter.finish();
}

TEST(SpeedMeter, StepsThatAreDoneAtOnceHaveTheirOwnTime) {
  SpeedMeter meter;
  for (const double seconds : {1.0, 3.0}) {
    meter.give(16, 300);
    meter.spend(seconds);
    meter.arrive(1);
    meter.finish();
  }
  EXPECT_EQ(meter.window().steps, 2);
  EXPECT_EQ(meter.seconds_a_step(), 2);
  const Speed window = meter.take();
  EXPECT_EQ(window.per_second(window.examples), 8);
  EXPECT_EQ(window.per_second(window.tokens), 150);
  EXPECT_EQ(meter.window().steps, 0);
  EXPECT_EQ(meter.window().per_second(meter.window().examples), 0);
}

// Lots of 64 and windows of 100: the second lot ends a window in its midst.
TEST(SpeedMeter, ALotsTimeIsItsStepsInEqualParts) {
  SpeedMeter meter;
  give(meter, 128, 0.5);  // the device has done the first 64 of these when the time of the second 64 begins
  meter.arrive(64);
  finish(meter, 64);
  EXPECT_DOUBLE_EQ(meter.window().seconds, 0.5);
  give(meter, 64, 2);
  meter.arrive(64);
  finish(meter, 36);
  const Speed window = meter.take();
  EXPECT_EQ(window.steps, 100);
  EXPECT_EQ(window.examples, 1600);
  EXPECT_DOUBLE_EQ(window.seconds, 0.5 + 36 * 2.0 / 64);
  finish(meter, 28);
  EXPECT_EQ(meter.window().tokens, 28 * 300);
  EXPECT_DOUBLE_EQ(meter.window().seconds, 28 * 2.0 / 64);
}

// The last lot before an evaluation is shorter; what the evaluation takes is not told.
TEST(SpeedMeter, AShorterLotHasItsOwnTime) {
  SpeedMeter meter;
  give(meter, 70, 1);
  meter.arrive(64);
  finish(meter, 64);
  meter.take();
  meter.spend(0.25);
  meter.arrive(0);  // none yet: the time goes on
  meter.arrive(6);
  finish(meter, 6);
  EXPECT_EQ(meter.window().steps, 6);
  EXPECT_DOUBLE_EQ(meter.window().seconds, 0.25);
  EXPECT_DOUBLE_EQ(meter.seconds_a_step(), 1.25 / 70);
}

TEST(SpeedMeter, BeforeTheFirstLotTimeIsThatOfTheStepsGiven) {
  SpeedMeter meter;
  EXPECT_EQ(meter.seconds_a_step(), 0);
  give(meter, 4, 2);
  EXPECT_EQ(meter.seconds_a_step(), 0.5);
  EXPECT_EQ(meter.window().steps, 0);
}

TEST(SpeedMeter, AStepThatWasNotGivenIsADefect) {
  SpeedMeter meter;
  EXPECT_THROW(meter.finish(), std::logic_error);
}

}  // namespace
}  // namespace ember
