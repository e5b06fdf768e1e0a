"""One environment, many statements: sources, subscriptions, protocol features, tools."""
import os
import pathlib
import random
import subprocess
import threading
import time
import urllib.request

import environment
import harness


class Sql(harness.EnvironmentTest):
    def test_select_constant(self):
        self.assertEqual(self.rows("SELECT 1, 'a', NULL, true"), [(1, "a", None, True)])

    def test_csv_source_tails_and_reports_errors(self):
        path = pathlib.Path(self.directory) / "people.csv"
        path.write_text("name,age\nann,31\nbob,x\n")
        self.execute("CREATE SOURCE people (name text, age int) FROM FILE "
                     f"'{path}' (FORMAT CSV WITH HEADER) WITH (TAIL = true)")
        self.execute("CREATE MATERIALIZED VIEW ages AS SELECT sum(age) AS s FROM people")
        environment.poll("the bad line to be told",
                         lambda: self.error_or_rows("SELECT * FROM ages")[0] == "22P02")
        text = path.read_text().replace("bob,x\n", "bob,11\n")
        new = path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, path)
        environment.poll("the bad line to vanish",
                         lambda: self.error_or_rows("SELECT * FROM ages") == (None, [(42,)]))
        with open(path, "a", encoding="utf-8") as f:
            f.write("eve,8\n")
        self.eventually("SELECT * FROM ages", [(50,)])
        self.execute("DROP MATERIALIZED VIEW ages")
        self.execute("DROP SOURCE people")

    def error_or_rows(self, statement):
        try:
            return None, self.rows(statement)
        except environment.psycopg2.Error as problem:
            return problem.pgcode, None

    def test_json_source_once(self):
        path = pathlib.Path(self.directory) / "events.jsonl"
        path.write_text('{"k": 1, "v": "a"}\n{"k": 2}\n{"v": "c", "k": 3, "more": true}\n')
        self.execute(f"CREATE SOURCE events (k int, v text) FROM FILE '{path}' (FORMAT JSON)")
        self.eventually("SELECT * FROM events ORDER BY k", [(1, "a"), (2, None), (3, "c")])
        self.execute("DROP SOURCE events")

    def test_values_collated_under_changes(self):
        self.execute("CREATE TABLE marks (k int, name text, v int)")
        self.execute(
            "CREATE MATERIALIZED VIEW lists AS SELECT k, "
            "string_agg(name, '+' ORDER BY v DESC, name) AS names, "
            "array_agg(DISTINCT v ORDER BY v) AS vs, "
            "jsonb_object_agg(name, v) FILTER (WHERE v > 1) AS j, "
            "bit_or(v) AS bits, stddev_pop(v::float8) AS dev FROM marks GROUP BY k")
        self.execute("INSERT INTO marks VALUES (1, 'a', 1), (1, 'b', 3), (1, 'c', 3), (2, 'x y', 4)")
        self.eventually("SELECT * FROM lists ORDER BY k", [
            (1, "b+c+a", [1, 3], {"b": 3, "c": 3}, 3, 0.9428090415820634),
            (2, "x y", [4], {"x y": 4}, 4, 0.0)])
        self.execute("DELETE FROM marks WHERE name IN ('a', 'x y')")
        self.eventually("SELECT * FROM lists", [(1, "b+c", [3], {"b": 3, "c": 3}, 3, 0.0)])
        self.execute("UPDATE marks SET v = 0 WHERE name = 'b'")
        self.eventually("SELECT * FROM lists", [(1, "c+b", [0, 3], {"c": 3}, 3, 1.5)])
        self.execute("DROP MATERIALIZED VIEW lists")
        self.execute("DROP TABLE marks")

    def test_windows_kept_under_changes(self):
        """Views made before the data, changed at random: always what the query says now."""
        self.execute("CREATE TABLE steps (k int, t int, v int)")
        queries = {
            "w_rank": "SELECT k, t, v, row_number() OVER w AS n, rank() OVER (ORDER BY v) AS r "
                      "FROM steps WINDOW w AS (PARTITION BY k ORDER BY t)",
            "w_frame": "SELECT k, t, sum(v) OVER (PARTITION BY k ORDER BY t ROWS 2 PRECEDING) AS s, "
                       "lag(v) OVER (PARTITION BY k ORDER BY t) AS l, max(v) OVER (PARTITION BY k "
                       "ORDER BY t RANGE BETWEEN 3 PRECEDING AND 3 FOLLOWING) AS m FROM steps",
            "w_top": "SELECT k, t FROM (SELECT k, t, row_number() OVER (PARTITION BY k ORDER BY "
                     "v DESC, t) AS n FROM steps) q WHERE n <= 2"}
        for name, query in queries.items():
            self.execute(f"CREATE MATERIALIZED VIEW {name} AS {query}")
        dice = random.Random(7)
        for change in range(12):
            rows = ", ".join(f"({dice.randrange(3)}, {change * 10 + i}, {dice.randrange(20)})"
                             for i in range(4))
            self.execute(f"INSERT INTO steps VALUES {rows}")
            if change % 3 == 2:
                self.execute(f"DELETE FROM steps WHERE t % 5 = {dice.randrange(5)}")
                self.execute(f"UPDATE steps SET v = v + 7 WHERE v < {dice.randrange(8)}")
        for name, query in queries.items():
            self.assertEqual(sorted(self.rows(f"SELECT * FROM {name}"), key=str),
                             sorted(self.rows(query), key=str), name)
            self.assertGreater(len(self.rows(query)), 3)
        self.execute("DELETE FROM steps")
        for name in queries:
            self.eventually(f"SELECT * FROM {name}", [])
            self.execute(f"DROP MATERIALIZED VIEW {name}")
        self.execute("DROP TABLE steps")

    def test_functions_kept_under_changes(self):
        """Views over set-returning functions made before the data: what the query says now."""
        self.execute("CREATE TABLE notes (id int, lo int, hi int, tags text, body jsonb)")
        queries = {
            "f_range": "SELECT id, g, n FROM notes LEFT JOIN generate_series(lo, hi) "
                       "WITH ORDINALITY AS s (g, n) ON true",
            "f_tags": "SELECT string_to_table(tags, ',') AS tag, count(*) AS c FROM notes GROUP BY 1",
            "f_body": "SELECT id, e.key, v FROM notes, jsonb_each(body) e, "
                      "jsonb_array_elements_text(e.value) v",
            "f_list": "SELECT id, generate_series(1, 2) AS a, unnest(string_to_array(tags, ',')) "
                      "AS b FROM notes"}
        for name, query in queries.items():
            self.execute(f"CREATE MATERIALIZED VIEW {name} AS {query}")
        dice = random.Random(11)
        for change in range(8):
            rows = ", ".join(
                f"({change * 3 + i}, {dice.randrange(4)}, {dice.randrange(6)}, "
                f"'{','.join(dice.choices('abcd', k=dice.randrange(1, 4)))}', "
                f"'{{\"x\": [1, {dice.randrange(3)}], \"y\": []}}')" for i in range(3))
            self.execute(f"INSERT INTO notes VALUES {rows}")
            if change % 2 == 1:
                self.execute(f"DELETE FROM notes WHERE id % 4 = {dice.randrange(4)}")
                self.execute(f"UPDATE notes SET hi = hi - 2, tags = 'z,' || tags "
                             f"WHERE id % 3 = {dice.randrange(3)}")
        for name, query in queries.items():
            self.assertEqual(sorted(self.rows(f"SELECT * FROM {name}"), key=str),
                             sorted(self.rows(query), key=str), name)
            self.assertGreater(len(self.rows(query)), 3)
        plan = "\n".join(row[0] for row in self.rows("EXPLAIN SELECT id, g FROM notes, "
                                                     "generate_series(lo, hi) g"))
        self.assertIn("FlatMap generate_series(lo, hi) keep=(id)", plan)
        self.execute("DELETE FROM notes")
        for name in queries:
            self.eventually(f"SELECT * FROM {name}", [])
            self.execute(f"DROP MATERIALIZED VIEW {name}")
        self.execute("DROP TABLE notes")

    def test_missing_file_stalls_with_a_status(self):
        path = pathlib.Path(self.directory) / "later.csv"
        self.execute(f"CREATE SOURCE later (a int) FROM FILE '{path}' (FORMAT CSV) "
                     "WITH (TAIL = true)")
        statement = ("SELECT status, error FROM mz_internal.mz_source_statuses "
                     "WHERE name = 'later'")
        environment.poll("the status", lambda: self.rows(statement)[0][0] == "stalled")
        self.assertIn("later.csv", self.rows(statement)[0][1])
        path.write_text("7\n")
        self.eventually("SELECT * FROM later", [(7,)])
        self.execute("DROP SOURCE later")

    def test_subscribe_through_copy(self):
        self.execute("CREATE TABLE watched (k int)")
        lines = []
        connection = self.env.connect()

        class Sink:
            def write(self, data):
                text = data if isinstance(data, str) else data.decode()
                lines.extend(line.split("\t")[1:] for line in text.splitlines())
                return len(data)

        def run():
            try:
                connection.cursor().copy_expert("COPY (SUBSCRIBE watched) TO STDOUT", Sink())
            except environment.psycopg2.Error:
                pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.execute("INSERT INTO watched VALUES (1), (2)")
        environment.poll("two inserts", lambda: sorted(lines) == [["1", "1"], ["1", "2"]])
        self.execute("DELETE FROM watched WHERE k = 1")
        environment.poll("a delete", lambda: ["-1", "1"] in lines)
        connection.cancel()
        thread.join(20)
        self.assertFalse(thread.is_alive(), "SUBSCRIBE does not end when cancelled")
        connection.close()
        self.execute("DROP TABLE watched")

    def test_subscribe_through_a_cursor(self):
        self.execute("CREATE TABLE fetched (k int)")
        self.execute("INSERT INTO fetched VALUES (5)")
        connection = self.env.connect(autocommit=False)
        cursor = connection.cursor()
        cursor.execute("DECLARE c CURSOR FOR SUBSCRIBE fetched")
        cursor.execute("FETCH ALL c WITH (timeout = '5s')")
        self.assertEqual([row[1:] for row in cursor.fetchall()], [(1, 5)])
        connection.rollback()
        connection.close()
        self.execute("DROP TABLE fetched")

    def test_prepared_statements_and_copy_in(self):
        self.execute("CREATE TABLE things (id int8, name text, made timestamptz)")
        import io
        data = "1\tone\t2026-01-01 00:00:00+00\n2\t\\N\t2026-01-02 12:30:00+00\n"
        self.cursor.copy_expert("COPY things FROM STDIN", io.StringIO(data))
        self.execute("PREPARE p AS SELECT name FROM things WHERE id = $1")
        self.execute("EXECUTE p (1)")
        self.assertEqual(self.cursor.fetchall(), [("one",)])
        self.assertEqual(self.rows("SELECT count(*), count(name) FROM things"), [(2, 1)])
        self.execute("DROP TABLE things")

    def test_transactions(self):
        self.execute("CREATE TABLE accounts (name text, amount int)")
        connection = self.env.connect(autocommit=False)
        cursor = connection.cursor()
        cursor.execute("INSERT INTO accounts VALUES ('a', 1)")
        cursor.execute("INSERT INTO accounts VALUES ('b', 2)")
        self.assertEqual(self.rows("SELECT * FROM accounts"), [])
        connection.commit()
        self.assertEqual(self.rows("SELECT * FROM accounts ORDER BY name"), [("a", 1), ("b", 2)])
        cursor.execute("INSERT INTO accounts VALUES ('c', 3)")
        connection.rollback()
        self.assertEqual(self.rows("SELECT count(*) FROM accounts"), [(2,)])
        connection.close()
        self.execute("DROP TABLE accounts")

    def test_errors_have_sqlstates(self):
        for statement, sqlstate in (
                ("SELEC 1", "42601"), ("SELECT nothing", "42703"), ("SELECT * FROM nowhere", "42P01"),
                ("SELECT f(1)", "42883"), ("SELECT 1 + 'a'", "22P02"), ("SELECT 1 / 0", "22012"),
                ("CREATE TABLE pg_catalog.x (a int)", "42501"), ("DROP TABLE nowhere", "42P01"),
                ("SELECT 'a'::int", "22P02"), ("SELECT 3000000000::int4", "22003")):
            self.assertEqual(self.error(statement)[0], sqlstate, statement)

    def test_psql_describes(self):
        self.execute("CREATE TABLE described (a int NOT NULL, b text)")
        self.execute("CREATE VIEW seen AS SELECT a FROM described")
        self.execute("CREATE MATERIALIZED VIEW kept AS SELECT b FROM described")
        for command, expected in (("\\d", "described"), ("\\dt", "described"), ("\\dv", "seen"),
                                  ("\\dm", "kept"), ("\\l", "tailrace"), ("\\dn", "public"),
                                  ("\\du", "tailrace"), ("\\d described", "integer"),
                                  ("\\d seen", "integer")):
            result = subprocess.run(
                ["psql", "-X", "-h", "127.0.0.1", "-p", str(self.env.sql_port), "-U", "tailrace",
                 "-c", command], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}")
            self.assertEqual(result.stderr, "", command)
            self.assertIn(expected, result.stdout, command)
        self.execute("DROP MATERIALIZED VIEW kept")
        self.execute("DROP VIEW seen")
        self.execute("DROP TABLE described")

    def psql(self, script, *arguments):
        return subprocess.run(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(self.env.sql_port), "-U", "tailrace",
             "-v", "ON_ERROR_STOP=1", *arguments],
            input=script, capture_output=True, text=True, timeout=60, check=False)

    def test_every_backslash_command(self):
        self.execute("CREATE TABLE listed (a int NOT NULL, b text DEFAULT 'x')")
        self.execute("CREATE VIEW looked AS SELECT a FROM listed")
        self.execute("CREATE MATERIALIZED VIEW held AS SELECT b, count(*) AS n FROM listed GROUP BY b")
        self.execute("CREATE INDEX found ON listed (a)")
        for command in (
                "d", "dt", "dv", "dm", "di", "l", "dn", "du", "df", "dd", "dT", "dp", "conninfo",
                "d listed", "d looked", "d held", "d found", "d+ listed", "d+ looked", "d+ held",
                "dt+", "dv+", "dm+", "di+", "l+", "dn+", "du+", "df abs", "df+ abs", "dT+", "z", "db",
                "dx", "dC", "do", "ds", "dD", "dF", "drds", "ddp", "des", "dRp", "dy", "da", "dc",
                "dO", "dA", "dL", "dE", "dg", "dX", "dS", "d pg_catalog.pg_class"):
            result = self.psql(f"\\{command}\n")
            self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}")
            self.assertNotIn("ERROR", result.stderr, command)
        self.assertIn("double precision", self.psql("\\df abs\n").stdout)
        result = self.psql("\\timing on\nSELECT 1 AS one \\gx\n")
        self.assertIn("one | 1", result.stdout)
        self.assertIn("Time:", result.stdout)
        self.execute("DROP TABLE listed CASCADE")

    def test_copy_binary(self):
        import io
        self.execute("CREATE TABLE packed (a int, b text, c numeric(10,2))")
        self.execute("INSERT INTO packed VALUES (1, 'one', 1.50), (2, NULL, NULL)")
        data = io.BytesIO()
        self.cursor.copy_expert("COPY packed TO STDOUT (FORMAT binary)", data)
        data.seek(0)
        self.cursor.copy_expert("COPY packed FROM STDIN (FORMAT binary)", data)
        self.assertEqual(self.rows("SELECT count(*), count(b), sum(c)::text FROM packed"),
                         [(4, 2, "3.00")])
        self.execute("DROP TABLE packed")

    def test_hundreds_of_idle_clients(self):
        clients = [self.env.connect() for _ in range(600)]
        for client in clients[::50]:
            cursor = client.cursor()
            cursor.execute("SELECT 1")
            self.assertEqual(cursor.fetchall(), [(1,)])
        for client in clients:
            client.close()

    def test_metrics_satisfy_promtool(self):
        url = f"http://127.0.0.1:{self.env.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read()
        self.assertIn(b"tailrace_", text)
        result = subprocess.run(["promtool", "check", "metrics"], input=text,
                                capture_output=True, check=False, timeout=60)
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, b""))

    def test_explain(self):
        self.execute("CREATE TABLE explained (a int, b int)")
        text = "\n".join(row[0] for row in self.rows(
            "EXPLAIN SELECT a, sum(b) FROM explained WHERE b > 1 GROUP BY a"))
        self.assertIn("Reduce", text)
        self.execute("DROP TABLE explained")

    def test_cancel(self):
        self.execute("CREATE TABLE never (a int)")
        timer = threading.Timer(0.5, self.connection.cancel)
        timer.start()
        started = time.monotonic()
        self.assertEqual(self.cancelled_subscribe(), "57014")
        self.assertLess(time.monotonic() - started, 20)
        self.execute("DROP TABLE never")

    def cancelled_subscribe(self):
        class Nowhere:
            def write(self, data):
                return len(data)
        try:
            self.cursor.copy_expert("COPY (SUBSCRIBE never) TO STDOUT", Nowhere())
        except environment.psycopg2.Error as problem:
            return problem.pgcode
        return None


if __name__ == "__main__":
    harness.main()
