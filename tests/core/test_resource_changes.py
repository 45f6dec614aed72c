"""What a scale-out through Pulumi lets pass, and in which words the rest is refused."""

from __future__ import annotations

import pytest

from orchestrator.core.planning.resource_changes import (
    NODE_COUNT,
    SERVER_TYPE,
    NodeCountNotManaged,
    OtherChangesPending,
    PropertyChange,
    ResourceChange,
    ServerWouldBeLost,
    check_changes,
)

NODES = PropertyChange(NODE_COUNT, 4.0, 8.0)
GROWS = ResourceChange("update", SERVER_TYPE, "server", (NODES,))
RULE = ResourceChange("create", "azure-native:dbforpostgresql:FirewallRule", "firewall-office")


def test_the_node_count_alone_passes() -> None:
    assert check_changes("prod", 8, [GROWS], allow_others=False) == ()


def test_anything_else_is_refused_by_name_unless_it_is_allowed() -> None:
    with pytest.raises(OtherChangesPending, match="create FirewallRule firewall-office") as error:
        check_changes("prod", 8, [GROWS, RULE], allow_others=False)
    assert "--with-pending-changes" in str(error.value)
    assert check_changes("prod", 8, [GROWS, RULE], allow_others=True) == (RULE,)


def test_another_property_of_the_server_is_something_else() -> None:
    both = ResourceChange("update", SERVER_TYPE, "server", (PropertyChange("tags.owner", None, "me"), NODES))
    with pytest.raises(OtherChangesPending, match=r"update Server server \(tags.owner nothing -> me, nodes 4 -> 8\)"):
        check_changes("prod", 8, [both], allow_others=False)


@pytest.mark.parametrize("operation", ["replace", "delete"])
@pytest.mark.parametrize("allowed", [True, False])
def test_losing_the_server_is_refused_whatever_is_allowed(operation: str, allowed: bool) -> None:
    lost = ResourceChange(operation, SERVER_TYPE, "server", (PropertyChange("location", "a", "b"), NODES))  # type: ignore[arg-type]
    with pytest.raises(ServerWouldBeLost, match="the cluster and its data"):
        check_changes("prod", 8, [lost], allow_others=allowed)


def test_a_program_that_does_not_manage_the_count_is_refused() -> None:
    with pytest.raises(NodeCountNotManaged, match="elastic-cluster:scaling: arm"):
        check_changes("prod", 8, [], allow_others=False)


def test_a_long_list_is_cut() -> None:
    rules = [ResourceChange("create", RULE.type, f"rule-{number}") for number in range(12)]
    with pytest.raises(OtherChangesPending, match="and 4 more"):
        check_changes("prod", 8, [GROWS, *rules], allow_others=False)
