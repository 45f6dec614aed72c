"""The questionnaire: what `orchestrator advise --answers FILE` reads. Pure.

All answers are optional. With a database they say what it cannot: how large production will be, which server it has.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.core.desired.limits import limit
from orchestrator.core.desired.services import Model

Percent = Annotated[float, Field(ge=0, le=100)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, lt=1e9)]


class Data(Model):
    """How much there is, and whose it is."""

    size_gb: Amount | None = Field(None, description="size of the database, indexes included")
    growth_gb_per_month: Amount | None = Field(None, description="by how much it grows")
    tenancy: Literal["none", "column", "schema"] | None = Field(
        None, description="none, column or schema: how customers or services are kept apart"
    )
    tenant_column: str | None = Field(None, min_length=1, description="that column, for example tenant_id")
    tenants: Annotated[int, Field(ge=0)] | None = Field(None, description="how many there are")
    largest_tenant_percent: Percent | None = Field(None, description="the largest one's share of the data")
    covered_percent: Percent | None = Field(
        None, description="share of the data in tables with that column, or in schemas of their own"
    )
    keys_percent: Percent | None = Field(
        None, description="share of the primary, unique and foreign keys that hold the column, or stay in one schema"
    )


class Queries(Model):
    """What the statements do, by number of calls but for the last."""

    one_tenant_percent: Percent | None = Field(None, description="share of the calls that are about one tenant")
    joins_by_tenant_percent: Percent | None = Field(None, description="share of the joins that are within one tenant")
    analytic_percent: Percent | None = Field(
        None, description="share of the time spent in sums and counts over many tenants"
    )


class Peak(Model):
    """The load at its highest."""

    cpu_percent: Percent | None = Field(None, description="of all vCores of server.sku")
    active_sessions: Annotated[int, Field(ge=0)] | None = Field(None, description="sessions at work at one moment")
    wal_mb_per_second: Amount | None = Field(None, description="of the write-ahead log")
    saturated: Literal["none", "cpu", "wal"] | None = Field(
        None, description="none, cpu or wal: what saturates on the largest server at the peak (advise --benchmark)"
    )


class ServerNow(Model):
    """The server that there is or would be, for CPU and cost."""

    sku: str | None = Field(
        None,
        pattern=r"^Standard_[A-Za-z]+\d+[a-z]*_v\d+$",
        description="its compute size, for example Standard_D8ds_v5",
    )
    node_sku: str | None = Field(
        None, pattern=r"^Standard_[A-Za-z]+\d+[a-z]*_v\d+$", description="the same of a node of the cluster"
    )
    nodes: Annotated[int, Field(ge=limit("cluster.nodes").minimum, le=limit("cluster.nodes").maximum)] | None = Field(
        None, description="how many nodes the cluster has"
    )
    region: str | None = Field(None, min_length=1, description="Azure's name, for example westus2")
    high_availability: bool | None = Field(None, description="true or false: a standby for every server")


class Answers(Model):
    """Answers about one database. What is left out is not known."""

    data: Data = Data()
    queries: Queries = Queries()
    peak: Peak = Peak()
    server: ServerNow = ServerNow()


def questionnaire() -> str:
    """An empty one, as YAML with comments."""
    lines = [
        "# Answers for `orchestrator advise --answers FILE`. Fill in what you know and remove its #.",
        "# Beside a database (--url) they win over what was read: say here how large production will be.",
    ]
    for name, part in Answers.model_fields.items():
        model = part.annotation
        assert isinstance(model, type)  # noqa: S101 - the fields above
        assert issubclass(model, Model)  # noqa: S101
        lines += ["", f"{name}:  # {(model.__doc__ or '').strip()}"]
        for field in model.model_fields.values():
            lines.append(f"  # {field.alias}:  # {field.description}")
    return "\n".join(lines) + "\n"
