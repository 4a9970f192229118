"""bench/compare.sh BUILD MODEL DATA: Ember and its peers by turns on the same inputs, in one table.

MODEL is a Hugging Face folder with weights and a classifier, DATA has GoEmotions' train.tsv, dev.tsv, test.tsv and
labels.txt. Every engine is started and does the job once, which warms it up and gives the outputs that are checked.
Then they take turns (A B C A B C ...), a round each, so that a change of the machine's mood meets all alike. The table
has the medians of the rounds, their coefficient of variation, how many times as fast Ember is at the same precision,
and beside the speed the output: the loss on dev after the same two epochs, the largest difference of a logit to
transformers in fp32, or whether the ids are the same. An output out of bounds is marked wrong. A peer that is not
installed is skipped by name, and so are all of a precision that the processor lacks, which Ember refuses; one that
fails is named and the rest goes on. Each measurement is appended to OUT/results.jsonl as it comes, behind the machine
and what the environment sets of OpenMP, libraries and levels (ATEN_CPU_CAPABILITY, EMBER_CPU_LEVEL ...), which engines
see as it is, but for the number of threads and CT2_USE_MKL; bench/report.py draws it. With --device cuda it is training
alone, Ember's in fp16.
Exit status: 0, 1 if Ember failed or its output is wrong, 2 for wrong flags or inputs, 130 if interrupted.
"""

import argparse
import datetime
import fcntl
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

import engines
import table
from inputs import check_inputs, make_inputs
from one_line import OneLine, Wrong, number
from turns import Comparison
from worker import Failure, Train, telling_environment

BATCH = 16
MOST_ROWS = 1600  # train reports its speed every 100 steps, and the second epoch is to be one such window


def tasks(text):
    chosen = text.split(",")
    for task in chosen:
        if task not in engines.TASKS:
            raise argparse.ArgumentTypeError(f"{task!r}: must be one of {', '.join(engines.TASKS)}")
    return chosen


def output_folder(text):
    if not text:
        raise argparse.ArgumentTypeError("is empty, a folder was expected")
    return Path(text)


def expression(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a regular expression: {error}") from error


def arguments(argv):
    parser = OneLine(prog="compare.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                     allow_abbrev=False)
    parser.add_argument("build", type=Path, metavar="BUILD", help="Ember's build folder")
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--out", type=output_folder, default=Path("out/compare"),
                        help="folder of results.jsonl (out/compare)")
    parser.add_argument("--quick", action="store_true", help="2 rounds on few rows: to see that all works")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", type=tasks, metavar="TASK,...",
                        help=f"{', '.join(engines.TASKS)}: all of them, or training with --device cuda")
    parser.add_argument("--engines", type=expression, default=re.compile(""), metavar="REGEX",
                        help="only Ember and the peers whose name and precision match, say 'ONNX|PyTorch fp32'")
    parser.add_argument("--rounds", type=number(1, 1000), help="5, or 2 with --quick")
    parser.add_argument("--rows", type=number(BATCH, MOST_ROWS, BATCH),
                        help=f"of training, 320, on CUDA {MOST_ROWS}, or 64 with --quick")
    parser.add_argument("--texts", type=number(1, 100000), help="of inference, 512, or 128 with --quick")
    parser.add_argument("--threads", type=number(1, 1024), help="of training (2)")
    parser.add_argument("--inference-threads", type=number(1, 1024), help="of inference (1)")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers' packages")
    parser.add_argument("--timeout", type=number(1, 100000), default=600, help="seconds that an answer may take (600)")
    args = parser.parse_args(argv)
    choose_tasks(args)
    fill_in(args)
    return args


def choose_tasks(args):
    """--only, or what there is for the device."""
    if args.device == "cpu":
        args.only = args.only or list(engines.TASKS)
    elif args.only in (None, ["training"]):
        args.only = [engines.CUDA_TRAINING]
    else:
        raise Wrong(f"--device cuda --only {','.join(args.only)}: only training is compared there")


def fill_in(args):
    """Sizes that were not given, where a chosen task looks at them; given where none does, one is a mistake."""
    chosen, training = set(args.only), {"training", engines.CUDA_TRAINING}
    rows = 320 if args.device == "cpu" else MOST_ROWS
    for name, users, quick, full in (("rounds", chosen, 2, 5), ("rows", training, 64, rows),
                                     ("texts", {"inference", "tokenisation"}, 128, 512), ("threads", training, 2, 2),
                                     ("inference_threads", {"inference"}, 1, 1)):
        given = getattr(args, name) is not None
        if not given and users & chosen:
            setattr(args, name, quick if args.quick else full)
        elif given and not users & chosen:
            raise Wrong(f"--{name.replace('_', '-')}: nothing in {', '.join(args.only)} depends on it")


def check_device(args, scratch):
    """train looks for its device before anything else, so without a model it does no more than that."""
    nothing = str(scratch / "nothing")
    train = Train([str(args.build / "train" / "train"), "--device", args.device, "--model", nothing, "--data", nothing],
                  scratch, {}, args.timeout)
    try:
        train.round()
    except Failure as failure:
        _, found, reason = str(failure).partition(": --device ")
        if found:
            raise Wrong(f"--device {reason}") from failure


def choose_engines(args, inputs):
    """Those of each task that take part: Ember, and whom --engines names."""
    there_are = {task: engines.ENGINES[task](inputs) for task in args.only}
    names = dict.fromkeys(str(engine) for of_task in there_are.values() for engine in of_task)
    if not any(map(args.engines.search, names)):
        raise Wrong(f"--engines {args.engines.pattern!r}: matches no engine; there are {'; '.join(names)}")
    return {task: [engine for engine in of_task if engine.name == "Ember" or args.engines.search(str(engine))]
            for task, of_task in there_are.items()}


class Results:
    """results.jsonl, a record a line, each written through as it comes."""

    def __init__(self, folder):
        self.records = []
        self.path = folder / "results.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "ab", buffering=0)
        except OSError as error:
            raise Wrong(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Wrong(f"{self.path}: another compare.sh is writing to it; --out takes another folder") from error
        except OSError:
            pass  # a file system without locks

    def add(self, event, **values):
        record = {"event": event, **values}
        line = json.dumps(record).encode() + b"\n"
        before = os.fstat(self.file.fileno()).st_size
        try:
            if self.file.write(line) != len(line):
                self.file.truncate(before)  # half a line would spoil the file for all runs in it
                raise Wrong(f"{self.path}: no room left")
        except OSError as error:
            raise Wrong(f"{self.path}: {error.strerror}") from error
        self.records.append(record)


def processor():
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def run(argv):
    args = arguments(argv)
    check_inputs(args)
    with tempfile.TemporaryDirectory(prefix="ember-compare-") as folder:
        scratch = Path(folder)
        taking_part = choose_engines(args, make_inputs(args, scratch))
        if args.device != "cpu":
            check_device(args, scratch)
        results = Results(args.out)
        results.add("machine", processor=processor(), cores=os.cpu_count(), system=platform.platform(),
                    date=datetime.date.today().isoformat(), device=args.device,
                    arguments=[str(argument) for argument in argv], rounds=args.rounds, rows=args.rows,
                    texts=args.texts, threads=args.threads, inference_threads=args.inference_threads,
                    environment=telling_environment())
        comparison = Comparison(args, results, scratch)
        for task, chosen in taking_part.items():
            comparison.run(task, chosen)
            print(table.table(results.records, task), end="\n\n", flush=True)
    print(f"every round is in {results.path}")
    failures = table.failures(results.records, "Ember")
    for failure in failures:
        print(f"compare.sh: {failure}", file=sys.stderr)
    return 1 if failures else 0


def main():
    try:
        return run(sys.argv[1:])
    except Wrong as error:
        print(f"compare.sh: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"compare.sh: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare.sh: interrupted; what was measured is in the results", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
