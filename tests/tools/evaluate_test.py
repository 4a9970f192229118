"""Runs the built evaluate on a tiny model and holds its figures to those computed here from predict's logits:
python3 evaluate_test.py EVALUATE PREDICT [unittest's arguments]."""

import functools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from refusals import Refusals
from tiny_model import LABELS, WORDS, write_model

EVALUATE = PREDICT = None
TIMEOUT = 120
# No row has the label sadness.
ROWS = [(" ".join((WORDS * 3)[i % 13:i % 13 + 1 + i % 19]), [k for k in (0, 1, 2, 4) if (i * (k + 3)) % 5 == 0])
        for i in range(300)]


def setUpModule():
    global scratch, model
    scratch = tempfile.mkdtemp(prefix="ember evaluate ")
    model = os.path.join(scratch, "model")
    write_model(model)


def tearDownModule():
    shutil.rmtree(scratch)


def data_directory(name, rows=ROWS, labels=LABELS, extra=b"", split="dev"):
    directory = os.path.join(scratch, name)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "labels.txt"), "w") as file:
        file.write("".join(label + "\n" for label in labels))
    with open(os.path.join(directory, split + ".jsonl"), "wb") as file:
        for text, ids in rows:
            file.write(json.dumps({"text": text, "labels": ids}).encode() + b"\n")
        file.write(extra)
    return directory


def evaluate(*arguments):
    done = subprocess.run([EVALUATE, *arguments], capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.decode(), done.stderr.decode()


def predictions(rows):
    done = subprocess.run([PREDICT, "--model", model, "--all", "--format", "jsonl"], timeout=TIMEOUT,
                          input="".join(text + "\n" for text, _ in rows).encode(), capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def logits(rows):
    return [row["logits"] for row in predictions(rows)]


def ratio(part, whole):
    return part / whole if whole else 0.0


class Counts:
    def __init__(self, hits, predicted, support):
        self.precision, self.recall = ratio(hits, predicted), ratio(hits, support)
        self.f1 = ratio(2 * self.precision * self.recall, self.precision + self.recall)
        self.hits, self.predicted, self.support = hits, predicted, support


def expected(rows, threshold):
    """Loss, subset accuracy, scores per label, micro and support-weighted F1 by the textbook's definitions."""
    all_logits, loss, right = logits(rows), 0.0, 0
    sets = [({k for k, x in enumerate(xs) if 1 / (1 + math.exp(-x)) >= threshold}, set(ids))
            for xs, (_, ids) in zip(all_logits, rows)]
    for xs, (_, true) in zip(all_logits, sets):
        loss += sum(math.log1p(math.exp(-x if k in true else x)) for k, x in enumerate(xs))
    labels = [Counts(sum(k in p and k in t for p, t in sets), sum(k in p for p, _ in sets),
                     sum(k in t for _, t in sets)) for k in range(len(LABELS))]
    micro = Counts(*(sum(getattr(label, name) for label in labels) for name in ("hits", "predicted", "support")))
    return loss / (len(rows) * len(LABELS)), sum(p == t for p, t in sets) / len(rows), labels, micro


def expected_calibration_error(rows, bins=15):
    """Per bin of the score the mean score beside the share of labels that are set, weighted by its pairs."""
    pairs = [(label["score"], k in ids) for row, (_, ids) in zip(predictions(rows), rows)
             for k, label in enumerate(row["labels"])]
    of_bins = [[pair for pair in pairs if i <= pair[0] * bins < i + 1 or (pair[0] == 1 and i == bins - 1)]
               for i in range(bins)]
    assert sum(len(pairs) > 0 for pairs in of_bins) > 5, of_bins
    return sum(len(bin) / len(pairs) * abs(sum(score for score, _ in bin) / len(bin) - sum(is_set for _, is_set in bin)
                                           / len(bin)) for bin in of_bins if bin)


class Figures(unittest.TestCase):
    def check(self, json_scores, counts):
        for name in "precision", "recall", "f1":
            self.assertAlmostEqual(json_scores[name], getattr(counts, name), places=9)

    def test_json_agrees_with_an_independent_computation(self):
        data = data_directory("plain")
        for threshold in 0.5, 0.3:
            report = json.loads(evaluate("--model", model, "--data", data, "--split", "dev", "--format", "json",
                                         "--threshold", str(threshold))[0])
            loss, accuracy, labels, micro = expected(ROWS, threshold)
            self.assertAlmostEqual(report["loss"], loss, places=5)
            self.assertAlmostEqual(report["subset_accuracy"], accuracy, places=9)
            self.check(report["micro"], micro)
            self.assertEqual([label["label"] for label in report["labels"]], LABELS)
            self.assertEqual([label["support"] for label in report["labels"]], [label.support for label in labels])
            for actual, label in zip(report["labels"], labels):
                self.check(actual, label)
            for name in "precision", "recall", "f1":
                values = [getattr(label, name) for label in labels]
                self.assertAlmostEqual(report["macro"][name], sum(values) / len(labels), places=9)
                weighted = sum(v * label.support for v, label in zip(values, labels))
                self.assertAlmostEqual(report["weighted"][name], weighted / micro.support, places=9)
            self.assertEqual((report["rows"], report["split"], report["threshold"]), (300, "dev", threshold))
            self.assertNotIn("sweep", report)
        untold = json.loads(evaluate("--model", model, "--data", data, "--split", "dev", "--format", "json")[0])
        self.assertEqual(untold["threshold"], 0.5)

    def test_calibration_agrees_with_an_independent_computation(self):
        error = expected_calibration_error(ROWS)
        self.assertGreater(error, 0.01)
        for threshold in "0.5", "0.9":
            report = json.loads(evaluate("--model", model, "--data", data_directory("plain"), "--split", "dev",
                                         "--format", "json", "--threshold", threshold)[0])
            self.assertAlmostEqual(report["expected_calibration_error"], error, places=6)

    def test_sweep(self):
        data = data_directory("plain")
        report = json.loads(evaluate("--model", model, "--data", data, "--split", "dev", "--format", "json",
                                     "--sweep")[0])
        self.assertEqual([round(p["threshold"], 9) for p in report["sweep"]],
                         [round(0.05 * i, 9) for i in range(1, 20)])
        for i in 0, 8, 18:
            _, accuracy, labels, micro = expected(ROWS, report["sweep"][i]["threshold"])
            self.assertAlmostEqual(report["sweep"][i]["f1_micro"], micro.f1, places=9)
            self.assertAlmostEqual(report["sweep"][i]["f1_macro"], sum(x.f1 for x in labels) / 5, places=9)
            self.assertAlmostEqual(report["sweep"][i]["subset_accuracy"], accuracy, places=9)
        self.assertEqual(report["best"]["f1_micro"], max(p["f1_micro"] for p in report["sweep"]))
        self.assertIn(report["best"], report["sweep"])

    def test_text_shows_the_same(self):
        data = data_directory("plain")
        arguments = ["--model", model, "--data", data, "--split", "dev", "--sweep"]
        report, text = json.loads(evaluate(*arguments, "--format", "json")[0]), evaluate(*arguments)[0]
        self.assertIn("model                       %s, in fp32\n" % model, text)
        self.assertEqual(report["computed_in"], "fp32")
        self.assertIn("\nloss                        %.5f\n" % report["loss"], text)
        self.assertIn("\nexpected calibration error  %.5f\n" % report["expected_calibration_error"], text)
        self.assertIn("\nsubset accuracy             %.4f\n" % report["subset_accuracy"], text)
        lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
        for name in "micro", "macro", "weighted":
            self.assertEqual(lines[name], ["%.4f" % report[name][key] for key in ("precision", "recall", "f1")])
        for label in report["labels"]:
            self.assertEqual(lines[label["label"]], ["%.4f" % label[key] for key in ("precision", "recall", "f1")]
                             + [str(label["support"])])
        self.assertIn("best: threshold %.2f with F1-micro %.4f" % (report["best"]["threshold"],
                                                                   report["best"]["f1_micro"]), text)

    def test_int8_stands_beside_fp32(self):
        # At this threshold int8 has other label sets right.
        arguments = ["--model", model, "--data", data_directory("plain"), "--split", "dev", "--threshold", "0.65"]
        exact = json.loads(evaluate(*arguments, "--format", "json")[0])
        report = json.loads(evaluate(*arguments, "--format", "json", "--precision", "int8")[0])
        self.assertNotIn("fp32", exact)
        self.assertEqual(report["fp32"], {name: exact[name] for name in report["fp32"]})
        self.assertEqual(set(report["fp32"]), {"loss", "subset_accuracy", "micro", "macro", "weighted"})
        self.assertNotEqual(report["loss"], exact["loss"])
        self.assertAlmostEqual(report["loss"], exact["loss"], delta=0.01 * exact["loss"])
        costs = {"loss": report["loss"] - exact["loss"],
                 "f1_micro": exact["micro"]["f1"] - report["micro"]["f1"],
                 "f1_macro": exact["macro"]["f1"] - report["macro"]["f1"],
                 "subset_accuracy": exact["subset_accuracy"] - report["subset_accuracy"]}
        self.assertEqual(set(report["int8_costs"]), set(costs))
        for name, cost in costs.items():
            self.assertAlmostEqual(report["int8_costs"][name], cost, places=9)
        text = evaluate(*arguments, "--precision", "int8")[0]
        lines = [line.split() for line in text.splitlines()]
        self.assertIn(["fp32", "int8", "int8", "costs"], lines)
        for cost, name, *path in [("loss", "loss", "loss"), ("f1_micro", "F1-micro", "micro", "f1"),
                                  ("f1_macro", "F1-macro", "macro", "f1")]:
            figures = [functools.reduce(dict.__getitem__, path, of) for of in (exact, report)]
            self.assertIn([name, *("%.5f" % x for x in (*figures, report["int8_costs"][cost]))], lines)

    def test_max_length_counts(self):
        arguments = ["--model", model, "--split", "dev", "--format", "json"]
        three_words = data_directory("three words", rows=[(" ".join(text.split()[:3]), ids) for text, ids in ROWS])
        data = data_directory("plain")
        out, notes = evaluate(*arguments, "--data", data, "--max-length", "5")
        cut = json.loads(out)
        longer = sum(len(text.split()) > 3 for text, _ in ROWS)
        self.assertGreater(longer, 1)
        self.assertEqual(notes, "evaluate: %s/dev.jsonl: %d of %d texts are cut to 5 tokens (--max-length)\n"
                         % (data, longer, len(ROWS)))
        out, notes = evaluate(*arguments, "--data", three_words)
        whole = json.loads(out)
        self.assertEqual(notes, "")
        self.assertEqual(cut["labels"], whole["labels"])
        self.assertAlmostEqual(cut["loss"], whole["loss"], places=6)

    def test_a_model_without_names_has_the_names_of_the_data(self):
        nameless = os.path.join(scratch, "nameless")
        write_model(nameless, labels=["LABEL_%d" % k for k in range(len(LABELS))])
        report = json.loads(evaluate("--model", nameless, "--data", data_directory("plain"), "--split", "dev",
                                     "--format", "json")[0])
        self.assertEqual([label["label"] for label in report["labels"]], LABELS)

    def test_json_of_a_path_that_is_not_utf8(self):
        data = data_directory("caf\udce9", rows=ROWS[:1])
        report = json.loads(evaluate("--model", model, "--data", data, "--split", "dev", "--format", "json")[0])
        self.assertEqual(report["data"], os.path.join(scratch, "caf\ufffd", "dev.jsonl"))

    def test_every_split_and_threads(self):
        for split in "train", "dev", "test":
            data = data_directory("only " + split, rows=ROWS[:7], split=split)
            report = json.loads(evaluate("--model", model, "--data", data, "--split", split, "--format", "json",
                                         "--threads", "1")[0])
            self.assertEqual(report["rows"], 7)


class Errors(Refusals):
    def refused(self, *arguments, contains, stdout=subprocess.PIPE):
        done = subprocess.run([EVALUATE, *arguments], stdout=stdout, stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assert_refused(done, contains, program="evaluate")

    def test_flags(self):
        data = data_directory("plain")
        for flags, contains in [(["--threshold", "nan"], "--threshold nan: must be a number from 0 to 1"),
                                (["--threshold", "2"], "--threshold 2: must be"),
                                (["--format", "tsv"], "--format"), (["--max-length", "99"], "99"),
                                (["--threads", "-1"], "--threads -1"), (["extra"], "extra")]:
            with self.subTest(flags=flags):
                self.refused("--model", model, "--data", data, "--split", "dev", *flags, contains=contains)
        self.refused("--model", model, "--data", data, "--split", "all", contains="--split")
        self.refused("--model", model, "--split", "dev", contains="--data")
        self.refused("--data", data, "--split", "dev", contains="--model")

    def test_labels_that_differ_from_the_models(self):
        swapped = ["admiration", "love", "joy", "sadness", "neutral"]
        for name, labels, contains in [("swapped", swapped, "label 1 is 'love'"), ("fewer", LABELS[:4], "label 4"),
                                       ("more", LABELS + ["grief"], "'grief'")]:
            data = data_directory(name, labels=labels, rows=ROWS[:1])
            self.refused("--model", model, "--data", data, "--split", "dev", contains=contains)

    def test_damaged_weights(self):
        damaged = os.path.join(scratch, "damaged")

        def enlarge(tensors):  # finite, but not what becomes of them
            shape, values = tensors["classifier.weight"]
            tensors["classifier.weight"] = (shape, [3e38] * len(values))
        write_model(damaged, change=enlarge)
        self.refused("--model", damaged, "--data", data_directory("plain"), "--split", "dev",
                     contains="damaged: the loss is ")

    def test_data(self):
        plain = data_directory("plain")
        self.refused("--model", model, "--data", plain, "--split", "test", contains="test")
        self.refused("--model", model, "--data", os.path.join(scratch, "absent"), "--split", "dev",
                     contains="absent: no such folder (--data)")
        self.refused("--model", model, "--data", os.path.join(plain, "dev.jsonl"), "--split", "dev",
                     contains="dev.jsonl: is a file, a folder was expected (--data)")
        empty = data_directory("empty", rows=[])
        self.refused("--model", model, "--data", empty, "--split", "dev", contains="dev.jsonl")
        self.refused("--model", os.path.join(scratch, "absent"), "--data", plain, "--split", "dev", contains="absent")

    def test_bad_rows(self):
        data = data_directory("bad", rows=ROWS[:3], extra=b'{"text": 7}\n{"text": "so sad", "labels": [77]}\n')
        arguments = ["--model", model, "--data", data, "--split", "dev"]
        self.refused(*arguments, contains="4")
        out, err = evaluate(*arguments, "--skip-bad-rows", "--format", "json")
        self.assertEqual((json.loads(out)["rows"], json.loads(out)["skipped_rows"]), (3, 2))
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn("2 malformed rows", err)
        data = data_directory("one bad", rows=ROWS[:3], extra=b'{"text": 7}\n')
        err = evaluate("--model", model, "--data", data, "--split", "dev", "--skip-bad-rows")[1]
        self.assertIn("dev.jsonl: 1 malformed row skipped", err)

    def test_invalid_utf8_is_reported_once(self):
        data = data_directory("utf8", rows=ROWS[:3])
        os.remove(os.path.join(data, "dev.jsonl"))
        with open(os.path.join(data, "dev.tsv"), "wb") as file:
            file.write(b"i am\t0\tx\nso \xff sad\t1,2\tx\n\xc3\t\tx\n")
        out, err = evaluate("--model", model, "--data", data, "--split", "dev", "--format", "json")
        self.assertEqual((json.loads(out)["rows"], json.loads(out)["invalid_utf8_rows"]), (3, 2))
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn("line 2", err)

    def test_output_that_fails(self):
        with open("/dev/full", "wb") as full:
            self.refused("--model", model, "--data", data_directory("plain"), "--split", "dev", stdout=full,
                         contains="standard output")


if __name__ == "__main__":
    EVALUATE, PREDICT = (os.path.abspath(sys.argv.pop(1)) for _ in range(2))
    unittest.main()
