"""The assets: points come from outside, segments are made day by day, tracks are merged across midnight."""

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
import pandas as pd
from pydantic import Field

from trackgen_core.failures import Backoff
from trackgen_core.generation import Window, WindowResult, day_stats, mark_all, plan_work, segment_stats
from trackgen_core.home import database_url
from trackgen_core.parallel import WindowFailure, default_workers, do_windows
from trackgen_core.store import Stage, Store
from trackgen_core.words import counted
from trackgen_dagster import metadata, tags
from trackgen_dagster.environment import number, owners
from trackgen_dagster.instance import is_away, process_tag
from trackgen_dagster.internals import (
    DATA_VERSION_TAG,
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
    DagsterEventBatchMetadata,
    generate_event_batch_id,
)
from trackgen_dagster.partitions import DAYS_PER_RUN, daily, day_of, key_of, neighbours
from trackgen_dagster.resources import TrackStore

GROUP: Final = "trackgen"
OWNERS: Final = owners()
DATABASE: Final = re.split("[+:]", database_url())[0]
"""What kind of database the graph shows."""

PROGRESS_EVERY_S: Final = 0.5
"""How often the progress of a run is written to its tags."""

MOST_RETRIES: Final = 3
RETRY_S: Final = 5
"""How often, and after how long, a step begins again that lost the database in between."""

FIGURES: Final = ("points", "segments", "tracks", "km", "stays", "noise", "leftover", "seconds", "peak_memory_mb")
"""The figures of a partition, in this order; those that its stage has."""

FAILURES: Final = "failures"
"""Metadata of a step that failed: the chunks that could not be made, as a list of JSON objects."""

MOST_FAILURES: Final = 1_000
"""Chunks listed there."""

TRACKS: Final = dg.AssetKey("tracks")

LONG_RUN: Final = dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN)

points = dg.AssetSpec(
    "points",
    description="GPS fixes of all users, as they came from phones, watches and loggers. `trackgen import`, the drop "
    "folder or other programs add them, so there is nothing here to materialize. A partition is one UTC day; how many "
    "points it holds is reported whenever they change, by the sensor `incremental` and by the runs that read them.",
    metadata=metadata.POINTS,
    partitions_def=daily,
    group_name=GROUP,
    owners=OWNERS,
    kinds={DATABASE},
)


class Generation(dg.Config):
    """What a run does, beyond its days."""

    users: list[str] = Field(default=[], description="Only these users; by default all.")
    only_dirty: bool = Field(
        default=False,
        description="Work only on days that are listed as dirty; days of the run that are not are only verified.",
    )
    workers: int = Field(default=0, ge=0, description="Processes that work at once; 0 uses every core.")


@dg.asset(
    partitions_def=daily,
    # Six hours on either side of a day decide what its points are.
    deps=[dg.AssetDep(points, partition_mapping=neighbours)],
    backfill_policy=LONG_RUN,
    group_name=GROUP,
    owners=OWNERS,
    metadata=metadata.SEGMENTS,
    kinds={"python", "pandas", DATABASE},
)
def segments(context: dg.AssetExecutionContext, config: Generation, database: TrackStore) -> None:
    """Runs of points without a break, on the way or at rest, cut at midnight UTC: what tracks are put together from.

    Fixes that cannot be true are set aside as noise. A new segment starts after a pause longer than
    `minutes_between_routes`, after a hop that the distance rule does not believe, and where a stay begins or ends. Six
    hours on either side of a day are looked at. Making a day again replaces the segments of exactly this day.
    """
    _generate(context, "segments", config, database.store)


@dg.asset(
    partitions_def=daily,
    deps=[dg.AssetDep(segments, partition_mapping=neighbours)],
    backfill_policy=LONG_RUN,
    group_name=GROUP,
    owners=OWNERS,
    metadata=metadata.TRACKS,
    kinds={"python", "pandas", DATABASE},
)
def tracks(context: dg.AssetExecutionContext, config: Generation, database: TrackStore) -> None:
    """Journeys with their legs, and the stays between them: segments, joined over midnight where no rule breaks them.

    A track or stay belongs to the day on which it starts, however many days it lasts. Making a day again rebuilds every
    one that touches it, and gives the same as before if neither points nor settings nor edits have changed. `picture`
    shows the tracks that start on a day: a panel for each of the three devices that went farthest, each with a scale of
    its own. `map` opens what starts on it as a map.
    """
    _generate(context, "tracks", config, database.store)


MADE: Final = (segments, tracks)
"""What a run makes."""

daily_summaries = dg.AssetSpec(
    "daily_summaries",
    deps=[tracks],
    description="What users did on each of their days: kilometres, moving time, tracks, stays, rest, climb. The step "
    "that makes tracks writes them in the same transaction; a partition is the day in the time zone of each user. A "
    "journey over midnight counts on both days, each with its share, so the days add up to the tracks.",
    metadata=metadata.DAILY_SUMMARIES,
    partitions_def=daily,
    group_name=GROUP,
    owners=OWNERS,
    kinds={DATABASE},
)


@dataclass
class Made:
    """What a step has done with the days of its run."""

    stage: Stage
    metadata: dict[int, dict[str, Any]]
    """Of each day."""
    failures: list[WindowFailure]

    @property
    def failed_days(self) -> set[int]:
        """Days that could not be made, or not for everybody."""
        return {day for failure in self.failures for day in failure.window.range}


def _generate(context: dg.AssetExecutionContext, stage: Stage, config: Generation, store: Store) -> None:
    try:
        _try_to_generate(context, stage, config, store)
    except Exception as error:
        # Not of a window, for these are tried again one by one, but of what Dagster is told in between.
        if is_away(error) and not _is_told_to_stop(context):  # which psycopg may take for an error of the database
            raise dg.RetryRequested(max_retries=MOST_RETRIES, seconds_to_wait=RETRY_S) from error
        raise


def _is_told_to_stop(context: dg.AssetExecutionContext) -> bool:
    try:
        run = context.instance.get_run_by_id(context.run.run_id)
    except Exception:  # noqa: BLE001 - the storage is away itself; then nobody has stopped the run
        return False
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def _try_to_generate(context: dg.AssetExecutionContext, stage: Stage, config: Generation, store: Store) -> None:
    _say_who_works(context, config, store)
    made = [_make(context, stage, config, store)]
    if not made[0].failures:
        for day, values in made[0].metadata.items():
            context.add_asset_metadata(values, partition_key=key_of(day))
        if stage == "tracks":
            _report_summaries(context, store, made[0].metadata)
        return
    if stage == "segments" and TRACKS in context.job_def.asset_layer.selected_asset_keys:
        # The step of the tracks will not start after this one failed, but nobody shall wait for somebody else's day.
        made.append(_make(context, "tracks", config, store))
    failed = set.union(*(one.failed_days for one in made))  # tracks without their segments are none either
    for one in made:
        for day, values in one.metadata.items():
            if day not in failed:
                event = dg.AssetMaterialization(dg.AssetKey(one.stage), partition=key_of(day), metadata=values)
                context.log_event(event)
        if one.stage == "tracks":
            _report_summaries(context, store, set(one.metadata) - failed)
    if all(failure.kind == "database" for one in made for failure in one.failures):
        context.instance.add_run_tags(context.run.run_id, {RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "true"})
    raise _failure(store, made)


def _report_summaries(context: dg.AssetExecutionContext, store: Store, days: Collection[int]) -> None:
    """Report the summaries of days, which were written along with their tracks."""
    if not days:
        return
    sums = store.day_sums(lo_day=min(days), hi_day=max(days)).groupby("local_day").sum(numeric_only=True)
    sums = sums.reindex(sorted(days)).fillna(0).astype("int64")
    columns = {
        "km": sums["length_mm"] / 1e6,
        "moving_hours": (sums["moving_ms"] / 3.6e6).round(3),
        "rest_hours": (sums["rest_ms"] / 3.6e6).round(3),
        "tracks": sums["tracks"],
        "stays": sums["stays"],
        "climb_m": sums["gain_cm"] / 100,
    }
    _log_batch(
        context,
        [
            dg.AssetMaterialization(daily_summaries.key, partition=key_of(day), metadata=values)
            for day, values in _by_day(columns).items()
        ],
    )


def _make(context: dg.AssetExecutionContext, stage: Stage, config: Generation, store: Store) -> Made:
    lo_day, hi_day = day_of(context.partition_key_range.start), day_of(context.partition_key_range.end)
    user_ids = store.user_ids(config.users) if config.users else None
    if stage == "segments":
        _report_points(context, store, lo_day, hi_day, user_ids)
    if not config.only_dirty:
        mark_all(store, stage, lo_day, hi_day, user_ids)
    windows = plan_work(store, stage, lo_day, hi_day, user_ids)
    progress = Progress(context, stage, sum(window.user_days for window in windows))
    cost = pd.DataFrame({"seconds": 0.0, "peak_memory_mb": 0.0}, index=range(lo_day, hi_day + 1))
    failures: list[WindowFailure] = []
    backoff = Backoff(round(number("TRACKGEN_ATTEMPTS")), number("TRACKGEN_RETRY_SECONDS"))
    for result in do_windows(store, stage, windows, config.workers or default_workers(), backoff):
        days = slice(result.window.lo_day, result.window.hi_day)
        if isinstance(result, WindowFailure):
            progress.failed += result.window.user_days
            failures.append(result)
            users = len(result.window.user_ids)
            context.log.error(f"{_span(result.window)}, {counted(users, 'user')}: {result.error}\n{result.traceback}")
        else:
            progress.add(result)
            cost.loc[days, "seconds"] += result.seconds / result.window.days
            cost.loc[days, "peak_memory_mb"] = cost.loc[days, "peak_memory_mb"].clip(lower=result.peak_memory_mb)
    if stage == "tracks":
        with store.read() as connection:
            progress.created = store.count_tracks(connection, *_counted_days(context), user_ids)
    progress.write()
    stats = segment_stats if stage == "segments" else day_stats
    of_days = _metadata(stats(store, lo_day, hi_day).join(cost))
    if stage == "tracks":
        for day, values in of_days.items():
            if values["tracks"] + values["stays"]:
                of_days[day] = {"map": metadata.map_link(day), **values}
        for day, picture in metadata.pictures(store, lo_day, hi_day):
            of_days[day] = {"picture": picture, **of_days[day]}
    return Made(stage, of_days, failures)


def points_event(day: int, version: str, figures: Mapping[str, Any]) -> dg.AssetMaterialization:
    """Return what says that the points of a day are there, in a version that changes with them."""
    return dg.AssetMaterialization(
        points.key, partition=key_of(day), metadata=figures, tags={DATA_VERSION_TAG: version}
    )


def _report_points(
    context: dg.AssetExecutionContext, store: Store, lo_day: int, hi_day: int, user_ids: Collection[int] | None
) -> None:
    """Report the points of the run's days that changed, or of which Dagster does not know, before they are read."""
    known = {day_of(key) for key in context.instance.get_materialized_partitions(points.key)}
    with store.read() as connection:
        listed = store.dirty(connection, "segments", lo_day, hi_day, user_ids)
        versions = listed[listed["is_change"] == 1].groupby("day")["version"].max()
        holding = store.days_with_points(connection, None, lo_day, hi_day)["day"]
        days = sorted({*versions.index, *holding[~holding.isin(known)]})
        counts = store.count_points(connection, days[0], days[-1]) if days else {}
    _log_batch(context, [points_event(day, str(versions.get(day, 0)), {"points": counts.get(day, 0)}) for day in days])
    # Otherwise the segments would seem to be older than the points that they are made of.
    context.get_step_execution_context().fetch_external_input_asset_version_info()


def _log_batch(context: dg.AssetExecutionContext, events: Sequence[dg.AssetMaterialization]) -> None:
    """Log materializations as Dagster itself does for many partitions; `log_event` would store them one by one."""
    batch = generate_event_batch_id()
    for sent, event in enumerate(events, 1):
        dg.DagsterEvent.asset_materialization(
            context.get_step_execution_context(), event, DagsterEventBatchMetadata(batch, sent == len(events))
        )


def _counted_days(context: dg.AssetExecutionContext) -> tuple[int, int]:
    """Return the days whose tracks the run counts: a retry counts those of its whole session."""
    run_tags = context.run.tags
    if tags.ATTEMPT in run_tags and tags.SPAN in run_tags:
        return tags.span_of(run_tags)
    return day_of(context.partition_key_range.start), day_of(context.partition_key_range.end)


def _say_who_works(context: dg.AssetExecutionContext, config: Generation, store: Store) -> None:
    """Write into the tags of the run which process executes it, by which settings, and how long it was waited for."""
    record = context.instance.get_run_record_by_id(context.run.run_id)
    known = record.dagster_run.tags if record else {}
    # A run that is executed again inherits what the first one wrote.
    if record and (known.get(tags.PROCESS) != process_tag() or tags.SETTINGS not in known):
        waited = time.time() - record.create_timestamp.timestamp()
        run_tags = {tags.PROCESS: process_tag(), tags.WAITED: f"{waited:.1f}", tags.FAILED: "0"}
        run_tags[tags.SETTINGS] = store.settings_digest(config.users)
        context.instance.add_run_tags(context.run.run_id, run_tags)


told: Final[ContextVar[Callable[[Stage, float], None] | None]] = ContextVar("told", default=None)
"""Whom a run tells how far it is, if it is executed in the process that asks.

A thread that looks into run storage is not safe: CPython 3.11 can crash if two threads ask for the `__dict__` of an
object for the first time at once, as SQLAlchemy does."""


class Progress:
    """Chunks done and chunks to do, kept in the tags of the run: run storage is the only place that tracks progress.

    A chunk is a day of a user in a stage.
    """

    def __init__(self, context: dg.AssetExecutionContext, stage: Stage, total: int) -> None:
        self.context, self.stage, self.total = context, stage, total
        self.done = self.failed = self.points = 0
        self.created: int | None = None
        run = context.instance.get_run_by_id(context.run.run_id)
        self.failed_before = int(run.tags.get(tags.FAILED, 0)) if run else 0
        self.written_at = 0.0
        self.write()

    def add(self, result: WindowResult) -> None:
        """Count a window as done."""
        self.done += result.window.user_days
        self.points += result.points
        if time.monotonic() - self.written_at > PROGRESS_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the tags."""
        run_tags = {tags.progress(self.stage): f"{self.done}/{self.total}"}
        if self.stage == "segments":
            run_tags[tags.POINTS] = str(self.points)
        if self.failed:
            run_tags[tags.FAILED] = str(self.failed_before + self.failed)
        if self.created is not None:
            run_tags[tags.CREATED] = str(self.created)
        self.context.instance.add_run_tags(self.context.run.run_id, run_tags)
        if tell := told.get():
            tell(self.stage, self.done / self.total if self.total else 1.0)
        self.written_at = time.monotonic()


def progress_of(run: dg.DagsterRun, stage: Stage) -> tuple[int, int] | None:
    """Return the chunks that are done and those to do, as `Progress` wrote them; None if the stage has not begun."""
    done, slash, total = run.tags.get(tags.progress(stage), "").partition("/")
    return (int(done), int(total)) if slash else None


def _metadata(stats: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Return the metadata of each partition: what is stored of the day, and what it cost to make."""
    columns: dict[Any, pd.Series] = dict(stats.round({"seconds": 4, "peak_memory_mb": 1}))
    if "length_mm" in columns:
        columns["km"] = columns["length_mm"] / 1e6
    return _by_day({name: columns[name] for name in FIGURES if name in columns})


def _by_day(columns: Mapping[str, pd.Series]) -> dict[int, dict[str, Any]]:
    rows = pd.DataFrame(columns).to_dict("index")
    return {int(day): values for day, values in rows.items()}  # type: ignore[call-overload,misc]


def _failure(store: Store, made: Sequence[Made]) -> dg.Failure:
    """Return what a step fails with: which chunks, why, and after how many attempts."""
    with store.read() as connection:
        names = store.names_of(connection)
    failures = [failure for one in made for failure in one.failures]
    failed = [
        {
            "stage": one.stage,
            "start": key_of(failure.window.lo_day),
            "end": key_of(failure.window.hi_day),
            "users": [names.get(user_id, "?") for user_id in failure.window.user_ids],
            "kind": failure.kind,
            "attempts": failure.attempts,
            "error": failure.error,
        }
        for one in made
        for failure in one.failures
    ]
    parts = [
        f"{len(one.failed_days)} of {counted(len(one.metadata), 'day')} of {one.stage}" for one in made if one.failures
    ]
    reasons = "; ".join(
        f"{_span(failure.window)} of {', '.join(chunk['users'][:3])}: {failure.error}"  # type: ignore[index]
        for chunk, failure in zip(failed[:5], failures, strict=False)
    )
    return dg.Failure(
        f"{' and '.join(parts)} failed: {reasons}",
        metadata={"chunks_failed": len(failed), FAILURES: dg.MetadataValue.json(failed[:MOST_FAILURES])},
        allow_retries=False,
    )


def _span(window: Window) -> str:
    start, end = key_of(window.lo_day), key_of(window.hi_day)
    return start if start == end else f"{start} to {end}"
