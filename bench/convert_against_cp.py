#!/usr/bin/env python3
"""Times convert_hf against cp of the same weight file, turn by turn, and gives medians and convert_hf's peak memory.

    convert_against_cp.py BUILD MODEL [--rounds 11]

MODEL is a directory that convert_hf takes. The file is in the page cache; each turn writes a new file, and what earlier
ones wrote is on the disk before it starts.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "comparison"))
from one_line import OneLine, Wrong, folder, number

GNU_TIME = "/usr/bin/time"


def run(arguments):
    """Its standard error."""
    done = subprocess.run([str(argument) for argument in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True)
    if done.returncode != 0:
        raise Wrong(done.stderr.strip() or f"{arguments[0]}: ended with status {done.returncode}")
    return done.stderr


def seconds(arguments):
    os.sync()
    start = time.perf_counter()
    run(arguments)
    return time.perf_counter() - start


def peak_megabytes(arguments):
    """VmHWM would go with the process; GNU time reads it as it ends."""
    return int(re.findall(r"\d+", run([GNU_TIME, "-f", "%M", *arguments]))[-1]) / 1024


def main():
    parser = OneLine(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("model", type=folder)
    parser.add_argument("--rounds", type=number(1, 1000), default=11)
    args = parser.parse_args()
    names = ("model.safetensors", "pytorch_model.bin")
    weights = next((path for name in names if (path := args.model / name).exists()), None)
    if weights is None:
        parser.error(f"{args.model}: holds neither {' nor '.join(names)}")
    convert = [args.build / "tools/convert_hf", args.model]
    parser.require_programs(convert[0], GNU_TIME)
    try:
        measure(weights, convert, args.rounds)
    except Wrong as mistake:
        parser.error(str(mistake))


def measure(weights, convert, rounds):
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        copy, out = Path(scratch) / "copy", Path(scratch) / "out"
        times = {"cp": [], "convert_hf": []}
        for _ in range(rounds):
            times["cp"].append(seconds(["cp", weights, copy]))
            times["convert_hf"].append(seconds([*convert, out]))
            copy.unlink()
            shutil.rmtree(out)
        peak = peak_megabytes([*convert, out])
    cp, ours = (statistics.median(values) for values in times.values())
    print(f"{weights.name}, {weights.stat().st_size / 2**20:.1f} MiB: cp {1e3 * cp:.0f} ms, "
          f"convert_hf {1e3 * ours:.0f} ms ({ours / cp:.2f} times), peak {peak:.1f} MiB; medians of {rounds}")


if __name__ == "__main__":
    main()
