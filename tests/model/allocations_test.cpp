// A text that is scored again allocates nothing: operator new counts, in this whole program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string_view>

#include "model/classifier.h"
#include "tests/model/model_directory.h"

namespace {

std::atomic<std::int64_t> allocations{0};

void* counted(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

void* counted(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  void* memory = nullptr;
  if (posix_memalign(&memory, static_cast<std::size_t>(alignment), bytes) == 0) return memory;
  throw std::bad_alloc();
}

}  // namespace

// The array forms call these by default. So would the form that does not throw, but AddressSanitizer brings one of its
// own, whose memory the deletes below must not free.
void* operator new(std::size_t bytes) {
  return counted(bytes);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, alignment);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace ember {
namespace {

TEST(Allocations, AreCounted) {
  const std::int64_t before = allocations;
  const auto memory = std::make_unique<std::vector<float>>(100);
  EXPECT_EQ(allocations - before, 2);
}

TEST(Allocations, ATextOfTheSameLengthNeedsNone) {
  const testing::ModelDirectory directory;
  for (const int threads : {1, 2}) {
    Classifier classifier(directory.path(), {.threads = threads});
    Scores scores;
    classifier.predict("in the end", scores);
    const Scores first = scores;
    const std::int64_t before = allocations;
    for (const std::string_view text : {"more the in", "in the end"}) classifier.predict(text, scores);
    EXPECT_EQ(allocations - before, 0) << threads << " threads";
    EXPECT_EQ(scores.logits, first.logits);
    EXPECT_EQ(scores.probabilities, first.probabilities);
  }
}

}  // namespace
}  // namespace ember
