"""Engines that take turns: processes that answer orders (bench/peers/common.py says how), and Ember's train."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

# Of variables in the environment by which one engine, or all, compute otherwise than they would by themselves.
TELLING = ("EMBER_", "OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH", "CT2_", "ORT_",
           "LD_PRELOAD", "GLIBC_TUNABLES", "CUDA_VISIBLE_DEVICES")
SKIPPED = 77  # a peer whose package is not installed
LACKING = ": needs a processor"  # Ember, asked for a precision that the processor does not have


def environment_with(changes):
    """That of this process with some variables changed, or removed where the value is None."""
    return {name: value for name, value in {**os.environ, **changes}.items() if value is not None}


def telling_environment():
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(TELLING)}


class Failure(Exception):
    """One line that says why an engine gave no result."""


class Skipped(Failure):
    """The engine is not installed, or cannot do this here."""


def last_line(path):
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


class Worker:
    """A process that is told `round` and `check FILE` and answers each with a line of JSON."""

    def __init__(self, command, scratch, environment, timeout):
        self.timeout, self.pending = timeout, b""
        self.errors = scratch / "stderr"
        try:
            with open(self.errors, "wb") as errors:
                self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                                env=environment_with(environment))
        except OSError as error:
            raise Failure(f"{command[0]}: {error.strerror}") from error

    def start(self):
        return self.answer()

    def round(self):
        return self.order("round")

    def check(self, path):
        return self.order(f"check {path}")

    def order(self, text):
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise self.ended() from error
        return self.answer()

    def answer(self):
        deadline = time.monotonic() + self.timeout
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Failure(f"no answer within {self.timeout:g} s")
            block = os.read(self.process.stdout.fileno(), 1 << 16)
            if not block:
                raise self.ended()
            self.pending += block
        line, _, self.pending = self.pending.partition(b"\n")
        return answer_of(line)

    def ended(self):
        status = self.process.wait()
        message = last_line(self.errors)
        return end_of(status, message)

    def close(self):
        """It ends with its standard input; one that hangs is killed."""
        with contextlib.suppress(BrokenPipeError):  # of an order that nobody read
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def end_of(status, message):
    """What it means that an engine ended so."""
    if status == SKIPPED or LACKING in message:
        return Skipped(message or "not installed, skipped")
    return Failure(f"ended with status {status}" + (f": {message}" if message else ""))


def answer_of(line):
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Failure(f"answered {line[:80].decode(errors='replace')!r} instead of JSON")
    return answer


class Train:
    """Ember's train: a round is two epochs, the first of them warm-up; the loss comes with every round."""

    def __init__(self, command, scratch, environment, timeout):
        self.command, self.scratch, self.environment, self.timeout = command, scratch, environment, timeout
        self.loss = None

    def start(self):
        self.round()
        return {"engine": "Ember"}

    def round(self):
        out = self.scratch / "out"
        try:
            self.run([*self.command, "--out", str(out)])
            return self.figures(out / "metrics.jsonl")
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def run(self, command):
        errors = self.scratch / "stderr"
        try:
            with open(errors, "wb") as file:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                                      env=environment_with(self.environment), timeout=self.timeout)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"did not end within {self.timeout:g} s") from error
        except OSError as error:
            raise Failure(f"{command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            raise end_of(done.returncode, last_line(errors))

    def figures(self, path):
        try:
            events = [json.loads(line) for line in path.read_text().splitlines()]
            trained = [event for event in events if event["event"] == "train"]
            self.loss = [event for event in events if event["event"] == "eval"][-1]["loss"]
            return {"examples_per_second": trained[-1]["examples_per_second"]}
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Failure(f"metrics.jsonl does not tell speed and loss: {error!r}") from error

    def check(self, _path):
        return {"loss": self.loss}

    def close(self):
        pass


def scratch_folder(root, name):
    folder = Path(root) / name
    folder.mkdir()
    return folder
