"""The comparison itself: each engine's start and check, then rounds by turns."""

import json
import math
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

import engines
import table
from worker import Failure, Skipped, scratch_folder


@dataclass
class Entrant:
    """An engine that is warm, what runs it, the file of its outputs, and its answer to the check."""
    engine: engines.Engine
    runner: object
    outputs: Path
    check: dict

    def values(self, kind):
        result = array(kind)
        try:
            result.frombytes(self.outputs.read_bytes())
        except (OSError, ValueError) as error:
            raise Failure(f"wrote no outputs to check: {error}") from error
        return result


class Comparison:
    def __init__(self, args, results, scratch):
        self.args, self.results, self.scratch = args, results, scratch

    def run(self, task, chosen):
        entrants = []
        try:
            for place, engine in enumerate(chosen):
                folder = scratch_folder(self.scratch, f"{task}-{place}")
                self.attempt(task, engine, lambda: entrants.append(self.enter(task, engine, folder)))
            verdict = {"inference": self.difference, "tokenisation": self.ids}.get(task, self.loss)
            self.each(task, entrants, lambda entrant: self.record("check", task, entrant.engine,
                                                                  **verdict(entrant, entrants)))
            for turn in range(1, self.args.rounds + 1):
                self.each(task, entrants, lambda entrant: self.round(task, entrant, turn))
        finally:
            for entrant in entrants:
                entrant.runner.close()

    def each(self, task, entrants, action):
        """One after another; who fails is out."""
        for entrant in list(entrants):
            if not self.attempt(task, entrant.engine, lambda: action(entrant)):
                entrants.remove(entrant)
                entrant.runner.close()

    def attempt(self, task, engine, action):
        """Whether it went well; a failure is told and recorded."""
        try:
            action()
            return True
        except Failure as failure:
            event = "skipped" if isinstance(failure, Skipped) else "failed"
            print(f"compare.sh: {task}: {engine}: {failure}", file=sys.stderr, flush=True)
            self.record(event, task, engine, reason=str(failure))
            return False

    def record(self, event, task, engine, **values):
        self.results.add(event, task=task, engine=engine.name, precision=engine.precision, **values)

    def enter(self, task, engine, folder):
        # Of each precision Ember enters first (engines.py), so that by now it is known whether it is refused here.
        if table.end(self.results.records, (task, "Ember", engine.precision))[0] == "skipped":
            raise Skipped(f"Ember has no {engine.precision} here to be held against")
        progress(f"{task}: {engine}: warming up")
        runner = engine.kind(engine.command, folder, engine.environment, self.args.timeout)
        try:
            facts = runner.start()
            check = runner.check(folder / "outputs")
        except BaseException:
            runner.close()
            raise
        self.record("entered", task, engine, facts=facts)
        return Entrant(engine, runner, folder / "outputs", check)

    def round(self, task, entrant, turn):
        progress(f"{task}: round {turn} of {self.args.rounds}: {entrant.engine}")
        values = {name: value for name, value in entrant.runner.round().items() if name in table.METRICS}
        if not values or not all(isinstance(value, (int, float)) and 0 < value < math.inf for value in values.values()):
            raise Failure(f"a round without a figure: {json.dumps(values)[:80]}")
        self.record("round", task, entrant.engine, round=turn, values=values)

    def loss(self, entrant, entrants):
        loss, reference = entrant.check.get("loss"), among(entrants, "PyTorch, dynamic padding", "fp32")
        if not isinstance(loss, (int, float)):
            raise Failure("a check without a loss")
        return {"loss": loss, "reference": reference and reference.check.get("loss")}

    def difference(self, entrant, entrants):
        """From the logits of transformers' own model in fp32."""
        reference = among(entrants, "PyTorch", "fp32")
        if reference is None:
            return {"difference": None}
        ours, theirs = entrant.values("f"), reference.values("f")
        if len(ours) != len(theirs):
            raise Failure(f"{len(ours)} logits where transformers has {len(theirs)}")
        differences = [abs(a - b) for a, b in zip(ours, theirs)]
        return {"difference": max((d if d == d else math.inf for d in differences), default=0.0)}

    def ids(self, entrant, entrants):
        reference = among(entrants, "tokenizers", "ids")
        return {"ids_equal": reference and entrant.values("i") == reference.values("i")}


def among(entrants, name, precision):
    return next((e for e in entrants if (e.engine.name, e.engine.precision) == (name, precision)), None)


def progress(text):
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)
