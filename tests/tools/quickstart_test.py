"""What tools/quickstart.sh refuses before it installs anything: python3 quickstart_test.py [unittest's arguments]."""

import subprocess
import unittest
from pathlib import Path

QUICKSTART = Path(__file__).resolve().parents[2] / "tools" / "quickstart.sh"


class Refused(unittest.TestCase):
    def test_flags(self):
        for flags, reason in (
                (["--epochs", "1"], "unknown argument '--epochs' (see --help); train's flags go after --"),
                (["--out"], "--out needs a folder"),
                (["--data", "/none"], "--data /none: no such folder"),
                (["--", "--epochs", "1", "--out", "there"], "--out: give it before --"),
                (["--", "--model=there"], "--model: give it before --")):
            with self.subTest(flags=flags):
                done = subprocess.run([QUICKSTART, *flags], capture_output=True, text=True, timeout=60)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", f"quickstart: {reason}\n"))


if __name__ == "__main__":
    unittest.main()
