"""The real system in a folder, spoken to in the words of the reference: points in, tracks out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tests.reference import Edit, Leg, Point, Stay, Track, distinct
from trackgen_core import merging
from trackgen_core.database import Database
from trackgen_core.edits import EDIT_DTYPES
from trackgen_core.generation import make_segments, make_tracks, mark_all, plan
from trackgen_core.importing import add_points
from trackgen_core.paths import decode_path
from trackgen_core.points import MS_PER_DAY, completed
from trackgen_core.seams import connect
from trackgen_core.segmentation import segment
from trackgen_core.settings import Settings
from trackgen_core.store import Store

ALL_DAYS = (0, 100_000)

RESULTS = ("segments", "tracks", "legs", "stays", "noise", "item_days")
"""The tables of what is made of points."""


def open_store(folder: Path) -> Store:
    return Store(Database(f"sqlite:///{folder}/trackgen.db"))


def frame(points: Iterable[Point]) -> pd.DataFrame:
    return completed(pd.DataFrame(points, columns=Point._fields).assign(speed=float("nan")))


def add(store: Store, points: Iterable[Point]) -> int:
    return add_points(store, frame(points))


def delete(store: Store, points: Iterable[Point]) -> None:
    for point in points:
        store.delete_points(point.user, point.device, point.time_ms, point.time_ms + 1)


def edit(store: Store, edits: Iterable[Edit]) -> list[int]:
    """Keep edits of devices that are there, and return their numbers."""
    with store.write() as connection:
        devices = store.devices(connection).reset_index().set_index(["user", "device"])["device_id"]
        return [
            store.add_edit(
                connection, int(devices[one.user, one.device]), one.kind, one.before_ms, one.after_ms, one.mode
            )
            for one in edits
        ]


def set_settings(store: Store, rules: Mapping[str, Settings]) -> None:
    for user, settings in rules.items():
        store.set_settings(user, settings.model_dump())


def day(point: Point) -> int:
    return point.time_ms // MS_PER_DAY


def generate(
    store: Store, days: Collection[int] | None = None, stages: Collection[str] = ("segments", "tracks")
) -> None:
    """Do what is listed, or everything there is on some consecutive days."""
    lo, hi = (min(days), max(days)) if days else ALL_DAYS
    for stage, make in (("segments", make_segments), ("tracks", make_tracks)):
        if stage in stages:
            if days:
                mark_all(store, stage, lo, hi)
            with store.read() as connection:
                work = store.dirty(connection, stage, lo, hi, dead=False)
            for window in plan(work):
                make(store, window)


def dirty(store: Store) -> int:
    with store.read() as connection:
        return sum(len(store.dirty(connection, stage)) for stage in ("segments", "tracks"))


def tracks(store: Store) -> list[Track]:
    with store.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM legs ORDER BY track_id, number").mappings().all()
    legs: dict[str, list[Leg]] = {}
    for row in rows:
        values = {name: row[name] for name in Leg._fields}
        legs.setdefault(row["track_id"], []).append(Leg(**values))
    found = []
    for batch in store.read_tracks():
        batch = batch.astype(object).where(batch.notna(), None)
        for row in batch.to_dict("records"):
            values = {name: row[name] for name in Track.__dataclass_fields__ if name not in ("path", "legs")}
            pieces = tuple(tuple(map(tuple, piece.tolist())) for piece in decode_path(row["path"]))
            found.append(Track(**values, legs=tuple(legs.pop(row["track_id"])), path=pieces))
    assert not legs, "of tracks that are not there"
    return found


def stays(store: Store) -> list[Stay]:
    found = []
    for batch in store.read_stays():
        rows = batch.astype(object).to_dict("records")
        found.extend(Stay(**{name: row[name] for name in Stay.__dataclass_fields__}) for row in rows)
    return found


def noise(store: Store) -> list[tuple[Point, str]]:
    """Points that are set aside, with the reason, sorted by user, device and time."""
    found = []
    for batch in store.read_all_points(noise_only=True):
        batch = batch.astype(object).where(batch.notna(), None)
        rows = batch.to_dict("records")
        found.extend((Point(**{name: row[name] for name in Point._fields}), row["noise"]) for row in rows)
    return found


def leftover(store: Store) -> int:
    """Points that are nothing, counted from the tables."""
    counts = [
        "SELECT count(*) FROM points",
        "SELECT count(*) FROM noise",
        "SELECT coalesce(sum(points), 0) FROM tracks",
        "SELECT coalesce(sum(points), 0) FROM stays",
    ]
    with store.read() as connection:
        points, *others = (connection.exec_driver_sql(query).scalar_one() for query in counts)
        return points - sum(others)


class Whole(NamedTuple):
    """What becomes of points, as `reference.timeline` says it; of leftover points only the number is known."""

    tracks: list[Track]
    stays: list[Stay]
    noise: list[tuple[Point, str]]
    leftover: int


def whole(points: Iterable[Point], rules: Settings, edits: Iterable[Edit] = ()) -> Whole:
    """Return what the library makes of the whole history of one device, without a database."""
    known = distinct(points)
    if not known:
        return Whole([], [], [], 0)
    (owner,) = {(point.user, point.device) for point in known}
    devices = pd.DataFrame([owner], columns=["user", "device"], index=[7])
    facts = [(n, 7, one.kind, one.before_ms, one.after_ms, one.mode) for n, one in enumerate(edits)]
    by_hand = pd.DataFrame(facts, columns=list(EDIT_DTYPES)).astype(EDIT_DTYPES)
    fixes = frame(known).assign(device_id=7)
    made, noise = segment(fixes, rules, by_hand)
    segments, seams = connect(made, rules, by_hand)
    stays = merging.make_stays(merging.find_chains(segments, seams), devices)
    tracks, legs = merging.make_tracks(segments, seams, devices)
    if len(made):
        ends = [(made[f"{side}_ms"], made[f"{side}_lon"], made[f"{side}_lat"]) for side in ("first", "last")]
        first, last = (tuple(column.iloc[n] for column in columns) for n, columns in zip((0, -1), ends, strict=True))
    own = [
        [
            one
            | {"user": owner[0], "device": owner[1]}
            | ({"break_reason": "start"} if (one["started_ms"], one["start_lon"], one["start_lat"]) == first else {})
            | {"is_ongoing": (one["ended_ms"], one["end_lon"], one["end_lat"]) == last}
            for one in items.astype(object).where(items.notna(), None).to_dict("records")
        ]
        for items in (tracks, stays)
    ]
    legs_of: dict[str, list[Leg]] = {}
    for row in legs.to_dict("records"):
        values = {name: row[name] for name in Leg._fields}
        legs_of.setdefault(row["track_id"], []).append(Leg(**values))
    by_key = {(one.time_ms, one.lon, one.lat): one for one in known}
    return Whole(
        [
            Track(
                **{name: one[name] for name in Track.__dataclass_fields__ if name not in ("path", "legs")},
                legs=tuple(legs_of[one["track_id"]]),
                path=tuple(tuple(map(tuple, piece.tolist())) for piece in decode_path(one["path"])),
            )
            for one in own[0]
        ],
        [Stay(**{name: one[name] for name in Stay.__dataclass_fields__}) for one in own[1]],
        [(by_key[one.time_ms, one.lon, one.lat], one.reason) for one in noise.itertuples()],
        len(known) - len(noise) - int(tracks["points"].sum() + stays["points"].sum()),
    )


def rows(store: Store, table: str) -> list[tuple[object, ...]]:
    with store.read() as connection:
        return sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {table}")), key=repr)
