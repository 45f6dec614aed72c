"""Steps on shards: start or adopt Citus' background job and follow it to its end.

Citus retries a failing move after 5 s, 20 s, then thirty times after a minute, and the job says `running` all the
while (measured on 13.2). So the tasks are read, not only the job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from orchestrator.core.errors import ClusterUnreachable, ConnectionLost, RebalanceFailed, RebalanceRunning, Stopped
from orchestrator.core.events import Notice, StepProgress, Waiting
from orchestrator.core.moves.cost import AZURE
from orchestrator.core.moves.runs import RecordedMove
from orchestrator.core.observed.state import RebalanceJob, RebalanceTask, ShardGroup
from orchestrator.core.planning.steps import MoveShards, RebalanceShards, TransferMode
from orchestrator.workflow.checking import checked
from orchestrator.workflow.protocols import Checks, Database, Record
from orchestrator.workflow.waiting import NO_TIMEOUT, Pause, Run, when_connected
from orchestrator.workflow.watch import JobMoves, MoveWatch

# A move that failed this often, about a minute and a half after its first try, is not suffering from a passing fault.
HOPELESS_RETRIES = 3
STOP_TIMEOUT = 120.0
STUCK_AFTER = 5.0


def rebalance(
    number: int,
    step: RebalanceShards,
    database: Database,
    groups: Sequence[ShardGroup],
    record: Record | None = None,
    checks: Checks | None = None,
) -> Run[str]:
    """`checks` begin when the job is planned, so that what they make is no part of it."""
    try:
        started = database.start_rebalance(step.strategy, step.transfer_mode, parallel=step.parallel)
    except RebalanceRunning as running:
        if running.job_id is None:
            raise
        yield Notice(f"A rebalance was started meanwhile (job {running.job_id}); following it.")
        adopted = follow(number, running.job_id, database, groups, ours=False, record=record)
        return (yield from checked(number, checks, adopted))
    if started.job_id is None:
        said = [text for text in started.notices if not text.startswith("No moves available")]
        yield Notice(" ".join(["Citus found no moves worth making, so nothing was rebalanced.", *said]))
        return "no moves available"
    mode = step.transfer_mode
    job = follow(number, started.job_id, database, groups, ours=True, mode=mode, record=record)
    return (yield from checked(number, checks, job))


def follow(
    number: int,
    job_id: int,
    database: Database,
    groups: Sequence[ShardGroup],
    *,
    ours: bool,
    mode: TransferMode = "auto",
    record: Record | None = None,
) -> Run[str]:
    """Raises RebalanceFailed when the job failed, was cancelled or cannot succeed any more, Stopped when asked to."""
    names = {group.shard_id: group.schema or group.tables[0] for group in groups if group.schema or group.tables}
    sizes = {group.shard_id: group.bytes or 0 for group in groups}
    reported: dict[int, int] = {}
    pause = Pause(longest=2.0)
    now = yield Waiting(0, "the rebalance starts", NO_TIMEOUT)
    watch = MoveWatch(sizes, AZURE.moves[mode], now)
    moves = JobMoves(number, mode, sizes, names, now)
    recorded = False
    while True:
        job = yield from when_connected(lambda: database.read_job(job_id), f"read job {job_id}")
        if record is not None and not recorded:
            recorded = True
            record.add("job", _to_come(job, names))
        if job.state == "cancelling":
            job = yield from until_stopped(job_id, database)
        watch.see(job, now)
        yield from moves.changes(job, now)
        yield from _retried(job, names, reported)
        if not job.in_flight:
            if ours and job.state == "finished":
                yield watch.timed(number, job)
            return _outcome(job, names, record)
        if _hopeless(job):
            yield from _give_up(job, database, names, ours)
        yield _progress(number, job, sizes, names, watch.left(job))
        now = yield Waiting(pause.next(), f"job {job_id} is {job.state}", NO_TIMEOUT)


def _retried(job: RebalanceJob, names: Mapping[int, str], reported: dict[int, int]) -> Iterator[Notice]:
    """Each further failure of a move is told once."""
    for task in job.tasks:
        if task.retries > reported.get(task.task_id, 0) and not task.ended:
            reported[task.task_id] = task.retries
            yield Notice(f"Move of {_name(task, names)} failed, Citus tries again: {_first_line(task)}")


def copy_reference_tables(number: int, step: MoveShards, database: Database) -> Run[None]:
    """Citus' job is started for its first task only, which no administrator may do otherwise, and is then stopped."""
    started = database.start_rebalance(step.strategy, step.transfer_mode, parallel=False)
    if started.job_id is None:
        return
    yield StepProgress(number, "Citus copies the reference tables to the new nodes")
    pause, job_id = Pause(0.2, 2.0), started.job_id
    while True:
        job = yield from when_connected(lambda: database.read_job(job_id), f"read job {job_id}")
        copies = [task for task in job.tasks if task.shard_id is None]
        if not job.in_flight or all(task.ended for task in copies):
            break
        if any(task.retries >= HOPELESS_RETRIES for task in copies):
            yield from _give_up(job, database, {}, ours=True)
        yield Waiting(pause.next(), "Citus copies the reference tables", NO_TIMEOUT)
    if job.in_flight:
        database.stop_rebalance()
    yield from until_stopped(job_id, database)


def until_stopped(job_id: int, database: Database) -> Run[RebalanceJob]:
    """Citus needs less than a second, or never comes to an end by itself: then its workers are ended."""
    pause = Pause(0.1, 1.0)
    began = asked = now = yield Waiting(0, "the job is being stopped", NO_TIMEOUT)
    while (job := (yield from when_connected(lambda: database.read_job(job_id), "read the job"))).in_flight:
        if now - asked > STUCK_AFTER:
            asked = now
            database.end_executors()
        now = yield Waiting(pause.next(), f"job {job_id} is being stopped", STOP_TIMEOUT, began)
    return job


def _progress(
    number: int, job: RebalanceJob, sizes: Mapping[int, int], names: Mapping[int, str], left: float | None
) -> StepProgress:
    done = [task for task in job.tasks if task.status == "done"]
    running = [task for task in job.tasks if task.status == "running"]
    total_bytes = sum(sizes.get(task.shard_id or 0, 0) for task in job.tasks)
    done_bytes = sum(sizes.get(task.shard_id or 0, 0) for task in done) + sum(
        min(task.bytes_done or 0, sizes.get(task.shard_id or 0, 0)) for task in running
    )
    text = f"moving {_running_names(running, names)}" if running else f"job {job.job_id} is {job.state}"
    return StepProgress(number, text, len(done), len(job.tasks), done_bytes, total_bytes, left)


def _running_names(running: Sequence[RebalanceTask], names: Mapping[int, str]) -> str:
    """At most four names; shards of one table are counted, because their name says nothing more."""
    phases: dict[str, list[str]] = {}
    for task in running:
        phases.setdefault(_name(task, names), []).append(task.phase or "starting")
    shown = [
        f"{name} ({seen[0]})" if len(seen) == 1 else f"{len(seen)} shards of {name}" for name, seen in phases.items()
    ]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def _to_come(job: RebalanceJob, names: Mapping[int, str]) -> list[RecordedMove]:
    return [
        RecordedMove(task.shard_id, task.source, task.target, _name(task, names))
        for task in job.tasks
        if task.shard_id is not None and task.source is not None and task.target is not None and not task.ended
    ]


def _outcome(job: RebalanceJob, names: Mapping[int, str], record: Record | None) -> str:
    stopped = False
    if record is not None:
        with suppress(ConnectionLost, ClusterUnreachable):
            stopped = job.state == "cancelled" and record.stop_requested()
            record.end("done" if job.state == "finished" else "stopped" if stopped else "failed")
    if stopped:
        raise Stopped(job.done, len(job.tasks))
    if job.state == "finished":
        return f"job {job.job_id}: {job.done} of {len(job.tasks)} tasks done"
    if job.state == "cancelled":
        raise RebalanceFailed(
            f"Rebalance job {job.job_id} was cancelled after {job.done} of {len(job.tasks)} tasks; what was moved "
            "stays where it is. Run the same command to move the rest."
        )
    raise RebalanceFailed(f"Rebalance job {job.job_id} {job.state}. {_failures(job, names)}")


def _hopeless(job: RebalanceJob) -> bool:
    """Some moves keep failing and nothing else is left that could still make progress."""
    open_tasks = [task for task in job.tasks if not task.ended]
    stuck = [task for task in open_tasks if task.retries >= HOPELESS_RETRIES]
    alive = [task for task in open_tasks if task.retries < HOPELESS_RETRIES and task.status in {"runnable", "running"}]
    return bool(stuck) and not alive


def _give_up(job: RebalanceJob, database: Database, names: Mapping[int, str], ours: bool) -> Run[None]:
    text = _failures(job, names)
    if not ours:
        raise RebalanceFailed(
            f"Rebalance job {job.job_id} cannot get on. {text} It was started elsewhere, so it was left running: "
            "end it with SELECT citus_rebalance_stop(), mend the cause, and run the same command."
        )
    database.stop_rebalance()
    yield from until_stopped(job.job_id, database)
    raise RebalanceFailed(
        f"Rebalance job {job.job_id} could not get on and was stopped; {job.done} of {len(job.tasks)} tasks are done "
        f"and stay done. {text} Mend the cause and run the same command to move the rest."
    )


def _failures(job: RebalanceJob, names: Mapping[int, str]) -> str:
    failed = [task for task in job.tasks if task.message and task.status != "done" and (task.retries or task.ended)]
    shown = [f"{_name(task, names)}: {_first_line(task)}" for task in failed[:5]]
    more = [f"and {len(failed) - 5} more"] if len(failed) > 5 else []
    return "; ".join(shown + more).rstrip(".") + "." if failed else "Citus gave no reason."


def _name(task: RebalanceTask, names: Mapping[int, str]) -> str:
    return names.get(task.shard_id, f"shard {task.shard_id}") if task.shard_id else "the reference tables"


def _first_line(task: RebalanceTask) -> str:
    return task.message.split("\n", 1)[0].removeprefix("ERROR:").strip()
