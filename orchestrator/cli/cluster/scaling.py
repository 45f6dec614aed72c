"""Who changes the node count in a scale-out, and what else that would change: asked before anything is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.cli.session import Session
from orchestrator.cli.stack import stackfile
from orchestrator.clients.azure import pulumi
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.planning.resource_changes import NotInState, check_changes
from orchestrator.driver import drive
from orchestrator.workflow.waiting import when_free

if TYPE_CHECKING:
    from orchestrator.clients.azure.arm import ArmClient


@dataclass(frozen=True)
class Scaling:
    """`stack` is there where Pulumi's state holds the cluster, with `known` nodes, whoever changes their number."""

    through: Literal["pulumi", "arm"]
    stack: pulumi.PulumiStack | None = None
    known: int = 0
    notes: tuple[str, ...] = ()


def choose(declared: Literal["pulumi", "arm"] | None, root: Path, name: str) -> Scaling:
    """As declared, else Pulumi where its state holds the cluster. Raises Refused for what is declared only."""
    if declared == "pulumi":
        stack = pulumi.PulumiStack(root, name)
        known = stack.nodes_in_state()
        if known is None:
            raise NotInState(name)
        return Scaling("pulumi", stack, known)
    if not pulumi.may_have_state(root) or pulumi.lacking() is not None:
        return Scaling("arm")
    stack = pulumi.PulumiStack(root, name)
    try:
        known = stack.nodes_in_state()
    except pulumi.PulumiRefused as error:
        why = f"Pulumi cannot say whether it manages this cluster, so Azure is asked directly. {error}"
        return Scaling("arm", notes=() if declared else (why,))
    if known is None:
        return Scaling("arm")
    return Scaling(declared or "pulumi", stack, known)


def prepare(session: Session, file: stackfile.StackFile, nodes: int, *, with_pending_changes: bool) -> Scaling:
    """Gives the session's world whoever changes the node count. `file` is as on disk, before that count is written.

    Raises PulumiMissing, PulumiRefused, PulumiLocked, and the refusals of check_changes.
    """
    scaling = choose(file.spec.scaling, session.root, file.stack)
    arm = session.control
    if scaling.through == "arm" or scaling.stack is None or arm is None:
        return scaling
    notes = _previewed(scaling.stack, arm, file, nodes, with_pending_changes)
    from orchestrator.clients.azure.pulumi_scaling import PulumiScaling

    session.world = replace(session.world, control=PulumiScaling(arm, scaling.stack))
    return replace(scaling, notes=notes)


def _previewed(
    stack: pulumi.PulumiStack, arm: ArmClient, file: stackfile.StackFile, nodes: int, with_pending_changes: bool
) -> tuple[str, ...]:
    """What is to be said beside the plan. Nothing is previewed where the nodes are there already."""
    server = drive(when_free(arm.read_server, "read the server"), lambda _: None)
    if server.nodes >= nodes:
        return ()
    dead = stack.dead_locks()
    text = file.text if nodes == file.spec.nodes else stackfile.set_value(file.text, "nodes", str(nodes))
    others = check_changes(file.stack, nodes, stack.preview(text), allow_others=with_pending_changes)
    return (
        f"The node count is changed by `pulumi up` on stack {file.stack}.",
        *(
            f"An update that was killed ({lock.holder}) left its lock on the state: this run removes it."
            for lock in dead
        ),
        *(f"Pulumi will also {change.title}." for change in others),
    )


def record(scaling: Scaling, nodes: int, say: Callable[[str], Any]) -> None:
    """Pulumi's state learns a node count that it was not asked to make, so that its next preview finds nothing."""
    if scaling.stack is None or scaling.known == nodes:
        return
    try:
        if scaling.through == "arm" or scaling.stack.nodes_in_state() != nodes:
            scaling.stack.refresh()
    except OrchestratorError as error:
        say(f"{error} Until `pulumi refresh --stack {scaling.stack.name}` has run, Pulumi believes in the old count.")
