"""Runs the built train beside a driver that is too old for its CUDA, of which two functions are enough to be one.
python3 old_driver_test.py TRAIN C++-COMPILER [unittest's arguments]."""

import os
import subprocess
import sys
import tempfile
import unittest

TRAIN = COMPILER = None
SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../data/sample")
DRIVER = """extern "C" int cuInit(unsigned) { return 0; }
extern "C" int cuDriverGetVersion(int* version) { return *version = 11080, 0; }
"""
TOO_OLD = "the NVIDIA driver is for CUDA 11.8, and this program was built with CUDA 1"


class OldDriverTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="ember driver ")
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name
        source, library = os.path.join(self.folder, "driver.cpp"), os.path.join(self.folder, "libcuda.so.1")
        with open(source, "w") as file:
            file.write(DRIVER)
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source], check=True)

    def train(self, *flags):
        command = [TRAIN, "--model", SAMPLE + "/model", "--data", SAMPLE, "--out", os.path.join(self.folder, "out"),
                   "--from-scratch", "--max-steps", "1", *flags]
        return subprocess.run(command, env={**os.environ, "LD_LIBRARY_PATH": self.folder}, capture_output=True,
                              text=True, timeout=120)

    def test_auto_takes_the_cpu_and_says_why(self):
        ended = self.train()
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn("--device auto takes the CPU: " + TOO_OLD, ended.stderr)
        self.assertIn("on cpu", ended.stderr)

    def test_whoever_asks_for_less_is_told_nothing(self):
        self.assertNotIn("driver", self.train("--device", "cpu").stderr)
        self.assertNotIn("driver", self.train("--precision", "fp32", "--overwrite").stderr)
        self.assertEqual(self.train("--quiet", "--overwrite").stderr, "")

    def test_what_only_a_gpu_can_do_is_refused(self):
        for flags, says in ((["--device", "cuda"], "--device cuda: " + TOO_OLD),
                            (["--precision", "fp16"], "the CPU does not compute in fp16, and " + TOO_OLD)):
            ended = self.train(*flags)
            self.assertEqual((ended.returncode, ended.stderr.count("\n")), (2, 1), ended.stderr)
            self.assertIn(says, ended.stderr)


if __name__ == "__main__":
    TRAIN, COMPILER = sys.argv[1], sys.argv[2]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
