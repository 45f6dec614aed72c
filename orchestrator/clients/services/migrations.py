"""Reads the migration files of a service: its statements one by one, and the facts that checks need.

Files are parsed with PostgreSQL's own grammar, so that what cannot run is named with its line before anything changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.clients.services.migration_facts import Facts, line_counter, unusable
from orchestrator.clients.services.plain_migrations import is_plain
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Problem, SpecError
from orchestrator.core.planning.migrations import Migration


def read_migrations(
    service: ServiceSpec, folder: Path, known: dict[Path, Migration] | None = None
) -> tuple[Migration, ...]:
    """The service's migrations in the order in which they run. Raises SpecError with everything that is wrong.

    `known` are files that mean the same for every service; those that are found to be such are added to it.
    """
    problems: list[Problem] = []
    migrations: list[Migration] = []
    first: dict[str, Path] = {}
    for path in _files(service, folder, problems):
        if path.name in first:
            problems.append(
                Problem(
                    str(path),
                    f"service {service.name} has another migration of that name, {first[path.name]}",
                    "rename one of them: a migration is remembered by its file name",
                )
            )
            continue
        first[path.name] = path
        migration = (known or {}).get(path) or _read(path, service.schema_name, problems, known)
        if migration is not None:
            migrations.append(migration)
    if problems:
        raise SpecError(f"the migrations of service {service.name}", problems)
    return tuple(migrations)


def read_all_migrations(services: Sequence[ServiceSpec], folder: Path) -> dict[str, tuple[Migration, ...]]:
    """The migrations of every service by its name. Raises SpecError with everything that is wrong in any of them."""
    problems: list[Problem] = []
    found = {}
    known: dict[Path, Migration] = {}
    # What the entries lead to, where all of it means the same for every service: thousands then share one reading.
    shared: dict[tuple[str, ...], tuple[Migration, ...]] = {}
    for service in services:
        entries = tuple(service.migrations)
        try:
            found[service.name] = shared[entries] if entries in shared else read_migrations(service, folder, known)
        except SpecError as error:
            problems += error.problems
            continue
        if all(known.get(Path(migration.path)) is migration for migration in found[service.name]):
            shared[entries] = found[service.name]
    if problems:
        raise SpecError("the migrations", list(dict.fromkeys(problems)))
    return found


def _files(service: ServiceSpec, folder: Path, problems: list[Problem]) -> Iterator[Path]:
    for entry in service.migrations:
        path = folder / entry
        if path.is_dir():
            found = sorted(path.glob("*.sql"), key=lambda item: item.name)
            if not found:
                problems.append(Problem(str(path), "the folder has no .sql file", "add one, or remove the entry"))
            yield from found
        elif path.is_file():
            yield path
        else:
            problems.append(
                Problem(
                    f"services.{service.name}.migrations",
                    f"{path} does not exist",
                    "paths are relative to the folder of the stack file",
                )
            )


def _read(
    path: Path, schema: str, problems: list[Problem], known: dict[Path, Migration] | None = None
) -> Migration | None:
    raw = _bytes(path, problems)
    if raw is None:
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.append(Problem(f"{path}:{line}", "the file is not UTF-8", "save it as UTF-8"))
        return None
    # Line ends are not part of what a migration does: the same file from another system is the same migration.
    text = text.replace("\r\n", "\n")
    migration = _parse(path, text, schema, problems)
    if migration is not None and known is not None and _names_no_schema(text):
        known[path] = migration
    return migration


def _names_no_schema(text: str) -> bool:
    """Whether the file means the same in every schema: thousands of tenants then share one reading of it."""
    from pglast.parser import parse_sql_json

    tree = parse_sql_json(text)
    return not any(word in tree for word in ('"schemaname"', '"newschema"', '"DropStmt"'))


def _bytes(path: Path, problems: list[Problem]) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}", "check its permissions"))
        return None


def _parse(path: Path, text: str, schema: str, problems: list[Problem]) -> Migration | None:
    from pglast import parse_sql  # here, because importing it takes longer than all the rest
    from pglast.parser import ParseError

    line_of = line_counter(text)
    try:
        parsed = parse_sql(text)
    except ParseError as error:
        problems.append(_syntax_problem(path, text, error.args, line_of))
        return None
    if not parsed:
        problems.append(Problem(str(path), "the file has no statement", "remove it, or write the statement"))
        return None
    facts = Facts(schema, line_of)
    statements = []
    for raw in parsed:
        begin = raw.stmt_location or 0
        end = begin + raw.stmt_len if raw.stmt_len else len(text)
        reason = unusable(raw.stmt)
        if reason:
            problems.append(Problem(f"{path}:{line_of(begin)}", *reason))
        facts.add(raw.stmt)
        statements.append(text[begin:end].strip())
    digest = hashlib.sha256(text.encode()).hexdigest()
    lines = tuple(line_of(raw.stmt_location or 0) for raw in parsed)
    made = facts.migration(path.name, digest, str(path), statements)
    return replace(made, lines=lines, plain=is_plain(parsed, schema))


def _syntax_problem(path: Path, text: str, args: tuple[object, ...], line_of: Callable[[int], int]) -> Problem:
    location = args[1] if len(args) > 1 and isinstance(args[1], int) else 0
    where = f"{path}:{line_of(location)}"
    if text[location : location + 1] == "\\":
        command = text[location:].split(None, 1)[0]
        return Problem(where, f"{command} is a command of psql, not of PostgreSQL", "remove it or write it in SQL")
    return Problem(where, str(args[0]), "correct the statement")
