"""A cluster of the simulator behind the lab's ARM endpoint, driven through the production client over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.events import Event
from orchestrator.core.observed.server import Operation
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.driver import drive
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.faults import Faults
from orchestrator.lab.arm.resources import ServerFacts
from orchestrator.workflow.apply import World, converge, observe
from orchestrator.workflow.waiting import Run
from tests.fix_arm import SUBSCRIPTION, wait_for
from tests.workflow.simulator import Simulator
from tests.workflow.test_apply import assert_converged, four_nodes

GROUPS = 16


@dataclass
class Backend:
    """The simulator as the cluster that the emulator resizes. `resizes` lists those that had an effect."""

    world: Simulator
    resizes: list[int] = field(default_factory=list)

    def node_count(self) -> int:
        return self.world.size

    def resize(self, nodes: int) -> None:
        self.resizes.append(nodes)
        self.world._grown(nodes)

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        return {name: (value, "1") for name, value in self.world.settings.items()}

    def set_parameter(self, name: str, value: str) -> None:
        self.world.settings[name] = value

    def start(self) -> None: ...

    def stop(self) -> None: ...


@dataclass
class MemoryJournal:
    """What the cluster remembers between two runs."""

    operation: Operation | None = None

    def remember(self, operation: Operation) -> None:
        self.operation = operation

    def unfinished(self) -> Operation | None:
        return self.operation

    def forget(self) -> None:
        self.operation = None


class Wire:
    """A cluster of four nodes behind an ARM endpoint whose operations take a moment of the simulator's time."""

    def __init__(self) -> None:
        self.world = four_nodes()
        self.backend = Backend(self.world)
        self.journal = MemoryJournal()
        self.faults = Faults(min_duration=0.2)
        facts = ServerFacts(SUBSCRIPTION, "rg-lab", "elk1", location="northeurope", database="citus")
        self.emulator = ArmEmulator(self.backend, facts, faults=self.faults, clock=lambda: self.world.now)
        self.emulator.start()
        self.slept: list[float] = []
        self.hanging = False

    def run(self, nodes: int = 8, show: Callable[[Event], None] = lambda _: None) -> ClusterState:
        """`scale-out --nodes N`, as one process would do it."""
        spec = ClusterSpec(name="elk1", resource_group="rg-lab", location="northeurope", nodes=nodes)
        with ArmClient(SUBSCRIPTION, "rg-lab", "elk1", self.emulator.url, read_timeout=5) as arm:
            everything = World(self.world, arm, journal=self.journal)

            def replan() -> Run[tuple[Plan, ClusterState]]:
                state = yield from observe(everything)
                return make_plan(spec, state, Wanted()), state

            def command() -> Run[ClusterState]:
                plan, state = yield from replan()
                return (yield from converge(everything, plan, state, replan))

            return drive(command(), show, sleep=self._sleep, now=lambda: self.world.now)

    def _sleep(self, seconds: float) -> None:
        """Simulated time passes; the emulator's own threads get as long as they need."""
        self.slept.append(seconds)
        if not self.hanging:
            wait_for(lambda: all(run.worked for run in list(self.emulator._state.runs.values())))
        self.world.sleep(seconds)

    @property
    def resizes_asked(self) -> int:
        return sum(operation.kind == "UpdateServer" for operation in self.emulator._state.operations.values())

    def assert_done(self) -> None:
        assert_converged(self.world, 8, GROUPS)
        assert self.backend.resizes == [8]
