"""Points of one time stamp keep the order of their file, in every engine and in both databases."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import trackgen_core as tg
from tests import postgres, reference, strategies, world
from tests.core.test_importing import bring, save
from tests.effort import examples
from tests.reference import Point, Stay, Track
from trackgen_core.database import Database
from trackgen_core.points import ACTIVITIES, MAX_SEQ, TieCounter, activity_code, in_order, validate
from trackgen_core.settings import Settings
from trackgen_core.store import Store

slow = hypothesis_settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
T0 = 1_714_557_600


@st.composite
def tied(draw: st.DrawFn) -> list[Point]:
    """Histories with many points of one time stamp, in an order that does not follow from their places."""
    points = draw(strategies.lives() | strategies.histories())
    step_ms = draw(st.sampled_from([1, 60_000, 600_000, 7_200_000]))
    random = draw(st.randoms(use_true_random=False))
    return [
        point._replace(
            time_ms=point.time_ms - point.time_ms % step_ms,
            seq=random.randrange(4),
            pause=random.randrange(2),
            activity=random.randrange(len(ACTIVITIES)),
        )
        for point in points
    ]


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.running_server() as server:
        yield postgres.Databases(server)


@slow
@given(tied(), strategies.settings_of_rest(), st.data())
def test_any_order_of_arrival_gives_the_reference(points, rules: Settings, data: st.DataObject) -> None:
    expected = reference.timeline(points, rules)
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        for user in {point.user for point in points}:
            store.set_settings(user, rules.model_dump())
        for batch in data.draw(strategies.trickles(points)):
            world.add(store, batch)
            if data.draw(st.booleans()):
                world.generate(store)
        world.generate(store)
        assert in_time(world.tracks(store)) == in_time(expected.tracks)
        assert in_time(world.stays(store)) == in_time(expected.stays)
        assert world.dirty(store) == 0
        assert stored(store) == facts(reference.distinct(points))
        for track in pd.concat([pd.DataFrame(), *store.read_tracks()]).itertuples(index=False):
            ends = store.points_of(track).iloc[[0, -1]][["time_ms", "lon", "lat"]].to_numpy().tolist()
            assert ends == [
                [track.started_ms, track.start_lon, track.start_lat],
                [track.ended_ms, track.end_lon, track.end_lat],
            ]
        made = world.rows(store, "tracks"), world.rows(store, "segments")
        for day in {world.day(point) for point in points}:
            world.generate(store, [day])
        assert (world.rows(store, "tracks"), world.rows(store, "segments")) == made


@slow
@given(tied(), strategies.settings_of_rest())
def test_the_library_gives_the_reference(points, rules: Settings) -> None:
    expected = reference.timeline(points, rules)
    frame = pd.DataFrame(points, columns=Point._fields)
    tracks, stays = tg.tracks(frame, rules), tg.stays(frame, rules)
    assert dict(zip(tracks["track_id"], tracks["distance_m"], strict=True)) == {
        track.track_id: track.length_mm / 1000 for track in expected.tracks
    }
    assert dict(zip(stays["stay_id"], stays["ongoing"], strict=True)) == {
        stay.stay_id: stay.is_ongoing for stay in expected.stays
    }


@slow
@given(points=tied(), rules=strategies.settings_of_rest())
def test_postgresql_holds_the_same_rows(databases: postgres.Databases, points, rules: Settings) -> None:
    held = []
    with tempfile.TemporaryDirectory() as folder:
        for url in (f"sqlite:///{folder}/trackgen.db", databases.new()):
            store = Store(Database(url))
            for user in sorted({point.user for point in points}):
                store.set_settings(user, rules.model_dump())
            for batch in (points[1::2], points[::2], points[:5]):
                world.add(store, batch)
            world.generate(store)
            held.append([sorted(world.rows(store, name), key=repr) for name in ("points", *world.RESULTS)])
            held[-1] += [pd.concat([pd.DataFrame(), *read()]) for read in (store.read_tracks, store.read_stays)]
            store.database.close()
    for one, other in zip(*held, strict=True):
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(one, other)
        else:
            assert one == other


def in_time(items: Iterable[Track] | Iterable[Stay]) -> list[Track | Stay]:
    """Items in the order of time; of one instant, where their order is not told, by their digits."""
    return sorted(items, key=lambda item: (item.user, item.device, item.started_ms, item.ended_ms, repr(item)))


def stored(store: Store) -> list[tuple[object, ...]]:
    frames = [*store.read_all_points()]
    frame = pd.concat(frames) if frames else pd.DataFrame(columns=FACTS)
    return list(frame[FACTS].itertuples(index=False, name=None))


FACTS = ["user", "device", "time_ms", "lon", "lat", "seq", "pause", "activity"]


def facts(points: list[Point]) -> list[tuple[object, ...]]:
    return [tuple(getattr(point, name) for name in FACTS) for point in points]


def test_a_walk_west_with_four_points_a_second_is_no_zigzag(tmp_path: Path) -> None:
    rows = [f"{T0 + n // 4},{8.5 - n * 5e-6:.6f},47.1" for n in range(1200)]
    store = world.open_store(tmp_path)
    path = save(tmp_path, "\n".join(["timestamp,lon,lat", *rows]))
    assert bring(store, path).total("new") == 1200
    world.generate(store)
    (track,) = world.tracks(store)
    (line,) = track.path
    assert [lon for lon, _ in line] == sorted((lon for lon, _ in line), reverse=True)
    before = stored(store)
    assert [row[5] for row in before] == [0, 1, 2, 3] * 300
    assert bring(store, path).total("new") == 0
    assert (stored(store), world.dirty(store)) == (before, 0)


def test_another_order_of_the_same_points_makes_another_track(tmp_path: Path) -> None:
    """Also where a sum over the points would not see it."""
    store = world.open_store(tmp_path)
    ride = [Point("anna", "", T0 * 1000 + 20_000 * n, 8.5, 47.1 + n * 1e-3) for n in range(9)]
    ride[5:5] = [ride[4]._replace(lon=8.5 + east, seq=seq) for seq, east in ((2, -1e-4), (1, 1e-4))]
    world.add(store, ride)
    world.generate(store)
    (before,) = world.tracks(store)
    ride[5] = ride[5]._replace(seq=0)
    world.add(store, ride[5:6])
    assert world.dirty(store) > 0
    world.generate(store)
    (after,) = world.tracks(store)
    assert [after] == reference.tracks(ride, Settings())[0]
    assert after.length_mm != before.length_mm


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_batches_do_not_show_in_the_count(size: int) -> None:
    rng = np.random.default_rng(3)
    devices = rng.choice(["phone", "watch"], 50)
    times = T0 * 1000 + np.sort(rng.integers(0, 12, 50)) * 1000
    points = pd.DataFrame({"user": "ada", "device": devices, "time_ms": times})
    counter = TieCounter()
    counted = pd.concat([counter.count(points[start : start + size]) for start in range(0, 50, size)])
    expected = [
        sum(1 for m in range(n) if (devices[m], times[m]) == (devices[n], times[n])) for n in range(len(points))
    ]
    assert counted["seq"].tolist() == expected


def test_the_count_has_an_end() -> None:
    points = pd.DataFrame({"user": "ada", "device": "", "time_ms": [T0 * 1000] * (MAX_SEQ + 3)})
    assert TieCounter().count(points)["seq"].tolist()[-4:] == [MAX_SEQ - 1, *[MAX_SEQ] * 3]


def test_nothing_is_moved_where_there_are_no_ties() -> None:
    points = pd.DataFrame({"device_id": [1, 1, 2], "time_ms": [1, 2, 2], "seq": [3, 2, 1]})
    assert in_order(points) is points


def test_a_refused_point_passes_its_pause_on_to_the_next_of_its_device() -> None:
    rows = pd.DataFrame(
        {
            "user": "ada",
            "device": ["phone", "phone", "watch", "phone", "phone"],
            "time_ms": T0 * 1000 + np.arange(5),
            "lon": [8.5, np.nan, 8.5, 8.5, 8.5],
            "lat": 47.1,
            "altitude": np.nan,
            "accuracy": np.nan,
            "speed": np.nan,
            "pause": [0, 1, 0, 0, 0],
        }
    )
    points = validate(rows).points
    assert list(zip(points["device"], points["pause"], strict=True)) == [
        ("phone", 0),
        ("watch", 0),
        ("phone", 1),
        ("phone", 0),
    ]


@pytest.mark.parametrize(
    ("text", "activity"),
    [
        *((name, name) for name in ACTIVITIES),
        ("Biking", "cycle"),
        ("cycling_road", "cycle"),
        ("IN_VEHICLE", "drive"),
        ("IN_RAIL_VEHICLE", "train"),
        ("EXITING_VEHICLE", ""),
        ("automotive", "drive"),
        ("WALKING", "walk"),
        ("on_foot", "walk"),
        ("hiking", "walk"),
        ("EBikeRide", "cycle"),
        ("TrailRun", "run"),
        ("STILL", "stationary"),
        ("motorcycling", "drive"),
        ("IN_FERRY", "boat"),
        ("FLYING", "fly"),
        ("TILTING", ""),
        ("yoga", ""),
        ("9", ""),
    ],
)
def test_words_for_activities(text: str, activity: str) -> None:
    assert ACTIVITIES[activity_code(text)] == activity
