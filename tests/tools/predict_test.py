"""Runs the built predict on tiny models: python3 predict_test.py PREDICT [unittest's arguments]."""

import json
import math
import os
import select
import shutil
import subprocess
import sys
import tempfile
import unittest

from refusals import Refusals
from tiny_model import LABELS, POSITIONS, VOCABULARY, WORDS, write_model

PREDICT = None
SCORES = [0.1, 0.93, 0.31, 0.02, 0.2]
TIMEOUT = 120


def setUpModule():
    global scratch, fixed, drawn
    scratch = tempfile.mkdtemp(prefix="ember predict ")
    fixed, drawn = os.path.join(scratch, "fixed"), os.path.join(scratch, "drawn")
    write_model(fixed, scores=SCORES)  # every text scores SCORES
    write_model(drawn)


def tearDownModule():
    shutil.rmtree(scratch)


def start(*arguments, **streams):
    return subprocess.Popen([PREDICT, *arguments], stderr=subprocess.PIPE, **streams)


def predict(*arguments, stdin=b""):
    """Standard output of a run that must succeed without a word on stderr."""
    done = subprocess.run([PREDICT, *arguments], input=stdin, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0 and done.stderr == b"", (done.returncode, done.stderr)
    return done.stdout


def rows(*arguments, stdin=b""):
    return [json.loads(line) for line in predict("--format", "jsonl", *arguments, stdin=stdin).splitlines()]


def logits(*arguments, stdin=b""):
    return [row["logits"] for row in rows("--model", drawn, "--all", *arguments, stdin=stdin)]


class Formats(unittest.TestCase):
    def test_text(self):
        self.assertEqual(predict("--model", fixed, "I am happy!"), b"I am happy!\tjoy 0.93, love 0.31\n")
        self.assertEqual(predict("--model", fixed, "--threshold", "0.95", "a", "b"),
                         b"a\tnothing above 0.95\nb\tnothing above 0.95\n")
        self.assertEqual(predict("--model", fixed, "--threshold", "0.15", "a"),
                         b"a\tjoy 0.93, love 0.31, neutral 0.20\n")
        for flags in ["--all"], ["--threshold", "0"]:
            self.assertEqual(predict("--model", fixed, *flags, "a"),
                             b"a\tjoy 0.93, love 0.31, neutral 0.20, admiration 0.10, sadness 0.02\n")

    def test_equal_scores_at_the_threshold_are_shown_in_the_order_of_the_labels(self):
        model = os.path.join(scratch, "equal")
        write_model(model, scores=[0.5, 0.75, 0.5, 0.25, 0.5])
        self.assertEqual(predict("--model", model, "--threshold", "0.5", "a"),
                         b"a\tjoy 0.75, admiration 0.50, love 0.50, neutral 0.50\n")

    def test_top_counts_whatever_the_threshold(self):
        self.assertEqual(predict("--model", fixed, "--top", "1", "a"), b"a\tjoy 0.93\n")
        self.assertEqual(predict("--model", fixed, "--top", "3", "a"), b"a\tjoy 0.93, love 0.31, neutral 0.20\n")
        self.assertEqual(predict("--model", fixed, "--top", "9999999999", "a").count(b","), 4)

    def test_jsonl(self):
        row, = rows("--model", fixed, 'say "hi"\t\\ é')
        self.assertEqual(list(row), ["text", "labels"])
        self.assertEqual(row["text"], 'say "hi"\t\\ é')
        self.assertEqual([label["label"] for label in row["labels"]], ["joy", "love"])
        for label, score in zip(row["labels"], [0.93, 0.31]):
            self.assertAlmostEqual(label["score"], score, places=6)

    def test_jsonl_all_has_every_label_in_order_and_logits(self):
        row, = rows("--model", drawn, "--all", "the cat was great")
        self.assertEqual([label["label"] for label in row["labels"]], LABELS)
        self.assertEqual(len(row["logits"]), len(LABELS))
        for label, logit in zip(row["labels"], row["logits"]):
            self.assertAlmostEqual(label["score"], 1 / (1 + math.exp(-logit)), places=6)

    def test_tsv(self):
        lines = predict("--model", fixed, "--format", "tsv", "a", "b c").decode().split("\n")
        self.assertEqual(lines[0], "text\tlabels\tscores")
        self.assertEqual(lines[1], "a\tjoy,love\t0.930000,0.310000")
        self.assertEqual(lines[2:], ["b c\tjoy,love\t0.930000,0.310000", ""])
        self.assertEqual(predict("--model", fixed, "--format", "tsv", "--threshold", "1", "a").splitlines()[1],
                         b"a\t\t")

    def test_tsv_has_the_id_of_a_name_with_a_comma(self):
        model = os.path.join(scratch, "commas")
        names = [f"{name}, or so" if name == "love" else name for name in LABELS]
        write_model(model, scores=SCORES, labels=names)
        self.assertEqual(predict("--model", model, "--format", "tsv", "a").decode().splitlines()[1],
                         f"a\tjoy,{LABELS.index('love')}\t0.930000,0.310000")
        self.assertEqual(predict("--model", model, "a"), b"a\tjoy 0.93, love, or so 0.31\n")

    def test_tsv_all_has_a_column_a_label(self):
        header, line = predict("--model", fixed, "--format", "tsv", "--all", "a").decode().splitlines()
        self.assertEqual(header.split("\t"), ["text"] + LABELS)
        self.assertEqual(line, "a\t0.100000\t0.930000\t0.310000\t0.020000\t0.200000")

    def test_escapes(self):
        text = "a\tb\nc\rd\\e"
        for form in "text", "tsv":
            line = predict("--model", fixed, "--format", form, text).splitlines()[-1]
            self.assertEqual(line.split(b"\t")[0], b"a\\tb\\nc\\rd\\\\e")
        self.assertEqual(rows("--model", fixed, text)[0]["text"], text)

    def test_names_are_escaped_too(self):
        model = os.path.join(scratch, "tab")
        write_model(model, scores=SCORES, labels=["one\ttwo", *LABELS[1:]])
        self.assertEqual(predict("--model", model, "--format", "tsv", "--all").decode(),
                         "\t".join(["text", "one\\ttwo", *LABELS[1:]]) + "\n")
        self.assertIn(b", one\\ttwo 0.10, ", predict("--model", model, "--all", "a"))

    def test_invalid_utf8_is_replaced(self):
        for form in "text", "tsv", "jsonl":
            out = predict("--model", fixed, "--format", form,
                          stdin=b"a\xff b\xc3\nx\xe2\x82\n\xf0\x9f\x98\x80\n").decode()
            for expected in "a\ufffd b\ufffd", "x\ufffd", "\U0001f600":
                self.assertIn(expected, out)
        self.assertEqual(logits(stdin=b"i am\xff happy\n"), logits(stdin=b"i am happy\n"))
        self.assertEqual(logits(stdin=b"\xef\xbb\xbfi am happy\n\xff\xfea\n"), logits(stdin=b"i am happy\na\n"))

    def test_help_and_no_input(self):
        self.assertIn(b"TEXT", predict("--help"))
        self.assertEqual(predict("-h"), predict("--help"))
        self.assertEqual(predict("--model", fixed), b"")
        self.assertEqual(predict("--model", fixed, "--format", "tsv"), b"text\tlabels\tscores\n")


class Input(unittest.TestCase):
    def test_texts_that_look_like_something_else(self):
        texts = ["[name] is [happy], [sad]", "[a,b]", "", "x=y", "@file", "/x"]
        self.assertEqual([row["text"] for row in rows("--model", fixed, *texts)], texts)
        self.assertEqual([row["text"] for row in rows("--model", fixed, "a", "--", "-b", "--all", "--")],
                         ["a", "-b", "--all", "--"])
        self.assertEqual([row["text"] for row in rows("a", "--model", fixed, "-")], ["a", "-"])
        self.assertEqual([row["text"] for row in rows("--model", fixed, "--", "-h")], ["-h"])

    def test_lines_keep_their_order_and_their_scores(self):
        words = WORDS * 3
        texts = [" ".join(words[i % 17:i % 17 + i % 23]) for i in range(3000)]
        together = rows("--model", drawn, "--all", stdin="\n".join(texts).encode())
        self.assertEqual([row["text"] for row in together], texts)
        seen = set()
        for i in list(range(0, 60)) + [511, 512, 513, 1024, 2999]:
            if i < 60 and i % 6:
                continue
            alone, = logits(texts[i] or "")
            seen.add(tuple(round(x, 3) for x in alone))
            for x, y in zip(together[i]["logits"], alone):
                self.assertAlmostEqual(x, y, delta=2e-5 * (1 + abs(y)))
        self.assertGreater(len(seen), 8)

    def test_line_ends(self):
        stdin = b"a\r\n\n b \nc\rd\r\r\n\0\nlast"
        self.assertEqual([row["text"] for row in rows("--model", fixed, stdin=stdin)],
                         ["a", "", " b ", "c\rd\r", "\0", "last"])

    def test_answers_what_has_come_before_more_comes(self):
        process = start("--model", fixed, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            for text in b"one", b"two", b"three":
                process.stdin.write(text + b"\nbegun ")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], TIMEOUT)
                self.assertTrue(ready, "no answer while the stream is open")
                answer = os.read(process.stdout.fileno(), 1000)
                self.assertTrue(answer.endswith(text + b"\tjoy 0.93, love 0.31\n"), answer)
            process.stdin.close()
            self.assertEqual(process.stdout.read(), b"begun \tjoy 0.93, love 0.31\n")
            self.assertEqual(process.wait(TIMEOUT), 0)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def test_a_stream_that_does_not_block(self):
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        process = start("--model", fixed, stdin=reader, stdout=subprocess.PIPE)
        os.close(reader)
        for text in b"one", b"two":
            os.write(writer, text + b"\n")
            self.assertEqual(process.stdout.readline(), text + b"\tjoy 0.93, love 0.31\n")
            predict("--model", fixed, "a")  # takes long enough for the other to find nothing to read
        os.close(writer)
        self.assertEqual(process.communicate(timeout=TIMEOUT), (b"", b""))
        self.assertEqual(process.returncode, 0)

    def test_long_lines_are_cut_between_characters(self):
        stdin = "x".encode() + "é".encode() * 50000 + b"\r\nnext\n" + b"y" * 65536 + b"\n" + b"z" * 65537
        stdin += b"\n" + b"v" * 65536 + b"\r\n" + b"w" * 65536 + b"\rw\n" + b"u" * 65535 + b"\ru\n"
        stdin += b"t" * 300000 + b"\n" + "s".encode() + "\U0001f600".encode() * 20000 + b"\n"
        done = subprocess.run([PREDICT, "--model", fixed, "--format", "jsonl"], input=stdin, capture_output=True,
                              timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr)
        texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
        self.assertEqual(texts, ["x" + "é" * 32767, "next", "y" * 65536, "z" * 65536, "v" * 65536, "w" * 65536,
                                 "u" * 65535 + "\r", "t" * 65536, "s" + "\U0001f600" * 16383])
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertIn(b"6 lines", done.stderr)

    def test_memory_is_bounded(self):
        def peak(pieces):
            reader, writer = os.pipe()
            # What AddressSanitizer keeps of freed memory would count too.
            options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4"
            process = start("--model", fixed, "--threads", "1", stdin=reader, stdout=subprocess.DEVNULL,
                            env=dict(os.environ, ASAN_OPTIONS=options))
            os.close(reader)
            with open(writer, "wb") as stream:
                for piece in pieces:
                    stream.write(piece)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            process.stderr.close()
            self.assertEqual(process.returncode, 0)
            return usage.ru_maxrss

        one = peak([b"i am happy\n"])
        self.assertLess(peak([b"i " * (1 << 19)] * 64), one + 30000)  # one line of 64 MiB
        self.assertLess(peak([b"i" * 20000 + b"\n"] * 4000), one + 30000)  # 80 MB of lines

    def test_max_length(self):
        text = "i am so happy you the cat"
        self.assertNotEqual(logits(text), logits("i am so"))

        def cut(*arguments, stdin=b""):
            done = subprocess.run([PREDICT, "--model", drawn, "--format", "jsonl", "--all", *arguments], input=stdin,
                                  capture_output=True, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 0, done.stderr)
            return [json.loads(line)["logits"] for line in done.stdout.splitlines()], done.stderr.decode()

        self.assertEqual(cut("--max-length", "5", text, "i am so"),
                         (logits("i am so") * 2, "predict: 1 text is cut to 5 tokens (--max-length)\n"))
        lines = (text + "\ni am so\n").encode() * 600
        self.assertEqual(cut("--max-length", "5", stdin=lines)[1],
                         "predict: 600 texts are cut to 5 tokens (--max-length)\n")
        longest = " ".join(WORDS * 9)
        self.assertEqual(cut(longest), cut("--max-length", str(POSITIONS), longest))

    def test_threads(self):
        for x, y in zip(logits("--threads", "1", "so sad")[0], logits("--threads", "2", "so sad")[0]):
            self.assertAlmostEqual(x, y, places=5)


class Errors(Refusals):
    def refused(self, *arguments, contains, stdin=b"a\n", stdout=subprocess.PIPE):
        done = subprocess.run([PREDICT, *arguments], input=stdin if isinstance(stdin, bytes) else None,
                              stdin=None if isinstance(stdin, bytes) else stdin, stdout=stdout,
                              stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assert_refused(done, contains, program="predict")

    def broken(self, name, **options):
        directory = os.path.join(scratch, name)
        write_model(directory, **options)
        return directory

    def test_tsv_of_two_labels_that_would_have_one_name(self):
        model = self.broken("alike", scores=SCORES, labels=["so, so", "0", *LABELS[2:]])
        self.refused("--model", model, "--format", "tsv", "a",
                     contains="label \"so, so\" has a comma, so that its id 0 would stand there")
        self.assertEqual(predict("--model", model, "--format", "tsv", "--all", "a").split(b"\n")[0].count(b"\t"),
                         len(LABELS))

    def test_flags(self):
        for flags, contains in [
            (["--threshold", "nan"], "nan"), (["--threshold", "-0.1"], "-0.1"),
            (["--threshold", "1.01"], "--threshold 1.01: must be a number from 0 to 1\n"),
            (["--threshold", "inf"], "inf"), (["--threshold", "high"], "--threshold"),
            (["--top", "0"], "--top 0: must be a whole number from 1 on\n"),
            (["--top", "-1"], "--top -1"), (["--top", "x"], "--top"), (["--format", "xml"], "--format"),
            (["--max-length", "1"], "--max-length 1"), (["--max-length", "33"], "32"),
            (["--threads", "-1"], "--threads"), (["--precision", "fp8"], "--precision"),
            (["--all", "--top", "2"], "--all"),
            (["--threshold", "0.25", "--all"], "--threshold excludes --all"),
            (["--threshold", "0.25", "--top", "2"], "--threshold excludes --top"),
            (["--threads", "99999"], "--threads 99999: must be a whole number from 0 to 4096"),
            (["--treshold", "0.3"], "--treshold"), (["-x"], "-x"),
        ]:
            with self.subTest(flags=flags):
                self.refused("--model", fixed, *flags, "text", contains=contains)
        self.refused("text", contains="--model")

    def test_utf16(self):
        for coding, mark in ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"):
            self.refused("--model", fixed, stdin=mark + "so sad\nso happy\n".encode(coding),
                         contains="predict: standard input: is UTF-16, UTF-8 was expected")

    def test_model_directory(self):
        absent = os.path.join(scratch, "absent")
        self.refused("--model", absent, contains=absent)
        self.refused("--model", os.path.join(fixed, "vocab.txt"), contains="vocab.txt")
        for name in "config.json", "vocab.txt", "model.safetensors":
            directory = self.broken("without " + name)
            os.remove(os.path.join(directory, name))
            self.refused("--model", directory, contains=name)
            os.mkdir(os.path.join(directory, name))
            self.refused("--model", directory, contains=name)

    def test_truncated_weights(self):
        directory = self.broken("truncated")
        path = os.path.join(directory, "model.safetensors")
        size = os.path.getsize(path)
        for kept in 0, 4, 100, size // 2, size - 1:
            os.truncate(path, 0)
            with open(os.path.join(drawn, "model.safetensors"), "rb") as whole, open(path, "wb") as file:
                file.write(whole.read(kept))
            self.refused("--model", directory, contains="model.safetensors")

    def test_vocabulary_larger_than_the_embedding(self):
        directory = self.broken("vocabulary")
        with open(os.path.join(directory, "vocab.txt"), "a") as file:
            file.write("one\ntwo\n")
        self.refused("--model", directory, contains=str(len(VOCABULARY)))

    def test_precision_counts(self):
        exact, int8 = (rows("--model", drawn, "--all", "--precision", precision, "so happy")[0]["logits"]
                       for precision in ("fp32", "int8"))
        self.assertNotEqual(exact, int8)
        self.assertTrue(all(abs(a - b) < 0.2 for a, b in zip(exact, int8, strict=True)), (exact, int8))

    def test_missing_and_misshapen_tensors(self):
        for name in "classifier.weight", "bert.pooler.dense.bias", "bert.encoder.layer.1.output.dense.weight":
            directory = self.broken("no " + name, change=lambda tensors: tensors.pop(name))
            self.refused("--model", directory, contains=name)
        def drop_pooler(tensors):
            for member in "weight", "bias":
                tensors.pop("bert.pooler.dense." + member)
        self.refused("--model", self.broken("no pooler", change=drop_pooler), contains="no pooler")

        def transpose(tensors):
            name = "bert.encoder.layer.0.intermediate.dense.weight"
            tensors[name] = (tensors[name][0][::-1], tensors[name][1])
        self.refused("--model", self.broken("shape", change=transpose), contains="intermediate.dense.weight")

    def test_damaged_weights(self):
        def poison(tensors):
            tensors["classifier.bias"][1][2] = math.nan
        self.refused("--model", self.broken("nan", change=poison), contains="nan")

    def test_output_that_fails(self):
        for form in "text", "jsonl", "tsv":
            with open("/dev/full", "wb") as full:
                self.refused("--model", fixed, "--format", form, contains="standard output", stdout=full)
            reader, writer = os.pipe()
            os.close(reader)
            self.refused("--model", fixed, "--format", form, contains="standard output", stdout=writer)
            os.close(writer)

    def test_input_that_fails(self):
        directory = os.open(scratch, os.O_RDONLY)
        self.refused("--model", fixed, contains="standard input", stdin=directory)
        os.close(directory)

    def test_no_file_is_touched(self):
        def state():
            return [(name, os.stat(os.path.join(fixed, name)).st_mtime_ns) for name in sorted(os.listdir(fixed))]

        before = state()
        predict("--model", fixed, "a")
        self.refused("--model", fixed, "--top", "0", contains="--top")
        self.assertEqual(state(), before)


if __name__ == "__main__":
    PREDICT = os.path.abspath(sys.argv.pop(1))
    unittest.main()
