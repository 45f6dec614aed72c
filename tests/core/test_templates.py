"""Service templates: one service for every key, mistakes told with the key that has them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.core.desired.services import KeyRange, Keys, ServiceSpec, ServiceTemplate
from orchestrator.core.desired.templates import expand, keys_of_range, keys_of_text
from orchestrator.core.observed.state import ServicesState
from orchestrator.core.planning.plan_services import MANY, plan_services
from orchestrator.core.planning.steps_services import EnsureGrant, EnsureRole, EnsureSchema, MakeServices


def template(**service: Any) -> ServiceTemplate:
    values = {"keys": {"range": {"from": 1, "to": 3}}, "service": {"name": "tenant_{key}"} | service}
    return ServiceTemplate.model_validate(values)


def test_the_key_stands_wherever_text_is() -> None:
    wanted = template(
        schema="s_{key}", password={"file": "secrets/{key}.txt"}, grants=[{"role": "reader_{key}"}], connectionLimit=5
    )
    services, problems = expand(wanted, ["a", "b"], "here")
    assert problems == []
    assert [service.name for service in services] == ["tenant_a", "tenant_b"]
    assert services[1].schema_name == "s_b"
    assert services[1].password.file == "secrets/b.txt"
    assert services[1].grants[0].role == "reader_b"
    assert services[1].connection_limit == 5


def test_a_key_is_never_read_as_a_template() -> None:
    services, _ = expand(template(), ["{key}"], "here")
    assert services[0].name == "tenant_{key}"


def test_keys_of_a_range_and_of_a_file() -> None:
    assert keys_of_range(KeyRange.model_validate({"from": 8, "to": 11, "width": 3})) == ["008", "009", "010", "011"]
    assert keys_of_text("# tenants\nacme\n\n  globex  \n") == ["acme", "globex"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [(["a", "b", "a"], "'a' is in the list twice"), (["x" * 64], "cannot be a key"), (['a"b'], "key 'a\"b'")],
)
def test_what_is_wrong_with_a_key_is_told_with_it(keys: list[str], said: str) -> None:
    _, problems = expand(template(), keys, "stack serviceTemplates[0]")
    (problem,) = problems
    assert said in str(problem)


def test_a_mistake_of_the_template_is_told_once_and_not_for_every_key() -> None:
    _, problems = expand(template(sharding="row"), [str(n) for n in range(1000)], "here")
    assert len(problems) == 1
    assert "distributionColumn" in str(problems[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": {"range": {"from": 3, "to": 1}}, "service": {"name": "t{key}"}},
        {"keys": {}, "service": {"name": "t{key}"}},
        {"keys": {"file": "a", "query": "b"}, "service": {"name": "t{key}"}},
        {"keys": {"file": "a"}, "service": {"name": "t"}},
    ],
)
def test_a_template_that_cannot_be_used_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServiceTemplate.model_validate(wrong)


def test_exactly_one_source_of_keys() -> None:
    assert Keys.model_validate({"query": "SELECT name FROM customers"}).query is not None


def many(count: int, **more: Any) -> list[ServiceSpec]:
    return expand(template(**more), [str(number) for number in range(count)], "here")[0]


def test_many_services_are_made_in_bundles_that_depend_on_nothing_else() -> None:
    row = ServiceSpec.model_validate({"name": "shared", "sharding": "row", "distributionColumn": "tenant_id"})
    steps = plan_services([*many(MANY), row], {}, ServicesState(bookkeeping=True))
    assert [type(step).__name__ for step in steps] == ["EnsureRole", "EnsureSchema", "MakeServices"]
    bulk = steps[-1]
    assert isinstance(bulk, MakeServices)
    assert len(bulk.bundles) == MANY
    assert all([type(step) for step in bundle] == [EnsureRole, EnsureSchema] for bundle in bulk.bundles)
    assert bulk.title == f"make {MANY} services, several at once"


def test_a_service_that_the_others_grant_to_comes_first_and_they_grant_when_they_are_made() -> None:
    services = many(MANY + 1, grants=[{"role": "tenant_0"}])
    steps = plan_services(services, {}, ServicesState(bookkeeping=True))
    assert [type(step) for step in steps] == [EnsureRole, EnsureSchema, MakeServices]
    bulk = steps[-1]
    assert isinstance(bulk, MakeServices)
    assert all([type(step) for step in bundle] == [EnsureRole, EnsureSchema, EnsureGrant] for bundle in bulk.bundles)


def test_grants_come_when_every_role_is_there() -> None:
    """Where everybody grants to somebody, nobody can come first."""
    names = [f"tenant_{number}" for number in range(MANY)]
    services = [
        ServiceSpec.model_validate({"name": name, "grants": [{"role": other}]})
        for name, other in zip(names, [*names[1:], names[0]], strict=True)
    ]
    steps = plan_services(services, {}, ServicesState(bookkeeping=True))
    assert [type(step) for step in steps] == [MakeServices, MakeServices]
    assert isinstance(steps[1], MakeServices)
    assert {type(step) for bundle in steps[1].bundles for step in bundle} == {EnsureGrant}


def test_few_services_are_told_step_by_step() -> None:
    steps = plan_services(many(MANY - 1), {}, ServicesState(bookkeeping=True))
    assert not any(isinstance(step, MakeServices) for step in steps)
