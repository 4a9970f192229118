"""The compiled kernels of the CUDA backend: device_code_test.py LIBRARY NVCC FLAG...

- the attention kernels use tensor cores, on every architecture;
- no kernel reads or writes local memory;
- the compiler's flags refuse a kernel that would, and what they let pass, device_code.py sees.
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

import device_code

LIBRARY, NVCC, *FLAGS = sys.argv[1:]

# Its subscripts are known at run time only, so the array must lie in memory.
LOCAL_ARRAY = """
__global__ void local_array(float* x, const int* i) {
  float a[64];
  for (int k = 0; k < 64; ++k) a[k] = x[k];
  for (int k = 0; k < 64; ++k) a[i[k] & 63] += a[i[k + 1] & 63];
  for (int k = 0; k < 64; ++k) x[k] = a[k];
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

    def test_no_kernel_uses_local_memory(self):
        for (architecture, name), code in self.kernels.items():
            with self.subTest(architecture=architecture, kernel=name):
                self.assertEqual(code[device_code.LDL] + code[device_code.STL], 0)

    def compile(self, *flags):
        with tempfile.TemporaryDirectory() as folder:
            source, out = pathlib.Path(folder, "local.cu"), pathlib.Path(folder, "local.o")
            source.write_text(LOCAL_ARRAY)
            result = subprocess.run([NVCC, *flags, "-c", source, "-o", out], capture_output=True, text=True)
            return result, out.read_bytes() if out.exists() else b""

    def test_local_memory_is_found(self):
        refused, _ = self.compile("-arch=sm_75", *FLAGS)
        self.assertNotEqual(refused.returncode, 0, "the flags accept local memory")
        self.assertIn("Local memory used", refused.stdout + refused.stderr)
        accepted, data = self.compile("-arch=sm_75", "-no-compress")
        self.assertEqual(accepted.returncode, 0, accepted.stderr)
        code = device_code.kernels(data)
        self.assertEqual([a for a, _ in code], [75])
        (counts,) = code.values()
        self.assertGreater(counts[device_code.LDL], 0)
        self.assertGreater(counts[device_code.STL], 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
