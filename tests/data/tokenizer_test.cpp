// The tokenizer against its rules, one by one, and against digests of what the reference tokenizer makes of the data
// set, of every code point, and of generated strings (tests/golden/tokenizer_fixtures.py).
#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "data/examples.h"
#include "data/unicode.h"
#include "data/vocabulary.h"
#include "data/words.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/utf8.h"
#include "tests/support.h"

namespace ember {
namespace {

using namespace std::string_literals;
using nlohmann::json;
using testing::shared_dir;
using testing::TemporaryDirectory;
using Ids = std::vector<std::int32_t>;
using Words = std::vector<std::string>;

constexpr std::array<std::string_view, 5> kSpecials = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

// A word longer than a word may be comes as "<long>".
Words words_of(std::string_view text, bool lower_case = true) {
  Words words;
  WordReader reader(text, kSpecials, lower_case);
  for (Word word; reader.next(word);) words.emplace_back(word.too_long ? "<long>" : word.text);
  return words;
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// A tokenizer over the five special tokens (ids 0 to 4) and then the given lines.
struct Small {
  explicit Small(const std::string& lines) : tokenizer(make(lines)) {}
  static Tokenizer make(const std::string& lines) {
    const TemporaryDirectory folder;
    write_file_atomically(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + lines);
    return Tokenizer(folder / "vocab.txt");
  }
  // Without the [CLS] and [SEP] at the ends.
  Ids ids(std::string_view text, std::int64_t max_length = 1 << 20) const {
    const Ids all = tokenizer.encode(text, max_length);
    EXPECT_GE(all.size(), 2u);
    EXPECT_EQ(all.front(), 2);
    EXPECT_EQ(all.back(), 3);
    return {all.begin() + 1, all.end() - 1};
  }

  Tokenizer tokenizer;
};

TEST(Words, NormaliseAndSplit) {
  EXPECT_EQ(words_of("Café Cafe\u0301"), (Words{"cafe", "cafe"}));
  EXPECT_EQ(words_of("\u0130stanbul"), (Words{"istanbul"}));
  EXPECT_EQ(words_of("ΟΔΟΣ"), (Words{"οδοσ"})) << "no final sigma";
  EXPECT_EQ(words_of("a\0b\uFFFDc"s), (Words{"abc"}));
  EXPECT_EQ(words_of("a\x0B"
                     "b\x0C"
                     "c\u0085d\x7F"
                     "e"),
            (Words{"abcde"}));
  EXPECT_EQ(words_of("a\u200Bb\uFEFFc\u00ADd"), (Words{"abcd"}));
  EXPECT_EQ(words_of("a\u0378b"), (Words{"a\u0378b"})) << "unassigned code points stay";
  EXPECT_EQ(words_of("a\uE000b"), (Words{"ab"}));
  EXPECT_EQ(words_of("a≠b \u1FEF \u037E"), (Words{"a", "=", "b", "`", ";"}));
  EXPECT_EQ(words_of("ﬁne ＡＢ！ ẞ"), (Words{"ﬁne", "ａｂ", "！", "ß"}));
  EXPECT_EQ(words_of("각"), (Words{"\u1100\u1161\u11A8"}));
  EXPECT_EQ(words_of("[NAME] isn't"), (Words{"[", "name", "]", "isn", "'", "t"}));
  EXPECT_EQ(words_of(""), Words{});
  EXPECT_EQ(words_of("\0\u200B"s), Words{});
  EXPECT_EQ(words_of(" \t\r\n\u00A0\u3000"), Words{});
}

TEST(Words, WhiteSpaceSplits) {
  for (const char* space : {"\t", "\n", "\r", " ", "\u00A0", "\u1680", "\u2000", "\u200A", "\u2028", "\u2029", "\u202F",
                            "\u205F", "\u3000"})
    EXPECT_EQ(words_of("a"s + space + "b"), (Words{"a", "b"})) << ::testing::PrintToString(space);
}

TEST(Words, IdeographsStandAlone) {
  EXPECT_EQ(words_of("我爱你a"), (Words{"我", "爱", "你", "a"}));
  EXPECT_EQ(words_of("x\uF900y"), (Words{"x", "\u8C48", "y"}));
  for (const char32_t inside : {0x3400, 0x4DBF, 0x4E00, 0x9FFF, 0x20000, 0x2A6DF, 0x2B73F, 0x2B740, 0x2B920, 0x2CEAF})
    EXPECT_EQ(unicode::character_class(inside), unicode::CharacterClass::ideograph) << std::hex << +inside;
  for (const char32_t outside : {0x33FF, 0x4DC0, 0xA000, 0x1FFFF, 0x2A6E0, 0x2B820, 0x2B91F, 0x2CEB0, 0x2FA20})
    EXPECT_EQ(unicode::character_class(outside), unicode::CharacterClass::letter) << std::hex << +outside;
}

TEST(Words, SpecialTokensAreFoundInTheRawText) {
  EXPECT_EQ(words_of("hello[SEP]world [MASK]s [mask]"),
            (Words{"hello", "[SEP]", "world", "[MASK]", "s", "[", "mask", "]"}));
  EXPECT_EQ(words_of("[MA\u200BSK]"), (Words{"[", "mask", "]"}));
  EXPECT_EQ(words_of("[[PAD]][CLS"), (Words{"[", "[PAD]", "]", "[", "cls"}));
  EXPECT_EQ(words_of("[CLS][UNK][SEP"), (Words{"[CLS]", "[UNK]", "[", "sep"}));
  EXPECT_EQ(words_of("[MA\xFFSK]"), (Words{"[", "mask", "]"}));
}

TEST(Words, WithoutLowerCasingAccentsStay) {
  EXPECT_EQ(words_of("Café Cafe\u0301 ΟΔΟΣ", false), (Words{"Café", "Cafe\u0301", "ΟΔΟΣ"}));
  EXPECT_EQ(words_of("a≠b\u037E각[SEP]x\uF900\u200By", false),
            (Words{"a≠b", "\u037E", "각", "[SEP]", "x", "\uF900", "y"}));
}

TEST(Words, TakeAHundredCodePoints) {
  const std::string hundred(100, 'a');
  EXPECT_EQ(words_of(hundred), (Words{hundred}));
  EXPECT_EQ(words_of(hundred + "a"), (Words{"<long>"}));
  EXPECT_EQ(words_of(hundred + "\u0301"), (Words{hundred}));
  EXPECT_EQ(words_of(hundred + "\u00DF b"), (Words{"<long>", "b"}));
  EXPECT_EQ(words_of(repeated("\U0001F600", 100)), (Words{repeated("\U0001F600", 100)}));
  EXPECT_EQ(words_of(repeated("\u302E", 100)), (Words{repeated("\u302E", 100)}));
  EXPECT_EQ(words_of(repeated("\u302E", 101) + "!"), (Words{"<long>", "!"}));
  EXPECT_EQ(words_of(repeated("각", 34)), (Words{"<long>"})) << "counted after decomposition";
}

// Combining classes: U+1D165 216, U+302E 224, U+1D16D 226; U+0316 (Mn) 220, U+0900 (Mn) 0.
TEST(Words, MarksThatStayAreInCanonicalOrder) {
  EXPECT_EQ(words_of("a\U0001D16D\u302E\U0001D165"), (Words{"a\U0001D165\u302E\U0001D16D"}));
  EXPECT_EQ(words_of("\U0001D16D\U0001D165 b"), (Words{"\U0001D165\U0001D16D", "b"}));
  EXPECT_EQ(words_of("\u302E\U0001D165\u302F"), (Words{"\U0001D165\u302E\u302F"})) << "equal classes keep their order";
  EXPECT_EQ(words_of("a\u302E\u0316\U0001D165"), (Words{"a\U0001D165\u302E"})) << "across a dropped mark";
  EXPECT_EQ(words_of("a\u302E\u200B\U0001D165"), (Words{"a\U0001D165\u302E"})) << "across a dropped control";
  EXPECT_EQ(words_of("a\u302E\u0900\U0001D165"), (Words{"a\u302E\U0001D165"})) << "not across a dropped starter";
  EXPECT_EQ(words_of("\u302Eb\U0001D165"), (Words{"\u302Eb\U0001D165"})) << "not across a letter";
  EXPECT_EQ(words_of("\u302Eé\U0001D165"), (Words{"\u302Ee\U0001D165"}));
  EXPECT_EQ(words_of("a\u302E\U0001D165", false), (Words{"a\u302E\U0001D165"})) << "cased text is not normalised";
}

TEST(Tokenizer, MatchesTheLongestPiece) {
  const Small small("un\nunbe\n##able\n##lie\n##liev\n##a\n!\nable\n");
  EXPECT_EQ(small.ids("unbelievable"), (Ids{6, 9, 7}));
  EXPECT_EQ(small.ids("unable able"), (Ids{5, 7, 12}));
  EXPECT_EQ(small.ids("UnBe!"), (Ids{6, 11}));
  EXPECT_EQ(small.ids("unbelief un"), (Ids{1, 5})) << "no part of a word that does not match to its end";
  EXPECT_EQ(small.ids("a unb"), (Ids{1, 1}));
  EXPECT_EQ(small.ids(std::string(101, 'a') + "!"), (Ids{1, 11}));
  EXPECT_EQ(small.tokenizer.token(8), "##lie");
  EXPECT_EQ(small.tokenizer.vocabulary_size(), 13);
}

TEST(Tokenizer, TakesAWordOfAHundredCodePoints) {
  const Small small("a\n##a\n");
  Ids expected(100, 6);
  expected[0] = 5;
  EXPECT_EQ(small.ids(std::string(100, 'a')), expected);
  EXPECT_EQ(small.ids(std::string(100, 'a') + "\u0301"), expected);
  EXPECT_EQ(small.ids(std::string(101, 'a')), (Ids{1}));
}

TEST(Tokenizer, GivesSpecialTokensTheirIds) {
  const Small small("hello\nmask\n[\n]\n");
  EXPECT_EQ(small.ids("hello[SEP][MASK] [mask][PAD][UNK][CLS]"), (Ids{5, 3, 4, 7, 6, 8, 0, 1, 2}));
  EXPECT_EQ(small.tokenizer.pad_id(), 0);
  EXPECT_EQ(small.tokenizer.unknown_id(), 1);
  EXPECT_EQ(small.tokenizer.cls_id(), 2);
  EXPECT_EQ(small.tokenizer.sep_id(), 3);
}

TEST(Tokenizer, CutsOnTheRight) {
  const Small small("a\n##b\n##c\nd\n");
  EXPECT_EQ(small.ids("abc d [SEP]"), (Ids{5, 6, 7, 8, 3}));
  EXPECT_EQ(small.ids("abc d", 6), (Ids{5, 6, 7, 8}));
  EXPECT_EQ(small.ids("abc d", 5), (Ids{5, 6, 7}));
  EXPECT_EQ(small.ids("abc d", 4), (Ids{5, 6}));
  EXPECT_EQ(small.ids("abx d", 4), (Ids{1, 8}));
  EXPECT_EQ(small.ids("abc d", 2), Ids{});
  EXPECT_EQ(small.ids("", 2), Ids{});
  for (const std::int64_t too_short : {1, 0, -5}) EXPECT_THROW(small.tokenizer.encode("a", too_short), Error);
}

TEST(Tokenizer, SaysWhetherThereWereMoreTokens) {
  const Small small("a\n##b\n##c\nd\n");
  const auto cut = [&](std::string_view text, std::int64_t max_length) {
    Ids ids;
    return small.tokenizer.encode(text, max_length, ids);
  };
  EXPECT_FALSE(cut("abc d", 6));
  EXPECT_FALSE(cut("abc d \t\x01", 6)) << "white space and control characters are no tokens";
  for (const std::string_view more : {"abc d d", "abc d[SEP]", "abc d x", "abc ab"}) EXPECT_TRUE(cut(more, 6)) << more;
  EXPECT_TRUE(cut("abc", 4)) << "within a word";
  EXPECT_FALSE(cut("abx", 3)) << "which is one unknown token";
  EXPECT_FALSE(cut(" ", 2));
  EXPECT_TRUE(cut("a", 2));
}

TEST(Tokenizer, AppendsToTheIds) {
  const Small small("a\n##b\n");
  Ids ids = {77};
  small.tokenizer.encode("ab a", 4, ids);
  small.tokenizer.encode("ax", 128, ids);
  EXPECT_EQ(ids, (Ids{77, 2, 5, 6, 3, 2, 1, 3}));
}

TEST(Tokenizer, LeavesOutBytesThatAreNotUtf8) {
  const Small small("ab\n");
  for (const char* bad :
       {"\x80", "\xFF", "\xC0\x80", "\xE2\x82", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF0\x80\x80\xAF"})
    EXPECT_EQ(small.ids("a"s + bad + "b"), (Ids{5}));
  EXPECT_EQ(small.ids("ab \xE2\x82"), (Ids{5}));
  EXPECT_EQ(small.ids("\xF0\x9F\x98"), Ids{});
}

TEST(Tokenizer, KnowsValidUtf8) {
  for (const std::string& good : {""s, "a\0b"s, "é"s, "\uFFFD"s, "\u07FF\u0800\uD7FF\uE000\uFFFF\U00010000\U0010FFFF"s})
    EXPECT_TRUE(valid_utf8(good)) << good;
  for (const char* bad :
       {"\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "a\xE2\x82", "\xE2\x28\xA1", "\xC3\xC3", "\xE2\x82\xFF"})
    EXPECT_FALSE(valid_utf8(bad)) << ::testing::PrintToString(bad);
  EXPECT_EQ(decode_utf8(std::string_view("é").substr(0, 1)).code, kInvalidCode) << "é goes on behind the text";
}

TEST(Vocabulary, IdsAreLineNumbers) {
  const Small small("dup\n\nfox \t\r\ndup\nx\u3000\u0085\x0B\x0C\n  lead\nlast");
  EXPECT_EQ(small.tokenizer.vocabulary_size(), 12);
  EXPECT_EQ(small.ids("dup"), (Ids{8})) << "of equal lines the last counts";
  EXPECT_EQ(small.ids("fox x last lead"), (Ids{7, 9, 11, 1})) << "only white space at the end is trimmed";
}

TEST(Vocabulary, OfEqualSpecialTokensTheLastCounts) {
  const Small small("[UNK]\na\n[CLS]\n");
  EXPECT_EQ(small.tokenizer.unknown_id(), 5);
  EXPECT_EQ(small.tokenizer.cls_id(), 7);
  EXPECT_EQ(small.tokenizer.encode("a b [UNK]", 128), (Ids{7, 6, 5, 5, 3}));
}

// As bert-base-chinese has U+2028 for one.
TEST(Vocabulary, LinesHoldWhatIsReadBackOrMatchesNothing) {
  for (const char* token : {"in", "  in", "##s", "a b", "[MASK]"}) EXPECT_EQ(vocabulary_line(token), token);
  for (const char* white : {"", " ", "\t", "\n", "\u2028", "\u3000 "}) {
    EXPECT_EQ(vocabulary_line(white), "") << white;
    EXPECT_EQ(vocabulary_line("##"s + white), "##") << white;
  }
  for (const char* token : {"in ", "in\t", "in\n", "in\u3000", "a\nb", "a\rb", "##s\u0085"})
    EXPECT_EQ(vocabulary_line(token), std::nullopt) << token;
}

TEST(Vocabulary, MayLackOnlyTheMask) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[\n]\nmask\n");
  EXPECT_EQ(Tokenizer(folder / "vocab.txt").encode("[MASK]", 128), (Ids{2, 4, 6, 5, 3}));
}

// The message of the Error that reading this vocabulary throws, or nothing.
std::string vocabulary_error(const std::filesystem::path& path) {
  return testing::error_of([&] { Tokenizer{path}; });
}

TEST(Vocabulary, ErrorsNameTheFileAndWhatIsWrong) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "vocab.txt";
  EXPECT_CONTAINS(vocabulary_error(path), path.string());
  EXPECT_CONTAINS(vocabulary_error(folder.path()), folder.path().string());
  const std::string all = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
  for (const char* name : {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}) {
    std::string lines = all;
    lines.replace(lines.find(name), 5, "other");
    write_file_atomically(path, lines);
    EXPECT_EQ(vocabulary_error(path), path.string() + ": the vocabulary of 4 lines has no " + name);
  }
  write_file_atomically(path, "");
  EXPECT_EQ(vocabulary_error(path), path.string() + ": the vocabulary of 0 lines has no [PAD]");
  write_file_atomically(path, all + "ok\nb\xC3\n");
  EXPECT_CONTAINS(vocabulary_error(path), "vocab.txt:6: not UTF-8");
  std::filesystem::resize_file(path, kMostVocabularyBytes + 1);
  EXPECT_CONTAINS(vocabulary_error(path), "more than the 268435456 allowed");
}

// 64-bit FNV-1a, one digest for every `block` results.
class Digests {
 public:
  explicit Digests(std::size_t block) : block_(block) {}

  void add(const Ids& ids) {
    for (const std::int32_t id : ids) add_number(static_cast<std::uint32_t>(id));
    add_number(0xFFFFFFFFu);
    end_result();
  }
  void add(const Words& words) {
    for (const std::string& word : words) add_bytes(word + '\0');
    add_bytes("\1");
    end_result();
  }
  void expect(const json& expected) {
    if (results_ % block_ != 0) values_.push_back(value_);
    ASSERT_EQ(values_.size(), expected.size());
    for (std::size_t i = 0; i < values_.size(); ++i)
      EXPECT_EQ(fmt::format("{:016x}", values_[i]), expected[i].get<std::string>())
          << "results " << i * block_ << " to " << (i + 1) * block_ - 1 << " are not those of the reference";
  }

 private:
  void add_number(std::uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8) add_byte(static_cast<unsigned char>(number >> shift));
  }
  void add_bytes(std::string_view bytes) {
    for (const char byte : bytes) add_byte(static_cast<unsigned char>(byte));
  }
  void add_byte(unsigned char byte) { value_ = (value_ ^ byte) * 0x100000001B3u; }
  void end_result() {
    if (++results_ % block_ != 0) return;
    values_.push_back(value_);
    value_ = kSeed;
  }

  static constexpr std::uint64_t kSeed = 0xCBF29CE484222325u;
  std::size_t block_, results_ = 0;
  std::uint64_t value_ = kSeed;
  std::vector<std::uint64_t> values_;
};

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t below(std::uint64_t bound) {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % bound;
  }

 private:
  std::uint64_t state_;
};

struct Case {
  std::string text;
  std::int64_t max_length;
};

// make_strings of tests/golden/tokenizer_fixtures.py.
std::vector<Case> generated_strings(const json& golden) {
  std::vector<Words> pools;
  for (const json& pool : golden["pools"]) pools.push_back(pool["elements"].get<Words>());
  SplitMix random(golden["strings"]["seed"].get<std::uint64_t>());
  std::vector<Case> cases(golden["strings"]["count"].get<std::size_t>());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    for (auto elements = 1 + random.below(24); elements > 0; --elements) {
      const Words& pool = pools[random.below(pools.size())];
      const std::string& element = pool[random.below(pool.size())];
      const int times = random.below(64) == 0 ? static_cast<int>(60 + random.below(80)) : 1;
      cases[i].text += repeated(element, times);
    }
    cases[i].max_length = i % 4 == 3 ? static_cast<std::int64_t>(2 + random.below(30)) : 512;
  }
  return cases;
}

class Reference : public ::testing::Test {
 protected:
  static std::filesystem::path folder() { return testing::source_dir() / "tests/golden/tokenizer"; }
  static std::filesystem::path real_vocabulary() { return shared_dir() / "bert-base-uncased/vocab.txt"; }

  const json golden = json::parse(read_file(folder() / "digests.json"));

  template <typename Result>
  void expect_strings(const char* name, const Result& result_of) {
    const json& strings = golden["strings"];
    Digests digests(strings["block"].get<std::size_t>());
    for (const Case& item : generated_strings(golden)) digests.add(result_of(item));
    digests.expect(strings[name]);
  }

  // Every code point, surrogates excepted, between two letters.
  template <typename Result>
  void expect_code_points(const char* name, const Result& result_of) {
    const json& code_points = golden["code_points"];
    Digests digests(code_points["block"].get<std::size_t>());
    for (char32_t code = 0; code < 0x110000; ++code) {
      if (code == 0xD800) code = 0xE000;
      std::array<char, 4> encoded;
      std::string text = "a";
      text.append(encoded.data(), encode_utf8(code, encoded.data()));
      digests.add(result_of(text.append("b")));
    }
    digests.expect(code_points[name]);
  }
};

TEST_F(Reference, WordsOfStrings) {
  expect_strings("words", [](const Case& item) { return words_of(item.text); });
  expect_strings("words_cased", [](const Case& item) { return words_of(item.text, false); });
}

TEST_F(Reference, WordsOfEveryCodePoint) {
  expect_code_points("words", [](const std::string& text) { return words_of(text); });
  expect_code_points("words_cased", [](const std::string& text) { return words_of(text, false); });
}

TEST_F(Reference, SmallVocabulary) {
  const Tokenizer uncased(folder() / "vocab.txt"), cased(folder() / "vocab.txt", false);
  expect_strings("small_ids", [&](const Case& item) { return uncased.encode(item.text, item.max_length); });
  expect_strings("small_ids_cased", [&](const Case& item) { return cased.encode(item.text, item.max_length); });
}

TEST_F(Reference, RealVocabulary) {
  EMBER_NEEDS_DATA(real_vocabulary());
  const Tokenizer tokenizer(real_vocabulary());
  EXPECT_EQ(tokenizer.vocabulary_size(), 30522);
  expect_strings("ids", [&](const Case& item) { return tokenizer.encode(item.text, item.max_length); });
  expect_code_points("ids", [&](const std::string& text) { return tokenizer.encode(text, 512); });
}

TEST_F(Reference, GoEmotions) {
  EMBER_NEEDS_DATA(real_vocabulary());
  EMBER_NEEDS_DATA(shared_dir() / "goemotions");
  const Tokenizer tokenizer(real_vocabulary());
  const Labels labels = Labels::read(shared_dir() / "goemotions/labels.txt");
  const json& expected = golden["goemotions"];
  for (const char* split : {"train", "dev", "test"}) {
    const auto rows = read_examples(shared_dir() / "goemotions" / (split + ".tsv"s), labels);
    ASSERT_EQ(rows.size(), expected[split]["rows"].get<std::size_t>());
    Digests digests(expected["block"].get<std::size_t>());
    for (const Example& row : rows) digests.add(tokenizer.encode(row.text, expected["max_length"].get<std::int64_t>()));
    digests.expect(expected[split]["ids"]);
  }
}

TEST_F(Reference, ManyThreadsShareATokenizer) {
  const Tokenizer tokenizer(folder() / "vocab.txt");
  const std::vector<Case> cases = generated_strings(golden);
  const auto encode_all = [&](std::vector<Ids>& all) {
    for (const Case& item : cases) all.push_back(tokenizer.encode(item.text, item.max_length));
  };
  std::vector<std::vector<Ids>> results(8);
  std::vector<std::thread> threads;
  for (std::vector<Ids>& result : results) threads.emplace_back(encode_all, std::ref(result));
  for (std::thread& thread : threads) thread.join();
  std::vector<Ids> alone;
  encode_all(alone);
  for (const std::vector<Ids>& result : results) EXPECT_EQ(result, alone);
}

}  // namespace
}  // namespace ember
