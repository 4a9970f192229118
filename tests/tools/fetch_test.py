"""Holds tools/fetch_*.sh to their promises against a local server that cuts, corrupts, refuses and stalls.

    python3 tests/tools/fetch_test.py
"""

import fcntl
import hashlib
import http.server
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("EMBER_SHARED", ROOT.parent / "shared"))
LIMIT = 60  # seconds for one run of a script


def content(size, seed):
    return random.Random(seed).randbytes(size)


def git_blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Remote:
    """One file as the server has it, and how it behaves; `requests` lists (method, Range header or None)."""

    def __init__(self, data, **behaviour):
        self.data = data
        self.requests = []
        self.status = behaviour.get("status")  # answered to everything
        self.cut_at = list(behaviour.get("cut_at", []))  # bytes after which each next answer breaks off
        self.cut_always = behaviour.get("cut_always")  # bytes after which every answer breaks off
        self.stall = behaviour.get("stall", False)  # sends half, then nothing, without closing
        self.ranges = behaviour.get("ranges", True)
        self.headers = behaviour.get("headers", {})
        self.redirect = behaviour.get("redirect")  # where to send the client instead

    def gets(self):
        return [wanted for method, wanted in self.requests if method == "GET"]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        remote = self.server.files.get(self.path)
        if remote is None:
            self.head(404, {})
            return
        wanted = self.headers.get("Range")
        remote.requests.append((self.command, wanted))
        if remote.status:
            self.head(remote.status, {})
        elif remote.redirect:
            self.head(302, {"Location": remote.redirect, **remote.headers})
        else:
            self.send_file(remote, wanted, with_body)

    def send_file(self, remote, wanted, with_body):
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and remote.ranges else 0
        if wanted and start >= len(remote.data):
            self.head(416, {"Content-Range": f"bytes */{len(remote.data)}"})
            return
        body = remote.data[start:]
        headers = {"Content-Length": str(len(body)), **remote.headers}
        if wanted and remote.ranges:
            headers["Content-Range"] = f"bytes {start}-{len(remote.data) - 1}/{len(remote.data)}"
        self.head(206 if wanted and remote.ranges else 200, headers)
        if with_body:
            self.send_body(remote, body)

    def send_body(self, remote, body):
        if remote.stall:
            self.wfile.write(body[: len(body) // 2])
            self.server.released.wait(LIMIT)
            return
        limit = remote.cut_at.pop(0) if remote.cut_at else remote.cut_always
        self.wfile.write(body if limit is None else body[:limit])

    def head(self, status, headers):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.released.set()
        self.shutdown()
        self.server_close()


class FetchCases:
    """Every case; the classes at the end run them once with curl and once with wget alone on the PATH."""

    tool = ""

    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.stop)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ember-fetch-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.target = self.folder / "target"
        self.path = self.folder / "bin"
        self.path.mkdir()
        names = ("bash cat cp cut dirname flock grep mkdir mktemp mv readlink rm sed sha1sum sha256sum sleep stat "
                 "sync").split()
        for name in [*names, self.tool]:
            (self.path / name).symlink_to(shutil.which(name))

    def script(self, name, *arguments, tries=3, timeout=20, tools=ROOT / "tools", user=None, **environment):
        fixed = {"PATH": str(self.path), "HOME": str(self.folder), "EMBER_FETCH_TRIES": str(tries)}
        fixed |= {"EMBER_FETCH_TIMEOUT": str(timeout), "EMBER_FETCH_PAUSE": "0"}
        command = [str(tools / name), *arguments, str(self.target)]
        return subprocess.run(command, env=fixed | environment, capture_output=True, text=True, timeout=LIMIT,
                              user=user)

    def tinybert(self, *arguments, **options):
        return self.script("fetch_tinybert.sh", "--base-url", self.server.url + "/", *arguments, **options)

    def goemotions(self, **options):
        return self.script("fetch_goemotions.sh", EMBER_GOEMOTIONS_URL=self.server.url, **options)

    def hub(self, **weights_behaviour):
        """TinyBERT's three files as the hub serves them: the large one behind a redirect."""
        small = {name: content(1000 + seed, seed) for seed, name in enumerate(["config.json", "vocab.txt"])}
        for name, data in small.items():
            tags = {"ETag": f'"{git_blob(data)}"', "X-Repo-Commit": "0" * 40}
            self.server.files["/" + name] = Remote(data, headers=tags)
        weights = content(300_000, 7)
        tags = {"X-Linked-Etag": f'"{hashlib.sha256(weights).hexdigest()}"', "X-Linked-Size": str(len(weights))}
        self.server.files["/pytorch_model.bin"] = Remote(weights, redirect="/store/weights", headers=tags)
        store = Remote(weights_behaviour.pop("data", weights), headers={"ETag": '"f00"'}, **weights_behaviour)
        self.server.files["/store/weights"] = store
        self.wanted = {**small, "pytorch_model.bin": weights}
        return store

    def assert_complete(self, result):
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        for name, data in self.wanted.items():
            self.assertEqual((self.target / name).read_bytes(), data, name)
        self.assertEqual(list(self.target.glob("*.part")), [])

    def assert_failed(self, result, *words):
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def absent(self, name="pytorch_model.bin"):
        self.assertFalse((self.target / name).exists())

    def test_fetches_everything_and_not_again(self):
        store = self.hub()
        self.assert_complete(self.tinybert())
        self.assertEqual(len(store.gets()), 1)
        before = {path: len(remote.requests) for path, remote in self.server.files.items()}
        result = self.tinybert()
        self.assert_complete(result)
        self.assertEqual(before, {path: len(remote.requests) for path, remote in self.server.files.items()})
        self.assertEqual(result.stdout.count("is there already"), 3)

    def test_needs_no_network_once_complete(self):
        self.hub()
        self.assert_complete(self.tinybert())
        self.assert_complete(self.tinybert("--base-url=http://127.0.0.1:1"))

    def test_takes_a_complete_folder_that_cannot_be_written(self):
        self.hub()
        self.assert_complete(self.tinybert())
        (self.target / ".fetched").unlink()  # as of files that came in another way
        shutil.copytree(ROOT / "tools", self.folder / "tools")
        self.folder.chmod(0o755)
        self.target.chmod(0o555)
        self.addCleanup(self.target.chmod, 0o755)
        as_another = {"tools": self.folder / "tools", "user": 65534 if os.geteuid() == 0 else None}  # root may write
        self.assert_complete(self.tinybert(**as_another))
        self.target.chmod(0o755)
        (self.target / "vocab.txt").unlink()
        self.target.chmod(0o555)
        self.assert_failed(self.tinybert(**as_another), f"{self.target}: cannot be written")

    def test_checks_files_of_other_origin_by_their_digest(self):
        store = self.hub()
        self.target.mkdir()
        for name, data in self.wanted.items():
            (self.target / name).write_bytes(data)
        self.assert_complete(self.tinybert())
        self.assertEqual(store.gets(), [])
        # Changed since: neither the record nor the hub knows it.
        (self.target / "pytorch_model.bin").write_bytes(b"something else")
        self.assert_complete(self.tinybert())
        self.assertEqual(len(store.gets()), 1)

    def test_resumes_after_a_cut(self):
        store = self.hub(cut_at=[100_000, 50_000])
        self.assert_complete(self.tinybert())
        self.assertEqual(store.gets(), [None, "bytes=100000-", "bytes=150000-"])

    def test_resumes_what_an_earlier_run_left(self):
        store = self.hub(cut_always=70_000)
        result = self.tinybert(tries=2)
        self.assert_failed(result, "pytorch_model.bin", "cut", "2 tries", ".part is kept")
        self.absent()
        store.cut_always = None
        self.assert_complete(self.tinybert())
        self.assertEqual(store.gets(), [None, "bytes=70000-", "bytes=140000-"])

    def test_takes_a_part_that_is_already_whole(self):
        store = self.hub()
        self.target.mkdir()
        (self.target / "pytorch_model.bin.part").write_bytes(self.wanted["pytorch_model.bin"])
        self.assert_complete(self.tinybert())
        self.assertEqual(store.gets(), [])

    def test_starts_afresh_where_the_part_is_of_something_else(self):
        for size in (1000, 300_000, 400_000):
            with self.subTest(size=size):
                self.hub()
                shutil.rmtree(self.target, ignore_errors=True)
                self.target.mkdir()
                (self.target / "pytorch_model.bin.part").write_bytes(b"x" * size)
                self.assert_complete(self.tinybert())

    def test_gives_up_when_cut_every_time(self):
        store = self.hub(cut_always=1)
        self.assert_failed(self.tinybert(), "pytorch_model.bin", "cut", "3 tries")
        self.assertEqual(len(store.gets()), 3)
        self.absent()

    def test_starts_afresh_without_range_support(self):
        store = self.hub(cut_at=[100_000], ranges=False)
        self.assert_complete(self.tinybert())
        self.assertLessEqual(len(store.gets()), 3)

    def test_gives_up_when_cut_every_time_without_range_support(self):
        self.hub(cut_always=1000, ranges=False)
        self.assert_failed(self.tinybert(), "pytorch_model.bin")
        self.absent()

    def test_refuses_corrupt_content(self):
        damaged = bytearray(content(300_000, 7))
        damaged[150_000] ^= 1
        store = self.hub(data=bytes(damaged))
        self.assert_failed(self.tinybert(tries=9), "pytorch_model.bin", "damaged", "expected")
        self.absent()
        self.absent("pytorch_model.bin.part")
        self.assertEqual(len(store.gets()), 2, "a damaged copy at the server is not fetched again and again")

    def test_refuses_a_corrupt_small_file(self):
        self.hub()
        self.server.files["/vocab.txt"].data = b"y" + self.wanted["vocab.txt"][1:]
        self.assert_failed(self.tinybert(), "vocab.txt", "damaged")
        self.absent("vocab.txt")

    def test_keeps_the_good_file_when_the_new_one_is_corrupt(self):
        self.hub(data=b"bad")
        self.target.mkdir()
        (self.target / "pytorch_model.bin").write_bytes(b"the user's own")
        self.assert_failed(self.tinybert(), "damaged")
        self.assertEqual((self.target / "pytorch_model.bin").read_bytes(), b"the user's own")

    def test_says_not_found_at_once(self):
        self.hub()
        del self.server.files["/vocab.txt"]
        self.assert_failed(self.tinybert(), "/vocab.txt", "HTTP 404")
        self.absent("vocab.txt")
        gone = self.hub(status=404)
        self.assert_failed(self.tinybert(), "/pytorch_model.bin", "HTTP 404")
        self.assertEqual(len(gone.gets()), 1)
        self.absent()

    def test_tries_again_after_a_server_error(self):
        store = self.hub(status=503)
        self.assert_failed(self.tinybert(), "HTTP 503", "3 tries")
        self.assertEqual(len(store.gets()), 3)
        self.absent()

    def test_gives_up_on_a_server_that_stalls(self):
        self.hub(stall=True)
        start = time.monotonic()
        self.assert_failed(self.tinybert(tries=2, timeout=3), "cut or stalled")
        self.assertLess(time.monotonic() - start, 30)
        self.absent()

    def test_gives_up_without_a_server(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            self.assert_failed(self.tinybert("--base-url", url), url, "cannot be reached")
            self.assert_failed(self.script("fetch_goemotions.sh", "--base-url", url), url, "cannot be reached")
        self.assertEqual([path.name for path in self.target.iterdir()], [])

    def test_names_what_cannot_be_checked(self):
        store = self.hub(cut_at=[100_000])
        self.server.files["/pytorch_model.bin"].headers = {}
        self.server.files["/vocab.txt"].headers = {"ETag": '"' + "a" * 40 + '"'}
        result = self.tinybert()
        self.assert_complete(result)
        for name, times in (("config.json", 0), ("vocab.txt", 1), ("pytorch_model.bin", 1)):
            self.assertEqual(result.stdout.count(f"{name}: cannot be checked"), times, result.stdout)
        self.assertEqual(store.gets(), [None, None], "halves that nothing can check are not put together")

    def test_what_could_not_be_checked_is_checked_later(self):
        self.hub()
        whole = self.server.files["/vocab.txt"]
        self.server.files["/vocab.txt"] = Remote(b"of another mirror")
        self.assertEqual(self.tinybert().returncode, 0)
        self.assertIn("vocab.txt: is there already, unchecked", self.tinybert().stdout)
        self.server.files["/vocab.txt"] = whole
        self.assert_complete(self.tinybert())

    def test_refuses_the_page_of_a_network_that_wants_a_log_in(self):
        page = b"\n <!DOCTYPE html><html>Log in, please</html>"
        for redirect in None, "/login":
            self.server.files["/login"] = Remote(page)
            for name in "config.json", "emotions.txt":
                self.server.files["/" + name] = Remote(page, redirect=redirect)
            for result, name in (self.tinybert(), "config.json"), (self.goemotions(), "emotions.txt"):
                with self.subTest(redirect=redirect, name=name):
                    self.assert_failed(result, name, "a web page came instead of the file")
                    self.assertEqual(list(self.target.iterdir()), [])

    def test_says_what_is_wrong_with_the_temporary_folder(self):
        self.hub()
        self.assert_failed(self.tinybert(TMPDIR="/nonexistent"), "TMPDIR, /nonexistent: no folder can be made there")
        # One in which no file can be made.
        scratch = self.folder / "scratch"
        (scratch / "room").mkdir(parents=True)
        (self.path / "mktemp").unlink()
        (self.path / "mktemp").write_text(f"#!{shutil.which('bash')}\necho '{scratch}'\n")
        (self.path / "mktemp").chmod(0o755)
        self.assert_failed(self.tinybert("--base-url", "http://127.0.0.1:1"), f"{scratch} (TMPDIR): cannot be written")

    def test_keeps_out_of_a_directory_in_use(self):
        self.hub()
        self.target.mkdir()
        descriptor = os.open(self.target, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.assert_failed(self.tinybert(), "another fetch")
        os.close(descriptor)
        self.assert_complete(self.tinybert())

    def test_refuses_bad_arguments(self):
        program = str(ROOT / "tools" / "fetch_goemotions.sh")
        for arguments, words in (
            (["--base-url"], "--base-url needs an address"),
            (["--base-url="], "--base-url needs an address"),
            (["--base-url", "file:///mirror"], "file:///mirror: must begin with https:// or http://"),
            (["--nothing", "one"], "--nothing"),
            (["one", "two"], "two"),
        ):
            result = subprocess.run(
                [program, *arguments], env={"PATH": str(self.path)}, capture_output=True, text=True, timeout=LIMIT
            )
            self.assert_failed(result, words)
        self.assert_failed(self.goemotions(EMBER_FETCH_TRIES="x"), "EMBER_FETCH_TRIES")
        self.target.write_bytes(b"a file")
        self.assert_failed(self.goemotions(), "cannot be made")

    def test_refuses_false_goemotions(self):
        self.server.files["/emotions.txt"] = Remote(b"joy\nanger\n")
        self.assert_failed(self.goemotions(), "emotions.txt", "damaged", "expected 45c3ef86")
        self.assertEqual(list(self.target.iterdir()), [])
        del self.server.files["/emotions.txt"]
        self.assert_failed(self.goemotions(), "emotions.txt", "HTTP 404")

    def test_is_found_through_a_link_and_past_cdpath(self):
        link = self.folder / "link.sh"
        link.symlink_to(ROOT / "tools" / "fetch_goemotions.sh")
        environment = {"PATH": str(self.path), "CDPATH": "."}
        for command in [str(link)], ["tools/fetch_goemotions.sh"]:
            done = subprocess.run([*command, "--help"], env=environment, cwd=ROOT, capture_output=True, text=True,
                                  timeout=LIMIT)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(str(ROOT / "cache" / "goemotions"), done.stdout)

    def test_fetches_goemotions(self):
        real = SHARED / "goemotions"
        if not real.exists():
            self.assertNotEqual(os.environ.get("EMBER_REQUIRE_DATA"), "1", f"{real} is required but absent")
            self.skipTest(f"{real} is not here")
        self.wanted = {name: (real / name).read_bytes() for name in ("labels.txt", "train.tsv", "dev.tsv", "test.tsv")}
        for name, data in self.wanted.items():
            self.server.files["/" + name.replace("labels", "emotions")] = Remote(data)
        self.server.files["/train.tsv"].cut_at = [1_234_567]
        self.assert_complete(self.goemotions())
        self.assertEqual(self.server.files["/train.tsv"].gets(), [None, "bytes=1234567-"])
        (self.target / "dev.tsv").write_bytes(b"damaged later")
        self.assert_complete(self.goemotions())
        self.assertEqual([len(remote.gets()) for remote in self.server.files.values()], [1, 2, 2, 1])


def load_tests(_loader, _tests, _pattern):
    suite = unittest.TestSuite()
    installed = [tool for tool in ("curl", "wget") if shutil.which(tool)]
    assert installed, "curl or wget is needed"
    for tool in installed:
        cases = type(f"With_{tool}", (FetchCases, unittest.TestCase), {"tool": tool})
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(cases))
    print("with", " and with ".join(installed), flush=True)
    return suite


if __name__ == "__main__":
    unittest.main()
