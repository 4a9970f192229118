#!/usr/bin/env python3
"""Texts a second of the Hugging Face tokenizers library, one thread, to compare with Ember's tokenizer.

    tokenization.py --model MODEL --texts FILE [--rounds 5]

The library's calls that take many texts are tried with few and many at once and the fastest is kept; nothing is copied
out of it into Python while it is timed. Truncation at 128 tokens as in the recipe.
"""

from array import array

import common

SIZES = (16, 128, 1024)
PARSER = common.parser("tokenizers on a file of texts, one a line.")
PARSER.add_argument("--texts", type=common.file, required=True)


def main():
    args = PARSER.parse_args()
    common.set_threads(args.threads)
    common.require("tokenizers", "transformers")
    tokenizer = common.load_tokenizer(args.model)
    texts = common.lines(args.texts)
    calls = [(name, size) for name in ("encode_batch", "encode_batch_fast") for size in SIZES]

    def encode(call):
        for batch in common.batches(texts, call[1]):
            getattr(tokenizer, call[0])(batch)

    best = common.fastest(calls, encode)

    def run():
        return {"texts_per_second": len(texts) / common.seconds(lambda: encode(best))}

    def check(path):
        ids = array("i", [i for encoding in getattr(tokenizer, best[0])(texts) for i in encoding.ids])
        path.write_bytes(ids.tobytes())
        return {}

    ready = {"engine": "tokenizers", "variant": f"{best[0]}, {best[1]} texts at once", **common.versions("tokenizers")}
    common.serve(args, ready, run, check)


if __name__ == "__main__":
    main()
