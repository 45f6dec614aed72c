"""Runs `orchestrator` in processes of its own that start at once: forked from one that has imported everything.

Each is a real process with its own connections, which can be stopped and killed; only the second that Python needs to
import Azure's SDK is spared, because `resume.py` runs the command two thousand times.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "orchestrator.cli.app", "orchestrator.cli.cluster.verbs", "orchestrator.cli.moving.preflight",
    "orchestrator.cli.cluster.scaling", "orchestrator.cli.moving.verbs", "orchestrator.cli.session",
    "orchestrator.cli.stack.declared",
    "azure.mgmt.postgresqlflexibleservers", "azure.core.pipeline.transport._requests_basic",
    "psycopg", "rich.console", "yaml",
])  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command that runs. `lines` reads what it prints until its end."""

    process: BaseProcess
    output: Connection
    errors: Path

    def lines(self) -> Iterator[str]:
        with os.fdopen(os.dup(self.output.fileno()), encoding="utf-8") as stream:
            yield from stream
        self.output.close()

    def signal(self, number: signal.Signals) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self) -> tuple[int, str]:
        """Exit code (negative: the signal that ended it), and what it said on stderr. After `lines`."""
        self.process.join()
        said = self.errors.read_text("utf-8")
        self.errors.unlink()
        return int(self.process.exitcode or 0), said


def start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Command:
    reader, writer = _CONTEXT.Pipe(duplex=False)
    errors = folder / f"stderr.{os.getpid()}.{writer.fileno()}"
    process = _CONTEXT.Process(target=_run, args=(list(arguments), folder, dict(environment), writer, errors))
    process.start()
    writer.close()
    return Command(process, reader, errors)


def run(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    command = start(arguments, folder, environment)
    said = "".join(command.lines())
    code, errors = command.wait()
    return code, said, errors


def _run(arguments: list[str], folder: Path, environment: dict[str, str], output: Connection, errors: Path) -> None:
    from orchestrator.cli.app import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(output.fileno(), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    output.close()
    sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8")
    sys.argv = ["orchestrator", *arguments]
    main()
