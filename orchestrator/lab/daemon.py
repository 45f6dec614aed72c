"""The process behind a lab: it starts the engine, serves ARM and the balanced port, and stops all of it when told to.

Runs as `python -m orchestrator.lab.daemon FOLDER`, detached from the command that started it. What an earlier process
left running when it died is stopped first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from orchestrator.core.errors import LabError, OrchestratorError
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.resources import ServerFacts
from orchestrator.lab.balancer import Balancer
from orchestrator.lab.discover import choose, make
from orchestrator.lab.embedded import EmbeddedEngine
from orchestrator.lab.engine import Engine
from orchestrator.lab.home import LabHome, LabRecord, Running
from orchestrator.lab.pgbouncer import PgBouncer, find_pgbouncer, stop_in
from orchestrator.lab.postgres import free_ports, port_is_free
from orchestrator.lab.ticker import Ticker

READY = "ready"
PARAMETERS_LAST = 1.0
FAILED = "failed: "
log = logging.getLogger(__name__)


class Backend:
    """The engine as the ARM emulator sees it. Every node that joins also gets its listener and is remembered."""

    def __init__(self, engine: Engine, home: LabHome, joined: Callable[[], None]) -> None:
        self._engine, self._home, self._joined = engine, home, joined
        self.pooler: PgBouncer | None = None
        self._read: tuple[float, Mapping[str, tuple[str, str]]] = (0.0, {})

    def node_count(self) -> int:
        return len(self._engine.addresses())

    def resize(self, nodes: int) -> None:
        self._engine.resize(nodes, log.info)
        self._home.grow(nodes)
        self._joined()

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        """At most a second old: every look costs a login, and one request of ARM takes several."""
        at, values = self._read
        if not values or time.monotonic() - at > PARAMETERS_LAST:
            values = self._engine.parameters()
            self._read = time.monotonic(), values
        return values

    def set_parameter(self, name: str, value: str) -> None:
        self._engine.set_parameter(name, value)
        self._read = 0.0, {}

    def start(self) -> None:
        self._engine.start(self._home.read().nodes, log.info)
        if self.pooler is not None:
            self.pooler.start()

    def stop(self) -> None:
        """The pooler goes and comes with its server, as on Azure."""
        if self.pooler is not None:
            self.pooler.stop()
        self._engine.stop()


class NodeListeners:
    """The embedded engine's simulated nodes: one listener each, which tells the one server whose session it is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[int, Balancer] = {}

    def sync(self) -> None:
        if not isinstance(self._engine, EmbeddedEngine):
            return
        server = self._engine.addresses()[0]
        for port, node_id in self._engine.node_listeners():
            if port not in self._open:
                listener = Balancer(port, lambda: [server], startup_options=f"-c citus_lab.node_id={node_id}")
                listener.start()
                self._open[port] = listener

    def stop(self) -> None:
        for listener in self._open.values():
            listener.stop()


def serve(home: LabHome, progress: Callable[[str], None], stopped: threading.Event) -> None:
    """Run the lab until `stopped`. Raises OrchestratorError when it cannot be started."""
    record = home.read()
    found = choose(record.engine)
    engine = make(record.engine, home.settings())
    with ExitStack() as stack:
        stop_in(home.pooler)
        engine.stop()
        stack.callback(engine.stop)
        progress(f"starting {record.nodes} nodes on the {record.engine} engine ({found.version})")
        engine.start(record.nodes, progress)
        record = _ports(home, record)
        listeners = NodeListeners(engine)
        stack.callback(listeners.stop)
        listeners.sync()
        if isinstance(engine, EmbeddedEngine):
            ticker = Ticker(engine)
            ticker.start()
            stack.callback(ticker.stop)
        backend = Backend(engine, home, listeners.sync)
        facts = ServerFacts(**record.server)
        emulator = ArmEmulator(backend, facts, port=record.arm_port, state_file=home.arm_state)
        emulator.start()
        stack.callback(emulator.stop)
        balancer = Balancer(record.balanced_port, engine.addresses)
        balancer.start()
        stack.callback(balancer.stop)
        backend.pooler = _pooler(home, engine, record, stack, progress)
        home.announce(_running(engine, found.version or "", emulator.url, record, pooled=backend.pooler is not None))
        stack.callback(home.withdraw)
        progress(READY)
        stopped.wait()


def _running(engine: Engine, version: str, arm: str, record: LabRecord, *, pooled: bool) -> Running:
    return Running(
        pid=os.getpid(),
        engine=record.engine,
        version=version,
        arm=arm,
        direct=engine.addresses()[0].port,
        balanced=record.balanced_port,
        pooled=record.pooled_port if pooled else None,
        nodes=len(engine.addresses()),
    )


def _ports(home: LabHome, record: LabRecord) -> LabRecord:
    """Keep the ports that clients know from the last time, unless somebody else has taken them."""
    fresh = iter(free_ports(3))
    kept = [
        port if port and port_is_free(port) else next(fresh)
        for port in (record.arm_port, record.balanced_port, record.pooled_port)
    ]
    record = replace(home.read(), arm_port=kept[0], balanced_port=kept[1], pooled_port=kept[2])
    home.write(record)
    return record


def _pooler(
    home: LabHome, engine: Engine, record: LabRecord, stack: ExitStack, progress: Callable[[str], None]
) -> PgBouncer | None:
    binary = find_pgbouncer()
    if binary is None:
        return None
    pooler = PgBouncer(home.pooler, binary, record.pooled_port, engine.addresses()[0], home.settings())
    try:
        pooler.start()
    except LabError as error:
        progress(f"the pooled port is not offered: {error}")
        return None
    stack.callback(pooler.stop)
    return pooler


def main(folder: str) -> int:
    home = LabHome.at(Path(folder))
    logging.basicConfig(filename=home.log_file, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())

    def progress(text: str) -> None:
        log.info("%s", text)
        with home.progress_file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    try:
        home.take_lock()
        serve(home, progress, stopped)
    except OrchestratorError as error:
        progress(FAILED + str(error).replace("\n", " "))
        return 1
    except Exception as error:
        log.exception("the lab ended")
        progress(f"{FAILED}{type(error).__name__}: {error} (see {home.log_file})")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
