"""The command line as scripts see it: real processes, exit codes, what is printed, and what is in the files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pyarrow.parquet as pq
import pytest

from tests import reference
from tests.command_line import clean_environment, run, trackgen
from tests.dagster.homes import embedded_instance
from tests.reference import Point, Track
from trackgen_core import export, readers
from trackgen_core.settings import Settings
from trackgen_dagster.cli import main

HEADER = "track_id,user,device,started_at,ended_at,points,distance_m,duration_s,avg_speed_kmh,elevation_gain_m,"
MOVING = ("moving_s", "moving_speed_kmh", "mode")
HEADER += "elevation_loss_m,elevation_min_m,elevation_max_m,break_reason"


def start(home: Path, *args: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command line as a shell would."""
    command = [sys.executable, "-m", "trackgen_dagster.cli", *map(str, args)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, env=clean_environment(home), text=True, encoding="utf-8", **options)


def fails(home: Path, *args: object, env: dict[str, str] | None = None, answer: str = "") -> str:
    """Run a command that has to fail with one clear line, and return this line."""
    done = run(home, *args, env=env, answer=answer)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"Error: \S.*\n", done.stderr), done.stderr
    return done.stderr


def save(folder: Path, content: str | bytes, name: str = "points.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def ride(user: str, device: str, at: str, count: int, *, lat: float = 47.1, climb: float | None = None) -> list[Point]:
    """A point a minute and some ms, 76 m apart."""
    return [
        Point(
            user, device, ms(at) + 60_007 * i, round(8.5 + i / 1000, 6), lat, None if climb is None else 400 + climb * i
        )
        for i in range(count)
    ]


HISTORY = [
    *ride("anna", "phone", "2024-05-01T10:00:00", 11, climb=-0.5),
    *ride("anna", "phone", "2024-05-01T12:00:00.123", 6),
    *ride("anna", "phone", "2024-05-01T12:06:30", 7, lat=57.1),
    *ride("anna", "watch", "2024-05-01T10:00:30", 1),
    *ride("anna", 'old, "broken"', "2024-05-03T08:00:00", 4, climb=2.25),
    *ride("bob", "", "2024-05-01T23:55:00", 10),
    *ride("Zoë", "phone", "2024-05-08T08:00:00", 2),
]


def csv_text(points: Sequence[Point]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["user", "device", "timestamp", "lon", "lat", "altitude", "accuracy"])
    writer.writerows(point[:7] for point in points)
    return out.getvalue()


def iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03}Z"


def centimetres(value: int | None) -> str:
    return "" if value is None else f"{value / 100:.2f}"


def track_row(track: Track) -> list[object]:
    """A track as the CSV export shows it."""
    return [
        *(track.track_id, track.user, track.device, iso(track.started_ms), iso(track.ended_ms), track.points),
        f"{track.length_mm / 1000:.3f}",
        f"{track.duration_ms / 1000:.3f}",
        f"{track.length_mm * 3.6 / track.duration_ms:.3f}",
        *map(centimetres, (track.elevation_gain_cm, track.elevation_loss_cm)),
        *map(centimetres, (track.elevation_min_cm, track.elevation_max_cm)),
        track.break_reason,
    ]


def expected_csv(points: Sequence[Point], rules: dict[str, Settings] | None = None) -> str:
    """What the reference makes of points, as the CSV export shows it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([HEADER.split(","), *map(track_row, reference.tracks(points, rules or {})[0])])
    return out.getvalue()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which everything is made, for tests that only look."""
    folder = tmp_path_factory.mktemp("made")
    trackgen(folder / "home", "import", save(folder, csv_text(HISTORY)))
    trackgen(folder / "home", "generate")
    return folder / "home"


# Help and usage


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("command", [pytest.param(path, id=" ".join(path) or "-") for path in commands(main)])
def test_help_is_there_at_once(home: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trackgen_dagster.cli", *command, "--help"],
        env=os.environ | {"TRACKGEN_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(" ".join(["Usage: trackgen", *command, ""]))
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"pandas", "numpy", "dagster", "sqlalchemy", "pyarrow", "pyproj", "pydantic"}
    assert not home.exists()


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = {"import", "generate", "tracks export", "tracks list", "settings show", "settings set", "ui", "demo"}
    wanted |= {"doctor", "points delete"}
    wanted |= {f"sessions {name}" for name in ("create", "list", "show", "watch", "cancel", "retry", "clean")}
    assert wanted <= {" ".join(path) for path in commands(main)}


@pytest.mark.parametrize(
    "args",
    [
        ["conquer"],
        ["tracks", "conquer"],
        ["import"],
        ["import", "a.csv", "--format", "shp"],
        ["import", "a.csv", "--speed", "9"],
        ["generate", "now"],
        ["generate", "--mode", "sometimes"],
        ["generate", "--start", "yesterday"],
        ["generate", "--start", "2024-02-30"],
        ["generate", "--start", "2024-05-02", "--end", "2024-05-01"],
        ["generate", "--workers", "0"],
        ["tracks", "export", "--format", "xls"],
        ["tracks", "list", "--end", "1.5.2024"],
        ["settings", "show"],
        ["settings", "set", "--user", "anna"],
        ["points", "delete"],
        ["ui", "--port", "http"],
        ["sessions", "show"],
        ["sessions", "create", "--mode", "sometimes"],
        ["sessions", "clean", "--days", "-1"],
        ["notify", "off"],
        ["metrics", "--port", "0"],
        ["edits", "split", "0123"],
        ["edits", "split", "0123", "--at", "noon"],
        ["edits", "undo", "all"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_touches_nothing(home: Path, args: list[str]) -> None:
    returncode, out, err = run(home, *args)
    assert (returncode, out) == (2, "")
    assert err.startswith("Usage: trackgen")
    assert err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in err
    assert not home.exists()


# Failures


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["generate", "--user", "eve"], "no such user: eve"),
        (["generate", "--user", "anna", "--user", "eve", "--user", "mallory"], "no such user: eve, mallory"),
        (["tracks", "list", "--json", "--user", "eve"], "no such user: eve"),
        (["tracks", "export", "--user", "eve"], "no such user: eve"),
        (["tracks", "export", "-o", "nowhere/tracks.csv"], "nowhere"),
        (["settings", "show", "--user", "eve"], "no such user: eve"),
        (["settings", "set", "--user", "anna", "minutes=5"], "there is no setting 'minutes'"),
        (["settings", "set", "--user", "anna", "minutes_between_routes"], "KEY=VALUE"),
        (["settings", "set", "--user", "anna", "minutes_between_routes=0"], "it must be at least 1"),
        (["settings", "set", "--user", "anna", "minutes_between_routes=1441"], "it must be at most 1,440"),
        (["settings", "set", "--user", "anna", "minutes_between_routes=soon"], "it must be a whole number"),
        (["settings", "set", "--user", "anna", "distance_rule=maybe"], "'strict'"),
        (["settings", "set", "--user", "anna", "meters_between_routes=1", "max_speed_kmh=-1"], "max_speed_kmh"),
        (["settings", "set", "--user", "", "meters_between_routes=1"], "name"),
        (["points", "delete", "--yes", "--user", "eve"], "no such user: eve"),
        (["import", "--user", "anna", "nowhere.csv"], "nowhere.csv: no such file"),
        (["sessions", "show", "nobody"], "trackgen sessions list"),
        (["sessions", "watch", "nobody"], "trackgen sessions list"),
        (["sessions", "cancel", "nobody"], "trackgen sessions list"),
        (["sessions", "retry", "nobody"], "trackgen sessions list"),
        (["sessions", "create", "--user", "eve"], "no such user: eve"),
        (["dead-letters", "--user", "eve"], "no such user: eve"),
        (["notify", "off", "--user", "eve"], "no such user: eve"),
        (["notify", "test"], "TRACKGEN_NOTIFY is empty"),
        (["metrics", "-o", "nowhere/metrics.prom"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_1_and_one_line(made: Path, args: list[str], words: str) -> None:
    assert words in fails(made, *args)


def test_failed_settings_change_nothing(made: Path) -> None:
    shown = trackgen(made, "settings", "show", "--user", "anna")
    fails(made, "settings", "set", "--user", "anna", "minutes_between_routes=5", "distance_rule=maybe")
    assert trackgen(made, "settings", "show", "--user", "anna") == shown


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["tracks", "list"], {"TRACKGEN_DATABASE_URL": "mysql://host/db"}, "mysql"),
        (["tracks", "list"], {"TRACKGEN_DATABASE_URL": "not a url"}, "not a url"),
        (["generate"], {"TRACKGEN_START_DATE": "soon"}, "TRACKGEN_START_DATE='soon'"),
        (["generate"], {"TRACKGEN_START_DATE": "1969-12-31"}, "1969-12-31"),
        (["generate"], {"TRACKGEN_OWNERS": "team:maps, maps"}, "TRACKGEN_OWNERS: 'maps' is no owner"),
    ],
    ids=["dialect", "url", "no date", "too early", "no owner"],
)
def test_a_wrong_environment_is_explained(home: Path, args: list[str], env: dict[str, str], words: str) -> None:
    assert words in fails(home, *args, env=env)


def test_a_home_that_cannot_be_is_explained(tmp_path: Path) -> None:
    file = save(tmp_path, "no folder", "file")
    assert str(file) in fails(file / "home", "settings", "show", "--user", "anna")
    (tmp_path / "home").mkdir()
    database = save(tmp_path, b"no database " * 100, "home/trackgen.db")
    assert str(database) in fails(tmp_path / "home", "tracks", "list")


@pytest.mark.parametrize("args", [["generate", "--user", "eve"], ["settings", "set", "--user", "anna", "x=1"]])
def test_debug_shows_the_traceback(made: Path, args: list[str]) -> None:
    returncode, _, err = run(made, *args, "--debug")
    assert returncode == 1
    assert "Traceback (most recent call last)" in err
    assert args[-1].partition("=")[0] in err.splitlines()[-1]


def test_a_reader_that_has_seen_enough_is_no_error(made: Path) -> None:
    process = start(made, "tracks", "export", stdin=subprocess.DEVNULL)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()


# import


def test_import_counts_every_row_and_reads_folders_gz_and_zip(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows = ["2024-05-01T10:00:00Z,8.5,47.1", "1714557660,8.5,47.1", "1714557660000,8.5,47.1", "soon,8.5,47.1"]
    bad = ["2024-05-01T10:02:00Z,8.5,97.1", "2024-05-01T10:02:00Z,0,0", "2024-05-01T10:02:00Z,0,0"]
    save(folder, "\n".join(["time,longitude,latitude", *rows, *bad]), "a.csv")
    save(folder, gzip.compress(csv_text(HISTORY).encode()), "b.csv.gz")
    save(folder, "read me", "README")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("deep/empty.csv", "ts,lon,lat,accuracy\n")
        archive.writestr("deep/one.csv", "ts,lon,lat,accuracy\n1714557720,8.5,47.1,-1\n")

    report = json.loads(trackgen(home, "import", folder, "--user", "carl", "--json"))
    assert set(report) >= {"read", "new", "duplicate", "rejected", "reasons", "files"}
    total = 7 + len(HISTORY) + 1
    assert [report[name] for name in ("read", "new", "duplicate", "rejected")] == [total, total - 5, 1, 4]
    reasons = {"no readable time": 1, "latitude outside -90..90": 1, "position exactly 0, 0": 2}
    assert report["reasons"] == reasons
    assert report["ignored"] == {"accuracy": 1}
    files = {Path(file["path"]).name: file for file in report["files"]}
    assert list(files) == ["README", "a.csv", "b.csv.gz", "empty.csv", "one.csv"]
    assert [file.get("format") for file in files.values()] == [None, "csv", "csv", "csv", "csv"]
    assert [file["read"] for file in files.values()] == [0, 7, len(HISTORY), 0, 1]
    assert files["a.csv"]["reasons"] == reasons
    assert files["a.csv"]["path"] == str(folder / "a.csv")

    again = trackgen(home, "import", folder, "--user", "carl")
    assert again.splitlines() == [
        f"read {total}  new 0  duplicate {total - 4}  rejected 4",
        "  rejected 1: latitude outside -90..90",
        "  rejected 1: no readable time",
        "  rejected 2: position exactly 0, 0",
        "  accuracy ignored 1 time: no possible value",
        f"  skipped {folder / 'README'}: not a format that can be read",
        f"  skipped {folder / 'c.zip/deep/empty.csv'}: no fixes: it has no rows",
    ]


def test_import_says_beforehand_what_it_would_do(home: Path, tmp_path: Path) -> None:
    locations = [{"latitudeE7": 471000000 + i, "longitudeE7": 85000000, "timestampMs": "1714557600000"} for i in (0, 1)]
    records = save(tmp_path, json.dumps({"locations": [*locations, {}]}), "Records.json")
    point = save(tmp_path, "ts,lon,lat\n1714557600000,8.5,47.1\n", "b.csv")
    args = ("import", records, point, "--user", "carl", "--dry-run")
    assert trackgen(home, *args).splitlines() == [
        "read 4  new 2  duplicate 1  rejected 1",
        "  rejected 1: no readable time",
        f"  {records} (google): read 3  new 2  duplicate 0  rejected 1",
        f"  {point} (csv): read 1  new 0  duplicate 1  rejected 0",
        "Nothing was changed: this was a dry run.",
    ]
    assert "no such user: carl" in fails(home, "settings", "show", "--user", "carl")
    forecast = json.loads(trackgen(home, *args, "--json"))
    report = json.loads(trackgen(home, *args[:-1], "--json"))
    assert (forecast.pop("dry_run"), report.pop("dry_run")) == (True, False)
    assert forecast == report


def test_import_takes_a_file_whole_or_not_at_all(home: Path, tmp_path: Path) -> None:
    anna, bob = (csv_text(ride(user, "", "2024-05-01T10:00:00", 5)) for user in ("anna", "bob"))
    good, bad = save(tmp_path, anna, "good.csv"), save(tmp_path, bob + '"', "bad.csv")
    returncode, out, err = run(home, "import", bad, good, tmp_path / "missing.csv", "--json")
    assert returncode == 1
    assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()] == [
        str(bad),
        str(tmp_path / "missing.csv"),
    ]
    report = json.loads(out)
    assert [report["read"], report["new"]] == [5, 5]
    assert ["error" in file for file in report["files"]] == [True, False, True]
    assert "no such user: bob" in fails(home, "settings", "show", "--user", "bob")
    trackgen(home, "settings", "show", "--user", "anna")


def test_import_says_whose_points_are_missing_or_where_there_are_none(home: Path, tmp_path: Path) -> None:
    nameless = save(tmp_path, "ts,lon,lat\n1714557720,8.5,47.1\n")
    assert "--user" in fails(home, "import", nameless)
    assert "--user" in fails(home, "import", nameless, "--user", "")
    (tmp_path / "empty").mkdir()
    assert "among 0 files" in fails(home, "import", tmp_path / "empty", "--user", "anna")
    assert "XML" in fails(home, "import", nameless, "--user", "anna", "--format", "gpx")


def test_import_of_a_file_that_gives_nothing_fails_with_the_reason(home: Path, tmp_path: Path) -> None:
    empty = save(tmp_path / "in", "timestamp,lon,lat\n")
    assert "no fixes: it has no rows" in fails(home, "import", empty, "--user", "anna")
    found = fails(home, "import", empty.parent, "--user", "anna")
    assert f"no points to import among 1 file ({empty}: no fixes: it has no rows)" in found
    useless = save(tmp_path, "timestamp,lon,lat\nsoon,1,2\n1,2,3\n")
    reasons = "all its 2 rows were rejected (1 no readable time, 1 before 2000-01-01)"
    assert reasons in fails(home, "import", useless, "--user", "anna")


def test_the_user_of_the_file_overrides_the_option_and_a_missing_device_is_nameless(home: Path, tmp_path: Path) -> None:
    path = save(
        tmp_path, csv_text([*ride("", "", "2024-05-01T10:00:00", 3), *ride("bob", "x", "2024-05-01T10:00:00", 2)])
    )
    trackgen(home, "import", path, "--user", "anna")
    trackgen(home, "import", path, "--user", "carl", "--device", "phone")
    trackgen(home, "generate")
    listed = json.loads(trackgen(home, "tracks", "list", "--json"))
    owners = [(track["user"], track["device"], track["points"]) for track in listed]
    assert owners == [("anna", "", 3), ("bob", "x", 2), ("carl", "phone", 3)]


# generate


SUMMARY = {"session", "mode", "users", "status", "start", "end", "days", "points", "tracks", "distance_km", "leftover"}
SUMMARY |= {"duration_s", "runs", "errors", "failed_checks"}


def test_generate_makes_the_tracks_of_the_reference_and_a_second_run_does_nothing(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    summary = json.loads(trackgen(home, "generate", "--json"))
    tracks, leftover = reference.tracks(HISTORY, {})
    assert set(summary) >= SUMMARY
    assert (summary["mode"], summary["status"], summary["users"]) == ("incremental", "completed", [])
    assert (summary["start"], summary["end"]) == ("2024-05-01", "2024-05-08")
    assert (summary["points"], summary["tracks"], summary["leftover"]) == (len(HISTORY), len(tracks), leftover)
    assert summary["distance_km"] == pytest.approx(sum(track.length_mm for track in tracks) / 1e6, abs=1e-6)
    assert (summary["errors"], summary["failed_checks"]) == ([], [])
    exported = trackgen(home, "tracks", "export")
    assert exported == expected_csv(HISTORY)

    again = json.loads(trackgen(home, "generate", "--json"))
    assert (again["status"], again["runs"], again["days"]) == ("completed", [], 0)
    assert "Nothing to do" in trackgen(home, "generate", "--workers", 1)
    for mode in ("bulk", "daily"):
        anew = json.loads(trackgen(home, "generate", "--mode", mode, "--json"))
        assert (anew["status"], anew["mode"]) == ("completed", mode)
        assert anew["days"] == (8 if mode == "bulk" else 0)
        assert trackgen(home, "tracks", "export") == exported


def test_generate_of_some_days_and_some_users(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    of_anna = [point for point in HISTORY if point.user == "anna"]
    summary = json.loads(trackgen(home, "generate", "--json", "--user", "anna", "--start", "2024-05-02"))
    assert (summary["users"], summary["start"], summary["end"]) == (["anna"], "2024-05-03", "2024-05-03")
    later = [point for point in of_anna if point.time_ms >= ms("2024-05-02")]
    assert trackgen(home, "tracks", "export") == expected_csv(later)

    out = trackgen(home, "generate", "--end", "2024-05-02", "--user", "anna", "--user", "bob")
    assert "2 days from 2024-05-01 to 2024-05-02" in out
    assert trackgen(home, "tracks", "export") == expected_csv([point for point in HISTORY if point.user != "Zoë"])
    assert "Nothing to do" in trackgen(home, "generate", "--start", "2024-05-04", "--end", "2024-05-07")
    trackgen(home, "generate")
    assert trackgen(home, "tracks", "export") == expected_csv(HISTORY)


def test_generate_before_anything_was_imported(home: Path) -> None:
    assert "Nothing to do" in trackgen(home, "generate", "--mode", "bulk")
    assert trackgen(home, "tracks", "list", "--json") == "[]\n"
    assert trackgen(home, "tracks", "export") == HEADER + "\n"


# tracks


def test_csv_is_as_the_contract_says(made: Path, tmp_path: Path) -> None:
    text = trackgen(made, "tracks", "export")
    assert text == expected_csv(HISTORY)
    header, *rows = csv.reader(io.StringIO(text))
    assert ",".join(header) == HEADER
    assert [row[1:3] + row[3:4] for row in rows] == sorted(row[1:3] + row[3:4] for row in rows)
    assert [row[-1] for row in rows if row[2] == "phone"] == ["start", "start", "time_gap", "implausible_speed"]
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row[3])
        assert re.fullmatch(r"\d+\.\d{3}", row[6])
    file = tmp_path / "tracks.csv"
    assert trackgen(made, "tracks", "export", "-o", file) == f"{len(rows)} tracks written to {file}\n"
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_tracks_of_some_users_and_days(made: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(expected_csv(HISTORY))))

    def exported(*args: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(trackgen(made, "tracks", "export", *args))))

    assert exported("--user", "bob", "--user", "Zoë") == [row for row in rows if row["user"] != "anna"]
    # A track belongs to the day on which it starts.
    on_first = [row for row in rows if row["started_at"] < "2024-05-02"]
    assert exported("--start", "2024-05-01", "--end", "2024-05-01") == on_first
    assert [row["user"] for row in on_first] == ["anna", "anna", "anna", "bob"]
    assert exported("--start", "2024-05-02", "--end", "2024-05-02") == []
    assert exported("--start", "2024-05-03", "--user", "anna") == [row for row in rows if "old" in row["device"]]


def test_geojson_gpx_and_parquet_show_the_same_tracks(made: Path, tmp_path: Path) -> None:
    tracks = reference.tracks(HISTORY, {})[0]
    ids = [track.track_id for track in tracks]
    files = {format: tmp_path / f"tracks.{format}" for format in ("geojson", "gpx", "parquet")}
    for format, file in files.items():
        trackgen(made, "tracks", "export", "--format", format, "-o", file)

    collection = json.loads(files["geojson"].read_text())
    assert collection["type"] == "FeatureCollection"
    assert [feature["id"] for feature in collection["features"]] == ids
    for feature, track in zip(collection["features"], tracks, strict=True):
        assert feature["geometry"] == {"type": "LineString", "coordinates": [list(place) for place in track.path[0]]}
        assert feature["properties"]["distance_m"] == track.length_mm / 1000
        assert feature["properties"]["started_at"] == iso(track.started_ms)

    space = {"": "http://www.topografix.com/GPX/1/1"}
    gpx = ET.parse(files["gpx"]).getroot().findall("trk", space)
    for trk, track in zip(gpx, tracks, strict=True):
        places = [
            (float(point.get("lon", "")), float(point.get("lat", ""))) for point in trk.iterfind(".//trkpt", space)
        ]
        assert tuple(places) == track.path[0]

    table = pq.read_table(files["parquet"])
    assert table.column_names == [*HEADER.split(","), *MOVING, "geometry"]
    assert table["track_id"].to_pylist() == ids
    assert table["distance_m"].to_pylist() == [track.length_mm / 1000 for track in tracks]


def test_an_exported_gpx_file_imports_as_the_same_points(made: Path, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "tracks.gpx"
    trackgen(made, "tracks", "export", "--user", "bob", "--format", "gpx", "-o", file)
    trackgen(home, "import", file, "--user", "bob")
    trackgen(home, "generate")
    assert trackgen(home, "tracks", "export") == trackgen(made, "tracks", "export", "--user", "bob")


def test_the_list_shows_every_track(made: Path) -> None:
    tracks = reference.tracks(HISTORY, {})[0]
    listed = json.loads(trackgen(made, "tracks", "list", "--json"))
    assert [list(track) for track in listed] == [[*HEADER.split(","), *MOVING]] * len(tracks)
    assert [track["track_id"] for track in listed] == [track.track_id for track in tracks]
    assert [track["duration_s"] for track in listed] == [track.duration_ms / 1000 for track in tracks]
    header, *lines = trackgen(made, "tracks", "list").splitlines()
    assert header.split()[:2] == ["id", "started"]
    assert [line[:8] for line in lines] == [track.track_id[:8] for track in tracks]
    assert [line[9:25] for line in lines] == [iso(track.started_ms)[:16].replace("T", " ") for track in tracks]
    assert [line.split()[7:9] for line in lines] == [[track.mode, track.user] for track in tracks]


# legs and edits


def test_legs_are_those_of_the_reference(made: Path, tmp_path: Path) -> None:
    legs = [(track, leg) for track in reference.tracks(HISTORY, {})[0] for leg in track.legs]
    listed = json.loads(trackgen(made, "legs", "list", "--json"))
    file = tmp_path / "legs.csv"
    trackgen(made, "legs", "export", "-o", file)
    exported = list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))
    lines = trackgen(made, "legs", "list").splitlines()[1:]
    for (track, leg), row, texts, line in zip(legs, listed, exported, lines, strict=True):
        assert list(row) == list(texts)
        assert (row["track_id"], row["mode"], row["confidence"]) == (track.track_id, leg.mode, leg.confidence)
        assert (row["started_at"], row["distance_m"]) == (iso(leg.started_ms), leg.length_mm / 1000)
        assert texts["moving_s"] == f"{leg.moving_ms / 1000:.3f}"
        assert {row["user"], leg.mode, f"{leg.confidence}%"} <= set(line.split())


def test_edits_are_followed_shown_and_forgotten(home: Path, tmp_path: Path) -> None:
    points = ride("anna", "phone", "2024-05-01T10:00:00", 21)
    trackgen(home, "import", save(tmp_path, csv_text(points)))
    trackgen(home, "generate")
    before = trackgen(home, "tracks", "export")
    (track,) = json.loads(trackgen(home, "tracks", "list", "--json"))
    said = trackgen(home, "edits", "split", track["track_id"][:8], "--at", "2024-05-01T12:10:30+02:00")
    assert said.startswith("edit 1 kept")
    trackgen(home, "edits", "set-mode", track["track_id"], "train")
    trackgen(home, "generate")
    after = json.loads(trackgen(home, "tracks", "list", "--json"))
    assert [(one["points"], one["mode"], one["break_reason"]) for one in after] == [
        (11, "train", "start"),
        (10, "train", "split"),
    ]
    assert "split by hand" in trackgen(home, "timeline", "--start", "2024-05-01")
    assert [line.split()[-3:] for line in trackgen(home, "legs", "list").splitlines()[1:]] == [
        ["hand", "anna", "phone"]
    ] * 2

    edits = json.loads(trackgen(home, "edits", "list", "--json"))
    assert [(edit["edit_id"], edit["kind"], edit["mode"]) for edit in edits] == [
        (1, "split", None),
        (2, "mode", "train"),
    ]
    assert edits[0]["before_at"] == iso(points[10].time_ms)
    assert len(trackgen(home, "edits", "list", "--user", "anna").splitlines()) == 3

    one, other = (track["track_id"] for track in after)
    assert "undo" in fails(home, "edits", "merge", one, other)
    for number in (1, 2):
        trackgen(home, "edits", "undo", number)
    assert "there is no edit 1" in fails(home, "edits", "undo", 1)
    trackgen(home, "generate")
    assert trackgen(home, "tracks", "export") == before


def test_tracks_with_a_gap_are_merged(home: Path, tmp_path: Path) -> None:
    later = ride("anna", "phone", "2024-05-01T12:00:00", 5, lat=47.2)
    trackgen(home, "import", save(tmp_path, csv_text([*ride("anna", "phone", "2024-05-01T10:00:00", 5), *later])))
    trackgen(home, "generate")
    trackgen(
        home, "edits", "merge", *(one["track_id"] for one in json.loads(trackgen(home, "tracks", "list", "--json")))
    )
    trackgen(home, "generate", "--mode", "bulk")
    (track,) = json.loads(trackgen(home, "tracks", "list", "--json"))
    assert track["points"] == 10


# settings and points


def test_settings_change_the_tracks_of_one_user(home: Path, tmp_path: Path) -> None:
    points = [*ride("anna", "", "2024-05-01T10:00:00", 5), *ride("anna", "", "2024-05-01T10:40:00", 5, lat=47.11)]
    points += [point._replace(user="bob") for point in points]
    trackgen(home, "import", save(tmp_path, csv_text(points)))
    trackgen(home, "generate")
    before = expected_csv(points)
    defaults = Settings().model_dump(mode="json")
    assert json.loads(trackgen(home, "settings", "show", "--user", "anna", "--json")) == defaults
    changed = {"minutes_between_routes": 90, "distance_rule": "strict"}
    shown = trackgen(home, "settings", "set", "--user", "anna", *(f"{name}={value}" for name, value in changed.items()))
    assert shown.splitlines()[:2] == ["minutes_between_routes=90", "gap_rule=adaptive   (default)"]
    assert json.loads(trackgen(home, "settings", "show", "--user", "anna", "--json")) == defaults | changed
    assert trackgen(home, "tracks", "export") == before
    assert json.loads(trackgen(home, "generate", "--json"))["days"] == 1
    assert trackgen(home, "tracks", "export") == expected_csv(points, {"anna": Settings(**changed)}) != before


def test_settings_may_be_there_before_the_first_point(home: Path) -> None:
    returncode, shown, err = run(home, "settings", "set", "--user", "zoë", "max_speed_kmh=120", "--json")
    assert (returncode, err) == (0, "Note: zoë is a new user, without points (known: none yet)\n")
    assert json.loads(shown) == Settings(max_speed_kmh=120).model_dump(mode="json")
    assert json.loads(trackgen(home, "settings", "show", "--user", "zoë", "--json"))["max_speed_kmh"] == 120


def test_deleting_points_shrinks_and_removes_tracks(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    trackgen(home, "generate")
    returncode, _, err = run(home, "points", "delete", "--user", "anna", answer="n\n")
    assert (returncode, err) == (1, "Aborted!\n")
    assert trackgen(home, "points", "delete", "--user", "anna", "--device", "watch", answer="y\n").endswith(
        "1 point deleted\n"
    )
    assert trackgen(home, "points", "delete", "--yes", "-u", "bob", "--start", "2024-05-02") == "5 points deleted\n"
    assert trackgen(home, "points", "delete", "--yes", "-u", "Zoë", "--end", "2024-05-08") == "2 points deleted\n"
    trackgen(home, "generate")
    gone = [point for point in HISTORY if point.user == "bob"][5:]
    rest = [point for point in HISTORY if point.device != "watch" and point.user != "Zoë" and point not in gone]
    assert trackgen(home, "tracks", "export") == expected_csv(rest)


# Sessions


def sessions(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(trackgen(home, "sessions", "list", "--json"))
    return found


def refuse(home: Path, user: str) -> None:
    """Give a user settings that nobody can read."""
    with closing(sqlite3.connect(home / "trackgen.db")) as connection, connection:
        connection.execute("UPDATE users SET settings = 'broken' WHERE name = ?", (user,))


def test_a_session_is_listed_shown_watched_and_forgotten(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    assert trackgen(home, "sessions", "list").splitlines()[1:] == []
    name = json.loads(trackgen(home, "generate", "--json"))["session"]
    (listed,) = sessions(home)
    assert (listed["session"], listed["status"], listed["percent"]) == (name, "completed", 100.0)
    shown = json.loads(trackgen(home, "sessions", "show", name[:5], "--json"))
    assert shown == listed | {"errors": []}
    assert shown["tracks_created"] == len(reference.tracks(HISTORY, {})[0])
    assert name in trackgen(home, "sessions", "list")
    assert trackgen(home, "sessions", "show", name) == trackgen(home, "sessions", "watch", name)
    assert "already" in fails(home, "sessions", "cancel", name)
    assert trackgen(home, "sessions", "retry", name) == "Nothing failed, and nothing is missing.\n"
    tracks = trackgen(home, "tracks", "export")
    assert "0 sessions" in trackgen(home, "sessions", "clean")
    assert "1 session, 2 runs and 0 backfills" in trackgen(home, "sessions", "clean", "--days", "0")
    assert sessions(home) == []
    assert trackgen(home, "tracks", "export") == tracks
    assert trackgen(home, "generate") == "Nothing to do.\n"


def test_a_session_for_the_daemon_can_be_stopped_and_done_here(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    returncode, out, err = run(home, "sessions", "create", "--user", "anna")
    assert returncode == 0
    assert "No daemon is running" in err
    (name,) = out.split()
    assert sessions(home)[0]["status"] == "pending"
    assert "bulk session" in fails(home, "generate", "--mode", "bulk")
    assert "cancelled" in trackgen(home, "sessions", "cancel", name)
    returncode, _, _ = run(home, "sessions", "watch", name)
    assert returncode == 1
    assert "completed" in trackgen(home, "sessions", "retry", name)
    of_anna = [point for point in HISTORY if point.user == "anna"]
    assert trackgen(home, "tracks", "export") == expected_csv(of_anna)


def test_what_failed_is_named_and_nothing_else_waits_for_it(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    refuse(home, "anna")
    quick = {"TRACKGEN_RETRY_SECONDS": "0.01", "TRACKGEN_ATTEMPTS": "2"}
    returncode, out, err = run(home, "generate", "--json", env=quick)
    assert returncode == 1
    assert "anna" in err
    assert "Traceback" not in err
    name = json.loads(out)["session"]
    rest = [point for point in HISTORY if point.user != "anna"]
    assert rest
    assert trackgen(home, "tracks", "export") == expected_csv(rest)

    days = sorted({iso(point.time_ms)[:10] for point in HISTORY if point.user == "anna"})
    letters = json.loads(trackgen(home, "dead-letters", "--json"))
    assert [(letter["day"], letter["user"], letter["attempts"]) for letter in letters] == [(d, "anna", 2) for d in days]
    assert len(trackgen(home, "dead-letters").splitlines()) == 1 + len(days)
    errors = json.loads(trackgen(home, "sessions", "show", name, "--json"))["errors"]
    assert {(error["kind"], *error["users"]) for error in errors} == {("data", "anna")}
    returncode, out, _ = run(home, "doctor")
    assert returncode == 1
    assert "trackgen dead-letters" in out

    trackgen(home, "settings", "set", "--user", "anna", "minutes_between_routes=30")
    assert trackgen(home, "dead-letters", "--json").strip() == "[]"
    assert "completed" in trackgen(home, "sessions", "retry", name)
    assert trackgen(home, "tracks", "export") == expected_csv(HISTORY)
    assert sessions(home)[0]["attempts"] == 2


def test_messages_and_figures(made: Path, tmp_path: Path) -> None:
    out = trackgen(made, "metrics")
    assert 'trackgen_sessions{status="completed"} 1.0' in out
    trackgen(made, "metrics", "-o", tmp_path / "trackgen.prom")
    kept = [line for line in out.splitlines() if "last_success" in line or "dirty_days" in line]
    assert set(kept) <= set((tmp_path / "trackgen.prom").read_text().splitlines())
    assert "not delivered" in fails(made, "notify", "test", env={"TRACKGEN_NOTIFY": "json://127.0.0.1:9/"})
    assert "address 1 (nonsense://...)" in fails(made, "notify", "test", env={"TRACKGEN_NOTIFY": "nonsense://secret"})
    assert trackgen(made, "notify", "off", "--user", "anna") == "Messages about anna: off\n"
    assert trackgen(made, "notify", "on", "--user", "anna") == "Messages about anna: on\n"


# The rest


def test_doctor_finds_nothing_wrong_where_all_is_well(made: Path) -> None:
    found = json.loads(trackgen(made, "doctor", "--json"))
    assert found["problems"] == []
    facts = found["facts"]
    assert facts["home"] == str(made)
    assert facts["database"] == f"sqlite:///{made / 'trackgen.db'}"
    assert facts["tracks"].startswith(f"{len(reference.tracks(HISTORY, {})[0])}, ")
    assert facts["work to do"] == "0 days of segments, 0 days of tracks"
    assert trackgen(made, "doctor").endswith("All is well.\n")


def test_doctor_says_what_is_wrong_and_what_is_to_do(home: Path, tmp_path: Path) -> None:
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)))
    assert "5 days of segments" in trackgen(home, "doctor")
    returncode, out, err = run(home, "doctor", env={"TRACKGEN_DATABASE_URL": "mysql://host/db"})
    assert returncode == 1
    assert "problem: mysql://host/db" in out
    assert "Traceback" not in err


def test_the_first_day_is_a_choice(home: Path, tmp_path: Path) -> None:
    points = ride("anna", "", "1999-12-31T23:58:00", 5)
    path = save(tmp_path, csv_text(points))
    assert "rejected 2: before 2000-01-01" in trackgen(home, "import", path)
    early = {"TRACKGEN_START_DATE": "1970-01-01"}
    assert "new 2" in trackgen(home, "import", path, env=early)
    trackgen(home, "generate", env=early)
    assert trackgen(home, "tracks", "export") == expected_csv(points)


def test_the_database_may_be_elsewhere(home: Path, tmp_path: Path) -> None:
    elsewhere = {"TRACKGEN_DATABASE_URL": f"sqlite:///{tmp_path}/else/where.db"}
    trackgen(home, "import", save(tmp_path, csv_text(HISTORY)), env=elsewhere)
    assert json.loads(trackgen(home, "generate", "--json", env=elsewhere))["points"] == len(HISTORY)
    assert trackgen(home, "tracks", "export", env=elsewhere) == expected_csv(HISTORY)
    assert trackgen(home, "tracks", "list", "--json") == "[]\n"


def test_the_demo_runs_to_its_end(home: Path) -> None:
    out = trackgen(home, "demo", "--end", "2025-08-31")
    numbers = re.search(r"read ([\d,]+)  new \1  duplicate 0  rejected 0", out)
    assert numbers
    assert re.search(rf"184 days from 2025-03-01 to 2025-08-31, {numbers[1]} points", out)
    steps = [line[:2] for line in out.splitlines() if re.match(r"\d\. ", line)]
    assert steps == ["1.", "2.", "3.", "4."]
    for user, device in (("ada", "phone"), ("ada", "watch"), ("ben", "phone"), ("chloe", "phone")):
        assert re.search(rf"{user} +{device} +[\d,]+ tracks +[\d,]+ km", out)
    assert "check failed" not in out
    assert "Nothing to do" in trackgen(home, "generate")
    assert "found in" in trackgen(home, "demo")  # and not another history on top of this one


def test_the_demo_ends_today_and_what_it_prints_can_be_typed(home: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("trackgen")
    if not program.exists():
        pytest.skip("the program is not installed")
    environment = clean_environment(home) | {"PATH": "/usr/bin:/bin"}  # an environment that nobody has activated

    def type_in(line: str) -> str:
        done = subprocess.run(line, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), line
        return done.stdout

    today = datetime.now(UTC).date()
    out = type_in(f"{program} demo")
    first, last = re.search(r"days from (\S+) to (\S+),", out).groups()  # type: ignore[union-attr]
    assert last in (str(today), str(today - timedelta(days=1)))  # shortly after midnight, nobody has moved yet
    assert first.endswith("-01")
    commands = [line.strip() for line in out.partition("Next:\n")[2].splitlines() if line.startswith("  ")]
    assert len(commands) == 8
    assert all(command.startswith(f"{program} ") for command in commands)
    printed = {command.split()[1]: type_in(command) for command in commands if command.split()[1] != "ui"}
    assert len(printed["tracks"].splitlines()) >= 1
    assert "km" in printed["report"]
    assert "completed" in printed["generate"]
    assert (tmp_path / "map.html").exists()
    with embedded_instance(home) as instance:
        days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
        for name in ("points", "segments", "tracks", "daily_summaries"):
            assert len(instance.get_materialized_partitions(dg.AssetKey(name))) == days, name


def test_formats_that_can_be_chosen_are_those_of_the_library() -> None:
    """The command line names them by itself, for loading the readers takes longer than most commands run."""
    for command, formats in (
        ("import", readers.FORMATS),
        ("tracks export", export.FORMATS),
        ("stays export", export.STAY_FORMATS),
        ("points export", export.POINT_FORMATS),
    ):
        found: click.Command = main
        for name in command.split():
            assert isinstance(found, click.Group)
            found = found.commands[name]
        (option,) = (parameter for parameter in found.params if parameter.name == "format_")
        assert isinstance(option.type, click.Choice)
        assert set(option.type.choices) == set(formats), command
