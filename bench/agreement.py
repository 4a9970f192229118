#!/usr/bin/env python3
"""How far two runs of bench_kernels agree: bench/agreement.py A.json B.json [--above SECONDS]

Compares the medians of every benchmark that both files have and that takes longer than 20 microseconds in both, worst
first, and says how many agree within 5%.
"""

import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "comparison"))
from one_line import OneLine, Wrong


def medians(path):
    try:
        with open(path) as file:
            return {result["name"]: (result["seconds"], result["cv"]) for result in json.load(file)["results"]}
    except OSError as error:
        problem = error.strerror
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = "results of bench_kernels (--out) were expected"
    raise Wrong(f"{path}: {problem}")


def percent(cv):
    """None is that of a single repetition."""
    return "    -" if cv is None else "%4.1f%%" % (100 * cv)


def run():
    parser = OneLine(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--above", type=float, default=20e-6, help="seconds")
    arguments = parser.parse_args()
    first, second = medians(arguments.first), medians(arguments.second)
    if not first.keys() & second.keys():
        raise Wrong(f"{arguments.first}, {arguments.second}: no benchmark is in both")
    rows = []
    for name, (seconds, cv) in first.items():
        if name in second and min(seconds, second[name][0]) > arguments.above:
            rows.append((abs(second[name][0] / seconds - 1), name, seconds, cv, *second[name]))
    if not rows:
        raise Wrong(f"{arguments.first}, {arguments.second}: no benchmark takes longer than {arguments.above:g} "
                    "seconds in both; --above takes less")
    rows.sort(key=lambda row: row[:2], reverse=True)
    for difference, name, a, cv_a, b, cv_b in rows:
        print("%5.1f%%  %-62s %10.1f us (cv %s) %10.1f us (cv %s)"
              % (100 * difference, name, 1e6 * a, percent(cv_a), 1e6 * b, percent(cv_b)))
    agree = sum(row[0] <= 0.05 for row in rows)
    print("%d of %d benchmarks agree within 5%%" % (agree, len(rows)))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # its reader may have seen enough
    try:
        run()
    except Wrong as mistake:
        print(f"agreement.py: {mistake}", file=sys.stderr)
        sys.exit(2)
