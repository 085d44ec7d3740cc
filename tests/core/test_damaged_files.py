"""Files that break off, lost a byte or were never closed: what is kept of them, and what is said."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import fit_files as fit
from tests.core.files import T0, bring, places, rows_of, source_of
from trackgen_core.readers import UnreadableFile, columns, read, recognise

FIT_T0 = T0 // 1000 - fit.EPOCH_S
FIELDS = [fit.TIME, fit.LAT, fit.LON]


def records(count: int, first: int = 0) -> list[bytes]:
    """Return a definition, and so many records, a second and a tenth of a degree apart."""
    rows = range(first, first + count)
    values = [[FIT_T0 + i, fit.semicircles(47 + i / 10), fit.semicircles(8)] for i in rows]
    return [fit.definition(0, fit.RECORD, FIELDS), *(fit.data(0, FIELDS, row) for row in values)]


def seconds(rows: object) -> list[float]:
    return [time / 1000 for time, *_ in places(rows)]


RIDE = fit.file(*records(5))
NO_CHECKSUM = "it has no checksum, so damage would not be noticed"
NOT_SET = "its checksum is not set, so damage would not be noticed"
OPEN = "its header does not say how long it is; it was read to its end"


def unclosed(content: bytes) -> bytes:
    """Return a FIT file whose device has never written how long it is, nor a checksum."""
    return content[:4] + bytes(4) + content[8:12] + bytes(2) + content[14:-2]


@pytest.mark.parametrize(
    ("content", "count", "notes"),
    [
        (RIDE, 5, []),
        (RIDE[:-2], 5, [NO_CHECKSUM]),
        (RIDE[:-1], 5, [NO_CHECKSUM]),
        (RIDE[:-2] + bytes(2), 5, [NOT_SET]),
        (RIDE + bytes(16), 5, ["16 bytes behind its end were passed over"]),
        (RIDE + b"rubbish" * 20_000, 5, ["140000 bytes behind its end were passed over"]),
        (RIDE + RIDE[:8], 5, ["8 bytes behind its end were passed over"]),
        (RIDE + fit.file(*records(2, 5)), 7, []),
        (unclosed(RIDE), 5, [OPEN, NO_CHECKSUM]),
        (unclosed(RIDE) + bytes(2), 5, [OPEN, NOT_SET]),
        (unclosed(RIDE)[:-3], 4, [OPEN, "its last message is incomplete"]),
        (RIDE[:4] + bytes(4) + RIDE[8:12] + bytes(2) + RIDE[14:], 5, [OPEN, NOT_SET]),
    ],
)
def test_fit_that_was_not_closed_or_has_something_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, count: int, notes: list[str]
) -> None:
    for chunk in (1 << 16, 1, 5):
        monkeypatch.setattr("trackgen_core.readers.fit.CHUNK_BYTES", chunk)
        source = source_of(tmp_path, content, "a.fit")
        assert seconds(rows_of(source, "fit")) == list(range(count))
        if chunk > 5:
            assert source.notes[: len(notes)] == notes


def test_fit_that_says_nothing_of_its_length_may_have_a_right_checksum(tmp_path: Path) -> None:
    head = RIDE[:4] + bytes(4) + RIDE[8:12] + bytes(2)
    content = head + RIDE[14:-2]
    content += fit.crc_of(content).to_bytes(2, "little")
    source = source_of(tmp_path, content, "a.fit")
    assert len(rows_of(source)) == 5
    assert source.notes == [OPEN]


# What can be kept


GPX = "<gpx><trk><trkseg>{}</trkseg></trk></gpx>"
TRKPTS = "".join(f'<trkpt lat="{47 + i / 10}" lon="8"><time>2024-05-01T10:00:0{i}Z</time></trkpt>' for i in range(4))
TCX = (
    "<TrainingCenterDatabase><Activities><Activity><Lap><Track>{}</Track></Lap></Activity></Activities>"
    "</TrainingCenterDatabase>"
)
TRACKPOINTS = "".join(
    f"<Trackpoint><Time>2024-05-01T10:00:0{i}Z</Time><Position><LatitudeDegrees>{47 + i / 10}</LatitudeDegrees>"
    "<LongitudeDegrees>8</LongitudeDegrees></Position></Trackpoint>"
    for i in range(4)
)
PLACEMARKS = "".join(
    f"<Placemark><TimeStamp><when>2024-05-01T10:00:0{i}Z</when></TimeStamp>"
    f"<Point><coordinates>8,{47 + i / 10}</coordinates></Point></Placemark>"
    for i in range(4)
)
FEATURES = [
    {
        "type": "Feature",
        "properties": {"time": T0 / 1000 + i},
        "geometry": {"type": "Point", "coordinates": [8, 47 + i / 10]},
    }
    for i in range(4)
]
LOCATIONS = [
    {"latitudeE7": 470000000 + i * 1000000, "longitudeE7": 80000000, "timestampMs": T0 + i * 1000} for i in range(4)
]
POSITIONS = [{"deviceId": 1, "fixTime": T0 + i * 1000, "latitude": 47 + i / 10, "longitude": 8} for i in range(4)]
CSV = "ts,lat,lon\n" + "".join(f"{T0 + i * 1000},{47 + i / 10},8\n" for i in range(4))

BROKEN: dict[str, tuple[str, bytes]] = {
    # Each is cut inside its fourth fix.
    "fit": ("fit", fit.file(*records(4))[:-8]),
    "fit chain": ("fit", fit.file(*records(2)) + fit.file(*records(2, 2))[:-8]),
    "gpx": ("gpx", GPX.format(TRKPTS).encode()[:-50]),
    "tcx": ("tcx", TCX.format(TRACKPOINTS).encode()[:-120]),
    "kml": ("kml", f"<kml>{PLACEMARKS}</kml>".encode()[:-60]),
    "geojson": ("geojson", json.dumps({"type": "FeatureCollection", "features": FEATURES}).encode()[:-10]),
    "google": ("google", json.dumps({"locations": LOCATIONS}).encode()[:-10]),
    "traccar": ("traccar", json.dumps(POSITIONS).encode()[:-10]),
    "quote": ("csv", (CSV + '1714557604,"47.4,8\n').encode()),
}
for name, compress in (("gzip", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
    many = CSV + "".join(
        f"{T0 + i * 1000},{47 + (i * 7919 % 997) / 1000},8.{i * 104729 % 999983}\n" for i in range(4, 90_000)
    )
    BROKEN[name] = ("csv", compress(many.encode())[:-1000])


@pytest.mark.parametrize("name", BROKEN)
def test_recover_keeps_what_is_whole_and_says_how_much(tmp_path: Path, name: str) -> None:
    format, content = BROKEN[name]
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    (strict,), points = bring(tmp_path / "strict", path)
    assert not points
    assert "before this place with --recover" in str(strict.error)
    (kept,), points = bring(tmp_path / "kept", path, recover=True)
    assert (kept.format, kept.error) == (format, None)
    assert len(points) == kept.new == kept.read
    times = sorted(point[1] for point in points)
    assert times == [T0 + i * 1000 for i in range(len(times))]
    if name in ("gzip", "bz2", "xz"):
        assert 4 < len(times) < 90_000
        whole = {tuple(line.split(",")) for line in many.splitlines()}
        assert {(str(time), repr(lat), repr(lon)) for _, time, lon, lat, *_ in points} <= {
            (time, repr(float(lat)), repr(float(lon))) for time, lat, lon in whole - {("ts", "lat", "lon")}
        }
    else:
        assert len(times) in (3, 4)
    (note,) = kept.notes
    assert note.startswith(f"the {kept.new:,} rows before damage were kept: ")
    assert str(path) not in note


def test_a_whole_file_is_the_same_with_recover(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode()))
    (report,), points = bring(tmp_path / "one", path, recover=True)
    assert (report.new, report.notes) == (4, [])
    assert points == bring(tmp_path / "other", path)[1]


def test_there_must_be_something_to_recover(tmp_path: Path) -> None:
    for content in (fit.file(*records(1))[:-12], b"<gpx><trk>", gzip.compress(CSV.encode())[:5]):
        path = tmp_path / "a.dat"
        path.write_bytes(content)
        (report,), points = bring(tmp_path / str(len(content)), path, recover=True)
        assert report.error
        assert "--recover" not in report.error
        assert not points


def test_recover_keeps_the_rows_of_a_batch_before_an_error() -> None:
    def numbers():
        yield from range(5)
        raise UnreadableFile("a: breaks off")

    found = columns.batches(numbers())
    assert next(found) == list(range(5))
    with pytest.raises(UnreadableFile):
        next(found)


# One damaged line


@pytest.mark.parametrize("damage", ["{", '{"timestamp":', "\0" * 40, '{"a": "b', "[[", "null", "}", '{"timestamp": 1,'])
@pytest.mark.parametrize("kind", ["dawarich", "owntracks", "geojson", "rec"])
def test_a_damaged_line_costs_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, damage: str) -> None:
    second = T0 // 1000
    lines = {
        "dawarich": [
            {"timestamp": second + i, "tracker_id": "a", "battery_status": 1, "longitude": 8, "latitude": 47}
            for i in range(4)
        ],
        "owntracks": [{"_type": "location", "tst": second + i, "lon": 8, "lat": 47} for i in range(4)],
        "geojson": [{**feature, "geometry": {"type": "Point", "coordinates": [8, 47]}} for feature in FEATURES],
    }
    texts = [json.dumps(line) for line in lines.get(kind, lines["owntracks"])]
    if kind == "rec":
        texts = [f"2024-05-01T10:00:00Z\t*\t{text}" for text in texts]
    texts[2] = damage
    for chunk in (1 << 18, 3):
        monkeypatch.setattr("trackgen_core.readers.values.CHUNK_CHARS", chunk)
        rows = rows_of(source_of(tmp_path, "\n".join(texts) + "\n", "a.jsonl"), "owntracks" if kind == "rec" else kind)
        found = [row for row in places(rows) if row[0] is not None]
        assert found == [(0, 8, 47), (1000, 8, 47), (3000, 8, 47)]
        assert len(rows) <= 4


# NMEA


def rmc(clock: str, date: str = "010524") -> str:
    return f"GPRMC,{clock},A,4706.000,N,00806.000,E,10.0,90.0,{date},,,A"


def gga(clock: str) -> str:
    return f"GPGGA,{clock},4706.000,N,00806.000,E,1,08,1.0,401.0,M,48.0,M,,"


def zda(clock: str, day: int = 1) -> str:
    return f"GPZDA,{clock},{day:02d},05,2024,00,00"


def signed(*bodies: str) -> str:
    lines = []
    for body in bodies:
        checksum = 0
        for character in body.encode():
            checksum ^= character
        lines.append(f"${body}*{checksum:02X}\r\n")
    return "".join(lines)


def unsigned(*bodies: str) -> str:
    return "".join(f"${body}\r\n" for body in bodies)


DAY_S = 86_400


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        (unsigned(rmc("100001"), gga("100001"), rmc("100002")), [1, 2]),
        (signed(gga("100001"), zda("100001"), gga("100002"), zda("100002")), [1, 2]),
        (signed(gga("100001"), gga("100002"), zda("100003"), gga("100003")), [1, 2, 3]),
        (signed(gga("100001"), gga("100002"), rmc("100003")), [1, 2, 3]),
        # The first day is that before the first date, if midnight lies between.
        (signed(gga("235959"), gga("000001"), rmc("100000")), [-36_001, -35_999, 0]),
        (
            signed(zda("100000"), gga("100000"), gga("235959"), gga("000000"), gga("000001")),
            [0, 50_399, 50_400, 50_401],
        ),
        # Times that are a little out of order are of the same day.
        (signed(zda("100002"), gga("100002"), gga("100001"), gga("100003")), [2, 1, 3]),
        (
            signed(zda("100000"), gga("100000"), gga("085959"), zda("090001", 2), gga("090001")),
            [0, DAY_S - 3601, DAY_S - 3599],
        ),
        (signed(gga("100001")), [None]),
    ],
)
def test_nmea_dates(tmp_path: Path, text: str, at_s: list[float | None]) -> None:
    for content in (text.encode(), text.encode("utf-16"), text.encode("utf-16-le"), b"\xef\xbb\xbf" + text.encode()):
        source = source_of(tmp_path, content, "a.log")
        rows = rows_of(source, "nmea")
        assert [time if time is None else time / 1000 for time, *_ in places(rows)] == at_s
        assert ("no RMC and no ZDA says the date" in source.notes) == (at_s == [None])


def test_nmea_without_a_checksum_among_those_that_have_one_is_damaged(tmp_path: Path) -> None:
    for text in (signed(rmc("100001")) + unsigned(rmc("100002")), unsigned(rmc("100002")) + signed(rmc("100001"))):
        rows = rows_of(source_of(tmp_path, text, "a.log"), "nmea")
        assert sorted(time or 0 for time, *_ in places(rows)) == [0, 1000]


def test_nmea_without_checksums_cut_anywhere_has_no_wrong_place(tmp_path: Path) -> None:
    text = unsigned(rmc("100001"), rmc("100002"))
    for length in range(len(text) // 2, len(text) - 1):
        rows = rows_of(source_of(tmp_path, text[:length], "a.log"), "nmea")
        known = [place for place in places(rows) if place[0] is not None]
        assert [lat for *_, lat in known] == pytest.approx([47.1] * len(known))
        assert len(known) in (1, 2)


def test_nothing_of_nmea_is_recognised_in_other_texts(tmp_path: Path) -> None:
    for text in ("$GPRMC,100001,A\r\n", "$GPGGA,what,,,,,,,,,,,,,\r\n", "see $GPRMC,100001 there\n"):
        assert recognise(source_of(tmp_path, text, "a.log")) is None


def test_parquet_that_breaks_off_cannot_be_recovered(tmp_path: Path) -> None:
    table = pa.table({"time": pa.array([T0] * 1000), "lon": pa.array([8.0] * 1000), "lat": pa.array([47.0] * 1000)})
    pq.write_table(table, tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    source = source_of(tmp_path, content[: len(content) // 2], "b.parquet", recover=True)
    with pytest.raises(UnreadableFile, match="damaged or break off"):
        list(read(source, "parquet"))
