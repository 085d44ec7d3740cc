from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from trackgen_core.points import NO_TIME, POINT_DTYPES, completed, validate
from trackgen_core.readers import (
    BATCH_ROWS,
    FORMATS,
    NoFixes,
    Source,
    UnreadableFile,
    columns,
    find_sources,
    read,
    recognise,
    xml,
)
from trackgen_core.readers.columns import find_columns, parse_numbers, parse_times, to_texts

T0 = 1714557600000  # 2024-05-01T10:00:00Z


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


def source_of(path: Path) -> Source:
    (source,) = find_sources([path])
    return source


def save(folder: Path, content: str | bytes, name: str = "points.csv") -> Source:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return source_of(path)


def rows_of(source: Source, format: str | None = None) -> pd.DataFrame:
    frames = list(read(source, format or recognise(source) or "none"))
    for frame in frames:
        assert list(frame.columns) == list(POINT_DTYPES)
        assert dict(frame.dtypes) == dict(frame.astype(POINT_DTYPES).dtypes)
        assert 0 < len(frame) <= columns.BATCH_ROWS
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(POINT_DTYPES))


def assert_batches_do_not_matter(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that XML gives the same rows however few of them, and of its bytes, are held at once."""
    whole = rows_of(source)
    for batch, chunk in ((1, 1), (2, 7), (3, 64)):
        monkeypatch.setattr(columns, "BATCH_ROWS", batch)
        monkeypatch.setattr(xml, "CHUNK_BYTES", chunk)
        pd.testing.assert_frame_equal(rows_of(source), whole)


def error_of(source: Source, format: str | None = None) -> str:
    with pytest.raises(UnreadableFile) as caught:
        rows_of(source, format)
    text = str(caught.value)
    assert text.startswith(source.path + ":")
    assert "\n" not in text
    return text


def times(*texts: object) -> list[int]:
    return parse_times(to_texts([str(text) for text in texts])).tolist()


# Times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:00:00Z", T0),
        ("2024-05-01 10:00:00", T0),
        ("2024-05-01T10:00", T0),
        ("20240501T100000Z", T0),
        ("2024/05/01 10:00:00", T0),
        ("2024-05-01 10:00:00 UTC", T0),
        ("  2024-05-01T10:00:00z ", T0),
        ("2024-05-01T12:00:00+02:00", T0),
        ("2024-05-01T12:00:00+0200", T0),
        ("2024-05-01T12:00:00+02", T0),
        ("2024-05-01T15:45:00+05:45", T0),
        ("2024-05-01T00:30:00-09:30", T0),
        ("2024-05-01T10:00:00.1Z", T0 + 100),
        ("2024-05-01T10:00:00.12Z", T0 + 120),
        ("2024-05-01T10:00:00,123", T0 + 123),
        ("2024-05-01T10:00:00.1239999999999999999", T0 + 123),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("2024-04-30T24:00:00Z", T0 - 10 * 3_600_000),
        ("2016-12-31T23:59:60Z", 1483228800000),
        ("2024-02-29T00:00:00Z", 1709164800000),
        ("2199-12-31T23:59:59.999Z", 7258118399999),
        ("0001-01-01T00:00:00Z", -62135596800000),
        ("9999-12-31T23:59:59Z", 253402300799000),
        ("1714557600", T0),
        ("+1714557600", T0),
        ("1714557600000", T0),
        ("1714557600.123", T0 + 123),
        ("1714557600.1236", T0 + 124),
        ("1714557600123.4", T0 + 123),
        ("1.7145576E9", T0),
        ("99999999999", 99999999999000),
        ("100000000000", 100000000000),
        ("-1.5", -1500),
        ("-99999999999", -99999999999000),
        ("-100000000000", -100000000000),
        ("0", 0),
        ("99999999999999", 99999999999999),
        ("100000000000000", 100000000000),
        ("1714557600123456", T0 + 123),
        ("99999999999999999", 99999999999999),
        ("100000000000000000", 100000000000),
        ("1714557600123999999", T0 + 123),
        ("-1714557600123", -T0 - 123),
        ("1714557600123456.5", T0 + 123),
    ],
)
def test_time_is_read(text: str, expected: int) -> None:
    assert times(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "nan", "NaT", "None", "null", "inf", "-inf", "1e400", "-1e400", "9" * 400, "now", "today"),
        *("2024-05-01", "10:00:00", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2023-02-29T00:00:00Z"),
        *("2024-05-00T00:00:00Z", "2024-05-01T24:00:01Z", "2024-05-01T25:00:00Z", "2024-05-01T10:60:00Z"),
        *("2024-05-01T10:00:61Z", "2024-05-01T10:00:00+24:00", "2024-05-01T10:00:00+01:60", "2024-5-1T10:00:00Z"),
        *("2024-05-01T10:00:00Zjunk", "x2024-05-01T10:00:00Z", "2024-05-01T10:00:00\n2024", "1_000", "0x10", "1,5"),
        *("١٧١٤٥٥٧٦٠٠", "٢٠٢٤-05-01T10:00:00Z", "1e", ".", "+", "--1", "True", "2024-05-01T10:00:00.Z"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert times(text) == [NO_TIME]


@given(st.lists(st.sampled_from(["1714557600", "2024-05-01T10:00:00Z", "junk", "", "1714557600000.4", "1e400"])))
def test_every_row_has_its_own_notation(texts: list[str]) -> None:
    assert times(*texts) == [times(text)[0] for text in texts]


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.sampled_from("T "),
    st.sampled_from(["milliseconds", "microseconds"]),
)
def test_iso_times_are_those_of_the_standard_library(moment: datetime, minutes: int, between: str, digits: str) -> None:
    moment = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert times(moment.isoformat(between, digits)) == [expected]


@given(st.integers(1 - 10**17, 10**17 - 1))
def test_integer_times_are_exact(number: int) -> None:
    size = abs(number)
    ms = number * 1000 if size < 10**11 else number if size < 10**14 else number // 1000
    assert times(number) == [ms]


@given(st.integers(-(10**13), 10**13))
def test_seconds_with_fractions_give_their_ms(ms: int) -> None:
    assert times(f"{'-' if ms < 0 else ''}{abs(ms) // 1000}.{abs(ms) % 1000:03d}") == [ms]


@given(st.text())
@example("\ud800")
@example("1714557600\x00")
def test_no_text_makes_times_or_numbers_fail(text: str) -> None:
    texts = to_texts([text, None, "1714557600"])
    assert parse_times(texts)[1:].tolist() == [NO_TIME, T0]
    assert np.isnan(parse_numbers(texts)[1])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_nearest_doubles(value: float) -> None:
    assert parse_numbers(to_texts([repr(value), "+" + repr(abs(value))])).tolist() == [value, abs(value)]


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e400", "0x1", "1_0", "1 2", "12.3.4", "1,5", "true", "٣"])
def test_what_is_no_number(text: str) -> None:
    assert math.isnan(parse_numbers(to_texts([text]))[0])


# CSV


def test_csv(tmp_path: Path) -> None:
    source = save(
        tmp_path,
        "timestamp,lon,lat,user,device,altitude,accuracy,speed,note\n"
        "2024-05-01T10:00:00Z,8.1,50.1,NA,phone,12.5,5,1.5,x\n"
        "1714557601,8.2,50.2,,,,,,\n"
        "1714557602500,8.3,50.3,null,nan,NaN,-1,x,\n",
    )
    assert recognise(source) == "csv"
    expected = completed(
        pd.DataFrame(
            {
                "user": ["NA", "", "null"],
                "device": ["phone", "", "nan"],
                "time_ms": [T0, T0 + 1000, T0 + 2500],
                "lon": [8.1, 8.2, 8.3],
                "lat": [50.1, 50.2, 50.3],
                "altitude": [12.5, math.nan, math.nan],
                "accuracy": [5, math.nan, -1.0],
                "speed": [1.5, math.nan, math.nan],
            }
        )
    )
    pd.testing.assert_frame_equal(rows_of(source), expected)


@pytest.mark.parametrize(
    "header",
    [
        "TimeStamp,LON,Lat",
        " ts , lng , latitude ",
        '"time","long","y"',
        "date_time,Longitude,Latitude",
        "UTC,x,y",
        "Date Time (UTC),lon,lat",
        "\ufefftimestamp,lon,lat",
        "\n\ntimestamp,lon,lat",
    ],
)
def test_csv_names_of_columns(tmp_path: Path, header: str) -> None:
    rows = rows_of(save(tmp_path, f"{header}\n1714557600,8,50\n"))
    assert rows[["time_ms", "lon", "lat"]].to_numpy().tolist() == [[T0, 8, 50]]


def test_csv_the_best_name_wins_and_hdop_is_no_accuracy() -> None:
    assert find_columns(("x", "y", "lat", "lon", "time", "Timestamp", "hdop", "vel")) == {
        "time": 5,
        "lon": 3,
        "lat": 2,
    }


def test_csv_rows_of_wrong_length_are_bad_rows_and_shift_nothing(tmp_path: Path) -> None:
    source = save(
        tmp_path,
        "ts,lon,lat,alt\n1714557600,8,50,1,9\n1714557600,8,50\n\n1714557600,8\n1714557600,8,50,4\n1714557600,8,5",
    )
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [NO_TIME, T0, T0, T0, T0]
    assert rows["altitude"].tolist()[1:4] == pytest.approx([math.nan, math.nan, 4], nan_ok=True)
    assert validate(rows).rejected == {"no readable time": 1, "no readable position": 1}


def test_csv_all_rows_too_long(tmp_path: Path) -> None:
    rows = rows_of(save(tmp_path, "ts,lon,lat\n1,2,3,4\n1,2,3,4\n"))
    assert rows["time_ms"].tolist() == [NO_TIME] * 2


def test_csv_decimal_commas(tmp_path: Path) -> None:
    rows = rows_of(save(tmp_path, "ts;lon;lat;alt\n1714557600,5;8,25;50,5;1e2\n"))
    assert rows[["time_ms", "lon", "lat", "altitude"]].to_numpy().tolist() == [[T0 + 500, 8.25, 50.5, 100]]


def test_csv_quoted_fields_hold_anything(tmp_path: Path) -> None:
    source = save(tmp_path, 'ts,lon,lat,user\n1714557600,8,50,"a ""b"",\r\nc"\n"1714557601","8","50",d\n')
    assert rows_of(source)["user"].tolist() == ['a "b",\r\nc', "d"]


def test_csv_stray_quotes_cost_a_row(tmp_path: Path) -> None:
    source = save(tmp_path, 'ts,lon,lat,user\n1714557600,8,50,"a"b\n1714557601,8,50,c"d"\n')
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [NO_TIME, T0 + 1000]
    assert rows["user"].tolist() == ["", 'c"d"']


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_csv_encodings(tmp_path: Path, encoding: str) -> None:
    source = save(tmp_path, "ts,lon,lat,user\n1714557600,8,50,Zoë\n".encode(encoding))
    assert recognise(source) == "csv"
    assert rows_of(source)["user"].tolist() == ["Zoë"]


def test_csv_without_rows(tmp_path: Path) -> None:
    assert rows_of(save(tmp_path, "timestamp,lon,lat")).empty


def test_csv_a_nul_becomes_something_a_database_can_store(tmp_path: Path) -> None:
    rows = rows_of(save(tmp_path, "ts,lon,lat,user\n1714557600,8,50,a\0b\n"), "csv")
    assert rows["user"].tolist() == ["a\ufffdb"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name,lon,lat\na,1,2\n", "line 1: the header has no column for time (timestamp, time, datetime, ts, …)"),
        (
            "ts,foo\n1,2\n",
            "no column for lon (lon, longitude, lng, long, …) and lat (lat, latitude, y, gpslatitude, …)",
        ),
        ("foo\n", "it has: foo"),
        ("\n1714557600,8,50\n1714557601,8,50\n", "line 2: no header, this line is data"),
        ("2024-05-01T10:00:00Z,8,50\n", "line 1: no header, this line is data"),
        ("ts,lon,lat,Lon\n1,2,3,4\n", "line 1: the header has 'lon' twice"),
        ('ts,lon,lat,user\n1,2,3,a\n1,2,3,"b\n1,2,3,c\n', "line 4: the file breaks off inside quotes"),
        ('ts,lon,lat,user\n1,2,3,"b' + "c,\n" * 100_000, "a field of more than"),
        (" \n", "the file is empty"),
        ("ts,lon,lat," * 10_000, "line 1: no CSV with a header"),
    ],
)
def test_csv_that_cannot_be_read(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in error_of(save(tmp_path, content), "csv")


def test_csv_an_endless_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    rows = rows_of(save(tmp_path, "ts,lon,lat\n" + "1,2,3," * 500_000 + "\n1714557600,8,50\n"))
    assert rows["time_ms"].tolist()[-1] == T0
    assert len(validate(rows).points) == 1


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=8).map(
    lambda text: text.strip(" \t\n\r\v\f")
)
DEGREES = st.floats(-180, 180, allow_nan=False)
ROWS = st.lists(
    st.tuples(st.integers(946684800000, 4102444800000), DEGREES, DEGREES, NAMES, st.none() | DEGREES), max_size=12
)


def written(ms: int, notation: str) -> str:
    seconds, rest = divmod(ms, 1000)
    moment = datetime(1970, 1, 1) + timedelta(milliseconds=ms)
    return {
        "ms": str(ms),
        "s": f"{seconds}.{rest:03d}",
        "Z": moment.isoformat("T", "milliseconds") + "Z",
        "none": moment.isoformat(" ", "microseconds"),
        "offset": (moment + timedelta(hours=5.5)).isoformat("T", "milliseconds") + "+05:30",
    }[notation]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    rows=ROWS,
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    order=st.permutations(["Time", "longitude", " LAT", "user", "ele"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    last_end=st.booleans(),
    decimal_comma=st.booleans(),
    batch=st.integers(1, 5),
    data=st.data(),
)
def test_csv_the_same_rows_however_they_are_written(
    folder: Path,
    rows: list[tuple[int, float, float, str, float | None]],
    delimiter: str,
    end: str,
    encoding: str,
    order: list[str],
    quoting: Any,
    last_end: bool,
    decimal_comma: bool,
    batch: int,
    data: st.DataObject,
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, order, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writeheader()
    for ms, lon, lat, user, ele in rows:
        numbers = {"longitude": repr(lon), " LAT": repr(lat), "ele": "" if ele is None else repr(ele)}
        if decimal_comma and delimiter == ";":
            numbers = {name: number.replace(".", ",") for name, number in numbers.items()}
        notation = data.draw(st.sampled_from(["ms", "s", "Z", "none", "offset"]))
        writer.writerow({"Time": written(ms, notation), "user": user, **numbers})
    content = text.getvalue()
    content = content if last_end or not rows else content.removesuffix(end)
    source = save(folder, content.encode(encoding))

    assert recognise(source) == "csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BATCH_ROWS", batch)
        found = rows_of(source)
    assert found["time_ms"].tolist() == [row[0] for row in rows]
    assert found["lon"].tolist() == [row[1] for row in rows]
    assert found["lat"].tolist() == [row[2] for row in rows]
    assert found["user"].tolist() == [row[3] for row in rows]
    assert [None if math.isnan(ele) else ele for ele in found["altitude"]] == [row[4] for row in rows]


def test_more_rows_than_a_batch(tmp_path: Path) -> None:
    count = BATCH_ROWS + 7
    text = "ts,lon,lat\n" + "".join(f"{1714557600 + i},8,50\n" for i in range(count))
    frames = list(read(save(tmp_path, text), "csv"))
    assert [len(frame) for frame in frames] == [BATCH_ROWS, 7]
    assert pd.concat(frames)["time_ms"].tolist() == list(range(T0, T0 + count * 1000, 1000))


# GPX

GPX = """<?xml version="1.0" encoding="UTF-8"?>
<!-- <notgpx> -->
<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1" xmlns:t="http://www.garmin.com/xmlschemas/TrackPointExtension/v2">
 <metadata><time>2019-02-18T07:45:50Z</time></metadata>
 <wpt lat="1" lon="1"><time>2024-05-01T10:00:00Z</time></wpt>
 <rte><rtept lat="1" lon="1"><ele>1</ele></rtept></rte>
 <trk><name>Zoë &amp; co</name><trkseg>
  <trkpt lat="50.1" lon="8.1"><ele>12.5</ele><time>2024-05-01T10:00:00.250Z</time>
   <extensions><t:TrackPointExtension><t:speed>1.5</t:speed><t:time>1999</t:time></t:TrackPointExtension>
   <accuracy>7</accuracy></extensions></trkpt>
  <trkpt lon="8.2" lat="50.2"><time>
    2024-05-01T12:00:01+02:00 </time></trkpt>
 </trkseg><trkseg>
  <trkpt lat="x" lon="8.3"><ele/><speed>2</speed></trkpt>
  <trkpt/>
 </trkseg></trk>
</gpx>
"""


def prefixed(text: str) -> str:
    for name in ("gpx", "metadata", "wpt", "rte", "rtept", "trk", "trkseg", "trkpt", "ele", "time", "name"):
        for mark in (" ", ">", "/>"):
            text = text.replace(f"<{name}{mark}", f"<g:{name}{mark}").replace(f"</{name}{mark}", f"</g:{name}{mark}")
    return text.replace("xmlns=", "xmlns:g=")


@pytest.mark.parametrize(
    "content",
    [
        GPX.encode(),
        prefixed(GPX).encode(),
        b"\n" + GPX.encode(),
        GPX.encode("utf-8-sig"),
        GPX.replace("UTF-8", "UTF-16").encode("utf-16"),
        GPX.replace("UTF-8", "ISO-8859-1").encode("latin-1"),
        GPX.replace("UTF-8", "windows-1252").encode("cp1252"),
        GPX.replace("\n", "\r\n").encode(),
        GPX.replace("1/1", "1/0").replace("1.1", "1.0").encode(),
    ],
)
def test_gpx(tmp_path: Path, content: bytes) -> None:
    source = save(tmp_path, content, "a.bin")
    assert recognise(source) == "gpx"
    rows = rows_of(source)
    nan = math.nan
    assert rows["time_ms"].tolist() == [T0 + 250, T0 + 1000, NO_TIME, NO_TIME]
    for name, expected in {
        "lon": [8.1, 8.2, 8.3, nan],
        "lat": [50.1, 50.2, nan, nan],
        "altitude": [12.5, nan, nan, nan],
        "accuracy": [7, nan, nan, nan],
        "speed": [1.5, nan, 2, nan],
    }.items():
        assert rows[name].tolist() == pytest.approx(expected, nan_ok=True, rel=0)
    assert set(rows["user"]) == set(rows["device"]) == {""}


def test_gpx_cut_anywhere_breaks_off(tmp_path: Path) -> None:
    content = GPX.rstrip().encode()
    for length in range(1, len(content)):
        error_of(save(tmp_path, content[:length], "a.gpx"), "gpx")


def test_gpx_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_batches_do_not_matter(save(tmp_path, GPX, "a.gpx"), monkeypatch)


def test_gpx_without_tracks(tmp_path: Path) -> None:
    waypoints = '<wpt lat="1" lon="2"><time>2024-05-01T10:00:00Z</time></wpt><wpt lat="3" lon="4"/>'
    source = save(tmp_path, f"<gpx>{waypoints}</gpx>")
    assert rows_of(source)[["time_ms", "lon", "lat"]].to_numpy().tolist() == [[T0, 2, 1]]
    assert source.notes == ["it has no track; its waypoints with a time are its points"]
    timeless = '<wpt lat="3" lon="4"/><rte><rtept lat="1" lon="1"/></rte>'
    assert "it has 1 waypoint without a time and 1 route, but no point of a track" in error_of(
        save(tmp_path, f"<gpx>{timeless}</gpx>")
    )
    assert "no fixes: it has no track" in error_of(save(tmp_path, "<gpx/>"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('<!DOCTYPE gpx [<!ENTITY a "b">]><gpx>&a;</gpx>', "line 1, column 27: declares entities (a), refused"),
        ('<!DOCTYPE gpx [<!ENTITY a SYSTEM "file:///etc/passwd">]><gpx>&a;</gpx>', "declares entities (a)"),
        ('<!DOCTYPE gpx [<!ENTITY % a "b">]><gpx/>', "declares entities (a)"),
        ("<gpx><trk></gpx>", "line 1, column 13: not well-formed XML (mismatched tag)"),
        ("<gpx>\n<trk>", "line 2, column 6: the file breaks off (no element found); copy it again"),
        ("<gpx>&nbsp;</gpx>", "undefined entity"),
        ('<?xml version="1.0" encoding="klingon"?><gpx/>', "klingon"),
        ("<html></html>", "no GPX: its root element is <html>"),
        ("no xml", "line 1, column 1: not well-formed XML"),
        (" ", "the file is empty"),
        ("<gpx " + "a" * (1 << 23), "a tag of more than"),
    ],
)
def test_gpx_that_cannot_be_read(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in error_of(save(tmp_path, content, "a.gpx"), "gpx")


def test_gpx_a_text_of_any_length_is_one_bad_value(tmp_path: Path) -> None:
    text = "9" * 3_000_000
    rows = rows_of(save(tmp_path, f'<gpx><trkpt lon="8" lat="50"><time>{text}</time></trkpt></gpx>'))
    assert rows["time_ms"].tolist() == [NO_TIME]


# GeoJSON


def point(coordinates: Any, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": coordinates},
        "properties": properties,
    }


def line(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    return {
        "properties": properties,
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
    }


def collection(*features: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def test_geojson_points(tmp_path: Path) -> None:
    source = save(
        tmp_path,
        collection(
            point([8.1, 50.1, 12.5], timestamp="2024-05-01T10:00:00Z", accuracy=5, speed=1.5, device_id="phone"),
            point([8, 50], ts=1714557601, altitude=7, horizontal_accuracy=3, velocity=2, user="bob", tracker_id=4),
            point([8, 50], recorded_at=1714557602000.0, device=None),
            point([8, 50], tst="1714557603"),
        ),
        "a.json",
    )
    assert recognise(source) == "geojson"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [T0, T0 + 1000, T0 + 2000, T0 + 3000]
    assert rows["user"].tolist() == ["", "bob", "", ""]
    assert rows["device"].tolist() == ["phone", "4", "", ""]
    nan = math.nan
    assert rows["lon"].tolist() == [8.1, 8, 8, 8]
    assert rows["altitude"].tolist() == pytest.approx([12.5, 7, nan, nan], nan_ok=True)
    assert rows["accuracy"].tolist() == pytest.approx([5, 3, nan, nan], nan_ok=True)
    assert rows["speed"].tolist() == pytest.approx([1.5, 2, nan, nan], nan_ok=True)


@pytest.mark.parametrize("name", ["coordTimes", "times", "coordinateProperties"])
def test_geojson_lines(tmp_path: Path, name: str) -> None:
    def properties(times: Any) -> dict[str, Any]:
        return {name: {"times": times} if name == "coordinateProperties" else times, "device": "d"}

    source = save(
        tmp_path,
        collection(
            line("LineString", [[8, 50, 1], [9, 51], [10, 52]], **properties(["2024-05-01T10:00:00Z", T0 + 1000])),
            line("MultiLineString", [[[8, 50]], [[9, 51], "x"], None], **properties([[T0], [T0 + 1, T0 + 2], None])),
            line("LineString", [[8, 50]]),
            line("LineString", []),
        ),
    )
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [T0, T0 + 1000, NO_TIME, T0, T0 + 1, T0 + 2, NO_TIME, NO_TIME]
    assert rows["lat"].tolist() == pytest.approx([50, 51, 52, 50, 51, math.nan, math.nan, 50], nan_ok=True)
    assert rows["device"].tolist() == ["d"] * 7 + [""]


def test_geojson_one_feature_whose_type_comes_last(tmp_path: Path) -> None:
    feature = line("LineString", [[8, 50]] * 20_000, coordTimes=[T0] * 20_000)
    text = json.dumps({"geometry": feature["geometry"], "properties": feature["properties"], "type": "Feature"})
    source = save(tmp_path, text, "a")
    assert recognise(source) == "geojson"
    assert rows_of(source)["time_ms"].tolist() == [T0] * 20_000


def test_geojson_other_geometries_are_nothing_and_broken_features_are_bad_rows(tmp_path: Path) -> None:
    other = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}, "properties": {"time": 1}},
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": []}, "properties": None},
    ]
    bad = [
        {"type": "Feature", "geometry": None, "properties": {"time": 1}},
        {"type": "Feature"},
        None,
        5,
        point(None, time=1),
        point([], time=1),
        point(["8", "50"], time=1),
        point([True, False], time=1),
        point([math.nan, math.inf], time=1),
        point({"lon": 1}, time=1),
        point([10**400, 1], time=1),
        point([8, 50]),
        point([8, 50], time=None),
        point([8, 50], time=True),
        point([8, 50], time=[1]),
        point([8, 50], time=math.nan),
    ]
    rows = rows_of(save(tmp_path, collection(*other, *bad)))
    assert len(rows) == len(bad)
    assert validate(rows).points.empty


def test_geojson_half_a_surrogate_pair_can_be_stored(tmp_path: Path) -> None:
    text = collection(point([8, 50], time=1714557600, user="a\ud800"))
    assert rows_of(save(tmp_path, text))["user"].tolist() == ["a?"]


def test_geojson_sequences(tmp_path: Path) -> None:
    features = [json.dumps(point([8, 50], time=T0 + i)) for i in range(3)]
    for text in ("\n".join(features), "".join(f"\x1e{feature}\n" for feature in features)):
        source = save(tmp_path, text, "a")
        assert recognise(source) == "geojson"
        assert rows_of(source)["time_ms"].tolist() == [T0, T0 + 1, T0 + 2]


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}', "[1, 2]", '{"places": [{"type": "Point"}]}', '"FeatureCollection"', '{"type": "Topology"}', "{"],
)
def test_json_that_is_no_geojson(tmp_path: Path, text: str) -> None:
    source = save(tmp_path, text, "a.json")
    assert recognise(source) is None
    assert "byte " in error_of(source, "geojson")


def test_geojson_cut_anywhere_breaks_off(tmp_path: Path) -> None:
    feature = point([8.25, 50.5], timestamp="2024-05-01T10:00:00Z", name='Zoë 😀 \\ "x"', flag=True)
    content = (collection(feature, feature)[:-1] + ', "more": 12}').encode()
    for length in range(1, len(content)):
        text = error_of(save(tmp_path, content[:length], "a.json"), "geojson")
        assert "breaks off" in text
        assert int(text.split("byte ")[1].split(":")[0]) <= length + 2


def test_geojson_that_is_broken_says_where(tmp_path: Path) -> None:
    good = json.dumps(point([8, 50], time=1))
    content = f'{{"type": "FeatureCollection", "features": [{good} {good}, ' + "0," * 1000
    assert f"byte {44 + len(good)}: no valid JSON: '{{'" in error_of(save(tmp_path, content), "geojson")
    content = '{"type": "FeatureCollection", "features": [{"a" 1}, ' + "0," * 1000
    assert "byte 48: no valid JSON (Expecting ':' delimiter)" in error_of(save(tmp_path, content), "geojson")
    assert "byte 5: JSON that cannot be decoded" in error_of(save(tmp_path, '{"a":' + "[" * 200_000), "geojson")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    rows=ROWS, batch=st.integers(1, 5), chunk=st.integers(1, 100), indent=st.none() | st.just(1), ascii_=st.booleans()
)
def test_geojson_batches_and_chunks_do_not_matter(
    folder: Path, rows: list[Any], batch: int, chunk: int, indent: int | None, ascii_: bool
) -> None:
    features = [point([lon, lat], time=ms, user=user, alt=alt) for ms, lon, lat, user, alt in rows]
    text = json.dumps({"features": features, "n": 1, "type": "FeatureCollection"}, indent=indent, ensure_ascii=ascii_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BATCH_ROWS", batch)
        patch.setattr("trackgen_core.readers.values.CHUNK_CHARS", chunk)
        found = rows_of(save(folder, text), "geojson")
    assert found["time_ms"].tolist() == [row[0] for row in rows]
    assert found["lon"].tolist() == [row[1] for row in rows]
    assert found["lat"].tolist() == [row[2] for row in rows]
    assert found["user"].tolist() == [row[3] for row in rows]


# OwnTracks


def rec(message: Any, time: str = "2024-05-01T10:00:00Z") -> str:
    return f"{time}\t*                 \t{json.dumps(message)}\n"


def location(**more: Any) -> dict[str, Any]:
    return {"_type": "location", "tst": 1714557600, "lat": 50.1, "lon": 8.1, **more}


def test_owntracks(tmp_path: Path) -> None:
    source = save(
        tmp_path,
        rec({"_type": "lwt", "tst": 1})
        + rec(location(alt=12, acc=5, vel=36, topic="owntracks/bob/phone"))
        + rec(location(tst=1714557600.5, topic="owntracks/bob"))
        + rec({"_type": "transition", "tst": 1, "lat": 1, "lon": 1})
        + rec({"_type": "location", "lat": 1, "lon": 2}, "2024-05-01T10:00:07Z")
        + "\n"
        + "garbage\n"
        + rec([1])
        + rec(location(lat="north", vel=None)).rstrip("\n"),
        "2024-05.rec",
    )
    assert recognise(source) == "owntracks"
    rows = rows_of(source)
    assert rows["time_ms"].tolist() == [T0, T0 + 500, T0 + 7000, NO_TIME, T0, T0]
    assert rows["device"].tolist() == ["phone", "", "", "", "", ""]
    assert set(rows["user"]) == {""}
    assert rows["speed"][0] == pytest.approx(10)
    assert rows[["altitude", "accuracy"]].to_numpy()[0].tolist() == [12, 5]
    assert validate(rows).rejected == {"no readable time": 1, "no readable position": 2}


def test_owntracks_cut_inside_a_line_breaks_off(tmp_path: Path) -> None:
    first, second = rec(location()).encode(), rec(location(vel=3)).encode()
    for length in range(1, len(second)):
        source = save(tmp_path, first + second[:length], "a.rec")
        if length < len(second) - 1 and second[:length].strip():
            assert "line 2: the file breaks off" in error_of(source, "owntracks")
        else:
            assert len(rows_of(source, "owntracks")) == 2


# Sources


def test_paths_of_all_kinds(tmp_path: Path) -> None:
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    for name in ("b/z.csv", "b/a.csv", "b/.c.csv", "b/.hidden/d.csv", "c.csv", "a.csv"):
        (tmp_path / name).write_text("ts,lon,lat\n")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "d.csv").symlink_to(tmp_path / "c.csv")
    (tmp_path / "e.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "f.csv")
    found = [source.path for source in find_sources([tmp_path])]
    assert found == [str(tmp_path / name) for name in ("a.csv", "b/a.csv", "b/z.csv", "c.csv", "d.csv")]
    assert not any(source.explicit for source in find_sources([tmp_path]))

    missing, there, pipe = find_sources([tmp_path / "no", tmp_path / "b/.c.csv", tmp_path / "f.csv"])
    assert there.explicit
    assert recognise(there) == "csv"
    with pytest.raises(UnreadableFile, match=r"no: no such file or folder$"):
        recognise(missing)
    with pytest.raises(UnreadableFile, match="neither a file nor a folder"):
        recognise(pipe)


CSV = b"ts,lon,lat\n1714557600,8,50\n"


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    for name, content in {"a.csv.gz": gzip.compress(CSV), "b.csv": gzip.compress(CSV), "c.csv.gz": CSV}.items():
        source = save(tmp_path, content, name)
        assert recognise(source) == "csv"
        assert len(rows_of(source)) == 1
        assert len(rows_of(source)) == 1
    assert len(rows_of(save(tmp_path, gzip.compress(CSV) + gzip.compress(b"1714557601,8,50\n")))) == 2


def test_gzip_that_breaks_off(tmp_path: Path) -> None:
    content = gzip.compress(CSV + os.urandom(300_000).hex().encode())
    source = save(tmp_path, content[:-100_000], "a.csv.gz")
    assert recognise(source) == "csv"
    text = error_of(source)
    assert "the compressed data break off" in text
    assert "byte " in text
    with pytest.raises(UnreadableFile, match="break off"):
        recognise(save(tmp_path, gzip.compress(CSV)[:-9]))
    with pytest.raises(UnreadableFile, match="damaged"):
        recognise(save(tmp_path, gzip.compress(CSV)[:-8] + b"12345678"))


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


def test_zip(tmp_path: Path) -> None:
    path = tmp_path / "backup.zip"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("a.csv", CSV)
    archive(
        path,
        {
            "b/": b"",
            "b/z.gpx": GPX.encode(),
            "a.csv.gz": gzip.compress(CSV),
            "b/.DS_Store": b"x",
            "__MACOSX/a.csv": CSV,
            "c.zip": inner.getvalue(),
            "empty.csv": b"",
        },
    )
    sources = list(find_sources([path]))
    assert [source.path.removeprefix(f"{path}/") for source in sources] == [
        "a.csv.gz",
        "b/z.gpx",
        "c.zip/a.csv",
        "empty.csv",
    ]
    assert [recognise(source) for source in sources[:3]] == ["csv", "gpx", "csv"]
    with pytest.raises(NoFixes, match="the file is empty"):
        recognise(sources[3])
    assert [len(rows_of(source)) for source in sources[:3]] == [1, 4, 1]


def test_zip_members_are_sources(tmp_path: Path) -> None:
    path = tmp_path / "b.dat"
    archive(path, {"x.csv": CSV, "w.gpx": GPX.encode()})
    by_name = {source.path.rpartition("/")[2]: source for source in find_sources([path])}
    assert {name: recognise(source) for name, source in by_name.items()} == {"w.gpx": "gpx", "x.csv": "csv"}
    assert not any(source.explicit for source in by_name.values()), "junk in an archive is no reason to fail"
    assert [len(rows_of(source)) for source in by_name.values()] == [4, 1]


def test_zip_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    archive(path, {"x.csv": CSV}, zipfile.ZIP_STORED)
    content = path.read_bytes()
    with pytest.raises(UnreadableFile, match=r"a\.zip: the compressed data are damaged"):
        recognise(save(tmp_path, content[:-30], "a.zip"))
    with pytest.raises(UnreadableFile, match=r"a\.zip/x\.csv: .*damaged"):
        recognise(save(tmp_path, content.replace(b"ts,lon,lat", b"ts,lon,lax", 1), "a.zip"))
    locked = bytearray(content)
    locked[6] |= 1
    locked[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnreadableFile, match="password"):
        recognise(save(tmp_path, bytes(locked), "a.zip"))
    assert list(find_sources([tmp_path]))
    archive(path, {})
    assert list(find_sources([path])) == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.gpx", CSV, "csv"),
        ("a.csv", GPX.encode(), "gpx"),
        ("a.txt", b"latitude\tlongitude\tname\n1\t2\tx\n", "csv"),
        ("a.txt", b"2024-05-01T10:00:00Z,8,50\n", "csv"),
        ("a.txt", b"Dear all, at this time, nothing.\n", None),
        ("a.csv", b"amount;text\n1;2\n", "csv"),
        ("a.csv", b"ts,lon,lat\n\0\1\2", "csv"),
        ("a.csv", b"ts,lon\0,lat\n1,2,3\n", None),
        ("a.csv", b"\x8f\x02,\x1c\xee", None),
        ("a.xml", b"<?xml version='1.0'?><svg></svg>", None),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None),
        ("a.txt", b"\n\n", None),
    ],
)
def test_formats_are_recognised_from_the_content(
    tmp_path: Path, name: str, content: bytes, expected: str | None
) -> None:
    assert recognise(save(tmp_path, content, name)) == expected


def test_an_empty_file(tmp_path: Path) -> None:
    for content in (b"", gzip.compress(b"")):
        with pytest.raises(UnreadableFile, match="the file is empty"):
            recognise(save(tmp_path, content))
    for format in ("csv", "gpx", "geojson"):
        assert "the file is empty" in error_of(save(tmp_path, b""), format)


def test_an_unknown_format_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of csv, gpx, geojson, owntracks"):
        read(save(tmp_path, CSV), "shapefile")


SEEDS = st.sampled_from(
    [
        CSV * 3,
        GPX.encode(),
        collection(point([8, 50], time=1), line("LineString", [[8, 50]], coordTimes=[1])).encode(),
        rec(location(vel=1)).encode(),
        gzip.compress(CSV),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=examples(100))
@given(st.binary(max_size=200) | damaged(), st.sampled_from(["a.csv", "a"]))
@example(b'{"type":"Feature","properties":{"note":' + b"1" * 5000 + b"}}", "a")
@example(b"PK\x03\x04", "a.zip")
@example(b"\xff\xfea", "a.csv")
def test_no_bytes_raise_anything_but_unreadable_file(folder: Path, content: bytes, name: str) -> None:
    (folder / name).write_bytes(content)
    for source in find_sources([folder / name]):
        for format in FORMATS:
            try:
                recognise(source)
                validate(rows_of(source, format), now=T0)
            except UnreadableFile as error:
                assert "\n" not in str(error)
