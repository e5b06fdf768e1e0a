"""The SQL port over TLS, spoken to by real clients: libpq through psycopg2, and psql."""
import os
import shutil
import subprocess
import tempfile

import environment
import harness

ENVIRONMENT = "0f" * 16


class Tls(harness.EnvironmentTest):
    @classmethod
    def setUpClass(cls):
        cls.pki = tempfile.mkdtemp(prefix="tailrace-tls-")
        subprocess.run([os.path.join(harness.BINARIES, "issue_certificates"), cls.pki, ENVIRONMENT,
                        "environmentd"], check=True)
        cls.FLAGS = ("--tls-mode=require", f"--tls-cert={cls.pki}/environmentd-test.crt",
                     f"--tls-key={cls.pki}/environmentd-test.key")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.pki, ignore_errors=True)

    def connect(self, **options):
        return environment.psycopg2.connect(host="127.0.0.1", port=self.env.sql_port,
                                            user="tailrace", dbname="tailrace", **options)

    def test_statements_and_large_results(self):
        self.execute("CREATE TABLE t (n int, v text)")
        self.execute("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) g")
        rows = self.rows("SELECT n, v FROM t ORDER BY n")
        self.assertEqual(rows, [(n, "x" * 1000) for n in range(1, 5001)])

    def test_certificate_is_the_configured_one(self):
        self.connect(sslmode="verify-ca", sslrootcert=f"{self.pki}/ca.crt").close()
        other = tempfile.mkdtemp(prefix="tailrace-tls-")
        self.addCleanup(shutil.rmtree, other)
        subprocess.run([os.path.join(harness.BINARIES, "issue_certificates"), other, "f0" * 16,
                        "environmentd"], check=True)
        with self.assertRaisesRegex(environment.psycopg2.OperationalError, "certificate"):
            self.connect(sslmode="verify-ca", sslrootcert=f"{other}/ca.crt")

    def test_plain_is_refused(self):
        with self.assertRaisesRegex(environment.psycopg2.OperationalError, "TLS|SSL|encrypt"):
            self.connect(sslmode="disable")

    def test_psql(self):
        url = f"host=127.0.0.1 port={self.env.sql_port} user=tailrace sslmode=require"
        out = subprocess.run(["psql", url, "-At", "-c", "SELECT 1 + 1", "-c", "\\conninfo"],
                             capture_output=True, text=True, timeout=60)
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("2\n", out.stdout)
        self.assertIn("SSL connection", out.stdout)


if __name__ == "__main__":
    harness.main()
