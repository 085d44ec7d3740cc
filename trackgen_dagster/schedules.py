"""Schedules: what happens at fixed times, all UTC."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

import dagster as dg

from trackgen_core.points import MS_PER_DAY, now_ms
from trackgen_dagster import tags
from trackgen_dagster.jobs import cleanup, dawarich, generate
from trackgen_dagster.partitions import FIRST_DAY
from trackgen_dagster.requests import QUIET, DayRange, Request, changes, new_session, uncovered, under_way, wanted
from trackgen_dagster.resources import TrackStore

EVERY_FOUR_HOURS: Final = "0 */4 * * *"
AFTER_MIDNIGHT: Final = "10 0 * * *"
EVERY_FIVE_MINUTES: Final = "*/5 * * * *"
RUNNING: Final = dg.DefaultScheduleStatus.RUNNING


@dg.schedule(
    job=generate,
    cron_schedule=(os.environ.get("TRACKGEN_DAILY_CRON") or f"{EVERY_FOUR_HOURS};{AFTER_MIDNIGHT}").split(";"),
    execution_timezone="UTC",
    default_status=RUNNING,
    description="Makes tracks of whatever is still listed, and of yesterday again: a net under the sensor "
    "`incremental`. TRACKGEN_DAILY_CRON says when.",
)
def daily(context: dg.ScheduleEvaluationContext, database: TrackStore) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request runs for what is listed, and for yesterday."""
    yesterday = now_ms() // MS_PER_DAY - 1
    covers = under_way(context.instance)
    work = uncovered(changes(database.store), covers)
    again = [Request(DayRange(yesterday, yesterday), only_dirty=False)]
    if yesterday < FIRST_DAY or any(
        cover.users is None and cover.days.lo_day <= yesterday <= cover.days.hi_day for cover in covers
    ):
        again = wanted(work[work["day"] == yesterday])
    # What is listed of yesterday is made along with all of it, and in no other run.
    requests = [*wanted(work[work["day"] < yesterday]), *again, *wanted(work[work["day"] > yesterday])]
    session = new_session()
    for request in requests:
        key = f"{context.scheduled_execution_time.isoformat()}/{request.key}"
        yield request.run_request(session, "daily", key)
    if not requests:
        yield dg.SkipReason("All of it is under way already.")


cleaning = dg.ScheduleDefinition(
    name="cleaning",
    job=cleanup,
    run_config=QUIET,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=RUNNING,
    description="Forgets sessions that ended longer ago than TRACKGEN_RETENTION_DAYS; tracks stay.",
)


@dg.schedule(
    job=dawarich,
    cron_schedule=os.environ.get("TRACKGEN_DAWARICH_CRON") or EVERY_FIVE_MINUTES,
    execution_timezone="UTC",
    default_status=RUNNING if os.environ.get("TRACKGEN_DAWARICH_URL") else dg.DefaultScheduleStatus.STOPPED,
    description="Keeps up with Dawarich, where TRACKGEN_DAWARICH_URL is set. TRACKGEN_DAWARICH_CRON says when.",
)
def mirroring(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request a run, unless one is under way."""
    latest = next(iter(context.instance.get_run_records(dg.RunsFilter(job_name=dawarich.name), limit=1)), None)
    if latest and not latest.dagster_run.is_finished:
        return dg.SkipReason(f"Run {latest.dagster_run.run_id} is under way.")
    return dg.RunRequest(run_config=QUIET, tags={tags.PRIORITY: "30"})


SCHEDULES: Final[Sequence[dg.ScheduleDefinition]] = (daily, cleaning, mirroring)
