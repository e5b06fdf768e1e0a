"""SCRAM: with a password file, only who knows the password comes in, from anywhere."""
import os
import tempfile

import environment
import harness


class Password(harness.EnvironmentTest):
    """The harness connects without a password, which is why setUp is not its own here."""

    @classmethod
    def setUpClass(cls):
        handle, cls.path = tempfile.mkstemp(prefix="tailrace-password-")
        os.write(handle, b"correct horse\n")
        os.close(handle)
        cls.FLAGS = (f"--sql-password-file={cls.path}",)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.path)

    def setUp(self):
        pass

    def tearDown(self):
        pass

    def connect(self, password):
        return environment.psycopg2.connect(
            host="127.0.0.1", port=self.env.sql_port, user="tailrace", dbname="tailrace",
            password=password, connect_timeout=30)

    def test_password(self):
        connection = self.connect("correct horse")
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        self.assertEqual(cursor.fetchall(), [(1,)])
        connection.close()
        for wrong in ("wrong", "correct horse "):
            with self.assertRaisesRegex(environment.psycopg2.OperationalError,
                                        "password authentication failed"):
                self.connect(wrong)


if __name__ == "__main__":
    harness.main()
