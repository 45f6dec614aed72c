"""One error class per mistake. The message says what is wrong, where, and what to do now.

`exit_code` follows the convention of the command line: 1 the work failed, 2 refused before anything changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OrchestratorError(Exception):
    """Base of every error that is reported to people as a sentence, never as a traceback."""

    exit_code = 1

    @property
    def message(self) -> str:
        return str(self)


class Refused(OrchestratorError):
    """The request was refused before anything changed."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a stack file or a migration: where it is, what is wrong, what to do now."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.fix})" if self.fix else "")


class SpecError(Refused):
    """The stack file does not describe a cluster that can exist. Carries every problem found, not only the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        lines = [f"{source} cannot be used; nothing was changed."]
        lines += [f"  {problem}" for problem in self.problems]
        super().__init__("\n".join(lines))


class UnknownStack(Refused):
    def __init__(self, stack: str, path: str, known: Sequence[str]) -> None:
        self.stack = stack
        hint = f"Stacks here: {', '.join(known)}." if known else "There is no stack file yet."
        lab = " `orchestrator lab up` makes the stack `local`." if stack == "local" else ""
        super().__init__(f"There is no stack {stack!r}: {path} does not exist. {hint}{lab}")


class ScaleInRefused(Refused):
    """Source: how-to-scale-out, "Scale-In Future"; Azure answers a smaller clusterSize with a silent no-op."""

    def __init__(self, current: int, wanted: int) -> None:
        super().__init__(
            f"The cluster has {current} nodes and {wanted} were asked for, but an elastic cluster cannot lose nodes: "
            "Azure accepts a smaller node count and silently ignores it. To spend less, choose a smaller compute size "
            "for all nodes; to use fewer nodes, restore or dump into a new cluster of the wanted size."
        )


class TooManyNodes(Refused):
    def __init__(self, wanted: int, maximum: int, source: str, as_of: str) -> None:
        super().__init__(
            f"{wanted} nodes were asked for; Azure takes at most {maximum} in an elastic cluster "
            f"({source}, as of {as_of}). If Azure has raised its limit since, update `cluster.nodes` in limits.json."
        )


class TooFewNodes(Refused):
    def __init__(self, wanted: int, minimum: int) -> None:
        super().__init__(
            f"{wanted} nodes were asked for; an elastic cluster has at least {minimum} nodes. Nothing was changed."
        )


class NotCoordinator(Refused):
    """On a worker `citus_rebalance_start()` does not refuse: it makes a job that fails for half an hour."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"{endpoint} answered from a worker node, not from the coordinator. Nothing was changed. "
            "Connect through the direct port (5432 on Azure), not through a load-balanced one (7432, 8432)."
        )


class AlreadyRunning(Refused):
    def __init__(self, holder: str) -> None:
        super().__init__(
            f"Another orchestrator is at work on this cluster ({holder}). Nothing was changed. "
            "Wait for it to end, or stop it there; its work can then be continued from here."
        )


class ClusterUnreachable(Refused):
    def __init__(self, endpoint: str, reason: str, fix: str) -> None:
        super().__init__(f"No cluster answers at {endpoint}: {reason}. {fix}")


class LoginRefused(Refused):
    def __init__(self, role: str, endpoint: str, reason: str, fix: str) -> None:
        super().__init__(f"{endpoint} refuses the login of {role!r}: {reason}. {fix}")


class DatabaseError(OrchestratorError):
    """PostgreSQL or Citus refused a statement. `sqlstate` is often XX000 in Citus: classify by text, not by it."""

    def __init__(
        self, doing: str, text: str, *, sqlstate: str = "", detail: str = "", hint: str = "", fix: str = ""
    ) -> None:
        self.doing, self.text, self.sqlstate, self.detail, self.hint, self.fix = (
            doing,
            text,
            sqlstate,
            detail,
            hint,
            fix,
        )
        parts = [f"{doing}: {text}"]
        parts += [part for part in (detail, hint) if part and not fix]
        if fix:
            parts.append(fix)
        super().__init__(". ".join(part.rstrip(".") for part in parts) + ".")

    @property
    def blocked(self) -> bool:
        """Somebody held a lock for too long; nothing has happened."""
        return self.sqlstate == "55P03" or "could not acquire the lock required to" in self.text


class ConnectionLost(DatabaseError):
    """The connection broke while a statement was under way: its outcome is unknown and must be read back."""


class RebalanceRunning(DatabaseError):
    """A rebalance was started meanwhile, by anybody. `job_id` is None where Citus does not name it."""

    def __init__(self, doing: str, text: str, job_id: int | None) -> None:
        self.job_id = job_id
        super().__init__(doing, text, fix="Run the same command again: it follows the rebalance that is running")


class ArmError(OrchestratorError):
    """Azure Resource Manager refused a request or a long-running operation failed."""

    def __init__(self, doing: str, code: str, text: str, *, status: int | None = None, fix: str = "") -> None:
        self.doing, self.code, self.text, self.status = doing, code, text, status
        super().__init__(f"{doing}: Azure answered {code}: {text.rstrip('.')}." + (f" {fix}" if fix else ""))


class ArmBusy(ArmError):
    """409 ServerIsBusy, 429 and passing 5xx answers: a reason to wait, not to fail.

    `retry_after` holds the seconds that ARM asked for, None when it named none.
    """

    def __init__(
        self, doing: str, code: str, text: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(doing, code, text, status=status)
        self.retry_after = retry_after


class RebalanceFailed(OrchestratorError):
    """A rebalance job or one of its moves fails. Citus itself would go on retrying for about half an hour."""


class Stopped(OrchestratorError):
    """Somebody asked for it with `orchestrator rebalance --stop`. Ends like an interruption: it can be continued."""

    exit_code = 130

    def __init__(self, done: int, total: int) -> None:
        super().__init__(
            f"Stopped, as asked for from elsewhere: {done} of {total} moves are done and stay done, the others did not "
            "happen. Run the same command to move the rest."
        )


class StepTimedOut(OrchestratorError):
    def __init__(self, step: str, waited: float, last: str) -> None:
        super().__init__(
            f"{step}: gave up after {waited:.0f} s; the last thing seen was: {last}. Run the same command to continue."
        )


class VerificationFailed(OrchestratorError):
    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__("The cluster is not what was asked for: " + "; ".join(failures) + ".")


class LabError(OrchestratorError):
    """The lab on this machine could not do what was asked."""


class LabRefused(Refused):
    """The lab refused before it changed anything."""
