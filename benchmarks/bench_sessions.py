"""How long it takes to look at sessions, and to decide what to do next, after years of them.

1 000 sessions of one to three runs, 3 650 partitions that were made, 10 000 days of users with work. Each figure is the
median of 5 looks in one process, beside the time that Dagster itself needs to read the same runs.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable
from statistics import median

import dagster as dg
import pandas as pd
from dagster._core.definitions.sensor_definition import build_sensor_context
from timing import take_turns

from trackgen_core.home import open_store
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY, now_ms
from trackgen_dagster import tags
from trackgen_dagster.definitions import defs
from trackgen_dagster.instance import open_instance
from trackgen_dagster.partitions import key_of
from trackgen_dagster.requests import DayRange, Request
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.sensors import incremental
from trackgen_dagster.sessions import errors_of, find_session, list_sessions

SESSIONS, PARTITIONS, DIRTY, LOOKS = 1_000, 3_650, 10_000, 5


def add_sessions(instance: dg.DagsterInstance, first_day: int) -> list[str]:
    job = defs.resolve_job_def("generate")
    names = [uuid.uuid4().hex[:8] for _ in range(SESSIONS)]
    template = instance.create_run_for_job(job, run_config={})
    for number, name in enumerate(names):
        for part in range(1 + number % 3):
            request = Request(DayRange(first_day + number * 3 + part, first_day + number * 3 + part))
            done = {tags.progress("segments"): "1/1", tags.progress("tracks"): "1/1", tags.CREATED: "3"}
            run_tags = request.tags(name, "incremental") | done | {tags.POINTS: "2880", tags.KEY: request.key}
            run = template._replace(
                run_id=str(uuid.uuid4()), tags=run_tags, status=dg.DagsterRunStatus.SUCCESS, run_config=request.config()
            )
            instance.add_run(run)
    instance.delete_run(template.run_id)
    for day in range(first_day, first_day + PARTITIONS):
        for asset in ("segments", "tracks"):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key_of(day)))
    return names


def add_work(first_day: int) -> None:
    """Ten users with a point on a thousand days each, every third day."""
    store = open_store()
    for user in range(10):
        days = pd.RangeIndex(0, DIRTY // 10 * 3, 3).to_numpy() + first_day
        points = pd.DataFrame(
            {"user": f"user{user}", "device": "", "time_ms": days * MS_PER_DAY, "lon": 8.0, "lat": 47.0}
        )
        add_points(store, points.assign(altitude=0.0, accuracy=0.0, speed=0.0))
    store.database.close()


def tick(instance: dg.DagsterInstance) -> int:
    """Evaluate the sensor, and store what it observed, as the daemon does."""
    resources = {"database": TrackStore()}
    with build_sensor_context(instance=instance, resources=resources, definitions=defs) as context:
        result = incremental(context)
    for event in result.asset_events:  # type: ignore[union-attr]
        instance.report_runless_asset_event(event)
    return len(result.run_requests or [])  # type: ignore[union-attr]


def main() -> None:
    first_day = now_ms() // MS_PER_DAY - PARTITIONS
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"TRACKGEN_HOME": home, "TRACKGEN_DEBOUNCE_SECONDS": "0.001"}
        with open_instance() as instance:
            names = add_sessions(instance, first_day)
            add_work(first_day)
            looks: dict[str, Callable[[], object]] = {
                "Dagster reads the runs": lambda: (instance.get_run_records(limit=20_000), instance.get_backfills()),
                "sessions list -n 1000": lambda: list_sessions(instance),
                "sessions list": lambda: list_sessions(instance, 20),
                "sessions show": lambda: errors_of(instance, find_session(instance, names[500]).session),
                "sessions show, half a name": lambda: find_session(instance, names[500][:6]),
                "tick of the sensor": lambda: tick(instance),
            }
            plain, *_ = medians = {name: median(times) for name, times in take_turns(looks, LOOKS).items()}
            for name, seconds in medians.items():
                print(f"{name:<28}{seconds:>8.3f} s{seconds / medians[plain]:>8.2f} times as long as Dagster's reading")
            print(f"runs asked for by a tick: {tick(instance)}")


if __name__ == "__main__":
    main()
