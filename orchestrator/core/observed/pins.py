"""Tenants that are to stay on one node: what the cluster keeps of them. Data only.

Node ids are given by Citus and rows of a tenant are in no stack file, so pins are kept in the cluster's own database:
whoever rebalances finds them there, from any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tenant:
    """A distributed schema, or with `table` the value of a row-sharded table's distribution column.

    `table` is written as SQL needs it, schema first. `hash` is where the value lies among the table's shards.
    """

    name: str
    table: str | None = None
    hash: int | None = None

    @property
    def title(self) -> str:
        return self.name if self.table is None else f"{self.name} of {self.table}"


@dataclass(frozen=True, slots=True)
class Pin:
    """`alone`: other tenants are kept away from the node too.

    `shard_id` is that of the tenant's own shard group; None while there is none, because the tenant is gone, holds
    nothing yet, or still shares a shard with others. `pin_id` is None for one that is not kept yet.
    """

    tenant: Tenant
    node_id: int
    alone: bool = False
    shard_id: int | None = None
    pin_id: int | None = None


@dataclass(frozen=True, slots=True)
class Isolation:
    """The wish to have a tenant on node `to`, and `alone` there.

    `shard_id` is the shard group that holds the tenant now, on `node_id`; with `own` it holds nobody else. `tables` are
    all tables that are split when it has to be given one of its own.
    """

    tenant: Tenant
    shard_id: int
    node_id: int
    own: bool
    to: int
    alone: bool = False
    tables: tuple[str, ...] = ()


def pin_of(pins: Sequence[Pin], tenant: Tenant) -> Pin | None:
    """The pin of this tenant, which its name and table tell."""
    return next((pin for pin in pins if (pin.tenant.name, pin.tenant.table) == (tenant.name, tenant.table)), None)
