"""Prints the expected values in goemotions_test.cpp and dataset_test.cpp, computed apart from Ember.

    python3 tests/data/expected_values.py [directory with GoEmotions' train.tsv, dev.tsv and test.tsv]
"""

import csv
import itertools
import os
import sys

FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
SITE_PERMUTATION = 0x600


def fnv(values, digest=FNV_OFFSET):
    for value in values:
        digest = ((digest ^ value) * FNV_PRIME) % 2**64
    return digest


def digest_of_tsv(path):
    digest, rows, quoted = FNV_OFFSET, 0, 0
    with open(path, newline="", encoding="utf-8") as file:
        for text, labels, _ in csv.reader(file, delimiter="\t"):
            ids = ",".join(map(str, sorted({int(label) for label in labels.split(",")})))
            digest = fnv(f"{text}\0{ids}\n".encode(), digest)
            rows += 1
            quoted += '"' in text
    return f"{rows} rows, {quoted} with a double quote, digest {digest:#x}"


def philox(counter, key):
    c0, c1, c2, c3 = counter
    k0, k1 = key % 2**32, key >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b % 2**32, (a >> 32) ^ c3 ^ k1, a % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def permutation(size, seed, epoch):
    """The order and how many words were refused as biased."""
    blocks = (philox((i % 2**32, i >> 32, epoch, SITE_PERMUTATION), seed) for i in itertools.count())
    words = itertools.chain.from_iterable(blocks)
    order, refused = list(range(size)), 0
    for i in range(size, 1, -1):
        while (product := next(words) * i) % 2**32 < 2**32 % i:
            refused += 1
        j = product >> 32
        order[i - 1], order[j] = order[j], order[i - 1]
    return order, refused


def main():
    for size, seed, epoch in ((10, 42, 0), (10, 42, 1), (10, (7 << 32) | 42, 0)):
        print(f"permutation({size}, {seed}, {epoch}): {permutation(size, seed, epoch)[0]}")
    for epoch in itertools.count():
        order, refused = permutation(43410, 42, epoch)
        print(f"permutation(43410, 42, {epoch}): digest {fnv(order):#x}, {refused} words refused")
        if refused:
            break
    if len(sys.argv) > 1:
        for split in ("train", "dev", "test"):
            print(f"{split}: {digest_of_tsv(os.path.join(sys.argv[1], split + '.tsv'))}")


if __name__ == "__main__":
    main()
