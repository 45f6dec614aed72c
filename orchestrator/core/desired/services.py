"""Desired state of one service: its role, its schema, how its tables are spread, who may read them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from orchestrator.core.desired.names import NAME_PATTERN, PATH_PATTERN, storable_name, usable_path

# Names reach PostgreSQL through psycopg.sql, so names that need quotes there are welcome.
Name = Annotated[
    str,
    Field(min_length=1, json_schema_extra={"pattern": NAME_PATTERN, "maxLength": 63}),
    AfterValidator(storable_name),
]
FilePath = Annotated[str, Field(min_length=1, json_schema_extra={"pattern": PATH_PATTERN}), AfterValidator(usable_path)]
PLACEHOLDER = "{key}"
TablePrivilege = Literal["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]


class Model(BaseModel):
    """Frozen; unknown keys are errors. Not strict: `pulumi config set` writes numbers and booleans as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


class Password(Model):
    """Where a service's password comes from: an environment variable, a file, or `generate` (kept in a 0600 file)."""

    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: FilePath | None = None
    generate: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Password:
        if (self.env is not None) + (self.file is not None) + self.generate != 1:
            raise ValueError("name exactly one of env, file and generate: true")
        return self


class Grant(Model):
    """Another role's rights on every table of this service's schema, those of later migrations included."""

    role: Name
    privileges: Annotated[tuple[TablePrivilege, ...], Field(min_length=1)] = ("SELECT",)


class KeyRange(Model):
    """Whole numbers, both ends included; `width` pads them with zeros."""

    first: Annotated[int, Field(alias="from", ge=0)]
    last: Annotated[int, Field(alias="to", ge=0)]
    width: Annotated[int, Field(ge=1, le=18)] = 1

    @model_validator(mode="after")
    def _some(self) -> KeyRange:
        if self.last < self.first:
            raise ValueError(f"the range ends before it begins ({self.first} to {self.last}); swap them")
        return self


class Keys(Model):
    """Where the keys of a template come from: a range, a file with one on each line, or the first column of a query.

    The file is relative to the stack file; empty lines and those that begin with # are passed over. The query runs on
    the cluster as the administrator, read-only.
    """

    range_: KeyRange | None = Field(default=None, alias="range")
    file: FilePath | None = None
    query: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Keys:
        if sum(source is not None for source in (self.range_, self.file, self.query)) != 1:
            raise ValueError("name exactly one of range, file and query")
        return self


class ServiceTemplate(Model):
    """One service for every key: `{key}` in `service` stands for it, wherever text is."""

    keys: Keys
    service: dict[str, Any] = Field(description="As under `services`, with {key} in at least its name.")

    @model_validator(mode="after")
    def _names_differ(self) -> ServiceTemplate:
        if PLACEHOLDER not in str(self.service.get("name", "")):
            raise ValueError(f"service.name has no {PLACEHOLDER}: all services would have the same name")
        return self


class ServiceSpec(Model):
    """One service. Role defaults to the name, schema to the role: then `search_path` needs no setting."""

    name: Name
    role: Name | None = None
    schema_: Name | None = Field(default=None, alias="schema")
    sharding: Literal["schema", "row"] = "schema"
    distribution_column: Name | None = Field(
        default=None, description="Row sharding only; every table that has it is distributed by it."
    )
    reference_tables: tuple[Name, ...] = Field(default=(), description="Row sharding only; copied whole to every node.")
    migrations: tuple[FilePath, ...] = Field(
        default=(),
        description="SQL files or folders of them, relative to the stack file; run once each, in this order.",
    )
    grants: tuple[Grant, ...] = ()
    connection_limit: Annotated[int, Field(ge=-1, le=262143)] = -1
    password: Password = Password(generate=True)

    @property
    def role_name(self) -> str:
        return self.role or self.name

    @property
    def schema_name(self) -> str:
        return self.schema_ or self.role_name

    @model_validator(mode="after")
    def _row_or_schema(self) -> ServiceSpec:
        if self.sharding == "row" and self.distribution_column is None:
            raise ValueError("sharding: row needs a distributionColumn")
        if self.sharding == "schema" and (self.distribution_column or self.reference_tables):
            raise ValueError("distributionColumn and referenceTables belong to sharding: row")
        if self.schema_name in {
            "public",
            "pg_catalog",
            "information_schema",
            "orchestrator",
            "orchestrator_probe",
            "citus",
            "citus_internal",
            "$user",  # in a search_path it stands for whoever is logged in
        }:
            raise ValueError(f"schema {self.schema_name} cannot belong to a service; choose a schema of its own")
        if self.role_name in {"public", "none"}:
            raise ValueError(f"PostgreSQL has no role named {self.role_name}: the word means something else to it")
        if self.role_name.startswith("pg_") or self.schema_name.startswith("pg_"):
            raise ValueError("names that begin with pg_ are reserved by PostgreSQL")
        return self
