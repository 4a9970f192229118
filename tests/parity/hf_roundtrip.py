#!/usr/bin/env python3
"""There and back: a TinyBERT-shaped checkpoint as it is published, convert_hf, train for 50 steps, and transformers
loads what comes out.

    hf_roundtrip.py BUILD GOEMOTIONS VOCABULARY [--dtype fp16]

BUILD is a build folder with convert_hf, train and predict, GOEMOTIONS a folder with the data, VOCABULARY a vocab.txt of
30,522 lines. The logits that `predict --all --format jsonl` prints (9 significant digits) of the whole dev split, and
of a text that is longer than train's, are held to those of AutoModelForSequenceClassification and AutoTokenizer on
train's --out. The weights before training are random. Needs bench/peers/requirements.txt. Exit status 1 beyond 1e-5.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import parity

LIMIT = 1e-5
SHAPE = dict(vocab_size=30522, hidden_size=312, num_hidden_layers=4, num_attention_heads=12, intermediate_size=1200,
             max_position_embeddings=512, type_vocab_size=2)
STEPS = 50
BATCH = 64


def arguments():
    parser = parity.OneLine(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("build", type=Path)
    parser.add_argument("goemotions", type=parity.folder_with("train.tsv", "dev.tsv", "labels.txt"))
    parser.add_argument("vocabulary", type=parity.file)
    parser.add_argument("--dtype", choices=["fp32", "fp16"], default="fp32", help="of convert_hf")
    args = parser.parse_args()
    args.convert_hf, args.train, args.predict = (args.build / name
                                                 for name in ("tools/convert_hf", "train/train", "tools/predict"))
    parser.require_programs(args.convert_hf, args.train, args.predict)
    parser.require_modules("numpy", "torch", "transformers", by=parity.REQUIREMENTS)
    return args


ARGS = arguments()

import numpy
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForPreTraining


def write_published(folder, vocabulary):
    """pytorch_model.bin, config.json and vocab.txt with all that the published TinyBERT has beyond a classifier."""
    folder.mkdir()
    torch.manual_seed(7)
    state = BertForPreTraining(BertConfig(**SHAPE)).state_dict()
    renamed = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
               for name, value in state.items()}
    for i in range(5):
        renamed[f"fit_denses.{i}.weight"], renamed[f"fit_denses.{i}.bias"] = torch.randn(768, 312), torch.randn(768)
    torch.save(renamed, folder / "pytorch_model.bin")
    junk = dict(cell={}, structure=[], pre_trained="", emb_size=312)
    (folder / "config.json").write_text(json.dumps({**SHAPE, "hidden_act": "gelu", **junk}))
    shutil.copyfile(vocabulary, folder / "vocab.txt")


def run(*arguments, **options):
    return subprocess.run([str(argument) for argument in arguments], check=True, stdout=subprocess.PIPE, text=True,
                          encoding="utf-8", **options).stdout


def reference_logits(folder, texts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    rows = []
    for i in range(0, len(texts), BATCH):
        inputs = tokenizer(texts[i:i + BATCH], truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**inputs).logits.numpy())
    return names, numpy.concatenate(rows)


def main():
    texts = parity.texts_of(ARGS.goemotions / "dev.tsv")
    texts.append(" ".join(texts[:50]))  # which both cut where train did
    with tempfile.TemporaryDirectory() as scratch:
        published, converted, out = (Path(scratch) / name for name in ("published", "converted", "out"))
        write_published(published, ARGS.vocabulary)
        report = run(ARGS.convert_hf, published, converted, "--dtype", ARGS.dtype, "--labels",
                     ARGS.goemotions / "labels.txt")
        print(report.splitlines()[-1])
        run(ARGS.train, "--model", converted, "--data", ARGS.goemotions, "--out", out, "--max-steps", STEPS,
            "--lr", "1e-4")
        lines = run(ARGS.predict, "--model", out, "--all", "--format", "jsonl",
                    input="".join(text + "\n" for text in texts)).splitlines()
        names, expected = reference_logits(out, texts)
    found = [json.loads(line) for line in lines]
    assert len(found) == len(texts)
    assert [entry["label"] for entry in found[0]["labels"]] == names and "admiration" in names, names
    logits = numpy.array([row["logits"] for row in found])
    difference = numpy.abs(logits - expected)
    assert numpy.isfinite(difference).all()
    print(f"{len(texts)} texts, {logits.shape[1]} labels, logits of {logits.min():.3f} to {logits.max():.3f}: "
          f"largest difference {difference.max():.3g}")
    return 0 if difference.max() <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
