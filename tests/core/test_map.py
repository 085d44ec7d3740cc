"""The page of a map: what it holds is what is stored, and nothing in it can break out of where it is."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from tests import world
from tests.effort import examples
from tests.reference import Point
from tests.scenarios import MINUTE, SECOND, at
from trackgen_core.export import STAYS, TRACKS, objects
from trackgen_core.legs import MODES
from trackgen_core.map import SIMPLIFY_M, NothingToShow, Tiles, write_map
from trackgen_core.paths import decode_path, simplify
from trackgen_core.store import Store
from trackgen_core.timeline import timeline

WGS84 = Geod(ellps="WGS84")
DAY = at("00:00") // 86_400_000
LINES = st.lists(st.lists(st.tuples(*[st.integers(-20, 20)] * 2), min_size=2, max_size=12), min_size=1, max_size=5)
NASTY = ["</script><script>alert(1)</script>", '<!--<script>"&amp;\u2028', "a\0b", "${data} $policy"]


def journey(user: str, device: str = "phone", lon: float = 8.5, day: int = 0) -> list[Point]:
    """A rest, a walk with a corner, a winding drive, a rest; and a walk after a hole of two hours, somewhere else."""
    start, fixes, x, y = at("07:00") + day * 86_400_000, [], lon, 47.0
    rest, walk = [(0.0, 0.0)] * 60, [(0.0002, 0.0)] * 25 + [(0.0, 0.0003)] * 25
    drive = [(0.004, 0.0002 * math.sin(n)) for n in range(40)]
    for n, (by_x, by_y) in enumerate([*rest, *walk, *drive, *rest]):
        x, y = x + by_x, y + by_y
        fixes.append((start + n * 30 * SECOND, x, y))
    later = fixes[-1][0] + 130 * MINUTE
    fixes += [(later + n * 30 * SECOND, x + 0.05 + 0.0002 * n, y) for n in range(30)]
    return [Point(user, device, ms, round(a, 7), round(b, 7), None, None) for ms, a, b in fixes]


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A day of one user, for tests that only look."""
    return store_of(tmp_path_factory.mktemp("ada"), journey("ada"))


def store_of(folder: Path, points: list[Point]) -> Store:
    store = world.open_store(folder)
    world.add(store, points)
    world.generate(store)
    return store


class Reader(HTMLParser):
    """What a browser makes of a page: its scripts with their attributes and contents, and the text of the title."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.policy = self.title = self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        values = dict(attrs)
        if tag == "script":
            self.scripts.append((values, ""))
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            values, before = self.scripts[-1]
            self.scripts[-1] = values, before + data
        elif self.inside == "title":
            self.title += data


def page_of(store: Store, *args: Any, **options: Any) -> Reader:
    out = io.BytesIO()
    count = write_map(store, out, *args, **options)
    reader = Reader()
    reader.feed(out.getvalue().decode())
    assert count == (len(rows_of(reader, "track")), len(rows_of(reader, "stay")))
    return reader


def rows_of(page: Reader, kind: str) -> list[dict[str, Any]]:
    (about,) = (json.loads(text) for values, text in page.scripts if values.get("class") == "about")
    rows = [json.loads(text) for values, text in page.scripts if values.get("class") == kind]
    return [dict(zip(about["columns"][kind], row, strict=True)) for block in rows for row in block]


def drawn(line: list[int]) -> np.ndarray:
    """Lon and lat of a line of the page."""
    return np.cumsum(np.array(line[1:]).reshape(-1, 2), axis=0) / 100_000


def off(vertex: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """How far a vertex is from a straight line."""
    way, to = b - a, vertex - a
    share = np.clip(to @ way / (way @ way), 0, 1) if way.any() else 0.0
    return float(np.hypot(*(to - share * way)))


def off_m(vertex: np.ndarray, line: np.ndarray) -> float:
    """How far a place is from a line, in metres."""
    scale = 111_320 * np.array([np.cos(np.radians(vertex[1])), 1])
    return min(off(vertex * scale, a * scale, b * scale) for a, b in pairwise(line))


@settings(deadline=None, max_examples=examples(60))
@given(LINES, st.sampled_from([0.5, 1.0, 3.0]))
def test_what_is_left_out_is_near_to_what_is_drawn(lines: list[list[tuple[int, int]]], tolerance: float) -> None:
    xy = np.array([vertex for line in lines for vertex in line], float)
    ends = np.cumsum([len(line) for line in lines])
    fixed = np.zeros(len(xy), bool)
    fixed[[*ends - 1, 0, *ends[:-1]]] = True
    ones = np.ones(len(xy))
    kept = simplify(*xy.T, ones, ones, fixed, tolerance)
    assert kept[fixed].all()
    for lo, hi in zip([0, *ends[:-1]], ends, strict=True):
        needed = lo + np.flatnonzero(kept[lo:hi])
        for a, b in pairwise(needed):
            for n in range(a + 1, b):
                assert off(xy[n], xy[a], xy[b]) <= tolerance * (1 + 1e-9)
        # A line knows nothing of those beside it, and one that is straight needs nothing but its ends.
        alone = simplify(*xy[lo:hi].T, ones[lo:hi], ones[lo:hi], fixed[lo:hi], tolerance)
        assert (alone == kept[lo:hi]).all()
        if all(off(xy[n], xy[lo], xy[hi - 1]) <= tolerance for n in range(lo, hi)):
            assert kept[lo:hi].sum() == 2


def test_figures_are_those_of_the_store_and_lines_are_where_the_path_is(tmp_path: Path) -> None:
    points = journey("ada") + journey("ada", "watch", 8.9, day=1)
    store = store_of(tmp_path, points)
    page = page_of(store)
    tracks = pd.concat(store.read_tracks())
    assert len(tracks) == 4
    with store.read() as connection:
        all_legs = store.legs(connection, tracks["track_id"].tolist())
    for row, stored, path in zip(rows_of(page, "track"), objects(tracks, TRACKS), tracks["path"], strict=True):
        same = set(row) & set(stored) - {"device", "mode"}
        assert {"track_id", "distance_m", "duration_s", "moving_s", "points", "avg_speed_kmh"} <= same
        assert {name: row[name] for name in same} == {name: stored[name] for name in same}
        assert MODES[row["mode"]] == stored["mode"]
        (piece,) = decode_path(path)
        whole = np.vstack([drawn(line) for line in row["lines"]])
        assert sum(len(line) for line in row["lines"]) < len(piece)  # two numbers a vertex
        assert max(off_m(vertex, whole) for vertex in piece) < SIMPLIFY_M + 1.2

        legs = all_legs[all_legs["track_id"] == row["track_id"]]
        assert [(MODES[leg[0]], leg[3]) for leg in row["legs"]] == [
            (leg.mode, leg.length_mm / 1000) for leg in legs.itertuples()
        ]
        for number, leg in enumerate(legs.itertuples()):
            of_leg = [drawn(line) for line in row["lines"] if line[0] == number]
            long = sum(WGS84.line_length(*line.T) for line in of_leg)
            assert long == pytest.approx(leg.length_mm / 1000, abs=10)
    assert {len(row["legs"]) for row in rows_of(page, "track")} >= {1, 2}
    for row, stored in zip(rows_of(page, "stay"), objects(pd.concat(store.read_stays()), STAYS), strict=True):
        assert [row[name] for name in ("stay_id", "duration_s", "radius_m", "ongoing", "points")] == [
            stored[name] for name in ("stay_id", "duration_s", "radius_m", "ongoing", "points")
        ]
        assert (row["lon"], row["lat"]) == pytest.approx((stored["lon"], stored["lat"]), abs=1e-6)


def test_boundaries_are_told_in_the_words_of_the_time_line(ada: Store) -> None:
    page = page_of(ada)
    stay, walk, rest, last = sorted(rows_of(page, "track") + rows_of(page, "stay"), key=lambda row: row["start"])
    assert (stay["begins"], stay["ends"]) == ("first fix of this device", "left a stay")
    assert (walk["begins"], walk["ends"]) == ("left a stay", "rest of 10 min or more within 75 m")
    assert rest["ends"] == last["begins"] == "gap of 130 min > 30 min"
    assert last["ends"] == "nothing follows in these days"
    assert set(timeline(ada, ["ada"], DAY, DAY)["reason"]) - {"first of these days"} == {
        walk["begins"],
        rest["begins"],
        last["begins"],
    }


def test_what_lies_just_outside_the_days_still_explains_a_boundary(tmp_path: Path) -> None:
    points = journey("ada") + journey("ada", day=1)
    page = page_of(store_of(tmp_path, points), ["ada"], DAY + 1, DAY + 1)
    first = min(rows_of(page, "track") + rows_of(page, "stay"), key=lambda row: row["start"])
    assert re.fullmatch(r"gap of 1,\d{3} min > 30 min", first["begins"])
    assert page.title == f"ada: {(iso := str(np.datetime64(DAY + 1, 'D')))} to {iso}"


def test_times_are_those_of_a_clock_on_the_wall(tmp_path: Path) -> None:
    store = store_of(tmp_path, journey("ada"))
    store.set_settings("ada", {"timezone": "Asia/Tokyo"})
    world.generate(store)
    shown = [row["start"] for row in rows_of(page_of(store), "track")]
    assert shown == [row.started_ms // 1000 + 9 * 3600 for batch in store.read_tracks() for row in batch.itertuples()]


def test_a_track_over_the_antimeridian_is_two_lines(tmp_path: Path) -> None:
    lons = [179.9 + 0.002 * n for n in range(100)]
    points = [
        Point("ada", "", at("07:00") + n * MINUTE, round((lon + 180) % 360 - 180, 6), 10.0, None, None)
        for n, lon in enumerate(lons)
    ]
    (track,) = rows_of(page_of(store_of(tmp_path, points)), "track")
    east, west = (drawn(line) for line in track["lines"])
    assert (east[0, 0], east[-1, 0], west[0, 0]) == (179.9, 180.0, -180.0)
    assert west[-1, 0] == pytest.approx(lons[-1] - 360, abs=1e-5)
    assert track["distance_m"] == pytest.approx(WGS84.inv(lons[0], 10, lons[-1], 10)[2], rel=1e-3)


def test_a_name_stays_a_name(tmp_path: Path) -> None:
    page = page_of(store_of(tmp_path, [point for name in NASTY for point in journey(name, name)]))
    kinds = [values.get("class") for values, _ in page.scripts]
    assert kinds == ["about", *["track", "stay"] * len(NASTY), None, None]
    (about,) = (json.loads(text) for values, text in page.scripts if values.get("class") == "about")
    assert about["devices"] == [[name, name, "UTC"] for name in NASTY]
    day = np.datetime64(DAY, "D")
    assert page.title.replace("\ufffd", "\0") == f"{', '.join(sorted(NASTY))}: {day} to {day}"


def test_only_the_servers_of_tiles_are_asked(ada: Store) -> None:
    assert page_of(ada).policy.count("http") == 0
    tiles = Tiles("https://{s}.tiles.example.org:8443/{z}/{x}/{y}.png", '<b>"them"</b>')
    policy = dict(part.split(" ", 1) for part in page_of(ada, tiles=tiles).policy.split("; "))
    assert policy["img-src"].split() == ["data:", *(f"https://{s}.tiles.example.org:8443" for s in "abc")]
    assert policy["default-src"] == "'none'"
    for url in ("https://example.org/tiles", "file:///{z}/{x}/{y}", "https://a;b/{z}/{x}/{y}", "//h/{z}/{x}/{y}"):
        with pytest.raises(ValueError, match="is no template of tiles"):
            page_of(ada, tiles=Tiles(url, "them"))


def test_where_there_is_nothing_it_is_said_what_there_is(ada: Store) -> None:
    first = last = str(np.datetime64(DAY, "D"))
    with pytest.raises(NothingToShow, match=f"of ada starts in these days; there are some from {first} to {last}"):
        page_of(ada, ["ada"], DAY - 99, DAY - 1)
    world.add(ada, [Point("ben", "", at("07:00"), 8.5, 47.0, None, None)])
    with pytest.raises(NothingToShow, match="no tracks and no stays of ben yet"):
        page_of(ada, ["ben"])
