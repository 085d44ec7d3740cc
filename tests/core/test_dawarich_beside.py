"""Our tracks beside Dawarich's own jobs: nothing stays fused, nothing is there twice, no point goes back and forth."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import dawarich, dawarich_jobs, postgres, world
from tests.core.test_dawarich import ANNA, compared, dumped, mirrored, rolled_back, written
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("postgresql")

ROUNDS = 10
MINUTES = 10


def day_with_stays() -> pd.DataFrame:
    """Rides with pauses of 20 minutes, spikes on the way, and fixes at home and at work between them; and a watch that
    is there for a part of the way, at the same seconds."""
    rides = dawarich.history(2, 240, 1)
    rng = np.random.default_rng(2)
    homes = []
    for hour in (6.0, 10.0, 19.0, 30.5, 34.0):
        at = rides.iloc[[np.searchsorted(rides["timestamp"], dawarich.START_S + hour * 3600) - 1]]
        seconds = dawarich.START_S + hour * 3600 + np.arange(0, 3600, 60)
        rest = at.loc[at.index.repeat(60)]
        homes.append(rest.assign(timestamp=seconds.astype(int), lon=rest["lon"] + rng.normal(0, 5e-5, 60)))
    spikes = rides.iloc[20::40].assign(lon=lambda rows: rows["lon"] + 3, timestamp=lambda rows: rows["timestamp"] + 2)
    watch = rides.iloc[30:150].assign(tracker_id="watch", lat=lambda rows: rows["lat"] + 1e-5)
    points = pd.concat([rides, *homes, spikes, watch])
    return points.drop_duplicates(["timestamp", "tracker_id"]).sort_values("timestamp", ignore_index=True)


@pytest.mark.parametrize("preset", ["dawarich", "default"])
def test_ten_rounds_beside_its_jobs(databases: postgres.Databases, store: Store, preset: str) -> None:
    dawarich.create(url := databases.new(), dawarich.NEWEST)
    history = day_with_stays()
    bounds = np.linspace(0, len(history), ROUNDS + 1).astype(int)
    owners: list[dict[int, int | None]] = []
    with dawarich.connect(url) as connection:
        user_id = dawarich.add_user(connection, ANNA, json.dumps({"minutes_between_routes": MINUTES}))
    for number in range(ROUNDS + 3):  # and some rounds in which nothing comes
        part = history[bounds[min(number, ROUNDS)] : bounds[min(number + 1, ROUNDS)]]
        before = dumped(url)
        with dawarich.connect(url) as connection:
            if len(part):
                dawarich.add_points(connection, user_id, part)
            now = int(history["timestamp"][bounds[min(number + 1, ROUNDS)] - 1]) + 60
            dawarich_jobs.run_all(connection, user_id, MINUTES, now, daily=number % 3 == 2)
            owners.append(tracks_of_points(connection))
        mirrored(store, url)
        if number == 0:
            store.set_settings(ANNA, {"preset": preset, "minutes_between_routes": MINUTES})
            world.generate(store)
        written(store, url, take_over=number == 0)
        with dawarich.connect(url) as connection:
            owners.append(tracks_of_points(connection))
        found = compared(store, url)
        wrong = {kind: count for kind, count in found.counts.items() if count and kind not in ("equal", "extra")}
        assert (wrong, found.lost_points) == ({}, 0), f"round {number}"
        assert found.counts["equal"] == len(world.tracks(store))
        assert_no_two_at_once(url)
    assert len(world.tracks(store)) > 10
    assert world.noise(store) or preset == "dawarich"
    assert world.stays(store) or preset == "dawarich"
    assert {track.device for track in world.tracks(store)} == {"phone", "watch"}
    after = dumped(url)
    assert (after["points"], without_versions(after)) == (before["points"], without_versions(before))
    # What its jobs join to a track of their own, younger than an hour, is put right once, and then left alone.
    assert max(returns(id, owners) for id in owners[-1]) <= 1
    assert [id for id in owners[-1] if is_released(id, owners[1:])] == []  # since the take-over
    rolled_back(store, url)
    assert not [track for track in dumped(url)["tracks"] if "trackgen" in track]


def tracks_of_points(connection: Any) -> dict[int, int | None]:
    return dict(connection.execute("SELECT id, track_id FROM points").fetchall())


def returns(id: int, owners: list[dict[int, int | None]]) -> int:
    """Return how often a point got a track that it had had before."""
    seen = [states.get(id) for states in owners]
    changes = [one for one, before in zip(seen, [object(), *seen], strict=False) if one != before]
    return len(changes) - len(set(changes))


def is_released(id: int, owners: list[dict[int, int | None]]) -> bool:
    """Say whether a point had a track, and then none."""
    seen = [states[id] for states in owners if id in states]
    return any(before is not None and after is None for before, after in pairwise(seen))


def without_versions(tables: dict[str, list[str]]) -> list[str]:
    """Return the rows of tracks without the last columns, which count and date each change."""
    return [row.rsplit(",", 3)[0] for row in tables["tracks"]]


def assert_no_two_at_once(url: str) -> None:
    """No two tracks of a device lie over each other for more than an instant."""
    with dawarich.connect(url) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM tracks AS a JOIN tracks AS b ON a.id < b.id AND a.start_at < b.end_at "
            "AND b.start_at < a.end_at AND coalesce(a.tracker_id, '') = coalesce(b.tracker_id, '')"
        ).fetchone()
    assert rows == (0,)
