#include "runtime/error.h"

#include <cerrno>

#include "tests/support.h"

namespace ember {
namespace {

TEST(Error, CheckThrowsTheFormattedMessageOnlyWhenTheConditionFails) {
  EXPECT_NO_THROW(check(true, "{} is wrong", 1));
  EXPECT_EQ(testing::error_of([] { check(false, "{}: {} rows, expected {}", "file", 2, 3); }),
            "file: 2 rows, expected 3");
  EXPECT_THROW(fail("always"), Error);
}

TEST(Printable, KeepsWellFormedText) {
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("plain \"text\" \\"), "plain \"text\" \\");
  EXPECT_EQ(printable("caf\u00e9 \u4e2d \U0001F600"), "caf\u00e9 \u4e2d \U0001F600");
}

TEST(Printable, EscapesControlCharacters) {
  EXPECT_EQ(printable(std::string_view("a\nb\tc\0d\x7F\x1B[0m", 12)), "a\\x0ab\\x09c\\x00d\\x7f\\x1b[0m");
  EXPECT_EQ(printable("\u0085\u009b\u00a0"), "\\xc2\\x85\\xc2\\x9b\u00a0");
}

TEST(Printable, EscapesBytesThatAreNotUtf8) {
  EXPECT_EQ(printable("a\xFF"), "a\\xff");
  EXPECT_EQ(printable("\xC2"), "\\xc2");                             // cut short
  EXPECT_EQ(printable("\xC0\xAF"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(printable("\xE0\x80\xAF"), "\\xe0\\x80\\xaf");           // overlong
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(printable("\xF4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // past U+10FFFF
  EXPECT_EQ(printable("\xF5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80");  // and no lead byte at all
  EXPECT_EQ(printable("\xF0\x80\x80\x80"), "\\xf0\\x80\\x80\\x80");  // overlong
  EXPECT_EQ(printable("\xE4\xC3\xA9"), "\\xe4\u00e9");               // cut short by the next
  EXPECT_EQ(printable("\x80x"), "\\x80x");
}

TEST(Printable, CutsAtTheLimitWithoutSplittingACharacter) {
  EXPECT_EQ(printable("12345", 5), "12345");
  EXPECT_EQ(printable("123456", 5), "12345...");
  EXPECT_EQ(printable("1234\u00e9", 5), "1234...");
  EXPECT_EQ(printable("123\n", 5), "123...");
}

TEST(ErrnoText, NamesTheError) {
  EXPECT_EQ(errno_text(ENOENT), "No such file or directory");
}

}  // namespace
}  // namespace ember
