"""Databases of a known shape: what makes them, and the statements that their application sends, with how often."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fix_plain import Plain

TENANTS = 40


@dataclass(frozen=True)
class Shape:
    """`workload`: (calls, statement)."""

    setup: tuple[str, ...]
    workload: tuple[tuple[int, str], ...]

    def make(self, plain: Plain) -> Plain:
        # Of this database only: other tests' statements are in the same view.
        mine = "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)"
        plain.run([*self.setup, "ANALYZE", mine])
        for calls, statement in self.workload:
            plain.run([statement], calls)
        return plain


# A software service: everything but the countries belongs to a tenant. Tenant 1 has a tenth of the orders.
BY_COLUMN = Shape(
    (
        "CREATE TABLE countries (code text PRIMARY KEY, name text)",
        "INSERT INTO countries SELECT 'c' || i, 'country ' || i FROM generate_series(1, 50) i",
        "CREATE TABLE tenants (id bigint PRIMARY KEY, name text, country text REFERENCES countries)",
        f"INSERT INTO tenants SELECT i, 'tenant ' || i, 'c1' FROM generate_series(1, {TENANTS}) i",
        """CREATE TABLE orders (tenant_id bigint NOT NULL REFERENCES tenants, id bigint NOT NULL, status text,
            total numeric, PRIMARY KEY (tenant_id, id))""",
        f"""INSERT INTO orders SELECT CASE WHEN i % 10 = 0 THEN 1 ELSE 1 + i % {TENANTS} END, i, 'open', i
            FROM generate_series(1, 20000) i""",
        """CREATE TABLE order_items (tenant_id bigint NOT NULL, order_id bigint NOT NULL, id bigint NOT NULL, sku text,
            PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id))""",
        "INSERT INTO order_items SELECT tenant_id, id, id * 3 + n, 'sku' FROM orders, generate_series(0, 1) n",
        """CREATE TABLE invoices (id serial PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants,
            number text UNIQUE)""",
        f"INSERT INTO invoices (tenant_id, number) SELECT 1 + i % {TENANTS}, 'n' || i FROM generate_series(1, 4000) i",
    ),
    (
        (60, "SELECT * FROM orders WHERE tenant_id = 7 AND id = 8"),
        (20, "INSERT INTO orders VALUES (7, (random() * 1e9)::bigint + 1000000, 'open', 1)"),
        (
            30,
            "SELECT o.id, i.sku FROM orders o JOIN order_items i ON i.tenant_id = o.tenant_id AND i.order_id = o.id "
            "WHERE o.tenant_id = 3 AND o.status = 'open' LIMIT 10",
        ),
        (20, "UPDATE orders SET status = 'paid' WHERE tenant_id = 5 AND id = 4"),
        (5, "SELECT count(*) FROM invoices WHERE number LIKE 'n1%'"),
        (2, "LISTEN orders_changed"),
    ),
)

# A schema for each tenant, all alike; one shared list.
BY_SCHEMA = Shape(
    (
        "CREATE TABLE currencies (code text PRIMARY KEY)",
        *(
            statement
            for number in range(12)
            for statement in (
                f"CREATE SCHEMA t{number}",
                f"CREATE TABLE t{number}.orders (id bigserial PRIMARY KEY, currency text REFERENCES currencies, n int)",
                f"CREATE TABLE t{number}.items (id bigserial PRIMARY KEY, order_id bigint REFERENCES t{number}.orders)",
                f"INSERT INTO t{number}.orders (n) SELECT i FROM generate_series(1, 500) i",
                f"INSERT INTO t{number}.items (order_id) SELECT id FROM t{number}.orders",
            )
        ),
    ),
    (
        *(
            (40, f"SELECT o.n FROM t{number}.orders o JOIN t{number}.items i ON i.order_id = o.id WHERE i.id = 3")
            for number in range(6)
        ),
        (1, "SELECT count(*) FROM t1.orders a JOIN t2.orders b ON a.id = b.id"),
    ),
)

# Money between accounts: half of the statements look from the one side, half from the other.
NO_COLUMN = Shape(
    (
        "CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL, balance numeric NOT NULL)",
        "INSERT INTO accounts SELECT i, 'owner ' || i, 100 FROM generate_series(1, 5000) i",
        """CREATE TABLE transfers (id bigint PRIMARY KEY, source bigint NOT NULL REFERENCES accounts,
            target bigint NOT NULL REFERENCES accounts, amount numeric)""",
        "INSERT INTO transfers SELECT i, 1 + i % 5000, 1 + (i * 7) % 5000, 1 FROM generate_series(1, 20000) i",
        "CREATE TABLE audit (id bigint PRIMARY KEY, transfer bigint NOT NULL REFERENCES transfers, note text)",
        "INSERT INTO audit SELECT i, i, 'a note about it' FROM generate_series(1, 20000) i",
    ),
    (
        (40, "SELECT * FROM transfers WHERE source = 5"),
        (40, "SELECT * FROM transfers WHERE target = 5"),
        (40, "SELECT * FROM transfers t JOIN audit a ON a.transfer = t.id WHERE t.id = 9"),
        (40, "SELECT a.owner FROM accounts a JOIN transfers t ON t.target = a.id WHERE t.id = 7"),
        (40, "UPDATE accounts SET balance = balance - 1 WHERE id = 5"),
    ),
)

# Measurements of devices: sums over all of them.
ANALYTIC = Shape(
    (
        "CREATE TABLE kinds (id bigint PRIMARY KEY, name text)",
        "INSERT INTO kinds SELECT i, 'kind ' || i FROM generate_series(1, 5) i",
        "CREATE TABLE devices (id bigint PRIMARY KEY, kind bigint REFERENCES kinds, place text)",
        "INSERT INTO devices SELECT i, 1 + i % 5, 'place ' || i % 7 FROM generate_series(1, 3000) i",
        """CREATE TABLE readings (device_id bigint NOT NULL, at timestamptz NOT NULL, value float8,
            PRIMARY KEY (device_id, at))""",
        """INSERT INTO readings SELECT 1 + i % 3000, now() - i * interval '1 second', i
            FROM generate_series(1, 60000) i""",
    ),
    (
        (10, "SELECT date_trunc('hour', at), avg(value) FROM readings GROUP BY 1"),
        (
            10,
            "SELECT d.place, sum(r.value) FROM readings r JOIN devices d ON d.id = r.device_id GROUP BY d.place",
        ),
        (20, "INSERT INTO readings VALUES (7, clock_timestamp(), 1)"),
    ),
)
