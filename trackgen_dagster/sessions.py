"""Sessions: requests to generate, read from Dagster's run storage and from nowhere else.

The runs and the backfill that carry the same `trackgen/session` tag are a session; so is a backfill that somebody
started in the UI, with its runs, and a run that somebody started there is one by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, Final, Literal
from urllib.parse import urlencode

import dagster as dg

from trackgen_core.store import STAGES, Stage
from trackgen_core.words import counted
from trackgen_dagster import tags
from trackgen_dagster.assets import FAILURES, progress_of
from trackgen_dagster.environment import MAP_PATH, ui_url
from trackgen_dagster.instance import daemon_is_alive, pid_of, works
from trackgen_dagster.internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    WILL_RETRY_TAG,
    BackfillTagsTable,
    BulkActionsFilter,
    BulkActionsTable,
    BulkActionStatus,
    DagsterUserCodeUnreachableError,
    PartitionBackfill,
    SerializableErrorInfo,
    SqlRunStorage,
)
from trackgen_dagster.partitions import day_of, days_of_run, key_of

Status = Literal["pending", "processing", "completed", "failed", "cancelled"]

OURS: Final = {dg.AssetKey(stage) for stage in STAGES}
PENDING: Final = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
RUNNING: Final = {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}
OVER: Final = ("completed", "failed", "cancelled")
WATCH_S: Final = 0.5
UNREACHABLE: Final = {DagsterUserCodeUnreachableError.__name__, "DagsterCodeLocationLoadError"}
"""What the daemon meets where the code server does not answer."""

MOST_PERCENT: Final = 99.0
"""Of what is not completed: its days may all be done, but not checked."""

MOST_RUNS: Final = 20_000
"""Runs that are looked at, the latest first."""

BACKFILL_STATUS: Final[Mapping[BulkActionStatus, Status]] = {
    BulkActionStatus.COMPLETED_SUCCESS: "completed",
    BulkActionStatus.COMPLETED: "completed",
    BulkActionStatus.COMPLETED_FAILED: "failed",
    BulkActionStatus.FAILED: "failed",
    BulkActionStatus.CANCELED: "cancelled",
}
"""What has ended; everything else is under way."""


class UnknownSession(LookupError):
    """There is no such session."""


@dataclass(frozen=True)
class Session:
    """A request to generate, as run storage knows it."""

    session: str
    status: Status
    mode: str
    """`bulk`, `incremental` or `daily`; `backfill` or `run` if it was started in the UI."""
    users: str
    start: str
    end: str
    settings: str | None
    """Digest of the settings it worked with."""
    total_chunks: int
    """Days of users times stages that it set out to do; of what has not begun, days times stages."""
    completed_chunks: int
    failed_chunks: int
    attempts: int
    """1, and one more for every retry."""
    tracks_created: int
    """Tracks that existed in its days when its runs ended."""
    points: int
    """Points of which it made segments."""
    created: str
    started: str | None
    completed: str | None
    waited_s: float | None
    """How long it was in the queue."""
    duration_s: float | None
    points_per_s: float | None
    backfill: str | None = None
    runs: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will happen any more by itself."""
        return self.status in OVER

    @property
    def percent(self) -> float:
        """How much of it is done."""
        if self.status == "completed":
            return 100.0
        return min(MOST_PERCENT, 100.0 * self.completed_chunks / self.total_chunks) if self.total_chunks else 0.0

    @property
    def links(self) -> list[str]:
        """Where the UI shows it."""
        base = ui_url()
        backfill = [f"{base}/runs/b/{self.backfill}"] if self.backfill else []
        return backfill + [f"{base}/runs/{run}" for run in self.runs]

    @property
    def named_users(self) -> list[str] | None:
        """The users that it is about; None for all."""
        return tags.users_of({tags.USERS: self.users})

    @property
    def work(self) -> tuple[list[str] | None, int, int]:
        """The users that it is about, None for all, and its first and last day."""
        return self.named_users, day_of(self.start), day_of(self.end)

    @property
    def map(self) -> str:
        """Where the UI shows a map of its users and days."""
        return f"{ui_url()}{MAP_PATH}?{urlencode({'session': self.session})}"

    def as_json(self) -> dict[str, Any]:
        """Return the session as the command line prints it."""
        return asdict(self) | {"percent": round(self.percent, 1), "links": self.links, "map": self.map}


@dataclass(frozen=True)
class ChunkError:
    """Chunks of a session that could not be made, together."""

    stage: str
    start: str
    end: str
    users: tuple[str, ...]
    kind: str
    attempts: int
    """Over all runs of the session."""
    error: str

    @property
    def chunk(self) -> tuple[Any, ...]:
        """What could not be made."""
        return self.stage, self.start, self.end, self.users

    def __str__(self) -> str:
        """Return it as a line."""
        days = self.start if self.start == self.end else f"{self.start} to {self.end}"
        users = f" of {', '.join(self.users)}" if self.users else ""
        attempts = f" after {counted(self.attempts, 'attempt')}" if self.attempts else ""
        return f"{days}, {self.stage}{users}: {self.kind}{attempts}: {self.error}"


# Reading --------------------------------------------------------------------------------------------------------------


def list_sessions(instance: dg.DagsterInstance, most: int | None = None, *, unfinished: bool = False) -> list[Session]:
    """Return the sessions, the latest first.

    Parameters
    ----------
    instance : DagsterInstance
        Whose run storage to read.
    most : int, optional
        How many sessions to return.
    unfinished : bool
        Only those that have not ended.
    """
    found = _group(instance.get_run_records(limit=MOST_RUNS), instance.get_backfills(limit=MOST_RUNS))
    ordered = sorted(found.items(), key=lambda item: item[1].created, reverse=True)
    sessions = (_summed_up(instance, name, parts) for name, parts in ordered)
    return list(islice((session for session in sessions if not (unfinished and session.is_over)), most))


def find_session(instance: dg.DagsterInstance, name: str) -> Session:
    """Return a session by its name, or by an unambiguous beginning of it.

    Raises
    ------
    UnknownSession
        If there is none, or more than one.
    """
    return _summed_up(instance, *_find(instance, name))


def errors_of(instance: dg.DagsterInstance, name: str) -> list[ChunkError]:
    """Return what could not be made in a session, with the number of attempts over all its runs.

    What a later run of the session has made after all is no error any more.
    """
    parts = _parts(instance, name, Parts())
    failed = {
        run.run_id: _errors_of_run(instance, run) for run in parts.runs if run.status == dg.DagsterRunStatus.FAILURE
    }
    attempts = Counter[tuple[Any, ...]]()
    for error in chain.from_iterable(failed.values()):
        attempts[error.chunk] += error.attempts
    found = [
        replace(error, attempts=attempts[error.chunk])
        for run in reversed(parts.current)
        for error in failed.get(run.run_id, [])
    ]
    if parts.backfill and parts.backfill.error:
        start, end = map(key_of, span_of(parts))
        message = " ".join(parts.backfill.error.message.split())
        found.append(ChunkError("backfill", start, end, (), "bug", 1, message))
    return found


def watch(instance: dg.DagsterInstance, name: str, show: Callable[[Session], None]) -> Session:
    """Look at a session again and again until it is over, and return it.

    Parameters
    ----------
    instance : DagsterInstance
        Whose run storage to read.
    name : str
        The session.
    show : callable
        Called with what each look finds.
    """
    while True:
        session = find_session(instance, name)
        show(session)
        if session.is_over:
            return session
        time.sleep(WATCH_S)


def missing(instance: dg.DagsterInstance, name: str) -> dict[Stage, set[int]]:
    """Return the days of each stage that a session which has ended did not come to.

    Not among them is what it began: of that, the work list knows what is left.
    """
    parts = _parts(instance, name, Parts())
    found = _targets(parts.backfill) if parts.backfill else {}
    for run in reversed(parts.runs):
        lo_day, hi_day = days_of_run(run.tags)
        days = set(range(lo_day, hi_day + 1))
        for stage in _stages_of(run):
            known = found.setdefault(stage, set())
            if progress_of(run, stage) or run.status == dg.DagsterRunStatus.SUCCESS:
                known -= days
            else:
                known |= days
    return found


def said_of(event: dg.DagsterEvent) -> str:
    """Return what a step that failed says of itself: our own words, or those of the error at the bottom of it."""
    failure = event.step_failure_data.user_failure_data
    if failure and failure.description:
        return failure.description
    error = _root_of(event)
    return f"{event.step_key}: {' '.join(error.message.split()) if error else 'failed'}"


def was_interrupted(event: dg.DagsterEvent) -> bool:
    """Return whether a step failed because somebody stopped it."""
    error = _root_of(event)
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


# Stopping and forgetting ----------------------------------------------------------------------------------------------


def cancel(instance: dg.DagsterInstance, name: str) -> Session:
    """Stop a session: what is queued will not start, what runs is told to stop. Tracks stay as they are.

    Raises
    ------
    UnknownSession
        If there is none of the name.
    ValueError
        If it is over already.
    """
    name, parts = _find(instance, name)
    session = _summed_up(instance, name, parts)
    if session.is_over:
        raise ValueError(f"session {name} is over already: {session.status}")
    # The backfill first, for it would replace runs that are stopped.
    if parts.backfill and parts.backfill.status not in BULK_ACTION_TERMINAL_STATUSES:
        _cancel_backfill(instance, parts.backfill)
    for record in parts.records:
        if not record.dagster_run.is_finished:
            _cancel_run(instance, record.dagster_run)
    return find_session(instance, name)


@dataclass(frozen=True)
class Cleaned:
    """What `clean` has removed."""

    sessions: int
    runs: int
    backfills: int

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return asdict(self)


def clean(instance: dg.DagsterInstance, *, days: float) -> Cleaned:
    """Forget sessions, with their runs, backfills and events, that were over more than some days ago.

    Tracks stay, and so does what Dagster knows of the partitions that were made.

    Parameters
    ----------
    instance : DagsterInstance
        Whose storage to clean.
    days : float
        How old a session has to be.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    backfills = instance.get_backfills(filters=BulkActionsFilter(created_before=before))
    old = _group(instance.get_run_records(dg.RunsFilter(created_before=before)), backfills, also_others=True)
    runs = forgotten = sessions = 0
    for name, parts in old.items():
        known = _parts(instance, name, parts)
        if not known.is_over or known.last_change > before.timestamp():
            continue
        sessions += 1
        for run in known.runs:
            instance.delete_run(run.run_id)
            runs += 1
        if known.backfill:
            _delete_backfill(instance, known.backfill)
            forgotten += 1
    return Cleaned(sessions, runs, forgotten)


# What a session consists of -------------------------------------------------------------------------------------------


@dataclass
class Parts:
    """The records that a session consists of."""

    records: list[dg.RunRecord] = field(default_factory=list)
    """Its runs, the latest first."""
    backfill: PartitionBackfill | None = None

    @property
    def created(self) -> float:
        """When it was requested."""
        times = [record.create_timestamp.timestamp() for record in self.records]
        return min([*times, self.backfill.backfill_timestamp] if self.backfill else times)

    @property
    def last_change(self) -> float:
        """When something of it changed last."""
        times = [record.update_timestamp.timestamp() for record in self.records]
        if self.backfill:
            times.append(self.backfill.backfill_end_timestamp or self.backfill.backfill_timestamp)
        return max(times)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is under way."""
        backfill_is_over = self.backfill is None or self.backfill.status in BULK_ACTION_TERMINAL_STATUSES
        return backfill_is_over and all(run.is_finished for run in self.runs)

    @property
    def runs(self) -> list[dg.DagsterRun]:
        """Its runs, the latest first."""
        return [record.dagster_run for record in self.records]

    @property
    def current(self) -> list[dg.DagsterRun]:
        """The runs that decide what became of it: those whose work no later run has taken over."""
        last = max((_attempt_of(run) for run in self.runs), default=1)
        again = {run.parent_run_id for run in self.runs if tags.RETRY_NUMBER in run.tags}
        succeeded = dg.DagsterRunStatus.SUCCESS
        return [
            run
            for run in self.runs
            if run.run_id not in again and (_attempt_of(run) == last or run.status == succeeded)
        ]


def _group(
    records: Iterable[dg.RunRecord], backfills: Iterable[PartitionBackfill], *, also_others: bool = False
) -> dict[str, Parts]:
    found: dict[str, Parts] = {}
    for backfill in backfills:
        if also_others or is_ours(backfill):
            found.setdefault(session_of(backfill), Parts()).backfill = backfill
    for record in records:
        if also_others or is_ours(record.dagster_run):
            found.setdefault(session_of(record.dagster_run), Parts()).records.append(record)
    return found


def _find(instance: dg.DagsterInstance, name: str) -> tuple[str, Parts]:
    parts = _parts(instance, name, Parts())
    if parts.records or parts.backfill:
        return name, parts
    found = _group(instance.get_run_records(limit=MOST_RUNS), instance.get_backfills(limit=MOST_RUNS))
    names = [known for known in found if known.startswith(name)]
    if len(names) != 1:
        what = "no session" if not names else f"{len(names)} sessions"
        raise UnknownSession(f"{what} of the name {name!r}: see `trackgen sessions list`")
    return names[0], found[names[0]]


def _parts(instance: dg.DagsterInstance, name: str, known: Parts) -> Parts:
    """Return all that belongs to a session, given what is known of it."""
    backfill = known.backfill or instance.get_backfill(name)
    records = {record.storage_id: record for record in known.records}
    filters = [dg.RunsFilter(tags={tags.SESSION: name})]
    if backfill:
        filters.append(dg.RunsFilter(tags={tags.BACKFILL: backfill.backfill_id}))
    else:
        filters.append(dg.RunsFilter(run_ids=[name]))
        backfill = next(iter(instance.get_backfills(filters=BulkActionsFilter(tags={tags.SESSION: name}))), None)
    for one in filters:
        for record in instance.get_run_records(one):
            if session_of(record.dagster_run) == name:
                records[record.storage_id] = record
    return Parts([records[key] for key in sorted(records, reverse=True)], backfill)


def is_ours(request: dg.DagsterRun | PartitionBackfill) -> bool:
    """Return whether a run or a backfill makes segments or tracks."""
    by_name = isinstance(request, dg.DagsterRun) and request.job_name == "generate"
    return by_name or tags.SESSION in request.tags or bool(OURS & set(request.asset_selection or ()))


def session_of(request: dg.DagsterRun | PartitionBackfill) -> str:
    """Return the name of the session that a run or a backfill belongs to."""
    own = request.backfill_id if isinstance(request, PartitionBackfill) else request.run_id
    # A run that somebody executes again in the UI inherits the tags, but is a request of its own.
    if isinstance(request, dg.DagsterRun) and request.parent_run_id and tags.RETRY_NUMBER not in request.tags:
        return own
    root = request.root_run_id if isinstance(request, dg.DagsterRun) else None
    return request.tags.get(tags.SESSION) or request.tags.get(tags.BACKFILL) or root or own


def _attempt_of(run: dg.DagsterRun) -> int:
    return int(run.tags.get(tags.ATTEMPT, 1))


# What became of it ----------------------------------------------------------------------------------------------------


def _summed_up(instance: dg.DagsterInstance, name: str, parts: Parts) -> Session:
    run_tags = parts.backfill.tags if parts.backfill else parts.runs[-1].tags
    status = _status(instance, parts)
    over = status in OVER
    started = [record.start_time for record in parts.records if record.start_time]
    ended = [record.end_time for record in parts.records if record.end_time]
    if parts.backfill and parts.backfill.backfill_end_timestamp:
        ended.append(parts.backfill.backfill_end_timestamp)
    begun, done_at = min(started, default=None), max(ended, default=None) if over else None
    first_day, last_day = span_of(parts)
    done, total = _progress(parts)
    points = sum(int(run.tags.get(tags.POINTS, 0)) for run in parts.runs)
    # Time in which it worked, and did not wait for its turn.
    busy = sum(record.end_time - record.start_time for record in parts.records if record.end_time and record.start_time)
    return Session(
        session=name,
        status=status,
        mode=run_tags.get(tags.MODE) or ("backfill" if parts.backfill else "run"),
        users=run_tags.get(tags.USERS, "all"),
        start=key_of(first_day),
        end=key_of(last_day),
        settings=next((run.tags[tags.SETTINGS] for run in parts.runs if tags.SETTINGS in run.tags), None),
        total_chunks=total,
        completed_chunks=total if status == "completed" else done,
        failed_chunks=sum(int(run.tags.get(tags.FAILED, 0)) for run in parts.current),
        attempts=max((_attempt_of(run) for run in parts.runs), default=1),
        tracks_created=_tracks_created(parts),
        points=points,
        created=_iso(parts.created),
        started=_iso(begun) if begun else None,
        completed=_iso(done_at) if done_at else None,
        waited_s=round(begun - parts.created, 3) if begun else None,
        duration_s=round(done_at - begun, 3) if begun and done_at else None,
        points_per_s=round(points / busy) if points and busy else None,
        backfill=parts.backfill.backfill_id if parts.backfill else None,
        runs=[run.run_id for run in reversed(parts.runs)],
    )


def _status(instance: dg.DagsterInstance, parts: Parts) -> Status:
    current = parts.current
    retried = any(_attempt_of(run) > 1 for run in current)
    seen = [run.status for run in current]
    if parts.backfill and not retried:
        if ended := BACKFILL_STATUS.get(parts.backfill.status):
            return ended
        return "processing" if any(status not in PENDING for status in seen) else "pending"
    if all(status in PENDING for status in seen):
        return "pending"
    if any(status in RUNNING | PENDING for status in seen):
        return "processing"
    if any(map(was_stopped, current)):
        return "cancelled"
    if any(run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true" for run in current):
        return "processing"
    # Runs of the command line come one after the other.
    last = [run for run in current if _attempt_of(run) == max(map(_attempt_of, current))]
    missing = len(last) < int(last[0].tags.get(tags.RUNS, len(last)))
    if missing and any(works(instance, run) for run in last):
        return "processing"
    return "failed" if dg.DagsterRunStatus.FAILURE in seen or missing else "completed"


def was_stopped(run: dg.DagsterRun) -> bool:
    """Return whether somebody stopped a run, before it had come to its end by itself."""
    return run.status == dg.DagsterRunStatus.CANCELED or (tags.CANCELLED in run.tags and not run.is_success)


def was_launched(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a run was handed to the instance's launcher, which then knows how to stop it."""
    return bool(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_STARTING))


def span_of(parts: Parts) -> tuple[int, int]:
    """Return the first and the last day that runs and a backfill are about."""
    days = [tags.span_of(run.tags) if tags.SPAN in run.tags else days_of_run(run.tags) for run in parts.runs]
    if parts.backfill:
        targets = [day for days in _targets(parts.backfill).values() for day in days]
        days += [(min(targets), max(targets))] if targets else []
    return min(lo for lo, _ in days), max(hi for _, hi in days)


def _progress(parts: Parts) -> tuple[int, int]:
    """Return the chunks that are done and those it set out to do."""
    done = total = 0
    open_days = _targets(parts.backfill) if parts.backfill else {}
    again = {run.parent_run_id for run in parts.runs if tags.RETRY_NUMBER in run.tags}
    for run in parts.runs:
        if run.run_id in again:
            continue
        lo_day, hi_day = days_of_run(run.tags)
        for stage in _stages_of(run):
            done_here, total_here = progress_of(run, stage) or (0, hi_day - lo_day + 1)
            done += done_here
            # What a retry sets out to do was counted when it was tried first.
            total += total_here if _attempt_of(run) == 1 else 0
            open_days[stage] = open_days.get(stage, set()) - set(range(lo_day, hi_day + 1))
    total += sum(map(len, open_days.values()))
    return min(done, total), total


def _stages_of(run: dg.DagsterRun) -> list[Stage]:
    return [stage for stage in STAGES if not run.asset_selection or dg.AssetKey(stage) in run.asset_selection]


def _targets(backfill: PartitionBackfill) -> dict[Stage, set[int]]:
    """Return the days of each stage that a backfill is about."""
    if backfill.asset_backfill_data is None:
        return {}
    subsets = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
    return {
        stage: {day_of(key) for key in subsets[dg.AssetKey(stage)].get_partition_keys()}
        for stage in STAGES
        if dg.AssetKey(stage) in subsets
    }


def _tracks_created(parts: Parts) -> int:
    counted = [run for run in parts.runs if tags.CREATED in run.tags]
    if counted and _attempt_of(counted[0]) > 1:  # a retry counts the tracks of the whole session
        counted = counted[:1]
    return sum(int(run.tags[tags.CREATED]) for run in counted)


def _errors_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[ChunkError]:
    lo_day, hi_day = days_of_run(run.tags)
    found = []
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.get_dagster_event()
        failure = event.step_failure_data.user_failure_data
        if failure and FAILURES in failure.metadata:
            chunks: Any = failure.metadata[FAILURES].value
            found += [ChunkError(**(chunk | {"users": tuple(chunk["users"])})) for chunk in chunks]
        elif not was_interrupted(event):
            found.append(ChunkError(str(event.step_key), key_of(lo_day), key_of(hi_day), (), "bug", 1, said_of(event)))
    if not found and tags.CANCELLED not in run.tags:
        found.append(ChunkError("run", key_of(lo_day), key_of(hi_day), (), "process", 1, _why_ended(instance, run)))
    return found


def _why_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return why a run failed that no step of failed: what the daemon met when it wanted to start or to watch it."""
    ends = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    message = " ".join(ends[-1].message.split()) if ends else "the run ended without saying why"
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        error = entry.get_dagster_event().engine_event_data.error
        if error is None:
            continue
        if error.cls_name in UNREACHABLE:
            return "the code server did not answer in time, so the run was not started; the daemon asks for it again"
        return f"{message} {' '.join(error.message.split())}"
    return message


def _root_of(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error


def _cancel_backfill(instance: dg.DagsterInstance, backfill: PartitionBackfill) -> None:
    if daemon_is_alive(instance):
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELING))
    else:
        ended = datetime.now(UTC).timestamp()
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED).with_end_timestamp(ended))


def _cancel_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    instance.add_run_tags(run.run_id, {tags.CANCELLED: "true"})
    process = run.tags.get(tags.PROCESS)
    if process and works(instance, run) and not was_launched(instance, run):
        pid = pid_of(process)
        assert pid is not None
        os.kill(pid, signal.SIGINT)  # a command line: it stops as if somebody had pressed Ctrl-C
        return
    try:
        told = instance.run_coordinator.cancel_run(run.run_id)
    except DagsterUserCodeUnreachableError:
        told = False
    left = instance.get_run_by_id(run.run_id)
    if not told and left and not left.is_finished:
        instance.report_run_canceled(left, "Nobody executes this run any more.")


def _delete_backfill(instance: dg.DagsterInstance, backfill: PartitionBackfill) -> None:
    storage = instance.run_storage  # Dagster itself never forgets a backfill
    assert isinstance(storage, SqlRunStorage), f"backfills cannot be removed from {type(storage).__name__}"
    with storage.connect() as connection:
        connection.execute(BackfillTagsTable.delete().where(BackfillTagsTable.c.backfill_id == backfill.backfill_id))
        connection.execute(BulkActionsTable.delete().where(BulkActionsTable.c.key == backfill.backfill_id))


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
