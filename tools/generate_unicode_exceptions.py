#!/usr/bin/env python3
"""Writes data/unicode_exceptions.h: where Unicode as the reference tokenizer knows it differs from utf8proc's data.

The reference is the PyPI package `tokenizers`, whose Unicode tables are of several old and new versions at once. They
are read by probing its normalizers with every code point. A code point gets an absolute entry where the reference
differs from the installed utf8proc or from any of the Unicode versions given here, so that Ember's answers are the same
on whatever version of utf8proc it is built.

    pip install tokenizers==0.23.3
    for v in 16.0.0 17.0.0 18.0.0; do pip install --target ucd/$v unicodedata2==$v; done
    python tools/generate_unicode_exceptions.py --python python3.8 python3.9 python3.11 python3.12 python3.13 \\
        --unicodedata2 ucd/* > data/unicode_exceptions.h

--python: interpreters, each of which gives the version of its own unicodedata module and of str.lower.
--unicodedata2: folders that hold a unicodedata2 package; it knows no lower-casing.
"""

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench/comparison"))
from one_line import OneLine, folder, program


def arguments():
    parser = OneLine(description="Writes data/unicode_exceptions.h to stdout.", allow_abbrev=False)
    parser.add_argument("--python", nargs="*", type=program, default=[])
    parser.add_argument("--unicodedata2", nargs="*", type=folder, default=[])
    options = parser.parse_args()
    if not options.python and not options.unicodedata2:
        parser.error("--python, --unicodedata2: a Unicode version is required")
    if ctypes.util.find_library("utf8proc") is None:
        parser.error("utf8proc: not installed; tools/install_packages.sh")
    parser.require_modules("tokenizers", by="pip install tokenizers==0.23.3")
    return options


OPTIONS = arguments()

import tokenizers
from tokenizers import normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ASCII_PUNCTUATION = {*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)}
FIXED = {0, 9, 10, 13, 0xFFFD}  # classified by rule, not by category

# Runs in the interpreter asked about; prints only what is not the default (category class "letter", nothing else).
DUMP = r"""
import json, sys
builtin = len(sys.argv) == 1
if builtin:
    import unicodedata as data
else:
    sys.path.insert(0, sys.argv[1])
    import unicodedata2 as data
out = {"version": data.unidata_version, "category": {}, "combining": {}, "nfd": {}, "lower": {}}
for code in range(0x110000):
    if 0xD800 <= code < 0xE000:
        continue
    c = chr(code)
    category, nfd = data.category(c), data.normalize("NFD", c)
    if category[0] == "P" or category in ("Mn", "Cc", "Cf", "Co"):
        out["category"][code] = category
    if data.combining(c):
        out["combining"][code] = data.combining(c)
    if nfd != c:
        out["nfd"][code] = [ord(d) for d in nfd]
    if builtin and c.lower() != c:
        out["lower"][code] = [ord(d) for d in c.lower()]
if not builtin:
    out["lower"] = None
json.dump(out, sys.stdout)
"""


class Properties:
    """What the rules ask of a code point: its class, canonical combining class, NFD and lower case."""

    def __init__(self, name, classes, combining, nfd, lower):
        self.name, self.classes, self.combining, self.nfd, self.lower = name, classes, combining, nfd, lower


def class_of(category, code):
    if category in ("Cc", "Cf", "Co"):
        return "dropped"
    if category == "Mn":
        return "mark"
    return "punctuation" if category[0] == "P" or code in ASCII_PUNCTUATION else "letter"


def with_ascii(classes):
    return {**{c: "punctuation" for c in ASCII_PUNCTUATION}, **classes}


def from_python(command, *arguments):
    raw = json.loads(subprocess.run([command, "-c", DUMP, *arguments], check=True, capture_output=True).stdout)
    table = {key: {int(c): v for c, v in raw[key].items()} for key in ("category", "combining", "nfd")}
    lower = raw["lower"] and {int(c): v for c, v in raw["lower"].items()}
    classes = with_ascii({c: class_of(v, c) for c, v in table["category"].items()})
    return Properties("Unicode " + raw["version"], classes, table["combining"], table["nfd"], lower)


def from_utf8proc():
    library = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    library.utf8proc_version.restype = ctypes.c_char_p
    library.utf8proc_category_string.restype = ctypes.c_char_p
    library.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_int16 * 2)  # category, combining class, ...
    buffer, bound = (ctypes.c_int32 * 8)(), ctypes.c_int()
    decompose = 1 << 4
    classes, combining, nfd, lower = {}, {}, {}, {}
    for c in CODE_POINTS:
        kind = class_of(library.utf8proc_category_string(c).decode(), c)
        if kind != "letter":
            classes[c] = kind
        if library.utf8proc_get_property(c).contents[1]:
            combining[c] = library.utf8proc_get_property(c).contents[1]
        count = library.utf8proc_decompose_char(c, buffer, 8, decompose, ctypes.byref(bound))
        if list(buffer[:count]) != [c]:
            nfd[c] = list(buffer[:count])
        if library.utf8proc_tolower(c) != c:
            lower[c] = [library.utf8proc_tolower(c)]
    version = library.utf8proc_version().decode()
    return Properties("utf8proc " + version, with_ascii(classes), combining, nfd, lower)


def bert_normalizer(**on):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **on})


def reference_classes():
    clean, strip = bert_normalizer(clean_text=True), bert_normalizer(strip_accents=True)
    split = pre_tokenizers.BertPreTokenizer()
    classes = {}
    for code in CODE_POINTS:
        c = chr(code)
        if clean.normalize_str(f"a{c}b") == "ab":
            classes[code] = "dropped"
        elif strip.normalize_str(c) == "":
            classes[code] = "mark"
        elif [word for word, _ in split.pre_tokenize_str(f"a{c}b")] == ["a", c, "b"]:
            classes[code] = "punctuation"
    return classes


def reference_combining(nfd, table, hint):
    """Canonical combining classes, seen through the order in which NFD leaves two marks. `hint` offers marks to try."""
    own = [c for c in CODE_POINTS if c not in table]

    def swaps(a, b):
        return nfd.normalize_str(chr(a) + chr(b)) != chr(a) + chr(b)

    lowest, highest = 0x334, 0x345  # classes 1 and 240
    marks = {lowest, highest} | {c for c in own if swaps(highest, c) or swaps(c, lowest)}
    witnesses = {}
    for c in sorted(marks & hint.keys()):
        witnesses.setdefault(hint[c], c)
    classes = {}
    for c in marks:
        below = max((k for k, w in witnesses.items() if swaps(c, w)), default=0)
        above = min((k for k, w in witnesses.items() if swaps(w, c)), default=256)
        between = [k for k in witnesses if below < k < above]
        assert len(between) == 1, f"the combining class of U+{c:04X} is not found"
        classes[c] = between[0]
    return classes


def reference(hint):
    nfd_normalizer, lowercase = normalizers.NFD(), normalizers.Lowercase()
    nfd = {c: [ord(d) for d in nfd_normalizer.normalize_str(chr(c))] for c in CODE_POINTS}
    nfd = {c: v for c, v in nfd.items() if v != [c]}
    lower = {c: [ord(d) for d in lowercase.normalize_str(chr(c))] for c in CODE_POINTS}
    lower = {c: v for c, v in lower.items() if v != [c]}
    combining = reference_combining(nfd_normalizer, nfd, hint)
    return Properties("tokenizers " + tokenizers.__version__, reference_classes(), combining, nfd, lower)


def check_assumptions(ref, versions):
    """What data/unicode.h and data/words.cpp take for granted."""
    for c in CODE_POINTS:
        if c not in ref.nfd:
            assert len(ref.lower.get(c, [c])) == 1, f"U+{c:04X} has a lower case of several code points"
        if c in ref.combining and ref.classes.get(c) != "mark":
            assert c not in ref.lower and c not in ref.classes, f"U+{c:04X}, a non-starter, is not an ordinary letter"
    longest = max(len(v) for v in ref.nfd.values())
    assert longest <= 4, "a decomposition is longer than 4"
    for version in versions:
        for c, v in ref.nfd.items():
            assert version.nfd.get(c) == v, f"{version.name} decomposes U+{c:04X} otherwise"


def differing(ref, versions, field, default, skip=frozenset()):
    """{code point: the reference's value} where any version has another."""
    wanted = getattr(ref, field)
    out = {}
    for table in [getattr(version, field) for version in versions]:
        if table is None:
            continue
        for c in (wanted.keys() | table.keys()) - skip:
            if wanted.get(c, default(c)) != table.get(c, default(c)):
                out[c] = wanted.get(c, default(c))
    return out


def ranges(values):
    """[(first, last, value)] over adjacent code points of equal value."""
    out = []
    for c in sorted(values):
        if out and out[-1][1] == c - 1 and out[-1][2] == values[c]:
            out[-1][1] = c
        else:
            out.append([c, c, values[c]])
    return out


def print_table(comment, kind, name, rows):
    print(f"\n// {comment}\ninline constexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 120:
            print(line)
            line = "   "
        line += f" {row},"
    print(line + "\n};")


def main():
    versions = [from_python(command) for command in OPTIONS.python]
    versions += [from_python(sys.executable, os.path.abspath(package)) for package in OPTIONS.unicodedata2]
    versions.append(from_utf8proc())
    ref = reference(versions[-2].combining)
    check_assumptions(ref, versions)

    classes = differing(ref, versions, "classes", lambda c: "letter", FIXED | ref.nfd.keys())
    combining = differing(ref, versions, "combining", lambda c: 0, ref.nfd.keys())
    undecomposed = differing(ref, versions, "nfd", lambda c: [c])
    lower = differing(ref, versions, "lower", lambda c: [c], ref.nfd.keys())

    names = ", ".join(version.name.removeprefix("Unicode ") for version in versions[:-1])
    print("// Generated by tools/generate_unicode_exceptions.py; do not edit.")
    print("// Where the reference tokenizer's Unicode data differ from any of those below, the reference's value.")
    print(f"// Reference: {ref.name}.")
    print(f"// Compared with: Unicode {names}; {versions[-1].name}.")
    print('#pragma once\n\n#include "data/unicode.h"\n\n// clang-format off')
    print("namespace ember::unicode {\n\nusing enum CharacterClass;")
    print_table("First, last, class.", "ClassException", "kClassExceptions",
                [f"{{0x{a:X}, 0x{b:X}, {v}}}" for a, b, v in ranges(classes)])
    print_table("First, last, canonical combining class.", "CombiningException", "kCombiningExceptions",
                [f"{{0x{a:X}, 0x{b:X}, {v}}}" for a, b, v in ranges(combining)])
    print_table("First, last: code points that have no decomposition in the reference.", "CodeRange",
                "kUndecomposed", [f"{{0x{a:X}, 0x{b:X}}}" for a, b, _ in ranges({c: 0 for c in undecomposed})])
    print_table("First, last, lower case less code point.", "LowerException", "kLowerExceptions",
                [f"{{0x{a:X}, 0x{b:X}, {v}}}" for a, b, v in ranges({c: v[0] - c for c, v in lower.items()})])
    print("\n}  // namespace ember::unicode\n// clang-format on")


if __name__ == "__main__":
    main()
