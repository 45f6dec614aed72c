"""Where errors of PostgreSQL and Citus end: each becomes one of ours, saying what was being done and what to do now.

Citus raises most of its errors as SQLSTATE XX000, so they are told apart by their text. The texts were recorded from
Citus 13.2.2 on PostgreSQL 15. No password, verifier or connection string leaves this module inside a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from orchestrator.core.errors import ClusterUnreachable, ConnectionLost, DatabaseError, LoginRefused, RebalanceRunning

# Text of the server -> what to do now. `{0}`, `{1}` ... are the groups of the pattern. The first match counts.
_FIXES: tuple[tuple[str, str], ...] = (
    # Where a node is the trouble, whatever was being done.
    (
        r"remaining connection slots are reserved|too many clients already",
        "The server has no connection left. Close idle clients, use the pooled port for services, or raise "
        "max_connections, and run the same command again",
    ),
    (
        r'too many connections for role "(.+?)"',
        "The connections that Citus itself opens between nodes count against the role's limit. Raise `connectionLimit` "
        "of the service, or close idle connections of {0}, and run the same command again",
    ),
    (
        r"(?s)connection to the remote node \S*@(\S+) failed .*FATAL:",
        "Node {0} refuses a connection that Citus opens for this role; its server log says why",
    ),
    (
        r"connection to the remote node \S*@(\S+) failed",
        "Node {0} does not answer. Citus changes roles, schemas and tables on all nodes or on none, so wait until the "
        "node is back, and run the same command again",
    ),
    (
        r"cannot get the size because of a connection error",
        "A node does not answer, or the admin has no USAGE on a schema there. Check `orchestrator status`, and run "
        "`orchestrator apply`, which makes the admin a member of every service's role",
    ),
    (
        r"operation is not allowed on this node|cannot create tables in a distributed schema from a worker node",
        "This connection ended on a worker node. Use the direct port (5432 on Azure), which leads to the coordinator",
    ),
    (
        r"nextval\(sequence\) calls in worker nodes are not supported",
        "serial and int identity columns can only be filled through the coordinator. Make the column bigserial or "
        "bigint GENERATED ... AS IDENTITY, or use the direct port",
    ),
    # Schema sharding.
    (
        r"distributed schema cannot have distributed tables",
        "The schema has distributed or reference tables. Make them regular first "
        "(SELECT undistribute_table('schema.table')), or declare the service with `sharding: row`",
    ),
    (
        r"foreign keys from distributed schemas can only point to",
        "A service's tables may refer to its own tables and to reference tables in regular schemas only. Drop the "
        "foreign key, or put both tables into one service",
    ),
    (
        r"cannot create foreign keys to tables in a distributed schema from another schema",
        "A table of another schema refers to this one. Drop that foreign key, or put both tables into one service",
    ),
    (
        r"tables in a distributed schema cannot inherit or be inherited",
        "Use separate tables instead of INHERITS, or declare the service with `sharding: row`",
    ),
    (
        r"triggers are not supported on (distributed|reference) tables|because it has triggers",
        "Drop the trigger and do its work in the service (or in a generated column, a default, a check constraint)",
    ),
    (
        r"(public|pg_catalog) schema cannot be distributed",
        "Give the service a schema of its own (`schema:` in the stack file) and move its tables there with "
        "ALTER TABLE ... SET SCHEMA",
    ),
    (
        r"cannot create distributed schema and table in a single statement",
        "Make the schema and its tables in separate statements",
    ),
    (r"schema (\S+) is not distributed", "It is a regular schema already; there is nothing to undo"),
    # Row sharding.
    (
        r'cannot create constraint on "(.+?)"|creating unique indexes on non-partition columns',
        "Every primary key, unique and exclusion constraint must include the distribution column: add it to the key, "
        "or list the table under `referenceTables`",
    ),
    (
        r'table "(.+?)" is already distributed',
        "Make {0} regular first (SELECT undistribute_table('schema.{0}')) to distribute it in another way",
    ),
    (
        r"foreign keys from reference tables and local tables to distributed tables are not supported",
        "A reference table cannot refer to a distributed one. Drop the foreign key, or distribute both tables",
    ),
    (
        r"cannot create foreign key constraint",
        "Between distributed tables a foreign key must include the distribution column on both sides; to a reference "
        "table any foreign key may point. Add the column to the key, or list the other table under `referenceTables`",
    ),
    (
        r"cannot (?:colocate|colocate tables) (\S+) and (\S+)",
        "Both tables must have the distribution column with the same type. Change the type of one of them",
    ),
    (
        r'library "citus" may not be used as an output plugin',
        "PostgreSQL has an allow-list since 15.19, 16.15, 17.11 and 18.6, and a split without blocked writes needs "
        "Citus on it: set the server parameter output_plugin_libraries to 'pgoutput, test_decoding, citus', or use "
        "`--transfer-mode block_writes`, which lets writers of the shard wait",
    ),
    # Rebalancing.
    (
        r"cannot use logical replication to transfer shards of the relation (\S+) since",
        "Without a primary key the rows of {0} cannot be followed while they move. Give it a primary key, or ALTER "
        "TABLE {0} REPLICA IDENTITY FULL, or use `--transfer-mode block_writes`, which lets writers wait",
    ),
    (
        r"could not find rebalance strategy with name (\S+)",
        "Use by_disk_size or by_shard_count, or a name from SELECT name FROM pg_dist_rebalance_strategy",
    ),
    (
        r"orphaned shard (\S+) leftover from the previous move",
        "Remove leftovers of earlier moves (CALL citus_cleanup_orphaned_resources()), and run the same command again",
    ),
    (
        r"not enough empty space on node",
        "The target node would have less than the required 10 % of its disk free. Enlarge the storage first",
    ),
    (
        r"Could not fetch disk stats for node: (\S+)",
        "Node {0} does not answer. Wait until it is back; Citus tries the move again by itself",
    ),
    (
        r"Moving shards to a node that shouldn't have a shard",
        "The target node may not hold shards: an earlier drain left shouldhaveshards off. Have it set back to true",
    ),
    # Rights.
    (
        r'must be member of role "(.+?)"|must be able to SET ROLE "(.+?)"',
        'The admin must be a member of the role: GRANT "{0}{1}" TO the admin, as a role with ADMIN OPTION on it',
    ),
    (
        r"must be owner of (schema|table|relation|view|sequence|function) (\S+)",
        "It belongs to another role. Hand it over as that role or as an administrator: "
        "ALTER ... {1} OWNER TO the service's role",
    ),
    (
        r"permission denied for database (\S+)",
        "The admin may not make schemas in {0}. As its owner: GRANT CREATE ON DATABASE {0} TO the admin",
    ),
    (
        r"permission denied for schema (\S+)",
        "Grant USAGE on the schema {0}, or add a grant to the service that owns it in the stack file",
    ),
    (
        r"permission denied to (create|alter|drop) role|must have admin option on role|permission denied to grant role",
        "The admin needs CREATEROLE, and from PostgreSQL 16 on ADMIN OPTION on roles that others made",
    ),
    (
        r"permission denied for function (citus_\w+)|operation is not allowed$",
        "On Azure only the service itself may change the list of nodes; change `nodes` with `orchestrator scale-out`",
    ),
    # Migrations and passing trouble.
    (
        r"cannot insert multiple commands into a prepared statement",
        "Citus takes one DDL statement at a time. Split the statement",
    ),
    (
        r"canceling statement due to lock timeout",
        "Something else holds a lock on it: a move, a node that is just joining, a long transaction. "
        "Run the same command again when that is over",
    ),
    (
        r"cannot modify table .* because there was a parallel operation|cannot perform query .* because it executed",
        "Split the migration in two files: one for the rows, one for the tables",
    ),
)
_COMPILED = tuple((re.compile(pattern), fix) for pattern, fix in _FIXES)

_SECRETS = re.compile(r"(?i)(SCRAM-SHA-256\$[^\s']+|\bpassword\s*=?\s*'[^']*'|\bpassword=\S+|postgres(?:ql)?://\S+)")

_LOGIN_FIXES: tuple[tuple[str, str], ...] = (
    (
        r"password authentication failed|no password supplied|empty password",
        "Check where its password comes from in the stack file",
    ),
    (
        r"no pg_hba.conf entry",
        "Allow this machine's address (`network.firewallRules` in the stack file), or check sslmode",
    ),
    (r'role "(.+?)" does not exist', "Check the login's name in the stack file"),
    (r'database "(.+?)" does not exist', "Check `database` in the stack file"),
    (r'too many connections for role "(.+?)"', "Close idle connections of the role, or raise its connectionLimit"),
    (r"is not permitted to log in", "ALTER ROLE ... LOGIN, as an administrator"),
)
# Nothing was sent to a server that could not prove its name.
_UNPROVED_FIXES: tuple[tuple[str, str], ...] = (
    (
        r"certificate verify failed|root certificate file",
        "No certificate authority that this machine trusts vouches for the server. Install the authority's certificate "
        "in the system, or name its file in PGSSLROOTCERT; nothing was sent",
    ),
    (
        r"server certificate for .* does not match host name|host name .* does not match",
        "The certificate is of another host. Connect by the name in it, or set endpoint.sslmode: verify-ca where a "
        "tunnel or a private name stands in between; nothing was sent",
    ),
    (r"server does not support SSL", "Set endpoint.sslmode: disable only for a server on this machine"),
)
_UNREACHABLE_FIX = (
    "Check that the cluster runs (`orchestrator lab status` for a lab) "
    "and that host and port in the stack file are right"
)
_LOST = re.compile(
    r"server closed the connection|connection is (?:closed|lost|bad)|terminating connection"
    r"|SSL connection has been closed|consuming input failed|could not receive data|could not send data"
    r"|sending query.* failed|server process exited"
)
# The second text comes while the other start, or a move by hand, has not committed yet.
_REBALANCE_RUNNING = re.compile(
    r"A rebalance is already running as job (\d+)|could not acquire the lock required to rebalance"
)
_LOST_STATES = frozenset({"57P01", "57P02", "57P03", "57P05"})


@contextmanager
def translated(doing: str, *, endpoint: str = "the cluster", role: str = "") -> Iterator[None]:
    """Turn every psycopg error raised inside into ours. `doing` is what the user would call it: "create role x"."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, doing, endpoint=endpoint, role=role) from error


def translate(
    error: psycopg.Error, doing: str, *, endpoint: str = "the cluster", role: str = ""
) -> DatabaseError | LoginRefused | ClusterUnreachable:
    """The error that people see for `error`."""
    if _while_connecting(error):
        return _connecting(error, endpoint, role)
    diag = error.diag
    text = _clean(diag.message_primary or str(error))
    if error.sqlstate in _LOST_STATES or (error.sqlstate is None and _LOST.search(text)):
        fix = (
            "Whether it took effect is not known. Run the same command again: it looks first and does only what is left"
        )
        return ConnectionLost(doing, text, sqlstate=error.sqlstate or "", fix=fix)
    if busy := _REBALANCE_RUNNING.search(text):
        return RebalanceRunning(doing, text, int(busy[1]) if busy[1] else None)
    detail = _clean(diag.message_detail or "")
    fix = fix_for(text)
    if fix and detail:
        text = f"{text.rstrip('.')}: {detail}"
    return DatabaseError(
        doing, text, sqlstate=error.sqlstate or "", detail=detail, hint=_clean(diag.message_hint or ""), fix=fix
    )


def fix_for(text: str) -> str:
    """What to do about a text of PostgreSQL or Citus, also one read from a background task. Empty when unknown."""
    for pattern, fix in _COMPILED:
        found = pattern.search(text)
        if found:
            return fix.format(*(group or "" for group in found.groups()))
    return ""


def _while_connecting(error: psycopg.Error) -> bool:
    unresolved = "resolve host" in str(error)
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None and (bool(error.pgconn) or unresolved)


def _connecting(error: psycopg.Error, endpoint: str, role: str) -> LoginRefused | ClusterUnreachable:
    # libpq writes one line for every address that it tried, each with the address before the reason.
    lines = [line.strip() for line in _clean(str(error)).splitlines() if line.strip()]
    reason = re.sub(r"^connection to server .*? failed: |^connection failed: |FATAL:\s*", "", lines[0] if lines else "")
    reason = re.sub(r"^connection to server .*? failed: |FATAL:\s*", "", reason) or "no reason was given"
    for pattern, fix in _LOGIN_FIXES:
        if re.search(pattern, reason):
            return LoginRefused(role or "the user", endpoint, reason, fix + ".")
    unproved = next((fix for pattern, fix in _UNPROVED_FIXES if re.search(pattern, reason)), None)
    return ClusterUnreachable(endpoint, reason, (unproved or _UNREACHABLE_FIX) + ".")


def _clean(text: str) -> str:
    return _SECRETS.sub("(not shown)", text).strip()
