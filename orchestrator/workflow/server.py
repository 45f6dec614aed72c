"""Steps on the control plane: settle, resize, await nodes, raise and restore the settings for parallel moves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from orchestrator.core.errors import ArmBusy, ArmError, ClusterUnreachable
from orchestrator.core.events import Notice, StepProgress, Waiting
from orchestrator.core.observed.server import ServerReading
from orchestrator.core.planning.steps import (
    AT_ONCE,
    PER_NODE,
    AwaitNodes,
    RaiseExecutors,
    ResizeCluster,
    RestoreSettings,
)
from orchestrator.workflow.journal import forget, remember, resume
from orchestrator.workflow.protocols import ControlPlane, Database, Journal
from orchestrator.workflow.waiting import OPERATION_TIMEOUT, Patience, Pause, Run, finished, when_connected, when_free

JOIN_TIMEOUT = 1800.0
RELOAD_TIMEOUT = 30.0


def settle_server(number: int, control: ControlPlane, journal: Journal | None = None) -> Run[str]:
    """Follow the operation that an earlier run asked for; wait for one that somebody else started."""
    resumed = yield from resume(number, control, journal)
    yield from _when_ready(number, control)
    return "the operation of an earlier run has ended" if resumed else ""


def _when_ready(number: int, control: ControlPlane) -> Run[ServerReading]:
    """The server once nothing runs on it any more: two changes of one server at once are refused by Azure."""
    pause = Pause()
    seen = ""
    while True:
        server = yield from when_free(control.read_server, "read the server")
        if server.state == "Ready":
            return server
        if server.state in {"Stopped", "Disabled", "Dropping", "Inaccessible"}:
            raise ArmError(
                "wait for the server",
                server.state,
                f"server {server.name} is {server.state}",
                fix="Start it, then retry.",
            )
        if server.state != seen:
            seen = server.state
            yield StepProgress(number, f"the server is {server.state}")
        yield Waiting(pause.next(), f"the server is {server.state}", OPERATION_TIMEOUT)


def resize(number: int, step: ResizeCluster, control: ControlPlane, journal: Journal | None = None) -> Run[str]:
    """Ask Azure for the new size, wait, and read back: a size that Azure does not like can end as a silent no-op.

    Before every request the server is read, so that one whose answer was lost is never sent a second time.
    """
    doing = f"resize the cluster to {step.after} nodes"
    yield from resume(number, control, journal)
    patience = Patience(doing)
    while True:
        server = yield from _when_ready(number, control)
        if server.nodes >= step.after:
            return f"Azure says {server.nodes} nodes"
        yield StepProgress(number, "asking Azure")
        try:
            operation = control.start_resize(step.after)
        except (ArmBusy, ClusterUnreachable) as busy:
            yield from patience.wait(busy)
            continue
        break
    remember(journal, operation)
    yield StepProgress(number, "Azure is adding nodes")
    try:
        yield from finished(control, operation, doing)
    except ArmError:
        forget(journal)
        raise
    server = yield from _when_ready(number, control)
    forget(journal)
    if server.nodes != step.after:
        raise ArmError(doing, "Succeeded", f"but the server still has {server.nodes} nodes", fix="Run it again.")
    return f"Azure says {server.nodes} nodes"


def await_nodes(number: int, step: AwaitNodes, database: Database) -> Run[str]:
    pause = Pause()
    seen = -1
    while True:
        nodes = yield from when_connected(database.read_nodes, "read the nodes")
        joined = sum(node.joined for node in nodes)
        if joined >= step.nodes:
            return f"{joined} nodes are active, have the metadata and may hold shards"
        if joined != seen:
            seen = joined
            yield StepProgress(number, f"{joined} of {step.nodes} nodes have joined", joined, step.nodes)
        yield Waiting(pause.next(), f"{joined} of {step.nodes} nodes have joined", JOIN_TIMEOUT)


def raise_executors(step: RaiseExecutors, control: ControlPlane, database: Database) -> Run[str]:
    before = yield from when_connected(database.read_executors, "read the executor settings")
    database.keep_settings({AT_ONCE: str(before[0]), PER_NODE: str(before[1])})
    refused = yield from set_all(control, {AT_ONCE: str(step.at_once), PER_NODE: str(step.per_node)})
    if refused:
        yield Notice(f"{refused} The rebalance runs with {before[0]} at once, {before[1]} per node.")
        return "not possible here"
    pause = Pause()
    reason = "the server has not taken the new settings yet"
    while (yield from when_connected(database.read_executors, reason)) != (step.at_once, step.per_node):
        yield Waiting(pause.next(), reason, RELOAD_TIMEOUT)
    return f"before: {before[0]} at once, {before[1]} per node"


def restore(step: RestoreSettings, control: ControlPlane, database: Database) -> Run[str]:
    refused = yield from set_all(control, dict(step.values))
    if refused:
        yield Notice(refused)
    database.forget_settings()
    return ""


def set_all(control: ControlPlane, values: Mapping[str, str]) -> Run[str]:
    """Set the parameters that differ, one after the other: the server is busy otherwise. A sentence if it cannot be."""
    found = yield from when_free(lambda: control.read_parameters(tuple(values)), "read the server parameters")
    for name in values:
        if name not in found or found[name].read_only:
            state = "does not list" if name not in found else "does not let anybody change"
            return f"Azure {state} the server parameter {name}."
    for name, value in values.items():
        if found[name].value != value:
            doing = f"set {name} = {value}"
            # A value that is the default again is a reset: otherwise it would show as an override of the user's.
            source = "system-default" if value == found[name].default else "user-override"
            set_one = partial(control.start_set_parameter, name, value, source=source)
            operation = yield from when_free(set_one, doing)
            yield from finished(control, operation, doing)
    taken = yield from when_free(lambda: control.read_parameters(tuple(values)), "read the server parameters back")
    for name, value in values.items():
        if name not in taken or taken[name].value != value:
            now = taken[name].value if name in taken else "absent"
            raise ArmError(f"set {name} = {value}", "Succeeded", f"but it is still {now}", fix="Run it again.")
    return ""
