#!/usr/bin/env python3
"""Makes a small WordPiece vocabulary from the texts of TSV files (standard library only).

    tools/make_vocabulary.py --size 1400 data/sample/train.tsv > data/sample/model/vocab.txt

Starts from single characters and joins the most frequent adjacent pair until the vocabulary has the size asked for
(byte-pair merges: Sennrich, Haddow and Birch 2016, as WordPiece's training is commonly done). Ties go to the pair that
sorts first, so the same texts give the same file. All printable ASCII characters are included, alone and as
continuations, so that no English word is unknown.
"""
import collections
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench/comparison"))
from one_line import OneLine, number

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def words_of(paths):
    """Lower-cased words and punctuation marks with their counts."""
    counts = collections.Counter()
    for path in paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    text = line.rstrip("\n").split("\t")[0].lower()
                    counts.update(re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is no UTF-8: {error}") from error
    if not counts:
        raise ValueError(f"{', '.join(paths)}: no text was found")
    return counts


def merge(pieces, pair):
    joined, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i:i + 2]) == pair:
            joined.append(pair[0] + pair[1].removeprefix("##"))
            i += 2
        else:
            joined.append(pieces[i])
            i += 1
    return joined


def vocabulary(counts, size):
    printable = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces = SPECIAL + printable + ["##" + c for c in printable if c.isalnum()]
    seen = set(pieces)
    split = {word: [word[0]] + ["##" + c for c in word[1:]] for word in counts}
    while len(pieces) < size:
        pairs = collections.Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        for word, parts in split.items():
            if len(parts) > 1:
                split[word] = merge(parts, best)
        piece = best[0] + best[1].removeprefix("##")
        if piece not in seen:
            seen.add(piece)
            pieces.append(piece)
    return pieces


def main():
    parser = OneLine(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--size", type=number(1, 1000000), default=1400,
                        help="pieces (1400), more where the special tokens and letters alone are more")
    parser.add_argument("files", nargs="+", help="TSV files; the first column is the text")
    arguments = parser.parse_args()
    try:
        counts = words_of(arguments.files)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write("\n".join(vocabulary(counts, arguments.size)) + "\n")


if __name__ == "__main__":
    main()
