"""The same session against every shape of storage and compute, over both carriers."""
import decimal

import harness


class Shape:
    """Tables, views, retractions and subscriptions; mixed into one class a shape."""

    CLUSTER = "1"

    def test_table_view_and_retractions(self):
        self.execute(f"CREATE CLUSTER work (SIZE '{self.CLUSTER}', REPLICATION FACTOR 1)")
        self.execute("CREATE TABLE orders (id int, customer text, amount numeric(10,2))")
        self.execute("CREATE MATERIALIZED VIEW totals IN CLUSTER work AS SELECT customer, "
                     "count(*) AS orders, sum(amount) AS total FROM orders GROUP BY customer")
        self.execute("CREATE TABLE customers (name text, city text)")
        self.execute("CREATE MATERIALIZED VIEW cities IN CLUSTER work AS SELECT c.city, "
                     "count(o.id) AS orders, max(o.amount) AS largest FROM customers c "
                     "LEFT JOIN orders o ON o.customer = c.name GROUP BY c.city")
        self.execute("INSERT INTO customers VALUES ('ann', 'Bonn'), ('bob', 'Ulm'), "
                     "('eve', 'Ulm'), ('zoe', 'Jena')")
        for first in range(0, 300, 100):
            values = ",".join(f"({n}, '{('ann', 'bob', 'eve')[n % 3]}', {n}.50)"
                              for n in range(first, first + 100))
            self.execute(f"INSERT INTO orders VALUES {values}")
        self.assertEqual(self.rows("SELECT * FROM totals ORDER BY customer"), [
            ("ann", 100, decimal.Decimal("14900.00")), ("bob", 100, decimal.Decimal("15000.00")),
            ("eve", 100, decimal.Decimal("15100.00"))])
        self.assertEqual(self.rows("SELECT * FROM cities ORDER BY city"), [
            ("Bonn", 100, decimal.Decimal("297.50")), ("Jena", 0, None),
            ("Ulm", 200, decimal.Decimal("299.50"))])
        self.execute("DELETE FROM orders WHERE customer = 'eve'")
        self.execute("UPDATE orders SET amount = amount + 1000 WHERE id = 0")
        self.assertEqual(self.rows("SELECT * FROM totals ORDER BY customer"), [
            ("ann", 100, decimal.Decimal("15900.00")), ("bob", 100, decimal.Decimal("15000.00"))])
        self.assertEqual(self.rows("SELECT * FROM cities ORDER BY city"), [
            ("Bonn", 100, decimal.Decimal("1000.50")), ("Jena", 0, None),
            ("Ulm", 100, decimal.Decimal("298.50"))])
        self.execute("DELETE FROM orders")
        self.assertEqual(self.rows("SELECT * FROM totals"), [])
        self.execute("DROP MATERIALIZED VIEW cities")
        self.execute("DROP MATERIALIZED VIEW totals")
        self.execute("DROP CLUSTER work")

    def test_errors_come_and_go(self):
        self.execute("CREATE TABLE ratios (a int, b int)")
        self.execute("CREATE MATERIALIZED VIEW quotients AS SELECT a, a / b AS q FROM ratios")
        self.execute("INSERT INTO ratios VALUES (6, 3), (1, 0)")
        self.assertEqual(self.error("SELECT * FROM quotients"), ("22012", "division by zero"))
        self.execute("DELETE FROM ratios WHERE b = 0")
        self.assertEqual(self.rows("SELECT * FROM quotients"), [(6, 2)])
        self.execute("DROP MATERIALIZED VIEW quotients")
        self.execute("DROP TABLE ratios")


class Shape1x1Shm(Shape, harness.EnvironmentTest):
    FLAGS = ("--storage-workers=1", "--carrier=auto")


class Shape1x2Tcp(Shape, harness.EnvironmentTest):
    FLAGS = ("--storage-workers=2", "--carrier=tcp")
    CLUSTER = "2"


class Shape2x2Auto(Shape, harness.EnvironmentTest):
    FLAGS = ("--storage-processes=2", "--storage-workers=2", "--carrier=auto")
    CLUSTER = "2-2"


class Shape2x2Tcp(Shape, harness.EnvironmentTest):
    FLAGS = ("--storage-processes=2", "--storage-workers=2", "--carrier=tcp")
    CLUSTER = "2-2"


if __name__ == "__main__":
    harness.main()
