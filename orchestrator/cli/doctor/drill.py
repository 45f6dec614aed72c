"""`orchestrator doctor --drill`: restarts the cluster while services work through every port; says what they noticed.

The control plane restarts it, a lab's like Azure's. On Azure only as a failover that is asked for by name: a restart
there makes an outage, and the standbys exist to spare one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from orchestrator.cli.doctor.ports import chosen
from orchestrator.cli.running import Output, confirm, print_json
from orchestrator.cli.services.connection import service_access, service_password
from orchestrator.cli.session import open_control, open_session
from orchestrator.cli.stack.stackfile import StackFile, load
from orchestrator.clients.azure.credentials import is_lab
from orchestrator.clients.checks.drill import DrillClients
from orchestrator.core.access import offered_ports
from orchestrator.core.access_formats import document
from orchestrator.core.checks.drill import Failover, Outage, PortDrill, advice, drill_json, longest_away, recovered
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Refused
from orchestrator.core.observed.server import ServerReading
from orchestrator.core.observed.state import RebalanceJob
from orchestrator.driver import drive
from orchestrator.workflow.drill import drill

# Each takes two connections at every port, and two threads here.
AT_MOST = 8


class DrillRefused(Refused):
    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"No drill: {reason}. Nothing was restarted. {fix}")


def run_drill(
    root: Path, stack: str, names: tuple[str, ...], failover: Failover | None, as_json: bool, yes: bool
) -> int:
    """The exit code: 1 where a client did not come back, or lost a request that it had tried again."""
    file = load(root, stack)
    if failover is None and not is_lab(file.spec.endpoint.arm if file.spec.endpoint else None):
        raise DrillRefused(
            f"stack {stack} is on Azure, where a restart is an outage for everybody who uses it",
            "Drill against a lab, or, in a window that allows it, a failover to the standbys: --failover planned.",
        )
    services = chosen(file.spec.services, names)
    if not services:
        raise DrillRefused("the stack file declares no services", "Declare one, and run `orchestrator apply`.")
    output = Output(as_json, False)
    with (
        open_session(root, file, services=False, control=False, lock=True) as session,
        open_control(file.spec) as control,
    ):
        _check(control.read_server(), session.citus.observe().job, failover)
        with _clients(root, file, services[:AT_MOST]) as clients:
            if not output.quiet:
                output.human.lines(_announcement(file, services, failover))
            what = f"{failover} failover" if failover else "restart"
            confirm(yes, f"Go ahead with the {what} of {file.spec.name}, which ends every connection to it?")
            drive(drill(control, failover, clients), output.show)
    ports = clients.seen()
    if as_json:
        print_json({"stack": stack, "what": what} | drill_json(ports))
    else:
        _show(ports)
    return 0 if recovered(ports) else 1


def _check(server: ServerReading, job: RebalanceJob | None, failover: Failover | None) -> None:
    """Before anything is restarted."""
    if failover and server.ha_mode == "Disabled":
        raise DrillRefused(
            f"server {server.name} has no standbys that could take over",
            "Set elastic-cluster:highAvailability first; `orchestrator preview` says what it costs.",
        )
    if server.state != "Ready":
        raise DrillRefused(f"server {server.name} is {server.state}", "Wait until it is Ready.")
    if job is not None and job.in_flight:
        raise DrillRefused(
            f"rebalance job {job.job_id} is under way", "Wait for it, or `orchestrator rebalance --stop`."
        )


@contextmanager
def _clients(root: Path, file: StackFile, services: Sequence[ServiceSpec]) -> Iterator[DrillClients]:
    """All at work before anything is restarted. Raises DrillRefused where one cannot."""
    clients = DrillClients()
    try:
        for service in services:
            password = service_password(root, file, service.name)
            for port in offered_ports(file.spec):
                access = service_access(root, file, service.name, port)
                wrong = clients.start(access, document(access, None, None)["libpq"], password)
                if wrong:
                    raise DrillRefused(
                        f"{service.name} does not work through the {port} port now: {wrong.rstrip('.')}",
                        "`orchestrator doctor` says more.",
                    )
        yield clients
    finally:
        clients.stop()


def _announcement(file: StackFile, services: Sequence[ServiceSpec], failover: Failover | None) -> list[str]:
    ports = ", ".join(offered_ports(file.spec))
    names = ", ".join(service.name for service in services[:AT_MOST])
    lines = [f"{names} read through these ports, each with and without retries: {ports}."]
    if len(services) > AT_MOST:
        lines.append(f"{len(services) - AT_MOST} other services do not take part; --service NAME chooses others.")
    if failover == "forced":
        lines.append("Transactions that are open break off, on this cluster's every node.")
    return lines


def _show(ports: Sequence[PortDrill]) -> None:
    for port in ports:
        click.echo(f"{port.service} through the {port.port} port {port.number}")
        click.echo(f"  without retries: {_outage_text(port.plain)}")
        for told in port.plain.told:
            click.echo(f"    {told.count} x {told.sqlstate or '(no SQLSTATE)'} {told.text}")
        click.echo(f"  with retries: {_outage_text(port.retrying)}; the longest took {port.retrying.longest:.2f} s")
    verdict = "Every service came back" if recovered(ports) else "Not every service came back whole"
    click.echo(f"{verdict}; at most {longest_away(ports):.1f} s without an answer.")
    for line in advice(ports):
        click.echo(f"  {line}")


def _outage_text(seen: Outage) -> str:
    if not seen.failed:
        return f"none of {seen.requests} requests failed"
    away = "it never came back" if seen.seconds is None else f"back after {seen.seconds:.2f} s"
    return f"{seen.failed} of {seen.requests} requests failed, {away}"
