"""What every end-to-end test shares: an environment of the real binaries in a temporary folder."""
import os
import shutil
import sys
import tempfile
import unittest

import environment

BINARIES = os.environ.get("TAILRACE_BINARIES", "build/release/bin")


class EnvironmentTest(unittest.TestCase):
    """One environment a test class; subclasses choose flags and the default cluster's size."""

    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="tailrace-e2e-")
        cls.env = environment.Environment(BINARIES, cls.directory, *cls.FLAGS)
        try:
            cls.env.start()
        except Exception:
            cls.env.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            cls.env.stop()
        finally:
            if cls.env.process is None and not cls.env.services():
                shutil.rmtree(cls.directory, ignore_errors=True)

    def setUp(self):
        self.connection = self.env.connect()
        self.cursor = self.connection.cursor()

    def tearDown(self):
        self.connection.close()

    def execute(self, statement, parameters=None):
        self.cursor.execute(statement, parameters)

    def rows(self, statement, parameters=None):
        self.cursor.execute(statement, parameters)
        return self.cursor.fetchall()

    def error(self, statement):
        """The SQLSTATE and message a statement fails with."""
        try:
            self.cursor.execute(statement)
        except environment.psycopg2.Error as problem:
            return problem.pgcode, problem.diag.message_primary
        self.fail(f"no error from: {statement}")

    def eventually(self, statement, expected, timeout=30):
        """Waits until the statement returns these rows."""
        last = []

        def check():
            last[:] = self.rows(statement)
            return last == expected

        try:
            environment.poll(statement, check, timeout)
        except RuntimeError:
            self.assertEqual(last, expected, statement)


def main():
    unittest.main(argv=sys.argv, verbosity=2)
