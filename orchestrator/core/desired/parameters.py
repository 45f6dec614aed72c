"""The server parameters that a stack file sets, by Azure's names: for Pulumi, which sets them, and for drift."""

from __future__ import annotations

from orchestrator.core.desired.spec import ClusterSpec


def declared_parameters(spec: ClusterSpec) -> dict[str, str]:
    """Server parameters that the stack file sets, PgBouncer's included, as Azure names them.

    In the order in which they are set: PgBouncer's others exist only once it is enabled.
    """
    pooler = spec.pgbouncer
    own = dict(sorted(spec.server_parameters.items()))
    if not pooler.enabled:
        return own
    return {
        "pgbouncer.enabled": "true",
        "pgbouncer.pool_mode": pooler.pool_mode,
        "pgbouncer.default_pool_size": str(pooler.default_pool_size),
        "pgbouncer.max_client_conn": str(pooler.max_client_conn),
        "pgbouncer.max_prepared_statements": str(pooler.max_prepared_statements),
    } | own
