"""Sessions that somebody asks for: created for the daemon, or executed here; and retried.

Which days are worked on is decided by the database's work list alone; run storage says which of them Dagster has not
been told of. So a session that was killed is simply started again.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, Literal

import dagster as dg
import pandas as pd

from trackgen_core.failures import describe, patiently
from trackgen_core.generation import day_stats, mark_all
from trackgen_core.points import MS_PER_DAY, now_ms
from trackgen_core.store import STAGES, Stage, Store
from trackgen_dagster import tags
from trackgen_dagster.assets import told
from trackgen_dagster.definitions import defs
from trackgen_dagster.instance import LOCATION, fail_abandoned_runs, is_away, process_tag
from trackgen_dagster.internals import (
    SINGLETON_REPOSITORY_NAME,
    AssetGraphSubset,
    InMemoryJob,
    JobPythonOrigin,
    LoadableTargetOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    ModuleCodePointer,
    PartitionBackfill,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    RepositoryPythonOrigin,
    execute_run,
    get_current_timestamp,
    get_python_environment_entry_point,
    make_new_backfill_id,
)
from trackgen_dagster.partitions import FIRST_DAY, daily, day_of, key_of
from trackgen_dagster.requests import (
    MOST_RANGES,
    DayRange,
    Request,
    group,
    new_session,
    run_config,
    session_tags,
    split,
)
from trackgen_dagster.sessions import find_session, list_sessions, missing, said_of, was_interrupted

Mode = Literal["bulk", "incremental", "daily"]

DAYS_SHARE: Final = 0.9
"""The share of a run that is over when its days are done; what follows is told to Dagster, and checked."""

UI_ORIGIN: Final = RemoteJobOrigin(
    RemoteRepositoryOrigin(
        ManagedGrpcPythonEnvCodeLocationOrigin(
            LoadableTargetOrigin(executable_path=sys.executable, module_name="trackgen_dagster.definitions"), LOCATION
        ),
        SINGLETON_REPOSITORY_NAME,
    ),
    "generate",
)
"""Where the UI finds the job of a run that was executed here: without it, it cannot execute the run again."""

CODE_ORIGIN: Final = JobPythonOrigin(
    "generate",
    RepositoryPythonOrigin(
        sys.executable,
        ModuleCodePointer("trackgen_dagster.definitions", "defs", working_directory=None),
        container_image=os.environ.get("DAGSTER_CURRENT_IMAGE"),
        entry_point=get_python_environment_entry_point(sys.executable),
    ),
)
"""Where a worker on another machine finds it."""


@dataclass
class SessionSummary:
    """What a session did."""

    session: str
    mode: Mode
    users: list[str]
    status: Literal["pending", "completed", "failed", "cancelled"] = "completed"
    start: str | None = None
    end: str | None = None
    days: int = 0
    points: int = 0
    tracks: int = 0
    distance_km: float = 0.0
    stays: int = 0
    noise: int = 0
    leftover: int = 0
    duration_s: float = 0.0
    listed_before_start: int = 0
    """Days with work that lie before the first partition, where no run reaches them."""
    runs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    broken: bool = False
    """A run failed for a reason that the others would fail for, too; they were not started."""

    def as_json(self) -> dict[str, Any]:
        """Return the summary as the command line prints it."""
        return asdict(self)


def generate(
    store: Store,
    instance: dg.DagsterInstance,
    *,
    mode: Mode = "incremental",
    users: Collection[str] = (),
    lo_day: int | None = None,
    hi_day: int | None = None,
    workers: int = 0,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> SessionSummary:
    """Make what is missing, or everything anew, and say what came of it.

    Parameters
    ----------
    store : Store
        The database.
    instance : DagsterInstance
        Where the runs are recorded.
    mode : {"bulk", "incremental", "daily"}
        `bulk` makes all days again, or goes on where a bulk session was broken off; `incremental` does what is on the
        work list; `daily` does that, and yesterday again.
    users : collection of str
        Only these; by default all.
    lo_day, hi_day : int, optional
        Only these days, inclusive; by default all.
    workers : int
        Processes to use; 0 for one a core.
    progress : callable
        Called now and then with the share that is done and a few words.

    Raises
    ------
    UnknownUser
        If one of the users is not in the database.
    """
    names = sorted(users)
    summary = SessionSummary(new_session(), mode, names)
    asked = _asked(mode, names, lo_day, hi_day)

    def prepare() -> list[DayRange]:
        fail_abandoned_runs(instance)
        scope = _scope(store, names, lo_day, hi_day)
        if mode == "bulk":
            _refuse_second_bulk(instance, names)
        if mode != "incremental" and not _was_broken_off(instance, asked):
            _mark_again(store, mode, scope)
        with store.write() as connection:
            for stage in STAGES:  # somebody asked for it, so what failed before is tried again
                store.revive(connection, stage, *scope.days, scope.user_ids)
        return _ranges(_days(store, instance, mode, scope))

    ranges = patiently(prepare)
    if ranges:
        more_tags = asked | {tags.RUNS: str(len(ranges))}
        _execute_all(instance, summary, [Request(days, tuple(names)) for days in ranges], more_tags, workers, progress)
    patiently(partial(_sum_up, store, summary, ranges))
    return summary


def retry(
    store: Store,
    instance: dg.DagsterInstance,
    name: str,
    *,
    queue: bool = False,
    workers: int = 0,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> SessionSummary | None:
    """Do again what failed in a session, or what it did not come to; None if that is nothing.

    Parameters
    ----------
    store : Store
        The database.
    instance : DagsterInstance
        Where the session is recorded.
    name : str
        The session.
    queue : bool
        Leave it to the daemon; otherwise the runs are executed here.
    workers : int
        Processes to use; 0 for one a core.
    progress : callable
        Called now and then with the share that is done and a few words.

    Raises
    ------
    UnknownSession
        If there is none of the name.
    ValueError
        If the session is still under way.
    """
    fail_abandoned_runs(instance)
    session = find_session(instance, name)
    if not session.is_over:
        raise ValueError(f"session {session.session} is {session.status}: only what has ended can be retried")
    users = tags.users_of({tags.USERS: session.users}) or []
    scope = _scope(store, users, day_of(session.start), day_of(session.end))
    if session.mode not in ("incremental", "daily"):  # those are about what is listed anyway
        for stage, days in missing(instance, session.session).items():
            for lo, hi in group(days, MOST_RANGES):
                mark_all(store, stage, lo, hi, scope.user_ids)
    with store.write() as connection:
        for stage in STAGES:
            store.revive(connection, stage, *scope.days, scope.user_ids)
    with store.read() as connection:
        work = {day for stage in STAGES for day in store.dirty(connection, stage, *scope.days, scope.user_ids)["day"]}
    ranges = _ranges(work)
    if not ranges:
        return None
    mode: Mode = session.mode if session.mode in tags.PRIORITIES else "bulk"  # type: ignore[assignment]
    summary = SessionSummary(session.session, mode, users)
    requests = [Request(days, tuple(users)) for days in ranges]
    more_tags = {tags.RUNS: str(len(ranges)), tags.ATTEMPT: str(session.attempts + 1)}
    whole = DayRange(day_of(session.start), day_of(session.end))
    if queue:
        summary.status = "pending"
        summary.runs += [_queue(instance, one.tags(session.session, mode, whole) | more_tags, one) for one in requests]
        return summary
    _execute_all(instance, summary, requests, more_tags, workers, progress, whole)
    patiently(partial(_sum_up, store, summary, ranges))
    return summary


def create(
    store: Store,
    instance: dg.DagsterInstance,
    *,
    mode: Mode,
    users: Collection[str] = (),
    lo_day: int | None = None,
    hi_day: int | None = None,
) -> str | None:
    """Ask the daemon for a session: a backfill if it is a bulk session, queued runs otherwise.

    Parameters
    ----------
    store, instance, mode, users, lo_day, hi_day
        As in `generate`.

    Returns
    -------
    str or None
        The name of the session, or None if there is nothing to do.

    Raises
    ------
    ValueError
        If another bulk session of one of the users is under way.
    """
    names = sorted(users)
    scope = _scope(store, names, lo_day, hi_day)
    session = new_session()
    if mode == "bulk":
        _refuse_second_bulk(instance, names)
        with store.read() as connection:
            data = store.days_with_points(connection, scope.user_ids, *scope.days)
            made = [store.days_with_segments(connection, *scope.days, scope.user_ids)]
            made.append(store.days_with_tracks(connection, *scope.days, scope.user_ids))
        days = {day for frame in (data, *made) for day in frame["day"]}
        if not days:
            return None
        _add_backfill(instance, session, names, DayRange(min(days), max(days)))
        return session
    if mode == "daily":
        _mark_again(store, mode, scope)
    requests = [Request(days, tuple(names)) for days in _ranges(_days(store, instance, mode, scope))]
    for request in requests:
        _queue(instance, request.tags(session, mode) | {tags.RUNS: str(len(requests))}, request)
    return session if requests else None


@dataclass(frozen=True)
class Scope:
    """What a request is about: days that have partitions, and users."""

    days: DayRange
    user_ids: list[int] | None


def _scope(store: Store, names: Collection[str], lo_day: int | None, hi_day: int | None) -> Scope:
    first = max(FIRST_DAY, lo_day or 0)
    last = now_ms() // MS_PER_DAY + 1 if hi_day is None else hi_day
    return Scope(DayRange(first, last), store.user_ids(names) if names else None)


def _asked(mode: Mode, names: Collection[str], lo_day: int | None, hi_day: int | None) -> dict[str, str]:
    days = " to ".join("any" if day is None else key_of(day) for day in (lo_day, hi_day))
    return {tags.MODE: mode, tags.USERS: json.dumps(sorted(names)) if names else "all", tags.REQUEST: days}


def _ranges(days: Collection[int]) -> list[DayRange]:
    return [part for whole in group(days, MOST_RANGES) for part in split(whole)]


def _mark_again(store: Store, mode: Mode, scope: Scope) -> None:
    """List what is to be made again though nothing changed."""
    lo_day, hi_day = scope.days
    if mode == "daily":
        lo_day = max(lo_day, now_ms() // MS_PER_DAY - 1)
        hi_day = min(hi_day, now_ms() // MS_PER_DAY - 1)
    for stage in STAGES:
        mark_all(store, stage, lo_day, hi_day, scope.user_ids)


def _refuse_second_bulk(instance: dg.DagsterInstance, names: Collection[str]) -> None:
    for session in list_sessions(instance, unfinished=True):
        users = tags.users_of({tags.USERS: session.users})
        if session.mode in ("bulk", "backfill") and (not names or users is None or set(names) & set(users)):
            raise ValueError(
                f"bulk session {session.session} is {session.status}: wait for it (`trackgen sessions watch "
                f"{session.session}`) or stop it (`trackgen sessions cancel {session.session}`)"
            )


def _days(store: Store, instance: dg.DagsterInstance, mode: Mode, scope: Scope) -> set[int]:
    """Return the days that a session is about: those with work, and those with data of which Dagster does not know."""
    work: set[int] = set()
    with store.read() as connection:
        for stage in STAGES:
            listed = store.dirty(connection, stage, *scope.days, scope.user_ids)
            if mode != "bulk":
                yesterday = now_ms() // MS_PER_DAY - 1 if mode == "daily" else None
                listed = listed[(listed["is_change"] == 1) | (listed["day"] == yesterday)]
            work |= set(listed["day"].tolist())
        data = set(store.days_with_points(connection, scope.user_ids, *scope.days)["day"].tolist())
    made = [instance.get_materialized_partitions(dg.AssetKey(name)) for name in STAGES]
    days = work | (data - {day_of(key) for key in made[0] & made[1]})
    if mode == "bulk" and (work or data):
        return set(range(min(work | data), max(work | data) + 1))
    return days


def _was_broken_off(instance: dg.DagsterInstance, asked: dict[str, str]) -> bool:
    """Whether the last session was this very request, and did not come to its end."""
    latest = instance.get_runs(limit=1)
    if not latest or any(latest[0].tags.get(tag) != value for tag, value in asked.items()):
        return False
    return find_session(instance, latest[0].tags[tags.SESSION]).status != "completed"


def _add_backfill(instance: dg.DagsterInstance, session: str, names: Sequence[str], days: DayRange) -> None:
    keys = [key_of(day) for day in range(days.lo_day, days.hi_day + 1)]
    partitions = daily.empty_subset().with_partition_keys(keys)
    targets: Any = {dg.AssetKey(stage): partitions for stage in STAGES}
    instance.add_backfill(
        PartitionBackfill.from_asset_graph_subset(
            backfill_id=make_new_backfill_id(),
            asset_graph_subset=AssetGraphSubset(targets, set()),  # type: ignore[call-arg]
            backfill_timestamp=get_current_timestamp(),
            tags=session_tags(session, "bulk", names, days),
            dynamic_partitions_store=instance,
            title=f"Bulk session {session}",
            description=None,
            run_config=run_config(names, only_dirty=False),
        )
    )


def _new_run(
    instance: dg.DagsterInstance, run_tags: dict[str, str], request: Request, workers: int, run_id: str | None = None
) -> dg.DagsterRun:
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return instance.create_run_for_job(
        defs.resolve_job_def("generate"),
        run_id=run_id,
        run_config=request.config(workers) | quiet,
        tags=run_tags,
        remote_job_origin=UI_ORIGIN,
        job_code_origin=CODE_ORIGIN,
    )


def _queue(instance: dg.DagsterInstance, run_tags: dict[str, str], request: Request) -> str:
    run = _new_run(instance, run_tags, request, workers=0)
    # The queue itself needs no workspace: the daemon that takes the run out of it has one.
    instance.run_coordinator.submit_run(dg.SubmitRunContext(run, workspace=None))  # type: ignore[arg-type]
    return run.run_id


def _execute_all(
    instance: dg.DagsterInstance,
    summary: SessionSummary,
    requests: Sequence[Request],
    more_tags: dict[str, str],
    workers: int,
    progress: Callable[[float, str], None],
    span: DayRange | None = None,
) -> None:
    """Execute runs here, one after the other, until somebody stops them."""
    started = time.monotonic()
    span = span or DayRange(requests[0].days.lo_day, requests[-1].days.hi_day)
    # It is this process that goes on after a crash, or nobody.
    more_tags = more_tags | {tags.PROCESS: process_tag(), tags.MAX_RETRIES: "0"}
    total = sum(hi - lo + 1 for lo, hi in (request.days for request in requests))
    done = 0
    for request in requests:
        days = request.days.hi_day - request.days.lo_day + 1
        run_tags = request.tags(summary.session, summary.mode, span) | more_tags
        _execute(instance, run_tags, request, workers, summary, partial(_scaled, progress, done / total, days / total))
        done += days
        if summary.status == "cancelled" or summary.broken:
            break
    summary.duration_s = round(time.monotonic() - started, 3)


def _execute(
    instance: dg.DagsterInstance,
    run_tags: dict[str, str],
    request: Request,
    workers: int,
    summary: SessionSummary,
    progress: Callable[[float, str], None],
) -> None:
    run_id = str(uuid.uuid4())
    summary.runs.append(run_id)

    def show(stage: Stage, share: float) -> None:
        done = (STAGES.index(stage) + share) / len(STAGES)
        progress(DAYS_SHARE * done, "checks" if done == 1 else stage)

    listening = told.set(show)
    try:
        run = _new_run(instance, run_tags, request, workers, run_id)
        result = execute_run(InMemoryJob(defs.resolve_job_def("generate")), run, instance)
    except KeyboardInterrupt:
        summary.status = "cancelled"
        known = instance.get_run_by_id(run_id)
        if known and not known.is_finished:
            instance.report_run_canceled(known, "Stopped at the command line.")
        return
    except Exception as error:
        if not is_away(error):
            raise
        # Not of the days, which their step tries again, but of what Dagster notes in between.
        summary.status, summary.broken = "failed", True
        summary.errors.append(f"{describe(error)}; run it again to go on from here")
        return
    finally:
        told.reset(listening)
    for event in result.filter_events(lambda event: event.is_step_failure):
        if was_interrupted(event):
            summary.status = "cancelled"
            instance.add_run_tags(run_id, {tags.CANCELLED: "true"})
            return
        summary.status = "failed"
        summary.errors.append(said_of(event))
        # If it is our own failure, only some chunks could not be made.
        summary.broken = summary.broken or event.step_failure_data.user_failure_data is None
    summary.failed_checks += [
        f"{check.check_name}: {check.description}" for check in result.get_asset_check_evaluations() if not check.passed
    ]


def _scaled(progress: Callable[[float, str], None], before: float, part: float, share: float, what: str) -> None:
    progress(before + share * part, what)


def _sum_up(store: Store, summary: SessionSummary, ranges: Sequence[DayRange]) -> None:
    with store.read() as connection:
        days = [store.dirty(connection, stage)["day"] for stage in STAGES]
    summary.listed_before_start = len({day for column in days for day in column.tolist() if day < FIRST_DAY})
    if not ranges:
        return
    totals = pd.concat([day_stats(store, lo, hi) for lo, hi in ranges]).sum()
    summary.start, summary.end = key_of(ranges[0].lo_day), key_of(ranges[-1].hi_day)
    summary.days = sum(hi - lo + 1 for lo, hi in ranges)
    for name in ("points", "tracks", "stays", "noise", "leftover"):
        setattr(summary, name, int(totals[name]))
    summary.distance_km = round(int(totals["length_mm"]) / 1e6, 6)
