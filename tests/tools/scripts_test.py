"""What the developers' scripts, and the build's configuration, answer to wrong arguments:
python3 scripts_test.py [unittest's arguments].

The scripts look at their arguments before they look for their packages, which therefore need not be there.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from refusals import Refusals

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60
PEERS = {"train_torch.py": ["--model", ".", "--data", "."],
         "hf_trainer.py": ["--model", ".", "--data", ".", "--rounds", "1"],
         "infer.py": ["--engine", "torch", "--model", ".", "--texts", "README.md"],
         "tokenization.py": ["--model", ".", "--texts", "README.md"],
         "sdpa.py": []}


class Refused(Refusals):
    def refused(self, script, *arguments, contains, flags=()):
        with self.subTest(script=script, arguments=arguments):
            done = subprocess.run([sys.executable, *flags, ROOT / script, *map(str, arguments)], cwd=ROOT,
                                  capture_output=True, text=True, timeout=TIMEOUT)
            self.assert_refused(done, contains, program=Path(script).name)

    def test_peers(self):
        for name, arguments in PEERS.items():
            for flags, contains in ((["--nothing"], "--nothing"),
                                    (["--threads", "-1"], "--threads: '-1': must be a whole number from "),
                                    (["--rounds", "x"], "--rounds: 'x': must be a whole number from ")):
                self.refused(f"bench/peers/{name}", *arguments, *flags, contains=contains)
            if "--model" in arguments:
                self.refused(f"bench/peers/{name}", *arguments, "--model", "README.md",
                             contains="--model: 'README.md': there is no such folder")
        for name in "train_torch.py", "hf_trainer.py":
            self.refused(f"bench/peers/{name}", *PEERS[name], "--data", "/none",
                         contains="'/none': there is no such folder")
        for name in "infer.py", "tokenization.py":
            self.refused(f"bench/peers/{name}", *PEERS[name], "--texts", ".",
                         contains="--texts: '.': there is no such file")

    def test_peers_without_a_gpu(self):
        with tempfile.TemporaryDirectory() as folder:
            no_gpu = "class cuda:\n    is_available = staticmethod(lambda: False)\n"
            for package in "torch", "transformers", "accelerate":
                (Path(folder) / f"{package}.py").write_text(no_gpu)
            with mock.patch.dict(os.environ, PYTHONPATH=folder):
                for name in "train_torch.py", "hf_trainer.py", "infer.py", "sdpa.py":
                    self.refused(f"bench/peers/{name}", *PEERS[name], "--device", "cuda",
                                 contains="--device cuda: PyTorch finds no GPU here")

    def test_build_type(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Relase"],
                                  capture_output=True, text=True, timeout=TIMEOUT)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("CMAKE_BUILD_TYPE is 'Relase'; Release, RelWithDebInfo,", done.stderr)

    def test_device_code(self):
        with tempfile.NamedTemporaryFile() as empty:
            for arguments, contains in (([], "library"), (["/none"], "/none: No such file or directory"),
                                        (["."], ".: Is a directory"), ([empty.name, "--sm", "70"], "70"),
                                        ([empty.name], "no code for sm_75; it has no device code")):
                self.refused("bench/device_code.py", *arguments, contains=contains)

    def test_convert_against_cp(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, contains in (([], "model"), (["/none"], "'/none': there is no such folder"),
                                        ([folder], "holds neither model.safetensors nor"),
                                        ([folder, "--rounds", "0"], "--rounds: '0': must be")):
                self.refused("bench/convert_against_cp.py", folder, *arguments, contains=contains)
            (Path(folder) / "model.safetensors").touch()
            self.refused("bench/convert_against_cp.py", folder, folder, contains="convert_hf: there is no such program")
            convert = Path(folder) / "tools" / "convert_hf"
            convert.parent.mkdir()
            convert.write_text("#!/bin/sh\necho convert_hf: vocab.txt: No such file >&2\nexit 2\n")
            convert.chmod(0o755)
            if Path("/usr/bin/time").exists():
                self.refused("bench/convert_against_cp.py", folder, folder, contains=": convert_hf: vocab.txt: No such")

    def test_scripts_that_need_packages(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            names = ("tools/convert_hf", "tools/predict", "train/train", "tests/parity/hidden_states", "dev.tsv",
                     "train.tsv", "labels.txt")
            for name in names:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).touch(mode=0o755)
            labels = root / "labels.txt"
            by = "not installed; pip install "
            for script, arguments, wrong, package in (
                    ("bench/peers/minilm_directory.py", [root / "out", "--labels", labels],
                     ["--labels", "/none"], "torch: " + by + "-r bench/peers/requirements.txt"),
                    ("tests/parity/minilm.py", [root, root], ["--texts", "0"], "numpy: " + by + "-r bench/peers/req"),
                    ("tests/parity/hf_roundtrip.py", [root, root, labels], ["--dtype", "fp8"], "numpy: " + by),
                    ("tools/generate_unicode_exceptions.py", ["--python", sys.executable],
                     ["--unicodedata2", "/none"], "tokenizers: " + by + "tokenizers==")):
                self.refused(script, contains="required")
                self.refused(script, *arguments, "--nothing", contains="--nothing")
                self.refused(script, *arguments, *wrong, contains=f"{wrong[0]}: ")
                self.refused(script, *arguments, contains=package, flags=["-ES"])  # without Python's site-packages
            for script, rest in ("tests/parity/minilm.py", []), ("tests/parity/hf_roundtrip.py", [labels]):
                self.refused(script, root / "tools", root, *rest, contains="convert_hf: there is no such program")
                self.refused(script, root, root / "tools", *rest, contains=".tsv': there is no such file")
            self.assertFalse((root / "out").exists())

    def test_make_vocabulary(self):
        for arguments, contains in (([], "files"), (["--nothing", "x"], "--nothing"),
                                    (["/none"], "/none: No such file"), (["/dev/null"], "no text"),
                                    (["--size", "0", "/none"], "--size: '0': must be")):
            self.refused("tools/make_vocabulary.py", *arguments, contains=contains)

    def test_mutate(self):
        for arguments, contains in (([], "folders"), ([".", "--nothing"], "CMakeCache.txt': there is no such file")):
            self.refused("tests/simt/mutate.py", *arguments, contains=contains)


if __name__ == "__main__":
    unittest.main()
