"""Runs the built benchmarks, briefly: python3 bench_test.py BENCH_KERNELS BENCH_STEP BENCH_TEXTS BENCH_VARIANTS
[arguments]."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import tiny_model

KERNELS, STEP, TEXTS, VARIANTS = None, None, None, None
TIMEOUT = 300
QUICK = ["--benchmark_repetitions=2", "--seconds", "0.0001"]
ONE = "--benchmark_filter=^tanh_forward/tinybert/20/"
ALL_BUT_ONE = "--benchmark_filter=-peak|^[a-su-z]|tanh_backward|/(308|2048|16384)/"  # and without peaks
RUNG = "--benchmark_filter=^layernorm/cpu/2_vectors/308/no_dropout"
SMALL_STEP = ["--repetitions", "2", "--seconds", "0.001"]


def run(program, *arguments, **options):
    return subprocess.run([program, *arguments], capture_output=True, timeout=TIMEOUT, text=True, **options)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ember bench ")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.out = os.path.join(self.folder, "results.json")

    def refused(self, done, words):
        """Exit status 2 and one line that holds `words`."""
        self.assertEqual(done.returncode, 2, (done.stdout, done.stderr))
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(words, done.stderr)

    def results(self):
        with open(self.out) as file:
            return json.load(file)


class Kernels(Case):
    def test_measures_and_keeps(self):
        done = run(KERNELS, "--device", "cpu", ONE, "--out", self.out, *QUICK)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        names = ["peak_copy/cpu", "peak_product/cpu", "tanh_forward/tinybert/20/warm/cpu",
                 "tanh_forward/tinybert/20/cold/cpu"]
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()[1:]], names)
        results = self.results()["results"]
        self.assertEqual([result["name"] for result in results], names)
        for result in results:
            self.assertEqual(len(result["repetitions"]), 2)
            self.assertGreater(result["seconds"], 0)
            self.assertAlmostEqual(result["bytes_per_second"] * result["seconds"] / result["bytes"], 1)
        peak, warm = results[0], results[2]
        self.assertAlmostEqual(peak["copy_percent"], 100)
        self.assertAlmostEqual(warm["copy_percent"], 100 * warm["bytes_per_second"] / peak["bytes_per_second"])
        # One text of 312 columns: in, activated and out, and the bias; addition, tanh and dropout.
        self.assertEqual((warm["bytes"], warm["flop"]), (4 * 4 * 312, 3 * 312))

    def test_weights_in_int8_are_counted_as_bytes(self):
        one = "--benchmark_filter=^linear_forward:frozen_ffn_in/tinybert/20/warm/"
        for device, width in ("cpu", 4), ("cpu-int8", 1):
            done = run(KERNELS, "--device", device, one, "--out", self.out, *QUICK)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(self.results()["results"][2]["bytes"], 4 * 20 * (312 + 1200) + width * 312 * 1200)

    def test_a_single_repetition_has_no_variation(self):
        done = run(KERNELS, "--device", "cpu", ONE, "--out", self.out, *QUICK, "--benchmark_repetitions=1")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual({line.split()[3] for line in done.stdout.splitlines()[1:]}, {"-"})
        self.assertEqual([result["cv"] for result in self.results()["results"]], [None] * 4)

    def test_without_peaks_there_are_no_percentages(self):
        done = run(KERNELS, "--device", "cpu", ALL_BUT_ONE, "--out", self.out, *QUICK)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        results = self.results()["results"]
        self.assertEqual({result["operation"] for result in results}, {"tanh_forward"})
        self.assertEqual({result["copy_percent"] for result in results}, {None})

    def test_every_backend_has_its_benchmarks_or_a_word(self):
        done = run(KERNELS, "--benchmark_list_tests")
        self.assertEqual(done.returncode, 0)
        names = [line.split("/iterations")[0] for line in done.stdout.splitlines()]
        self.assertIn("adamw_replay/tinybert/308/cold/cpu", names)
        self.assertIn("linear_forward:ffn_in/bert-base/308/warm/cpu", names)
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("linear_forward:frozen_ffn_out/tinybert/2048/warm/cpu-int8", names)
        int8 = [name for name in names if name.endswith("/cpu-int8") and not name.startswith("peak_")]
        self.assertFalse([name for name in int8 if not name.startswith("linear_forward:frozen_")])
        for backend in "cpu-bf16", "cuda":
            measured = any(name.endswith("/" + backend) for name in names)
            said = sum(line.startswith(backend + ": not measured: ") for line in done.stderr.splitlines())
            self.assertEqual(said, 0 if measured else 1, backend)

    def test_the_want_of_bf16_is_told(self):
        done = run(KERNELS, "--device", "cpu-bf16", "--benchmark_list_tests")
        if done.returncode == 0:
            self.skipTest("this processor has bf16")
        self.refused(done, ": bf16: needs a processor, and kernels, with AVX512-BF16 or AMX, here they are for ")
        done = run(KERNELS, "--benchmark_list_tests")
        self.assertIn("cpu-bf16: not measured: bf16: needs a processor, and kernels, with ", done.stderr)

    def test_bad_flags(self):
        for arguments, words in [
            (["--devise", "cpu"], "--devise: no such option"),
            (["--device", "tpu"], "--device tpu: must be auto, cpu, cpu-bf16, cpu-int8, cuda or cuda:N"),
            (["--device", "cuda:99"], "--device cuda:99: "),
            (["--threads", "-1"], "--threads -1: must be"),
            (["--threads", "many"], "--threads"),
            (["--seconds", "0"], "--seconds 0: must be"),
            (["--benchmark_min_time=1"], "--benchmark_min_time=1: has no say here; --seconds is what"),
            (["--benchmark_min_warmup_time=1"], "--benchmark_min_warmup_time=1: has no say here"),
            (["--out", "x.json", "--benchmark_format=json"], "--out: nothing goes there"),
            (["--out", "x.json", "--benchmark_list_tests"], "--out: nothing goes there"),
            (["--out", "/no/such/folder/x.json"], "/no/such/folder/x.json: cannot be written"),
            (["--out", "/dev/full"], "/dev/full: cannot be written: No space left on device"),
        ]:
            with self.subTest(arguments):
                self.refused(run(KERNELS, *arguments), words)

    def test_standard_output_without_room(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([KERNELS, "--device", "cpu", ONE, *QUICK], stdout=full, stderr=subprocess.PIPE,
                                  timeout=TIMEOUT, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("standard output: No space left on device\n", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_google_benchmarks_forms_without_room(self):
        kernels, variants = [KERNELS, "--device", "cpu", ONE, *QUICK], [VARIANTS, RUNG, "--benchmark_min_time=0.001"]
        for command in kernels + ["--benchmark_format=json"], kernels + ["--benchmark_list_tests"], variants:
            with self.subTest(command), open("/dev/full", "w") as full:
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT, text=True)
                self.assertEqual(done.returncode, 2)
                self.assertTrue(done.stderr.endswith(": standard output: cannot be written\n"), done.stderr)
        for command in kernels, variants:
            for form in "json", "console", "csv":
                with self.subTest(command, form=form):
                    done = run(*command, "--benchmark_out=/dev/full", "--benchmark_out_format=" + form)
                    self.assertEqual(done.returncode, 2)
                    self.assertTrue(done.stderr.endswith(": --benchmark_out: cannot be written\n"), done.stderr)

    def test_a_disk_that_fills_up_keeps_what_was_measured(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1200, 1200))

        done = run(KERNELS, "--device", "cpu", ONE, "--out", self.out, *QUICK, preexec_fn=limit)
        self.refused(done, "results.json: cannot be written: File too large; the ")
        names = [result["name"] for result in self.results()["results"]]
        self.assertEqual(names[:1], ["peak_copy/cpu"])
        self.assertLess(len(names), 4)
        self.assertIn("the %d results before are in it" % len(names), done.stderr)


class GoogleBenchmarksFlags(Case):
    def test_wrong_values(self):
        """Of some Google Benchmark itself would print its usage and end with status 0."""
        for program in KERNELS, VARIANTS:
            for argument, words in [("--benchmark_format=xml", "must be console, json or csv"),
                                    ("--benchmark_time_unit=hours", "must be ns, us, ms or s"),
                                    ("--benchmark_color=purple", "must be auto, true or false"),
                                    ("--benchmark_min_time=long", "must be a number of seconds from 0 on"),
                                    ("--benchmark_repetitions=0", "must be a whole number from 1 to 999999"),
                                    ("--benchmark_out=/no/such/folder/x", "cannot be written"),
                                    ("--benchmark_nonsense=1", "no such option"), ("stray", "no such option")]:
                with self.subTest(program=program, argument=argument):
                    done = run(program, argument)
                    self.refused(done, ": %s: %s" % (argument, words))
                    self.assertEqual(done.stdout, "")

    def test_forms_of_its_own(self):
        for form in "console", "csv", "json":
            with self.subTest(form):
                done = run(KERNELS, "--device", "cpu", ONE, *QUICK, "--benchmark_format=" + form)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("tanh_forward/tinybert/20/cold/cpu", done.stdout)
        self.assertEqual(json.loads(done.stdout)["context"]["executable"], KERNELS)

    def test_every_counter_is_a_number(self):
        done = run(KERNELS, "--device", "cpu", ALL_BUT_ONE, *QUICK, "--benchmark_format=json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("NaN", done.stdout)  # of what the peaks, which are not measured, would be needed for

    def test_help(self):
        done = run(VARIANTS, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("--benchmark_filter", done.stdout)

    def test_of_no_benchmark_is_refused_before_any_is_measured(self):
        for program in KERNELS, VARIANTS:
            for value, words in [("no_such_kernel", "no benchmark has a name like that"),
                                 ("-.", "no benchmark has a name like that"),
                                 ("(", "not a regular expression")]:
                with self.subTest(program=program, value=value):
                    done = run(program, "--benchmark_filter=" + value)
                    self.refused(done, ": --benchmark_filter=%s: %s" % (value, words))
                    self.assertEqual(done.stdout, "")

    def test_what_is_not_there_to_be_measured_is_named_with_its_reason(self):
        for program in KERNELS, VARIANTS:
            done = run(program, "--benchmark_filter=/no_such_device/", env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
            self.refused(done, ": no benchmark has a name like that; ")
            self.assertIn("cuda: not measured: ", done.stderr)  # after cpu-bf16, on a processor that has no bf16

    def test_names_of_peaks_leave_the_peaks_alone(self):
        done = run(KERNELS, "--device", "cpu", "--benchmark_filter=peak_copy", *QUICK)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()[1:]],
                         ["peak_copy/cpu", "peak_product/cpu"])


class Step(Case):
    def write_model(self):
        """A small model folder whose vocabulary has the 1,024 words that bench_step asks for."""
        model = os.path.join(self.folder, "model")
        tiny_model.write_model(model)
        os.remove(os.path.join(model, "model.safetensors"))
        words = tiny_model.VOCABULARY + ["word%d" % i for i in range(1100 - len(tiny_model.VOCABULARY))]
        with open(os.path.join(model, "vocab.txt"), "w") as file:
            file.write("\n".join(words) + "\n")
        path = os.path.join(model, "config.json")
        with open(path) as file:
            config = json.load(file)
        config.update(vocab_size=len(words), max_position_embeddings=64)
        with open(path, "w") as file:
            json.dump(config, file)
        return model

    def write_data(self):
        data = os.path.join(self.folder, "data")
        os.mkdir(data)
        with open(os.path.join(data, "labels.txt"), "w") as file:
            file.write("\n".join(tiny_model.LABELS) + "\n")
        for split in "train", "test":
            with open(os.path.join(data, split + ".tsv"), "w") as file:
                file.writelines("i am happy\t1\tx\n" for _ in range(3))  # 5 tokens
        return data

    def test_training_and_inference(self):
        done = run(STEP, "--device", "cpu", "--model", self.write_model(), "--batches", "1,4", "--out", self.out,
                   *SMALL_STEP)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        results = self.results()["results"]
        steps = [result for result in results if result["kind"] == "training step"]
        self.assertEqual([(step["lengths"], step["batch_size"]) for step in steps],
                         [("GoEmotions' lengths", 1), ("GoEmotions' lengths", 4), ("64 tokens each", 1),
                          ("64 tokens each", 4)])
        self.assertEqual([step["tokens"] for step in steps[2:]], [64, 256])
        for step in steps:
            phases = sum(step[phase]["seconds"] for phase in ("forward", "backward", "optimizer"))
            self.assertGreater(step["step"]["seconds"], 0.5 * phases)
            self.assertEqual(len(step["step"]["repetitions"]), 2)
            self.assertIsNone(step["launches"])
            self.assertGreater(step["floor_seconds"], 0)
            self.assertGreater(step["peak_memory_bytes"], 0)
        growth = [result for result in results if result["kind"] == "growth with tokens"]
        self.assertEqual([row["lengths"] for row in growth], ["GoEmotions' lengths", "64 tokens each"])
        self.assertIn("exponent", growth[1]["step"])
        texts = [result["texts"] for result in results if result["kind"] == "inference"]
        self.assertEqual(texts, ["one of 8 tokens", "one of 20 tokens", "one of 32 tokens", "one of 64 tokens",
                                 "1000 at once"])

    def test_a_single_repetition_has_no_variation(self):
        done = run(STEP, "--device", "cpu", "--model", self.write_model(), "--part", "training", "--batches", "1",
                   "--out", self.out, *SMALL_STEP[2:], "--repetitions", "1")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("%", done.stdout)
        self.assertNotIn("nan", done.stdout)
        self.assertIsNone(self.results()["results"][0]["step"]["cv"])

    def test_steps_as_graphs_or_call_by_call(self):
        """Only CUDA records; a machine without a GPU shows that --no-graph changes nothing on the CPU."""
        model = self.write_model()
        for flags, said in ([], ", steps as graphs"), (["--no-graph"], ", steps call by call"):
            with self.subTest(flags):
                done = run(STEP, "--model", model, "--part", "training", "--batches", "2", "--out", self.out, *flags,
                           *SMALL_STEP)
                self.assertEqual(done.returncode, 0, done.stderr)
                results = self.results()
                self.assertEqual(results["context"]["graph"], not flags)
                for step in results["results"]:
                    cuda = step["backend"] == "cuda"
                    head = "\n%s, %s%s\n" % (step["backend"], step["lengths"], said if cuda else "")
                    self.assertIn(head, done.stdout)
                    self.assertEqual(step["recorded"], cuda and not flags)

    def test_lengths_and_texts_of_the_data(self):
        done = run(STEP, "--device", "cpu", "--model", self.write_model(), "--data", self.write_data(), "--batches",
                   "2,7", "--out", self.out, *SMALL_STEP)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        results = self.results()["results"]
        steps = [result for result in results if result["kind"] == "training step"]
        self.assertEqual([step["tokens"] for step in steps[:2]], [10, 35])  # from the start again after 3 texts
        self.assertIn("3 at once", [result.get("texts") for result in results])

    def test_the_floor_on_paper(self):
        done = run(STEP, "--model", self.write_model(), "--batches", "2,4", "--paper", "100,10")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [line.split() for line in done.stdout.splitlines() if line]
        self.assertEqual([row[2] for row in rows if row[0] == "batch"], ["2,", "4,"])
        first = {row[0]: row[1:] for row in rows[2:next(i for i in range(1, len(rows)) if rows[i][0] == "batch")]}
        self.assertEqual(first["adamw"][0], "1")
        calls = sum(int(row[0]) for name, row in first.items() if name != "step")
        self.assertEqual(int(first["step"][0]), calls)

    def test_large_batches_are_left_out_by_name(self):
        done = run(STEP, "--device", "cpu", "--model", self.write_model(), "--part", "training", "--batches", "2,512",
                   "--most-tokens", "200", *SMALL_STEP)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("left out: more than --most-tokens 200"), 2)
        self.assertNotIn("growth", done.stdout)

    def test_bad_flags(self):
        for arguments, words in [
            (["--devise", "cpu"], "--devise"),
            (["--device", "cuda:99"], "--device cuda:99: "),
            (["--device", "cpu-int8"], "--device cpu-int8: must be auto, cpu, cpu-bf16, cuda or cuda:N"),
            (["--part", "half"], "--part half: must be training, inference or both"),
            (["--batches", "0"], "--batches 0: must be"),
            (["--batches", "1,x"], "--batches"),
            (["--batches", "1,,2"], "--batches 1,,2: a value was expected on both sides of each `,`"),
            (["--part", "inference", "--batches", "4,8"], "--batches: is of training, but --part is inference"),
            (["--part", "inference", "--most-tokens", "10240"], "--most-tokens: is of training"),  # the default
            (["--part", "inference", "--no-graph"], "--no-graph: is of training, but --part is inference"),
            (["--part", "inference", "--device", "cuda"], "--device cuda: is of training, but --part is inference"),
            (["--part", "inference", "--device", "cpu-bf16"], "--device cpu-bf16: is of training, but --part is inf"),
            (["--part", "inference", "--device", "tpu"], "--device tpu: is of training, but --part is inference"),
            (["--part", "training", "--precision", "fp32"], "--precision: is of inference, but --part is training"),
            (["--repetitions", "0"], "--repetitions 0: must be"),
            (["--paper", "0,1"], "--paper 0: must be two numbers above 0"),
            (["--paper", "320"], "--paper: has 1 of 2 values\n"),
            (["--paper", "320,65", "--part", "training"], "--part excludes --paper"),
            (["--paper", "320,65", "--no-graph"], "--no-graph excludes --paper"),
            (["--paper", "320,65", "--out", "x.json"], "--out excludes --paper"),
            (["--shape", "minilm", "--model", "/tmp"], "--shape excludes --model"),
            (["--shape", "gpt"], "--shape gpt: must be tinybert, minilm or bert-base"),
            (["--data", "/tmp"], "--data needs --model"),
            (["--model", "/no/such/folder"], "/no/such/folder/config.json"),
            (["--out", "/dev/full"], "/dev/full: cannot be written: No space left on device"),
        ]:
            with self.subTest(arguments):
                self.refused(run(STEP, *arguments), words)


class Texts(Case):
    def test_texts_are_cut_as_the_peers_cut_them(self):
        """At 128 tokens, whatever the model would keep of them."""
        model, texts, outputs = (os.path.join(self.folder, name) for name in ("model", "texts", "outputs"))
        with mock.patch.object(tiny_model, "POSITIONS", 256):
            tiny_model.write_model(model)
        with open(texts, "w") as file:
            file.writelines("happy " * 126 + rest + "\n" for rest in ("", "sad " * 60))
        done = run(TEXTS, "--model", model, "--texts", texts, input="check %s\n" % outputs)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(outputs, "rb") as file:
            logits = file.read()
        self.assertEqual(len(logits), 2 * 4 * len(tiny_model.LABELS))
        self.assertEqual(logits[:len(logits) // 2], logits[len(logits) // 2:])

    def test_tokenisation_takes_no_flags_of_inference(self):
        for arguments, words in [
            (["--threads", "2"], "--threads 2: tokenisation takes one thread"),
            (["--precision", "int8"], "--precision int8: is of inference, but --task is tokenisation"),
        ]:
            with self.subTest(arguments):
                done = run(TEXTS, "--task", "tokenisation", "--model", "/none", "--texts", "/none", *arguments)
                self.refused(done, words)


if __name__ == "__main__":
    KERNELS, STEP, TEXTS, VARIANTS = (sys.argv.pop(1) for _ in range(4))
    unittest.main(verbosity=2)
