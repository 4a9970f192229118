"""Threads under a real quota of processors' time: cpu_quota_test.py TRAIN

Needs a control group that this user may make; what has none says so.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TRAIN = sys.argv[1]
SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "data" / "sample"
GROUPS = pathlib.Path("/sys/fs/cgroup")


def limited_group(processors):
    """A new group with that quota, of version 1 or 2; None where none can be made."""
    for parent, quota in (GROUPS / "cpu", "cpu.cfs_quota_us"), (GROUPS, "cpu.max"):
        if not (parent / "cgroup.procs").exists():
            continue
        group = parent / f"ember-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / quota).write_text(str(int(processors * 100_000)))  # of a period that is 100,000 unless told
            return group
        except OSError:
            group.rmdir()
    return None


class CpuQuota(unittest.TestCase):
    def setUp(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skip("one processor alone is no more than any quota")
        self.group = limited_group(0.5)
        if self.group is None:
            self.skip("no control group with a quota can be made here")
        self.addCleanup(self.group.rmdir)

    def skip(self, why):
        print(f"SKIPPED: threads under a quota: {why}", flush=True)
        self.skipTest(why)

    def first_line(self, *flags, **variables):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run([TRAIN, "--model", SAMPLE / "model", "--data", SAMPLE, "--out", out,
                                   "--device", "cpu", "--from-scratch", "--max-steps", "1", *flags],
                                  preexec_fn=lambda: (self.group / "cgroup.procs").write_text(str(os.getpid())),
                                  env={**environment, **variables}, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr.splitlines()[0]

    def test_a_quota_of_half_a_processor_is_one_thread(self):
        self.assertIn("on cpu (1 thread,", self.first_line())

    def test_what_was_asked_for_is_taken(self):
        self.assertIn("on cpu (2 threads,", self.first_line("--threads", "2"))
        self.assertIn("on cpu (2 threads,", self.first_line(OMP_NUM_THREADS="2"))


unittest.main(argv=sys.argv[:1])
