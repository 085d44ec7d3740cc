"""FIT, TCX, KML, NMEA, Parquet, and what apps export: files as their published descriptions have them."""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fitdecode
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fit_files as fit
from tests import world
from tests.core.test_readers import assert_batches_do_not_matter, error_of, folder, rows_of, save
from tests.effort import examples
from trackgen_core.importing import import_paths
from trackgen_core.points import NO_TIME, validate
from trackgen_core.readers import FORMATS, NoFixes, UnreadableFile, columns, find_sources, read, recognise

__all__ = ["folder"]

T0 = 1714557600000  # 2024-05-01T10:00:00Z
FIT_T0 = T0 // 1000 - fit.EPOCH_S
NAN = math.nan
QUICK = settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))


def assert_columns(rows: pd.DataFrame, **expected: list[float]) -> None:
    for name, values in expected.items():
        assert rows[name].tolist() == pytest.approx(values, nan_ok=True, rel=0, abs=1e-9), name


def no_fixes(folder: Path, content: str | bytes, format: str) -> str:
    source = save(folder, content, "a.bin")
    assert recognise(source) == format
    with pytest.raises(NoFixes) as caught:
        rows_of(source, format)
    assert str(caught.value) == f"{source.path}: {caught.value.reason}"
    return caught.value.reason


# FIT

ENHANCED = [fit.TIME, fit.LAT, fit.LON, fit.ENHANCED_ALTITUDE, fit.ENHANCED_SPEED, fit.GPS_ACCURACY, fit.HEART_RATE]
PLAIN = [fit.HEART_RATE, fit.LON, fit.LAT, fit.SPEED, fit.ALTITUDE, fit.TIME]
FILE_TYPE = [(0, fit.ENUM)]
ACTIVITY = fit.definition(7, fit.FILE_ID, FILE_TYPE) + fit.data(7, FILE_TYPE, [4])
COURSE = fit.definition(7, fit.FILE_ID, FILE_TYPE) + fit.data(7, FILE_TYPE, [6])


def degrees(value: float) -> float:
    return fit.semicircles(value) * 180 / 2**31


LAT, LON = fit.semicircles(50.1), fit.semicircles(-8.1)
RIDE = fit.file(
    ACTIVITY,
    fit.definition(0, fit.RECORD, ENHANCED),
    fit.data(0, ENHANCED, [FIT_T0, LAT, LON, (434 + 500) * 5 + 4, 1500, 3, 120]),
    fit.data(0, ENHANCED, [FIT_T0 + 1, None, None, None, None, None, 121]),
    fit.data(0, ENHANCED, [FIT_T0 + 2, LAT, LON, None, None, None, None]),
    fit.definition(1, fit.RECORD, PLAIN, big_endian=True),
    fit.data(1, PLAIN, [99, LON, LAT, 2500, (500 - 12) * 5, FIT_T0 + 3], big_endian=True),
    fit.data(1, PLAIN, [99, LON, None, None, None, None], big_endian=True),
)


def test_fit(tmp_path: Path) -> None:
    source = save(tmp_path, RIDE, "a.bin")
    assert recognise(source) == "fit"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [T0, T0 + 2000, T0 + 3000, NO_TIME]
    assert_columns(
        rows,
        lon=[degrees(-8.1)] * 4,
        lat=[degrees(50.1)] * 3 + [NAN],
        altitude=[434.8, NAN, -12, NAN],
        speed=[1.5, NAN, 2.5, NAN],
        accuracy=[3, NAN, NAN, NAN],
    )
    assert set(rows["user"]) == set(rows["device"]) == {""}


def test_fit_files_one_after_the_other_and_headers_of_twelve_bytes(tmp_path: Path) -> None:
    fields = [fit.TIME, fit.LAT, fit.LON]
    parts = [
        fit.file(
            fit.definition(3, fit.RECORD, fields), fit.data(3, fields, [FIT_T0 + second, LAT, LON]), header_size=size
        )
        for second, size in ((0, 12), (1, 14))
    ]
    assert rows_of(save(tmp_path, b"".join(parts)), "fit")["time_ms"].tolist() == [T0, T0 + 1000]
    packed = save(tmp_path, gzip.compress(parts[0]), "a.fit.gz")
    assert recognise(packed) == "fit"
    assert len(rows_of(packed)) == 1


def test_fit_compressed_timestamps_roll_over(tmp_path: Path) -> None:
    start = FIT_T0 // 32 * 32 + 30
    full, short = [fit.TIME, fit.LAT, fit.LON], [fit.LAT, fit.LON]
    content = fit.file(
        fit.definition(0, fit.RECORD, full),
        fit.data(0, full, [start, LAT, LON]),
        fit.definition(1, fit.RECORD, short),
        *(fit.data(1, short, [LAT, LON], time_offset=start + after) for after in (1, 1, 3, 30, 40)),
    )
    times = rows_of(save(tmp_path, content), "fit")["time_ms"].to_numpy() // 1000 - fit.EPOCH_S - start
    assert times.tolist() == [0, 1, 1, 3, 30, 40]


def test_fit_fields_of_developers_are_not_those_of_the_profile(tmp_path: Path) -> None:
    fields = [fit.TIME, fit.LAT, fit.LON]
    identity, described = [(3, fit.UINT8)], [(0, fit.UINT8), (1, fit.UINT8), (2, fit.UINT8)]
    with_developers = bytearray(fit.definition(2, fit.RECORD, fields) + bytes((1, 0, 4, 0)))
    with_developers[0] |= 0x20
    content = fit.file(
        fit.definition(0, 207, identity),
        fit.data(0, identity, [0]),
        fit.definition(1, 206, described),
        fit.data(1, described, [0, 0, fit.SINT32]),
        bytes(with_developers),
        fit.data(2, [*fields, (0, fit.SINT32)], [FIT_T0, LAT, LON, 12345]),
    )
    assert_columns(rows_of(save(tmp_path, content), "fit"), lat=[degrees(50.1)], lon=[degrees(-8.1)])


CAMERA = [
    fit.TIME,
    (0, fit.UINT16),
    (1, fit.SINT32),
    (2, fit.SINT32),
    (3, fit.UINT32),
    (4, fit.UINT32),
    (6, fit.UINT32),
]


def test_fit_of_cameras_has_milliseconds(tmp_path: Path) -> None:
    utc = [(FIT_T0, 100, None), (FIT_T0, 900, FIT_T0)]
    booted = [(7, 250, FIT_T0), (8, 0, FIT_T0 + 2), (8, 1000, None)]
    content = b"".join(
        fit.file(
            fit.definition(0, fit.GPS_METADATA, CAMERA),
            *(fit.data(0, CAMERA, [time, ms, LAT, LON, 3000, 1500, of_gps]) for time, ms, of_gps in times),
        )
        for times in (utc, booted)
    )
    rows = rows_of(save(tmp_path, content), "fit")
    assert rows["time_ms"].tolist() == [T0 + 100, T0 + 900, T0 + 250, T0 + 1000, NO_TIME]
    assert_columns(rows[:1], lat=[degrees(50.1)], lon=[degrees(-8.1)], altitude=[100], speed=[1.5])


def test_fit_without_fixes_says_why(tmp_path: Path) -> None:
    indoor = [fit.TIME, fit.HEART_RATE]
    track = [fit.definition(0, fit.RECORD, ENHANCED), fit.data(0, ENHANCED, [FIT_T0, LAT, LON, None, None, None, None])]
    pulse = [fit.definition(0, fit.RECORD, indoor), fit.data(0, indoor, [FIT_T0, 99])]
    assert no_fixes(tmp_path, fit.file(ACTIVITY, *pulse), "fit") == "no fixes: none of its 1 records has a position"
    assert no_fixes(tmp_path, fit.file(ACTIVITY), "fit") == "no fixes: it has no records"
    assert no_fixes(tmp_path, fit.file(COURSE, *track), "fit") == "a course, planned and not recorded"


def test_fit_cut_anywhere_or_with_a_wrong_byte_cannot_be_read(tmp_path: Path) -> None:
    for length in range(1, len(RIDE) - fit.CRC_BYTES):
        assert "copy it again" in error_of(save(tmp_path, RIDE[:length]), "fit")
    for place in range(len(RIDE)):
        damaged = bytearray(RIDE)
        damaged[place] ^= 0x5A
        assert "copy it again" in error_of(save(tmp_path, bytes(damaged)), "fit")


@st.composite
def fit_bytes(draw: st.DrawFn) -> bytes:
    """Draw a file of records with any of the fields in any order, of both byte orders, some with compressed times."""
    messages, time = [ACTIVITY], draw(st.integers(FIT_T0 - 10**8, FIT_T0))
    for local in range(draw(st.integers(1, 3))):
        big_endian = draw(st.booleans())
        optional = [
            fit.ALTITUDE,
            fit.ENHANCED_ALTITUDE,
            fit.SPEED,
            fit.ENHANCED_SPEED,
            fit.GPS_ACCURACY,
            fit.HEART_RATE,
        ]
        fields = [fit.LAT, fit.LON, *draw(st.lists(st.sampled_from(optional), unique=True))]
        compressed = local > 0 and draw(st.booleans())
        fields = draw(st.permutations(fields if compressed else [*fields, fit.TIME]))
        messages.append(fit.definition(local, fit.RECORD, fields, big_endian))
        for _ in range(draw(st.integers(1, 4))):
            time += draw(st.integers(0, 31))
            values = {
                fit.TIME: time,
                fit.LAT: draw(st.integers(-(2**30), 2**30)),
                fit.LON: draw(st.integers(-(2**31), 7)),
            }
            row = [values.get(field, draw(st.none() | st.integers(0, 254))) for field in fields]
            offset = time if compressed else None
            messages.append(fit.data(local, fields, row, big_endian=big_endian, time_offset=offset))
    return fit.file(*messages)


def decoded(content: bytes) -> list[list[float]]:
    """Return what another implementation makes of the records of a file."""
    rows = []
    with fitdecode.FitReader(content, processor=None, check_crc=fitdecode.CrcCheck.RAISE) as frames:
        for frame in frames:
            if frame.frame_type == fitdecode.FIT_FRAME_DATA and frame.name == "record":
                # A plain field is expanded to the enhanced one, too, and comes before or behind a real one.
                real = sorted(frame.fields, key=lambda field: field.field_def is not None)
                known = {field.name: field.value for field in real if field.value is not None}
                place = [known.get(name, NAN) * 180 / 2**31 for name in ("position_long", "position_lat")]
                rest = [known.get(name, NAN) for name in ("enhanced_altitude", "gps_accuracy", "enhanced_speed")]
                rows.append([(known["timestamp"] + fit.EPOCH_S) * 1000, *place, *rest])
    return rows


@QUICK
@given(content=fit_bytes(), batch=st.integers(1, 5), chunk=st.integers(1, 100))
def test_fit_as_another_implementation_reads_it(folder: Path, content: bytes, batch: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BATCH_ROWS", batch)
        patch.setattr("trackgen_core.readers.fit.CHUNK_BYTES", chunk)
        rows = rows_of(save(folder, content), "fit")
    found = rows[["time_ms", "lon", "lat", "altitude", "accuracy", "speed"]].to_numpy()
    np.testing.assert_allclose(found, decoded(content), rtol=0, atol=1e-9)


# TCX

TCX_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<TrainingCenterDatabase '
    'xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2" '
    'xmlns:ns3="http://www.garmin.com/xmlschemas/ActivityExtension/v2">'
)
TCX_TAIL = "</TrainingCenterDatabase>"
TRACKPOINT = (
    "<Trackpoint><Time>2024-05-01T10:00:00.250Z</Time><Position><LatitudeDegrees>50.1</LatitudeDegrees>"
    "<LongitudeDegrees>8.1</LongitudeDegrees></Position><AltitudeMeters>12.5</AltitudeMeters>"
    "<DistanceMeters>7</DistanceMeters><HeartRateBpm><Value>99</Value></HeartRateBpm>"
    "<Extensions><ns3:TPX><ns3:Speed>1.5</ns3:Speed></ns3:TPX></Extensions></Trackpoint>"
)
INDOORS = "<Trackpoint><Time>2024-05-01T10:00:01Z</Time><HeartRateBpm><Value>99</Value></HeartRateBpm></Trackpoint>"
UNREADABLE = "<Trackpoint><Time/><Position><LatitudeDegrees>?</LatitudeDegrees></Position></Trackpoint>"


def tcx(points: str, kind: str = "Activit") -> str:
    many, one = {"Activit": ("Activities", "Activity"), "Course": ("Courses", "Course")}[kind]
    lap = f'<Lap StartTime="2024-05-01T10:00:00Z"><MaximumSpeed>9</MaximumSpeed><Track>{points}</Track></Lap>'
    return f"<{many}><{one}><Id>2024-05-01T10:00:00Z</Id>{lap}</{one}></{many}>"


TCX = TCX_HEAD + tcx(TRACKPOINT, "Course") + tcx(TRACKPOINT + INDOORS + UNREADABLE + TRACKPOINT) + TCX_TAIL


@pytest.mark.parametrize("before", ["", "          ", "\n\t "])
def test_tcx(tmp_path: Path, before: str) -> None:
    source = save(tmp_path, before + TCX, "a.bin")
    assert recognise(source) == "tcx"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [T0 + 250, NO_TIME, T0 + 250]
    assert_columns(
        rows,
        lon=[8.1, NAN, 8.1],
        lat=[50.1, NAN, 50.1],
        altitude=[12.5, NAN, 12.5],
        speed=[1.5, NAN, 1.5],
        accuracy=[NAN] * 3,
    )


def test_tcx_without_fixes_says_why(tmp_path: Path) -> None:
    assert "none of its 2 trackpoints has a position" in no_fixes(
        tmp_path, TCX_HEAD + tcx(INDOORS * 2) + TCX_TAIL, "tcx"
    )
    for content in ("", tcx(TRACKPOINT, "Course")):
        assert no_fixes(tmp_path, TCX_HEAD + content + TCX_TAIL, "tcx") == "no fixes: it holds no activity"


@pytest.mark.parametrize("format", ["tcx", "kml"])
def test_xml_cut_anywhere_breaks_off(tmp_path: Path, format: str) -> None:
    content = {"tcx": TCX, "kml": KML}[format].strip().encode()
    for length in range(1, len(content), 3):
        error_of(save(tmp_path, content[:length]), format)
    assert f"XML, but no {format.upper()}: its root element is <gpx>" in error_of(save(tmp_path, "<gpx/>"), format)


# KML


def gx_track(*pairs: tuple[str, str], mode: str = "", mixed: bool = False) -> str:
    whens = [f"<when>{when}</when>" for when, _ in pairs]
    coords = [f"<gx:coord>{coord}</gx:coord>" for _, coord in pairs]
    inner = "".join(w + c for w, c in zip(whens, coords, strict=True)) if mixed else "".join(whens + coords)
    return f"<gx:Track>{mode and f'<altitudeMode>{mode}</altitudeMode>'}{inner}</gx:Track>"


def kml(content: str) -> str:
    return (
        '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2" '
        f'xmlns:gx="http://www.google.com/kml/ext/2.2"><Document>{content}</Document></kml>'
    )


PAIRS = [("2024-05-01T10:00:00Z", "8.1 50.1 12.5"), ("2024-05-01T12:00:01.5+02:00", "8.2 50.2"), ("2024-05-01", "")]
LINE = "<Placemark><LineString><coordinates>8,50,0 9,51,0</coordinates></LineString></Placemark>"
PIN = "<Placemark><Point><coordinates>8,50,0</coordinates></Point></Placemark>"
VIEW = "<LookAt><gx:TimeStamp><when>1999-01-01T00:00:00Z</when></gx:TimeStamp></LookAt>"
STAMP = "<TimeStamp><when>2024-05-01T10:00:02Z</when></TimeStamp>"
KML = kml(
    VIEW
    + f"<Placemark>{VIEW}{gx_track(*PAIRS)}</Placemark>"
    + f"<Folder>{STAMP}{LINE}{PIN}</Folder>"
    + f"<Placemark><gx:MultiTrack>{gx_track(PAIRS[1], mode='absolute')}{gx_track(*PAIRS[:2], mixed=True)}"
    + "</gx:MultiTrack></Placemark>"
    + f"<Placemark>{VIEW}{STAMP}<Point><coordinates>\n 8.3,50.3,7 \n</coordinates></Point></Placemark>"
    + f"<Placemark>{VIEW}<Point><coordinates>8,50</coordinates></Point></Placemark>"
)
KML_TIMES = [T0, T0 + 1500, NO_TIME, T0 + 1500, T0, T0 + 1500, T0 + 2000]


def test_kml(tmp_path: Path) -> None:
    source = save(tmp_path, KML, "a.bin")
    assert recognise(source) == "kml"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == KML_TIMES
    assert_columns(
        rows,
        lon=[8.1, 8.2, NAN, 8.2, 8.1, 8.2, 8.3],
        lat=[50.1, 50.2, NAN, 50.2, 50.1, 50.2, 50.3],
        altitude=[12.5, NAN, NAN, NAN, 12.5, NAN, 7],
    )


def test_kml_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_batches_do_not_matter(save(tmp_path, KML, "a.kml"), monkeypatch)


def test_kml_of_other_prefixes_and_of_version_2_3(tmp_path: Path) -> None:
    for text in (KML.replace("gx:", "g:"), KML.replace("gx:", ""), "\n" + KML):
        assert rows_of(save(tmp_path, text), "kml")["time_ms"].tolist() == KML_TIMES


@given(st.integers(0, 4), st.integers(0, 4))
@QUICK
def test_kml_times_without_places_and_places_without_times_are_bad_rows(folder: Path, whens: int, coords: int) -> None:
    track = "<when>2024-05-01T10:00:00Z</when>" * whens + "<gx:coord>8 50 1</gx:coord>" * coords
    content = kml(f"<Placemark><gx:Track>{track}</gx:Track></Placemark><Placemark>{gx_track(PAIRS[1])}</Placemark>")
    rows = rows_of(save(folder, content), "kml")
    assert len(rows) == max(whens, coords) + 1
    valid = validate(rows)
    assert len(valid.points) == min(whens, coords) + 1
    assert rows.iloc[-1][["time_ms", "lon"]].tolist() == [T0 + 1500, 8.2]


def test_kml_altitudes_that_are_not_above_the_sea_are_unknown(tmp_path: Path) -> None:
    for mode in ("clampToGround", "relativeToGround"):
        point = f"<Point><altitudeMode>{mode}</altitudeMode><coordinates>8,50,9</coordinates></Point>"
        content = kml(gx_track(*PAIRS[:2], mode=mode) + f"<Placemark>{STAMP}{point}</Placemark>")
        rows = rows_of(save(tmp_path, content))
        assert_columns(rows, lon=[8.1, 8.2, 8], lat=[50.1, 50.2, 50], altitude=[NAN] * 3)


def test_kml_without_times_says_so(tmp_path: Path) -> None:
    assert no_fixes(tmp_path, kml(LINE * 2 + PIN), "kml") == (
        "no fixes: none of its shapes has a TimeStamp (2 LineString, 1 Point); "
        "export it as GPX, or as KML with gx:Track"
    )
    assert "it holds no gx:Track" in no_fixes(tmp_path, kml(""), "kml")


def test_kmz(tmp_path: Path) -> None:
    path = tmp_path / "tour.kmz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doc.kml", KML)
        archive.writestr("files/icon.png", b"\x89PNG\r\n\x1a\n\0")
    report = import_paths(world.open_store(tmp_path), [path], user="ada")
    assert report.total("new") == 3
    assert [file.skipped is None for file in report.files] == [True, False]


# NMEA


def sentence(body: str) -> str:
    checksum = 0
    for character in body.encode():
        checksum ^= character
    return f"${body}*{checksum:02X}\r\n"


def rmc(time: str, date: str = "010524", status: str = "A", place: str = "5006.000,N,00806.000,W") -> str:
    return sentence(f"GPRMC,{time},{status},{place},10.0,084.4,{date},,,A")


def gga(time: str, quality: int = 1, altitude: str = "12.5", place: str = "5006.000,N,00806.000,W") -> str:
    return sentence(f"GNGGA,{time},{place},{quality},08,0.9,{altitude},M,47.0,M,,")


def test_nmea_of_the_published_example(tmp_path: Path) -> None:
    content = (
        "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230324,003.1,W*61\r\n"
        "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
    )
    source = save(tmp_path, content, "a.log")
    assert recognise(source) == "nmea"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [1711197319000]
    assert_columns(
        rows, lat=[48 + 7.038 / 60], lon=[11 + 31 / 60], altitude=[545.4], speed=[22.4 * 1852 / 3600], accuracy=[NAN]
    )


def test_nmea_a_fix_of_each_instant(tmp_path: Path) -> None:
    content = (
        sentence("GPGSV,1,1,00")
        + gga("095959")  # whose day is that of the first RMC
        + "2024-05-01 10:00:00 "
        + gga("100000.00")
        + rmc("100000.00").lower().replace("gprmc", "GPRMC").upper()
        + rmc("100001.25")
        + gga("100001.25", altitude="")
        + gga("235959.5")
        + gga("000001", place="5006.000,S,00806.000,E")
        + rmc("100002", status="V")
        + gga("100003", quality=0)
        + rmc("100004", place=",,,")
        + rmc("100005", date="320124")
    )
    rows = rows_of(save(tmp_path, content))
    day = T0 - 10 * 3_600_000
    after = [T0, T0 + 1250, day + 86_399_500, day + 86_401_000, T0 + 4000, T0 + 5000]
    assert rows["time_ms"].tolist() == [T0 - 1000, *after]
    assert_columns(
        rows,
        lon=[-8.1, -8.1, -8.1, -8.1, 8.1, NAN, -8.1],
        lat=[50.1, 50.1, 50.1, 50.1, -50.1, NAN, 50.1],
        altitude=[12.5, 12.5, NAN, 12.5, 12.5, NAN, NAN],
        speed=[NAN, *[10 * 1852 / 3600] * 2, NAN, NAN, *[10 * 1852 / 3600] * 2],
    )


@pytest.mark.parametrize(
    ("time", "ms"),
    [("100000", 0), ("100000.", 0), (" 100000 ", 0), ("100000.5", 500), ("100000.0009", 0), ("100000.x", None)],
)
def test_nmea_times_of_day(tmp_path: Path, time: str, ms: int | None) -> None:
    rows = rows_of(save(tmp_path, rmc(time) + gga(time)), "nmea")
    assert rows["time_ms"].tolist() == [NO_TIME if ms is None else T0 + ms]
    assert rows["altitude"].tolist() == [12.5]


def test_nmea_a_wrong_checksum_costs_its_sentence(tmp_path: Path) -> None:
    good = rmc("100000")
    whole = len(good.rstrip())
    for place in range(1, whole - 3):
        character = "7" if good[place] != "7" else "8"
        content = rmc("095959") + good[:place] + character + good[place + 1 :]
        rows = rows_of(save(tmp_path, content), "nmea")
        assert T0 not in rows["time_ms"].tolist(), content
    for length in range(len("$GPRMC,"), whole):
        rows = rows_of(save(tmp_path, rmc("095959") + good[:length]), "nmea")
        assert rows["time_ms"].tolist() == [NO_TIME, T0 - 1000]
    assert rows_of(save(tmp_path, rmc("095959") + good[:whole]), "nmea")["time_ms"].tolist() == [T0 - 1000, T0]


def test_nmea_that_never_had_a_fix(tmp_path: Path) -> None:
    content = rmc("100000", status="V") + gga("100000", quality=0)
    assert "no fixes: the receiver never had one" in no_fixes(tmp_path, content, "nmea")
    assert recognise(save(tmp_path, "$GPRMC,123519,A,4807.038,N*00\n", "a.log")) is None


# Parquet


def parquet(table: pa.Table, **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


PLACES = {"Longitude": pa.array([8.1, 8.2, None]), "lat": pa.array([50.1, 50.2, 50.3])}
DATETIMES = [pd.Timestamp(T0, unit="ms"), pd.Timestamp(T0 + 1500, unit="ms"), None]


@pytest.mark.parametrize(
    "times",
    [
        pa.array(DATETIMES, pa.timestamp("ms")),
        pa.array(DATETIMES, pa.timestamp("us", "Europe/Berlin")),
        pa.array(DATETIMES, pa.timestamp("ns")),
        pa.array([T0, T0 + 1500, None], pa.int64()),
        pa.array([T0 / 1000, T0 / 1000 + 1.5, NAN], pa.float64()),
        pa.array(["2024-05-01T10:00:00Z", "2024-05-01T12:00:01.500+02:00", ""], pa.string()),
        pa.array(["2024-05-01T10:00:00Z", str(T0 + 1500), None], pa.string()).dictionary_encode(),
    ],
)
def test_parquet(tmp_path: Path, times: pa.Array) -> None:
    more = {
        "ele": pa.array([12, None, 7], pa.int32()),
        "accuracy": pa.array(["5", "x", None]),
        "speed": pa.array([1.5, NAN, None], pa.float32()),
        "device_id": pa.array([4, 5, None]),
        "user": pa.array(["ada", " bob", None]).dictionary_encode(),
        "note": pa.array([["a"], [], None]),
    }
    table = pa.table({"timestamp": times, **PLACES, **more})
    for content, name in ((parquet(table), "a.parquet"), (gzip.compress(parquet(table, row_group_size=2)), "b.gz")):
        source = save(tmp_path, content, name)
        assert recognise(source) == "parquet"
        rows = rows_of(source)
        assert rows["time_ms"].tolist() == [T0, T0 + 1500, NO_TIME]
        assert_columns(
            rows,
            lon=[8.1, 8.2, NAN],
            lat=[50.1, 50.2, 50.3],
            altitude=[12, NAN, 7],
            accuracy=[5, NAN, NAN],
            speed=[1.5, NAN, NAN],
        )
        assert rows["device"].tolist() == ["4", "5", ""]
        assert rows["user"].tolist() == ["ada", "bob", ""]


def wkb(
    lon: float, lat: float, z: float | None = None, *, order: str = "<", srid: bool = False, iso: bool = True
) -> bytes:
    kind = 1 + (0 if z is None else 1000 if iso else 0x80000000) + (0x20000000 if srid else 0)
    numbers = [lon, lat] if z is None else [lon, lat, z]
    return (
        struct.pack(f"{order}BI", order == "<", kind)
        + (struct.pack(f"{order}I", 4326) if srid else b"")
        + struct.pack(f"{order}{len(numbers)}d", *numbers)
    )


GEO = {
    "version": "1.1.0",
    "primary_column": "where",
    "columns": {"where": {"encoding": "WKB", "geometry_types": ["Point"]}},
}
WKBS = [
    wkb(8.1, 50.1),
    wkb(8.1, 50.1, 12.5),
    wkb(8.1, 50.1, 12.5, order=">"),
    wkb(8.1, 50.1, srid=True),
    wkb(8.1, 50.1, 12.5, srid=True, iso=False),
    wkb(8.1, 50.1, 12.5, order=">", iso=False),
    None,
    b"",
    wkb(8.1, 50.1)[:-1],
    struct.pack("<BII4d", 1, 2, 2, 8.1, 50.1, 8.2, 50.2),
]
HEIGHTS = [NAN, 12.5, 12.5, NAN, 12.5, 12.5]


def geoparquet(geometry: pa.Array, geo: dict[str, Any] | None = GEO) -> bytes:
    times = pa.array(range(T0, T0 + len(geometry)), pa.timestamp("ms", "UTC"))
    table = pa.table({"time": times, "where": geometry})
    return parquet(table.replace_schema_metadata({"geo": json.dumps(geo)} if geo else None))


def test_geoparquet_points_of_wkb(tmp_path: Path) -> None:
    unreadable = [NAN] * (len(WKBS) - len(HEIGHTS))
    for kind in (pa.binary(), pa.large_binary()):
        rows = rows_of(save(tmp_path, geoparquet(pa.array(WKBS, kind)), "a.parquet"))
        assert rows["time_ms"].tolist() == list(range(T0, T0 + len(WKBS)))
        assert_columns(
            rows,
            lon=[8.1] * 6 + unreadable,
            lat=[50.1] * 6 + unreadable,
            altitude=HEIGHTS + unreadable,
        )


@pytest.mark.parametrize(
    "points",
    [
        pa.array([{"x": 8.1, "y": 50.1}, None], pa.struct({"x": pa.float64(), "y": pa.float64()})),
        pa.array([[8.1, 50.1], None], pa.list_(pa.float64(), 2)),
    ],
)
def test_geoparquet_points_of_geoarrow(tmp_path: Path, points: pa.Array) -> None:
    for content in (geoparquet(points), geoparquet(points, None).replace(b"where", b"point")):
        assert_columns(rows_of(save(tmp_path, content), "parquet"), lon=[8.1, NAN], lat=[50.1, NAN], altitude=[NAN] * 2)


def crs(code: int) -> Any:
    from pyproj import CRS

    return CRS.from_epsg(code).to_json_dict()


def test_geoparquet_must_be_in_degrees_of_wgs84(tmp_path: Path) -> None:
    def content(of: Any) -> bytes:
        geo = GEO | {"columns": {"where": {"encoding": "WKB", "crs": of}}}
        return geoparquet(pa.array(WKBS[:1], pa.binary()), geo)

    for known in (None, crs(4326), crs(4979)):
        assert len(rows_of(save(tmp_path, content(known)), "parquet")) == 1
    assert "its coordinates are in ETRS89 / UTM zone 32N; export it in WGS 84" in error_of(
        save(tmp_path, content(crs(25832))), "parquet"
    )
    with_degrees = pa.table({"time": [T0], "lon": [8.1], "lat": [50.1], "where": pa.array(WKBS[:1], pa.binary())})
    geo = {"geo": json.dumps(GEO | {"columns": {"where": {"encoding": "WKB", "crs": crs(25832)}}})}
    assert len(rows_of(save(tmp_path, parquet(with_degrees.replace_schema_metadata(geo))), "parquet")) == 1
    assert "cannot be understood" in error_of(save(tmp_path, content({"type": "?"})), "parquet")


def test_parquet_that_cannot_be_read(tmp_path: Path) -> None:
    table = pa.table({"time": pa.array([T0]), "lat": pa.array([50.0])})
    assert "the file has no column for lon (lon, " in error_of(save(tmp_path, parquet(table)), "parquet")
    assert "it has: note" in no_fixes(tmp_path, parquet(pa.table({"note": pa.array(["x"])})), "parquet")
    whole = parquet(pa.table({"time": pa.array([T0] * 3), **PLACES}))
    for length in range(1, len(whole), 11):
        assert "copy it again" in error_of(save(tmp_path, whole[:length]), "parquet")
    assert "copy it again" in error_of(save(tmp_path, gzip.compress(whole[:-20])), "parquet")


# Apps


def test_gpslogger_csv(tmp_path: Path) -> None:
    content = (
        "time,lat,lon,elevation,accuracy,bearing,speed,satellites,provider,hdop,vdop,pdop,geoidheight,ageofdgpsdata,"
        "dgpsid,activity,battery,annotation,timestamp_ms,time_offset,distance,starttimestamp_ms,profile_name,"
        "battery_charging\n"
        "2024-05-01T10:00:00.250Z,50.1,8.1,12.5,5.0,90.0,1.5,9,gps,0.8,0.9,1.2,47.9,,,,81,,1714557600250,"
        "2024-05-01T12:00:00.250+02:00,0.0,1714557600250,Default Profile,false\n"
        "2024-05-01T10:00:01Z,50.1,8.1,,30.0,,,0,network,,,,,,,,81,,,,,,,\n"
    )
    source = save(tmp_path, content, "20240501.csv")
    assert recognise(source) == "csv"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [T0 + 250, T0 + 1000]
    assert_columns(rows, lat=[50.1] * 2, lon=[8.1] * 2, altitude=[12.5, NAN], accuracy=[5, 30], speed=[1.5, NAN])


GPX = (
    '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
    '<trkpt lat="49.1" lon="8.5"><ele>400</ele><time>2024-05-01T10:00:00Z</time></trkpt></trkseg></trk></gpx>'
)
ACTIVITIES = (
    "Activity ID,Activity Date,Activity Name,Activity Type,Elapsed Time,Distance,Filename,Elapsed Time,Distance\n"
    '1,"May 1, 2024, 10:00:00 AM",Ride,Ride,4,1.0,activities/1.fit.gz,4,1000\n'
)


def test_an_export_of_strava(tmp_path: Path) -> None:
    path = tmp_path / "export_123.zip"
    indoor = fit.file(ACTIVITY, fit.definition(0, fit.RECORD, [fit.TIME]), fit.data(0, [fit.TIME], [FIT_T0]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {
            "activities.csv": ACTIVITIES.encode(),
            "activities/1.fit.gz": gzip.compress(RIDE),
            "activities/2.gpx.gz": gzip.compress(GPX.encode()),
            "activities/3.tcx.gz": gzip.compress(b"          " + TCX.replace("50.1", "48.1").encode()),
            "activities/4.gpx": GPX.replace("49.1", "47.1").encode(),
            "activities/5.fit.gz": gzip.compress(indoor),
            "bikes.csv": b"Bike Name,Bike Brand,Bike Model,Bike Default Sport Types\n",
            "comments.csv": b"Comment Date,Comment\n2024-05-01 10:00:00 UTC,nice\n",
            "media/1.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
        }.items():
            archive.writestr(name, content)
    store = world.open_store(tmp_path)
    report = import_paths(store, [path], user="ada")
    assert not report.failed
    by_name = {file.path.removeprefix(f"{path}/"): file for file in report.files}
    assert {name: file.new for name, file in by_name.items() if not file.skipped} == {
        "activities/1.fit.gz": 3,
        "activities/2.gpx.gz": 1,
        "activities/3.tcx.gz": 1,
        "activities/4.gpx": 1,
    }
    skipped = {name: file.skipped for name, file in by_name.items() if file.skipped}
    assert skipped.keys() == {"activities.csv", "activities/5.fit.gz", "bikes.csv", "comments.csv", "media/1.jpg"}
    assert skipped["activities/5.fit.gz"] == "no fixes: none of its 1 records has a position"
    assert "it has: Activity ID, Activity Date" in skipped["activities.csv"]

    (named,) = import_paths(store, [save_file(tmp_path / "activities.csv", ACTIVITIES)], user="ada").failed
    assert "the header has no column for time" in (named.error or "")
    almost = save_file(tmp_path / "in" / "points.csv", "when,lon,lat\n1,2,3\n").parent
    (faulty,) = import_paths(store, [almost], user="ada").failed
    assert "the header has no column for time" in (faulty.error or "")


def save_file(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


# Any bytes


SEEDS = st.sampled_from(
    [
        RIDE,
        TCX.encode(),
        KML.encode(),
        (rmc("100000") + gga("100000")).encode(),
        parquet(pa.table({"time": pa.array([T0] * 3), **PLACES})),
        geoparquet(pa.array(WKBS, pa.binary())),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


def frames(folder: Path, content: bytes, format: str | None) -> Iterator[pd.DataFrame]:
    (folder / "a").write_bytes(content)
    for source in find_sources([folder / "a"]):
        yield from read(source, format or recognise(source) or "csv")


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=examples(150))
@given(damaged(), st.sampled_from([None, *FORMATS]))
def test_no_damage_raises_anything_but_unreadable_file(folder: Path, content: bytes, format: str | None) -> None:
    try:
        for rows in frames(folder, content, format):
            assert np.isfinite(validate(rows, now=T0).points[["lon", "lat"]].to_numpy()).all()
    except UnreadableFile as error:
        assert "\n" not in str(error)
