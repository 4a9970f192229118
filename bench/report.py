#!/usr/bin/env python3
"""Draws benchmark results as one HTML page that needs nothing but itself: report.py RESULTS... --out report.html

RESULTS are files of bench_kernels and bench_step (`--out`), of Google Benchmark (`--benchmark_format=json`) with the
counters bytes and FLOP (or flops), and results.jsonl of bench/compare.sh. The page has
- a roofline for each backend: every kernel at its arithmetic intensity (FLOP a byte) and speed, under the roof that the
  same run's peak benchmarks measured (the copy's bytes a second, the product's FLOP a second);
- scaling: time against tokens, both logarithmic, a line for each operation, with the fitted exponent;
- bars: how many times as fast Ember is as each peer, wrong and missing ones marked.
What came from two files, or from two runs of compare.sh, is drawn apart. The mouse shows a point's figures. Exit
status 2 with one line for a file that cannot be read or written, or is not results.
"""

import argparse
import html
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "comparison"))
import table
from one_line import OneLine, Wrong

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 950, 420, 70, 280, 20, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
FACTS = ("processor", "cores", "system", "date", "device", "rounds", "rows", "texts", "threads", "inference_threads",
         "environment")  # of its event machine
EVENTS = ("machine", "entered", "check", "round", "skipped", "failed")  # of compare.sh
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
STYLE = """body{font:15px/1.45 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.6em}h2{font-size:1.25em;margin-top:2em}svg{max-width:100%;height:auto}
svg text{font:12px sans-serif;fill:#222}
table{border-collapse:collapse;font-size:.85em}td,th{border:1px solid #ccc;padding:.2em .5em;text-align:left}
.grid{stroke:#e4e4e4}.roof{stroke:#222;fill:none;stroke-width:1.5}.wrong{color:#b00}"""


# ---- reading ----

def read(path):
    """The JSON values of a file: one document, or one a line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise Wrong(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Wrong(f"{path}: not JSON") from error
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    values = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise Wrong(f"{path}:{number}: not JSON") from error
    return values


class Results:
    """What the files have. Figures of two files are two machines' or versions' and never share a roof or a line."""

    def __init__(self, files):
        self.several = len(files) > 1
        self.machines, self.kernels, self.steps, self.predictions, self.comparisons = [], [], [], [], []
        self.peaks = defaultdict(dict)  # (file, backend) -> {"copy": bytes/s, "product": FLOP/s}
        for path in files:
            self.add(path)

    def titled(self, title, path):
        """With the file's name where there are several."""
        return f"{title} ({path})" if self.several else title

    def add(self, path):
        self.path = path
        values = read(path)
        try:
            known = [self.add_value(value) for value in values]
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, IndexError) as error:
            raise Wrong(f"{path}: not benchmark results: {type(error).__name__} {error}") from error
        if not known or not all(known):
            raise Wrong(f"{path}: neither results of bench_kernels, bench_step or Google Benchmark nor of compare.sh")

    def add_value(self, value):
        if "results" in value:
            self.add_machine(value.get("context", {}))
            for result in value["results"]:
                self.add_result(result)
        elif "benchmarks" in value:
            self.add_machine(value.get("context", {}))
            self.add_google(value["benchmarks"])
        elif value.get("event") in EVENTS:
            if value["event"] == "machine":
                self.add_machine({name: value[name] for name in FACTS if name in value}, len(self.comparisons) + 1)
            if value["event"] == "machine" or not self.comparisons or self.comparisons[-1][0] != self.path:
                self.comparisons.append((self.path, []))  # a run of compare.sh, which appends to its file
            self.comparisons[-1][1].append(value)
        else:
            return False
        return True

    def add_machine(self, facts, run=None):
        """`run`: its number, of one of compare.sh."""
        environment = facts.get("environment") or {}
        settings = {name: environment[name] for name in environment if name not in facts}
        self.machines.append((self.path, run, {**facts, **settings}))

    def add_result(self, result):
        if "operation" not in result:
            kind = self.predictions if result.get("kind") == "inference" else self.steps
            kind.append({**result, "file": self.path})
            return
        self.add_kernel(result["name"], float(result["seconds"]), float(result["bytes"]), float(result["flop"]))

    def add_google(self, benchmarks):
        """The median of the repetitions of each name."""
        runs = defaultdict(list)
        for benchmark in benchmarks:
            if benchmark.get("run_type", "iteration") == "iteration" and not benchmark.get("error_occurred"):
                runs[benchmark.get("run_name", benchmark["name"])].append(benchmark)
        for name, repetitions in runs.items():
            first = repetitions[0]
            seconds = statistics.median(r["real_time"] * UNITS[r.get("time_unit", "ns")] for r in repetitions)
            flop = first.get("FLOP", first.get("flops", 0.0))
            name = [part for part in name.split("/") if not part.startswith("iterations:") and part != "manual_time"]
            self.add_kernel("/".join(name), seconds, float(first.get("bytes", 0.0)), float(flop))

    def add_kernel(self, name, seconds, size, flop):
        """Names are operation/model/tokens/cache/backend and peak_copy/backend, or peak/copy/backend."""
        parts = name.replace("peak/", "peak_", 1).split("/")
        backend = parts[-1] if len(parts) > 1 else ""
        if not seconds > 0:
            raise ValueError(f"{name}: took {seconds} seconds")
        if parts[0] == "peak_copy":
            self.peaks[self.path, backend]["copy"] = size / seconds
        elif parts[0] == "peak_product":
            self.peaks[self.path, backend]["product"] = flop / seconds
        else:
            tokens = next((int(part) for part in parts[1:] if part.isdecimal()), None)
            group = "/".join(part for part in parts if not part.isdecimal())
            self.kernels.append({"file": self.path, "name": name, "operation": parts[0], "group": group,
                                 "backend": backend, "tokens": tokens, "seconds": seconds, "bytes": size, "flop": flop})


# ---- drawing ----

def escape(text):
    return html.escape(str(text), quote=True)


def quantity(value):
    """1234567 as 1.23M."""
    prefixes = (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")
    for bound, letter in prefixes:
        if value >= bound:
            return f"{value / bound:.3g}{letter}"
    return f"{value:.3g}"


class LogPlot:
    """Two logarithmic axes that hold all of xs and ys."""

    def __init__(self, xs, ys, x_label, y_label):
        self.x_range, self.y_range = self.limits(xs), self.limits(ys)
        self.parts = []
        for axis, values in ("x", self.x_range), ("y", self.y_range):
            for power in range(values[0], values[1] + 1):
                self.grid(axis, 10.0 ** power)
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle")
        self.parts.append(f'<text x="16" y="{middle:.0f}" text-anchor="middle" '
                          f'transform="rotate(-90 16 {middle:.0f})">{escape(y_label)}</text>')

    @staticmethod
    def limits(values):
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return low, max(high, low + 1)

    def x(self, value):
        low, high = self.x_range
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = self.y_range
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def grid(self, axis, value):
        if axis == "x":
            x = self.x(value)
            self.parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>')
            self.text(x, HEIGHT - BOTTOM + 16, quantity(value), "middle")
        else:
            y = self.y(value)
            self.parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            self.text(LEFT - 6, y + 4, quantity(value), "end")

    def text(self, x, y, text, anchor="start", colour=""):
        fill = f' style="fill:{colour}"' if colour else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{escape(text)}</text>')

    def point(self, x, y, colour, title):
        self.parts.append(f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="4" fill="{colour}" fill-opacity=".75">'
                          f"<title>{escape(title)}</title></circle>")

    def line(self, points, colour="", css=""):
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        look = f'class="{css}"' if css else f'fill="none" stroke="{colour}"'
        self.parts.append(f'<polyline {look} points="{path}"/>')

    def legend(self, entries):
        for i, (text, colour) in enumerate(entries[:24]):
            self.text(WIDTH - RIGHT + 8, TOP + 10 + 16 * i, text, colour=colour)
        if len(entries) > 24:
            self.text(WIDTH - RIGHT + 8, TOP + 10 + 16 * 24, f"and {len(entries) - 24} more")

    def svg(self):
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(self.parts)}</svg>'


def roofline(kernels, peaks, title):
    drawn = [k for k in kernels if k["bytes"] > 0 and k["flop"] > 0]
    left_out = sorted({k["operation"] for k in kernels} - {k["operation"] for k in drawn})
    section = [f"<h2>{escape(title)}</h2>"]
    if drawn:
        intensity = [k["flop"] / k["bytes"] for k in drawn]
        speed = [k["flop"] / k["seconds"] for k in drawn]
        copy, product = peaks.get("copy", 0), peaks.get("product", 0)
        roofs = [product] if product > 0 else []
        plot = LogPlot([*intensity, *([product / copy] if copy > 0 and product > 0 else [])], [*speed, *roofs],
                       "FLOP a byte", "FLOP a second")
        draw_roof(plot, copy, product)
        colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted({k["operation"] for k in drawn}))}
        for k, x, y in zip(drawn, intensity, speed):
            bandwidth = quantity(k["bytes"] / k["seconds"])
            plot.point(x, y, colour[k["operation"]],
                       f'{k["name"]}: {quantity(k["seconds"])}s, {bandwidth}B/s, {quantity(y)}FLOP/s')
        plot.legend(list(colour.items()))
        section.append(plot.svg())
    missing = [name for name in ("copy", "product") if name not in peaks]
    if missing:
        section.append(f"<p>Roof not measured: no peak benchmark for {' and '.join(missing)} in these results.</p>")
    if left_out:
        section.append(f"<p>Without FLOP or bytes, hence not drawn: {escape(', '.join(left_out))}.</p>")
    section.append(kernel_table(kernels, peaks))
    return "\n".join(section)


def draw_roof(plot, copy, product):
    """min(copy * intensity, product), cut at the plot's edges."""
    left, right = (10.0 ** power for power in plot.x_range)
    bottom, top = (10.0 ** power for power in plot.y_range)
    if copy > 0:
        end = min(right, product / copy if product > 0 else right, top / copy)
        start = max(left, bottom / copy)
        if start < end:
            plot.line([(start, copy * start), (end, copy * end)], css="roof")
    if product > 0:
        start = min(max(left, product / copy), right) if copy > 0 else left
        plot.line([(start, product), (right, product)], css="roof")


def kernel_table(kernels, peaks):
    def share(value, peak):
        return f"{100 * value / peak:.0f}%" if peak else "-"

    rows = [["kernel", "time", "bytes", "GB/s", "of the copy", "GFLOP/s", "of the product"]]
    for k in kernels:
        rate, speed = k["bytes"] / k["seconds"], k["flop"] / k["seconds"]
        rows.append([k["name"], quantity(k["seconds"]) + "s", quantity(k["bytes"]), f"{rate * 1e-9:.1f}",
                     share(rate, peaks.get("copy")), f"{speed * 1e-9:.1f}", share(speed, peaks.get("product"))])
    return f"<details><summary>{len(kernels)} kernels as a table</summary>{html_table(rows)}</details>"


def html_table(rows):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
    return "<table>" + line(rows[0], "th") + "".join(line(row, "td") for row in rows[1:]) + "</table>"


def exponent(points):
    """Of the power law that fits best: the slope of log time over log tokens."""
    xs, ys = ([math.log(value) for value in values] for values in zip(*points))
    mean_x, mean_y = statistics.mean(xs), statistics.mean(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)


def scaling(title, curves):
    """curves: name -> [(tokens, seconds)]; those of a single size have no slope and are not drawn."""
    curves = {name: sorted(set(points)) for name, points in curves.items()}
    curves = {name: points for name, points in curves.items() if len({x for x, _ in points}) > 1}
    if not curves:
        return ""
    every = [point for points in curves.values() for point in points]
    plot = LogPlot([x for x, _ in every], [y for _, y in every], "tokens", "seconds")
    entries = []
    for i, (name, points) in enumerate(sorted(curves.items())):
        colour = COLOURS[i % len(COLOURS)]
        plot.line(points, colour)
        for x, y in points:
            plot.point(x, y, colour, f"{name}: {x:g} tokens, {quantity(y)}s")
        entries.append((f"{name}, {exponent(points):.2f}", colour))
    plot.legend(entries)
    return f"<h2>{escape(title)}</h2><p>Behind each name: the exponent of the fitted power law.</p>{plot.svg()}"


def scalings(results):
    panels = defaultdict(lambda: defaultdict(list))
    for k in results.kernels:
        if k["tokens"]:
            operation, _, state = k["group"].partition("/")
            title = results.titled(f"Time against tokens: {state}", k["file"])
            panels[title][operation].append((k["tokens"], k["seconds"]))
    for step in results.steps:
        for phase in ("forward", "backward", "optimizer", "step"):
            if phase in step and "tokens" in step:
                title = f"Training against tokens of a batch: {step['backend']}, {step['lengths']}"
                point = float(step["tokens"]), float(step[phase]["seconds"])
                panels[results.titled(title, step["file"])][phase].append(point)
    for result in results.predictions:
        if result.get("tokens"):
            title = results.titled("Prediction against the tokens of a text", result["file"])
            panels[title][result["backend"]].append((float(result["tokens"]), float(result["seconds"])))
    return "\n".join(scaling(title, curves) for title, curves in panels.items())


def predictions(results):
    if not results.predictions:
        return ""
    rows = [["backend", "texts", "time", "cv", "texts/s"]]
    for result in results.predictions:
        rows.append([results.titled(result["backend"], result["file"]), result["texts"],
                     quantity(result["seconds"]) + "s", "-" if result["cv"] is None else f"{100 * result['cv']:.1f}%",
                     f"{result['texts_per_second']:,.0f}"])
    return f"<h2>Prediction, tokenisation included</h2>{html_table(rows)}"


def bars(rows, title):
    """rows: (label, factor or None, note); a line at 1 is where both are equally fast."""
    widest = max([factor for _, factor, _ in rows if factor] + [1.0])
    start, room, parts = 290, 380, []
    for i, (label, factor, note) in enumerate(rows):
        y = 8 + 24 * i
        parts.append(f'<text x="{start - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        length = room * factor / widest if factor else 0
        colour = "#bbb" if "wrong" in note else COLOURS[0] if (factor or 0) >= 1 else COLOURS[1]
        parts.append(f'<rect x="{start}" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>')
        text = (f"{factor:.2f} " if factor else "") + note
        parts.append(f'<text x="{start + length + 6:.1f}" y="{y + 14}">{escape(text)}</text>')
    one, bottom = start + room / widest, 8 + 24 * len(rows)
    parts.append(f'<line x1="{one:.1f}" y1="0" x2="{one:.1f}" y2="{bottom}" stroke="#222" stroke-dasharray="3 3"/>')
    return f'<h3>{escape(title)}</h3><svg viewBox="0 0 {WIDTH} {bottom + 4}" role="img">{"".join(parts)}</svg>'


def peers(events, where):
    section = []
    for task in dict.fromkeys(event["task"] for event in events if "task" in event):
        section.append(f"<h2>Beside others: {escape(task)}{escape(where)}</h2>")
        rows = table.rows_of(events, task)
        for metric, (column, _) in table.METRICS.items():
            if any(table.rounds(events, row, metric) for row in rows):
                section.append(bars(peer_rows(events, rows, metric), f"How many times as fast Ember is: {column}"))
        section.append(html_table(table.cells(events, task)))
    return "\n".join(section)


def peer_rows(events, rows, metric):
    """A row for every peer; one without a figure says why."""
    out = []
    for row in rows:
        if row[1] == "Ember":
            continue
        factor, mark = table.factor(events, row, metric)
        notes = ["against Ember in fp32"] if mark else []
        notes += ["wrong"] if table.accuracy(events, row)[1] else []
        notes += [table.outcome(events, row)] if table.outcome(events, row) else []
        unknown = "Ember not measured" if table.rounds(events, row, metric) else "not measured"
        out.append((f"{row[1]}, {row[2]}", factor, "; ".join(notes) or ("" if factor else unknown)))
    return out


# ---- the page ----

def page(results):
    sections = ["<h1>Ember: benchmark results</h1>"]
    for path, run, machine in results.machines:
        facts = ", ".join(f"{name}: {value}" for name, value in machine.items() if isinstance(value, (str, int, float)))
        whose = [str(path)] * results.several + [f"run {run}"] * (run is not None and len(results.comparisons) > 1)
        sections.append(f"<p>{escape((', '.join(whose) + ': ' if whose else '') + facts)}</p>")
    for source in dict.fromkeys((k["file"], k["backend"]) for k in results.kernels):
        own = [k for k in results.kernels if (k["file"], k["backend"]) == source]
        title = f"Roofline: {source[1]}" if source[1] else "Roofline"
        sections.append(roofline(own, results.peaks.get(source, {}), results.titled(title, source[0])))
    sections += [scalings(results), predictions(results)]
    for number, (path, events) in enumerate(results.comparisons, 1):
        where = f", run {number}" if len(results.comparisons) > 1 else ""
        sections.append(peers(events, results.titled(where, path)))
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Ember: benchmark results</title>'
            f"<style>{STYLE}</style></head><body>\n" + "\n".join(s for s in sections if s) + "\n</body></html>\n")


def run(argv):
    parser = OneLine(prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                     allow_abbrev=False)
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    for path in args.results:
        if args.results.count(path) > 1:
            raise Wrong(f"{path}: is named twice, and its figures would be drawn twice")
    results = Results(args.results)
    try:
        text = page(results)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as error:
        names = ", ".join(str(path) for path in args.results)
        raise Wrong(f"{names}: results that cannot be drawn: {type(error).__name__} {error}") from error
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Wrong(f"{args.out}: {error.strerror}") from error


def main():
    try:
        run(sys.argv[1:])
    except Wrong as mistake:
        print(f"report.py: {' '.join(str(mistake).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
