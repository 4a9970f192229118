"""Stops the built train on a tiny model: kills it at random moments, interrupts it, fills its disk.
python3 train_stop_test.py TRAIN PREDICT [unittest's arguments]."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import train_run
from train_run import (
    TIMEOUT, checkpoints, command, digests, events, newest_step, out_folder, read, setUpModule, tearDownModule,
    train, write_data)

KILLS = 20


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
        out = os.path.join(tempfile.mkdtemp(dir=train_run.scratch), "out")
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
        folder = tempfile.mkdtemp(dir=train_run.scratch)
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

    def test_a_checkpoint_is_a_model(self):
        out, _, _ = self.interrupt(signal.SIGTERM)
        newest = os.path.join(out, "checkpoints", checkpoints(out)[0])
        done = subprocess.run([train_run.PREDICT, "--model", newest, "--all", "word1 word2"], capture_output=True,
                              timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"joy", done.stdout)


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


if __name__ == "__main__":
    train_run.main()
