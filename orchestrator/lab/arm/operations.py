"""Everything the emulator knows, and the operations that change it: accepted at once, done by a thread, polled for.

One operation per server at a time; further writes meanwhile are ServerIsBusy. State lives in memory and, where the
caller names a file, in that file too, so that a restarted emulator goes on with the operation that was running.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.lab.arm.backend import Cluster, ClusterBackend
from orchestrator.lab.arm.faults import Faults
from orchestrator.lab.arm.metric_store import MetricStore
from orchestrator.lab.arm.protocol import ArmFault, Json, OperationFault
from orchestrator.lab.arm.resources import ServerFacts, ServerRecord, new_record, server_key
from orchestrator.lab.arm.work import KINDS

log = logging.getLogger(__name__)
REMEMBERED_OPERATIONS = 50


@dataclass(slots=True)
class LabOperation:
    """One accepted operation. `target` is the path of the resource that it changes."""

    id: str
    kind: str
    server: str
    target: str
    change: Json
    start_time: str
    status: str = "InProgress"
    code: str = ""
    message: str = ""


@dataclass(slots=True)
class Run:
    """What a running operation has that a saved one has not."""

    started: float
    ordered_failure: OperationFault | None
    hangs: bool
    worked: bool = False
    fault: OperationFault | None = None


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class LabState:
    """Use `lock` around every look at records and operations; never hold it while the cluster is at work.

    `creatable`: servers come and go by PUT and DELETE. `papers` are resources that only ARM knows, by path.
    """

    backend: ClusterBackend
    faults: Faults
    clock: Callable[[], float]
    path: Path | None
    creatable: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    servers: dict[str, ServerRecord] = field(default_factory=dict)
    groups: dict[str, Json] = field(default_factory=dict)
    papers: dict[str, Json] = field(default_factory=dict)
    operations: dict[str, LabOperation] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    cluster: Cluster = field(init=False)
    stopping: bool = False
    metrics: MetricStore | None = None
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.backend, self.faults)


def open_state(state: LabState, facts: ServerFacts | None) -> None:
    """Load what is there, add the lab's server if it is new, and go on with what was running."""
    with state.lock:
        if state.path is not None and state.path.exists():
            _load(state, json.loads(state.path.read_text("utf-8")))
        if facts is None:
            for operation in state.operations.values():
                if operation.status == "InProgress":
                    _launch(state, operation, Run(state.clock(), None, hangs=False))
            return
        key = server_key(facts.subscription_id, facts.resource_group, facts.name)
        nodes = state.backend.node_count()
        record = state.servers.setdefault(key, new_record(facts, nodes, now_text()))
        # A stop may have come between the cluster's growth and its record; whoever starts this has started the cluster.
        record.properties["cluster"]["clusterSize"] = max(record.nodes, nodes)
        record.power = "Ready"
        state.groups.setdefault(
            facts.resource_group.lower(), {"name": facts.resource_group, "location": facts.location, "tags": {}}
        )
        save(state)
        interrupted = [operation for operation in state.operations.values() if operation.status == "InProgress"]
        for operation in interrupted:
            _launch(state, operation, Run(state.clock(), None, hangs=False))
        if not interrupted and record.nodes > nodes:
            state.cluster.grow_later(record.nodes)


def close_state(state: LabState) -> None:
    """Wait for the work under way; a hanging operation stays unfinished and is run by the next emulator."""
    state.stopping = True
    state.faults.release_operations()
    state.cluster.close()
    for thread in list(state.threads):
        thread.join()
    settle(state)


def begin(state: LabState, kind: str, record: ServerRecord, target: str, change: Json) -> LabOperation:
    """Accept a write on this server. Raises ServerIsBusy while another operation on it runs."""
    with state.lock:
        settle(state)
        code = state.faults.take_busy() or ("ServerIsBusy" if running(state, record) else None)
        if code is not None:
            raise _busy(record, code)
        operation = LabOperation(str(uuid.uuid4()), kind, record.key, target, change, now_text())
        state.operations[operation.id] = operation
        failure = state.faults.take_failure()
        run = Run(state.clock(), OperationFault(*failure) if failure else None, hangs=state.faults.take_hang())
        _forget_oldest(state)
        save(state)
        _launch(state, operation, run)
        return operation


def running(state: LabState, record: ServerRecord) -> LabOperation | None:
    for operation in state.operations.values():
        if operation.server == record.key and operation.status == "InProgress":
            return operation
    return None


def settle(state: LabState) -> None:
    """End operations whose work is done and whose least duration has passed. Called before every look at the state."""
    with state.lock:
        for identity, run in list(state.runs.items()):
            if not run.worked or state.clock() - run.started < state.faults.min_duration:
                continue
            operation, fault = state.operations[identity], run.fault
            if fault is None:
                KINDS[operation.kind].commit(state.servers[operation.server], operation.change)
                operation.status = "Succeeded"
            else:
                operation.status, operation.code, operation.message = "Failed", fault.code, fault.text
            if operation.kind == ("DeleteServer" if fault is None else "CreateServer"):
                del state.servers[operation.server]
            log.info("operation %s %s after %.3f s", operation.kind, operation.status, state.clock() - run.started)
            del state.runs[identity]
            save(state)


def save(state: LabState) -> None:
    """Write the file whole or not at all. No password gets this far: requests lose theirs when they are accepted."""
    if state.path is None:
        return
    content = {
        "servers": [asdict(record) for record in state.servers.values()],
        "groups": state.groups,
        "papers": state.papers,
        "operations": [asdict(operation) for operation in state.operations.values()],
    }
    state.path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=state.path.parent, prefix=state.path.name)  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    Path(temporary).replace(state.path)


def _load(state: LabState, content: Json) -> None:
    for saved in content["servers"]:
        record = ServerRecord(**saved)
        state.servers[record.key] = record
    state.groups.update(content["groups"])
    state.papers.update(content.get("papers", {}))
    state.operations.update({saved["id"]: LabOperation(**saved) for saved in content["operations"]})


def _launch(state: LabState, operation: LabOperation, run: Run) -> None:
    state.runs[operation.id] = run
    thread = threading.Thread(target=_work, args=(state, operation, run), name="arm-operation", daemon=True)
    state.threads = [known for known in state.threads if known.is_alive()] + [thread]
    thread.start()


def _work(state: LabState, operation: LabOperation, run: Run) -> None:
    if run.hangs:
        state.faults.wait_released()
        if state.stopping:
            return
    fault = run.ordered_failure
    if fault is None:
        fault = _try_work(state, operation)
    with state.lock:
        run.fault, run.worked = fault, True
        settle(state)


def _try_work(state: LabState, operation: LabOperation) -> OperationFault | None:
    record = state.servers[operation.server]
    try:
        KINDS[operation.kind].work(state.cluster, record, operation.change)
    except OperationFault as fault:
        return fault
    except Exception as error:  # whatever the engine raises must end the operation, not the thread
        log.exception("operation %s of the lab's ARM endpoint failed", operation.kind)
        return OperationFault("InternalServerError", str(error))
    return None


def _forget_oldest(state: LabState) -> None:
    ended = [known for known in state.operations.values() if known.status != "InProgress"]
    for old in ended[:-REMEMBERED_OPERATIONS]:
        del state.operations[old.id]


def _busy(record: ServerRecord, code: str) -> ArmFault:
    """Texts of azure-postgresql #134 and bicep-registry-modules #4451."""
    if code == "ServerBusy":
        return ArmFault(409, code, f"Server '{record.name}' is busy with another operation. Please try again later.")
    text = (
        f"Cannot complete operation while server '{record.name}' is busy processing another operation. Try again later."
    )
    return ArmFault(409, code, text)
