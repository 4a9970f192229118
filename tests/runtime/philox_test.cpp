#include "runtime/philox.h"

#include <set>

#include "tests/support.h"

namespace ember {
namespace {

// The known answers for philox4x32 with 10 rounds that its authors publish with Random123.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones, ones, ones}, 0xffffffffffffffff),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // The counter and the key, low word first, are the digits of pi.
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBlock, PutsEveryArgumentIntoTheCounterOrTheKey) {
  const std::uint64_t seed = 0x299f31d0a4093822;
  EXPECT_EQ(random_block(seed, 0x03707344, 0x13198a2e, 0x85a308d3243f6a88),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  const std::set<PhiloxBlock> different{random_block(1, 0x100, 3, 4), random_block(2, 0x100, 3, 4),
                                        random_block(1, 0x101, 3, 4), random_block(1, 0x100, 4, 4),
                                        random_block(1, 0x100, 3, 5), random_block(1, 0x100, 3, 4 + (1ull << 32))};
  EXPECT_EQ(different.size(), 6u);
}

TEST(Dropout, DropsItsShareOfTheWords) {
  for (const float probability : {0.1f, 0.5f, 0.9f}) {
    const Dropout dropout{probability, 7, static_cast<std::uint32_t>(Site::ffn_output), 11};
    const std::uint64_t blocks = 50'000;
    double dropped = 0;
    for (std::uint64_t i = 0; i < blocks; ++i)
      for (const std::uint32_t word : random_block(dropout.seed, dropout.site, dropout.step, i))
        dropped += word < dropout.threshold() ? 1 : 0;
    // Five standard deviations of the binomial.
    EXPECT_NEAR(dropped / (4.0 * blocks), probability, 5 * std::sqrt(probability * (1 - probability) / (4.0 * blocks)));
  }
}

TEST(Dropout, ThresholdAndScale) {
  EXPECT_FALSE(Dropout{}.active());
  EXPECT_EQ(Dropout{}.threshold(), 0u);
  EXPECT_EQ(Dropout{}.scale(), 1.0f);
  const Dropout quarter{0.25f, 0, 0, 0};
  EXPECT_TRUE(quarter.active());
  EXPECT_EQ(quarter.threshold(), 0x40000000u);
  EXPECT_FLOAT_EQ(quarter.scale(), 4.0f / 3.0f);
  const Dropout most{std::nextafter(1.0f, 0.0f), 0, 0, 0};
  EXPECT_EQ(most.threshold(), 0xFFFFFF00u);
}

}  // namespace
}  // namespace ember
