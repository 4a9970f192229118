#!/usr/bin/env python3
"""Shows which tests notice that a barrier of kernels/cuda or a wait is gone or comes too late, one after another.

Each barrier and each wait for a stream is removed, each kernel awaits the grid before it only at its end. Asynchronous
copies are awaited at a function's end, but for one group more than before, or are in no group.
A barrier is a call of __syncthreads, barrier_of_warps or __syncwarp, or of __threadfence, whose absence TSan alone can
notice. Each mutant is built in every given build folder and its operation's tests run there: under the schedules fifo,
lifo and random in a folder without TSan, once in a folder with it. Whatever fails, or hangs, has caught the mutant.
Prints a table; exit status 1 when a mutant was caught nowhere, in which case either a test is missing or the barrier is
unnecessary and should go. A late await_previous_grid() is seen by TSan alone, and where kernels follow each other: in
tests/cuda/overlap_test.cpp or in training. A wait is one of the host's or of a stream for another (synchronize, block,
join, finish_updates).

    cmake -S . -B build-mutants -G Ninja
    cmake -S . -B build-mutants-tsan -G Ninja -DEMBER_SANITIZE=thread
    tests/simt/mutate.py build-mutants build-mutants-tsan [--only attention] [--kind barriers|awaits|waits|copies]

The sources are changed in place and restored, so no file of kernels/cuda may differ from the last commit. Run on
demand, not in CI: a mutant takes as long as its tests.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench/comparison"))
from one_line import OneLine, file, number

KERNELS = ROOT / "kernels" / "cuda"
BARRIER = re.compile(r"(?:__syncthreads|__syncwarp|__threadfence|barrier_of_warps<[^()]*>)\([^()]*\)")
AWAIT = re.compile(r"await_previous_grid\(\);")
WAIT = re.compile(r"\w+(?:\[\w+\])?\.(?:synchronize|block|join)\(\w*\);|\bfinish_updates\(\);")
COPIES = re.compile(r"(?:await|commit)_copies\(\);|(?<=await_copies_but<)[^;]*(?=>\(\);)")
OVERLAP = ["simt_overlap_test", "simt_training_test"]
STREAMS = ["simt_training_test", "simt_adamw_test", "simt_deferred_gradients_test", "simt_matmul_choice_test"]
AT_THE_END = "struct Late {{ __device__ ~Late() {{ {} }} }} late;"
SCHEDULES = ["fifo", "lifo", "random:1", "random:2", "random:3", "random:4", "random:5"]


def places(pattern, only):
    """Every (file, start, end) of a match, in code and not in a comment."""
    for path in sorted(KERNELS.glob("*.c*")):
        if only and not path.name.startswith(only):
            continue
        text = path.read_text()
        for match in pattern.finditer(text):
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if "//" not in line:
                yield path, match.start(), match.end()


def users(path):
    """The kernels' files that a file reaches: itself, or for a header those that include it."""
    if path.suffix == ".cu":
        return {path}
    line = f'#include "kernels/cuda/{path.name}"'
    return {path}.union(*(users(other) for other in KERNELS.glob("*.cu*") if line in other.read_text()))


def tests_of(path):
    """The tests of the operations that the file implements or is part of, and of their parts."""
    names = [source.stem.removesuffix("_test") for source in sorted((ROOT / "tests" / "cuda").glob("*_test.cpp"))]
    stems = {user.stem for user in users(path)}

    def tests(name, stem):
        return re.search(rf"(^|_){name}(_|$)", stem) or name.startswith(f"{stem}_")

    own = [name for name in names if any(tests(name, stem) for stem in stems)]
    return [f"simt_{name}_test" for name in own or names]


def build_folder(text):
    return file(pathlib.Path(text) / "CMakeCache.txt").parent


def has_tsan(folder):
    return re.search(r"^EMBER_SANITIZE:\w+=.*thread", (folder / "CMakeCache.txt").read_text(), re.M) is not None


def build(folder):
    programs = ["simt_cuda_tests", "simt_matmul_choice_tests"]
    subprocess.run(["cmake", "--build", folder, "--target", *programs], check=True, stdout=subprocess.DEVNULL)


def passes(program, schedule, seconds):
    environment = {**os.environ, "EMBER_SIMT_SCHEDULE": schedule, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    environment["TSAN_OPTIONS"] = "halt_on_error=1"
    try:
        done = subprocess.run([program], env=environment, timeout=seconds, capture_output=True)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def mutants(options):
    """Every (file, start, end, replacement, tests, folders)."""
    if options.kind in (None, "barriers"):
        for path, start, end in places(BARRIER, options.only):
            yield path, start, end, "(void)0", tests_of(path), options.folders
    if options.kind in (None, "awaits"):
        folders = [folder for folder in options.folders if has_tsan(folder)]
        for path, start, end in places(AWAIT, options.only):
            yield path, start, end, AT_THE_END.format("await_previous_grid();"), OVERLAP, folders
    if options.kind in (None, "waits"):
        for path, start, end in places(WAIT, options.only):
            yield path, start, end, "static_cast<void>(0);", STREAMS, options.folders
    if options.kind in (None, "copies"):
        for path, start, end in places(COPIES, options.only):
            text = path.read_text()[start:end]
            changed = {"await_copies();": AT_THE_END.format(text), "commit_copies();": "static_cast<void>(0);"}
            yield path, start, end, changed.get(text, f"{text} + 1"), tests_of(path), options.folders


def failures(folder, tests, seconds):
    """The runs of the tests in a build folder that fail."""
    build(folder)
    programs = [next(folder.rglob(test)) for test in tests]
    schedules = {"TSan": "fifo"} if has_tsan(folder) else {schedule: schedule for schedule in SCHEDULES}
    return [
        label
        for label, schedule in schedules.items()
        if not all(passes(program, schedule, seconds) for program in programs)
    ]


def main():
    arguments = OneLine(description=__doc__.splitlines()[0], allow_abbrev=False)
    arguments.add_argument("folders", nargs="+", type=build_folder, help="configured build folders")
    arguments.add_argument("--only", default="", help="files whose name starts so")
    arguments.add_argument("--kind", choices=["barriers", "awaits", "waits", "copies"], help="all unless told")
    arguments.add_argument("--seconds", type=number(1, 1000000), default=600, help="after which a run has hung")
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that the source at hand is restored
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", KERNELS], cwd=ROOT).returncode != 0:
        sys.exit("kernels/cuda differs from the last commit: commit first, since the files are changed in place")

    chosen = list(mutants(options))
    for tests, folders in sorted({(tuple(mutant[4]), tuple(mutant[5])) for mutant in chosen}):
        for folder in folders:
            if failed := failures(folder, tests, options.seconds):
                sys.exit(f"{folder}: {', '.join(tests)} fail without a mutation: {', '.join(failed)}")

    survivors = 0
    print("| barrier or wait | caught by |\n|---|---|", flush=True)
    for path, start, end, replacement, tests, folders in chosen:
        text = path.read_text()
        try:
            path.write_text(text[:start] + replacement + text[end:])
            caught = [label for folder in folders for label in failures(folder, tests, options.seconds)]
        finally:
            path.write_text(text)
        survivors += not caught
        line = text.count("\n", 0, start) + 1
        print(f"| {path.relative_to(ROOT)}:{line} | {', '.join(caught) or 'nothing'} |", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
