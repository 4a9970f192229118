"""The CPU kernels compiled for several levels of instructions: cpu_levels_test.py PREDICT TRAIN LIBRARY NM

- of a level's copy nothing but its factory can be seen, so that none of its code serves the rest of the program;
- what is of no level runs on any processor;
- each level that this processor has gives the same scores, and EMBER_CPU_LEVEL chooses it;
- a level that it does not have, or that does not exist, is refused in one line, as is a precision, by words that
  bench/compare.sh knows.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from tiny_model import write_model

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "comparison"))
from worker import LACKING

PREDICT, TRAIN, LIBRARY, NM = sys.argv[1:]
SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "data" / "sample"
LEVELS = ["avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx"]
FLAGS = {"avx2": {"avx2", "fma", "bmi2"}, "avx2_vnni": {"avx_vnni"},
         "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
         "avx512_vnni": {"avx512_vnni"}, "avx512_bf16": {"avx512_bf16"},
         "amx": {"amx_tile", "amx_bf16", "amx_int8"}}


def present_levels():
    """Those that /proc/cpuinfo names."""
    flags = set(re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)[1].split())
    return [level for level in LEVELS if FLAGS[level] <= flags]


def agree(mine, others, bound):
    return all(abs(a - b) <= bound for a, b in zip(mine, others, strict=True))


class CpuLevels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        write_model(cls.scratch.name)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def predict(self, level, precision="fp32"):
        return subprocess.run([PREDICT, "--model", self.scratch.name, "--precision", precision, "--all", "--format",
                               "jsonl", "I am so happy!", "the cat was sad"], capture_output=True, text=True,
                              env={**os.environ, "EMBER_CPU_LEVEL": level}, timeout=120)

    def logits(self, level, precision):
        done = self.predict(level, precision)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [value for line in done.stdout.splitlines() for value in json.loads(line)["logits"]]

    def test_only_the_factory_of_a_copy_is_visible(self):
        listing = subprocess.run([NM, "--defined-only", "--extern-only", LIBRARY], capture_output=True, text=True,
                                 check=True).stdout
        members = dict(re.findall(r"^(\S+\.o):\n((?:.+\n)*)", listing, re.M))
        for level in LEVELS[1:]:
            symbols = [line.split()[-1] for line in members[f"cpu_{level}.o"].splitlines()]
            self.assertEqual(len(symbols), 1, symbols)
            self.assertIn(f"make_cpu_kernels_{level}", symbols[0])

    def test_what_is_of_no_level_needs_none(self):
        code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", LIBRARY], capture_output=True, text=True,
                              check=True).stdout
        found = re.findall(r"^(\S+\.o): +file format.*\n((?:(?!\S+\.o: ).*\n)*)", code, re.M)
        members = dict(reversed(found))  # the first of a name; later ones are kernels/cpu's
        avx = re.compile(r"\tv[a-z0-9]+ +.*%[xyz]mm")
        self.assertRegex(members["cpu_avx512.o"], avx)
        for name in ["adamw_step", "first_attention", "head", "linear_gelu", "make_cpu_kernels"]:
            self.assertNotRegex(members[f"{name}.cpp.o"], avx, name)

    def test_the_environment_chooses(self):
        names = {"avx2": "AVX2", "avx2_vnni": "AVX2 with VNNI", "avx512": "AVX-512", "avx512_vnni": "AVX-512 with VNNI",
                 "avx512_bf16": "AVX-512 with bf16", "amx": "AMX"}
        present = present_levels()
        with tempfile.TemporaryDirectory() as folder:
            for level in ["", *present]:
                with self.subTest(level=level):
                    out = pathlib.Path(folder) / (level or "best")
                    done = subprocess.run([TRAIN, "--model", SAMPLE / "model", "--data", SAMPLE, "--from-scratch",
                                           "--out", out, "--max-steps", "1", "--threads", "1"],
                                          capture_output=True, text=True, timeout=120,
                                          env={**os.environ, "EMBER_CPU_LEVEL": level})
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIn(f"on cpu (1 thread, {names[level or present[-1]]})\n", done.stderr)

    def test_levels_agree(self):
        present = present_levels()
        self.assertTrue(present, "a processor without AVX2 cannot run these tests: configure with EMBER_MARCH=native")
        # Levels add up in different orders, a few of 24 bits; a sum that differs in the last may round to another of
        # int8's or bf16's numbers.
        of = {"fp32": present, "int8": present, "bf16": [level for level in present if level in ("avx512_bf16", "amx")]}
        bounds = {"fp32": 1e-5, "int8": 1e-3, "bf16": 1e-3}
        for precision, bound in bounds.items():
            if not of[precision]:
                continue
            best = self.logits("", precision)
            self.assertEqual(best, self.logits(present[-1], precision))
            # Without VNNI int8 rounds the weights more coarsely: 0.05 in the logits here.
            least = self.logits(of[precision][0], precision)
            self.assertTrue(agree(least, best, 0.1 if precision == "int8" else bound))
            for level in of[precision]:
                with self.subTest(level=level, precision=precision):
                    coarser = precision == "int8" and level in ("avx2", "avx512")
                    self.assertTrue(agree(self.logits(level, precision), least if coarser else best, bound))

    def test_refusals(self):
        present = present_levels()
        for level in [*[level for level in LEVELS if level not in present], "sse9", "avx\n"]:
            with self.subTest(level=level):
                done = self.predict(level)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertRegex(done.stderr, r"\Apredict: EMBER_CPU_LEVEL=\S+: "
                                              r".*(lacks it; its best is|expected one of).*\n\Z")
        done = self.predict("avx2", "bf16")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"\Apredict: bf16: needs .* here they are for AVX2; use fp32\n\Z")
        self.assertIn(LACKING, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
