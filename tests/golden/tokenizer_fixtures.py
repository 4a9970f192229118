#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: a small vocabulary, and digests of what the reference tokenizer makes of it.

    pip install tokenizers==0.23.3 transformers==5.23.0
    python tests/golden/tokenizer_fixtures.py BERT_BASE_UNCASED GOEMOTIONS

BERT_BASE_UNCASED holds tokenizer.json and vocab.txt, GOEMOTIONS train.tsv, dev.tsv and test.tsv. The texts are the data
set, every code point once between two letters, and strings drawn from pools of awkward elements by a generator that
tests/data/tokenizer_test.cpp repeats; so only the pools and 64-bit FNV-1a digests of blocks of results are kept.
"""

import csv
import json
import pathlib
import re
import sys
import unicodedata

import tokenizers
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FOLDER = pathlib.Path(__file__).resolve().parent / "tokenizer"
EXCEPTIONS = pathlib.Path(__file__).resolve().parents[2] / "data" / "unicode_exceptions.h"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPECIAL = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CODE_POINT_BLOCK, STRING_BLOCK, ROW_BLOCK = 8192, 128, 1000
STRING_COUNT, STRING_SEED, TEXT_LENGTH = 4096, 20240229, 128
MASK = (1 << 64) - 1


class Fnv:
    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, data):
        value = self.value
        for byte in data:
            value = ((value ^ byte) * 0x100000001B3) & MASK
        self.value = value


def digests(results, block):
    """One digest for each `block` results, as hexadecimal numbers. A result is bytes."""
    out, fnv = [], Fnv()
    for i, result in enumerate(results, 1):
        fnv.add(result)
        if i % block == 0 or i == len(results):
            out.append(f"{fnv.value:016x}")
            fnv = Fnv()
    return out


def ids_bytes(ids):
    return b"".join(i.to_bytes(4, "little") for i in ids) + b"\xff\xff\xff\xff"


def words_bytes(words):
    return b"".join(w.encode() + b"\0" for w in words) + b"\1"


class SplitMix:
    """Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return (z ^ z >> 31) % bound


def spread(items, count):
    items = sorted(items)
    return items if len(items) <= count else [items[i * len(items) // count] for i in range(count)]


def make_pools():
    categories = {}
    for c in CODE_POINTS:
        categories.setdefault(unicodedata.category(chr(c)), []).append(chr(c))
    marks = [chr(c) for c in CODE_POINTS if unicodedata.combining(chr(c))]
    kept_marks = [c for c in marks if unicodedata.category(c) != "Mn"]
    ranges = re.findall(r"\{0x(\w+), 0x(\w+)", EXCEPTIONS.read_text())
    exceptional = {chr(int(end, 16)) for ends in ranges for end in ends}
    decomposing = [chr(c) for c in CODE_POINTS if unicodedata.normalize("NFD", chr(c)) != chr(c)]
    changing_case = [chr(c) for c in CODE_POINTS if chr(c).lower() != chr(c)]
    edges = [0x33FF, 0x3400, 0x4DBF, 0x4DC0, 0x4DFF, 0x4E00, 0x9FFF, 0xA000, 0xF8FF, 0xF900, 0xFAFF, 0xFB00, 0x1FFFF,
             0x20000, 0x2A6DF, 0x2A6E0, 0x2A700, 0x2B73F, 0x2B740, 0x2B81F, 0x2B820, 0x2B91F, 0x2B920, 0x2CEAF,
             0x2CEB0, 0x2F7FF, 0x2F800, 0x2FA1F, 0x2FA20]
    words = "the fox jumps over lazy dogs unbelievable running hello worlds isn't U.S.A. naïve Café 12,345 qq zz"
    pools = {f"category {name}": spread(items, 40) for name, items in sorted(categories.items())}
    pools["exceptional"] = sorted(exceptional)
    pools["marks"] = spread(marks, 120)
    pools["marks that stay"] = kept_marks
    pools["marks and exceptional marks"] = kept_marks + [c for c in sorted(exceptional) if unicodedata.combining(c)]
    pools["decomposing"] = spread(decomposing, 120)
    pools["changing case"] = spread(changing_case, 80)
    pools["edges of ideographs"] = [chr(c) for c in edges]
    pools["spaces"] = list(" \t\n\r\v\f\x85\xa0\u1680\u2007\u200b\u2028\u202f\u205f\u3000\ufeff")
    pools["special"] = SPECIALS + ["[mask]", "[ SEP]", "[[SEP]]", "[CLS", "SEP]", "[NAME]", "[MA\u200bSK]", "##a", "##"]
    for i in range(6):  # so that strings look a little like text
        pools[f"words {i}"] = words.split()
        pools[f"ascii {i}"] = [" "] * 40 + [chr(c) for c in range(128)]
    return [{"name": name, "elements": elements} for name, elements in pools.items()]


def make_strings(pools):
    """[(text, max_length)]"""
    random, out = SplitMix(STRING_SEED), []
    for i in range(STRING_COUNT):
        text = ""
        for _ in range(1 + random.below(24)):
            elements = pools[random.below(len(pools))]["elements"]
            element = elements[random.below(len(elements))]
            text += element * (60 + random.below(80) if random.below(64) == 0 else 1)
        out.append((text, 2 + random.below(30) if i % 4 == 3 else 512))
    return out


def normalizer(lowercase):
    rules = dict(clean_text=True, handle_chinese_chars=True, strip_accents=None)
    return normalizers.BertNormalizer(lowercase=lowercase, **rules)


def words_of(text, lowercase, split=pre_tokenizers.BertPreTokenizer()):
    out = []
    for part in SPECIAL.split(text):
        if part in SPECIALS:
            out.append(part)
        else:
            found = [word for word, _ in split.pre_tokenize_str(normalizer(lowercase).normalize_str(part))]
            out += [word if len(word) <= 100 else "<long>" for word in found]
    return out


def make_vocabulary(pools):
    """Lines of a small vocabulary with what makes reading one awkward."""
    letters = "abcdefghijklmnoprstuvwxyz0123456789"  # no q, so that some words do not match
    lines = ["[UNK]", "[PAD]", "[unused1]", "[SEP]", "the", "[CLS]", "[MASK]", "", "##", "###"]
    lines += ["fox \t", "jump\u3000", "dog\r"]
    lines += [chr(c) for c in [*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)]]
    lines += list(letters) + ["##" + c for c in letters]
    lines += ["cafe", "naive", "un", "##able", "##believ", "##believable", "##s", "jumps", "run", "##ning", "hell",
              "hello", "##llo", "world", "οδοσ", "ß", "Café", "Cafe", "The", "각", "각"]
    for pool in pools:
        for element in pool["elements"][::3]:
            for piece in (*words_of(element, True), *words_of(element, False)):
                lines += [piece, "##" + piece]
    seen = set()
    kept = [line for line in lines if line.strip() == "" or not (line in seen or seen.add(line))]
    return kept + ["the", "##able", "##s", "jumped  "]


def small_tokenizer(vocabulary, lowercase):
    out = Tokenizer(models.WordPiece.from_file(str(vocabulary), unk_token="[UNK]", max_input_chars_per_word=100))
    out.normalizer, out.pre_tokenizer = normalizer(lowercase), pre_tokenizers.BertPreTokenizer()
    out.add_special_tokens(SPECIALS)
    ends = [(name, out.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    out.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return out


def real_tokenizer(folder):
    out = Tokenizer.from_file(str(folder / "tokenizer.json"))
    out.no_padding()
    return out


def encode(tokenizer, texts, max_length):
    tokenizer.enable_truncation(max_length)
    return [e.ids for e in tokenizer.encode_batch(texts)]


def encode_each(tokenizer, strings):
    out = []
    for text, max_length in strings:
        tokenizer.enable_truncation(max_length)
        out.append(tokenizer.encode(text).ids)
    return out


def string_digests(strings, small, cased, real):
    out = {"count": STRING_COUNT, "seed": STRING_SEED, "block": STRING_BLOCK}
    for name, lowercase in (("words", True), ("words_cased", False)):
        out[name] = digests([words_bytes(words_of(text, lowercase)) for text, _ in strings], STRING_BLOCK)
    for name, tokenizer in (("ids", real), ("small_ids", small), ("small_ids_cased", cased)):
        out[name] = digests([ids_bytes(ids) for ids in encode_each(tokenizer, strings)], STRING_BLOCK)
    return out


def code_point_digests(real):
    texts = [f"a{chr(c)}b" for c in CODE_POINTS]
    out = {"block": CODE_POINT_BLOCK}
    for name, lowercase in (("words", True), ("words_cased", False)):
        fold, split = normalizer(lowercase), pre_tokenizers.BertPreTokenizer()
        words = ([w for w, _ in split.pre_tokenize_str(fold.normalize_str(text))] for text in texts)
        out[name] = digests([words_bytes(w) for w in words], CODE_POINT_BLOCK)
    out["ids"] = digests([ids_bytes(ids) for ids in encode(real, texts, 512)], CODE_POINT_BLOCK)
    return out


def data_set_digests(real, goemotions):
    out = {"block": ROW_BLOCK, "max_length": TEXT_LENGTH}
    for split in ("train", "dev", "test"):
        with open(goemotions / f"{split}.tsv", encoding="utf-8", newline="") as file:
            texts = [row[0] for row in csv.reader(file, delimiter="\t")]
        out[split] = {"rows": len(texts)}
        out[split]["ids"] = digests([ids_bytes(ids) for ids in encode(real, texts, TEXT_LENGTH)], ROW_BLOCK)
    return out


def check_transformers(folder, strings, real):
    """BertTokenizerFast, made from vocab.txt, agrees with tokenizer.json."""
    fast = transformers.BertTokenizerFast.from_pretrained(str(folder))
    for (text, max_length), ids in zip(strings, encode_each(real, strings)):
        assert fast(text, truncation=True, max_length=max_length)["input_ids"] == ids, repr(text)


def main():
    folder, goemotions = map(pathlib.Path, sys.argv[1:3])
    FOLDER.mkdir(exist_ok=True)
    pools = make_pools()
    strings = make_strings(pools)
    vocabulary = FOLDER / "vocab.txt"
    vocabulary.write_bytes("\n".join(make_vocabulary(pools)).encode())
    small, cased, real = small_tokenizer(vocabulary, True), small_tokenizer(vocabulary, False), real_tokenizer(folder)
    check_transformers(folder, strings, real)
    out = {
        "made_with": f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}, "
                     f"Unicode {unicodedata.unidata_version} for the pools",
        "pools": pools,
        "strings": string_digests(strings, small, cased, real),
        "code_points": code_point_digests(real),
        "goemotions": data_set_digests(real, goemotions),
    }
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in out.items()]
    (FOLDER / "digests.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
