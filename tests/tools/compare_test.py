"""bench/compare.sh with made-up engines: python3 compare_test.py [unittest's arguments].

The build folder holds a train and a bench_texts that are scripts, and --python is a script that plays the peer it is
asked to start, so neither Ember's programs nor torch are needed. What an engine is to do comes from the environment:
"NAME=behaviour NAME=behaviour ...".
"""

import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from refusals import Refusals

ROOT = Path(__file__).resolve().parents[2]
COMPARE = ROOT / "bench" / "compare.sh"
TIMEOUT = 120

sys.path.insert(0, str(ROOT / "bench" / "comparison"))
import engines

# Answers as a worker does. Its name is the peer's script or engine; speeds are made up so that ratios are known.
FAKE_WORKER = r'''#!/usr/bin/env -S python3 -S -E
import array, json, os, sys, time
words = sys.argv
joined = " ".join(words)
def flag(name, default=""):
    return words[words.index(name) + 1] if name in words else default
name = flag("--engine") or ("bench_texts" if words[0].endswith("bench_texts") else os.path.basename(words[1])[:-3])
behaviours = dict(pair.split("=") for pair in os.environ.get("BEHAVIOUR", "").split())
behaviour = behaviours.get(name + ":" + flag("--precision", "fp32"), "")
speed = {"bench_texts": 600.0, "onnxruntime": 300.0, "tokenization": 150.0}.get(name, 200.0)
if behaviour == "missing":
    print(name + ": not installed, skipped", file=sys.stderr); sys.exit(77)
if behaviour == "broken":
    print("first\nthe last words", file=sys.stderr); sys.exit(3)
with open(os.environ["STARTED"], "a") as file:
    file.write(joined + (" with MKL" if os.environ.get("CT2_USE_MKL") == "1" else "") + "\n")
with open(os.environ["INPUTS"], "w") as file:
    splits = "train.tsv", "dev.tsv"
    paths = [flag("--texts")] if flag("--texts") else [os.path.join(flag("--data"), split) for split in splits]
    json.dump([*(open(path).read() for path in paths), os.environ.get("GLIBC_TUNABLES")], file)
print(json.dumps({"ready": True, "engine": name}), flush=True)
rounds = 0
for line in sys.stdin:
    command, _, path = line.strip().partition(" ")
    if command == "check":
        answer = {}
        if "train" in name:
            answer["loss"] = float("nan") if behaviour == "nan" else 0.25 if behaviour == "wrong" else 0.2
        elif "tokenisation" in words or name == "tokenization":
            array.array("i", [2, 7 if behaviour == "wrong" else 5, 3]).tofile(open(path, "wb"))
        else:
            off = {"wrong": 1.0, "nan": float("nan")}.get(behaviour, 0.0)
            array.array("f", [0.5, -0.25 + off] + [1.0] * (behaviour == "long")).tofile(open(path, "wb"))
    else:
        rounds += 1
        if behaviour == "dies" and rounds == 2: sys.exit(4)
        if behaviour == "slow": time.sleep(0.5)
        if behaviour == "hangs": time.sleep(1000)
        if behaviour == "babbles":
            print("hello", flush=True); continue
        answer = {"examples_per_second": speed} if "train" in name else {"texts_per_second": speed}
        if name != "tokenization" and "tokenisation" not in words and "train" not in name:
            answer["latency_ms"] = 1000 / speed
        if behaviour == "zero": answer = {"texts_per_second": 0.0}
    with open(os.environ["ORDERS"], "a") as file:
        file.write(name + " " + flag("--precision", "-") + " " + command + "\n")
    print(json.dumps(answer), flush=True)
    if behaviour == "leaves": sys.exit(0)
'''

FAKE_TRAIN = r'''#!/usr/bin/env -S python3 -S -E
import json, os, sys
out = sys.argv[sys.argv.index("--out") + 1]
for word, reason in (("broken", "broken"), ("lacking", "bf16: needs a processor with AMX"),
                     ("deviceless", "--device cuda: no NVIDIA driver is installed; use --device cpu")):
    if "train=" + word in os.environ.get("BEHAVIOUR", "") and (word != "lacking" or "bf16" in sys.argv):
        print("train: " + reason, file=sys.stderr); sys.exit(2)
os.mkdir(out)
with open(os.environ["ORDERS"], "a") as file:
    file.write("train round\n")
with open(os.path.join(out, "metrics.jsonl"), "w") as file:
    for speed, loss in (1.0, 0.3), (400.0, 0.2001):
        file.write(json.dumps({"event": "train", "examples_per_second": speed}) + "\n")
        file.write(json.dumps({"event": "eval", "loss": loss}) + "\n")
'''


def setUpModule():
    global scratch
    scratch = Path(tempfile.mkdtemp(prefix="ember compare "))
    for folder in "build/train", "build/bench", "model", "data":
        (scratch / folder).mkdir(parents=True)
    for path, text in (("build/train/train", FAKE_TRAIN), ("build/bench/bench_texts", FAKE_WORKER),
                       ("python", FAKE_WORKER)):
        (scratch / path).write_text(text)
        (scratch / path).chmod(0o755)
    for name in "config.json", "vocab.txt", "model.safetensors":
        (scratch / "model" / name).write_text("{}")
    for name in "train.tsv", "dev.tsv", "test.tsv":
        (scratch / "data" / name).write_text("".join(f'"text ""{i}"""\t0,1\tid\n' for i in range(40)))
    (scratch / "data" / "labels.txt").write_text("joy\nlove\n")


def tearDownModule():
    shutil.rmtree(scratch)


class Case(unittest.TestCase):
    def setUp(self):
        self.out = Path(tempfile.mkdtemp(dir=scratch))

    def compare(self, *flags, behaviour="", arguments=None, log=True, **options):
        environment = {**os.environ, "BEHAVIOUR": behaviour, "TMPDIR": str(self.out),
                       **{name: str(self.out / name.lower()) if log else os.devnull
                          for name in ("STARTED", "ORDERS", "INPUTS")}}
        arguments = arguments or [scratch / "build", scratch / "model", scratch / "data", "--out", self.out / "results",
                                  "--python", scratch / "python", *self.sizes(flags)]
        return subprocess.run([str(a) for a in (COMPARE, *arguments, *flags)], env=environment, capture_output=True,
                              text=True, timeout=TIMEOUT, **options)

    @staticmethod
    def sizes(flags):
        """Small ones, of the tasks that are chosen."""
        tasks = flags[flags.index("--only") + 1] if "--only" in flags else "training" if "cuda" in flags else ""
        return [*(["--rows", "16"] if tasks in ("", "training") else []),
                *(["--texts", "8"] if tasks in ("", "inference", "tokenisation") else [])]

    def table(self, *flags, status=0, **options):
        """{(engine, precision): cells} of the only table that is printed."""
        done = self.compare(*flags, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()
                 if line.startswith("|")]
        return {tuple(cells[:2]): cells[2:] for cells in lines[2:]}, done

    def records(self):
        return [json.loads(line) for line in (self.out / "results" / "results.jsonl").read_text().splitlines()]


class Tables(Case):
    def test_training(self):
        rows, _ = self.table("--only", "training", "--rounds", "3")
        self.assertEqual(rows["Ember", "fp32"][:4], ["400", "0.0%", "1.00", "0.20010"])
        self.assertEqual(rows["PyTorch, packed", "fp32"][:4], ["200", "0.0%", "2.00", "0.20000"])
        self.assertEqual(rows["PyTorch, packed", "bf16"][2], "2.00")
        self.assertEqual(len(rows), 10)

    def test_training_on_cuda(self):
        rows, _ = self.table("--device", "cuda", "--rounds", "1", behaviour="hf_trainer:fp16=missing")
        self.assertEqual(rows["Ember", "fp16"][:4], ["400", "-", "1.00", "0.20010"])
        self.assertEqual(rows["PyTorch, packed", "fp16"][2], "2.00")
        self.assertEqual(rows["Trainer, padded to 128", "fp16"][-1], "hf_trainer: not installed, skipped")
        self.assertEqual(len(rows), 11)
        started = (self.out / "started").read_text().splitlines()
        self.assertTrue(started and all("--device cuda" in command for command in started))
        self.assertEqual([r["rows"] for r in self.records() if r["event"] == "machine"], [16])

    def test_training_alone_needs_no_bench_texts(self):
        build = self.out / "build"
        (build / "train").mkdir(parents=True)
        shutil.copy(scratch / "build" / "train" / "train", build / "train")
        done = self.compare("--only", "training", "--engines", "packed fp32", "--rows", "16", "--python",
                            scratch / "python", "--out", self.out / "results",
                            arguments=[build, scratch / "model", scratch / "data"])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_inference(self):
        rows, _ = self.table("--only", "inference")
        self.assertEqual(rows["Ember", "fp32"], ["600", "0.0%", "1.00", "1.67", "0.0%", "1.00", "0.0e+00", ""])
        self.assertEqual(rows["ONNX Runtime", "fp32"][:6], ["300", "0.0%", "2.00", "3.33", "0.0%", "2.00"])
        self.assertEqual(rows["ONNX Runtime", "int8"][2], "2.00")

    def test_some_engines(self):
        rows, _ = self.table("--only", "inference", "--engines", "ONNX|PyTorch fp32")
        self.assertEqual(set(rows), {("Ember", "fp32"), ("Ember", "bf16"), ("Ember", "int8"), ("PyTorch", "fp32"),
                                     ("ONNX Runtime", "fp32"), ("ONNX Runtime", "int8"),
                                     ("ONNX Runtime, only [CLS] in the last layer", "fp32"),
                                     ("ONNX Runtime, only [CLS] in the last layer", "int8")})

    def test_the_users_environment_is_told_and_leaves_rows_what_their_names_say(self):
        with mock.patch.dict(os.environ, CT2_USE_MKL="1", EMBER_CPU_LEVEL="avx2"):
            self.assertEqual(self.compare("--only", "inference", "--engines", "CTranslate2").returncode, 0)
        started = [line for line in (self.out / "started").read_text().splitlines() if "ctranslate2" in line]
        self.assertEqual(["with MKL" in line for line in started], [False, True, False], started)
        told = self.records()[0]["environment"]
        self.assertEqual((told["CT2_USE_MKL"], told["EMBER_CPU_LEVEL"]), ("1", "avx2"))

    def test_an_expression_may_name_ember_alone(self):
        rows, _ = self.table("--only", "tokenisation", "--engines", "^Ember")
        self.assertEqual(list(rows), [("Ember", "ids")])

    def test_they_take_turns_after_a_check_each(self):
        self.table("--only", "tokenisation", "--rounds", "3")
        orders = [line.split() for line in (self.out / "orders").read_text().splitlines()]
        self.assertEqual([(order[0], order[-1]) for order in orders],
                         [("bench_texts", "check"), ("tokenization", "check")] +
                         [("bench_texts", "round"), ("tokenization", "round")] * 3)

    def test_texts_are_unquoted_and_from_all_over_the_file(self):
        self.table("--only", "tokenisation")
        command = (self.out / "started").read_text()
        self.assertIn("--model " + str(scratch / "model"), command)
        texts, tunables = json.loads((self.out / "inputs").read_text())
        self.assertEqual(texts.splitlines(), [f'text "{i}"' for i in range(0, 40, 5)])
        self.assertEqual(tunables, "glibc.malloc.hugetlb=1", "of the peer, which starts last")
        self.assertEqual([r["texts"] for r in self.records() if r["event"] == "machine"], [8])

    def test_rows_are_whole_lines_from_all_over_the_files(self):
        self.table("--only", "training", "--rows", "32")
        train, dev, tunables = json.loads((self.out / "inputs").read_text())
        self.assertEqual(train.splitlines(), [f'"text ""{i * 40 // 32}"""\t0,1\tid' for i in range(32)])
        self.assertEqual(dev, train)
        self.assertEqual(tunables, "glibc.malloc.hugetlb=1", "what Ember has peers get too")

    def test_all_tasks_and_results(self):
        done = self.compare("--quick")
        self.assertEqual(done.returncode, 0, done.stderr)
        for task in "training", "inference", "tokenisation":
            self.assertIn("\n| " + task, "\n" + done.stdout)
        records = self.records()
        self.assertEqual(records[0]["event"], "machine")
        self.assertEqual(sum(r["event"] == "round" for r in records), 2 * (10 + 14 + 2))
        self.compare("--only", "tokenisation", "--rounds", "1")
        self.assertEqual(len(self.records()), len(records) + 1 + 2 + 2 + 2, "a second run is appended")
        self.assertEqual([p.name for p in self.out.glob("ember-compare-*")], [], "scratch is removed")


class Accuracy(Case):
    def test_a_wrong_answer_is_marked(self):
        rows, _ = self.table("--only", "inference", behaviour="onnxruntime:fp32=wrong ctranslate2:int8=nan")
        self.assertEqual(rows["ONNX Runtime", "fp32"][6], "1.0e+00 (wrong)")
        self.assertEqual(rows["CTranslate2", "int8"][6], "inf (wrong)")
        self.assertNotIn("wrong", rows["Ember", "fp32"][6])

    def test_a_wrong_loss_is_marked(self):
        rows, _ = self.table("--only", "training", behaviour="train_torch:bf16=wrong hf_trainer:fp32=nan")
        self.assertEqual(rows["PyTorch, packed", "bf16"][3], "0.25000 (wrong)")
        self.assertEqual(rows["Trainer, padded to 128", "fp32"][3], "nan (wrong)")

    def test_other_ids_are_marked(self):
        rows, _ = self.table("--only", "tokenisation", behaviour="bench_texts:fp32=wrong", status=1)
        self.assertEqual(rows["Ember", "ids"][3], "other ids (wrong)")

    def test_without_the_reference_it_says_so(self):
        rows, _ = self.table("--only", "inference", behaviour="torch:fp32=missing")
        self.assertEqual(rows["Ember", "fp32"][6], "no reference")


class Failures(Case):
    def test_a_missing_peer_is_skipped_by_name(self):
        rows, done = self.table("--only", "inference", behaviour="onnxruntime:fp32=missing")
        self.assertEqual([name for name, precision in rows if precision == "fp32"],
                         ["Ember", "PyTorch", "PyTorch, compiled", "ONNX Runtime",
                          "ONNX Runtime, only [CLS] in the last layer", "CTranslate2", "CTranslate2, MKL"])
        self.assertEqual(rows["ONNX Runtime", "fp32"][0], "-")
        self.assertEqual(rows["ONNX Runtime", "fp32"][-1], "onnxruntime: not installed, skipped")
        self.assertEqual(rows["ONNX Runtime", "int8"][0], "300")
        self.assertIn("onnxruntime: not installed, skipped", done.stderr)

    def test_a_failing_peer_is_named_and_the_rest_goes_on(self):
        behaviour = ("onnxruntime:fp32=broken ctranslate2:fp32=dies torch:bf16=babbles onnxruntime:int8=long "
                     "ctranslate2:int8=zero")
        rows, done = self.table("--only", "inference", behaviour=behaviour)
        self.assertEqual(rows["ONNX Runtime", "fp32"][-1], "failed: ended with status 3: the last words")
        self.assertEqual(rows["CTranslate2", "fp32"][0], "200", "the rounds before stay")
        self.assertEqual(rows["CTranslate2", "fp32"][-1], "failed: ended with status 4")
        self.assertIn("'hello' instead of JSON", rows["PyTorch", "bf16"][-1])
        self.assertIn("3 logits where transformers has 2", rows["ONNX Runtime", "int8"][-1])
        self.assertIn("without a figure", rows["CTranslate2", "int8"][-1])
        self.assertEqual(rows["Ember", "bf16"][0], "600")
        # CTranslate2 with MKL dies too, PyTorch compiled babbles, and ONNX Runtime is there twice.
        self.assertEqual(sum(r["event"] == "failed" for r in self.records()), 9)
        self.assertEqual(done.stderr.count("\n"), 9)

    def test_a_peer_that_hangs_is_given_up(self):
        rows, _ = self.table("--only", "tokenisation", "--timeout", "2", behaviour="tokenization:fp32=hangs")
        self.assertEqual(rows["tokenizers", "ids"][-1], "failed: no answer within 2 s")

    def test_a_peer_that_is_gone_before_an_order_is_named(self):
        rows, done = self.table("--only", "tokenisation", behaviour="tokenization:fp32=leaves bench_texts:fp32=slow")
        self.assertEqual(rows["tokenizers", "ids"][-1], "failed: ended with status 0")
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_blank_rows_are_passed_over_and_bad_bytes_named(self):
        test = scratch / "data" / "test.tsv"
        whole = test.read_bytes()
        try:
            test.write_bytes(b"\n" + whole)
            self.table("--only", "tokenisation")
            test.write_bytes(b"\xff\t0\n" + whole)
            done = self.compare("--only", "tokenisation")
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"compare.sh: {test}: 'utf-8' codec", done.stderr)
        finally:
            test.write_bytes(whole)

    def test_ember_may_fail_too(self):
        rows, done = self.table("--only", "training", behaviour="train=broken", status=1)
        self.assertEqual(rows["Ember", "fp32"][-1], "failed: ended with status 2: train: broken")
        self.assertIn("compare.sh: training: Ember fp32: failed: ended with status 2", done.stderr)
        self.assertEqual(rows["PyTorch, packed", "fp32"][2], "-")

    def test_ember_without_a_precision_did_not_fail_and_its_peers_are_spared(self):
        rows, _ = self.table("--only", "training", behaviour="train=lacking")
        self.assertEqual(rows["Ember", "bf16"][-1], "train: bf16: needs a processor with AMX")
        for name, precision in rows:
            if name != "Ember" and precision == "bf16":
                self.assertEqual(rows[name, precision][-1], "Ember has no bf16 here to be held against")
        self.assertNotIn("bf16", (self.out / "started").read_text())
        self.assertEqual(rows["PyTorch, packed", "fp32"][-1], "")

    def test_ember_stands_first_of_each_precision_so_that_its_peers_can_be_spared(self):
        inputs = engines.Inputs(*map(Path, ("build", "model", "data", "texts")), "python", 1, 1)
        for task, of_task in engines.ENGINES.items():
            names = {}
            for engine in of_task(inputs):
                names.setdefault(engine.precision, []).append(engine.name)
            for precision, of_precision in names.items():
                self.assertNotIn("Ember", of_precision[1:], (task, precision))


class Mistakes(Case, Refusals):
    def refused(self, *flags, contains, **options):
        self.assert_refused(self.compare(*flags, **options), contains, program="compare.sh")

    def test_flags(self):
        for flags, contains in ((["--rounds", "0"], "--rounds"), (["--rows", "17"], "multiple of 16"),
                                (["--nothing"], "--nothing"), (["--only", "cooking"], "cooking"),
                                (["--texts", "x"], "--texts"), (["--engines", "("], "--engines"),
                                (["--engines", "nosuch"], "'nosuch': matches no engine; there are Ember fp32; "),
                                (["--only", "tokenisation", "--engines", "fp32"], "are Ember ids; tokenizers ids\n"),
                                (["--only", "tokenisation", "--rows", "16"], "--rows: nothing in tokenisation"),
                                (["--only", "tokenisation", "--inference-threads", "2"], "--inference-threads: "),
                                (["--only", "inference", "--threads", "1"], "--threads: nothing in inference"),
                                (["--device", "cuda", "--texts", "8"], "--texts: nothing in training on"),
                                (["--out", ""], "--out: is empty"),
                                (["--qui"], "--qui"), (["--device", "tpu"], "--device"),
                                (["--device", "cuda", "--only", "inference"], "only training is compared"),
                                (["--rows", "48"], "fewer than 48 rows; --rows takes fewer"), (["extra"], "extra"),
                                (["--python", "/none/python"], "/none/python: there is no such program")):
            with self.subTest(flags=flags):
                self.refused(*flags, contains=contains)

    def test_a_device_that_is_not_there_is_told_before_anything_is_measured(self):
        self.refused("--device", "cuda", behaviour="train=deviceless",
                     contains="compare.sh: --device cuda: no NVIDIA driver is installed")
        self.assertFalse((self.out / "results").exists())
        self.assertFalse((self.out / "started").exists())

    def test_folders(self):
        build, model, data = scratch / "build", scratch / "model", scratch / "data"
        for arguments, contains in (([build, model], "DATA"), ([model, model, data], "model/train/train"),
                                    ([build, data, data], "config.json"), ([build, model, model], "train.tsv")):
            with self.subTest(arguments=arguments):
                self.refused(arguments=[*arguments, "--out", self.out / "results"], contains=contains)
        self.assertFalse((self.out / "results").exists())

    def test_data_without_rows(self):
        for name, task, contains in (("train.tsv", "training", "train.tsv: holds no row"),
                                     ("dev.tsv", "training", "dev.tsv: holds no row"),
                                     ("test.tsv", "tokenisation", "test.tsv: holds no text")):
            with self.subTest(name=name):
                data = self.out / name
                shutil.copytree(scratch / "data", data)
                (data / name).write_text("\n")
                self.refused("--only", task, *self.sizes(["--only", task]), "--python", scratch / "python", "--out",
                             self.out / "results", arguments=[scratch / "build", scratch / "model", data],
                             contains=contains)
        self.assertFalse((self.out / "results").exists())

    def test_results_that_cannot_be_written(self):
        (self.out / "file").write_text("")
        self.refused("--out", self.out / "file", contains="file")
        self.refused("--out", self.out / "file" / "below", contains="below")

    def test_a_full_disk_keeps_what_was_measured(self):
        limit = 2000
        done = self.compare("--only", "inference", log=False,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(done.returncode, 2, done)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("results.jsonl", done.stderr)
        kept = (self.out / "results" / "results.jsonl").read_text()
        self.assertEqual(json.loads(kept.splitlines()[0])["event"], "machine")
        self.assertGreater(len(kept), limit // 2)
        self.assertEqual([json.loads(line)["event"] for line in kept.splitlines()][:2], ["machine", "entered"])
        self.assertTrue(kept.endswith("\n"))

    def test_another_that_writes_the_same_results(self):
        (self.out / "results").mkdir()
        with open(self.out / "results" / "results.jsonl", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.refused("--only", "tokenisation", contains="results.jsonl: another compare.sh is writing to it")
        self.assertEqual(self.compare("--only", "tokenisation").returncode, 0)


if __name__ == "__main__":
    unittest.main()
