"""One client: a process with one connection that works on one tenant after the other and notes every answer."""

from __future__ import annotations

import random
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.load.ledger import Answer, Ledger, answer_of

INSERTS, ADDITIONS, READS = 5, 1, 10
"""Statements of a large transaction; a small one is a single insert, committed by itself."""
LARGE = INSERTS + ADDITIONS + READS
SMALL_EVERY = 4
CONNECTION_LIFE = 400
"""Transactions before a client connects anew, as pools do: so new nodes get clients too."""
PAYLOAD = "x" * 40


@dataclass(frozen=True, slots=True)
class Tenant:
    """A distributed schema, or a value of the distribution column (then `column` is given)."""

    number: int
    schema: str
    column: int | None = None

    def statements(self) -> tuple[str, str, str]:
        """Insert a row, add to a counter, read a row back: parameters are those of `parameters`."""
        name, column = self.schema, "" if self.column is None else "tenant, "
        value = "" if self.column is None else f"{self.column}, "
        where = "" if self.column is None else f"tenant = {self.column} AND "
        return (
            f"INSERT INTO {name}.entry ({column}writer, number, payload) VALUES ({value}%s, %s, '{PAYLOAD}')",
            f"UPDATE {name}.counter SET value = value + 1 WHERE {where}writer = %s",
            f"SELECT count(*) FROM {name}.entry WHERE {where}writer = %s AND number = %s",
        )


@dataclass(slots=True)
class Account:
    """What a client brings back. Every transaction has an entry in each array; times are of CLOCK_MONOTONIC."""

    ledger: Ledger
    port: str
    sent: array[float] = field(default_factory=lambda: array("d"))
    answered: array[float] = field(default_factory=lambda: array("d"))
    size: array[int] = field(default_factory=lambda: array("B"))
    tenant: array[int] = field(default_factory=lambda: array("H"))
    errors: list[tuple[float, str, str]] = field(default_factory=list)
    misread: Counter[int] = field(default_factory=Counter)


class Client:
    def __init__(self, writer: int, port: str, dsn: str, tenants: list[Tenant], prepared: bool) -> None:
        self._dsn, self._tenants, self._prepared = dsn, tenants, prepared
        self._texts = [tenant.statements() for tenant in tenants]
        self._random = random.Random(writer)
        self._last: dict[int, int] = {}
        self.account = Account(Ledger(writer), port)

    def run(self, go_on: Callable[[], bool], tell: Callable[[int], None]) -> Account:
        """Until told to stop. `tell` is called with the number of statements that were answered."""
        while go_on():
            try:
                connection = psycopg.connect(
                    self._dsn, autocommit=True, prepare_threshold=3 if self._prepared else None, connect_timeout=30
                )
            except psycopg.Error as error:
                self._error(error)
                time.sleep(0.05)
                continue
            with connection:
                self._use(connection, go_on, tell)
        return self.account

    def _use(self, connection: psycopg.Connection[Any], go_on: Callable[[], bool], tell: Callable[[int], None]) -> None:
        for count in range(CONNECTION_LIFE):
            if not go_on():
                return
            tenant = self._random.choice(self._tenants)
            small = count % SMALL_EVERY == 0
            account, began = self.account, time.monotonic()
            try:
                (self._small if small else self._large)(connection, tenant)
                answer: Answer = "acknowledged"
            except psycopg.Error as error:
                answer = answer_of(error.sqlstate)
                self._error(error)
            account.sent.append(began)
            account.answered.append(time.monotonic())
            account.size.append(1 if small else LARGE)
            account.tenant.append(tenant.number)
            first = len(account.ledger.inserts)
            account.ledger.note(1 if small else INSERTS, tenant.number, 0 if small else ADDITIONS, answer)
            if answer != "acknowledged":
                connection.close()
                return
            self._last[tenant.number] = first
            tell(1 if small else LARGE)

    def _small(self, connection: psycopg.Connection[Any], tenant: Tenant) -> None:
        ledger = self.account.ledger
        connection.execute(self._texts[tenant.number][0], (ledger.writer, len(ledger.inserts)))

    def _large(self, connection: psycopg.Connection[Any], tenant: Tenant) -> None:
        insert, add, read = self._texts[tenant.number]
        ledger, before = self.account.ledger, self._last.get(tenant.number)
        first, reads = len(ledger.inserts), []
        with connection.pipeline():
            connection.execute("BEGIN")
            for number in range(first, first + INSERTS):
                connection.execute(insert, (ledger.writer, number))
            for _ in range(ADDITIONS):
                connection.execute(add, (ledger.writer,))
            for number in range(READS):
                # What was acknowledged earlier, and what this transaction has written itself.
                wanted = before if before is not None and number % 2 else first + number // 2
                reads.append(connection.execute(read, (ledger.writer, wanted)))
            connection.execute("COMMIT")
        for cursor in reads:
            row = cursor.fetchone()
            if row is None or row[0] != 1:
                self.account.misread[-1 if row is None else row[0]] += 1

    def _error(self, error: psycopg.Error) -> None:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        self.account.errors.append((time.monotonic(), error.sqlstate or "no answer", first_line))
