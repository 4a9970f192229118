"""bench/report.py and agreement.py on small made-up results: python3 report_test.py [unittest's arguments]."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

from refusals import Refusals

REPORT = Path(__file__).resolve().parents[2] / "bench" / "report.py"
TIMEOUT = 60


def kernel(name, seconds, size, flop):
    return {"name": name, "operation": name.split("/")[0], "seconds": seconds, "bytes": size, "flop": flop}


KERNELS = {"context": {"processor": "Some <processor>", "date": "2026-11-23"}, "results": [
    kernel("peak_copy/cpu", 0.1, 2e9, 0.0), kernel("peak_product/cpu", 0.1, 1e6, 2e10),
    *[kernel(f"gelu/tinybert/{n}/warm/cpu", 1e-6 * n, 1e3 * n, 2e3 * n) for n in (64, 512, 4096)],
    *[kernel(f"attention/tinybert/{n}/warm/cpu", 1e-9 * n ** 2, 1e3 * n, 9.0 * n ** 2) for n in (64, 512, 4096)],
    kernel("gather/tinybert/64/warm/cpu", 1e-6, 1e3, 0.0)]}

STEPS = {"context": {}, "results": [{"kind": "training step", "backend": "cpu", "lengths": "real", "tokens": tokens,
                                     **{phase: {"seconds": 1e-5 * tokens ** 1.5} for phase in
                                        ("forward", "backward", "optimizer", "step")}} for tokens in (100, 1000)]
         + [{"kind": "growth with tokens", "backend": "cpu", "lengths": "real", "step": {"exponent": 1.5, "r2": 1.0}}]}

GOOGLE = {"context": {"num_cpus": 2}, "benchmarks": [
    {"name": "peak/copy/cpu", "run_type": "iteration", "real_time": 1.0, "time_unit": "s", "bytes": 4e9},
    {"name": "peak/product/cpu", "run_type": "iteration", "real_time": 1.0, "time_unit": "s", "flops": 1e11},
    *[{"name": "tanh/tinybert/64/cold/cpu/iterations:1/manual_time", "run_type": "iteration", "real_time": time,
       "time_unit": "us", "bytes": 1e4, "FLOP": 1e4} for time in (1.0, 5.0, 900.0)],
    {"name": "tanh/tinybert/64/cold/cpu/iterations:1/manual_time_median", "run_type": "aggregate", "real_time": 77.0,
     "time_unit": "us"}]}


def event(kind, engine, precision="fp32", **values):
    return {"event": kind, "task": "inference", "engine": engine, "precision": precision, **values}


EVENTS = [{"event": "machine", "processor": "P", "cores": 2},
          *[event("round", "Ember", values={"texts_per_second": n, "latency_ms": 2.0}) for n in (590, 600, 610)],
          *[event("round", "Fast & wrong", values={"texts_per_second": 1200, "latency_ms": 1.0}) for _ in range(3)],
          *[event("round", "Slow", values={"texts_per_second": 300, "latency_ms": 5.0}) for _ in range(3)],
          event("check", "Fast & wrong", difference=9.0), event("check", "Slow", difference=1e-6),
          event("skipped", "Absent", reason="absent: not installed, skipped"),
          event("round", "Slow", "int8", values={"texts_per_second": 1200.0})]


class Elements(HTMLParser):
    """Whatever the page would fetch, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ember report "))
        self.addCleanup(shutil.rmtree, self.folder)

    def file(self, name, *values):
        path = self.folder / name
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        return path

    def report(self, *arguments):
        return subprocess.run([sys.executable, str(REPORT), *map(str, arguments)], capture_output=True, text=True,
                              timeout=TIMEOUT)

    def page(self, *files):
        out = self.folder / "report.html"
        done = self.report(*files, "--out", out)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return out.read_text()


class Pages(Case):
    def test_roofline_has_every_kernel_and_the_roof(self):
        page = self.page(self.file("k.json", KERNELS))
        self.assertEqual(len(re.findall(r"<title>gelu/tinybert/\d+/warm/cpu: ", page)), 3)
        self.assertEqual(len(re.findall(r"<title>attention/tinybert/\d+/warm/cpu: ", page)), 3)
        self.assertEqual(page.count('class="roof"'), 2)
        self.assertIn("hence not drawn: gather", page)
        self.assertIn("<td>gather/tinybert/64/warm/cpu</td>", page)
        # 1e3 * 64 bytes in 64 us: 1 GB/s, a twentieth of the copy; 2 GFLOP/s, a hundredth of the product.
        self.assertIn("<td>gelu/tinybert/64/warm/cpu</td><td>64µs</td><td>64k</td><td>1.0</td><td>5%</td><td>2.0</td>"
                      "<td>1%</td>", page)

    def test_points_lie_under_their_axes(self):
        page = self.page(self.file("k.json", KERNELS))
        for svg in re.findall(r"<svg.*?</svg>", page):
            for circle in ElementTree.fromstring(svg).iter("circle"):
                self.assertTrue(70 <= float(circle.get("cx")) <= 670 and 20 <= float(circle.get("cy")) <= 370, svg)

    def test_scaling_has_the_fitted_exponents(self):
        page = self.page(self.file("k.json", KERNELS), self.file("s.json", STEPS))
        for text in "gelu, 1.00", "attention, 2.00", "step, 1.50":
            self.assertIn(">" + text + "<", page)
        self.assertNotIn(">gather, ", page)

    def test_google_benchmark(self):
        page = self.page(self.file("g.json", GOOGLE))
        self.assertIn("<title>tanh/tinybert/64/cold/cpu: 5µs, 2GB/s, 2GFLOP/s</title>", page)
        self.assertIn("<td>50%</td><td>2.0</td><td>2%</td>", page)
        self.assertEqual(page.count("<circle"), 1)

    def test_no_peaks_are_said(self):
        page = self.page(self.file("k.json", {"context": {}, "results": KERNELS["results"][2:]}))
        self.assertIn("no peak benchmark for copy and product", page)
        self.assertNotIn('class="roof"', page)

    def test_peers(self):
        page = self.page(self.file("results.jsonl", *EVENTS))
        bar = r'text-anchor="end">([^<]*)</text><rect[^>]*/><text[^>]*>([^<]*)</text>'
        bars = dict(re.findall(bar, page.split("one text")[0]))
        self.assertEqual(bars, {"Fast &amp; wrong, fp32": "0.50 wrong", "Slow, fp32": "2.00 ",
                                "Absent, fp32": "absent: not installed, skipped",
                                "Slow, int8": "0.50 against Ember in fp32"})
        self.assertIn("2.50 ", page.split("one text")[1])
        self.assertIn("9.0e+00 (wrong)", page)

    def test_two_files_do_not_share_a_roof_or_a_line(self):
        slower = {"context": {}, "results": [{**result, "seconds": 2 * result["seconds"]}
                                             for result in KERNELS["results"]]}
        first, second = self.file("a.json", KERNELS), self.file("b.json", slower)
        page = self.page(first, second)
        self.assertEqual(page.count('class="roof"'), 4)
        # Half as fast under a roof half as high.
        self.assertEqual(page.count("<td>gelu/tinybert/64/warm/cpu</td>"), 2)
        self.assertEqual(len(re.findall(r"gelu/tinybert/64/warm/cpu</td>(<td>[^<]*</td>){3}<td>5%</td>", page)), 2)
        self.assertEqual(page.count(">gelu, 1.00<"), 2)
        for path in first, second:
            self.assertIn(f"<h2>Roofline: cpu ({path})</h2>", page)

    def test_machines_and_settings_are_told_apart(self):
        run = {"event": "machine", "processor": "Q", "threads": 2, "texts": None, "environment": {"EMBER_LEVEL": "x"}}
        kernels, peers = self.file("k.json", KERNELS), self.file("results.jsonl", *EVENTS, run, *EVENTS[1:])
        page = self.page(kernels, peers)
        self.assertIn(f"<p>{kernels}: processor: Some &lt;processor&gt;, date: 2026-11-23</p>", page)
        self.assertIn(f"<p>{peers}, run 1: processor: P, cores: 2</p>", page)
        self.assertIn(f"<p>{peers}, run 2: processor: Q, threads: 2, EMBER_LEVEL: x</p>", page)
        self.assertIn("<p>processor: P, cores: 2</p>", self.page(self.file("one.jsonl", *EVENTS)))

    def test_two_runs_of_one_file_are_drawn_apart(self):
        again = [event("round", "Ember", values={"texts_per_second": 100, "latency_ms": 9.0}),
                 event("skipped", "Slow", reason="slow: not installed, skipped")]
        page = self.page(self.file("results.jsonl", *EVENTS, {"event": "machine", "processor": "P"}, *again))
        first, second = page.split("inference, run 2</h2>")
        self.assertIn("inference, run 1</h2>", first)
        self.assertIn("<td>600</td>", first)
        self.assertNotIn("slow: not installed", first)
        self.assertIn("<td>100</td>", second)
        self.assertIn("slow: not installed", second)

    def test_without_ember_it_says_so(self):
        page = self.page(self.file("results.jsonl", *(e for e in EVENTS if e.get("engine") != "Ember")))
        self.assertIn(">Ember not measured<", page)

    def test_predictions(self):
        results = [{"kind": "inference", "backend": "cpu", "texts": text, "count": count, "tokens": tokens,
                    "seconds": 1e-4 * (tokens or 1000), "cv": 0.015, "repetitions": [], "texts_per_second": 1234.5}
                   for text, count, tokens in (("one of 8 tokens", 1, 8.0), ("one of 64 tokens", 1, 64.0),
                                               ("1000 at once", 1000, None))]
        results[1]["cv"] = None  # of a single repetition
        page = self.page(self.file("i.json", {"context": {}, "results": [
            *results, {"kind": "inference memory", "backend": "cpu", "peak_memory_bytes": 1}]}))
        self.assertIn("<td>cpu</td><td>1000 at once</td><td>100ms</td><td>1.5%</td><td>1,234</td>", page)
        self.assertIn("<td>one of 64 tokens</td><td>6.4ms</td><td>-</td>", page)
        self.assertIn("Prediction against the tokens of a text", page)
        self.assertIn(">cpu, 1.00<", page)

    def test_needs_nothing_but_itself(self):
        page = self.page(self.file("k.json", KERNELS), self.file("results.jsonl", *EVENTS))
        elements = Elements(page)
        self.assertEqual(elements.links, [])
        self.assertNotIn("script", elements.tags)
        self.assertNotIn("url(", page)
        self.assertIn("Some &lt;processor&gt;", page)
        for svg in re.findall(r"<svg.*?</svg>", page):
            ElementTree.fromstring(svg)


class Mistakes(Case, Refusals):
    def refused(self, *arguments, contains):
        self.assert_refused(self.report(*arguments), contains, program="report.py")

    def test_bad_files(self):
        out, good = self.folder / "out.html", self.file("good.json", KERNELS)
        text, empty, binary = self.folder / "text", self.folder / "empty", self.folder / "binary"
        text.write_text("{}\nnot JSON\n")
        empty.write_text("")
        binary.write_bytes(b"\xff\xfe")
        named = [(self.folder / "none", "none"), (self.folder, "directory"), (text, "text:2: not JSON"),
                 (empty, "empty"), (binary, "not JSON"), (self.file("list", [1]), "list"),
                 (self.file("other", {"a": 1}), "other"),
                 (self.file("half", {"results": [{"operation": "gelu"}]}), "half"),
                 (self.file("zero", {"results": [kernel("gelu/x/1/warm/cpu", 0.0, 1, 1)]}), "zero"),
                 (self.file("kind", {"results": 5}), "kind")]
        for path, contains in named:
            with self.subTest(path=path.name):
                self.refused(good, path, "--out", out, contains=contains)
        self.assertFalse(out.exists())

    def test_flags(self):
        good = self.file("good.json", KERNELS)
        self.refused(good, contains="--out")
        self.refused("--out", self.folder / "x", contains="RESULTS")
        self.refused(good, "--out", self.folder / "none" / "x", contains="none")
        self.refused(good, good, "--out", self.folder / "x", contains="good.json: is named twice")
        self.refused(good, "--out", self.folder / "x", "--colour", contains="--colour")


class Agreement(unittest.TestCase):
    def agreement(self, *arguments):
        return subprocess.run([sys.executable, REPORT.with_name("agreement.py"), *map(str, arguments)],
                              capture_output=True, text=True, timeout=TIMEOUT)

    def wrong(self, done, *words):
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_counts_what_both_have_and_takes_long_enough(self):
        with tempfile.TemporaryDirectory(prefix="ember agreement ") as folder:
            paths = [Path(folder) / name for name in ("a.json", "b.json")]
            for path, times in zip(paths, ((1e-3, 2e-3, 3e-3, 1e-5, 5e-3), (1.04e-3, 2.2e-3, 3e-3, 2e-5, None))):
                path.write_text(json.dumps({"results": [{"name": f"op{i}", "seconds": seconds, "cv": 0.01}
                                                        for i, seconds in enumerate(times) if seconds]}))
            done = self.agreement(*paths)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            lines = done.stdout.splitlines()
            self.assertEqual([line.split()[1] for line in lines[:-1]], ["op1", "op0", "op2"], "the worst first")
            self.assertEqual(lines[-1], "2 of 3 benchmarks agree within 5%")
            self.assertEqual(self.agreement(*paths, "--above", "1e-6").stdout.splitlines()[-1],
                             "2 of 4 benchmarks agree within 5%")
            paths[1].write_text('{"results": [{"name": "other", "seconds": 1, "cv": 0}]}')
            self.wrong(self.agreement(*paths), "a.json, ", "b.json: no benchmark is in both\n")
            paths[1].write_text(paths[0].read_text().replace("0.01", "null"))  # of a single repetition
            done = self.agreement(*paths)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("(cv  1.0%)     5000.0 us (cv     -)\n", done.stdout)
            self.wrong(self.agreement(*paths, "--above", "1"), "no benchmark takes longer than 1 seconds in both; --")
            paths[1].write_text("{}")
            for wrong, names in ((paths, "b.json"), (paths[:1], "second"), ([paths[0], Path(folder) / "none"], "none")):
                self.wrong(self.agreement(*wrong), names)


if __name__ == "__main__":
    unittest.main()
