"""What both would cost a month, with the sizes that the advice supposes. Pure; prices are those of `core.pricing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.core.advice.answers import ServerNow
from orchestrator.core.advice.decision import Advice
from orchestrator.core.advice.signals import Signals, vcores
from orchestrator.core.advice.thresholds import threshold
from orchestrator.core.desired.limits import limit
from orchestrator.core.outlook.pricing import CostChange, PriceList, Shape, cost_change

# Where neither a server nor its limits say how large it is.
_ASSUMED_VCORES = 4


@dataclass(frozen=True, slots=True)
class Costs:
    """`before` in `change` is the flexible server, `after` the cluster. `assumed`: what was taken to be so."""

    flexible: Shape
    cluster: Shape
    change: CostChange
    assumed: tuple[str, ...]


def costs(advice: Advice, signals: Signals, server: ServerNow, max_connections: int | None, prices: PriceList) -> Costs:
    assumed: list[str] = []
    sku, cores = _size(server, max_connections, assumed)
    beyond = any(reach.beyond for reach in advice.reaches) or advice.saturated is not None
    if beyond and cores < _sizes()[-1]:
        sku, cores = f"Standard_D{_sizes()[-1]}ds_v5", _sizes()[-1]
        assumed.append(f"the flexible server is the largest, {sku}")
    node_sku = server.node_sku
    if node_sku is None:
        # Together as many vCores as the one server, so that the money buys the same.
        wanted = next((size for size in _sizes() if size * advice.nodes >= cores), _sizes()[-1])
        node_sku = f"Standard_D{wanted}ds_v5"
        assumed.append(f"each of {advice.nodes} nodes is {node_sku}: together as many vCores")
    location = server.region or _only(list(prices.regions))
    if server.region is None:
        assumed.append(f"the region is {location}")
    total = _ahead(signals)
    if total > _disk(total):
        assumed.append(f"no disk of one server holds the {total:,.0f} GB that there will be")
    standby = bool(server.high_availability)
    one = Shape(1, sku, location, _disk(total), None, standby)
    many = Shape(advice.nodes, node_sku, location, _disk(total / advice.nodes), None, standby)
    return Costs(one, many, cost_change(one, many, prices), tuple(assumed))


def _size(server: ServerNow, max_connections: int | None, assumed: list[str]) -> tuple[str, int]:
    """As answered, else by Azure's default of max_connections, else small."""
    if server.sku is not None:
        return server.sku, vcores(server.sku) or _ASSUMED_VCORES
    rows = [row for row in limit("connections.by_vcores").values if row[0] == "GeneralPurpose"]
    cores = next((int(row[1]) for row in rows if row[2] == max_connections), None)
    sku = f"Standard_D{cores or _ASSUMED_VCORES}ds_v5"
    because = f"by its max_connections, {max_connections}" if cores else "the server's size is not known"
    assumed.append(f"the flexible server is {sku} ({because})")
    return sku, cores or _ASSUMED_VCORES


def _sizes() -> list[int]:
    return [int(size) for size in limit("compute.vcores").values]


def _only(regions: Sequence[str]) -> str:
    return sorted(regions)[0] if regions else "westus2"


def _ahead(signals: Signals) -> float:
    """GB at the horizon."""
    return (signals.storage or 0) + max(signals.growth or 0, 0) * threshold("horizon")


def _disk(gigabytes: float) -> int:
    """The smallest size of which 80 % hold them; the largest where none does."""
    sizes = [int(size) for size in limit("storage.size_gb").values]
    return next((size for size in sizes if 0.8 * size >= gigabytes), sizes[-1])
