"""A stack of the project's Pulumi program: what its state holds, what `pulumi up` would change, and `up` itself.

The program runs in this process (Automation API), so that the CLI is all that Pulumi needs beside its SDK. Pulumi is
optional: it is imported where it is used, and a machine without it is told what to install. Its errors end here.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.clients.azure.pulumi_locks import Lock, read_locks
from orchestrator.core.errors import OrchestratorError, Refused
from orchestrator.core.planning.resource_changes import NODE_COUNT, SERVER_TYPE, PropertyChange, ResourceChange
from orchestrator.core.planning.resource_changes import Operation as ChangeOperation

if TYPE_CHECKING:
    from pulumi.automation import EngineEvent, Stack

_OPERATIONS: dict[str, ChangeOperation] = {
    "create": "create",
    "import": "create",
    "update": "update",
    "replace": "replace",
    "create-replacement": "replace",
    "delete": "delete",
    "delete-replaced": "replace",
}
_SDK = "its SDK: `pip install 'elastic-cluster-orchestrator[infra]'`, or `uv sync --extra infra` in this project"
_CLI = "the `pulumi` CLI on the PATH: see https://www.pulumi.com/docs/install"
_LOGINS = ("PULUMI_BACKEND_URL", "PULUMI_ACCESS_TOKEN")


class PulumiMissing(Refused):
    def __init__(self, stack: str, lacking: str) -> None:
        super().__init__(
            f"Stack {stack} is scaled through Pulumi, which needs {lacking}. Nothing was changed. "
            "Install it, or set elastic-cluster:scaling: arm in the stack file."
        )


class PulumiRefused(Refused):
    """A preview, or a look at the state, that did not come about."""

    def __init__(self, command: str, stack: str, reason: str) -> None:
        said = reason.replace("Nothing was changed. ", "").replace(" Nothing was changed.", "").rstrip(".")
        super().__init__(f"`pulumi {command}` on stack {stack} failed: {said}. Nothing was changed.")


class PulumiFailed(OrchestratorError):
    """An update or a refresh that failed: what it had done by then stays done, and is in Pulumi's state."""

    def __init__(self, command: str, stack: str, reason: str) -> None:
        super().__init__(
            f"`pulumi {command}` on stack {stack} failed: {reason.rstrip('.')}. "
            "Mend that and run the same command again: it continues where the cluster stands."
        )


class PulumiLocked(Refused):
    """`lock` where it is known who holds it: nothing was changed then, because it was looked for before the run."""

    def __init__(self, stack: str, lock: Lock | None = None) -> None:
        by = f" ({lock.holder})" if lock else ""
        unchanged = " Nothing was changed." if lock else ""
        super().__init__(
            f"The state of stack {stack} is locked by another update{by}.{unchanged} Wait for that to end and run the "
            "same command; if none is running, one that was killed left its lock: "
            f"`pulumi cancel --stack {stack}` removes it."
        )


def lacking() -> str | None:
    """What is not installed here, with how to install it; None where Pulumi can be used."""
    if find_spec("pulumi") is None:
        return _SDK
    return _CLI if shutil.which("pulumi") is None else None


def may_have_state(root: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody has logged in to a backend here: told without a start of the CLI."""
    if not (root / "Pulumi.yaml").is_file():
        return False
    if any(environment.get(name) for name in _LOGINS):
        return True
    home = Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
    project = (root / "Pulumi.yaml").read_text("utf-8")
    return (home / "credentials.json").is_file() or re.search(r"^backend:", project, re.MULTILINE) is not None


@dataclass(slots=True)
class _Seen:
    """Events of one command. A later event of the same resource is about the same change."""

    changes: dict[str, ResourceChange] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def __call__(self, event: EngineEvent) -> None:
        if event.resource_pre_event is not None:
            change = change_of(event.resource_pre_event.metadata)
            if change is not None:
                self.changes.setdefault(event.resource_pre_event.metadata.urn, change)
        diagnostic = event.diagnostic_event
        if diagnostic is not None and diagnostic.severity == "error":
            self.errors.append(_plain(diagnostic.message))


class PulumiStack:
    """A stack of the program in `root`. Raises PulumiMissing where Pulumi is not installed."""

    def __init__(self, root: Path, name: str) -> None:
        if (missing := lacking()) is not None:
            raise PulumiMissing(name, missing)
        self.root, self.name = root, name

    def nodes_in_state(self) -> int | None:
        """The node count that Pulumi believes in; None where its state holds no cluster. Raises PulumiRefused."""
        done = subprocess.run(
            ["pulumi", "stack", "export", "--stack", self.name, "--non-interactive"],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            if "no stack named" in done.stderr:
                return None
            raise PulumiRefused("stack export", self.name, _last_words(done.stderr))
        deployment = json.loads(done.stdout).get("deployment") or {}
        for resource in deployment.get("resources") or ():
            if resource.get("type") == SERVER_TYPE and not resource.get("delete"):
                return int(_at(resource.get("inputs"), NODE_COUNT) or 0)
        return None

    def preview(self, stack_file: str) -> tuple[ResourceChange, ...]:
        """What `up` would change with a stack file of this text, which need not be on disk yet. Raises Refused."""
        seen = _Seen()
        with tempfile.TemporaryDirectory(prefix="orchestrator-pulumi-") as folder:
            path = Path(folder) / f"Pulumi.{self.name}.yaml"
            path.write_text(stack_file, "utf-8")
            with self._errors("preview", seen, PulumiRefused):
                self._stack().preview(refresh=True, config_file=str(path), color="never", on_event=seen)
        return tuple(seen.changes.values())

    def dead_locks(self) -> tuple[Lock, ...]:
        """Of updates of this machine that were killed. Raises PulumiLocked where another one holds the state."""
        locks = read_locks(self.root, self.name)
        for lock in locks:
            if not lock.dead:
                raise PulumiLocked(self.name, lock)
        return locks

    def _unlock(self) -> None:
        """Only what is dead, file by file: `pulumi cancel` would also break a lock that was taken just now."""
        for lock in read_locks(self.root, self.name):
            if lock.dead:
                lock.file.unlink(missing_ok=True)

    def up(self) -> None:
        """Blocks until Pulumi has made the program true, with the stack file that is on disk. Raises PulumiFailed."""
        seen = _Seen()
        self._unlock()
        with self._errors("up", seen, PulumiFailed):
            self._stack().up(refresh=True, show_secrets=False, color="never", on_event=seen)

    def refresh(self) -> None:
        """Have Pulumi's state say what Azure has. Raises PulumiFailed."""
        seen = _Seen()
        self._unlock()
        with self._errors("refresh", seen, PulumiFailed):
            self._stack().refresh(show_secrets=False, color="never", on_event=seen)

    def _stack(self) -> Stack:
        from pulumi.automation import LocalWorkspace, Stack

        class Workspace(LocalWorkspace):
            def select_stack(self, stack_name: str) -> None:
                """Every command names its stack: the one that the user has selected stays selected."""

        workspace = Workspace(work_dir=str(self.root))
        folder = self.root / (workspace.project_settings().main or ".")
        workspace.program = lambda: _run(self.root, folder)
        return Stack.select(self.name, workspace)

    @contextmanager
    def _errors(self, command: str, seen: _Seen, kind: type[PulumiRefused] | type[PulumiFailed]) -> Iterator[None]:
        from pulumi.automation.errors import CommandError, ConcurrentUpdateError, InvalidVersionError

        try:
            yield
        except ConcurrentUpdateError as error:
            raise PulumiLocked(self.name) from error
        except CommandError as error:
            raise kind(command, self.name, _reason(seen.errors) or _last_words(str(error))) from error
        except InvalidVersionError as error:
            raise PulumiRefused(command, self.name, str(error)) from error


def change_of(step: Any) -> ResourceChange | None:
    """The change that an event of the engine announces; None for what stays, is only read, or groups others."""
    operation = _OPERATIONS.get(getattr(step.op, "value", step.op))
    state = step.new or step.old
    if operation is None or state is None or not state.custom:
        return None
    paths = sorted(step.detailed_diff or step.diffs or ()) if operation in {"update", "replace"} else []
    before = (step.old.inputs or step.old.outputs) if step.old else {}
    after = step.new.inputs if step.new else {}
    properties = tuple(PropertyChange(path, _at(before, path), _at(after, path)) for path in paths)
    return ResourceChange(operation, step.type, step.urn.rsplit("::", 1)[-1], properties)


def _at(values: Mapping[str, Any] | None, path: str) -> Any:
    """The plain value at a dotted path; None for anything else. Secrets are `[secret]` in events already."""
    value: Any = values
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, str | int | float | bool) else None


def _run(root: Path, folder: Path) -> None:
    """The program imports its own package, which lies in the project and is not installed."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    runpy.run_path(str(folder), run_name="__main__")


def _reason(errors: list[str]) -> str:
    """What the engine called an error, without its repetitions and its summary of the update."""
    said: list[str] = []
    for text in errors:
        if text and text != "update failed" and not any(known in text for known in said):
            said.append(text)
    return "; ".join(said)


def _plain(text: str) -> str:
    """One line without colours: `<{%reset%}>` is Pulumi's own mark-up."""
    return " ".join(re.sub(r"<\{%.*?%\}>|\x1b\[[0-9;]*m", "", text).split())


def _last_words(text: str) -> str:
    """Of a command's output: the lines that say error, else the last one."""
    lines = [_plain(line) for line in text.splitlines() if line.strip()]
    said = [line.removeprefix("stderr:").strip().removeprefix("error:").strip() for line in lines if "error:" in line]
    return "; ".join(said[:3]) if said else (lines[-1] if lines else "no reason given")
