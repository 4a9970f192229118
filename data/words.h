// A text cut into the words that WordPiece looks up: special tokens, found in the raw text, and between them the words
// of the normalised text (see data/tokenizer.h for the rules). Nothing is allocated.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "data/unicode.h"

namespace ember {

struct Word {
  // At most this many code points make a word; a longer one is unknown as a whole.
  static constexpr std::size_t kLongest = 100;

  std::string_view text;  // normalised UTF-8; valid until the next word is read; only a beginning when too_long
  int special = -1;       // which of the special tokens it is, -1 for none
  bool too_long = false;
};

class WordReader {
 public:
  // `text` and the names of the special tokens must outlive the reader. Each name starts with '[' and none with
  // another.
  WordReader(std::string_view text, std::span<const std::string_view> specials, bool lower_case)
      : rest_(text), specials_(specials), lower_case_(lower_case) {}

  // Reads the next word; false at the end of the text.
  bool next(Word& word);

 private:
  // What canonical ordering and splitting see in a normalised code point. A mark is part of a word as a letter is, but
  // marks in a row are ordered by their combining classes; a boundary is dropped, but marks do not move across it.
  enum class Kind : std::uint8_t { letter, mark, boundary, space, alone };
  struct Part {
    char32_t code;
    Kind kind;
    std::uint8_t combining_class;
  };

  void read_ascii_letters();
  int special_at_front() const;
  void read_parts();
  void add_part(char32_t code, Kind kind, std::uint8_t combining_class = 0);
  void append(const Part& part);
  void append_letter(char32_t code);
  void append_mark(char32_t code, std::uint8_t combining_class);
  bool full();
  bool finish(Word& word) const;

  std::string_view rest_;
  std::span<const std::string_view> specials_;
  bool lower_case_;

  // What the last code point read became, as far as it is not yet in a word.
  std::array<Part, 4> parts_;
  std::size_t parts_begin_ = 0, parts_end_ = 0;

  std::array<char, 4 * Word::kLongest> word_;
  std::size_t size_ = 0;    // bytes of word_
  std::size_t length_ = 0;  // code points of word_
  bool too_long_ = false;

  // The combining classes of the marks that end the word, in rising order.
  std::array<std::uint8_t, Word::kLongest> marks_;
  std::size_t mark_count_ = 0;
};

}  // namespace ember
