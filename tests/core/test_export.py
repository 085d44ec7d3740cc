import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackgen_core.export import CSV_COLUMNS, FORMATS, export_tracks
from trackgen_core.export.columns import decimal_texts, in_units, plain_decimal
from trackgen_core.export.xml import xml_text
from trackgen_core.paths import decode_path, encode_path

GPX = "{http://www.topografix.com/GPX/1/1}"
NAMES = [
    "",
    "ada",
    "=1+2",
    "-x",
    "@y",
    'a "quoted", one',
    "two\nlines",
    "a\rb",
    "<b>&amp;</b>",
    "]]>",
    "Zoë 😀",
    " edge ",
]
MOVING = ("moving_s", "moving_speed_kmh", "mode")
ACROSS = np.array([[179.9, 0.0], [-179.9, 0.0], [-179.8, 0.5]])
ELEVATIONS = ["elevation_gain_cm", "elevation_loss_cm", "elevation_min_cm", "elevation_max_cm"]


def make_tracks(n: int = 3, **columns: object) -> pd.DataFrame:
    start = 1_704_067_200_000 + np.arange(n) * 3_600_000
    tracks = pd.DataFrame(
        {
            "track_id": [f"id-{i}" for i in range(n)],
            "user": "ada",
            "device": "phone",
            "started_ms": start,
            "ended_ms": start + 61_001,
            "points": np.full(n, 3),
            "start_lon": 8.5,
            "start_lat": 47.4,
            "end_lon": 8.6,
            "end_lat": 47.4,
            "length_mm": 12_345_678 + np.arange(n),
            "duration_ms": np.full(n, 61_001),
            "moving_ms": np.full(n, 30_500),
            "avg_speed_kmh": 728.5807,
            "mode": "walk",
            **{name: pd.array([-5] * n, "Int64") for name in ELEVATIONS},
            "break_reason": "time",
            "settings_id": "s",
            "path": [encode_path(np.array([[8.5, 47.4], [8.55, 0.1 + 0.2], [8.6, 47.4 + i]])) for i in range(n)],
        }
    )
    return tracks.assign(**columns)


def make_points(track: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "time_ms": track.started_ms + np.array([0, 250, 61_001]),
            "lon": [8.5, 1e-7, 8.6],
            "lat": [47.4, -1e-7, 47.4],
            "altitude": [410.0, np.nan, -0.05],
        }
    )


def export(format: str, *batches: pd.DataFrame, points_of=make_points) -> bytes:
    out = io.BytesIO()
    assert export_tracks(iter(batches), out, format, points_of=points_of) == sum(map(len, batches))
    return out.getvalue()


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_csv_is_the_contract():
    assert export("csv", make_tracks(1)).decode() == (
        "track_id,user,device,started_at,ended_at,points,distance_m,duration_s,avg_speed_kmh,elevation_gain_m,"
        "elevation_loss_m,elevation_min_m,elevation_max_m,break_reason\n"
        "id-0,ada,phone,2024-01-01T00:00:00.000Z,2024-01-01T00:01:01.001Z,3,12345.678,61.001,728.581,"
        "-0.05,-0.05,-0.05,-0.05,time\n"
    )


def test_unknown_elevations_are_empty_or_null():
    tracks = make_tracks(2, **{name: pd.array([None, 0], "Int64") for name in ELEVATIONS})
    names = [name.replace("_cm", "_m") for name in ELEVATIONS]
    assert [[row[name] for name in names] for row in read_csv(export("csv", tracks))] == [[""] * 4, ["0.00"] * 4]
    features = json.loads(export("geojson", tracks))["features"]
    assert [[f["properties"][name] for name in names] for f in features] == [[None] * 4, [0] * 4]
    table = pq.read_table(io.BytesIO(export("parquet", tracks)))
    assert [table[name].to_pylist() for name in names] == [[None, 0.0]] * 4


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_an_unknown_reason_is_empty_or_null(missing):
    tracks = make_tracks(2, break_reason=pd.Series(["gap", missing], dtype="object"))
    assert [row["break_reason"] for row in read_csv(export("csv", tracks))] == ["gap", ""]
    features = json.loads(export("geojson", tracks))["features"]
    assert [feature["properties"]["break_reason"] for feature in features] == ["gap", None]
    table = pq.read_table(io.BytesIO(export("parquet", tracks)))
    assert table["break_reason"].to_pylist() == ["gap", None]


def test_times_before_1970_and_between_seconds():
    tracks = make_tracks(1, started_ms=[-1], ended_ms=[999])
    (row,) = read_csv(export("csv", tracks))
    assert (row["started_at"], row["ended_at"]) == ("1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.999Z")


def read_name(text):
    """Take off the apostrophe that keeps a spreadsheet from taking a text for a formula."""
    return text.removeprefix("'") if re.match(r"'+[=+\-@\t\r]", text) else text


@pytest.mark.parametrize("name", NAMES)
def test_names_survive(name):
    tracks = make_tracks(1, user=name, device=name)
    (row,) = read_csv(export("csv", tracks))
    (feature,) = json.loads(export("geojson", tracks))["features"]
    (table,) = pq.read_table(io.BytesIO(export("parquet", tracks))).to_pylist()
    assert (read_name(row["user"]), read_name(row["device"])) == (name, name)
    for found in (feature["properties"], table):
        assert (found["user"], found["device"]) == (name, name)
    trk = ET.fromstring(export("gpx", tracks)).find(f"{GPX}trk")
    assert name in trk.findtext(f"{GPX}name")
    assert trk.findtext(f"{GPX}desc").startswith("3 points, 12345.678 m")


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_text_makes_valid_xml(text):
    kept = ET.fromstring(f"<a>{xml_text(text)}</a>".encode()).text or ""
    assert kept == "".join(
        c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff")
    )


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=4))
def test_any_name_comes_back_from_csv(names):
    tracks = make_tracks(len(names), user=names, device=names[::-1])
    rows = read_csv(export("csv", tracks))
    found = [(read_name(row["user"]), read_name(row["device"])) for row in rows]
    assert found == list(zip(names, names[::-1], strict=True))
    assert not [row for row in rows if row["user"].startswith(tuple("=+-@\t\r"))]


@given(st.lists(st.integers(-(2**62), 2**62) | st.none()), st.sampled_from([2, 3]))
def test_decimals_are_exact(amounts, places):
    texts = decimal_texts(pd.Series(amounts, dtype="Int64"), places)
    for amount, text in zip(amounts, texts, strict=True):
        if amount is None:
            assert text == ""
        else:
            assert Decimal(text) == Decimal(amount).scaleb(-places)
            assert len(text.partition(".")[2]) == places


@given(st.integers(-(10**15), 10**15))
def test_json_numbers_show_the_exact_decimal(amount):
    (value,) = in_units(pd.Series([amount]), 1000)
    assert Decimal(json.dumps(value)) == Decimal(amount).scaleb(-3)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_decimals_have_no_exponent_and_lose_nothing(number):
    text = plain_decimal(number)
    assert "e" not in text.lower()
    assert float(text) == number


def test_geojson():
    tracks = make_tracks(2, path=[encode_path(np.array([[8.5, 47.4], [0.1 + 0.2, 1e-7]])), encode_path(ACROSS)])
    document = json.loads(export("geojson", tracks))
    assert document["type"] == "FeatureCollection"
    line, crossing = document["features"]
    assert line["geometry"] == {"type": "LineString", "coordinates": [[8.5, 47.4], [0.30000000000000004, 1e-7]]}
    assert crossing["geometry"] == {
        "type": "MultiLineString",
        "coordinates": [[[179.9, 0.0], [180.0, 0.0]], [[-180.0, 0.0], [-179.9, 0.0], [-179.8, 0.5]]],
    }
    assert line["id"] == "id-0"
    assert tuple(line["properties"]) == (*CSV_COLUMNS, *MOVING)
    assert line["properties"]["distance_m"] == 12345.678
    assert line["properties"]["avg_speed_kmh"] == 728.581
    assert line["properties"]["started_at"] == "2024-01-01T00:00:00.000Z"


def test_gpx():
    root = ET.fromstring(export("gpx", make_tracks(2)))
    assert (root.tag, root.get("version")) == (f"{GPX}gpx", "1.1")
    first, _ = root
    assert [child.tag for child in first] == [f"{GPX}name", f"{GPX}desc", f"{GPX}type", f"{GPX}trkseg"]
    assert first.findtext(f"{GPX}type") == "walk"
    assert first.findtext(f"{GPX}name") == "ada phone 2024-01-01T00:00:00.000Z"
    points = list(first.find(f"{GPX}trkseg"))
    assert [(p.get("lat"), p.get("lon")) for p in points] == [
        ("47.4", "8.5"),
        ("-0.0000001", "0.0000001"),
        ("47.4", "8.6"),
    ]
    assert [[child.tag.removeprefix(GPX) for child in p] for p in points] == [
        ["ele", "time"],
        ["time"],
        ["ele", "time"],
    ]
    assert [p.findtext(f"{GPX}ele") for p in points] == ["410.0", None, "-0.05"]
    assert points[1].findtext(f"{GPX}time") == "2024-01-01T00:00:00.250Z"


def test_gpx_starts_a_segment_at_the_antimeridian_and_stays_below_180():
    lon = [179.9, 180.0, -179.9, -180.0, 179.8]
    points = pd.DataFrame({"time_ms": range(5), "lon": lon, "lat": 0.0, "altitude": np.nan})
    (trk,) = ET.fromstring(export("gpx", make_tracks(1), points_of=lambda track: points))
    written = [[p.get("lon") for p in segment] for segment in trk.iter(f"{GPX}trkseg")]
    assert written == [["179.9"], ["-180.0", "-179.9", "-180.0"], ["179.8"]]


def test_gpx_of_a_track_whose_points_are_gone():
    (trk,) = ET.fromstring(export("gpx", make_tracks(1), points_of=lambda track: make_points(track).iloc[:0]))
    assert [child.tag for child in trk] == [f"{GPX}name", f"{GPX}desc", f"{GPX}type"]


def test_only_those_who_show_points_ask_for_them():
    for format in set(FORMATS) - {"gpx", "mfjson"}:
        export(format, make_tracks(), points_of=lambda track: pytest.fail("asked"))


def test_parquet():
    tracks = make_tracks(3, path=[encode_path(ACROSS)] * 3)
    file = pq.ParquetFile(io.BytesIO(export("parquet", tracks[:2], tracks[2:])))
    assert file.num_row_groups == 2
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"][geo["primary_column"]] == {
        "encoding": "WKB",
        "geometry_types": ["LineString", "MultiLineString"],
    }
    assert file.schema_arrow.names == [*CSV_COLUMNS, *MOVING, "geometry"]
    assert str(file.schema_arrow.field("started_at").type) == "timestamp[ms, tz=UTC]"
    rows = file.read().to_pandas()
    assert rows["distance_m"].tolist() == [12345.678, 12345.679, 12345.68]
    assert rows["elevation_min_m"].tolist() == [-0.05] * 3
    assert rows["started_at"][1] == pd.Timestamp("2024-01-01T01:00Z")
    assert [line.tolist() for line in decode_path(rows["geometry"][0])] == [
        line.tolist() for line in decode_path(tracks["path"][0])
    ]


@pytest.mark.parametrize("batches", [[], [make_tracks(0)]])
def test_no_tracks(batches):
    assert export("csv", *batches).decode() == ",".join(CSV_COLUMNS) + "\n"
    assert json.loads(export("geojson", *batches)) == {"type": "FeatureCollection", "features": []}
    assert len(ET.fromstring(export("gpx", *batches))) == 0
    table = pq.read_table(io.BytesIO(export("parquet", *batches)))
    assert (table.num_rows, table.column_names) == (0, [*CSV_COLUMNS, *MOVING, "geometry"])
    assert b"geo" in table.schema.metadata


@pytest.mark.parametrize("format", FORMATS)
def test_batches_do_not_show(format):
    tracks = make_tracks(5)
    whole = export(format, tracks)
    parts = export(format, tracks[:1], tracks[1:1], tracks[1:4], tracks[4:])
    if format == "parquet":
        assert pq.read_table(io.BytesIO(parts)).equals(pq.read_table(io.BytesIO(whole)))
    else:
        assert parts == whole


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_does_not_wait_for_the_last_batch(format):
    out = io.BytesIO()
    seen = []

    def batches():
        for start in range(3):
            yield make_tracks(3)[start : start + 1]
            seen.append(out.tell())

    export_tracks(batches(), out, format, points_of=make_points)
    assert 0 < seen[0] < seen[1] < seen[2]


def test_a_format_that_does_not_exist():
    with pytest.raises(ValueError, match="'shp' of tracks; there are: csv, geojson, gpx, kml, mfjson, parquet"):
        export_tracks([], io.BytesIO(), "shp", points_of=make_points)
