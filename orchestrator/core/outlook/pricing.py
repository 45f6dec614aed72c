"""What a cluster costs a month, from a dated price list. A price that is not in the list is unknown, never guessed.

Monthly = nodes x (compute + storage + extra IOPS) x (2 with high availability: a standby of every node is billed like
the node) + backups beyond the provisioned storage, up to which Azure keeps them free of charge ("Backup and restore in
Azure Database for PostgreSQL"). How much backups take depends on the data and on how it changes, not on the nodes: it
is read off Azure's metric and taken to stay what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from orchestrator.core.desired.limits import limit
from orchestrator.core.errors import Refused

HOURS = 730
SCHEMA = 1
Price = Annotated[float, Field(ge=0, allow_inf_nan=False, lt=1e6)]
_STRICT = ConfigDict(extra="forbid")
_SKU = re.compile(r"^Standard_([A-Z]+?)(\d+)([a-z]*)_v(\d+)$")


class PricesRefused(Refused):
    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source} cannot be used as a price file: {problem}.")


@checked(frozen=True, config=_STRICT)
class RegionPrices:
    """`compute_hour` by compute size, or by series for each vCore (`Ddsv5`); a size that is listed itself wins."""

    source: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    compute_hour: Mapping[str, Price] = field(default_factory=dict)
    storage_gb_month: Price | None = None
    iops_month: Price | None = None
    backup_gb_month: Price | None = None


@checked(frozen=True, config=_STRICT)
class PriceList:
    """Keys of `regions` are Azure's names, like `northeurope`."""

    schema: int
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    regions: Mapping[str, RegionPrices]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is billed. `iops` is None where those that come with the storage are used; `backup_gb` is of all nodes."""

    nodes: int
    sku: str
    location: str
    storage_gb: int
    iops: int | None
    standby: bool
    backup_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Monthly:
    """Cost of a month by part; a part is None when its price is unknown, and so is the total then."""

    compute: float | None
    storage: float | None
    iops: float | None
    backup: float | None

    @property
    def total(self) -> float | None:
        parts = (self.compute, self.storage, self.iops, self.backup)
        return None if None in parts else sum(part or 0 for part in parts)


@dataclass(frozen=True, slots=True)
class CostChange:
    """`ratio` is after over before, known also without prices where only nodes and standbys change."""

    before: Monthly
    after: Monthly
    currency: str
    ratio: float | None
    missing: tuple[str, ...]
    source: str


def parse_prices(text: str, source: str) -> PriceList:
    """Raises PricesRefused naming the field that is wrong."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise PricesRefused(source, f"it is not whole JSON ({error})") from None
    if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA:
        raise PricesRefused(source, f"it has schema {raw['schema']} and this orchestrator reads {SCHEMA}; update it")
    try:
        return TypeAdapter(PriceList).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PricesRefused(source, f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def shipped_prices() -> PriceList:
    text = resources.files("orchestrator.core.outlook").joinpath("prices.json").read_text("utf-8")
    return parse_prices(text, "prices.json of the orchestrator")


def prices_text(prices: PriceList) -> str:
    dumped: dict[str, Any] = TypeAdapter(PriceList).dump_python(prices, mode="json", exclude_none=True)
    return json.dumps(dumped, indent=2) + "\n"


def cost_change(before: Shape, after: Shape, prices: PriceList) -> CostChange:
    was, will = monthly(before, prices), monthly(after, prices)
    if was.total is not None and will.total is not None:
        ratio = will.total / was.total if was.total else None
    else:
        ratio = _bare_ratio(before, after)
    missing = tuple(dict.fromkeys((*_missing(before, was), *_missing(after, will))))
    region = prices.regions.get(after.location)
    source = f"{region.source}, {region.date}" if region else ""
    return CostChange(was, will, prices.currency, ratio, missing, source)


def monthly(shape: Shape, prices: PriceList) -> Monthly:
    region = prices.regions.get(shape.location)
    servers = shape.nodes * (2 if shape.standby else 1)
    extra = _extra_iops(shape)
    # A standby's storage is left out of what is free: whether it counts is not documented.
    kept = max(0.0, shape.backup_gb - shape.nodes * shape.storage_gb)
    if region is None:
        return Monthly(None, None, None if extra else 0.0, None if kept else 0.0)
    hour, gigabyte = compute_hour(shape.sku, region), region.storage_gb_month
    return Monthly(
        None if hour is None else servers * hour * HOURS,
        None if gigabyte is None else servers * gigabyte * shape.storage_gb,
        0.0 if not extra else None if region.iops_month is None else servers * extra * region.iops_month,
        0.0 if not kept else None if region.backup_gb_month is None else kept * region.backup_gb_month,
    )


def compute_hour(sku: str, region: RegionPrices) -> float | None:
    """Of one server. By series the price is that of a vCore, times the vCores in the size's name."""
    if sku in region.compute_hour:
        return region.compute_hour[sku]
    found = _SKU.match(sku)
    if found is None:
        return None
    family, vcores, letters, version = found.groups()
    per_vcore = region.compute_hour.get(f"{family}{letters}v{version}")
    return None if per_vcore is None else per_vcore * int(vcores)


def _extra_iops(shape: Shape) -> int:
    """Beyond those that come with the storage."""
    included: dict[int, int] = dict(limit("storage.included_iops").values)
    return max(0, (shape.iops or 0) - included.get(shape.storage_gb, 0))


def _bare_ratio(before: Shape, after: Shape) -> float | None:
    """Without prices: only nodes and standbys may differ, for both multiply everything that is billed by the node."""
    if max(before.backup_gb - before.nodes * before.storage_gb, after.backup_gb - after.nodes * after.storage_gb) > 0:
        return None
    same = (before.sku, before.location, before.storage_gb, _extra_iops(before)) == (
        after.sku,
        after.location,
        after.storage_gb,
        _extra_iops(after),
    )
    servers = before.nodes * (1 + before.standby), after.nodes * (1 + after.standby)
    return servers[1] / servers[0] if same and servers[0] else None


def _missing(shape: Shape, cost: Monthly) -> tuple[str, ...]:
    parts = (
        (cost.compute, f"compute {shape.sku}"),
        (cost.storage, "storage"),
        (cost.iops, "extra IOPS"),
        (cost.backup, "backups"),
    )
    return tuple(f"{name} in {shape.location}" for value, name in parts if value is None)
