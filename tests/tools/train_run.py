"""What the tests of train share: a tiny model, its data, and the built train run on them."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

TRAIN = PREDICT = None
TIMEOUT = 120
LABELS = ["anger", "fear", "joy", "love"]


def setUpModule():
    global scratch, model, data
    scratch = tempfile.mkdtemp(prefix="ember train ")
    model, data = os.path.join(scratch, "model"), os.path.join(scratch, "data")
    write_model(model)
    write_data(data)


def tearDownModule():
    shutil.rmtree(scratch)


def write_model(directory, hidden=32):
    os.makedirs(directory)
    config = {"model_type": "bert", "vocab_size": 200, "hidden_size": hidden, "num_hidden_layers": 2,
              "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 32, "type_vocab_size": 2,
              "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
              "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "pad_token_id": 0}
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(config, file)
    with open(os.path.join(directory, "vocab.txt"), "w") as file:
        file.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + ["word%d" % i for i in range(195)]))


def write_data(directory, rows=240, seed=1):
    os.makedirs(directory)
    generator = random.Random(seed)
    with open(os.path.join(directory, "labels.txt"), "w") as file:
        file.write("\n".join(LABELS) + "\n")
    for split, count in ("train", rows), ("dev", 40):
        with open(os.path.join(directory, split + ".tsv"), "w") as file:
            for i in range(count):
                label = generator.randrange(4)
                words = [label] + [generator.randrange(4, 195) for _ in range(generator.randrange(20))]
                file.write("%s\t%d\tid%d\n" % (" ".join("word%d" % word for word in words), label, i))


def out_folder(name):
    return os.path.join(scratch, name)


def command(out, *flags):
    """30 steps an epoch, 120 in all."""
    flags = {"--model": model, "--data": data, "--out": out, "--batch-size": "8", "--lr": "2e-3", "--max-length": "24",
             "--save-every": "10", "--eval-every": "15", "--threads": "1", "--from-scratch": None,
             **dict(zip(flags[::2], flags[1::2]))}
    return [TRAIN] + [word for item in flags.items() for word in item if word is not None]


def train(out, *flags, **settings):
    done = subprocess.run(command(out, *flags), capture_output=True, timeout=TIMEOUT, **settings)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def events(out, *kinds):
    found = [json.loads(line) for line in read(out, "metrics.jsonl").splitlines()]
    for event in found:
        event.pop("examples_per_second", None)
        event.pop("tokens_per_second", None)
    return [event for event in found if event["event"] in kinds]


def digests(directory):
    """The content of every file below, by path."""
    return {os.path.relpath(os.path.join(folder, name), directory):
            hashlib.sha256(read(folder, name)).hexdigest()
            for folder, _, names in os.walk(directory) for name in names}


def checkpoints(out):
    return sorted(name for name in os.listdir(os.path.join(out, "checkpoints")))


def newest_step(out):
    """Of the checkpoints that are there now; 0 without one."""
    folder = os.path.join(out, "checkpoints")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return max((int(name[5:]) for name in names if re.fullmatch(r"step-\d+", name)), default=0)


def main():
    """As a test's main, which is given the programs before unittest's arguments."""
    global TRAIN, PREDICT
    TRAIN, PREDICT = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=2)
