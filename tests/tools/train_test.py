"""Runs the built train on a tiny model: kills it at random moments, interrupts it, fills its disk, gives it bad input.
python3 train_test.py TRAIN PREDICT [unittest's arguments]."""

import hashlib
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TRAIN = PREDICT = None
TIMEOUT = 120
LABELS = ["anger", "fear", "joy", "love"]
KILLS = 20


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


class Killed(unittest.TestCase):
    def test_twenty_kills_leave_no_trace(self):
        whole = out_folder("whole")
        start = time.monotonic()
        self.assertEqual(train(whole)[0], 0)
        duration = time.monotonic() - start
        seed = int(os.environ.get("EMBER_TEST_SEED", time.time_ns()))
        print("EMBER_TEST_SEED=%d" % seed, file=sys.stderr)
        generator = random.Random(seed)
        kills = runs = restarts = 0
        while kills < KILLS:
            out = out_folder("killed%d" % runs)
            runs += 1
            finished = False
            while not finished:
                before = newest_step(out)
                process = subprocess.Popen(command(out, "--resume", None), stdout=subprocess.DEVNULL,
                                           stderr=subprocess.PIPE)
                # By turns once it has got further, however slow the machine, and at any time from its start on.
                if kills < KILLS:
                    further = kills % 2 == 0
                    while further and process.poll() is None and newest_step(out) == before:
                        time.sleep(0.001)
                    time.sleep(duration * (generator.uniform(0, 0.1) if further else generator.uniform(0.01, 0.4)))
                    process.kill()
                error = process.communicate(timeout=TIMEOUT)[1].decode()
                finished = process.returncode == 0
                if finished:
                    break
                self.assertEqual(process.returncode, -signal.SIGKILL, error)
                kills += 1
                restarts += "resuming from" in error
            self.same_run(whole, out)
        print("%d kills in %d runs, %d of them in a resumed run" % (kills, runs, restarts), file=sys.stderr)
        self.assertGreater(restarts, 0)

    def same_run(self, whole, out):
        for name in "model.safetensors", "checkpoints/step-120/model.safetensors", \
                "checkpoints/step-120/optimizer.safetensors":
            self.assertEqual(read(whole, name), read(out, name), name)
        kinds = "train", "eval", "checkpoint", "end"
        self.assertEqual(events(whole, *kinds), events(out, *kinds))
        self.assertEqual(set(digests(whole)), set(digests(out)))  # and no half-written file is left


def masks(process):
    """Of signals, of the process's first thread."""
    with open("/proc/%d/status" % process.pid) as status:
        return {name: int(mask, 16) for name, mask in re.findall(r"^(Sig\w+):\s*(\w+)$", status.read(), re.M)}


class Interrupted(unittest.TestCase):
    def start(self, *flags, stderr=subprocess.PIPE, **settings):
        out = os.path.join(tempfile.mkdtemp(dir=scratch), "out")
        process = subprocess.Popen(command(out, "--epochs", "100000", *flags), stdout=subprocess.PIPE, stderr=stderr,
                                   **settings)
        self.addCleanup(process.kill)
        while not os.path.exists(os.path.join(out, "metrics.jsonl")):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        time.sleep(0.2)
        with open("/proc/%d/comm" % process.pid) as name:  # train has started itself anew (adapt_spinning)
            self.assertEqual(name.read(), "train\n")
        return out, process

    def interrupt(self, number, *flags):
        out, process = self.start(*flags)
        process.send_signal(number)
        error = process.communicate(timeout=TIMEOUT)[1].decode()
        return out, process.returncode, error

    def test_sigterm_and_sigint(self):
        for number, status in (signal.SIGTERM, 143), (signal.SIGINT, 130):
            out, returned, error = self.interrupt(number)
            self.assertEqual(returned, status, error)
            self.assertIn("--resume", error)
            newest = max(checkpoints(out), key=lambda name: int(name.split("-")[1]))
            self.assertIn(newest, error)
            self.assertTrue(os.path.exists(os.path.join(out, "checkpoints", newest, "state.json")))

    def test_says_how_to_go_on(self):
        for flags, said in ((), "--resume continues"), \
                (("--overwrite", None), "--resume instead of --overwrite continues"):
            _, _, error = self.interrupt(signal.SIGTERM, *flags)
            self.assertTrue(error.endswith("; the same command with %s\n" % said), error)

    def test_while_a_pipe_is_waited_for(self):
        folder = tempfile.mkdtemp(dir=scratch)
        waiting, out = os.path.join(folder, "data"), os.path.join(folder, "out")
        write_data(waiting)
        os.remove(os.path.join(waiting, "train.tsv"))
        os.mkfifo(os.path.join(waiting, "train.tsv"))
        for number, status in (signal.SIGTERM, 143), (signal.SIGINT, 130):
            process = subprocess.Popen(command(out, "--data", waiting), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.addCleanup(process.kill)
            while not masks(process)["SigBlk"] >> (number - 1) & 1:
                self.assertIsNone(process.poll())
                time.sleep(0.01)
            time.sleep(0.2)
            process.send_signal(number)
            printed, error = process.communicate(timeout=TIMEOUT)
            self.assertEqual((process.returncode, printed, error.decode()),
                             (status, b"", "stopped before training began; nothing was written\n"))
            self.assertFalse(os.path.exists(out))

    def test_two_signals_at_once_are_one(self):
        """As timeout sends them: to the process, then to its group."""
        out, process = self.start()
        for number in signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT:
            process.send_signal(number)
        error = process.communicate(timeout=TIMEOUT)[1].decode()
        self.assertIn(process.returncode, (130, 143), error)
        self.assertIn("--resume", error)
        self.assertTrue(checkpoints(out))

    def test_a_second_later_signal_kills(self):
        # A run that has saved waits for its last line to be read, which it never is.
        full, end = os.pipe()
        self.addCleanup(os.close, full)
        os.set_blocking(end, False)
        with self.assertRaises(BlockingIOError):
            while True:
                os.write(end, bytes(1))
        os.set_blocking(end, True)
        # Both signals are ignored when it starts, as SIGINT is in the background of a shell without job control.
        out, process = self.start("--quiet", None, "--save-every", "1000000000", stderr=end, preexec_fn=lambda: [
            signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)])
        os.close(end)
        process.send_signal(signal.SIGINT)
        while not newest_step(out):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        time.sleep(1.1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_no_handler_of_a_signal(self):
        """Its frame would be written where the stack pointer points, and in oneDNN's sgemm that is the heap."""
        out, process = self.start()
        found = masks(process)
        process.kill()
        process.communicate(timeout=TIMEOUT)
        for number in signal.SIGINT, signal.SIGTERM:
            self.assertFalse(found["SigCgt"] >> (number - 1) & 1, number)
        for number in signal.SIGHUP, signal.SIGQUIT:  # which no thread waits for
            self.assertFalse(found["SigBlk"] >> (number - 1) & 1, number)

    def test_says_how_to_try_the_model(self):
        out, beside = out_folder("what's to try"), tempfile.mkdtemp(dir=scratch)
        for program in TRAIN, PREDICT:
            os.symlink(program, os.path.join(beside, os.path.basename(program)))
        # As the build has it; beside train; and where train was found by PATH, predict is, too.
        for name, predict in (TRAIN, PREDICT), (os.path.join(beside, "train"), os.path.join(beside, "predict")), \
                ("./train", "./predict"), ("train", "predict"):
            done = subprocess.run([name] + command(out, "--max-steps", "1", "--overwrite", None)[1:], cwd=beside,
                                  executable=TRAIN, capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 0, done.stderr)
            said, tried = done.stdout.splitlines()[-1].split("; try: ")
            self.assertEqual(said, "the model is in " + out)
            self.assertEqual(shlex.split(tried), [predict, "--model", out, "I am so happy for you!"])

    def test_a_checkpoint_is_a_model(self):
        out, _, _ = self.interrupt(signal.SIGTERM)
        newest = os.path.join(out, "checkpoints", checkpoints(out)[0])
        done = subprocess.run([PREDICT, "--model", newest, "--all", "word1 word2"], capture_output=True,
                              timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"joy", done.stdout)


class LongTexts(unittest.TestCase):
    def test_are_cut_and_later_too(self):
        out = out_folder("short")
        returned, _, error = train(out, "--max-length", "5", "--max-steps", "1")
        self.assertEqual(returned, 0, error)
        for split in "train.tsv", "dev.tsv":
            texts = [row.split(b"\t")[0].split() for row in read(data, split).splitlines()]
            self.assertIn("%s: %d of %d texts are cut to 5 tokens (--max-length)\n" % (
                os.path.join(data, split), sum(len(words) > 3 for words in texts), len(texts)), error)
        for folder in out, os.path.join(out, "checkpoints", "step-1"):
            said = [subprocess.run([PREDICT, "--model", folder, "--all", "--format", "jsonl", *flags,
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


class FullDisk(unittest.TestCase):
    def test_the_previous_checkpoint_stays_whole(self):
        out = out_folder("full")
        self.assertEqual(train(out, "--max-steps", "60", "--save-every", "20", "--eval-every", "20")[0], 0)
        shutil.rmtree(os.path.join(out, "checkpoints", "step-60"))  # as if killed while writing it
        before = digests(os.path.join(out, "checkpoints"))
        self.assertTrue(before)
        # Room for the weights, but not for the moments, which are twice as large.
        limit = len(read(out, "model.safetensors")) * 3 // 2
        flags = "--max-steps", "60", "--save-every", "20", "--eval-every", "20", "--resume", None
        returned, _, error = train(out, *flags,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(returned, 2, error)
        self.assertIn("optimizer.safetensors", error.splitlines()[-1])
        self.assertEqual(digests(os.path.join(out, "checkpoints")), before)
        self.assertEqual(train(out, *flags)[0], 0)
        whole = out_folder("roomy")
        self.assertEqual(train(whole, "--max-steps", "60", "--save-every", "20", "--eval-every", "20")[0], 0)
        self.assertEqual(read(out, "model.safetensors"), read(whole, "model.safetensors"))


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


class BadInput(unittest.TestCase):
    def refused(self, out, *flags, fragment):
        returned, printed, error = train(out, *flags)
        self.assertEqual(returned, 2, error)
        self.assertEqual(error.count("\n"), 1, error)
        self.assertIn(fragment, error)
        self.assertEqual(printed, "")

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
        before = digests(data)
        self.refused(data + "/", "--overwrite", None, fragment="is the folder of --data; name another")
        self.assertEqual(digests(data), before)

    def test_more_labels_than_a_configuration_holds(self):
        many = out_folder("many labels")
        shutil.copytree(data, many)
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
            self.refused(out, flag, os.path.join(model, "config.json"), fragment="config.json: is a file, a folder was")
        self.assertFalse(os.path.exists(out))
        self.refused("/proc/none", fragment="/proc/none")
        self.refused(os.path.join(model, "config.json"), fragment="config.json: is a file, a folder was")
        done = subprocess.run([TRAIN, "--model", model], capture_output=True, timeout=TIMEOUT)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (2, 1), done.stderr)

    def test_rows(self):
        bad = out_folder("bad rows")
        shutil.copytree(data, bad)
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
        done = subprocess.run([program or TRAIN, "--help"], capture_output=True, text=True, timeout=TIMEOUT,
                              env={**plain, "OMP_DISPLAY_ENV": "true", **environment})
        self.assertEqual(done.returncode, 0)
        return done.stderr.count("OPENMP DISPLAY ENVIRONMENT BEGIN")

    def test_a_second_start_only_where_nothing_is_said_of_threads(self):
        self.assertEqual((self.starts(), self.starts(PREDICT)), (2, 2))
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


if __name__ == "__main__":
    TRAIN, PREDICT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=2)
