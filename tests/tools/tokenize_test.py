"""Runs the built tokenize: python3 tokenize_test.py TOKENIZE [unittest's arguments]."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import unittest

TOKENIZE = None
TIMEOUT = 60
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] cafe Café ##s ! a".split()


def setUpModule():
    global scratch, vocabulary
    scratch = tempfile.mkdtemp(prefix="ember tokenize ")
    vocabulary = os.path.join(scratch, "vocab.txt")
    with open(vocabulary, "w", encoding="utf-8") as file:
        file.write("\n".join(VOCABULARY) + "\n")


def tearDownModule():
    shutil.rmtree(scratch)


def run(*arguments, stdin=b""):
    """`stdin` is what to feed, or a descriptor to read from."""
    source = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run([TOKENIZE, *arguments], capture_output=True, timeout=TIMEOUT, **source)


def tokenize(*arguments, stdin):
    """Standard output of a run that must succeed without a word on stderr."""
    done = run("--vocab", vocabulary, *arguments, stdin=stdin)
    assert done.returncode == 0 and done.stderr == b"", (done.returncode, done.stderr)
    return done.stdout


class Ids(unittest.TestCase):
    def test_lines(self):
        text = "Cafés! a\n\nz [MASK]\r\nlast: a".encode()
        self.assertEqual(tokenize(stdin=text), b"2 5 7 8 9 3\n2 3\n2 1 4 3\n2 1 1 9 3\n")
        self.assertEqual(tokenize(stdin=b""), b"")

    def test_max_length(self):
        self.assertEqual(tokenize("--max-length", "3", stdin=b"a a a\n"), b"2 9 3\n")
        self.assertEqual(tokenize("--max-length", "2", stdin=b"a a a\n"), b"2 3\n")
        self.assertEqual(len(tokenize(stdin=b"a " * 1000).split()), 128)

    def test_cased(self):
        self.assertEqual(tokenize("--cased", stdin="Cafés cafe A".encode()), b"2 6 7 5 1 3\n")

    def test_bytes_that_are_not_utf8_are_left_out(self):
        self.assertEqual(tokenize(stdin=b"ca\xfffe a\0\n"), b"2 5 9 3\n")
        self.assertEqual(tokenize("--jsonl", stdin=b'"ca\xfffe"\n'), b"[2,5,3]\n")

    def test_jsonl(self):
        lines = ['"Caf\\u00e9\\n!"', '{"text": "a", "labels": [1]}', '{"text": ""}', '"\\u0000"']
        out = tokenize("--jsonl", stdin="\n".join(lines).encode())
        self.assertEqual([json.loads(line) for line in out.splitlines()], [[2, 5, 8, 3], [2, 9, 3], [2, 3], [2, 3]])

    def test_answers_come_as_the_lines_do(self):
        pipe = subprocess.PIPE
        with subprocess.Popen([TOKENIZE, "--vocab", vocabulary], stdin=pipe, stdout=pipe) as process:
            for line, answer in ((b"a\n", b"2 9 3\n"), (b"\n", b"2 3\n")):
                process.stdin.write(line)
                process.stdin.flush()
                self.assertTrue(select.select([process.stdout], [], [], TIMEOUT)[0])
                self.assertEqual(os.read(process.stdout.fileno(), 100), answer)

    def test_much_input(self):
        out = tokenize(stdin=b"a !\n" * 100000)
        self.assertEqual(out, b"2 9 8 3\n" * 100000)

    def test_a_full_pipe_that_does_not_block(self):
        text = os.path.join(scratch, "much.txt")
        with open(text, "wb") as file:
            file.write(b"a !\n" * 100000)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ: it takes a part of what is written at once
        with open(text, "rb") as file, subprocess.Popen([TOKENIZE, "--vocab", vocabulary], stdin=file,
                                                        stdout=writer) as process, open(reader, "rb") as out:
            os.close(writer)
            self.test_much_input()  # takes long enough for the other to fill the pipe
            self.assertEqual(out.read(), b"2 9 8 3\n" * 100000)
            self.assertEqual(process.wait(TIMEOUT), 0)


class BadInput(unittest.TestCase):
    def refused(self, *arguments, says, stdin=b""):
        done = run(*arguments, stdin=stdin)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (2, 1), done.stderr)
        self.assertIn(says.encode(), done.stderr)

    def test_command_line(self):
        self.refused(says="--vocab")
        self.refused("--vocab", vocabulary, "--max-length", "1",
                     says="--max-length 1: must be a whole number from 2 on")
        self.refused("--vocab", vocabulary, "--max-length", "x", says="--max-length")
        self.refused("--vocab", vocabulary, "--nonsense", says="--nonsense")
        self.refused("--vocab", os.path.join(scratch, "none.txt"), says="none.txt")
        self.refused("--vocab", scratch, says=scratch)

    def test_vocabulary(self):
        broken = os.path.join(scratch, "broken.txt")
        with open(broken, "w") as file:
            file.write("[PAD]\n[UNK]\n[SEP]\n")
        self.refused("--vocab", broken, says="has no [CLS]")

    def test_json(self):
        for bad in (b"", b"{", b'"a', b"7", b"[]", b'{"txt": "a"}', b'{"text": 1}', b'{"text": "a"', b'"a" "b"',
                    b'["text", {"text": "a"}]', b'"\\ud800"'):
            with self.subTest(bad):
                self.refused("--vocab", vocabulary, "--jsonl", stdin=b'"a"\n' + bad + b"\n", says="standard input:2: ")
        twice = b'{"text": "a", "text": "b"}\n'
        self.refused("--vocab", vocabulary, "--jsonl", stdin=twice, says='key "text" stands there twice')
        self.refused("--vocab", vocabulary, "--jsonl", stdin=b'"a"\0 x\n', says="NUL")
        self.refused("--vocab", vocabulary, "--jsonl", stdin=b"hi\n",
                     says="standard input:1: hi: not JSON: parse error")

    def test_utf16(self):
        for mark in b"\xff\xfe", b"\xfe\xff":
            self.refused("--vocab", vocabulary, stdin=mark + b"\0a\0\n",
                         says="standard input: is UTF-16, UTF-8 was expected")

    def test_lines_before_a_bad_one_are_answered(self):
        done = run("--vocab", vocabulary, "--jsonl", stdin=b'"a"\n"!"\n3\n"a"\n')
        self.assertEqual((done.returncode, done.stdout), (2, b"[2,9,3]\n[2,8,3]\n"), done.stderr)

    def test_many_objects_in_a_line(self):
        line = b'{"a": [' + b",".join([b"{}"] * 200000) + b'], "text": "a"}\n'
        self.assertEqual(tokenize("--jsonl", stdin=line), b"[2,9,3]\n")

    def test_streams(self):
        folder = os.open(scratch, os.O_RDONLY)
        self.refused("--vocab", vocabulary, stdin=folder, says="standard input: Is a directory")
        os.close(folder)
        with open("/dev/full", "wb") as full:
            command = [TOKENIZE, "--vocab", vocabulary]
            done = subprocess.run(command, input=b"a\n", stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"standard output", done.stderr)
        done = subprocess.run(command, input=b"a\n", stderr=subprocess.PIPE, timeout=TIMEOUT,
                              preexec_fn=lambda: os.close(1))
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"standard output", done.stderr)

    def test_help(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"--vocab", done.stdout)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([TOKENIZE, "--help"], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"standard output", done.stderr)


if __name__ == "__main__":
    TOKENIZE = os.path.abspath(sys.argv.pop(1))
    unittest.main()
