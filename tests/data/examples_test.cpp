#include "data/examples.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "data/line_reader.h"
#include "runtime/error.h"
#include "runtime/utf8.h"
#include "tests/support.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using testing::error_of;
using testing::TemporaryDirectory;
using Ids = std::vector<std::int32_t>;

std::string gzipped(const std::string& content) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class Examples : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  std::vector<Example> read(const std::string& name, const std::string& content, ReadReport* report = nullptr) {
    return read_examples(write(name, content), labels_, {}, report);
  }
  // The error of reading `content`, without the folder's name.
  std::string refusal(const std::string& name, const std::string& content, bool skip_bad_rows = false) {
    const fs::path path = write(name, content);
    std::string message = error_of([&] { read_examples(path, labels_, {.skip_bad_rows = skip_bad_rows}); });
    const std::string prefix = folder_.path().string() + "/";
    for (std::size_t at; (at = message.find(prefix)) != std::string::npos;) message.erase(at, prefix.size());
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }

  TemporaryDirectory folder_;
  const Labels labels_{{"joy", "anger", "fear", "2024"}};
};

void expect_row(const Example& row, const std::string& text, const Ids& labels) {
  EXPECT_EQ(row.text, text);
  EXPECT_EQ(row.labels, labels);
}

TEST(RepairUtf8, ReplacesEveryByteThatIsNotUtf8) {
  const std::string r = "\xEF\xBF\xBD";
  const std::array<std::pair<std::string, std::string>, 8> cases = {{
      {"\xC0\xAFz\xE0\x80\xBFz", r + r + "z" + r + r + r + "z"},   // overlong
      {"z\xED\xA0\x80\xED\xBF\xBF", "z" + r + r + r + r + r + r},  // surrogates
      {"\xF4\x90\x80\x80\xF5\xFF", r + r + r + r + r + r},         // beyond U+10FFFF
      {"\xE1\x80z\xF1\xBFz", r + r + "z" + r + r + "z"},           // broken off
      {"z\xF0\x9F\x98", "z" + r + r + r},                          // at the end too
      {"\xC3\xE9\xE2\x82\xC3", r + r + r + r + r},                 // by the next one's first byte
      {"\xF0\x9F\x98\x80\xFF", "\xF0\x9F\x98\x80" + r},
      {"\xFF\0\x80"s, r + "\0"s + r},
  }};
  for (const auto& [broken, expected] : cases) {
    std::string text = broken;
    EXPECT_TRUE(repair_utf8(text));
    EXPECT_EQ(text, expected);
    EXPECT_FALSE(repair_utf8(text)) << "what is repaired is well-formed";
  }
  for (std::string good : {""s, "plain\0text"s, "\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"s,
                           "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"s}) {
    const std::string before = good;
    EXPECT_FALSE(repair_utf8(good));
    EXPECT_EQ(good, before);
  }
}

TEST_F(Examples, TsvUnquotesAsPythonsCsvModuleDoes) {
  const auto rows = read("train.tsv",
                         "plain\t0\tid\n"
                         "\"She said \"\"no\"\", twice\"\t1,2\tid\n"
                         "a \"quote\" inside\t2\n"
                         "\"quoted\" and \"then\"\"on\t0\tid\n"
                         "\"a\ttab\"\t\"0,1\"\tid\n"
                         "\"\"\t0\n"
                         "\"\"\"\"\t0\n"
                         "  edges  \t0\tid\n"
                         "open third column\t0\t\"id\n");
  ASSERT_EQ(rows.size(), 9u);
  expect_row(rows[0], "plain", {0});
  expect_row(rows[1], "She said \"no\", twice", {1, 2});
  expect_row(rows[2], "a \"quote\" inside", {2});
  expect_row(rows[3], "quoted and \"then\"\"on", {0});
  expect_row(rows[4], "a\ttab", {0, 1});
  expect_row(rows[5], "", {0});
  expect_row(rows[6], "\"", {0});
  expect_row(rows[7], "  edges  ", {0});
  expect_row(rows[8], "open third column", {0});
}

TEST_F(Examples, TsvTakesAwkwardButLegalFiles) {
  const auto rows = read(
      "a.tsv", "\xEF\xBB\xBFone\t 2 , joy,2,0\r\n\r\n\nnul\0byte\t2024\r\n\t\tno text, no label\nblank\t \t\nlast\t3"s);
  ASSERT_EQ(rows.size(), 5u);
  expect_row(rows[0], "one", {0, 2});
  expect_row(rows[1], "nul\0byte"s, {3});
  expect_row(rows[2], "", {});
  expect_row(rows[3], "blank", {});
  expect_row(rows[4], "last", {3});
}

TEST_F(Examples, TsvRefusesBadRowsWithFileAndLine) {
  EXPECT_EQ(refusal("a.tsv", "ok\t0\nno tab\n"), "a.tsv:2: one column only, expected text <tab> labels");
  EXPECT_EQ(refusal("a.tsv", "\nok\t0\n\"open\t0\nok\t0\n"), "a.tsv:3: a quoted field has no closing quote");
  EXPECT_EQ(refusal("a.tsv", "a\t4\tid\n"), "a.tsv:1: label 4 is out of range, expected 0 to 3");
  EXPECT_EQ(refusal("a.tsv", "a\t0,-1\n"), "a.tsv:1: label -1 is out of range, expected 0 to 3");
  EXPECT_EQ(refusal("a.tsv", "a\t99999999999999999999\n"),
            "a.tsv:1: label 99999999999999999999 is out of range, expected 0 to 3");
  EXPECT_EQ(refusal("a.tsv", "a\tjoy,sad\xFF\n"),
            "a.tsv:1: label \"sad\\xff\" is unknown, expected a name of labels.txt or an id");
  EXPECT_EQ(refusal("a.tsv", "a\t1.0\n"), "a.tsv:1: label \"1.0\" is unknown, expected a name of labels.txt or an id");
  EXPECT_EQ(refusal("a.tsv", "a\t-\n"), "a.tsv:1: label \"-\" is unknown, expected a name of labels.txt or an id");
  EXPECT_EQ(refusal("a.tsv", "a\t0,,1\n"), "a.tsv:1: an empty label in the list");
  EXPECT_EQ(refusal("a.tsv", "a\t0,\n"), "a.tsv:1: an empty label in the list");
}

TEST_F(Examples, JsonlReadsNamesAndIds) {
  const auto rows =
      read("a.jsonl",
           "\xEF\xBB\xBF{\"text\": \"one\", \"labels\": [\"fear\", 0, 0]}\r\n"
           " \t\n"
           "{\"id\": {\"a\": 1, \"b\": [{\"a\": 2}]}, \"labels\": [], \"text\": \"caf\\u00e9 \\u0000 \\n\"}\n"
           "{\"n\": {\"text\": 1}, \"text\": \"a\", \"labels\": [\"2024\"]}");
  ASSERT_EQ(rows.size(), 3u);
  expect_row(rows[0], "one", {0, 2});
  expect_row(rows[1], "caf\xC3\xA9 \0 \n"s, {});
  expect_row(rows[2], "a", {3});
}

TEST_F(Examples, JsonlRefusesBadRowsWithFileAndLine) {
  const auto refused = [&](const std::string& line) { return refusal("a.jsonl", line + "\n"); };
  EXPECT_EQ(refused(R"({"text": "a", "labels": [0], "text": "b"})"), "a.jsonl:1: key \"text\" stands there twice");
  EXPECT_EQ(refused(R"({"text": "a", "labels": [0], "x": [{"k": 1, "k": 1}]})"),
            "a.jsonl:1: key \"k\" stands there twice");
  EXPECT_EQ(refused(R"({"text": "a"})"), "a.jsonl:1: has no \"labels\"");
  EXPECT_EQ(refused(R"({"labels": []})"), "a.jsonl:1: has no \"text\"");
  EXPECT_EQ(refused(R"({"text": null, "labels": []})"), "a.jsonl:1: \"text\" is null, expected string");
  EXPECT_EQ(refused(R"({"text": "a", "labels": "joy"})"), "a.jsonl:1: \"labels\" is string, expected array");
  EXPECT_EQ(refused(R"({"text": "a", "labels": [1.0]})"), "a.jsonl:1: a label is number, expected a name or an id");
  EXPECT_EQ(refused(R"({"text": "a", "labels": [true]})"), "a.jsonl:1: a label is boolean, expected a name or an id");
  EXPECT_EQ(refused(R"({"text": "a", "labels": [4]})"), "a.jsonl:1: label 4 is out of range, expected 0 to 3");
  EXPECT_EQ(refused(R"({"text": "a", "labels": [-1]})"), "a.jsonl:1: label -1 is out of range, expected 0 to 3");
  EXPECT_EQ(refused(R"({"text": "a", "labels": [18446744073709551615]})"),
            "a.jsonl:1: label 18446744073709551615 is out of range, expected 0 to 3");
  EXPECT_EQ(refused(R"({"text": "a", "labels": ["0"]})"),
            "a.jsonl:1: label \"0\" is unknown, expected a name of labels.txt");
  EXPECT_EQ(refused("[1]"), "a.jsonl:1: is array, expected an object");
  for (const std::string& line : {"{"s, "{} {}"s, "{\"text\": \"\0\"}"s, "{\"text\": \"\\ud800\"}"s, "{'text': 1}"s,
                                  "{\"text\": \"a\", \"labels\": [1e999]}"s})
    EXPECT_TRUE(refused(line).starts_with("a.jsonl:1: not JSON: ")) << refused(line);
  EXPECT_EQ(refused(std::string(1 << 20, '[')), "a.jsonl:1: nested deeper than 1000 levels");
  // A parser that searches the array at the end of every object in it would not come back.
  std::string objects = "{\"x\": [{}";
  for (int i = 0; i < 500'000; ++i) objects += ",{}";
  EXPECT_EQ(refused(objects + "]}"), "a.jsonl:1: has no \"text\"");
}

TEST_F(Examples, AZeroOrOneForEachLabelIsNoListOfIds) {
  const std::string reason = "a 0 or 1 for each of 4 labels, expected the ids or names of the row's own";
  EXPECT_EQ(refusal("a.jsonl", R"({"text": "a", "labels": [0, 0, 1, 0]})"), "a.jsonl:1: " + reason);
  EXPECT_EQ(refusal("a.jsonl", R"({"text": "a", "labels": [0, 0, 0, 0]})"), "a.jsonl:1: " + reason);
  EXPECT_EQ(refusal("a.tsv", "a\t1,1,1,1\n"), "a.tsv:1: " + reason);
  EXPECT_EQ(refusal("a.tsv", "a\t0\t1\t0\t0\r\n"), "a.tsv:1: " + reason);
  EXPECT_EQ(refusal("a.csv", "text,labels\na,\"0,1,0,0\"\n"), "a.csv:2: " + reason);
  // Of more labels than labels.txt has.
  const std::string more =
      "a 0 or 1 for each of 5 labels (labels.txt has 4), expected the ids or names of the row's own";
  EXPECT_EQ(refusal("a.jsonl", R"({"text": "a", "labels": [0, 0, 1, 0, 0]})"), "a.jsonl:1: " + more);
  EXPECT_EQ(refusal("a.tsv", "a\t0,0,1,0,0\n"), "a.tsv:1: " + more);
  const auto rows =
      read("b.tsv",
           "all\t0,1,2,3\ntwice\t0,1,1\nothers\t0,2,2,2\n"
           "fewer\t1\t0\t1\nmore\t1\t0\t0\t0\t0\nempty\t1\t\t\t\nno first\t2\t1\t0\t0\nno rest\t0\t1\t0\t2\n");
  ASSERT_EQ(rows.size(), 8u);
  expect_row(rows[0], "all", {0, 1, 2, 3});
  expect_row(rows[1], "twice", {0, 1});
  expect_row(rows[2], "others", {0, 2});
  expect_row(rows[3], "fewer", {1});
  expect_row(rows[4], "more", {1});
  expect_row(rows[5], "empty", {1});
  expect_row(rows[6], "no first", {2});
  expect_row(rows[7], "no rest", {0});
}

TEST_F(Examples, ANameIsNoZeroOrOneHoweverOftenItStands) {
  const std::array<std::pair<std::string, std::string>, 3> files = {{
      {"a.tsv", "a\tjoy,0,joy,1,joy\n"},
      {"a.jsonl", R"({"text": "a", "labels": ["joy", 0, "joy", 1, "joy"]})"},
      {"a.csv", "text,labels\na,\"joy,0,joy,1,joy\"\n"},
  }};
  for (const auto& [name, content] : files) {
    const auto rows = read(name, content);
    ASSERT_EQ(rows.size(), 1u);
    expect_row(rows[0], "a", {0, 1});
  }
}

TEST_F(Examples, CsvReadsQuotedFieldsOverSeveralLines) {
  ReadReport report;
  const auto rows = read("a.csv",
                         "\xEF\xBB\xBFid,\"labels\",text\r\n"
                         "1,joy,plain\r\n"
                         "\r\n"
                         "2,\"fear, 1\",\"two\r\nlines, and \"\"more\"\"\"\r\n"
                         "3,,no \"label\"\n"
                         "4,2024,\"\"\n"
                         "5,0,\"\n\n\"",
                         &report);
  ASSERT_EQ(rows.size(), 5u);
  expect_row(rows[0], "plain", {0});
  expect_row(rows[1], "two\r\nlines, and \"more\"", {1, 2});
  expect_row(rows[2], "no \"label\"", {});
  expect_row(rows[3], "", {3});
  expect_row(rows[4], "\n\n", {0});
  EXPECT_EQ(report.rows, 5);
}

TEST_F(Examples, CsvRefusesBadRowsAtTheLineWhereTheyStart) {
  const std::string header = "text,labels\n";
  EXPECT_EQ(refusal("a.csv", header + "\"a\nb\",0\n\"c\nd\",9\n"), "a.csv:4: label 9 is out of range, expected 0 to 3");
  EXPECT_EQ(refusal("a.csv", header + "a\n"), "a.csv:2: the row has columns: 1, the header: 2");
  EXPECT_EQ(refusal("a.csv", header + "\"\"\n"), "a.csv:2: the row has columns: 1, the header: 2");
  EXPECT_EQ(refusal("a.csv", header + "a,0,\n"), "a.csv:2: the row has columns: 3, the header: 2");
  EXPECT_EQ(refusal("a.csv", "text,label\na,0\n"),
            "a.csv:1: the header names no column labels, expected text and labels");
  EXPECT_EQ(refusal("a.csv", "\ntext,labels,text\na,0,b\n"), "a.csv:2: the header names the column text twice");
  EXPECT_EQ(refusal("a.csv", "\"text\"x,labels\n"),
            "a.csv:1: text behind a closing quote, expected a comma or the end of the line");
  EXPECT_EQ(refusal("a.csv", "\n"), "a.csv: is empty, expected a header with the columns text and labels");
  // Skipping cannot help: the open quote has swallowed the rows behind it, or what looks like a row is the end of one.
  for (const bool skip : {false, true}) {
    EXPECT_EQ(refusal("a.csv", header + "a,0\n\"b,0\nc,0\n", skip), "a.csv:3: a quoted field has no closing quote");
    EXPECT_EQ(refusal("a.csv", header + "\"a\nhe said \"hi,\nand that\",0\nb,0\n", skip),
              "a.csv:2: text behind a closing quote, expected a comma or the end of the line");
  }
}

TEST_F(Examples, ANumberIsTheLabelOfThatName) {
  const Labels ratings({"5", "4", "3"});
  const auto rows = read_examples(write("a.tsv", "a\t5\nb\t3,4\nc\t2\n"), ratings);
  ASSERT_EQ(rows.size(), 3u);
  expect_row(rows[0], "a", {0});
  expect_row(rows[1], "b", {1, 2});
  expect_row(rows[2], "c", {2});  // an id
}

TEST_F(Examples, SkipsBadRowsAndCountsThem) {
  const std::array<std::pair<std::string, std::string>, 3> files = {{
      {"a.tsv", "a\t0\nbad\nb\t2,9\nc\t1\n"},
      {"a.jsonl",
       "{\"text\":\"a\",\"labels\":[0]}\n{\n{\"text\":\"b\",\"labels\":[2,9]}\n"
       "{\"text\":\"c\",\"labels\":[\"anger\"]}\n"},
      {"a.csv", "text,labels\na,0\n\"b\n\",\"2,nobody\"\nc\nc,1\n"},
  }};
  for (const auto& [name, content] : files) {
    ReadReport report{.rows = 7, .skipped = 7, .first_skipped = "x", .invalid_utf8 = 7, .first_invalid_utf8 = 7};
    const fs::path path = write(name, content);
    const auto rows = read_examples(path, labels_, {.skip_bad_rows = true}, &report);
    ASSERT_EQ(rows.size(), 2u) << name;
    expect_row(rows[0], "a", {0});
    expect_row(rows[1], "c", {1});  // and none of the bad row's before
    EXPECT_EQ(report.rows, 2);
    EXPECT_EQ(report.skipped, 2);
    EXPECT_EQ(report.first_skipped.find(path.string() + (name == "a.csv" ? ":3: " : ":2: ")), 0u)
        << report.first_skipped;
    EXPECT_EQ(report.invalid_utf8, 0);
    EXPECT_EQ(report.first_invalid_utf8, 0);
  }
  EXPECT_EQ(refusal("a.tsv", "bad\na\t0\n", true), "") << "one good row will do";
  EXPECT_EQ(refusal("a.tsv", "bad\nworse\n", true),
            "a.tsv: no good row, 2 skipped; the first: a.tsv:1: one column only, expected text <tab> labels");
}

TEST_F(Examples, KeepsRowsWithInvalidUtf8AndCountsThem) {
  const std::string bad = "caf\xE9", repaired = "caf\xEF\xBF\xBD";
  const std::array<std::pair<std::string, std::string>, 3> files = {{
      {"a.tsv", "good\t0\n\n" + bad + "\t1\n" + bad + "\t0\ngood\t0\n"},
      {"a.jsonl", "{\"text\":\"good\",\"labels\":[0]}\n\n{\"text\":\"" + bad + "\",\"labels\":[1]}\n{\"text\":\"" +
                      bad + "\",\"labels\":[0]}\n{\"text\":\"good\",\"labels\":[0]}\n"},
      {"a.csv", "text,labels\ngood,0\n\"" + bad + "\",1\n" + bad + ",0\ngood,0\n"},
  }};
  for (const auto& [name, content] : files) {
    ReadReport report;
    const auto rows = read(name, content, &report);
    ASSERT_EQ(rows.size(), 4u) << name;
    expect_row(rows[1], repaired, {1});
    EXPECT_EQ(report.invalid_utf8, 2) << name;
    EXPECT_EQ(report.first_invalid_utf8, 3) << name;
    EXPECT_EQ(report.skipped, 0);
  }
}

TEST_F(Examples, AFileWithoutAnyLabelIsTold) {
  const auto notes = [&](const std::string& content) {
    ReadReport report;
    read("a.csv", content, &report);
    return notes_on(report, "a.csv");
  };
  EXPECT_EQ(notes("text,labels\na,\nb,\n"), std::vector<std::string>{"a.csv: no row has a label"});
  EXPECT_EQ(notes("text,labels\na,\nb,0\n"), std::vector<std::string>{});
}

TEST_F(Examples, ReadsVeryLongLines) {
  // Longer than any buffer, with line ends falling everywhere around a buffer's edge.
  for (const std::size_t length :
       {std::size_t{65531}, std::size_t{65532}, std::size_t{65533}, std::size_t{65534}, std::size_t{65535},
        std::size_t{65536}, std::size_t{65537}, std::size_t{5'000'001}}) {
    const std::string text(length, 'x');
    for (const char* end : {"\n", "\r\n"}) {
      const auto tsv = read("a.tsv", text + "\t1" + end + "b\t2" + end);
      ASSERT_EQ(tsv.size(), 2u);
      expect_row(tsv[0], text, {1});
      expect_row(tsv[1], "b", {2});
      const auto csv = read("a.csv", "labels,text"s + end + "1,\"" + text + end + "\"" + end + "2,b" + end);
      ASSERT_EQ(csv.size(), 2u);
      expect_row(csv[0], text + end, {1});
    }
  }
}

TEST_F(Examples, ReadsGzip) {
  const std::string content = "one\t0\n\"two\"\"\"\t1\n";
  const auto rows = read("a.tsv.gz", gzipped(content) + gzipped("three\t2\n"));
  ASSERT_EQ(rows.size(), 3u);
  expect_row(rows[1], "two\"", {1});
  expect_row(rows[2], "three", {2});
  EXPECT_EQ(read("a.csv.gz", gzipped("text,labels\na,0\n")).size(), 1u);
  EXPECT_EQ(read("a.jsonl.gz", gzipped("{\"text\":\"a\",\"labels\":[]}")).size(), 1u);
  EXPECT_EQ(refusal("a.tsv.gz", gzipped("one\t9\n")), "a.tsv.gz:1: label 9 is out of range, expected 0 to 3");
}

TEST_F(Examples, RefusesCutOrDamagedGzip) {
  std::string content;
  for (int i = 0; i < 20000; ++i)
    content += "text number " + std::to_string(i * 7919) + "\t" + std::to_string(i % 4) + "\n";
  const std::string whole = gzipped(content);
  for (const std::size_t size : {whole.size() - 1, whole.size() - 8, whole.size() / 2, std::size_t{11}, std::size_t{3}})
    for (const bool skip : {false, true})
      EXPECT_EQ(refusal("a.tsv.gz", whole.substr(0, size), skip), "a.tsv.gz: its gzip data is cut off") << size;
  std::string damaged = whole;
  damaged[damaged.size() - 6] ^= 1;  // in the checksum
  EXPECT_EQ(refusal("a.tsv.gz", damaged), "a.tsv.gz: its gzip data is damaged (incorrect data check)");
  for (const std::size_t at : {0, 1, 2, 9, 40}) {  // of a second member
    std::string second = gzipped(content);
    second[at] = static_cast<char>(second[at] ^ 0xE0);
    EXPECT_EQ(refusal("a.tsv.gz", whole + second).find("a.tsv.gz: its gzip data is damaged ("),
              at == 9 ? std::string::npos : 0u)
        << at << refusal("a.tsv.gz", whole + second);
  }
  EXPECT_EQ(refusal("a.tsv.gz", whole + whole.substr(0, 5)), "a.tsv.gz: its gzip data is cut off");
  EXPECT_EQ(refusal("a.tsv.gz", whole + std::string(512, '\0')),
            "a.tsv.gz: its gzip data is damaged (incorrect header check)");
  for (const std::string& other : {content, ""s, "\x1F"s, "\x1F no gzip"s})
    EXPECT_EQ(refusal("a.tsv.gz", other), "a.tsv.gz: named .gz, but it does not hold gzip data");
}

TEST_F(Examples, RefusedFilesAreClosed) {
  const auto open_files = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), {}); };
  const auto before = open_files();
  EXPECT_NE(refusal("a.tsv.gz", "no gzip"), "");
  EXPECT_EQ(open_files(), before);
}

// Reading a process's memory from its beginning on fails, opening it does not.
TEST_F(Examples, NamesTheFileThatCannotBeRead) {
  fs::create_symlink("/proc/self/mem", folder_ / "a.tsv");
  EXPECT_EQ(error_of([&] { read_examples(folder_ / "a.tsv", labels_); }),
            (folder_ / "a.tsv").string() + ": Input/output error");
}

TEST_F(Examples, RefusesWhatIsNotAFileOfRows) {
  fs::create_directory(folder_ / "b.tsv");
  EXPECT_EQ(error_of([&] { read_examples(folder_ / "b.tsv", labels_); }),
            (folder_ / "b.tsv").string() + ": is a directory, a file was expected");
  EXPECT_EQ(error_of([&] { read_examples(folder_ / "none.csv", labels_); }),
            (folder_ / "none.csv").string() + ": No such file or directory");
  EXPECT_EQ(refusal("a.txt", "a\t0\n"), "a.txt: the name must end in .tsv, .jsonl or .csv (.gz may follow)");
  EXPECT_EQ(refusal("a.gz", "a\t0\n"), "a.gz: the name must end in .tsv, .jsonl or .csv (.gz may follow)");
  for (const char* name : {"a.tsv", "a.jsonl"}) {
    EXPECT_EQ(refusal(name, ""), name + ": holds no row"s);
    EXPECT_EQ(refusal(name, "\r\n\n"), name + ": holds no row"s);
  }
  EXPECT_EQ(refusal("a.csv", "text,labels\n"), "a.csv: holds no row");
  EXPECT_EQ(refusal("a.tsv",
                    "\xFF\xFE"
                    "a\0\t\0"s),
            "a.tsv: is UTF-16, UTF-8 was expected");
  EXPECT_EQ(refusal("a.tsv", "\xFE\xFF\0a\0\t"s), "a.tsv: is UTF-16, UTF-8 was expected");
}

TEST_F(Examples, ReadsLabels) {
  const Labels labels = Labels::read(write("labels.txt", "\xEF\xBB\xBFjoy \r\nanger\r\nun peu triste"));
  EXPECT_EQ(labels.names(), (std::vector<std::string>{"joy", "anger", "un peu triste"}));
  EXPECT_EQ(labels.find("anger"), 1);
  EXPECT_EQ(labels.find("Anger"), -1);
  EXPECT_EQ(labels.find(""), -1);
  EXPECT_EQ(labels.name(2), "un peu triste");
  const auto refused = [&](const std::string& content) {
    const fs::path path = write("labels.txt", content);
    return error_of([&] { Labels::read(path); }).substr(path.string().size());
  };
  EXPECT_EQ(refused(""), ": is empty, expected one label a line");
  EXPECT_EQ(refused("joy\n \nanger\n"), ":2: the line is empty, expected a label");
  EXPECT_EQ(refused("joy\nanger\njoy \n"), ":3: the label joy stands twice");
  EXPECT_EQ(refused("joy\nc\xE9\n"), ":2: the label is not UTF-8");
  EXPECT_EQ(refused("0\tjoy\n"), ":1: the label 0\\x09joy has a tab, expected a name alone");
  EXPECT_EQ(Labels::read(write("labels.txt", std::string(kMostRowBytes, 'a'))).size(), 1);
  std::string most;
  for (std::int64_t i = 0; i < kMaxLabels; ++i) most += std::to_string(i) + '\n';
  EXPECT_EQ(Labels::read(write("labels.txt", most)).size(), kMaxLabels);
  EXPECT_EQ(refused(most + "more"), ":16385: more labels than 16384");
  EXPECT_EQ(refused(std::string(kMostRowBytes + 1, 'a')), ":1: a row of more than 16777216 bytes");
  EXPECT_NE(error_of([&] { Labels::read(folder_.path()); }).find(": is a directory, a file was expected"),
            std::string::npos);
}

TEST_F(Examples, FindsTheFileOfASplit) {
  const std::string folder = folder_.path().string();
  EXPECT_EQ(error_of([&] { find_split(folder_.path(), "dev"); }),
            folder + ": holds no dev.tsv, dev.jsonl or dev.csv (.gz may follow)");
  write("devil.tsv", "");
  const fs::path csv = write("dev.csv.gz", "");
  EXPECT_EQ(find_split(folder_.path(), "dev"), csv);
  write("dev.jsonl", "");
  EXPECT_EQ(error_of([&] { find_split(folder_.path(), "dev"); }),
            folder + ": holds both dev.jsonl and dev.csv.gz, expected one of them");
  fs::create_symlink("test.tsv", folder_ / "test.tsv");
  EXPECT_EQ(error_of([&] { find_split(folder_.path(), "test"); }),
            folder + "/test.tsv: Too many levels of symbolic links");
  EXPECT_EQ(error_of([&] { find_split(csv, "dev"); }), csv.string() + ": is a file, a folder was expected (of data)");
  EXPECT_EQ(error_of([&] { find_split(folder_ / "none", "dev"); }), folder + "/none: no such folder (of data)");
}

}  // namespace
}  // namespace ember
