"""Holds tools/gpu_check.sh to its promises without a GPU: python3 gpu_check_test.py [unittest's arguments].

The script is copied into a scratch folder, where nvidia-smi, compute-sanitizer and the programs of a bundle are scripts
that do as their file of behaviours says: exit with 0, fail, or hang.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds for one run of the script
TESTS = ("gpu_gelu_test", "gpu_linear_test")

# Does what $BEHAVIOUR, words like gpu_gelu_test=fails, says for the program's name; notes that it was started.
FAKE = r"""#!/bin/bash
name=$(basename "$0")
case " $BEHAVIOUR " in
  *" $name=unloadable "*) echo "$name: error while loading shared libraries: libnone.so.1: none" >&2; exit 127 ;;
esac
[ "$1" != --help ] || exit 0
echo "$name" "$@" >>"$STARTED"
case " $BEHAVIOUR " in
  *" $name=fails "*) echo "the reason"; exit 1 ;;
  *" $name=hangs "*) sleep 1000 ;;
esac
"""
FAKE_TRAIN = FAKE + r"""
while [ $# -gt 0 ]; do [ "$1" != --out ] || out=$2; shift; done
mkdir -p "$out"
echo weights >"$out/model.safetensors"
[[ " $BEHAVIOUR " != *" train=differs "* ]] || echo "$out" >"$out/model.safetensors"
echo '{"event":"eval","split":"dev","step":61,"epoch":1.0,"loss":0.25,"f1_micro":0.0}' >"$out/metrics.jsonl"
"""
FAKE_SMI = "#!/bin/bash\n[ -z \"$NO_GPU\" ] && echo 'Made-up GPU, 600.1, 9.0'\n"
FAKE_SANITIZER = FAKE + r"""
case " $BEHAVIOUR " in *" hazard="*) kernel=${BEHAVIOUR#*hazard=}
  echo "========= Error: Race reported between Read access at ${kernel%% *}+0xb00" ;;
esac
[ "$1" = --tool ] && "${@: -1}"
"""
FAKE_PYTHON = FAKE + r"""
[ "$1" = bench/peers/sdpa.py ] || exit 0
echo '{"head_dim": 26}'
case " $BEHAVIOUR " in
  *" sdpa=fails "*) exit 3 ;;
  *" sdpa=hangs "*) sleep 1000 ;;
esac
"""
FAKE_COMPARE = """#!/bin/bash
printf '| training on CUDA | precision |\\n| Ember | fp16 | %s |\\n' "$EMBER_ROW"
[[ $EMBER_ROW != *wrong* ]]
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ember gpu check "))
        self.addCleanup(shutil.rmtree, self.folder)
        self.root, self.bundle, self.bin = (self.folder / name for name in ("tree", "bundle", "bin"))
        shutil.copytree(ROOT / "tools" / "gpu_check", self.root / "tools" / "gpu_check")
        shutil.copy(ROOT / "tools" / "gpu_check.sh", self.root / "tools")
        write(self.root / "bench" / "compare.sh", FAKE_COMPARE)
        programs = ["tools/evaluate", *(f"bench/bench_{name}" for name in ("kernels", "step", "variants"))]
        for name in programs + [folder + test for folder in ("tests/", "ptx/tests/") for test in TESTS]:
            write(self.bundle / name, FAKE)
        write(self.bundle / "train" / "train", FAKE_TRAIN)
        (self.bundle / "manifest").write_text("commit abc1234\ndate 2026-11-01\narchitectures 75 90\nglibc 2.34\n")
        for name, text in ("nvidia-smi", FAKE_SMI), ("compute-sanitizer", FAKE_SANITIZER), ("python3", FAKE_PYTHON):
            write(self.bin / name, text)

    def check(self, *flags, bundle=True, behaviour="", **environment):
        self.started = self.folder / "started"
        self.started.unlink(missing_ok=True)
        flags = [*(["--from", self.bundle] if bundle else []), *flags]
        fixed = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), "BEHAVIOUR": behaviour,
                 "STARTED": str(self.started), "EMBER_ROW": "1.00"}
        return subprocess.run([str(word) for word in (self.root / "tools" / "gpu_check.sh", *flags)],
                              env=fixed | environment, capture_output=True, text=True, timeout=LIMIT)

    def ended(self, done, status):
        self.assertEqual(done.returncode, status, done)

    def refused(self, done, status, contains):
        """The status and one line that holds `contains`."""
        self.ended(done, status)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("gpu_check: "), done.stderr)
        self.assertIn(contains, done.stderr)

    def rows(self):
        """{check: result} of table.md, in order."""
        lines = (self.root / "build-gpu" / "logs" / "table.md").read_text().splitlines()
        self.assertRegex(lines[0], r"^## Made-up GPU, driver 600.1, commit abc1234, 20\d\d-\d\d-\d\d$")
        self.assertEqual(lines[1:4], ["", "| check | result | seconds |", "|---|---|---|"])
        rows = itertools.takewhile(lambda line: line, lines[4:])
        return dict(row.strip("| ").split(" | ")[:2] for row in rows)

    def model_and_data(self, weights=True):
        for path in ("model/config.json", "data/labels.txt", *(["model/model.safetensors"] if weights else [])):
            write(self.folder / path, "")
        return ["--model", self.folder / "model", "--data", self.folder / "data"]


class Passing(Case):
    def test_all_parts_in_their_order(self):
        done = self.check("--jobs", "1")
        self.ended(done, 0)
        expected = [*TESTS, "training", "training again", "equal bits", "bench_step", "bench_kernels", "bench_variants",
                    "peers", *(f"compute_75 PTX {name}" for name in TESTS),
                    *(f"{tool} {name}" for tool in ("memcheck", "racecheck", "initcheck", "synccheck")
                      for name in TESTS)]
        rows = self.rows()
        self.assertEqual(list(rows), expected)
        self.assertEqual({name: result for name, result in rows.items() if result != "passed"},
                         {"peers": "SKIPPED (--model and --data are needed)"})
        self.assertIn((self.root / "build-gpu" / "logs" / "table.md").read_text(), done.stdout)

    def test_tests_that_were_built_elsewhere_read_this_checkout(self):
        write(self.bundle / "tests" / TESTS[0], '#!/bin/bash\n[ "$1" = --help ] || echo "$EMBER_SOURCE" >>"$STARTED"\n')
        self.ended(self.check("--only", "tests"), 0)
        self.assertIn(str(self.root), self.started.read_text().splitlines())

    def test_hazards_are_those_of_our_kernels(self):
        self.ended(self.check("--only", "sanitizer", behaviour="hazard=nvjet_sm90_hsh_64x8"), 0)
        self.ended(self.check("--only", "sanitizer", behaviour="hazard=ember::gelu_kernel"), 1)
        failed = {name for name, result in self.rows().items() if result != "passed"}
        self.assertEqual(failed, {f"racecheck {name}" for name in TESTS})

    def test_the_longest_programs_are_shared_under_the_sanitizers(self):
        for name in "gpu_training_test", "gpu_adamw_replay_test":
            write(self.bundle / "tests" / name, FAKE.replace('"$@" >>', '"$GTEST_SHARD_INDEX/$GTEST_TOTAL_SHARDS" >>'))
        self.ended(self.check("--only", "sanitizer"), 0)
        rows, started = list(self.rows()), self.started.read_text().split("\n")
        self.assertIn("memcheck gpu_gelu_test", rows)
        for name in "gpu_training_test", "gpu_adamw_replay_test":
            self.assertEqual(len([row for row in rows if name in row]), 16)
            self.assertIn(f"racecheck {name}, share 4 of 4", rows)
            self.assertEqual([started.count(f"{name} {index}/4") for index in range(4)], [4] * 4)

    def test_only(self):
        self.ended(self.check("--only", "ptx,tests"), 0)
        self.assertEqual(set(self.rows()), {*TESTS, *(f"compute_75 PTX {name}" for name in TESTS)})
        self.assertEqual(len(self.started.read_text().splitlines()), 4)

    def test_tests_run_beside_each_other(self):
        """Each of two waits for the other."""
        for name, other in zip(TESTS, reversed(TESTS)):
            write(self.bundle / "tests" / name, f"""#!/bin/bash
                [ "$1" = --help ] && exit
                touch "$HOME/{name}"
                until [ -e "$HOME/{other}" ]; do sleep 0.01; done""")
        self.ended(self.check("--only", "tests", "--jobs", "1", "--limit", "1"), 1)
        for name in TESTS:
            (self.folder / name).unlink()
        self.ended(self.check("--only", "tests", "--jobs", "2", "--limit", "20"), 0)
        self.assertEqual(self.rows(), dict.fromkeys(TESTS, "passed"))

    def test_logs(self):
        self.ended(self.check("--only", "tests", "--logs", self.folder / "other logs"), 0)
        self.assertEqual({path.name for path in (self.folder / "other logs").iterdir()},
                         {"table.md", *(name + ".log" for name in TESTS)})

    def test_the_reference_run_and_the_peers(self):
        done = self.check("--only", "training,peers", *self.model_and_data())
        self.ended(done, 0)
        self.assertEqual(list(self.rows())[3:], ["reference training", "evaluate", "peers", "sdpa.py"])
        table = (self.root / "build-gpu" / "logs" / "table.md").read_text()
        self.assertIn("dev loss 0.25 at the end", table)
        self.assertIn("\n| Ember | fp16 | 1.00 |\n", table)
        self.assertIn('\n    {"head_dim": 26}\n', table)
        self.assertTrue((self.root / "build-gpu" / "logs" / "reference_metrics.jsonl").exists())

    def test_a_model_without_weights(self):
        self.ended(self.check("--only", "training,peers", *self.model_and_data(weights=False)), 0)
        self.assertEqual(self.started.read_text().count("--from-scratch"), 3)
        self.assertIn("SKIPPED", self.rows()["peers"])

    def test_an_archive(self):
        archive = self.folder / "bundle.tar.xz"
        subprocess.run(["tar", "-cJf", archive, "-C", self.bundle, "."], check=True)
        self.ended(self.check("--only", "tests", "--from", archive, bundle=False), 0)
        self.assertEqual(self.rows(), dict.fromkeys(TESTS, "passed"))

    def test_cublaslt_of_the_wheels(self):
        wheel = self.folder / "wheel"
        write(wheel / "libcublasLt.so.13", "")
        write(self.bin / "ldd", "#!/bin/bash\necho ' libcublasLt.so.13 => not found'\n")
        write(self.bin / "python3", f"#!/bin/bash\necho '{wheel}'\n")
        done = self.check("--only", "tests")
        self.ended(done, 0)
        self.assertIn(f"libcublasLt.so.13 is taken from {wheel}\n", done.stdout)


class Failing(Case):
    def test_a_failing_program_is_named_and_the_rest_runs(self):
        done = self.check(behaviour="gpu_gelu_test=fails")
        self.ended(done, 1)
        rows = self.rows()
        self.assertEqual(rows["gpu_gelu_test"], "FAILED (exit status 1)")
        self.assertEqual(rows["compute_75 PTX gpu_gelu_test"], "FAILED (exit status 1)")
        self.assertEqual(rows["memcheck gpu_gelu_test"], "FAILED (exit status 1)")
        self.assertEqual(rows["synccheck gpu_linear_test"], "passed")
        self.assertIn("the reason", done.stdout)

    def test_a_hanging_program_is_killed_and_the_rest_runs(self):
        self.ended(self.check("--only", "tests", "--limit", "1", behaviour="gpu_gelu_test=hangs"), 1)
        self.assertEqual(self.rows(), {"gpu_gelu_test": "FAILED (timed out)", "gpu_linear_test": "passed"})

    def test_other_bits(self):
        self.ended(self.check("--only", "training", behaviour="train=differs"), 1)
        self.assertEqual(self.rows()["equal bits"], "FAILED (exit status 1)")

    def test_ember_fails_beside_its_peers(self):
        self.ended(self.check("--only", "peers", *self.model_and_data(), EMBER_ROW="0.25 (wrong)"), 1)
        self.assertEqual(self.rows(), {"peers": "FAILED (exit status 1)", "sdpa.py": "passed"})
        self.assertIn("0.25 (wrong)", (self.root / "build-gpu" / "logs" / "table.md").read_text())

    def test_a_failure_of_a_peer_alone_is_not_counted(self):
        for behaviour, reason in ("sdpa=fails", "exit status 3"), ("sdpa=hangs", "timed out"):
            with self.subTest(behaviour=behaviour):
                done = self.check("--only", "peers", "--limit", "3", *self.model_and_data(), behaviour=behaviour)
                self.ended(done, 0)
                self.assertEqual(self.rows(), {"peers": "passed", "sdpa.py": f"failed, not counted ({reason})"})
                logs = self.root / "build-gpu" / "logs"
                self.assertEqual((logs / "sdpa_py.log").read_text(), '{"head_dim": 26}\n')
                self.assertIn('\n    {"head_dim": 26}\n', (logs / "table.md").read_text())

    def test_a_failure_of_ours_is_counted_whatever_a_peer_does_then(self):
        done = self.check("--only", "peers", *self.model_and_data(), behaviour="sdpa=fails", EMBER_ROW="0.25 (wrong)")
        self.ended(done, 1)

    def test_peers_without_torch(self):
        self.ended(self.check("--only", "peers", *self.model_and_data(), behaviour="python3=fails"), 0)
        self.assertIn("SKIPPED (python3 has no torch", self.rows()["peers"])

    def test_an_interruption_leaves_the_table(self):
        self.check("--only", "tests")
        command = [self.root / "tools" / "gpu_check.sh", "--from", self.bundle, "--only", "tests",
                   "--jobs", "1"]
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "BEHAVIOUR": "gpu_linear_test=hangs",
                       "STARTED": str(self.folder / "second")}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
            while not (self.folder / "second").exists() or "linear" not in (self.folder / "second").read_text():
                time.sleep(0.05)
            running.terminate()
            running.stdout.read()
        self.assertEqual(running.returncode, 1)
        self.assertEqual(self.rows(), {"gpu_gelu_test": "passed", "gpu_linear_test": "FAILED (interrupted)",
                                       "the rest": "FAILED (interrupted)"})


    def test_an_interruption_ends_tests_that_ignore_it(self):
        """Many at a time, some of which end while the others are told to."""
        names = [f"gpu_stubborn_{i}_test" for i in range(6)]
        for name in names:
            write(self.bundle / "tests" / name, f"""#!/bin/bash
                [ "$1" = --help ] && exit
                {"trap '' TERM" if name < names[3] else ":"}
                touch "$HOME/{name}"
                sleep 1000 & wait
                sleep 1000""")
        command = [self.root / "tools" / "gpu_check.sh", "--from", self.bundle, "--only", "tests", "--jobs", "8"]
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), "BEHAVIOUR": "",
                       "STARTED": str(self.folder / "started")}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as running:
            while not all((self.folder / name).exists() for name in names):
                time.sleep(0.05)
            running.terminate()
            self.assertNotIn("no such job", running.communicate(timeout=LIMIT)[1])
            self.assertEqual(running.returncode, 1)
        rows = self.rows()
        self.assertEqual({rows[name] for name in names}, {"FAILED (interrupted)"})


class Refused(Case):
    def test_no_gpu(self):
        self.refused(self.check(NO_GPU="1"), 3, "nvidia-smi finds no GPU; nothing was checked")
        path = self.folder / "no driver"
        path.mkdir()
        for name in ("bash", "dirname"):
            (path / name).symlink_to(shutil.which(name))
        self.refused(self.check(PATH=str(path)), 3, "there is no nvidia-smi")

    def test_flags(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.model_and_data()
        for flags, contains in ((["--devise"], "--devise: no such flag"), (["stray"], "stray: no such flag"),
                                (["--only"], "--only: needs a value"),
                                (["--only", "cooking"], "--only cooking: must be one of tests training"),
                                (["--only", "tests,"], "--only tests,: must be names of parts"),
                                (["--limit", "0"], "--limit 0: must be a whole number"),
                                (["--limit", "1m"], "--limit 1m: must be a whole number"),
                                (["--jobs", "none"], "--jobs none: must be a whole number"),
                                (["--model", empty], "has no config.json"), (["--data", empty], "has no labels.txt"),
                                (["--model", self.folder / "model"], "--model: goes with --data"),
                                (["--data", self.folder / "data"], "--data: goes with --model"),
                                (["--bundle", empty, "--only", "tests"], "--bundle: stands alone, but there are"),
                                (["--bundle", "/dev/null/bundle"], "/bundle: cannot be made: Not a directory"),
                                (["--from", self.folder / "none"], "there is no such folder or archive"),
                                (["--from", empty], "has no manifest"),
                                (["--from", self.bundle / "manifest"], "cannot be unpacked"),
                                (["--logs", "/dev/null/logs"], "cannot be made"),
                                (["--bundle", self.folder], "holds something else")):
            with self.subTest(flags=flags):
                self.refused(self.check(*flags, bundle=False, behaviour="python3=fails"), 2, contains)


class Unusable(Case):
    """Bundles that the machine cannot run: one line that says why, then an attempt to build, which fails here."""

    def test_a_program_that_does_not_start(self):
        done = self.check(behaviour="gpu_linear_test=unloadable")
        self.ended(done, 2)
        first, second = done.stderr.splitlines()
        self.assertIn("the bundle cannot be used: tests/gpu_linear_test: gpu_linear_test: error while loading", first)
        self.assertIn("going on to build", first)
        self.assertIn("build-gpu: cannot be configured: ", second)

    def test_another_gpu(self):
        (self.bundle / "manifest").write_text("commit abc1234\narchitectures 75 80\n")
        done = self.check()
        self.ended(done, 2)
        self.assertIn("it has code for 75,80, the GPU is 90; going on to build", done.stderr)


if __name__ == "__main__":
    unittest.main()
