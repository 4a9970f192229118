"""What tools/quickstart.sh refuses before it installs anything, and the help of all scripts for users:
python3 quickstart_test.py [unittest's arguments].
"""

import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "tools" / "quickstart.sh"


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


class Help(unittest.TestCase):
    def test_names_the_flags(self):
        for script, flag in (("quickstart.sh", "--model"), ("test.sh", "--thorough"),
                             ("install_packages.sh", "--tests"), ("gpu_check.sh", "--limit"),
                             ("fetch_goemotions.sh", "--base-url"), ("fetch_tinybert.sh", "--base-url")):
            with self.subTest(script=script):
                done = subprocess.run([ROOT / "tools" / script, "--help"], capture_output=True, text=True, timeout=60)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(flag, done.stdout)
                self.assertNotIn("set -", done.stdout)  # what follows the comment


if __name__ == "__main__":
    unittest.main()
