"""What all engines of a comparison are given: rows and texts of the user's data, cut from all over its files."""

import csv
import os
import shutil

import engines
from one_line import Wrong
from worker import scratch_folder


def check_inputs(args):
    if shutil.which(args.python) is None:
        raise Wrong(f"--python {args.python}: there is no such program")
    texts = [args.build / "bench" / "bench_texts"] if set(args.only) & {"inference", "tokenisation"} else []
    for path in [args.build / "train" / "train", *texts]:
        if not os.access(path, os.X_OK):
            raise Wrong(f"{path}: there is no such program; BUILD is a folder that Ember was built in")
    for path in (*(args.model / name for name in ("config.json", "vocab.txt", "model.safetensors")),
                 *(args.data / name for name in ("train.tsv", "dev.tsv", "test.tsv", "labels.txt"))):
        if not path.is_file():
            raise Wrong(f"{path}: there is no such file")


def spread(items, count):
    """`count` of them, or all, at even distances: the lengths of texts drift over GoEmotions' files."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def make_inputs(args, scratch):
    """Rows of train and dev, and texts of test, from all over each file; what no chosen task looks at is left out."""
    data, texts = scratch_folder(scratch, "data"), scratch / "texts.txt"
    if args.rows:
        write_rows(args, data)
    if args.texts:
        write_texts(args, texts)
    return engines.Inputs(args.build, args.model, data, texts, args.python, args.threads, args.inference_threads)


def write_rows(args, data):
    for name in "train.tsv", "dev.tsv":
        with open(args.data / name, "rb") as file:
            lines = spread([line for line in file if line.strip()], args.rows)
        if not lines:
            raise Wrong(f"{args.data / name}: holds no row")
        if name == "train.tsv" and len(lines) < args.rows:
            raise Wrong(f"{args.data / name}: has fewer than {args.rows} rows; --rows takes fewer")
        (data / name).write_bytes(b"".join(lines))
    (data / "labels.txt").write_bytes((args.data / "labels.txt").read_bytes())


def write_texts(args, path):
    test = args.data / "test.tsv"
    try:
        with open(test, encoding="utf-8", newline="") as file:
            texts = [row[0] for row in csv.reader(file, delimiter="\t") if row and row[0]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Wrong(f"{test}: {error}") from error
    if not texts:
        raise Wrong(f"{test}: holds no text")
    texts = [" ".join(text.splitlines()) for text in spread(texts, args.texts)]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
