"""One request to generate, without a daemon: real runs, executed here, one after the other.

Which days are worked on is decided by the database's work list alone; run storage says which of them Dagster has not
been told of. So a session that was killed is simply started again.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from trackgen_core.generation import day_stats, mark_all
from trackgen_core.points import MS_PER_DAY, day_number, now_ms, start_day
from trackgen_core.store import STAGES, Store
from trackgen_dagster.assets import DAYS_PER_RUN, progress_of
from trackgen_dagster.definitions import defs
from trackgen_dagster.instance import LOCATION, PID_TAG, fail_abandoned_runs, process_tag
from trackgen_dagster.jobs import CANCELLED_TAG, MODE_TAG, REQUEST_TAG, RUNS_TAG, SESSION_TAG, USERS_TAG
from trackgen_dagster.partitions import RANGE_TAGS, day_of, key_of
from trackgen_dagster.sessions import said_of, was_interrupted

Mode = Literal["bulk", "incremental", "daily"]

MOST_RANGES: Final = 12
"""Ranges of days that one session works on at most. Days in between that need no work are then verified along with the
others, which costs milliseconds a day; a run costs about a second."""

POLL_S: Final = 0.2

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


class DayRange(NamedTuple):
    """Days from `lo_day` to `hi_day`, inclusive."""

    lo_day: int
    hi_day: int


@dataclass
class SessionSummary:
    """What a session did."""

    session: str
    mode: Mode
    users: list[str]
    status: Literal["completed", "failed", "cancelled"] = "completed"
    start: str | None = None
    end: str | None = None
    days: int = 0
    points: int = 0
    tracks: int = 0
    distance_km: float = 0.0
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
    started = time.monotonic()
    fail_abandoned_runs(instance)
    names = sorted(users)
    summary = SessionSummary(uuid.uuid4().hex[:8], mode, names)
    user_ids = store.user_ids(names) if names else None
    first = max(day_number(start_day()), lo_day or 0)
    last = now_ms() // MS_PER_DAY + 1 if hi_day is None else hi_day
    request = {MODE_TAG: mode, USERS_TAG: json.dumps(names) if names else "all"}
    request[REQUEST_TAG] = " to ".join("any" if day is None else key_of(day) for day in (lo_day, hi_day))

    again = DayRange(first, last)
    if mode == "daily":
        yesterday = now_ms() // MS_PER_DAY - 1
        again = DayRange(max(first, yesterday), min(last, yesterday))
    if mode != "incremental" and not _was_broken_off(instance, request):
        mark_all(store, "segments", *again, user_ids)
        mark_all(store, "tracks", *again, user_ids)
    days = _days(store, instance, first, last, user_ids, whole=mode == "bulk")
    ranges = [part for days_range in group(days, MOST_RANGES) for part in split(days_range, DAYS_PER_RUN)]

    tags = request | {SESSION_TAG: summary.session, RUNS_TAG: str(len(ranges)), PID_TAG: process_tag()}
    total = sum(hi - lo + 1 for lo, hi in ranges)
    done = 0
    for lo, hi in ranges:
        run_tags = tags | {RANGE_TAGS[0]: key_of(lo), RANGE_TAGS[1]: key_of(hi)}
        shown = (done / total, (hi - lo + 1) / total)
        _execute(instance, run_tags, names, workers, summary, partial(_scaled, progress, *shown))
        done += hi - lo + 1
        if summary.status == "cancelled" or summary.broken:
            break
    _sum_up(store, summary, ranges)
    summary.duration_s = round(time.monotonic() - started, 3)
    return summary


def group(days: Iterable[int], most: int) -> list[DayRange]:
    """Cover days with at most `most` ranges, bridging the shortest gaps.

    Parameters
    ----------
    days : iterable of int
        Day numbers in any order.
    most : int
        How many ranges there may be; at least 1.
    """
    ordered = sorted(set(days))
    if not ordered:
        return []
    gaps = sorted((after - before, i) for i, (before, after) in enumerate(pairwise(ordered)) if after - before > 1)
    cuts = sorted(i for _, i in gaps[max(0, len(gaps) - most + 1) :])
    starts = [0, *(i + 1 for i in cuts)]
    ends = [*cuts, len(ordered) - 1]
    return [DayRange(ordered[a], ordered[b]) for a, b in zip(starts, ends, strict=True)]


def split(days: DayRange, longest: int) -> list[DayRange]:
    """Cut a range into parts of at most `longest` days."""
    return [DayRange(lo, min(lo + longest - 1, days.hi_day)) for lo in range(days.lo_day, days.hi_day + 1, longest)]


def _days(
    store: Store,
    instance: dg.DagsterInstance,
    first: int,
    last: int,
    user_ids: Collection[int] | None,
    *,
    whole: bool,
) -> set[int]:
    """Return the days that a session is about: those with work, and those with data of which Dagster does not know."""
    with store.read() as connection:
        work: set[int] = set()
        for stage in STAGES:
            work |= set(store.dirty(connection, stage, first, last, user_ids)["day"].tolist())
        data = set(store.days_with_points(connection, user_ids, first, last)["day"].tolist())
    made = [instance.get_materialized_partitions(dg.AssetKey(name)) for name in STAGES]
    days = work | (data - {day_of(key) for key in made[0] & made[1]})
    if whole and (work or data):
        return set(range(min(work | data), max(work | data) + 1))
    return days


def _was_broken_off(instance: dg.DagsterInstance, request: dict[str, str]) -> bool:
    """Whether the last session was this very request, and did not come to its end."""
    latest = instance.get_runs(limit=1)
    if not latest or any(latest[0].tags.get(tag) != value for tag, value in request.items()):
        return False
    tags = latest[0].tags
    finished = dg.RunsFilter(tags={SESSION_TAG: tags[SESSION_TAG]}, statuses=[dg.DagsterRunStatus.SUCCESS])
    return instance.get_runs_count(finished) < int(tags[RUNS_TAG])


def _execute(
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    users: Sequence[str],
    workers: int,
    summary: SessionSummary,
    progress: Callable[[float, str], None],
) -> None:
    run_id = str(uuid.uuid4())
    summary.runs.append(run_id)
    config = {"config": {"users": list(users), "only_dirty": True, "workers": workers}}
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(instance, run_id, finished, progress), daemon=True)
    watcher.start()
    try:
        job = defs.resolve_job_def("generate")
        run = instance.create_run_for_job(
            job,
            run_id=run_id,
            run_config={
                "ops": {"segments": config, "tracks": config},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            tags=tags,
            remote_job_origin=UI_ORIGIN,
        )
        result = execute_run(InMemoryJob(job), run, instance)
    except KeyboardInterrupt:
        summary.status = "cancelled"
        return
    finally:
        finished.set()
        watcher.join()
    for event in result.filter_events(lambda event: event.is_step_failure):
        if was_interrupted(event):
            summary.status = "cancelled"
            instance.add_run_tags(run_id, {CANCELLED_TAG: "true"})
            return
        summary.status = "failed"
        summary.errors.append(said_of(event))
        # If it is our own failure, only some windows could not be done.
        summary.broken = summary.broken or event.step_failure_data.user_failure_data is None
    summary.failed_checks += [
        f"{check.check_name}: {check.description}" for check in result.get_asset_check_evaluations() if not check.passed
    ]


def _scaled(progress: Callable[[float, str], None], before: float, part: float, share: float, what: str) -> None:
    progress(before + share * part, what)


def _watch(
    instance: dg.DagsterInstance, run_id: str, finished: threading.Event, progress: Callable[[float, str], None]
) -> None:
    while not finished.wait(POLL_S):
        run = instance.get_run_by_id(run_id)
        begun = [known for stage in STAGES if run and (known := progress_of(run, stage))]
        share = sum(done / total if total else 1.0 for done, total in begun)
        progress(share / len(STAGES), STAGES[max(0, len(begun) - 1)])


def _sum_up(store: Store, summary: SessionSummary, ranges: Sequence[DayRange]) -> None:
    with store.read() as connection:
        days = [store.dirty(connection, stage)["day"] for stage in STAGES]
    summary.listed_before_start = len(
        {day for column in days for day in column.tolist() if day < day_number(start_day())}
    )
    if ranges:
        summary.start, summary.end = key_of(ranges[0].lo_day), key_of(ranges[-1].hi_day)
    for lo, hi in ranges:
        totals = day_stats(store, lo, hi).sum()
        summary.days += hi - lo + 1
        summary.points += int(totals["points"])
        summary.tracks += int(totals["tracks"])
        summary.leftover += int(totals["leftover"])
        summary.distance_km += int(totals["length_mm"]) / 1e6
    summary.distance_km = round(summary.distance_km, 6)
