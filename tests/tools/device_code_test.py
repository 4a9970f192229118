"""The compiled kernels of the CUDA backend: device_code_test.py LIBRARY NVCC FLAG...

- the attention kernels use tensor cores, on every architecture;
- no kernel reads or writes local memory, where the compiler is one that is asked to say so;
- its flags then refuse a kernel that would; and what passes, device_code.py sees.
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import device_code

LIBRARY, NVCC, *FLAGS = sys.argv[1:]
WATCHED = any("-warn-lmem-usage" in flag for flag in FLAGS)
UNWATCHED = "this version of ptxas is not asked whether it spills (cmake/cuda.cmake)"
unless_watched = unittest.skipUnless(WATCHED, UNWATCHED)

# Its subscripts are known at run time only, so the array must lie in memory.
LOCAL_ARRAY = """
__global__ void local_array(float* x, const int* i) {
  float a[64];
  for (int k = 0; k < 64; ++k) a[k] = x[k];
  for (int k = 0; k < 64; ++k) a[i[k] & 63] += a[i[k + 1] & 63];
  for (int k = 0; k < 64; ++k) x[k] = a[k];
}
"""


KNOWN_RESOURCES = """
__global__ void __launch_bounds__(96) known(float* x) {
  __shared__ float a[250];
  a[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = a[95 - threadIdx.x];
}
"""


class DeviceCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kernels = device_code.kernels(pathlib.Path(LIBRARY).read_bytes())

    def test_library_has_code_for_each_architecture(self):
        architectures = {architecture for architecture, _ in self.kernels}
        self.assertTrue(architectures, "no device code in " + LIBRARY)
        names = {architecture: {n for a, n in self.kernels if a == architecture} for architecture in architectures}
        for architecture in architectures:
            self.assertEqual(names[architecture], names[min(architectures)], f"kernels of sm_{architecture}")

    def test_attention_runs_on_tensor_cores(self):
        attention = {key: code for key, code in self.kernels.items() if "attention" in key[1]}
        self.assertTrue(attention, "no attention kernel found")
        for (architecture, name), code in attention.items():
            with self.subTest(architecture=architecture, kernel=name):
                self.assertGreater(code[device_code.HMMA], 0, "no tensor-core instruction")

    @unless_watched
    def test_no_kernel_uses_local_memory(self):
        for (architecture, name), code in self.kernels.items():
            with self.subTest(architecture=architecture, kernel=name):
                self.assertEqual(code[device_code.LDL] + code[device_code.STL], 0)

    def compile(self, *flags, text=LOCAL_ARRAY):
        with tempfile.TemporaryDirectory() as folder:
            source, out = pathlib.Path(folder, "local.cu"), pathlib.Path(folder, "local.o")
            source.write_text(text)
            result = subprocess.run([NVCC, *flags, "-c", source, "-o", out], capture_output=True, text=True)
            return result, out.read_bytes() if out.exists() else b""

    @unless_watched
    def test_local_memory_is_refused(self):
        refused, _ = self.compile("-arch=sm_75", *FLAGS)
        werror = "-Xptxas=-Werror" in FLAGS  # EMBER_WERROR; without it the compiler only says so
        self.assertEqual(refused.returncode != 0, werror,
                         "local memory is to be refused, or with EMBER_WERROR=OFF accepted")
        self.assertIn("Local memory used", refused.stdout + refused.stderr)

    def test_local_memory_is_found(self):
        accepted, data = self.compile("-arch=sm_75", "-no-compress")
        self.assertEqual(accepted.returncode, 0, accepted.stderr)
        code = device_code.kernels(data)
        self.assertEqual([a for a, _ in code], [75])
        (counts,) = code.values()
        self.assertGreater(counts[device_code.LDL], 0)
        self.assertGreater(counts[device_code.STL], 0)

    def test_resources_are_read(self):
        # A block has 3 warps. On sm_75 their number bounds how many blocks there are, on sm_90 the blocks' own.
        # On sm_90 newer compilers also count the shared memory that the system keeps for itself.
        for sm, warps, shared in (75, 30, {1000}), (90, 63, {1000, 1000 + 1024}):
            with self.subTest(sm=sm):
                done, data = self.compile(f"-arch=sm_{sm}", "-no-compress", text=KNOWN_RESOURCES)
                self.assertEqual(done.returncode, 0, done.stderr)
                ((architecture, name), kernel), = device_code.resources(data).items()
                self.assertEqual((architecture, kernel.threads), (sm, 96))
                self.assertIn(kernel.shared, shared)
                verbose, _ = self.compile(f"-arch=sm_{sm}", "-Xptxas", "-v", text=KNOWN_RESOURCES)
                self.assertIn(f"Used {kernel.registers} registers", verbose.stderr)
                self.assertEqual(device_code.readable([name]), {name: "known"})
                barriers = sum(n for code, n in kernel.code.items()
                               if code & device_code.OPERATION in device_code.KINDS["barrier"])
                self.assertEqual(barriers, 1)
                self.assertEqual(device_code.resident_warps(kernel, device_code.LIMITS[sm]), warps)

    def test_table_has_a_row_for_each_kernel(self):
        table = [sys.executable, device_code.__file__, LIBRARY]
        for sm in sorted({architecture for architecture, _ in self.kernels} & device_code.LIMITS.keys()):
            done = subprocess.run([*table, "--sm", str(sm)], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len(done.stdout.splitlines()) - 2, len([1 for a, _ in self.kernels if a == sm]))
        unread, write = os.pipe()
        os.close(unread)
        done = subprocess.run(table, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, ""))
        wrong = subprocess.run([*table[:-1], __file__], capture_output=True, text=True)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("no device code", wrong.stderr)

    def test_what_fails_is_told_in_one_line(self):
        with tempfile.NamedTemporaryFile() as short, open("/dev/full", "w") as full:
            with open(LIBRARY, "rb") as library:
                code = library.read()
            (start, _), *_ = device_code.device_images(code)
            short.write(code[:start + 128])  # the head of the first image
            short.flush()
            for library, out, words in [(short.name, subprocess.PIPE, ": is cut short or damaged"),
                                        (LIBRARY, full, "standard output: No space left on device")]:
                done = subprocess.run([sys.executable, device_code.__file__, library], stdout=out,
                                      stderr=subprocess.PIPE, text=True)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(words, done.stderr)


if __name__ == "__main__":
    if not WATCHED:
        print(f"SKIPPED: local memory of the compiled kernels: {UNWATCHED}", flush=True)
    unittest.main(argv=sys.argv[:1])
