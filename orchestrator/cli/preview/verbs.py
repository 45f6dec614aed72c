"""The verbs that only look: preview, snapshot, prices refresh."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from orchestrator.cli.moving.options import wishes
from orchestrator.cli.preview.gates import first_failure, parse_gates
from orchestrator.cli.running import print_json
from orchestrator.cli.stack import stackfile
from orchestrator.cli.textfiles import UNUSABLE, reason, write_whole
from orchestrator.core.desired.limits import checked_nodes
from orchestrator.core.desired.names import region_name
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import Refused
from orchestrator.core.moves.cost import defaults_for
from orchestrator.core.observed.snapshot import SnapshotRefused, read_snapshot, snapshot_text
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.outlook.preview import make_preview, spec_of
from orchestrator.core.outlook.pricing import (
    SCHEMA,
    PriceList,
    PricesRefused,
    RegionPrices,
    parse_prices,
    prices_text,
    shipped_prices,
)
from orchestrator.core.planning.plan import Wanted


def show_preview(
    root: Path,
    stack: str,
    stack_given: bool,
    nodes: int | None,
    what_if: str | None,
    snapshot: Path | None,
    prices: Path | None,
    target_storage_percent: float | None,
    backup_gb: float,
    fail_on: str | None,
    output_format: str,
    **moving: Any,
) -> int:
    """Returns the exit code: 0, or that of the first gate of `--fail-on` which the preview does not pass."""
    gates = parse_gates(fail_on) if fail_on else ()
    asked = _counts(nodes, what_if)
    file, spec, state = _observed(root, stack, stack_given, snapshot)
    wanted = Wanted(True, False, True, **wishes(**moving))
    price_list = chosen_prices(prices, file)
    preview = make_preview(
        spec, state, wanted, asked or (spec.nodes,), price_list, defaults_for(spec), target_storage_percent, backup_gb
    )
    if output_format == "json":
        from orchestrator.cli.preview.views import preview_json

        print_json(preview_json(preview))
    elif output_format == "markdown":
        from orchestrator.cli.preview.markdown import markdown_page

        click.echo(markdown_page(preview, state.shard_groups), nl=False)
    else:
        from orchestrator.cli.preview.views import preview_lines

        click.echo("\n".join(preview_lines(preview)))
    failed = first_failure(preview, gates)
    if failed is None:
        return 0
    click.echo(f"--fail-on {failed[1]}.", err=True)
    return failed[0]


def _counts(nodes: int | None, what_if: str | None) -> tuple[int, ...]:
    if nodes is not None and what_if is not None:
        raise Refused(
            "--nodes and --what-if exclude each other: --what-if 4,8 compares node counts, --nodes takes one."
        )
    texts = [str(nodes)] if nodes is not None else (what_if or "").split(",") if what_if is not None else []
    counts = []
    for text in texts:
        if not re.fullmatch(r"\s*-?[0-9]{1,20}\s*", text):
            raise Refused(f"{text.strip() or 'nothing'!r} is not a number of nodes. Write for example --what-if 4,6,8.")
        counts.append(checked_nodes(int(text)))
    return tuple(counts)


def _observed(
    root: Path, stack: str, stack_given: bool, snapshot: Path | None
) -> tuple[stackfile.StackFile | None, ClusterSpec, ClusterState]:
    """The stack file, what it declares, and the cluster as it is or was. A snapshot can do without a stack file."""
    if snapshot is None:
        file = stackfile.load(root, stack)
        return file, file.spec, _live(root, file)
    state = read_snapshot(_text(snapshot), str(snapshot))
    if stack_given or stackfile.stack_path(root, stack).is_file():
        file = stackfile.load(root, stack)
        return file, file.spec, state
    if state.server is None:
        raise SnapshotRefused(str(snapshot), "it has no server, and there is no stack file", "Name one with --stack.")
    try:
        return None, spec_of(state.server), state
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SnapshotRefused(str(snapshot), f"server.{where}: {first['msg']}") from None


def _live(root: Path, file: stackfile.StackFile) -> ClusterState:
    from orchestrator.cli.session import open_session

    with open_session(root, file, services=False, control=True, lock=False) as session:
        return session.observed()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UNUSABLE as error:
        raise SnapshotRefused(str(path), f"it cannot be read: {reason(error)}") from None


def chosen_prices(path: Path | None, file: stackfile.StackFile | None) -> PriceList:
    """As given, else as the stack file names, else those that come with the orchestrator."""
    if path is None and file is not None and file.spec.prices is not None:
        path = file.path.parent / file.spec.prices
    if path is None:
        return shipped_prices()
    return _price_file(path)


def _price_file(path: Path) -> PriceList:
    try:
        text = path.read_text("utf-8")
    except UNUSABLE as error:
        raise PricesRefused(str(path), f"it cannot be read: {reason(error)}") from None
    return parse_prices(text, str(path))


def save_snapshot(root: Path, stack: str, output: Path) -> None:
    state = _live(root, stackfile.load(root, stack))
    text = snapshot_text(state, datetime.now(UTC).isoformat(timespec="seconds"))
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    _write(output, text)
    click.echo(f"{output}: {len(state.nodes)} nodes, {len(state.shard_groups)} shard groups.", err=True)


def refresh_prices(
    root: Path, stack: str, stack_given: bool, regions: Sequence[str], currency: str, output: Path | None, url: str
) -> None:
    from orchestrator.clients.azure.prices import fetch_items, read_prices

    path = stackfile.stack_path(root, stack)
    file = stackfile.load(root, stack) if stack_given or path.is_file() else None
    output = output or (file.path.parent / file.spec.prices if file and file.spec.prices else None)
    if output is None:
        raise Refused("No price file is named: add -o FILE, or elastic-cluster:prices to the stack file.")
    wanted = [region_name(region) for region in regions] or ([region_name(file.spec.location)] if file else [])
    if not wanted:
        raise Refused("No region is named: add --region, for example --region northeurope.")
    known = dict(_kept(output, currency))
    for region in wanted:
        found = read_prices(fetch_items(region, currency, url))
        if not found.compute_hour:
            raise Refused(
                f"Region {region!r}: the price service lists no compute prices there; write Azure's name of a region "
                "in --region or elastic-cluster:location, for example northeurope, as in `az account list-locations`."
            )
        today = datetime.now(UTC).date().isoformat()
        known[region] = RegionPrices(
            "Azure Retail Prices API, pay as you go",
            today,
            found.compute_hour,
            found.storage_gb_month,
            found.iops_month,
            found.backup_gb_month,
        )
        click.echo(f"{region}: {len(found.compute_hour)} compute prices", err=True)
        for text in found.left_out:
            click.echo(f"  left out: {text}", err=True)
    _write(output, prices_text(PriceList(SCHEMA, currency, known)))


def _kept(path: Path, currency: str) -> dict[str, RegionPrices]:
    """Regions that the file has already and that are not asked for now. Raises when its currency is another."""
    if not path.exists():
        return {}
    old = _price_file(path)
    if old.currency != currency:
        raise PricesRefused(str(path), f"it is in {old.currency}, not in {currency}; choose another file")
    return dict(old.regions)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {reason(error)}. Name another file with -o.") from None
