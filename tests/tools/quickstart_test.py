"""What tools/quickstart.sh refuses before it installs anything, what it makes of the network and says when it is
interrupted, with made-up programs in the place of those that it installs and builds, and the help of all scripts for
users: python3 quickstart_test.py [unittest's arguments].
"""

import http.server
import os
import shutil
import subprocess
import tempfile
import threading
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


class MadeUp(unittest.TestCase):
    """quickstart.sh in a tree of its own, where what it would install and build is a script that does nothing."""

    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="ember-quickstart-"))
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copytree(ROOT / "tools", self.root / "tools")
        for name in ("tools/install_packages.sh", "bin/cmake", "build/tools/evaluate", "build/tools/predict"):
            self.program(name, "")
        self.program("build/train/train", 'echo "$@"')

    def program(self, name, script):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def quickstart(self, *flags, url="http://127.0.0.1:1"):
        environment = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}", "no_proxy": "127.0.0.1",
                       "EMBER_GOEMOTIONS_URL": url, "EMBER_TINYBERT_URL": url}
        return subprocess.run(["tools/quickstart.sh", *flags], cwd=self.root, capture_output=True, text=True,
                              timeout=60, env=environment)


class Configuration(MadeUp):
    def test_a_toolkit_that_is_not_used_is_named(self):
        self.program("bin/cmake", "echo '-- CUDA 11.5.119 is older than 12.2: the CUDA backend is not built'")
        self.assertIn("\nCUDA 11.5.119 is older than 12.2: the CUDA backend is not built\n", self.quickstart().stdout)

    def test_a_build_folder_that_cannot_be_written(self):
        (self.root / "build" / "configure.log").mkdir()
        done = self.quickstart()
        self.assertEqual((done.returncode, done.stderr), (2, f"quickstart: {self.root}/build: cannot be written\n"))

    def test_packages_need_a_temporary_file(self):
        self.program("none/id", "echo 0")
        self.program("none/apt-get", "exit 1")  # and no dpkg-query, which would find them installed
        for name in "bash", "sed", "grep", "mktemp":
            (self.root / "none" / name).symlink_to(shutil.which(name))
        done = subprocess.run([self.root / "none/bash", ROOT / "tools" / "install_packages.sh"], capture_output=True,
                              text=True, timeout=60, env={"PATH": f"{self.root}/none", "TMPDIR": "/nonexistent"})
        self.assertEqual((done.returncode, done.stderr),
                         (2, "install_packages: TMPDIR, /nonexistent: no file can be made there\n"))

    def test_a_build_that_cannot_be_configured(self):
        self.program("bin/cmake", "echo Does not match the generator used previously; exit 1")
        done = self.quickstart()
        self.assertEqual((done.returncode, done.stderr), (2, (
            "Does not match the generator used previously\nquickstart: the build could not be configured; what another "
            f"place or generator left in {self.root}/build goes with rm -r\n")))


class Interrupted(MadeUp):
    def test_says_how_to_go_on(self):
        self.program("build/train/train", "mkdir -p out/quickstart/checkpoints/step-1; exit 130")
        for flags, again in (
                ([], "-- --resume"),
                (["--out", "out/quickstart", "--", "--overwrite", "--seed", "4 2"],
                 "--out out/quickstart -- --seed 4\\ 2 --resume"),
                (["--", "--resume"], "-- --resume")):
            with self.subTest(flags=flags):
                shutil.rmtree(self.root / "out", ignore_errors=True)
                done = self.quickstart(*flags)
                self.assertEqual((done.returncode, done.stderr), (130, ""))
                self.assertTrue(done.stdout.endswith(f"\nTo go on: tools/quickstart.sh {again}\n"), done.stdout)

    def test_with_nothing_saved_there_is_nothing_to_go_on_with(self):
        (self.root / "out/quickstart/checkpoints/step-1").mkdir(parents=True)  # an earlier run's
        os.utime(self.root / "out/quickstart/checkpoints", (1, 1))
        self.program("build/train/train", "exit 130")
        done = self.quickstart()
        self.assertEqual((done.returncode, done.stderr), (130, ""))
        self.assertNotIn("To go on", done.stdout)


class Refusing(http.server.BaseHTTPRequestHandler):
    """With the status that the address begins with."""

    def do_HEAD(self):
        self.send_error(int(self.path.split("/")[1]))

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


class Network(MadeUp):
    def test_without_one_it_takes_the_sample(self):
        done = self.quickstart()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("No network (http://127.0.0.1:1/test.tsv cannot be reached)", done.stdout)
        self.assertIn("--model data/sample/model --data data/sample", done.stdout)
        done = self.quickstart("--data", str(self.root))
        self.assertEqual((done.returncode, done.stderr),
                         (2, "quickstart: http://127.0.0.1:1/config.json cannot be reached; give both --model and "
                             "--data\n"))

    def test_a_wrong_address_is_no_lack_of_one(self):
        url = self.refusing_server() + "/404"
        done = self.quickstart(url=url)
        self.assertEqual((done.returncode, done.stderr),
                         (2, f"fetch_goemotions.sh: {url}/emotions.txt: the server answers HTTP 404\n"))

    def test_what_a_gateway_forbids_cannot_be_reached(self):
        url = self.refusing_server() + "/403"
        done = self.quickstart(url=url)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"No network ({url}/test.tsv cannot be reached)", done.stdout)

    def refusing_server(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"


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
