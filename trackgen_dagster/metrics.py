"""Figures for Prometheus: what is under way, what waits, and for how long."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import dagster as dg
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trackgen_core.points import day_number, now_ms
from trackgen_core.store import STAGES, Store
from trackgen_dagster.partitions import first_partition
from trackgen_dagster.sessions import is_ours, list_sessions
from trackgen_dagster.tags import BACKFILL, MODE, PRIORITIES

STATUSES: Final = ("pending", "processing", "completed", "failed", "cancelled")


def exposition(instance: dg.DagsterInstance, store: Store) -> bytes:
    """Return the figures in the text format of Prometheus."""
    return generate_latest(_registry(instance, store))


def write_textfile(text: bytes, path: Path) -> None:
    """Write the figures to a file for node_exporter, which must never see a part of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # another process may write as well
    try:
        part.write_bytes(text)
        part.chmod(0o644)  # node_exporter is another user
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def serve(instance: dg.DagsterInstance, store: Store, port: int) -> None:
    """Serve the figures at 127.0.0.1 until somebody stops it."""
    _, thread = start_http_server(port, addr="127.0.0.1", registry=_registry(instance, store))
    thread.join()


def _registry(instance: dg.DagsterInstance, store: Store) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SessionCollector(instance, store))
    return registry


class SessionCollector(Collector):
    """Reads run storage and the work list whenever somebody asks."""

    def __init__(self, instance: dg.DagsterInstance, store: Store) -> None:
        self.instance, self.store = instance, store

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        yield from self._sessions()
        yield from self._queue()
        yield from self._work()

    def _sessions(self) -> Iterator[Metric]:
        sessions = list_sessions(self.instance)
        by_status = GaugeMetricFamily("trackgen_sessions", "Sessions in run storage.", labels=["status"])
        counts = Counter(session.status for session in sessions)
        for status in STATUSES:
            by_status.add_metric([status], counts[status])
        yield by_status

        ended = sorted(
            (session for session in sessions if session.completed), key=lambda session: str(session.completed)
        )
        good = [_epoch(session.completed) for session in ended if session.status == "completed" and session.completed]
        yield GaugeMetricFamily(
            "trackgen_last_success_timestamp_seconds",
            "When a session was completed last; 0 if never.",
            value=max(good, default=0.0),
        )
        yield GaugeMetricFamily(
            "trackgen_points_per_second",
            "Points of which the last session that had any made segments, each second.",
            value=next((session.points_per_s for session in reversed(ended) if session.points_per_s), 0),
        )

    def _queue(self) -> Iterator[Metric]:
        waiting = self.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
        depth = GaugeMetricFamily("trackgen_queued_runs", "Runs in the queue.", labels=["mode"])
        # What is always there reads 0 when it is empty, and does not vanish.
        counts = Counter(dict.fromkeys(PRIORITIES, 0))
        counts.update(_mode_of(record.dagster_run) for record in waiting)
        for mode, count in counts.items():
            depth.add_metric([mode], count)
        yield depth
        now = time.time()
        oldest = min((record.create_timestamp.timestamp() for record in waiting), default=now)
        yield GaugeMetricFamily(
            "trackgen_queue_wait_seconds", "How long the oldest run in the queue waits.", value=max(0.0, now - oldest)
        )

    def _work(self) -> Iterator[Metric]:
        dirty = GaugeMetricFamily("trackgen_dirty_days", "Days of users with work to do.", labels=["stage"])
        dead = GaugeMetricFamily("trackgen_dead_letters", "Days of users given up for now.", labels=["stage"])
        now, first_day = now_ms(), day_number(first_partition(self.store))
        listed_ms = [now]
        with self.store.read() as connection:
            given_up = Counter(self.store.dead_letters(connection)["stage"])
            for stage in STAGES:
                # Days before the first partition are listed, too, but no run will ever reach them.
                rows = self.store.dirty(connection, stage, first_day, dead=False)
                dirty.add_metric([stage], len(rows))
                dead.add_metric([stage], given_up[stage])
                listed_ms += rows.loc[rows["is_change"] == 1, "listed_ms"].tolist()
        yield dirty
        yield dead
        yield GaugeMetricFamily(
            "trackgen_oldest_dirty_day_seconds",
            "For how long the oldest change that is not dead waits for its tracks.",
            value=(now - min(listed_ms)) / 1000,
        )


def _mode_of(run: dg.DagsterRun) -> str:
    """Return what kind of session a run is of, in the words of `Session.mode`; `other` if it is of none."""
    if not is_ours(run):
        return "other"
    return run.tags.get(MODE) or ("backfill" if BACKFILL in run.tags else "run")


def _epoch(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
