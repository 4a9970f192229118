"""What every program owes a user whom it refuses."""

import unittest


class Refusals(unittest.TestCase):
    def assert_refused(self, done, contains, program=""):
        """Exit status 2, nothing on standard output, and on standard error one line, the program's, with `contains`."""
        output, error = (text.decode() if isinstance(text, bytes) else text for text in (done.stdout, done.stderr))
        self.assertEqual(done.returncode, 2, error)
        self.assertTrue(error.endswith("\n"), error)
        self.assertEqual(error.count("\n"), 1, error)
        self.assertTrue(error.startswith(program and program + ": "), error)
        self.assertIn(contains, error)
        self.assertFalse(output, output)
