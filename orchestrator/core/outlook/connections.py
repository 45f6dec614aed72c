"""How many client connections a node has to give, by number of nodes: Azure divides them as the cluster grows.

A node keeps part of max_connections for the other nodes' queries, so citus.max_client_connections is max_connections
divided by the number of nodes unless it is set. Nothing is guessed for a compute size whose limit is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.core.desired.limits import limit

MAX = "max_connections"
CLIENTS = "citus.max_client_connections"
_SIZE = re.compile(r"^Standard_[A-Z]+?(\d+)[a-z]*_v\d+$")


@dataclass(frozen=True, slots=True)
class Pools:
    """What PgBouncer is to open on a node: one pool per role and database."""

    roles: int
    pool_size: int

    @property
    def most(self) -> int:
        return self.roles * self.pool_size


@dataclass(frozen=True, slots=True)
class Budget:
    """Per node. `pool_size` is what fits for every role; `keep` are the values that would keep today's number.

    `clients_set`: the number was set, instead of following from the nodes; for readers of the JSON.
    """

    nodes: int
    max_connections: int
    clients: int
    clients_set: bool
    pools: Pools | None
    pool_size: int | None
    keep: tuple[tuple[str, str], ...] = ()
    note: str = ""


def max_connections(sku: str, tier: str, parameters: dict[str, str]) -> int | None:
    """Of one node: as set, else Azure's default for the compute size; None for a size that is not in the table."""
    if parameters.get(MAX, "").isdigit():
        return int(parameters[MAX])
    found = _SIZE.match(sku)
    if found is None:
        return None
    known = [tuple(row) for row in limit("connections.by_vcores").values]
    rows = {vcores: number for name, vcores, number in known if name == tier}
    if not rows:
        return None
    return rows.get(int(found[1]), max(rows.values()) if int(found[1]) > max(rows) else None)


def budget(
    nodes: int, today: int, sku: str, tier: str, parameters: dict[str, str], pools: Pools | None
) -> Budget | None:
    """The budget with `nodes` nodes, compared with that of `today`; None where max_connections is not known."""
    most = max_connections(sku, tier, parameters)
    if most is None:
        return None
    set_to = int(parameters[CLIENTS]) if parameters.get(CLIENTS, "").isdigit() else None
    clients = set_to or most // nodes
    before = set_to or most // today
    fits = min(pools.pool_size, clients // pools.roles) if pools and pools.roles else None
    keep = ((CLIENTS, str(before)),) if clients < before else ()
    notes = []
    if keep:
        reserved = limit("connections.reserved").minimum
        notes.append(
            f"a node takes {clients} client connections instead of {before}; {CLIENTS} = {before} keeps them and "
            f"leaves {max(0, most - reserved - before)} for the queries of the other {nodes - 1} nodes"
        )
    if pools and fits is not None and fits < pools.pool_size:
        notes.append(
            f"PgBouncer may open {pools.roles} x {pools.pool_size} = {pools.most} connections on a node that has "
            f"{clients}; pgbouncer.defaultPoolSize: {max(1, fits)} fits"
        )
    return Budget(nodes, most, clients, set_to is not None, pools, fits, keep, "; ".join(notes))
