"""Recordings of real people and vehicles, whose tracks are known: the whole history at once, and day by day.

The recordings may not be passed on, so they are no part of the project. Set TRACKGEN_TEST_DATA to the folder that
holds them, with an `expected.json`; without them these tests are skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import reference, world
from tests.command_line import trackgen
from tests.effort import examples
from tests.reference import Point
from trackgen_core.export import export_tracks
from trackgen_core.importing import import_paths
from trackgen_core.points import day_date
from trackgen_core.settings import Settings, make_settings
from trackgen_core.store import Store

DATA = Path(os.environ.get("TRACKGEN_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
EXPECTED = DATA / "expected.json"
TOLERANCE_M = 10
"""Every link is rounded to a millimetre, and what is expected is not."""

pytestmark = pytest.mark.skipif(not EXPECTED.exists(), reason=f"no recordings in {DATA}: set TRACKGEN_TEST_DATA")


def cases() -> list[tuple[str, str]]:
    """Every file with every setting."""
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {"recordings": {"none": {}}}
    return [(file, setting) for file, settings in known.items() for setting in settings if setting != "rows"]


def expected_of(file: str, setting: str) -> dict[str, Any]:
    known = json.loads(EXPECTED.read_text())[file]
    return known[setting] | {"rows": known["rows"]}


def rules_of(setting: str) -> Settings:
    """Settings from a text such as `minutes=30 meters=500`; a distance of `off` is none. Without noise and stays."""
    values = dict(part.split("=") for part in setting.split())
    rules = {"preset": "dawarich", "minutes_between_routes": values["minutes"]}
    if values["meters"] != "off":
        rules |= {"meters_between_routes": values["meters"], "distance_rule": "strict"}
    return make_settings(rules)


def by_position(file: str, folder: Path) -> Path:
    """Write a recording with the points of one time stamp in the order of their position, as expected.json was made."""
    with gzip.open(DATA / file, "rt", newline="") as text:
        rows = csv.DictReader(text)
        ordered = sorted(
            rows, key=lambda row: (row["user"], int(row["timestamp"]), float(row["lon"]), float(row["lat"]))
        )
        with gzip.open(folder / file, "wt", newline="") as out:
            writer = csv.DictWriter(out, list(rows.fieldnames or ()))
            writer.writeheader()
            writer.writerows(ordered)
    return folder / file


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """A database for each recording: importing it once is enough, as settings and tracks can be changed."""
    found: dict[str, Store] = {}
    for file in json.loads(EXPECTED.read_text()):
        found[file] = world.open_store(tmp_path_factory.mktemp("recording"))
        report = import_paths(found[file], [by_position(file, tmp_path_factory.mktemp("ordered"))], user=None)
        assert not report.failed
        assert report.total("rejected") == 0
        assert (
            report.total("read")
            == expected_of(file, next(setting for name, setting in cases() if name == file))["rows"]
        )
    return found


def set_rules(store: Store, rules: Settings) -> None:
    for user in store.user_names():
        store.set_settings(user, rules.model_dump())


def exported(store: Store) -> bytes:
    """Everything that exports show of the tracks: statistics, and the paths."""
    out = io.BytesIO()
    for format in ("csv", "geojson"):
        export_tracks(store.read_tracks(), out, format, points_of=lambda track: pytest.fail("no points are needed"))
    return out.getvalue()


def summary(text: str) -> dict[str, Any]:
    """Count what an export in CSV says."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return {
        "tracks": len(rows),
        "points_in_tracks": sum(int(row["points"]) for row in rows),
        "distance_km": sum(float(row["distance_m"]) for row in rows) / 1000,
        "longest_h": max(float(row["duration_s"]) for row in rows) / 3600,
        "tracks_per_user": dict(Counter(row["user"] for row in rows)),
    }


def assert_expected(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name in ("tracks", "points_in_tracks", "tracks_per_user"):
        assert found[name] == expected[name], name
    assert found["distance_km"] == pytest.approx(expected["distance_km"], abs=TOLERANCE_M / 1000)
    digits = len(str(expected["longest_h"]).partition(".")[2])
    assert found["longest_h"] == pytest.approx(expected["longest_h"], abs=0.501 * 10**-digits)


def clear(store: Store) -> None:
    """Forget what was made, and list everything as work, as if it had just been imported."""
    with store.write() as connection:
        for table in (*world.RESULTS, "dirty_days"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
        store.mark(connection, "segments", store.days_with_points(connection))


@pytest.mark.parametrize(("file", "setting"), cases())
def test_tracks_are_as_expected(stores: dict[str, Store], file: str, setting: str) -> None:
    store = stores[file]
    clear(store)
    set_rules(store, rules_of(setting))
    world.generate(store)
    assert_expected(summary(exported(store).partition(b'{"type"')[0].decode()), expected_of(file, setting))
    assert world.dirty(store) == 0


@pytest.mark.parametrize(("file", "setting"), cases()[:: max(1, len(cases()) // examples(4))])
def test_tracks_are_the_same_day_by_day(stores: dict[str, Store], file: str, setting: str) -> None:
    store = stores[file]
    clear(store)
    set_rules(store, rules_of(setting))
    world.generate(store)
    at_once = exported(store)

    clear(store)
    with store.read() as connection:
        days = sorted(set(store.days_with_points(connection)["day"].tolist()))
    random.Random(f"{file} {setting}").shuffle(days)
    for day in days:
        world.generate(store, [day])
    # Tracks of a day are final when the days beside it have their segments, and that is what the list is for.
    world.generate(store, stages=["tracks"])
    assert exported(store) == at_once
    assert world.dirty(store) == 0


@pytest.mark.parametrize("file", sorted({file for file, _ in cases()}))
def test_changed_settings_replace_what_was_made_by_others(stores: dict[str, Store], file: str) -> None:
    store = stores[file]
    settings = [setting for name, setting in cases() if name == file]
    for setting in (*settings[::-1], settings[-1]):
        set_rules(store, rules_of(setting))
        world.generate(store)
        out = io.BytesIO()
        export_tracks(store.read_tracks(), out, "csv", points_of=lambda track: pytest.fail("no points are needed"))
        assert_expected(summary(out.getvalue().decode()), expected_of(file, setting))


def test_every_track_is_that_of_the_reference(stores: dict[str, Store]) -> None:
    file, rules = "liverpool_bus.csv.gz", Settings()
    with gzip.open(DATA / file, "rt") as text:
        points = [
            Point(row["user"], row["device"], int(row["timestamp"]) * 1000, float(row["lon"]), float(row["lat"]))
            for row in csv.DictReader(text)
        ]
    set_rules(stores[file], rules)
    world.generate(stores[file])
    assert (world.tracks(stores[file]), world.leftover(stores[file])) == reference.tracks(points, rules)


# Through the command line


def set_rules_of_all(home: Path, file: str, setting: str) -> None:
    """Set the settings before there are points; it would be a process a user, so it is done here."""
    store = world.open_store(home)
    for user in expected_of(file, setting)["tracks_per_user"]:
        store.set_settings(user, rules_of(setting).model_dump())


def test_the_command_line_gives_what_is_expected(tmp_path: Path) -> None:
    file, setting = "geolife_11_users.csv.gz", "minutes=30 meters=500"
    expected = expected_of(file, setting)
    set_rules_of_all(tmp_path, file, setting)
    ordered = tmp_path / "ordered"
    ordered.mkdir()
    report = json.loads(trackgen(tmp_path, "import", by_position(file, ordered), "--json"))
    assert (report["read"], report["rejected"]) == (expected["rows"], 0)
    made = json.loads(trackgen(tmp_path, "generate", "--json"))
    assert (made["status"], made["tracks"], made["failed_checks"]) == ("completed", expected["tracks"], [])
    assert made["points"] == report["new"] == expected["points_in_tracks"] + made["leftover"]
    assert_expected(summary(trackgen(tmp_path, "tracks", "export")), expected)


def test_the_command_line_gives_the_same_bytes_day_by_day(tmp_path: Path) -> None:
    file, setting = "geolife_modes.csv.gz", "minutes=360 meters=off"
    homes = [tmp_path / "at once", tmp_path / "day by day"]
    for home in homes:
        home.mkdir()
        set_rules_of_all(home, file, setting)
        trackgen(home, "import", DATA / file)
    trackgen(homes[0], "generate")

    store = world.open_store(homes[1])
    with store.read() as connection:
        days = sorted(set(store.days_with_points(connection)["day"].tolist()))
    assert len(days) > 5
    random.Random(5).shuffle(days)
    for day in days:
        trackgen(homes[1], "generate", "--start", day_date(day), "--end", day_date(day))
    trackgen(homes[1], "generate")
    for format in ("csv", "geojson", "gpx"):
        exports = [trackgen(home, "tracks", "export", "--format", format) for home in homes]
        assert exports[0] == exports[1]
    assert_expected(summary(trackgen(homes[1], "tracks", "export")), expected_of(file, setting))


# A single ride


def test_a_bus_ride_in_a_gpx_file(tmp_path: Path) -> None:
    file = DATA / "limerick_bus.gpx"
    points = []
    for trkpt in ET.parse(file).getroot().iterfind(".//{*}trkpt"):
        time, altitude = trkpt.findtext("{*}time"), trkpt.findtext("{*}ele")
        time_ms = round(datetime.fromisoformat(str(time)).timestamp() * 1000)
        place = float(trkpt.get("lon", "")), float(trkpt.get("lat", ""))
        points.append(Point("rider", "", time_ms, *place, None if altitude is None else float(altitude)))
    assert len(points) == 2144

    store = world.open_store(tmp_path)
    report = import_paths(store, [file], user="rider")
    assert (report.total("read"), report.total("new"), report.total("rejected")) == (2144, 2144, 0)
    world.generate(store)
    tracks = world.tracks(store)
    assert (tracks, world.leftover(store)) == reference.tracks(points, {})
    assert sum(track.points for track in tracks) + world.leftover(store) == 2144
    for track in tracks:
        assert 1 < track.length_mm / track.duration_ms * 3.6 < 120
        assert 5_000_000 < track.length_mm < 200_000_000
        assert track.elevation_gain_cm is not None
