"""Importing: every file whole or not at all, every row counted once, and the same result in any order of arrival."""

from __future__ import annotations

import gzip
import io
import random
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests import reference, world
from tests.effort import examples
from tests.reference import Point
from trackgen_core.importing import FileReport, ImportReport, Progress, import_paths
from trackgen_core.points import MAX_FUTURE_MS, POINT_DTYPES, validate
from trackgen_core.readers import columns
from trackgen_core.settings import Settings
from trackgen_core.store import Store

patient = hypothesis_settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))

T0 = 1714557600  # 2024-05-01T10:00:00Z
HEADER = "timestamp,lon,lat"
GOOD = f"{HEADER}\n" + "".join(f"{T0 + 60 * i},{8.5 + i / 1000},47.1\n" for i in range(10))
TABLES = ("points", "users", "devices", "dirty_days")

GPX_HEAD = '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
GPX_TAIL = "</trkseg></trk></gpx>"
TRKPT = '<trkpt lat="47.1" lon="8.5"><ele>400</ele><time>2024-05-01T10:00:00Z</time></trkpt>'
GPX = GPX_HEAD + TRKPT + GPX_TAIL


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return world.open_store(tmp_path)


def save(folder: Path, content: str | bytes, name: str = "points.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def bring(store: Store, *paths: Path, user: str | None = "anna", **options: str) -> ImportReport:
    """Import, and check what holds of every report."""
    before = count(store, "points")
    report = import_paths(store, paths, user=user, **options)
    for part in (*report.files, FileReport("all", **counts(report)._asdict())):
        assert part.read == part.new + part.duplicate + part.rejected
        assert min(part.read, part.new, part.duplicate, part.rejected) >= 0
        if part.path != "all":
            assert part.reasons.total() == part.rejected
    for part in (*report.failed, *(file for file in report.files if file.skipped)):
        assert part.read == part.rejected
        assert "\n" not in (part.error or "")
    assert count(store, "points") == before + report.total("new")
    return report


class Counts(NamedTuple):
    read: int
    new: int
    duplicate: int
    rejected: int


def counts(report: ImportReport) -> Counts:
    return Counts(*map(report.total, Counts._fields))


def count(store: Store, table: str) -> int:
    with store.read() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


def owners(store: Store) -> list[tuple[str, str]]:
    with store.read() as connection:
        return sorted(store.devices(connection)[["user", "device"]].itertuples(index=False, name=None))


def assert_nothing(store: Store) -> None:
    assert {table: count(store, table) for table in TABLES} == dict.fromkeys(TABLES, 0)


def assert_refused(store: Store, path: Path, *words: str) -> None:
    """Assert that a file is refused for a reason that is given, and leaves nothing behind."""
    report = bring(store, path)
    assert [bool(file.error) for file in report.files] == [True]
    for word in (str(path), *words):
        assert word in str(report.files[0].error)
    assert_nothing(store)


# Files that are refused


def some_bytes() -> bytes:
    return random.Random(3).randbytes(5000)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("points.csv", "", "empty"),
        ("points.csv", "\n\n  \n", "empty"),
        ("track.gpx", "", "empty"),
        ("points.csv", some_bytes(), "not a format"),
        ("track.gpx", some_bytes(), "not a format"),
        ("photo.jpg", b"\xff\xd8\xff\xe0" + some_bytes(), "not a format"),
        ("notes.txt", "Dear diary,\ntoday I went for a walk.\n", "not a format"),
        ("page.html", "<!DOCTYPE html><html><body>Not found</body></html>", "not a format"),
        ("doc.json", '{"name": "no geography"}', "not a format"),
        ("points.csv", "name,age\nanna,7\n", "no column for time"),
        ("points.csv", "timestamp,lon\n1714557600,8.5\n", "no column for lat"),
        ("points.csv", "timestamp,lat,longitud\n1714557600,47.1,8.5\n", "no column for lon"),
        ("points.csv", "timestamp,lon,lat,lon\n1714557600,8.5,47.1,8.5\n", "twice"),
        ("points.csv", "1714557600,8.5,47.1\n1714557660,8.5,47.1\n", "no header"),
        ("points.csv", GOOD + '1714558600,8.5,"47.1', "line 12: the file breaks off inside quotes"),
        ("points.csv", GOOD.replace("timestamp", "note,timestamp").replace("\n17", '\n"never closed,17', 1), "quotes"),
    ],
)
def test_a_file_that_cannot_be_read_leaves_nothing(
    store: Store, tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    assert_refused(store, save(tmp_path, content, name), words)


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1 if i else str()};" * 10}">' for i in range(10))
    + f"]>{GPX_HEAD}&a9;{TRKPT}{GPX_TAIL}"
)


@pytest.mark.parametrize(
    "content",
    [
        BILLION_LAUGHS,
        f'<!DOCTYPE gpx [<!ENTITY e SYSTEM "file:///etc/passwd">]>{GPX.replace("400", "&e;")}',
        f'<!DOCTYPE gpx [<!ENTITY % e SYSTEM "file:///etc/passwd"> %e;]>{GPX}',
        f'<!DOCTYPE gpx [<!ENTITY lat "47.1">]>{GPX.replace("47.1", "&lat;")}',
    ],
    ids=["bomb", "external", "external parameter", "harmless"],
)
def test_xml_with_entities_is_refused_at_once(store: Store, tmp_path: Path, content: str) -> None:
    started = time.monotonic()
    assert_refused(store, save(tmp_path, content, "track.gpx"), "declares entities", "line 1")
    assert time.monotonic() - started < 2


def test_an_external_dtd_is_not_fetched(store: Store, tmp_path: Path) -> None:
    secret = save(tmp_path, '<!ENTITY lat "47.1">', "secret.dtd")
    gpx = f'<!DOCTYPE gpx SYSTEM "{secret.as_uri()}">{GPX.replace("47.1", "&lat;")}'
    report = bring(store, save(tmp_path, gpx, "track.gpx"))
    assert report.total("new") == 0


def test_a_gpx_file_cut_at_any_byte_leaves_nothing(tmp_path: Path, store: Store) -> None:
    for size in range(1, len(GPX)):
        report = bring(store, save(tmp_path, GPX[:size], "track.gpx"))
        assert report.failed, size
    assert_nothing(store)
    assert counts(bring(store, save(tmp_path, GPX, "track.gpx"))) == Counts(read=1, new=1, duplicate=0, rejected=0)


@pytest.mark.parametrize("name", ["points.csv.gz", "track.gpx.gz"])
def test_a_gz_file_cut_at_any_byte_leaves_nothing(tmp_path: Path, store: Store, name: str) -> None:
    packed = gzip.compress((GPX if "gpx" in name else GOOD).encode())
    for size in range(1, len(packed)):
        assert bring(store, save(tmp_path, packed[:size], name)).failed, size
    assert_nothing(store)
    assert bring(store, save(tmp_path, packed, name)).total("new") == (1 if "gpx" in name else 10)


def test_a_gz_file_with_a_flipped_bit_leaves_nothing_or_is_read_rightly(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD.encode())
    right = {(T0 + 60 * i) * 1000 for i in range(10)}
    for at in range(len(packed)):
        with tempfile.TemporaryDirectory() as folder:
            store = world.open_store(Path(folder))
            bent = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
            report = bring(store, save(tmp_path, bent, "points.csv.gz"))
            if report.failed:
                assert_nothing(store)
            else:  # a bit that carries no data, as in the date of the file
                assert {row[1] for row in world.rows(store, "points")} == right


def test_a_file_that_breaks_off_after_many_batches_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 3)
    rows = "".join(f"u{i},d{i},{T0 + i},8.5,47.1\n" for i in range(40))
    bad = save(tmp_path, f'user,device,{HEADER}\n{rows}u9,"d9', "bad.csv")
    seen: list[int] = []
    report = import_paths(store, [bad], user=None, progress=lambda progress: seen.append(progress.file.read))
    assert report.failed
    assert max(seen) > 30
    assert_nothing(store)


def test_a_failing_file_does_not_touch_what_is_there(tmp_path: Path, store: Store) -> None:
    bring(store, save(tmp_path, GOOD, "good.csv"))
    world.generate(store)
    before = {table: world.rows(store, table) for table in (*TABLES, "segments", "tracks")}
    bring(store, save(tmp_path, GOOD.replace("8.5", "9.5") + '"', "bad.csv"), user="bob")
    bring(store, tmp_path / "missing.csv", user="bob")
    assert {table: world.rows(store, table) for table in before} == before


def test_a_bad_file_among_good_ones_costs_only_itself(tmp_path: Path, store: Store) -> None:
    good = save(tmp_path, GOOD, "a.csv")
    bad = save(tmp_path, GOOD.replace("47.1", "46.1") + '"', "b.csv")
    late = save(tmp_path, GOOD.replace("47.1", "45.1"), "c.csv")
    report = bring(store, good, bad, late, tmp_path / "missing.csv")
    assert counts(report) == Counts(read=20, new=20, duplicate=0, rejected=0)
    assert [bool(file.error) for file in report.files] == [False, True, False, True]


@patient
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_the_import_fail_or_leave_halves(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        report = bring(store, save(Path(folder), content), save(Path(folder), content, "track.gpx"))
        if len(report.failed) == 2:
            assert_nothing(store)


@patient
@given(data=st.data(), text=st.sampled_from([GOOD, GPX]))
def test_no_damage_makes_the_import_fail(data: st.DataObject, text: str) -> None:
    damaged = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        if bring(store, save(Path(folder), bytes(damaged))).failed:
            assert_nothing(store)


# Rows that are refused

ROWS = {
    f"{T0},8.5,47.1": None,
    f"{T0}000,8.6,47.1": None,
    "2024-05-01T12:00:00+02:00,8.7,47.1": None,
    f"{T0 + 1}.5,8.8,47.1": None,
    f"{T0},180,47.1": None,
    f"{T0},-180,47.1": None,
    f"{T0},8.5,90": None,
    f"{T0},8.5,-90": None,
    f"{T0},0,47.1": None,
    f"{T0},8.5,0": None,
    "2000-01-01T00:00:00Z,8.5,47.1": None,
    f" {T0 + 2} , 8.5 , 47.1 ": None,
    f"{T0 + 3},8.5,47.1,,,": None,
    f"{T0 + 4},8.5,47.1,nan,-1,inf": None,
    ",8.5,47.1": "no readable time",
    "soon,8.5,47.1": "no readable time",
    "NaN,8.5,47.1": "no readable time",
    "2024-02-30T00:00:00Z,8.5,47.1": "no readable time",
    "": "blank",
    f"{T0}": "no readable position",
    f"{T0},8.5": "no readable position",
    f"{T0},,47.1": "no readable position",
    f"{T0},nan,47.1": "no readable position",
    f"{T0},8.5,inf": "no readable position",
    f"{T0},-inf,47.1": "no readable position",
    f"{T0},8.5°,47.1": "no readable position",
    f"{T0},1e999,47.1": "no readable position",
    f"{T0},8.5,90.0000001": "latitude outside -90..90",
    f"{T0},8.5,-91": "latitude outside -90..90",
    f"{T0},180.0000001,47.1": "longitude outside -180..180",
    f"{T0},-181,47.1": "longitude outside -180..180",
    f"{T0},360,470": "latitude outside -90..90",
    f"{T0},0,0": "position exactly 0, 0",
    f"{T0},-0.0,0.0": "position exactly 0, 0",
    "0,8.5,47.1": "before 2000-01-01",
    "1970-01-01T00:00:00Z,8.5,47.1": "before 2000-01-01",
    "1999-12-31T23:59:59.999Z,8.5,47.1": "before 2000-01-01",
    "-1,8.5,47.1": "before 2000-01-01",
    "2199-01-01T00:00:00Z,8.5,47.1": "more than 24 h in the future",
    "9999-12-31T23:59:59Z,8.5,47.1": "more than 24 h in the future",
    f"{T0},8.5,47.1,1,2,3,4,5": "no readable time",
    f"{T0}000000000,8.9,47.1": None,
}
"""Rows, and the reason for which each is refused; a blank line is no row."""

WIDE_HEADER = f"{HEADER},altitude,accuracy,speed"


@pytest.mark.parametrize("row", list(ROWS))
def test_a_row_is_kept_or_refused_for_its_reason(store: Store, tmp_path: Path, row: str) -> None:
    report = bring(store, save(tmp_path, f"{WIDE_HEADER}\n{row}\n"))
    reason = ROWS[row]
    expected = {} if reason in (None, "blank") else {reason: 1}
    assert report.counts("reasons") == expected
    assert report.total("new") == (reason is None)
    assert bool(report.failed) == (reason is not None)
    if report.failed:
        why = "it has no rows" if reason == "blank" else f"its row was rejected (1 {reason})"
        assert str(report.failed[0].error).endswith(f": no fixes: {why}")
        assert_nothing(store)


@patient
@given(rows=st.lists(st.sampled_from(list(ROWS)), max_size=60), size=st.sampled_from([1, 7, 50_000]))
def test_good_rows_are_kept_and_bad_ones_counted_in_any_mixture(rows: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(columns, "BATCH_ROWS", size)
        store = world.open_store(Path(folder))
        report = bring(store, save(Path(folder), "\n".join([WIDE_HEADER, *rows]) + "\n"))
        reasons = Counter(ROWS[row] for row in rows)
        kept, _blank = reasons.pop(None, 0), reasons.pop("blank", 0)
        assert report.counts("reasons") == reasons
        assert report.total("new") == len({row for row in rows if ROWS[row] is None})
        assert report.total("new") + report.total("duplicate") == kept


def test_values_that_are_no_measurement_are_dropped_and_counted_and_the_fix_is_kept(
    store: Store, tmp_path: Path
) -> None:
    rows = ["400,5,1", "inf,-1,-1", "nan,,", "1e9,1e9,1e9", "-1e9,0,0", "-430.5,0,0"]
    text = "\n".join([WIDE_HEADER, *(f"{T0 + i},8.5,47.1,{row}" for i, row in enumerate(rows))])
    report = bring(store, save(tmp_path, text))
    assert counts(report) == Counts(read=6, new=6, duplicate=0, rejected=0)
    assert report.counts("ignored") == {"altitude": 2, "accuracy": 4, "speed": 2}  # an accuracy of 0 is unknown
    stored = [row[4:7] for row in sorted(world.rows(store, "points"), key=lambda row: row[1])]
    nothing = (None, None, None)
    assert stored == [(400, 5, 1), nothing, nothing, nothing, (None, None, 0), (-430.5, None, 0)]


def test_a_fix_up_to_24_hours_ahead_of_the_clock_is_kept(store: Store, tmp_path: Path) -> None:
    tomorrow = int(time.time()) + 86_400
    report = bring(store, save(tmp_path, f"{HEADER}\n{tomorrow - 60},8.5,47.1\n{tomorrow + 60},8.5,47.1\n"))
    assert counts(report) == Counts(read=2, new=1, duplicate=0, rejected=1)
    assert report.counts("reasons") == {"more than 24 h in the future": 1}


@pytest.mark.parametrize(("more_ms", "kept"), [(-1, 1), (0, 1), (1, 0)])
def test_the_limit_of_24_hours_is_exact(more_ms: int, kept: int) -> None:
    now = T0 * 1000
    point = Point("anna", "", now + MAX_FUTURE_MS + more_ms, 8.5, 47.1)
    assert len(validate(world.frame([point]), now=now).points) == kept


@pytest.mark.parametrize(
    ("first_day", "kept"), [(None, 0), ("1970-01-01", 3), ("1970-01-02", 1), ("1980-01-01", 0), ("2030-01-01", 0)]
)
def test_the_first_day_is_a_choice(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_day: str | None, kept: int
) -> None:
    if first_day:
        monkeypatch.setenv("TRACKGEN_START_DATE", first_day)
    else:
        monkeypatch.delenv("TRACKGEN_START_DATE", raising=False)
    path = save(tmp_path, f"{HEADER}\n0,8.5,47.1\n86399,8.6,47.1\n86400,8.7,47.1\n")
    assert counts(bring(store, path)) == Counts(read=3, new=kept, duplicate=0, rejected=3 - kept)


def test_the_first_second_of_1970_can_be_in_a_track(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_START_DATE", "1970-01-01")
    bring(store, save(tmp_path, f"{HEADER}\n0,8.5,47.1\n60,8.501,47.1\n"))
    world.generate(store)
    points = [Point("anna", "", 0, 8.5, 47.1), Point("anna", "", 60_000, 8.501, 47.1)]
    assert world.tracks(store) == reference.tracks(points, {})[0]


# Files that are read


def test_seconds_and_milliseconds_may_be_mixed(store: Store, tmp_path: Path) -> None:
    rows = [f"{T0},8.5,47.1", f"{T0}000,8.5,47.1", f"{T0}.0,8.5,47.1", f"{T0}001,8.5,47.1"]
    report = bring(store, save(tmp_path, "\n".join([HEADER, *rows])))
    assert counts(report) == Counts(read=4, new=2, duplicate=2, rejected=0)
    assert [row[1] for row in world.rows(store, "points")] == [T0 * 1000, T0 * 1000 + 1]


def test_a_header_without_rows_is_a_file_without_points(store: Store, tmp_path: Path) -> None:
    named = [save(tmp_path, HEADER, "in/a.csv"), save(tmp_path, GPX_HEAD + GPX_TAIL, "in/empty.gpx")]
    report = bring(store, *named)
    assert [str(file.error).partition(": ")[2] for file in report.failed] == [
        "no fixes: it has no rows",
        "no fixes: it has 1 track, but no point of a track",
    ]
    found = bring(store, tmp_path / "in")
    assert [(file.format, bool(file.skipped)) for file in found.files] == [("csv", True), ("gpx", True)]
    assert_nothing(store)


def test_a_file_twice_adds_nothing_and_lists_no_work(store: Store, tmp_path: Path) -> None:
    path = save(tmp_path, GOOD)
    assert counts(bring(store, path, path)) == Counts(read=20, new=10, duplicate=10, rejected=0)
    world.generate(store)
    assert counts(bring(store, path)) == Counts(read=10, new=0, duplicate=10, rejected=0)
    assert count(store, "dirty_days") == 0


@pytest.mark.parametrize("size", [1, 4, 50_000])
def test_duplicates_inside_a_file_are_counted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", size)
    rows = GOOD.splitlines()[1:]
    text = "\n".join([HEADER, *rows, *rows[::-1], rows[3], rows[3].replace("47.1", "47.10")])
    assert counts(bring(store, save(tmp_path, text))) == Counts(read=22, new=10, duplicate=12, rejected=0)


def with_altitudes(*altitudes: str) -> str:
    rows = (f"{T0 + 60 * i},{8.5 + i / 1000},47.1,{altitude},,{altitude}" for i, altitude in enumerate(altitudes))
    return "\n".join([WIDE_HEADER, *rows])


def test_the_same_points_with_different_altitudes_are_the_same_in_either_order(tmp_path: Path) -> None:
    one = save(tmp_path, with_altitudes("100", "", "290", "380", ""), "one.csv")
    other = save(tmp_path, with_altitudes("110", "200", "", "350", ""), "other.csv")
    results = []
    for number, (paths, generated) in enumerate([([one, other], 0), ([other, one], 0), ([one, other], 1)]):
        store = world.open_store(tmp_path / str(number))
        assert bring(store, paths[0]).total("new") == 5
        if generated:
            world.generate(store)
        assert counts(bring(store, paths[1])) == Counts(read=5, new=0, duplicate=5, rejected=0)
        assert count(store, "dirty_days") == 1
        world.generate(store)
        results.append((world.rows(store, "points"), world.tracks(store)))
    assert results[0] == results[1] == results[2]
    assert [row[4] for row in results[0][0]] == [110, 200, 290, 380, None]
    (track,) = results[0][1]
    assert (track.elevation_gain_cm, track.elevation_min_cm, track.elevation_max_cm) == (270_00, 110_00, 380_00)


def test_the_edges_of_the_map_are_two_names_of_one_meridian(store: Store, tmp_path: Path) -> None:
    rows = [f"{T0},180,0.5", f"{T0},-180,0.5", f"{T0 + 60},-179.999,0.5", f"{T0 + 120},179.999,0.5"]
    report = bring(store, save(tmp_path, "\n".join([HEADER, *rows])))
    assert counts(report) == Counts(read=4, new=4, duplicate=0, rejected=0)
    world.generate(store)
    points = [
        Point("anna", "", int(at) * 1000, float(lon), float(lat), seq=int(n == 1))
        for n, (at, lon, lat) in enumerate(row.split(",") for row in rows)
    ]
    assert world.tracks(store) == reference.tracks(points, {})[0]
    (track,) = world.tracks(store)
    assert track.points == 4
    assert track.length_mm < 400_000


@pytest.mark.parametrize("zero", ["0", "-0", "0.0", "-0.0", "0e5", "-0.0000"])
def test_all_zeros_are_one_place(store: Store, tmp_path: Path, zero: str) -> None:
    path = save(tmp_path, f"{HEADER}\n{T0},0,47.1\n{T0},{zero},47.1\n{T0},8.5,0\n{T0},8.5,{zero}\n")
    assert counts(bring(store, path)) == Counts(read=4, new=2, duplicate=2, rejected=0)
    assert "-0.0" not in repr(world.rows(store, "points"))


# Whose points they are


@pytest.mark.parametrize(
    "name", ["NA", "nan", "None", "null", "NULL", "0", "1.0", "zoë", "日本", "🚲", "a,b", "o'neil", '"']
)
def test_any_name_is_a_name(store: Store, tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    bring(store, save(tmp_path, f"user,device,{HEADER}\n{quoted},{quoted},{T0},8.5,47.1\n"), user="anna")
    assert owners(store) == [(name, name)]
    bring(store, save(tmp_path, f"{HEADER}\n{T0 + 60},8.5,47.1\n"), user=name, device=name)
    assert owners(store) == [(name, name)]
    world.generate(store)
    assert [(track.user, track.device, track.points) for track in world.tracks(store)] == [(name, name, 2)]


def test_the_file_overrides_what_is_said_beside_it(store: Store, tmp_path: Path) -> None:
    rows = [f"bob,watch,{T0},8.5,47.1", f",,{T0},8.5,47.1", f"  , ,{T0 + 1},8.5,47.1", f" bob ,,{T0},8.5,47.1"]
    path = save(tmp_path, "\n".join([f"user,device,{HEADER}", *rows]))
    assert bring(store, path, user="anna", device="phone").total("new") == 4
    assert owners(store) == [("anna", "phone"), ("bob", "phone"), ("bob", "watch")]


def test_a_missing_device_is_the_device_without_a_name(store: Store, tmp_path: Path) -> None:
    bring(store, save(tmp_path, GOOD), save(tmp_path, f"device,{HEADER}\n,{T0 - 60},8.5,47.1\n", "other.csv"))
    assert owners(store) == [("anna", "")]


@pytest.mark.parametrize("user", [None, "", "  "])
def test_points_of_nobody_are_refused(store: Store, tmp_path: Path, user: str | None) -> None:
    half_named = f"user,{HEADER}\nbob,{T0},8.5,47.1\n,{T0 + 60},8.5,47.1\n"
    report = bring(store, save(tmp_path, GOOD), save(tmp_path, half_named, "half.csv"), user=user)
    assert [file.error.count("--user") for file in report.files if file.error] == [1, 1]
    assert_nothing(store)


def test_a_name_beside_the_file_is_the_same_name_as_inside(store: Store, tmp_path: Path) -> None:
    bring(store, save(tmp_path, f"user,device,{HEADER}\n bob , watch ,{T0},8.5,47.1\n"))
    bring(store, save(tmp_path, GOOD), user=" bob ", device=" watch ")
    assert owners(store) == [("bob", "watch")]


# Folders and archives


def test_a_folder_with_junk_beside_good_files(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder, GOOD, "a.csv")
    save(folder, gzip.compress(GOOD.replace("47.1", "46.1").encode()), "deep/er/b.csv.gz")
    save(folder, GPX.replace("47.1", "45.1"), "deep/c.GPX")
    save(folder, some_bytes(), "photo.jpg")
    save(folder, "read me", "README")
    save(folder, '{"no": "geography"}', "package.json")
    save(folder, GOOD, ".hidden.csv")
    save(folder, GOOD, ".git/objects.csv")
    (folder / "empty").mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.csv").symlink_to(folder / "nowhere.csv")
    report = bring(store, folder)
    assert not report.failed
    assert counts(report) == Counts(read=21, new=21, duplicate=0, rejected=0)
    assert [Path(file.path).name for file in report.files if file.skipped] == ["README", "package.json", "photo.jpg"]


def test_a_zip_file_is_a_folder(store: Store, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", GOOD)
        archive.writestr("b/c.gpx.gz", gzip.compress(GPX.replace("47.1", "45.1").encode()))
        archive.writestr("b/bad.csv", GOOD + '"')
        archive.writestr("__MACOSX/._a.csv", some_bytes())
    report = bring(store, save(tmp_path, packed.getvalue(), "backup.zip"))
    assert counts(report) == Counts(read=11, new=11, duplicate=0, rejected=0)
    assert [Path(file.path).name for file in report.failed] == ["bad.csv"]


def test_a_cut_zip_file_leaves_nothing(store: Store, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", GOOD)
    whole = packed.getvalue()
    for size in range(1, len(whole), 7):
        assert bring(store, save(tmp_path, whole[:size], "backup.zip")).failed, size
    assert_nothing(store)


# The result


def test_files_in_any_order_and_any_pieces_give_the_same_tracks(tmp_path: Path) -> None:
    rng = random.Random(11)
    points = [
        Point(
            user, "", (T0 + 7000 * i + rng.randrange(6000)) * 1000, 8.5 + i / 50, 47.1, rng.choice([None, 100.0, 7.5])
        )
        for user in ("anna", "bob")
        for i in range(60)
    ]
    expected = reference.tracks(points, Settings(minutes_between_routes=120))
    assert len(expected[0]) > 2
    for attempt in range(3):
        rng.shuffle(points)
        store = world.open_store(tmp_path / str(attempt))
        paths = [
            save(tmp_path, frame_text(points[i : i + 25]), f"{attempt}/{rng.random()}.csv")
            for i in range(0, len(points), 20)
        ]
        assert bring(store, *paths).total("new") == len(points)
        for user in ("anna", "bob"):
            store.set_settings(user, {"minutes_between_routes": 120})
        world.generate(store)
        assert (world.tracks(store), world.leftover(store)) == expected


def frame_text(points: list[Point]) -> str:
    frame = world.frame(points).rename(columns={"time_ms": "timestamp"})
    assert list(frame) == [name.replace("time_ms", "timestamp") for name in POINT_DTYPES]
    return frame.to_csv(index=False)


def test_every_day_that_gets_points_is_listed_and_no_other(store: Store, tmp_path: Path) -> None:
    days = [19_800, 19_801, 19_850]
    rows = [f"{user},{day * 86_400 + second},8.5,47.1" for user in "ab" for day in days for second in (0, 86_399)]
    bring(store, save(tmp_path, "\n".join([f"user,{HEADER}", *rows])))
    assert listed(store) == [(day, user) for day in days for user in (1, 2)]
    world.generate(store)
    bring(store, save(tmp_path, "\n".join([f"user,{HEADER}", *rows, f"b,{19_850 * 86_400 + 5},8.5,47.1"])))
    assert listed(store) == [(19_850, 2)]


def listed(store: Store) -> list[tuple[int, int]]:
    with store.read() as connection:
        work = store.dirty(connection, "segments")
    return list(zip(work["day"].tolist(), work["user_id"].tolist(), strict=True))


def test_progress_is_told_after_every_batch(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 4)
    told: list[int] = []
    import_paths(store, [save(tmp_path, GOOD)], user="anna", progress=lambda progress: told.append(progress.file.read))
    assert told == [4, 8, 10, 10]


def test_a_batch_without_a_single_good_row_is_no_obstacle(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 2)
    rows = [*GOOD.splitlines()[1:3], *["soon,8.5,47.1"] * 4, GOOD.splitlines()[3]]
    report = bring(store, save(tmp_path, "\n".join([HEADER, *rows])))
    assert counts(report) == Counts(read=7, new=3, duplicate=0, rejected=4)


def test_what_is_stored_is_what_was_measured_to_the_last_bit(store: Store, tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    lon, lat = rng.random(500) * 360 - 180, rng.random(500) * 180 - 90
    rows = [f"{T0 + i},{x!r},{y!r}" for i, (x, y) in enumerate(zip(lon.tolist(), lat.tolist(), strict=True))]
    bring(store, save(tmp_path, "\n".join([HEADER, *rows])))
    stored = [row[2:4] for row in sorted(world.rows(store, "points"), key=lambda row: row[1])]
    assert stored == list(zip(lon.tolist(), lat.tolist(), strict=True))


# What an import would do, and how far it is


OWNED_ROWS = st.lists(
    st.tuples(st.sampled_from(["anna", "bob"]), st.sampled_from(["", "a"]), st.integers(0, 5)), max_size=6
)
SOME_FILES = st.lists(st.tuples(OWNED_ROWS, st.booleans()), min_size=1, max_size=4)


Row = tuple[str, str, int]
File = tuple[list[Row], bool]


def said(report: ImportReport) -> dict[str, object]:
    return {name: value for name, value in report.as_json().items() if name != "dry_run"}


@hypothesis_settings(max_examples=examples(20), deadline=None, suppress_health_check=list(HealthCheck))
@given(there=OWNED_ROWS, files=SOME_FILES)
def test_a_dry_run_says_what_an_import_will_do_and_changes_nothing(there: list[Row], files: list[File]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        if there:
            bring(store, save(Path(folder), table_of(there), "there.csv"))
        paths = [
            save(Path(folder), table_of(rows) + ('"' if broken else ""), f"{number}.csv")
            for number, (rows, broken) in enumerate(files)
        ]
        before = {table: world.rows(store, table) for table in TABLES}
        forecasts = [import_paths(store, paths, user=None, dry_run=True) for _ in range(2)]
        assert {table: world.rows(store, table) for table in TABLES} == before
        assert [forecast.as_json()["dry_run"] for forecast in forecasts] == [True, True]
        happened = bring(store, *paths, user=None)
        assert [said(forecast) for forecast in forecasts] == [said(happened)] * 2


def table_of(rows: list[Row]) -> str:
    lines = (f"{user},{device},{T0 + minute * 60},8.5,47.1" for user, device, minute in rows)
    return "\n".join([f"user,device,{HEADER}", *lines, "anna,,soon,8.5,47.1\n"])


def test_a_dry_run_lets_others_write(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 4)
    other = world.open_store(tmp_path)
    points = [Point("bob", "", T0 * 1000 + i, 8.5, 47.1, None, None) for i in range(4)]
    added: list[int] = []
    import_paths(
        store,
        [save(tmp_path, GOOD)],
        user="anna",
        dry_run=True,
        progress=lambda progress: added.append(world.add(other, [points[len(added)]])),
    )
    assert added == [1, 1, 1, 1]


@pytest.mark.parametrize("packed", ["plain", "gz", "zip", "zip of gz"])
def test_progress_goes_by_the_bytes_of_all_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: str
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 500)
    rng = random.Random(3)
    rows = [f"{T0 + i},{rng.uniform(8, 9)},{rng.uniform(47, 48)}" for i in range(20_000)]
    texts = ["\n".join([HEADER, *part]).encode() for part in (rows[:15_000], rows[15_000:])]
    for number, text in enumerate(texts):
        data = gzip.compress(text) if packed.endswith("gz") else text
        if packed.startswith("zip"):
            with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{number}.csv", data)
        else:
            save(tmp_path / "in", data, f"{number}.csv")
    folder = tmp_path / ("a.zip" if packed.startswith("zip") else "in")
    told: list[Progress] = []
    import_paths(store, [folder], user="anna", dry_run=True, progress=told.append)
    shares = [progress.share for progress in told]
    assert shares == sorted(shares)
    assert [progress.rows for progress in told][-1] == 20_000
    assert 0.99 < shares[-1] <= 1
    # A file is read ahead by some buffers (of gzip, 128 KB from Python 3.12 on), which is much for one so small; three
    # quarters of it are the first.
    assert len({round(share, 3) for share in shares}) >= 4
    (end_of_first,) = {p.share for p in told if p.file.path.endswith("0.csv") and p.rows == 15_000}
    assert end_of_first == pytest.approx(0.75, abs=0.01)
