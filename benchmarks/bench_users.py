"""Many users on PostgreSQL: 10 000 of them with one day each, and 200 with a year each, about a million points both."""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from bench_postgresql import Generation, reset
from history import START_MS, make_points
from timing import take_turns

from tests import postgres
from trackgen_core.database import Database
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY
from trackgen_core.schema import devices, tracks, users
from trackgen_core.store import Store


def make_users(number: int, days: int, points_a_day: int) -> pd.DataFrame:
    """Return the points of users, each somewhere else, who record for an hour or so every day."""
    rng = np.random.default_rng(5)
    one = make_points(3 * points_a_day)
    one = one[one["device"] == "phone"].iloc[:points_a_day]
    days_of_one = pd.concat(
        [
            one.assign(time_ms=one["time_ms"] + day * MS_PER_DAY + int(rng.integers(6 * 3_600_000)))
            for day in range(days)
        ]
    )
    east = rng.uniform(-150, 150, number)
    return pd.concat(
        [days_of_one.assign(user=f"user {n}", lon=days_of_one["lon"] + east[n]) for n in range(number)],
        ignore_index=True,
    )


def main() -> None:
    """Print seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=int, default=1, help="divide the numbers of users by it")
    options = parser.parse_args()
    assert START_MS % MS_PER_DAY == 0
    for number, days, points_a_day in ((10_000, 1, 100), (200, 365, 14)):
        points = make_users(number // options.scale, days, points_a_day)
        with postgres.running_server() as server:
            store = Store(Database(postgres.Databases(server).new()))
            started = time.perf_counter()
            add_points(store, points)
            print(f"\n{number // options.scale:,} users, {days} days each, {len(points):,} points")
            print(f"added in {time.perf_counter() - started:.1f} s")
            for workers in (1, 2):
                seconds = take_turns(
                    {"": Generation(store, workers)},
                    options.repeats,
                    lambda _, store=store: reset(store),
                    warm_up=False,
                )[""]
                low, middle, high = min(seconds), float(np.median(seconds)), max(seconds)
                print(f"{workers} worker(s): {middle:.2f} s ({low:.2f} to {high:.2f})", flush=True)
            with store.read() as connection:
                counts = [
                    connection.exec_driver_sql(f"SELECT count(*) FROM {table.name}").scalar_one()
                    for table in (users, devices, tracks)
                ]
            print("{:,} users, {:,} devices, {:,} tracks".format(*counts))
            store.database.close()


if __name__ == "__main__":
    main()
