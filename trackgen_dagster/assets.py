"""The assets: points come from outside, segments are made day by day, tracks are merged across midnight."""

import time
from typing import Any, Final

import dagster as dg
import pandas as pd
from pydantic import Field

from trackgen_core.generation import Window, day_stats, mark_all, plan
from trackgen_core.parallel import WindowFailure, default_workers, do_windows
from trackgen_core.store import Stage, Store
from trackgen_dagster.partitions import daily, day_of, key_of, neighbours
from trackgen_dagster.resources import TrackStore

GROUP: Final = "trackgen"
PROGRESS_EVERY_S: Final = 0.5
"""How often the progress of a run is written to its tags."""

DAYS_PER_RUN: Final = 366
"""Starting a run costs seconds, a day in it milliseconds; but Dagster's own time in a run grows with the square of its
partitions, so a year at a time."""

LONG_RUN: Final = dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN)

points = dg.AssetSpec(
    "points",
    description="GPS fixes of all users, as they were imported: one partition is one UTC day.",
    partitions_def=daily,
    group_name=GROUP,
    kinds={"sqlite"},
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
    deps=[points],
    backfill_policy=LONG_RUN,
    group_name=GROUP,
    kinds={"python", "pandas"},
)
def segments(context: dg.AssetExecutionContext, config: Generation, database: TrackStore) -> None:
    """Runs of points without a break, cut at midnight UTC.

    A new segment starts after a pause longer than `minutes_between_routes`, or after a hop that the distance rule does
    not believe. Making a day again replaces exactly this day.
    """
    _generate(context, "segments", config, database.store)


@dg.asset(
    partitions_def=daily,
    deps=[dg.AssetDep(segments, partition_mapping=neighbours)],
    backfill_policy=LONG_RUN,
    group_name=GROUP,
    kinds={"python", "pandas"},
)
def tracks(context: dg.AssetExecutionContext, config: Generation, database: TrackStore) -> None:
    """Journeys: segments joined across midnight where the same rule that cuts segments finds no break.

    A track belongs to the day on which it starts, however many days it lasts. Making a day again rebuilds every track
    that touches it.
    """
    _generate(context, "tracks", config, database.store)


def _generate(context: dg.AssetExecutionContext, stage: Stage, config: Generation, store: Store) -> None:
    lo_day, hi_day = day_of(context.partition_key_range.start), day_of(context.partition_key_range.end)
    user_ids = store.user_ids(config.users) if config.users else None
    if not config.only_dirty:
        mark_all(store, stage, lo_day, hi_day, user_ids)
    with store.read() as connection:
        windows = plan(store.dirty(connection, stage, lo_day, hi_day, user_ids))

    total = sum(window.days for window in windows)
    progress = Progress(context, stage, total)
    cost = pd.DataFrame({"seconds": 0.0, "peak_memory_mb": 0.0}, index=range(lo_day, hi_day + 1))
    failures: list[WindowFailure] = []
    for result in do_windows(store, stage, windows, config.workers or default_workers()):
        days = slice(result.window.lo_day, result.window.hi_day)
        progress.add(result.window)
        if isinstance(result, WindowFailure):
            failures.append(result)
            context.log.error(f"{_span(result.window)}: {result.error}\n{result.traceback}")
        else:
            cost.loc[days, "seconds"] += result.seconds / result.window.days
            cost.loc[days, "peak_memory_mb"] = cost.loc[days, "peak_memory_mb"].clip(lower=result.peak_memory_mb)
    progress.write()

    metadata = _metadata(stage, day_stats(store, lo_day, hi_day).join(cost))
    if failures:
        _raise(context, stage, failures, metadata)
    for day, values in metadata.items():
        context.add_asset_metadata(values, partition_key=key_of(day))


class Progress:
    """Days done and days to do, kept in the tags of the run: run storage is the only place that tracks progress."""

    def __init__(self, context: dg.AssetExecutionContext, stage: Stage, total: int) -> None:
        self.context, self.stage, self.total = context, stage, total
        self.done = 0
        self.written_at = 0.0
        self.write()

    def add(self, window: Window) -> None:
        """Count a window as done."""
        self.done += window.days
        if time.monotonic() - self.written_at > PROGRESS_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the tag."""
        progress = {f"trackgen/{self.stage}": f"{self.done}/{self.total}"}
        self.context.instance.add_run_tags(self.context.run.run_id, progress)
        self.written_at = time.monotonic()


def progress_of(run: dg.DagsterRun, stage: Stage) -> tuple[int, int] | None:
    """Return the days that are done and those to do, as `Progress` wrote them; None if the stage has not begun."""
    done, slash, total = run.tags.get(f"trackgen/{stage}", "").partition("/")
    return (int(done), int(total)) if slash else None


def _metadata(stage: Stage, stats: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Return the metadata of each partition: what is stored of the day, and what it cost to make."""
    km = stats["length_mm"] / 1e6
    columns = {
        "segments": {"points": stats["points"], "segments": stats["segments"]},
        "tracks": {
            "points": stats["points"],
            "segments": stats["segments"],
            "tracks": stats["tracks"],
            "km": km,
            "leftover": stats["leftover"],
        },
    }[stage]
    columns |= {"seconds": stats["seconds"].round(4), "peak_memory_mb": stats["peak_memory_mb"].round(1)}
    rows = pd.DataFrame(columns).to_dict("index")
    return {int(day): values for day, values in rows.items()}  # type: ignore[call-overload,misc]


def _raise(
    context: dg.AssetExecutionContext,
    stage: Stage,
    failures: list[WindowFailure],
    metadata: dict[int, dict[str, Any]],
) -> None:
    """Report the days that were finished, and fail for the others."""
    failed = {day for failure in failures for day in range(failure.window.lo_day, failure.window.hi_day + 1)}
    for day, values in metadata.items():
        if day not in failed:
            event = dg.AssetMaterialization(context.asset_key, partition=key_of(day), metadata=values)
            context.log_event(event)
    reasons = "; ".join(f"{_span(failure.window)}: {failure.error}" for failure in failures[:5])
    raise dg.Failure(
        f"{len(failed)} of {len(metadata)} days of {stage} failed: {reasons}",
        metadata={"failed_days": [key_of(day) for day in sorted(failed)]},
    )


def _span(window: Window) -> str:
    return f"{key_of(window.lo_day)} to {key_of(window.hi_day)}, {len(window.user_ids)} user(s)"
