"""A bulk generation on PostgreSQL, against a bare COPY of its points and against SQL that makes tracks by itself.

The server is one of its own, with the settings of a fresh installation but without waiting for the disk (`fsync`).
Everything is asked of the library directly, but for one contender, which is a session of Dagster.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from statistics import median

import numpy as np
import psycopg
from history import DEVICES, as_stored, make_points
from timing import take_turns

from tests import postgres, world
from trackgen_core.database import Database, bulk_insert, make_months
from trackgen_core.generation import WindowResult, mark_all, plan_work
from trackgen_core.home import open_store
from trackgen_core.importing import add_points
from trackgen_core.parallel import do_windows
from trackgen_core.points import MS_PER_DAY
from trackgen_core.schema import users
from trackgen_core.settings import Settings, make_settings
from trackgen_core.store import STAGES, Store

ALL_DAYS = (0, 100_000)
PART = 1_000_000
"""Points that are made up at once."""

MAKE_PEER = """
CREATE EXTENSION IF NOT EXISTS postgis;
CREATE TABLE peer_points AS SELECT row_number() OVER () AS id, device_id, time_ms, altitude,
    ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography AS place, NULL::bigint AS track_id FROM points;
CREATE UNIQUE INDEX ON peer_points (id);
CREATE INDEX ON peer_points (device_id, time_ms);
CREATE INDEX ON peer_points USING gist (place);
CREATE INDEX ON peer_points (track_id);
CREATE TABLE peer_tracks (id bigserial PRIMARY KEY, device_id integer, started_ms bigint, ended_ms bigint,
    points bigint, length_m double precision, path geometry);
ANALYZE peer_points;
"""
SAME_POINTS = """
(SELECT device_id, time_ms, ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography AS place FROM points) AS placed
"""
PEER_TRACKS = """
INSERT INTO peer_tracks (device_id, started_ms, ended_ms, points, length_m, path)
WITH hops AS (
    SELECT device_id, time_ms, place, time_ms - lag(time_ms) OVER device AS gap_ms,
           ST_Distance(place, lag(place) OVER device) AS hop_m
    FROM {points} WINDOW device AS (PARTITION BY device_id ORDER BY time_ms)
), numbered AS (
    SELECT hops.*, count(*) FILTER (WHERE gap_ms > 1800000) OVER (PARTITION BY device_id ORDER BY time_ms) AS track
    FROM hops
)
SELECT device_id, min(time_ms), max(time_ms), count(*), sum(hop_m) FILTER (WHERE gap_ms <= 1800000),
       ST_MakeLine(place::geometry ORDER BY time_ms)
FROM numbered GROUP BY device_id, track HAVING count(*) > 1
"""
PEER_IDS = """
UPDATE peer_points SET track_id = peer_tracks.id FROM peer_tracks
WHERE peer_points.device_id = peer_tracks.device_id
  AND peer_points.time_ms BETWEEN peer_tracks.started_ms AND peer_tracks.ended_ms
"""


@contextmanager
def filled(points: int) -> Iterator[Store]:
    """Start a server and yield a store of so many points."""
    with postgres.running_server() as server:
        store = Store(Database(postgres.Databases(server).new()))
        with store.write() as connection:
            connection.exec_driver_sql("INSERT INTO users (name) VALUES ('ada')")
            for device in DEVICES:
                connection.exec_driver_sql(f"INSERT INTO devices (user_id, name) VALUES (1, '{device}')")
        made = make_points(points)
        with store.write() as connection:
            make_months(connection, (made["time_ms"] // MS_PER_DAY).unique())
            for start in range(0, points, PART):
                part = made.iloc[start : start + PART]
                bulk_insert(connection, "points", as_stored(part).assign(speed=part["speed"]))
        del made
        with psycopg.connect(store.database.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE points")
        yield store
        store.database.close()


def bare_copy(store: Store) -> None:
    """Read all points in PostgreSQL's binary format, and drop them."""
    with psycopg.connect(store.database.url, autocommit=True) as connection:
        connection.pgconn.exec_(b"COPY (SELECT * FROM points) TO STDOUT (FORMAT BINARY)")
        while connection.pgconn.get_copy_data(0)[0] >= 0:
            pass
        while connection.pgconn.get_result():
            pass


def reset(store: Store, *, gaps_alone: bool = False) -> None:
    """Forget all results, and list everything; with settings as SQL has them, or with noise, stays and legs."""
    settings = make_settings({"preset": "dawarich"}) if gaps_alone else Settings()
    with store.write() as connection:
        connection.execute(users.update().values(settings=json.dumps(settings.changed())))
        connection.exec_driver_sql(f"TRUNCATE {', '.join(world.RESULTS)}, dirty_days CASCADE")
    mark_all(store, "segments", *ALL_DAYS)


class Generation:
    """All segments and tracks, by so many processes."""

    def __init__(self, store: Store, workers: int) -> None:
        self.store, self.workers = store, workers
        self.peak_memory_mb = 0.0

    def __call__(self) -> None:
        for stage in STAGES:
            windows = plan_work(self.store, stage, *ALL_DAYS)
            for result in do_windows(self.store, stage, windows, self.workers):
                assert isinstance(result, WindowResult), result
                self.peak_memory_mb = max(self.peak_memory_mb, result.peak_memory_mb)


def session(store: Store) -> None:
    """The same as a session of Dagster, in a new home: what `trackgen generate` takes from start to end."""
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [sys.executable, "-m", "trackgen_dagster.cli", "generate", "--workers", "2"],
            env=os.environ | {"TRACKGEN_HOME": home, "TRACKGEN_DATABASE_URL": store.database.url},
            stdout=subprocess.DEVNULL,
            check=True,
        )


def execute(store: Store, *statements: str) -> Callable[[], None]:
    """Return what runs statements of the peer, in one transaction."""

    def run() -> None:
        with psycopg.connect(store.database.url) as connection:
            connection.execute("SET work_mem = '256MB'")
            for statement in statements:
                connection.execute(statement)

    return run


def report(seconds: dict[str, list[float]], points: int, of: str) -> None:
    """Print medians, and the median of the ratios to one contender in the same round."""
    for name, values in seconds.items():
        ratio = median(one / other for one, other in zip(values, seconds[of], strict=True))
        print(
            f"{name:28} {median(values):8.2f} s ({min(values):.2f} to {max(values):.2f}) "
            f"{points / median(values):12,.0f} points/s {ratio:7.2f} times {of}",
            flush=True,
        )


def against_copy(points: int, repeats: int) -> None:
    """One and two workers, and a session, against a bare COPY, with the most memory of any process."""
    with filled(points) as store:
        contenders = {
            "COPY": lambda: bare_copy(store),
            "1 worker": Generation(store, 1),
            "2 workers": Generation(store, 2),
            "2 workers, by gaps alone": Generation(store, 2),
            "trackgen generate": lambda: session(store),
        }

        def prepare(name: str) -> None:
            if name != "COPY":
                reset(store, gaps_alone="gaps" in name)

        seconds = take_turns(contenders, repeats, prepare, warm_up=False)
        print(f"\n{points:,} points, {repeats} repeats")
        report(seconds, points, "COPY")
        speed_up = median(one / two for one, two in zip(seconds["1 worker"], seconds["2 workers"], strict=True))
        print(f"2 workers are {speed_up:.2f} times as fast as one")
        reset(store)
        # Not in this process, which has made up all points.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peak_mb = pool.submit(peak_memory_mb, store.database.url).result()
        print(f"a process that generates all holds {peak_mb:.0f} MB at most")


def peak_memory_mb(url: str) -> float:
    """Return the most memory that this process, or a second one that helps it, holds while it generates all."""
    generation = Generation(open_store(url), 2)
    generation()
    return generation.peak_memory_mb


def late_points(points: int, repeats: int) -> None:
    """A thousand points that come late, on ten days of a history of which all tracks are made."""
    with filled(points) as store:
        reset(store)
        Generation(store, 2)()
        made = make_points(points)
        days = made["time_ms"] // MS_PER_DAY
        rng = np.random.default_rng(7)
        added, generated, listed = [], [], []
        for repeat in range(repeats):
            of_days = made[days.isin(rng.choice(days.unique(), 10, replace=False))]
            late = of_days.sample(1_000, random_state=repeat)
            started = time.perf_counter()
            add_points(store, late.assign(time_ms=late["time_ms"] + 1 + repeat))
            added.append(time.perf_counter() - started)
            with store.read() as connection:
                listed.append(len(store.dirty(connection, "segments")))
            started = time.perf_counter()
            Generation(store, 1)()
            generated.append(time.perf_counter() - started)
        print(f"\n1,000 late points of 10 days into {points:,}, {repeats} repeats")
        print(f"added in {median(added):.2f} s; {median(listed):.0f} days listed, made in {median(generated):.2f} s")


def against_sql(points: int, repeats: int, *, with_ids: bool) -> None:
    """Trackgen against SQL with window functions, which makes tracks by gaps alone.

    The SQL reads a table of its own, in which places are geographies already, or the very table that Trackgen reads.
    """
    with filled(points) as store:
        with psycopg.connect(store.database.url, autocommit=True) as connection:
            for statement in MAKE_PEER.split(";"):
                if statement.strip():
                    connection.execute(statement)

        def prepare(name: str) -> None:
            if name.startswith("trackgen"):
                reset(store, gaps_alone="gaps" in name)
                return
            with psycopg.connect(store.database.url, autocommit=True) as connection:
                connection.execute("TRUNCATE peer_tracks")
                if with_ids:
                    connection.execute("UPDATE peer_points SET track_id = NULL WHERE track_id IS NOT NULL")
                    connection.execute("VACUUM peer_points")

        of_peer = PEER_TRACKS.format(points="peer_points")
        if with_ids:
            sql = {"SQL, tracks and ids of points": execute(store, of_peer, PEER_IDS)}
        else:
            of_same = PEER_TRACKS.format(points=SAME_POINTS)
            sql = {"SQL, tracks": execute(store, of_peer), "SQL, of the same table": execute(store, of_same)}
        seconds = take_turns(
            {"trackgen": Generation(store, 2), "trackgen, by gaps alone": Generation(store, 2), **sql},
            repeats,
            prepare,
            warm_up=False,
        )
        print(f"\n{points:,} points, {repeats} repeats")
        report(seconds, points, "trackgen")


def growth(points: list[int], repeats: int) -> None:
    """Print how the time grows with the points, and with the years that they cover."""
    medians = []
    for number in points:
        with filled(number) as store:
            seconds = take_turns(
                {"": Generation(store, 1)}, repeats, lambda _, store=store: reset(store), warm_up=False
            )[""]
        medians.append(median(seconds))
        print(f"{number:12,} points: {medians[-1]:.2f} s", flush=True)
    exponent = np.polyfit(np.log(points), np.log(medians), 1)[0]
    print(f"time grows with the points (and days, a million a year) to the power of {exponent:.2f}")


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--peer-points", type=int, default=2_000_000)
    parser.add_argument("--id-points", type=int, default=500_000, help="of which SQL writes the track of every point")
    parser.add_argument("--growth", type=int, nargs="*", default=[1_000_000, 2_000_000, 4_000_000, 8_000_000])
    parser.add_argument("--late", type=int, default=10_000_000, help="points among which some come late")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.points:
        against_copy(options.points, options.repeats)
    if options.peer_points:
        against_sql(options.peer_points, options.repeats, with_ids=False)
    if options.id_points:
        against_sql(options.id_points, options.repeats, with_ids=True)
    if options.late:
        late_points(options.late, options.repeats)
    if options.growth:
        growth(options.growth, options.repeats)


if __name__ == "__main__":
    main()
