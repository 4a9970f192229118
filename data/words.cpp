#include "data/words.h"

#include <cstring>

#include "runtime/utf8.h"

namespace ember {
namespace {

using unicode::CharacterClass;

constexpr bool is_ascii_letter_or_digit(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The letter or digit itself, for lower-casing and cased text; 0 for every other byte.
constexpr std::array<std::array<char, 256>, 2> ascii_letters() {
  std::array<std::array<char, 256>, 2> table{};
  for (int i = 0; i < 128; ++i) {
    const auto c = static_cast<unsigned char>(i);
    if (!is_ascii_letter_or_digit(c)) continue;
    table[0][c] = static_cast<char>(c);
    table[1][c] = static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  }
  return table;
}

constexpr auto kAsciiLetters = ascii_letters();

}  // namespace

bool WordReader::next(Word& word) {
  size_ = length_ = mark_count_ = 0;
  too_long_ = false;
  while (true) {
    for (; parts_begin_ < parts_end_; ++parts_begin_) {
      const Part& part = parts_[parts_begin_];
      const bool ends_word = part.kind == Kind::space || part.kind == Kind::alone;
      if (ends_word && length_ > 0) return finish(word);
      append(part);
      if (part.kind == Kind::alone) return ++parts_begin_, finish(word);
    }
    read_ascii_letters();
    if (rest_.empty()) return length_ > 0 && finish(word);
    if (const int special = special_at_front(); special >= 0) {
      if (length_ > 0) return finish(word);
      word = {specials_[static_cast<std::size_t>(special)], special, false};
      rest_.remove_prefix(word.text.size());
      return true;
    }
    read_parts();
  }
}

void WordReader::read_ascii_letters() {
  const auto& letters = kAsciiLetters[lower_case_];
  std::size_t count = 0;
  for (; count < rest_.size(); ++count) {
    const char letter = letters[static_cast<unsigned char>(rest_[count])];
    if (letter == 0) break;
    if (full()) continue;
    word_[size_++] = letter;
    ++length_;
  }
  if (count > 0) mark_count_ = 0;
  rest_.remove_prefix(count);
}

int WordReader::special_at_front() const {
  if (rest_.front() != '[') return -1;
  for (std::size_t i = 0; i < specials_.size(); ++i)
    if (rest_.starts_with(specials_[i])) return static_cast<int>(i);
  return -1;
}

// Normalises one code point, which is no ASCII letter or digit, into parts_.
void WordReader::read_parts() {
  const CodePoint read = decode_utf8(rest_);
  rest_.remove_prefix(read.length);
  parts_begin_ = parts_end_ = 0;
  const CharacterClass type = unicode::character_class(read.code);
  if (type == CharacterClass::dropped) return;
  if (type == CharacterClass::space) return add_part(' ', Kind::space);
  const bool alone = type == CharacterClass::ideograph || type == CharacterClass::punctuation;
  if (!lower_case_ || read.code < 0x80) return add_part(read.code, alone ? Kind::alone : Kind::letter);

  std::array<char32_t, 4> buffer;
  for (const char32_t code : unicode::decompose(read.code, buffer)) {
    const CharacterClass own = type == CharacterClass::ideograph ? type : unicode::character_class(code);
    const std::uint8_t combining_class = unicode::combining_class(code);
    if (own == CharacterClass::mark) {
      if (combining_class == 0) add_part(code, Kind::boundary);
    } else if (own == CharacterClass::ideograph || own == CharacterClass::punctuation) {
      add_part(code, Kind::alone);
    } else {
      add_part(unicode::lower_case(code), combining_class == 0 ? Kind::letter : Kind::mark, combining_class);
    }
  }
}

void WordReader::add_part(char32_t code, Kind kind, std::uint8_t combining_class) {
  parts_[parts_end_++] = {code, kind, combining_class};
}

void WordReader::append(const Part& part) {
  if (part.kind == Kind::letter || part.kind == Kind::alone) append_letter(part.code);
  if (part.kind == Kind::mark) append_mark(part.code, part.combining_class);
  if (part.kind == Kind::boundary) mark_count_ = 0;
}

void WordReader::append_letter(char32_t code) {
  mark_count_ = 0;
  if (full()) return;
  size_ += encode_utf8(code, word_.data() + size_);
  ++length_;
}

// Canonical ordering (Unicode 15, section 3.11): before the marks of higher class that end the word.
void WordReader::append_mark(char32_t code, std::uint8_t combining_class) {
  if (full()) return;
  std::size_t at = size_, mark = mark_count_;
  for (; mark > 0 && marks_[mark - 1] > combining_class; --mark) {
    marks_[mark] = marks_[mark - 1];
    do --at;
    while (continues_character(word_[at]));
  }
  marks_[mark] = combining_class;
  ++mark_count_;
  std::array<char, 4> encoded;
  const std::size_t bytes = encode_utf8(code, encoded.data());
  std::memmove(word_.data() + at + bytes, word_.data() + at, size_ - at);
  std::memcpy(word_.data() + at, encoded.data(), bytes);
  size_ += bytes;
  ++length_;
}

// Whether the word can take no further code point, which makes it too long.
bool WordReader::full() {
  if (length_ < Word::kLongest) return false;
  too_long_ = true;
  return true;
}

bool WordReader::finish(Word& word) const {
  word = {{word_.data(), size_}, -1, too_long_};
  return true;
}

}  // namespace ember
