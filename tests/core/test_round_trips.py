"""What is exported comes back: points to the last bit, tracks with all that is told of them, lines within bounds."""

from __future__ import annotations

import io
import json
import re
import tempfile
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from xmlschema import XMLSchema, XMLSchemaValidationError

from tests.core.test_export import NAMES, make_tracks
from tests.effort import examples
from trackgen_core.export import FORMATS, POINT_FORMATS, TRACKS, export_points, export_tracks, objects
from trackgen_core.geodesy import GEOD
from trackgen_core.paths import decode_path, encode_path, simplified
from trackgen_core.points import ACTIVITIES, POINT_DTYPES, validate
from trackgen_core.readers import NoFixes, find_sources, read, recognise

some = hypothesis_settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
SCHEMA = XMLSchema(Path(__file__).parents[1] / "schemas/gpx-1.1.xsd")
GPX, KML = "{http://www.topografix.com/GPX/1/1}", "{http://www.opengis.net/kml/2.2}"
GX = "{http://www.google.com/kml/ext/2.2}"
ORDER = ["user", "device", "time_ms", "lon", "lat"]


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Points as a store streams them: distinct, in order, every number that may be in it."""
    known = st.floats(0, 1e6) | st.sampled_from([0.1 + 0.2, 1e-7, 5e-324])
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["ada", 'a "quoted", one', "Zoë 😀", "<b>&amp;"]),
                st.sampled_from(["", "phone", "=1+2", "two\nlines"]),
                st.integers(946_684_800_000, 1_750_000_000_000) | st.sampled_from([1_700_000_000_000]),
                st.floats(-180, 180) | st.sampled_from([180.0, -180.0, 179.9999, -179.9999]),
                st.floats(-90, 90).filter(bool),
                *[st.none() | known] * 3,
                st.just(0),
                st.sampled_from([0, 0, 1]),
                st.integers(0, len(ACTIVITIES) - 1),
            ),
            max_size=12,
            unique_by=lambda row: row[:5],
        )
    )
    frame = pd.DataFrame(rows, columns=list(POINT_DTYPES)).astype(POINT_DTYPES)
    frame[["lon", "lat"]] += 0.0
    noise = draw(st.lists(st.sampled_from([None, "spike"]), min_size=len(rows), max_size=len(rows)))
    return frame.assign(noise=pd.Series(noise, dtype=object)).sort_values(ORDER, ignore_index=True)


def imported(data: bytes, format: str) -> pd.DataFrame:
    """The points of a file, as the import reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"points.{format}"
        path.write_bytes(data)
        (source,) = find_sources([path])
        assert recognise(source) == format
        validated = [validate(rows) for rows in read(source, format)]
    assert not any(one.ignored for one in validated)
    assert {reason for one in validated for reason in one.rejected} <= {"no readable time"}
    none = pd.DataFrame(columns=list(POINT_DTYPES)).astype(POINT_DTYPES)
    return pd.concat([none, *(one.points for one in validated)], ignore_index=True)


def exported_points(frame: pd.DataFrame, format: str) -> bytes:
    out = io.BytesIO()
    assert export_points([frame[:3], frame[:0], frame[3:]], out, format) == len(frame)
    return out.getvalue()


@some
@given(frames())
def test_points_come_back_from_csv_and_geojson(frame: pd.DataFrame) -> None:
    for format in ("csv", "geojson"):
        pd.testing.assert_frame_equal(
            imported(exported_points(frame, format), format), frame[list(POINT_DTYPES)], check_exact=True
        )


@some
@given(frames())
def test_points_come_back_from_gpx_all_but_their_owner(frame: pd.DataFrame) -> None:
    data = exported_points(frame, "gpx")
    assert_gpx(data)
    expected = frame[list(POINT_DTYPES)].assign(user="", device="").astype(POINT_DTYPES)
    expected["lon"] = expected["lon"].where(expected["lon"] != 180, -180.0)
    if frame.empty:
        with pytest.raises(NoFixes):
            imported(data, "gpx")
    else:
        pd.testing.assert_frame_equal(imported(data, "gpx"), expected, check_exact=True)
    names = [trk.findtext(f"{GPX}name") for trk in ET.fromstring(data)]
    owners = frame[["user", "device"]].drop_duplicates().itertuples(index=False)
    assert names == [" ".join(filter(None, owner)) for owner in owners]


@some
@given(frames())
def test_points_come_back_from_parquet_with_their_noise(frame: pd.DataFrame) -> None:
    table = pq.read_table(io.BytesIO(exported_points(frame, "parquet")))
    assert table["noise"].to_pylist() == frame["noise"].tolist()
    back = table.to_pandas().rename(columns={"timestamp": "time_ms"}).assign(seq=0)[list(POINT_DTYPES)]
    back["activity"] = back["activity"].fillna("").map(ACTIVITIES.index)
    back["time_ms"] = back["time_ms"].astype("int64")
    pd.testing.assert_frame_equal(back.astype(POINT_DTYPES), frame[list(POINT_DTYPES)], check_exact=True)
    places = [np.array(place, "<f8").tobytes() for place in zip(frame["lon"], frame["lat"], strict=True)]
    assert [place[5:] for place in table["geometry"].to_pylist()] == places


def test_points_with_noise_in_csv_and_geojson() -> None:
    row = ["ada", "phone", 1_700_000_000_250, 8.5, 47.0, 410.5, np.nan, 1.25, 0, 1, 2, "spike"]
    frame = pd.DataFrame([row], columns=[*POINT_DTYPES, "noise"])
    assert exported_points(frame, "csv").decode() == (
        "user,device,timestamp,lon,lat,altitude,accuracy,speed,noise,pause,activity\n"
        "ada,phone,2023-11-14T22:13:20.250Z,8.5,47.0,410.5,,1.25,spike,1,walk\n"
    )
    (feature,) = json.loads(exported_points(frame, "geojson"))["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [8.5, 47.0, 410.5]}
    assert feature["properties"] == {
        "user": "ada",
        "device": "phone",
        "timestamp": "2023-11-14T22:13:20.250Z",
        "accuracy": None,
        "speed": 1.25,
        "noise": "spike",
        "pause": 1,
        "activity": "walk",
    }


@pytest.mark.parametrize("format", POINT_FORMATS)
def test_batches_of_points_do_not_show_and_are_not_held(format: str) -> None:
    rows = [
        ["ada", "phone" if n < 3 else "watch", 10**12 + n, 8.5, 47.0, *[np.nan] * 3, 0, 0, 0, None] for n in range(5)
    ]
    frame = pd.DataFrame(rows, columns=[*POINT_DTYPES, "noise"])
    out, seen = io.BytesIO(), []

    def batches():
        for n in range(5):
            yield frame[n : n + 1]
            seen.append(out.tell())

    assert export_points(batches(), out, format) == 5
    assert seen == sorted(set(seen))
    whole = exported_points(frame, format)
    if format == "parquet":
        assert pq.read_table(out).equals(pq.read_table(io.BytesIO(whole)))
    else:
        assert out.getvalue() == whole


# Tracks


def exported(tracks: pd.DataFrame, format: str, points_of=None, **options: object) -> bytes:
    out = io.BytesIO()
    assert export_tracks([tracks], out, format, points_of=points_of, **options) == len(tracks)
    return out.getvalue()


def track_of(points: pd.DataFrame) -> pd.DataFrame:
    return make_tracks(1, path=[encode_path(points[["lon", "lat"]].to_numpy())])


@st.composite
def ways(draw: st.DrawFn, reach: float = 200) -> pd.DataFrame:
    """The points of a track, also around the antimeridian."""
    start = draw(st.sampled_from([179.0, -179.0, 8.0]))
    steps = draw(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=15))
    waits = draw(st.lists(st.integers(0, 9), min_size=15, max_size=15))
    east, north = np.cumsum(steps, axis=0).T * reach / 4000
    return pd.DataFrame(
        {
            "time_ms": 1_704_067_200_000 + np.cumsum(waits)[: len(east)],
            "lon": (start + east + 180) % 360 - 180,
            "lat": north,
            "altitude": draw(st.sampled_from([np.nan, 410.5])),
        }
    ).sort_values(["time_ms", "lon", "lat"], ignore_index=True)


@some
@given(ways())
def test_points_of_tracks_come_back_from_every_format_that_shows_them(way: pd.DataFrame) -> None:
    values = ["time_ms", "lon", "lat", "altitude"]
    tracks = track_of(way)
    data = exported(tracks, "geojson", lambda _: way, points=True)
    pd.testing.assert_frame_equal(imported(data, "geojson")[values], way[values], check_exact=True)

    gpx = exported(tracks, "gpx", lambda _: way)
    assert_gpx(gpx)
    pd.testing.assert_frame_equal(imported(gpx, "gpx")[values], way[values], check_exact=True)
    for segment in ET.fromstring(gpx).iter(f"{GPX}trkseg"):
        assert (np.abs(np.diff([float(point.get("lon")) for point in segment])) <= 180).all()

    (track,) = ET.fromstring(exported(tracks, "kml", lambda _: way, points=True)).iter(f"{GX}Track")
    whens = [when.text for when in track.iter(f"{KML}when")]
    assert pd.to_datetime(whens).astype("datetime64[ms, UTC]").astype("int64").tolist() == way["time_ms"].tolist()
    coords = [list(map(float, coord.text.split())) for coord in track.iter(f"{GX}coord")]
    width = 2 if np.isnan(way["altitude"][0]) else 3
    assert coords == way[values[1:]].to_numpy()[:, :width].tolist()

    (feature,) = json.loads(exported(tracks, "mfjson", lambda _: way))["features"]
    moving = feature["temporalGeometry"]
    assert (moving["type"], moving["interpolation"]) == ("MovingPoint", "Linear")
    once = way.drop_duplicates("time_ms")
    assert moving["coordinates"] == once[values[1:]].to_numpy()[:, :width].tolist()
    times = pd.to_datetime(moving["datetimes"]).astype("datetime64[ms, UTC]").astype("int64")
    assert times.tolist() == once["time_ms"].tolist()
    assert times.is_monotonic_increasing
    assert times.is_unique


def test_a_single_point_beyond_the_antimeridian_is_not_lost() -> None:
    lon = [179.9, -180.0, 179.8, 180.0]
    way = pd.DataFrame({"time_ms": range(10**12, 10**12 + 4), "lon": lon, "lat": 0.5, "altitude": np.nan})
    data = exported(track_of(way), "geojson", lambda _: way, points=True)
    geometry = json.loads(data)["features"][0]["geometry"]
    assert all(len(line) > 1 for line in geometry["coordinates"])  # RFC 7946, 3.1.4
    assert imported(data, "geojson")["lon"].tolist() == lon


@pytest.mark.parametrize("points", [True, False])
def test_tracks_come_back_from_every_format(points: bool) -> None:
    way = pd.DataFrame({"time_ms": [10**12, 10**12 + 9], "lon": [8.5, 8.6], "lat": [47.0, 47.1], "altitude": 1.5})
    tracks = make_tracks(3, user=["ada", "<b>&amp;", "Zoë 😀"], break_reason=["start", None, "stay"])
    expected = list(objects(tracks, TRACKS))
    options = {"points_of": lambda _: way, "points": points}
    features = json.loads(exported(tracks, "geojson", **options))["features"]
    assert [{k: v for k, v in f["properties"].items() if k != "coordTimes"} for f in features] == expected
    if points:
        features = json.loads(exported(tracks, "mfjson", **options))["features"]
        assert [feature["properties"] for feature in features] == expected
    else:
        (table,) = [pq.read_table(io.BytesIO(exported(tracks, "parquet", **options)))]
        assert table["distance_m"].to_pylist() == [track["distance_m"] for track in expected]
        assert table["user"].to_pylist() == ["ada", "<b>&amp;", "Zoë 😀"]
    placemarks = ET.fromstring(exported(tracks, "kml", **options)).iter(f"{KML}Placemark")
    for placemark, track in zip(placemarks, expected, strict=True):
        geometry = GX + "Track" if points else KML + "LineString"
        assert [child.tag for child in placemark] == [
            *(f"{KML}{name}" for name in ("name", "TimeSpan", "ExtendedData")),
            geometry,
        ]
        found = {data.get("name"): data.findtext(f"{KML}value") for data in placemark.iter(f"{KML}Data")}
        assert list(found) == list(TRACKS)
        for name, value in track.items():
            if isinstance(value, int | float):
                assert float(found[name]) == value
            else:
                assert found[name] == (value or "")


def test_paths_come_back_from_kml_and_parquet() -> None:
    across = np.array([[179.9, 0.0], [-179.9, 1e-7], [-179.8, 0.5]])
    tracks = make_tracks(2, path=[encode_path(across), encode_path(across[1:])])
    kml = ET.fromstring(exported(tracks, "kml"))
    multi, single = kml.iter(f"{KML}Placemark")
    expected = [[line.tolist() for line in decode_path(path)] for path in tracks["path"]]
    for placemark, lines in zip((multi, single), expected, strict=True):
        texts = [c.text for c in placemark.iter(f"{KML}coordinates")]
        assert [[[float(x) for x in vertex.split(",")] for vertex in text.split()] for text in texts] == lines
    assert [child.tag for child in multi][-1] == f"{KML}MultiGeometry"
    table = pq.read_table(io.BytesIO(exported(tracks, "parquet", simplify_m=0.001)))
    assert [[line.tolist() for line in decode_path(path)] for path in table["geometry"].to_pylist()] == expected


# Lines that are simplified


@some
@given(ways(reach=20), st.sampled_from([0.5, 50.0, 2000.0]))
def test_what_is_left_out_lies_near_what_is_left(way: pd.DataFrame, tolerance_m: float) -> None:
    whole = way[["lon", "lat"]].assign(number=range(len(way))).to_numpy("float64")
    left = simplified(whole, tolerance_m)
    numbers = left[:, 2].astype(int).tolist()
    assert (numbers[0], numbers[-1]) == (0, len(way) - 1)
    np.testing.assert_array_equal(left, whole[numbers])
    unwrapped = np.unwrap(whole[:, 0], period=360)
    for first, last in pairwise(numbers):
        share = np.linspace(0, 1, 401)
        lon = unwrapped[first] + share * (unwrapped[last] - unwrapped[first])
        lat = whole[first, 1] + share * (whole[last, 1] - whole[first, 1])
        step_m = GEOD.inv(lon[0], lat[0], lon[-1], lat[-1])[2] / 400
        for vertex in range(first + 1, last):
            apart = GEOD.inv(np.full(401, unwrapped[vertex]), np.full(401, whole[vertex, 1]), lon, lat)[2]
            assert apart.min() <= tolerance_m * 1.001 + step_m
    assert len(simplified(whole, 0)) == len(whole)


def test_a_line_without_a_bend_becomes_its_ends() -> None:
    straight = np.column_stack([np.linspace(8, 9, 100), np.linspace(47, 48, 100)])
    assert simplified(straight, 0.01).tolist() == straight[[0, -1]].tolist()
    bent = np.vstack([straight, straight[::-1]])
    assert simplified(bent, 0.01).tolist() == [straight[0].tolist(), straight[-1].tolist(), straight[0].tolist()]


@pytest.mark.parametrize("format", FORMATS)
def test_simplified_tracks_keep_their_figures(format: str) -> None:
    lon = np.linspace(8, 9, 50)
    way = pd.DataFrame({"time_ms": 10**12 + np.arange(50), "lon": lon, "lat": 0.0, "altitude": np.nan})
    whole, left = (exported(track_of(way), format, lambda _: way, simplify_m=metres) for metres in (0, 5))
    if format == "parquet":
        tables = [pq.read_table(io.BytesIO(data)) for data in (whole, left)]
        assert tables[0].drop("geometry").equals(tables[1].drop("geometry"))
        assert len(decode_path(tables[1]["geometry"][0].as_py())[0]) == 2
    elif format == "csv":
        assert whole == left
    else:
        vertices = rb"<trkpt|<coord|8\.\d+,0\.0" if format in ("gpx", "kml") else rb"\[\d+\.\d+,0\.0\]"
        assert len(re.findall(vertices, whole)) >= 49
        assert len(re.findall(vertices, left)) <= 3
        assert re.findall(rb"12345\.678", left) == re.findall(rb"12345\.678", whole) != []


@pytest.mark.parametrize(
    ("format", "points", "said"),
    [
        ("csv", True, "csv holds tracks without their points"),
        ("parquet", True, "parquet holds tracks without"),
        ("gpx", False, "gpx holds tracks only with their points"),
        ("mfjson", False, "mfjson holds tracks only with"),
    ],
)
def test_what_a_format_cannot_do(format: str, points: bool, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exported(make_tracks(1), format, points=points)
    with pytest.raises(ValueError, match="from 0 on"):
        exported(make_tracks(1), "geojson", simplify_m=float("nan"))
    with pytest.raises(ValueError, match="'owntracks' of points; there are: csv, geojson, gpx, parquet"):
        export_points([], io.BytesIO(), "owntracks")


# Other programs


def test_geopandas_and_gdal_open_what_is_written(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas", reason="GeoPandas is not installed")
    way = pd.DataFrame({"time_ms": [10**12, 10**12 + 9], "lon": [8.5, 8.6], "lat": [47.0, 47.1], "altitude": 1.5})
    tracks = make_tracks(2)
    found = {}
    for format in ("geojson", "gpx", "kml", "parquet"):
        path = tmp_path / f"tracks.{format}"
        path.write_bytes(exported(tracks, format, lambda _: way))
        layer = {"layer": "tracks"} if format == "gpx" else {}
        found[format] = geopandas.read_parquet(path) if format == "parquet" else geopandas.read_file(path, **layer)
        assert found[format].crs in ("EPSG:4326", "OGC:CRS84")
    assert len(geopandas.read_file(tmp_path / "tracks.gpx", layer="track_points")) == 4
    for format in ("geojson", "kml", "parquet"):
        assert found[format].geometry.geom_type.tolist() == ["LineString"] * 2
    assert found["parquet"]["distance_m"].tolist() == found["geojson"]["distance_m"].tolist()


def assert_gpx(data: bytes) -> None:
    """Check a document against the published schema, and what that leaves open: there is no empty <extensions>."""
    SCHEMA.validate(data)
    assert all(len(element) for element in ET.fromstring(data).iter(f"{GPX}extensions"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("simplify_m", [0, 100])
def test_gpx_is_what_its_schema_says(name: str, simplify_m: float) -> None:
    way = pd.DataFrame(
        {
            "time_ms": [-1, 0, 10**12, 10**12, 4 * 10**12],
            "lon": [179.9, 180.0, -180.0, -179.9, 1e-7],
            "lat": [90.0, -1e-7, 5e-324, -90.0, 0.0],
            "altitude": [-0.05, np.nan, 1e300, 5e-324, 0.0],
        }
    )
    tracks = make_tracks(2, user=name, device=name)
    assert_gpx(exported(tracks, "gpx", lambda _: way, simplify_m=simplify_m))
    assert_gpx(exported(tracks, "gpx", lambda _: way[:0], simplify_m=simplify_m))
    assert_gpx(exported(tracks[:0], "gpx"))
    points = way.assign(user=name, device=name, accuracy=way["altitude"].abs(), speed=[np.nan, 0, 1, 2, 3], noise=None)
    points = points.assign(pause=[1, 0, 0, 1, 0], activity=[0, 1, 2, 2, 8])
    assert_gpx(exported_points(points, "gpx"))
    assert_gpx(exported_points(points[:0], "gpx"))


def test_the_check_of_gpx_finds_what_is_wrong() -> None:
    good = exported_points(one_point(), "gpx").decode()
    assert_gpx(good.encode())
    for old, new in (
        ("<ele>1.5</ele>", "<speed>1.5</speed>"),
        ("<time>", "<time>on "),
        ('lon="8.5"', 'lon="180"'),
        ("47.0", "4.7e1"),
        ('version="1.1"', 'version="1.0"'),
        ("<extensions>", "<extensions><ele>1</ele>"),
    ):
        assert old in good
        with pytest.raises(XMLSchemaValidationError):
            assert_gpx(good.replace(old, new, 1).encode())


def one_point() -> pd.DataFrame:
    rows = [["ada", "phone", 10**12, 8.5, 47.0, 1.5, 9.0, 1.25, 0, 0, 0, None]]
    return pd.DataFrame(rows, columns=[*POINT_DTYPES, "noise"])
