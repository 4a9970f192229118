#!/usr/bin/env python3
"""Texts a second of the Hugging Face tokenizers library, one thread, to compare with Ember's tokenizer.

    tokenization.py --model MODEL --texts FILE [--rounds 5]

Both calls of the library that take many texts are tried and the faster one is kept; nothing is copied out of it into
Python while it is timed. Truncation at 128 tokens as in the recipe.
"""

from array import array

import common

PARSER = common.parser("tokenizers on a file of texts, one a line.")
PARSER.add_argument("--texts", required=True)


def main():
    args = PARSER.parse_args()
    common.set_threads(args.threads)
    common.require("tokenizers", "transformers")
    tokenizer = common.load_tokenizer(args.model)
    texts = common.lines(args.texts)
    call = common.fastest(["encode_batch", "encode_batch_fast"], lambda name: getattr(tokenizer, name)(texts))
    encode = getattr(tokenizer, call)

    def run():
        return {"texts_per_second": len(texts) / common.seconds(lambda: encode(texts))}

    def check(path):
        ids = array("i", [i for encoding in encode(texts) for i in encoding.ids])
        path.write_bytes(ids.tobytes())
        return {}

    common.serve(args, {"engine": "tokenizers", "variant": call, **common.versions("tokenizers")}, run, check)


if __name__ == "__main__":
    main()
