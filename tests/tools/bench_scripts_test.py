"""What the scripts of bench/ answer to wrong arguments: python3 bench_scripts_test.py [unittest's arguments].

The peers look at their arguments before they look for their packages, which therefore need not be there.
"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60
PEERS = {"train_torch.py": ["--model", ".", "--data", "."],
         "hf_trainer.py": ["--model", ".", "--data", ".", "--rounds", "1"],
         "infer.py": ["--engine", "torch", "--model", ".", "--texts", "README.md"],
         "tokenization.py": ["--model", ".", "--texts", "README.md"],
         "sdpa.py": []}


class Refused(unittest.TestCase):
    def refused(self, script, *arguments, contains):
        with self.subTest(script=script, arguments=arguments):
            done = subprocess.run([sys.executable, ROOT / "bench" / script, *map(str, arguments)], cwd=ROOT,
                                  capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertTrue(done.stderr.startswith(f"{Path(script).name}: "), done.stderr)
            self.assertIn(contains, done.stderr)

    def test_peers(self):
        for name, arguments in PEERS.items():
            for flags, contains in ((["--nothing"], "--nothing"),
                                    (["--threads", "-1"], "--threads: '-1': must be a whole number from "),
                                    (["--rounds", "x"], "--rounds: 'x': must be a whole number from ")):
                self.refused(f"peers/{name}", *arguments, *flags, contains=contains)
            if "--model" in arguments:
                self.refused(f"peers/{name}", *arguments, "--model", "README.md",
                             contains="--model: 'README.md': there is no such folder")
        for name in "train_torch.py", "hf_trainer.py":
            self.refused(f"peers/{name}", *PEERS[name], "--data", "/none", contains="'/none': there is no such folder")
        for name in "infer.py", "tokenization.py":
            self.refused(f"peers/{name}", *PEERS[name], "--texts", ".", contains="--texts: '.': there is no such file")

    def test_device_code(self):
        with tempfile.NamedTemporaryFile() as empty:
            for arguments, contains in (([], "library"), (["/none"], "/none: No such file or directory"),
                                        (["."], ".: Is a directory"), ([empty.name, "--sm", "70"], "70"),
                                        ([empty.name], "no code for sm_75; it has no device code")):
                self.refused("device_code.py", *arguments, contains=contains)

    def test_convert_against_cp(self):
        with tempfile.TemporaryDirectory() as folder:
            self.refused("convert_against_cp.py", folder, contains="model")
            self.refused("convert_against_cp.py", folder, "/none", contains="'/none': there is no such folder")
            self.refused("convert_against_cp.py", folder, folder, contains="holds neither model.safetensors nor")
            self.refused("convert_against_cp.py", folder, folder, "--rounds", "0", contains="--rounds: '0': must be")
            (Path(folder) / "model.safetensors").touch()
            self.refused("convert_against_cp.py", folder, folder, contains="/convert_hf: there is no such program")


if __name__ == "__main__":
    unittest.main()
