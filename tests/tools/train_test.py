"""Runs the built train on a tiny model: what it says and writes, and what it refuses.
python3 train_test.py TRAIN PREDICT [unittest's arguments]."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

import train_run
from refusals import Refusals
from train_run import (
    TIMEOUT, command, digests, events, out_folder, read, setUpModule, tearDownModule, train, write_data,
    write_model)


class LongTexts(unittest.TestCase):
    def test_are_cut_and_later_too(self):
        out = out_folder("short")
        returned, _, error = train(out, "--max-length", "5", "--max-steps", "1")
        self.assertEqual(returned, 0, error)
        for split in "train.tsv", "dev.tsv":
            texts = [row.split(b"\t")[0].split() for row in read(train_run.data, split).splitlines()]
            self.assertIn("%s: %d of %d texts are cut to 5 tokens (--max-length)\n" % (
                os.path.join(train_run.data, split), sum(len(words) > 3 for words in texts), len(texts)), error)
        for folder in out, os.path.join(out, "checkpoints", "step-1"):
            said = [subprocess.run([train_run.PREDICT, "--model", folder, "--all", "--format", "jsonl", *flags,
                                    "word1 word2 word3 word4"], check=True, capture_output=True, timeout=TIMEOUT).stdout
                    for flags in ([], ["--max-length", "5"], ["--max-length", "24"])]
            self.assertEqual(said[0], said[1])
            self.assertNotEqual(said[0], said[2])
        self.assertNotIn("--max-length", train(out_folder("long"), "--max-steps", "1")[2])

    def test_a_model_that_is_trained_on_does_not_keep_its_length_unsaid(self):
        short = out_folder("short before")
        note = "32 tokens of a text count; of --model it was 5, which --max-length 5 keeps\n"
        self.assertEqual(train(short, "--max-length", "5", "--max-steps", "1")[0], 0)
        asked = command(out_folder("short still"), "--model", short, "--max-length", "5", "--max-steps", "1")
        at = asked.index("--max-length")
        for words, said in (asked, False), (asked[:at] + asked[at + 2:] + ["--overwrite"], True):
            done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual((done.returncode, note in done.stderr), (0, said), done.stderr)


class Streams(unittest.TestCase):
    def test_standard_output_is_full(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command(out_folder("no room"), "--max-steps", "2"), stdout=full,
                                  stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(b"standard output", done.stderr)

    def test_closed_ones_do_not_become_files(self):
        out = out_folder("closed")
        subprocess.run(command(out, "--max-steps", "2"), timeout=TIMEOUT,
                       preexec_fn=lambda: (os.close(1), os.close(2)))
        self.assertEqual([event["event"] for event in events(out, "train", "eval", "checkpoint", "end")],
                         ["train", "eval", "checkpoint", "end"])
        with open(os.path.join(out, "metrics.jsonl")) as file:
            for line in file:
                json.loads(line)


class BadInput(Refusals):
    def refused(self, out, *flags, fragment):
        done = subprocess.run(command(out, *flags), capture_output=True, timeout=TIMEOUT)
        self.assert_refused(done, fragment, program="train")

    def test_flags(self):
        out = out_folder("none")
        for flag, value in ("--batch-size", "0"), ("--lr", "nan"), ("--lr", "fast"), ("--epochs", "0"), \
                ("--seed", "-1"), ("--device", "cuda"), ("--device", "cuda:1"), ("--precision", "fp16"), \
                ("--precision", "int8"), ("--threshold", "2"), ("--max-length", "33"), ("--eval-every", "never"), \
                ("--preset", "fast"), ("--keep", "0"), ("--metric", "loud"), ("--optimizer", "fast"), \
                ("--nonsense", "1"), ("--batch-size", "99999999999999999999"), ("--threshold", ""), \
                ("--batch-size", "010"), ("--model", ""), ("--data", ""):
            self.refused(out, flag, value, fragment=flag)
            self.assertFalse(os.path.exists(out), flag)

    def test_overwriting_what_it_starts_from(self):
        out = out_folder("start")
        self.assertEqual(train(out, "--max-steps", "20", "--save-every", "20")[0], 0)
        before = digests(out)
        start = os.path.join(out, "checkpoints", "step-20")
        self.refused(out, "--model", start, "--overwrite", None, fragment="--model")
        self.assertEqual(digests(out), before)

    def test_writing_among_the_data(self):
        before = digests(train_run.data)
        self.refused(train_run.data + "/", "--overwrite", None, fragment="is the folder of --data; name another")
        self.assertEqual(digests(train_run.data), before)

    def test_more_labels_than_a_configuration_holds(self):
        many = out_folder("many labels")
        shutil.copytree(train_run.data, many)
        with open(os.path.join(many, "labels.txt"), "w") as file:
            file.write("".join("label%d\n" % i for i in range(16385)))
        out = out_folder("none")
        self.refused(out, "--data", many, fragment="labels.txt:16385: more labels than 16384")
        with open(os.path.join(many, "labels.txt"), "w") as file:
            file.write("".join("%d%s\n" % (i, "x" * 1500) for i in range(600)))
        self.refused(out, "--data", many, fragment="config.json")
        self.assertFalse(os.path.exists(out))

    def test_paths(self):
        out = out_folder("none")
        self.refused(out, "--model", out_folder("absent"), fragment="absent")
        self.refused(out, "--data", out_folder("absent"), fragment="absent")
        for flag in "--model", "--data":
            self.refused(out, flag, os.path.join(train_run.model, "config.json"),
                         fragment="config.json: is a file, a folder was")
        self.assertFalse(os.path.exists(out))
        self.refused("/proc/none", fragment="/proc/none")
        self.refused(os.path.join(train_run.model, "config.json"), fragment="config.json: is a file, a folder was")
        done = subprocess.run([train_run.TRAIN, "--model", train_run.model], capture_output=True, timeout=TIMEOUT)
        self.assert_refused(done, "--data", program="train")

    def test_rows(self):
        bad = out_folder("bad rows")
        shutil.copytree(train_run.data, bad)
        with open(os.path.join(bad, "train.tsv"), "ab") as file:
            file.write(b"word1\t9\tid\nword2 \xff\t1\tid\nno tab\n")
        out = out_folder("none")
        self.refused(out, "--data", bad, fragment="train.tsv:241")
        self.assertFalse(os.path.exists(out))
        returned, _, error = train(out_folder("skipped"), "--data", bad, "--skip-bad-rows", None, "--max-steps", "2")
        self.assertEqual(returned, 0, error)
        self.assertIn("2 malformed rows", error)
        self.assertIn("train.tsv: 1 row holds bytes that are not UTF-8", error)

    def test_another_device_is_said(self):
        out = out_folder("other threads")
        self.assertEqual(train(out, "--max-steps", "20", "--save-every", "10")[0], 0)
        shutil.rmtree(os.path.join(out, "checkpoints", "step-20"))
        returned, _, error = train(out, "--max-steps", "20", "--save-every", "10", "--resume", None)
        self.assertEqual(returned, 0, error)
        self.assertNotIn("last bits", error)
        shutil.rmtree(os.path.join(out, "checkpoints", "step-20"))
        returned, _, error = train(out, "--max-steps", "20", "--save-every", "10", "--resume", None, "--threads", "2")
        self.assertEqual(returned, 0, error)
        self.assertRegex(error, r"which was made on cpu \(1 thread, .*\): the result may differ in its last bits\n")

    def test_another_run(self):
        out = out_folder("run")
        self.assertEqual(train(out, "--max-steps", "12")[0], 0)
        before = digests(out)
        self.refused(out, "--max-steps", "12", fragment="--resume")
        self.refused(out, "--max-steps", "12", "--resume", None, "--lr", "1e-3", fragment="--lr")
        self.refused(out, "--resume", None, fragment="--max-steps")
        self.refused(out, "--max-steps", "24", "--resume", None, fragment="to train on, give its model as --model")
        other = out_folder("other data")
        write_data(other, seed=2)
        self.refused(out, "--max-steps", "12", "--resume", None, "--data", other, fragment="data")
        other = out_folder("other model")
        write_model(other, hidden=16)
        self.refused(out, "--max-steps", "12", "--resume", None, "--model", other, fragment="model")
        self.assertEqual(digests(out), before)


class Threads(unittest.TestCase):
    def starts(self, program=None, **environment):
        """How often the program starts: at each, libgomp prints its settings."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        done = subprocess.run([program or train_run.TRAIN, "--help"], capture_output=True, text=True, timeout=TIMEOUT,
                              env={**plain, "OMP_DISPLAY_ENV": "true", **environment})
        self.assertEqual(done.returncode, 0)
        return done.stderr.count("OPENMP DISPLAY ENVIRONMENT BEGIN")

    def test_a_second_start_only_where_nothing_is_said_of_threads(self):
        self.assertEqual((self.starts(), self.starts(train_run.PREDICT)), (2, 2))
        for name, value in ("OMP_PROC_BIND", "true"), ("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "7"), \
                ("OMP_PLACES", "cores"), ("GOMP_CPU_AFFINITY", "0"):
            self.assertEqual(self.starts(**{name: value}), 1, name)

    def test_fewer_threads_than_asked_for_compute_everything(self):
        losses = []
        for limit in "64", "1":
            out = out_folder("limit " + limit)
            settings = {"env": {**os.environ, "OMP_THREAD_LIMIT": limit}}
            returned, _, error = train(out, "--threads", "3", "--max-steps", "15", **settings)
            self.assertEqual(returned, 0, error)
            losses.append(events(out, "eval")[0]["loss"])
        self.assertAlmostEqual(*losses, places=4)
        error = train(out_folder("limited"), "--max-steps", "1", **settings)[2]
        self.assertIn("on cpu (1 thread", error)


class Output(unittest.TestCase):
    def test_lines_and_quiet(self):
        returned, printed, error = train(out_folder("lines"))
        self.assertEqual(returned, 0, error)
        self.assertRegex(error, r"epoch 4/4  step 100/120  loss [\d.]+  lr [\d.e-]+  "
                                r"[1-9]\d* examples/s  left \d+:\d\d\n")
        self.assertRegex(error, r"\nepoch 4/4  step 120/120  .*  left 0:00\n")
        self.assertNotIn("\r", error)
        self.assertIn("best on dev: epoch", printed)
        self.assertEqual(train(out_folder("quiet"), "--quiet", None), (0, "", ""))

    def test_the_best_on_dev_is_the_logs(self):
        hint = "no right label reached the threshold of 1 on dev; evaluate --sweep finds a better one"
        for threshold, hinted in ("0.3", False), ("1", True):
            out = out_folder("best at " + threshold)
            returned, printed, error = train(out, "--threshold", threshold)
            self.assertEqual(returned, 0, error)
            evaluations = events(out, "eval")

            def rank(event):
                return event["f1_micro"], -event["loss"]

            best = max(evaluations, key=rank)
            self.assertEqual([int(step) for step in re.findall(r"step (\d+)  dev: .*  \(the best so far\)\n", error)],
                             [event["step"] for i, event in enumerate(evaluations)
                              if all(rank(event) > rank(before) for before in evaluations[:i])])
            self.assertEqual(printed.splitlines()[0],
                             "best on dev: epoch {epoch:.2f} (step {step})  loss {loss:.5f}  f1_micro {f1_micro:.4f}  "
                             "f1_macro {f1_macro:.4f}  subset accuracy {subset_accuracy:.4f}".format(**best))
            self.assertEqual(hint in printed.splitlines(), hinted, printed)

    def test_more_steps_than_the_epochs_have_are_said_to_be(self):
        never = "--epochs 1 makes 30 steps: --max-steps 31 is never reached\n"
        for steps, said in ("30", False), ("31", True):
            returned, _, error = train(out_folder("at most " + steps), "--epochs", "1", "--max-steps", steps)
            self.assertEqual((returned, never in error), (0, said), error)

    def test_resuming_where_no_checkpoint_is_says_so_first(self):
        absent, empty = out_folder("absent run"), out_folder("empty run")
        os.mkdir(empty)
        for out in absent, empty:
            returned, _, error = train(out, "--max-steps", "1", "--resume", None)
            self.assertEqual(returned, 0, error)
            self.assertEqual(error.splitlines()[1:3], ["%s holds no checkpoint: starting from the beginning" % out,
                                                       "drawn afresh: all 41 weights"])

    def test_says_how_to_try_the_model(self):
        out, beside = out_folder("what's to try"), tempfile.mkdtemp(dir=train_run.scratch)
        for program in train_run.TRAIN, train_run.PREDICT:
            os.symlink(program, os.path.join(beside, os.path.basename(program)))
        # As the build has it; beside train; and where train was found by PATH, predict is, too.
        for name, predict in (train_run.TRAIN, train_run.PREDICT), \
                (os.path.join(beside, "train"), os.path.join(beside, "predict")), \
                ("./train", "./predict"), ("train", "predict"):
            done = subprocess.run([name] + command(out, "--max-steps", "1", "--overwrite", None)[1:], cwd=beside,
                                  executable=train_run.TRAIN, capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 0, done.stderr)
            said, tried = done.stdout.splitlines()[-1].split("; try: ")
            self.assertEqual(said, "the model is in " + out)
            self.assertEqual(shlex.split(tried), [predict, "--model", out, "I am so happy for you!"])


if __name__ == "__main__":
    train_run.main()
