"""Sensors: what makes Trackgen run by itself."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
import pandas as pd

from trackgen_core.home import home
from trackgen_core.inbox import waiting
from trackgen_core.points import now_ms
from trackgen_core.store import Store
from trackgen_core.words import counted
from trackgen_dagster import notifications, tags
from trackgen_dagster.assets import points_event
from trackgen_dagster.environment import number
from trackgen_dagster.instance import fail_abandoned_runs, pid_of, works
from trackgen_dagster.internals import AUTO_RETRY_RUN_ID_TAG, PARENT_RUN_ID_TAG, WILL_RETRY_TAG
from trackgen_dagster.jobs import generate, inbox
from trackgen_dagster.requests import (
    MOST_RANGES,
    QUIET,
    changes,
    earlier_runs,
    goes_last,
    in_vain,
    is_ripe,
    new_session,
    rests,
    uncovered,
    under_way,
    wanted,
)
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.sessions import is_ours, was_launched

RUNNING: Final = dg.DefaultSensorStatus.RUNNING

PATIENCE: Final = 10
"""Points that never cease to come are waited for this many times as long as a pause in them."""

MOST_QUEUED: Final = 25
"""With so many runs in the queue, no more are added; those that let all others go first do not count."""

MOST_REPORTED: Final = 50
"""Partitions of `points` that a tick reports: each costs Dagster about 20 ms."""

REPORT_S: Final = 0.5
"""How long a tick counts points for that."""

FORGOTTEN_S: Final = 60
"""A run that failed and is to be tried again is so within seconds."""

FORGOTTEN_DAYS: Final = 2
"""What failed longer ago is left alone."""

AWAY_S: Final = 180
"""If the watchdog has not looked for so long, the machine was asleep, and silence proves nothing."""


@dg.sensor(
    job=generate,
    minimum_interval_seconds=15,
    default_status=RUNNING,
    description="Makes tracks of what is new, changed or deleted, once nothing more has come for "
    "TRACKGEN_DEBOUNCE_SECONDS. A tick that requests nothing says why.",
)
def incremental(context: dg.SensorEvaluationContext, database: TrackStore) -> dg.SensorResult:
    """Request runs for exactly the days and users whose points or settings changed."""
    instance, store = context.instance, database.store
    covers = under_way(instance)
    resting = in_vain(instance)
    work = changes(store)
    free = uncovered(work, covers)
    left = uncovered(free, resting)
    asked = wanted(left)
    ripe = [request for request in asked if is_ripe(request, 1000 * number("TRACKGEN_DEBOUNCE_SECONDS"), PATIENCE)]
    known = [(request, earlier_runs(instance, request.key)) for request in ripe]
    ready = [(request, earlier) for request, earlier in known if earlier is not None]

    queue = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    room = MOST_QUEUED - sum(not goes_last(run) for run in queue)
    taken = ready[: max(0, min(MOST_RANGES, room))]
    session = new_session()
    runs = [request.run_request(session, "incremental", f"{request.key}/{earlier}") for request, earlier in taken]

    events, reported = _report_points(store, work, json.loads(context.cursor or "[0, 0]"), len(queue))
    why = (
        f"{counted(len(work), 'day')} of users listed: {len(work) - len(free):,} under way, "
        f"{len(free) - len(left):,} failed and rest; of {counted(len(asked), 'range')}, "
        f"{len(asked) - len(ripe)} still changing and {len(ripe) - len(ready)} failed and rest; "
        f"{counted(len(queue), 'run')} in the queue."
    )
    return dg.SensorResult(
        run_requests=runs,
        asset_events=events,
        cursor=json.dumps(reported),
        skip_reason=None if runs else dg.SkipReason(why if len(work) else "Nothing is listed."),
    )


def _report_points(
    store: Store, work: pd.DataFrame, reported: list[int], queued: int
) -> tuple[list[dg.AssetObservation | dg.AssetMaterialization], list[int]]:
    """Report the points of days that changed; what is too much for one tick is left for the next, or for the run.

    `reported` is the last change that was reported: its version and its day. Runs report the points that they read as
    well, so nothing is missing if a change was seen too late.
    """
    until = time.monotonic() + REPORT_S
    changed = work[work["stage"] == "segments"].groupby("day").agg({"version": "max", "listed_ms": "min"})
    rows = changed.reset_index().sort_values(["version", "day"])[["version", "day", "listed_ms"]].to_numpy().tolist()
    events: list[dg.AssetObservation | dg.AssetMaterialization] = []
    with store.read() as connection:
        for version, day, listed_ms in rows:
            if [version, day] <= reported:
                continue
            if events and (len(events) >= 2 * MOST_REPORTED or time.monotonic() > until):
                break
            figures = {
                "points": store.count_points(connection, day, day).get(day, 0),
                "runs_in_queue": queued,
                "listed_for_s": round((now_ms() - listed_ms) / 1000, 1),
            }
            # Of an external asset, Dagster takes an observation for a change and a materialization for a partition
            # that is there. It remembers up to which materialization a run has seen, so this comes last.
            made = points_event(day, str(version), figures)
            events += [dg.AssetObservation(made.asset_key, partition=made.partition, tags=made.tags), made]
            reported = [version, day]
    return events, reported


@dg.sensor(
    job=inbox,
    minimum_interval_seconds=15,
    default_status=RUNNING,
    description="Imports files that are dropped into `inbox/<user>/[<device>/]` of the home.",
)
def drop_folder(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request an import when files lie in the inbox that nobody writes to any more."""
    files = waiting(home())
    if not files:
        yield dg.SkipReason("The inbox is empty.")
        return
    what = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    earlier = earlier_runs(context.instance, what)
    latest = next(iter(context.instance.get_run_records(dg.RunsFilter(job_name=inbox.name), limit=1)), None)
    if latest and not latest.dagster_run.is_finished:
        yield dg.SkipReason(
            f"Waiting for run {latest.dagster_run.run_id}, with {counted(len(files), 'file')} in the inbox."
        )
    elif earlier is None or (latest and not latest.dagster_run.is_success and rests(latest, 1)):
        yield dg.SkipReason(f"The last import left {counted(len(files), 'file')} in the inbox; it is tried again soon.")
    else:
        yield dg.RunRequest(f"{what}/{earlier}", QUIET, tags={tags.KEY: what, tags.PRIORITY: "30"})


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Marks runs as failed whose process is gone or that have made no progress for too long, and sees to it "
    "that they are tried again.",
)
def watchdog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Fail what is stuck, so that it is tried again."""
    now = time.time()
    looked, since = json.loads(context.cursor or "[0, 0]")
    if not 0 <= now - looked < AWAY_S:
        since = now
    failed = fail_abandoned_runs(context.instance)
    failed += fail_stuck_runs(context.instance, 60 * number("TRACKGEN_STUCK_MINUTES"), since)
    for run_id in failed:
        context.log.warning(f"run {run_id} was stuck and is marked as failed")
    for run_id in retry_forgotten_runs(context.instance, FORGOTTEN_S):
        context.log.warning(f"run {run_id} failed and was not tried again; it will be now")
    return dg.SensorResult(skip_reason=f"Stuck: {counted(len(failed), 'run')}.", cursor=json.dumps([now, since]))


def fail_stuck_runs(instance: dg.DagsterInstance, seconds: float, since: float = 0.0) -> list[str]:
    """Stop runs of ours that have made no progress for some time, mark them as failed, and return their ids.

    Parameters
    ----------
    instance : DagsterInstance
        Whose runs to look at.
    seconds : float
        How long a run may be silent.
    since : float
        Silence before this time does not count.
    """
    stuck = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        silent = time.time() - max(since, record.update_timestamp.timestamp())
        if silent < seconds or not is_ours(run):
            continue
        _stop(instance, run)
        known = instance.get_run_by_id(run.run_id)
        if known and not known.is_success:
            instance.report_run_failed(run, f"No progress for {silent / 60:.0f} minutes.")
            stuck.append(run.run_id)
    return stuck


def retry_forgotten_runs(instance: dg.DagsterInstance, seconds: float) -> list[str]:
    """Remind Dagster, once, of runs of ours that it was to try again and did not, and return their ids.

    Its daemon looks at a run when its failure is in the event log, a moment before its status says so. If it comes in
    between, it takes the run for one that is at work, and never looks again; the backfill waits for ever.

    Parameters
    ----------
    instance : DagsterInstance
        Whose runs to look at.
    seconds : float
        How long ago they failed at least.
    """
    waits = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=datetime.now(UTC) - timedelta(days=FORGOTTEN_DAYS),
    )
    forgotten = []
    for record in instance.get_run_records(waits):
        run = record.dagster_run
        if time.time() - (record.end_time or 0.0) < seconds or not is_ours(run):
            continue
        if {AUTO_RETRY_RUN_ID_TAG, tags.REMINDED, tags.CANCELLED} & {*run.tags}:
            continue
        if instance.get_runs_count(dg.RunsFilter(tags={PARENT_RUN_ID_TAG: run.run_id})):
            continue
        instance.add_run_tags(run.run_id, {tags.REMINDED: "true"})
        instance.report_run_failed(run, "It was to be tried again, and was not; it will be now.")
        forgotten.append(run.run_id)
    return forgotten


def _stop(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    with suppress(Exception):  # whoever started it may be gone, and it with him
        if was_launched(instance, run):
            instance.run_launcher.terminate(run.run_id)
        elif works(instance, run) and (pid := pid_of(run.tags[tags.PROCESS])):
            os.kill(pid, signal.SIGINT)


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Sends one message for each session that has ended, to the services in TRACKGEN_NOTIFY.",
)
def messages(context: dg.SensorEvaluationContext, database: TrackStore) -> dg.SensorResult:
    """Tell of sessions that have ended."""
    told, cursor = notifications.tell(context.instance, database.store, context.cursor, context.log)
    return dg.SensorResult(cursor=cursor, skip_reason=dg.SkipReason(f"Ended: {counted(told, 'session')}."))


SENSORS: Final[Sequence[dg.SensorDefinition]] = (incremental, drop_folder, watchdog, messages)
