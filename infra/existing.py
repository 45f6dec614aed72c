"""What an existing server cannot become: refused by key before anything is declared, in a preview too.

The stack's last deployment says which server it made; Azure says what it is now. Azure itself accepts a smaller node
count and ignores it, and Pulumi would replace the server, data and all, for a change of what is fixed at creation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pulumi

from infra.settings import refusal
from orchestrator.core.desired.names import region_name
from orchestrator.core.desired.spec import NAMESPACE, ClusterSpec

# Seconds for which a state that cannot be read may still be one that is being written.
READ_FOR = 5.0


def refuse_impossible(spec: ClusterSpec) -> None:
    """Raises pulumi.RunError; does nothing before the first deployment."""
    made = _made_before()
    if made is None:
        return
    problems = list(_moved(spec, made)) or list(_changed(spec))
    if problems:
        raise refusal(problems)


def _made_before() -> str | None:
    """Resource ID of the server that this stack's last deployment exported."""
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    answer = _outputs(stack)
    resource_id = ((answer or {}).get("outputs") or {}).get("resourceId")
    return resource_id if isinstance(resource_id, str) and resource_id else None


def _outputs(stack: str) -> Any:
    """The engine may be writing the state of this very stack to a file meanwhile, which then reads as cut off."""
    deadline = time.monotonic() + READ_FOR
    while True:
        try:
            return pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": stack}).value
        except Exception as error:  # the SDK raises no narrower type for a failed invoke
            if "failed to load checkpoint" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _moved(spec: ClusterSpec, resource_id: str) -> Iterator[str]:
    parts = resource_id.strip("/").split("/")
    group, name = parts[3], parts[-1]
    if name.lower() != spec.name:
        yield _replaced("name", name, spec.name)
    if group.lower() != spec.resource_group.lower():
        yield _replaced("resourceGroup", group, spec.resource_group)


def _changed(spec: ClusterSpec) -> Iterator[str]:
    from pulumi_azure_native import dbforpostgresql as postgresql

    try:
        server = postgresql.get_server(resource_group_name=spec.resource_group, server_name=spec.name)
    except Exception as error:  # the SDK raises no narrower type for a failed call
        if "NotFound" in str(error):
            return  # removed behind Pulumi's back: `pulumi refresh` sees it
        raise pulumi.RunError(f"Nothing was changed. Azure could not be asked about {spec.name}: {error}") from error
    fixed = (
        ("location", region_name(server.location), region_name(spec.location)),
        ("administratorLogin", server.administrator_login, spec.administrator_login),
        ("database", server.cluster.default_database_name if server.cluster else None, spec.database),
        ("postgresVersion", server.version, spec.postgres_version),
    )
    for key, was, wanted in fixed:
        if was and was != wanted and (key != "administratorLogin" or spec.authentication.password):
            yield _replaced(key, was, wanted)
    nodes = server.cluster.cluster_size if server.cluster else None
    if nodes and spec.nodes < nodes:
        yield (
            f"{NAMESPACE}:nodes: the cluster has {nodes} nodes and cannot lose any: Azure would accept {spec.nodes} "
            f"and ignore it. Set it to {nodes} or more."
        )
    size = server.storage.storage_size_gb if server.storage else None
    if size and spec.storage.size_gb < size:
        yield f"{NAMESPACE}:storage.sizeGb: nodes have {size} GB and storage cannot shrink. Set it to {size} or more."


def _replaced(key: str, was: str, wanted: str) -> str:
    return (
        f"{NAMESPACE}:{key}: {was} is fixed at creation; {wanted} would be a new, empty server in place of this one. "
        f"Set it back to {was}, or declare the new server in a stack of its own and move the data."
    )
