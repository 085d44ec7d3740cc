"""JSON as other programs write it, in the shape of their published descriptions or exports."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.core.files import T0, bring, places, rows_of, source_of
from trackgen_core.readers import NoFixes, UnreadableFile, recognise
from trackgen_core.readers.tables import UTC_ASSUMED

S0 = T0 // 1000
PLACES = [(0, 8.1, 47.1), (1000, 8.2, 47.2)]


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def line(*coordinates: list[Any], kind: str = "LineString") -> dict[str, Any]:
    return {"type": kind, "coordinates": list(coordinates)}


WALK = line([8.1, 47.1], [8.2, 47.2])
TIMES = ["2024-05-01T10:00:00Z", S0 + 1]


@pytest.mark.parametrize(
    "document",
    [
        feature({"type": "MultiPoint", "coordinates": WALK["coordinates"]}, coordTimes=TIMES),
        feature({"type": "MultiPoint", "coordinates": WALK["coordinates"]}, time=TIMES),
        feature(WALK, timestamps=TIMES),
        feature(line([8.1, 47.1, 401, S0], [8.2, 47.2, 402, S0 + 1])),
        feature(line([8.1, 47.1, 401, TIMES[0]], [8.2, 47.2, 402, "2024-05-01T10:00:01Z"])),
        feature(line([8.1, 47.1, S0], [8.2, 47.2, S0 + 1])),
        feature(line(["8.1", "47.1"], ["8.2", "47.2"]), times=TIMES),
        feature({"type": "GeometryCollection", "geometries": [{"type": "Polygon"}, WALK]}, coordTimes=TIMES),
        feature(
            {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": [WALK]}]},
            coordTimes=TIMES,
        ),
        line([8.1, 47.1, 401, T0], [8.2, 47.2, 402, T0 + 1000]),
        {"type": "GeometryCollection", "geometries": [line([8.1, 47.1, 0, T0], [8.2, 47.2, 0, T0 + 1000])]},
    ],
)
def test_geojson_of_all_kinds(tmp_path: Path, document: Any) -> None:
    assert places(rows_of(source_of(tmp_path, json.dumps(document), "a.json"), "geojson")) == PLACES


def test_geojson_values_may_be_texts(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": ["8.1", "47.1"]}
    document = feature(point, timestamp=S0, altitude="401", accuracy="5", speed_kmh="36", tracker_id="a")
    (row,) = rows_of(source_of(tmp_path, json.dumps(document), "a.json"))[
        ["altitude", "accuracy", "speed", "device"]
    ].to_numpy()
    assert row.tolist() == [401, 5, 10, "a"]


def test_geojson_a_time_in_a_property_beats_that_of_a_coordinate(tmp_path: Path) -> None:
    document = feature({"type": "Point", "coordinates": [8.1, 47.1, 401, 12.5]}, time=S0)
    rows = rows_of(source_of(tmp_path, json.dumps(document), "a.json"))
    assert places(rows) == PLACES[:1]
    assert rows["altitude"].tolist() == [401]


def test_geojson_collections_in_collections_have_a_limit(tmp_path: Path) -> None:
    geometry: dict[str, Any] = WALK
    for _ in range(50):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    source = source_of(tmp_path, json.dumps(feature(geometry, coordTimes=TIMES)), "a.json")
    (report,), points = bring(tmp_path, Path(source.path))
    assert "no fixes" in str(report.error)
    assert not points


def message(i: int, **more: Any) -> dict[str, Any]:
    return {
        "_type": "location",
        "tid": "ab",
        "lat": 47.1 + i / 10,
        "lon": 8.1 + i / 10,
        "tst": S0 + i,
        "acc": 5,
        **more,
    }


OTHER = {"_type": "lwt", "tst": 1}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([OTHER, message(0), message(1)]),
        json.dumps([message(0), message(1)], indent=2),
        "\n".join(map(json.dumps, [message(0), OTHER, message(1)])),
        json.dumps({"count": 2, "data": [message(0), message(1)], "status": 200, "version": "0.9"}),
        json.dumps({"data": [OTHER, message(0), message(1)]}, indent=1),
        "".join(f"2024-05-01T10:00:0{i}Z  *                   {json.dumps(message(i))}\n" for i in range(2)),
        "".join(f"2024-05-01T10:00:0{i}Z\t*                 \t{json.dumps(message(i))}\n" for i in range(2)),
        "".join(f"2024-05-01T10:00:0{i}Z * {json.dumps({**message(i), 'tst': None})}\n" for i in range(2)),
    ],
)
def test_owntracks(tmp_path: Path, text: str) -> None:
    rows = rows_of(source_of(tmp_path, text, "a.json"), "owntracks")
    assert [(time, round(lon, 6), round(lat, 6)) for time, lon, lat in places(rows)] == PLACES
    assert set(rows["accuracy"]) == {5}


def test_owntracks_devices(tmp_path: Path) -> None:
    messages = [message(0, topic="owntracks/jo/phone"), message(1, device="watch"), message(2)]
    assert rows_of(source_of(tmp_path, json.dumps(messages), "a.json"))["device"].tolist() == ["phone", "watch", ""]


# Apps


def arc_sample(i: int, nested: bool) -> dict[str, Any]:
    iso = f"2024-05-01T10:00:0{i}Z"
    place = {
        **{"latitude": 47.1 + i / 10, "longitude": 8.1 + i / 10, "altitude": 401},
        **{"horizontalAccuracy": 5, "verticalAccuracy": 3, "speed": 1.5},
    }
    if nested:
        return {"sampleId": "x", "date": iso, "movingState": "moving", "location": {**place, "timestamp": iso}}
    return {"id": "x", "date": iso, "movingState": 1, "recordingState": 2, "timelineItemId": "y", **place}


ARC = [
    arc_sample(0, nested=True),
    {"date": "2024-05-01T10:00:00Z", "movingState": "stationary"},
    arc_sample(1, nested=True),
]
NEW_ARC = [arc_sample(0, nested=False), {"id": "z", "date": "2024-05-01T10:00:00Z"}, arc_sample(1, nested=False)]


@pytest.mark.parametrize(
    "document",
    [
        {"timelineItems": [{"itemId": "x", "isVisit": True, "samples": ARC[:2]}, {"itemId": "y", "samples": ARC[2:]}]},
        {"itemId": "x", "samples": ARC},
        [{"itemId": "x", "samples": ARC}],
        NEW_ARC,
        {"schemaVersion": "1.0.0", "exportMode": "singleFile", "items": [{}], "places": [], "samples": NEW_ARC},
    ],
)
def test_arc(tmp_path: Path, document: Any) -> None:
    rows = rows_of(source_of(tmp_path, json.dumps(document), "a.json"), "arc")
    assert [(time, round(lon, 6), round(lat, 6)) for time, lon, lat in places(rows)] == PLACES
    assert rows[["altitude", "accuracy", "speed"]].to_numpy().tolist() == [[401, 5, 1.5]] * 2


def test_samsung_health(tmp_path: Path) -> None:
    points = [
        {"start_time": T0, "latitude": 47.1, "longitude": 8.1, "altitude": 401.0, "accuracy": 5.0},
        {"start_time": T0 + 1000, "latitude": 47.2, "longitude": 8.2},
    ]
    rows = rows_of(source_of(tmp_path, json.dumps(points), "x.location_data.json"), "samsung-health")
    assert places(rows) == PLACES
    assert rows.loc[0, ["altitude", "accuracy"]].tolist() == [401, 5]


def test_runtastic(tmp_path: Path) -> None:
    points = [
        {
            **{
                "version": 1,
                "timestamp": f"2024-05-01 12:00:0{i} +0200",
                "longitude": 8.1 + i / 10,
                "latitude": 47.1 + i / 10,
            },
            **{"altitude": 401, "accuracy_v": 0, "accuracy_h": 6 * i, "speed": 36, "duration": 1000, "distance": 10},
        }
        for i in range(2)
    ]
    rows = rows_of(source_of(tmp_path, json.dumps(points), "gps.json"), "runtastic")
    assert [(time, round(lon, 6), round(lat, 6)) for time, lon, lat in places(rows)] == PLACES
    assert rows["speed"].tolist() == [10, 10]
    assert rows["accuracy"].tolist() == pytest.approx([math.nan, 6], nan_ok=True)


@pytest.mark.parametrize(
    ("start", "route", "offset", "noted"),
    [
        ("2024-05-01T12:00:00.000", "2024-05-01T12:00:0", 120, False),
        ("2024-05-01T12:00:00.000", "2024-05-01T10:00:0", 120, False),
        ("2024-05-01T10:00:00.000", "2024-05-01T10:00:0", None, True),
        ("2024-05-01T10:00:00.000", "2024-05-01T10:00:0", 0, False),
    ],
)
def test_polar(tmp_path: Path, start: str, route: str, offset: int | None, noted: bool) -> None:
    points = [
        {"dateTime": f"{route}{i}.000", "longitude": 8.1 + i / 10, "latitude": 47.1 + i / 10, "altitude": 401}
        for i in range(2)
    ]
    exercise = {"startTime": start, "samples": {"heartRate": [], "recordedRoute": points}, "timezoneOffset": offset}
    document = {"exportVersion": "1.6", "name": "x", "exercises": [exercise, {"samples": {}}]}
    source = source_of(tmp_path, json.dumps(document), "training-session.json")
    assert [(time, round(lon, 6), round(lat, 6)) for time, lon, lat in places(rows_of(source, "polar"))] == PLACES
    assert (UTC_ASSUMED in source.notes) == noted


def test_polar_of_newer_exports(tmp_path: Path) -> None:
    points = [
        {"longitude": 8.1 + i / 10, "latitude": 47.1 + i / 10, "altitude": 401, "elapsedMillis": 1000 * i}
        for i in (0, 1)
    ]
    points.append({"longitude": 8, "latitude": 47, "elapsedMillis": 1e300})
    route = {"startTime": "2024-05-01T12:00:00", "wayPoints": points}
    exercise = {"startTime": "2024-05-01T12:00:00", "timezoneOffset": 120, "routes": {"route": route}}
    document = {"exportVersion": "1.7", "exercises": [exercise]}
    found = places(rows_of(source_of(tmp_path, json.dumps(document), "training-session.json"), "polar"))
    assert [(time, round(lon, 6), round(lat, 6)) for time, lon, lat in found] == [*PLACES, (None, 8, 47)]


def suunto_sample(i: int) -> dict[str, Any]:
    return {
        "Latitude": math.radians(47.1 + i / 10),
        "Longitude": math.radians(8.1 + i / 10),
        **{"GPSAltitude": 401, "EHPE": 5, "UTC": f"2024-05-01T10:00:0{i}.000+00:00"},
    }


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_suunto(tmp_path: Path, nested: bool, as_text: bool) -> None:
    def wrapped(sample: dict[str, Any]) -> dict[str, Any]:
        attributes = {"suunto/sml": {"Sample": sample}}
        return {
            "Attributes": json.dumps(attributes) if as_text else attributes,
            "Source": "suunto-1",
            "TimeISO8601": "2024-05-01T12:00:00.000+02:00",
        }

    samples = [{"HR": 1.3}, suunto_sample(0), {**suunto_sample(1)}]
    document = (
        {"DeviceLog": {"Header": {"Duration": 1}, "Samples": samples}}
        if nested
        else {"Samples": [*map(wrapped, samples), {"Attributes": "{"}]}
    )
    rows = rows_of(source_of(tmp_path, json.dumps(document), "samples.json"), "suunto")
    assert [(time, round(lon, 9), round(lat, 9)) for time, lon, lat in places(rows)] == PLACES
    assert rows[["altitude", "accuracy"]].to_numpy().tolist() == [[401, 5]] * 2


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"ts": S0, "lat": 47.1, "lng": 8.1}, {"ts": S0 + 1, "lat": "47.2", "lng": "8.2"}]),
        '{"time": "2024-05-01T10:00:00Z", "lat": 47.1, "lon": 8.1}\n{"time": 1714557601, "lat": 47.2, "lon": 8.2}\n',
        json.dumps(
            {
                "name": "x",
                "points": [{"t": S0 + i, "latitudeE7": 471000000 + i * 1000000, "lon": 8.1 + i / 10} for i in range(2)],
            }
        ),
        json.dumps(
            [
                {"timestamp": T0 + i * 1000, "coords": {"latitude": 47.1 + i / 10, "longitude": 8.1 + i / 10}}
                for i in range(2)
            ]
        ),
    ],
)
def test_objects_that_are_named_like_columns(tmp_path: Path, text: str) -> None:
    rows = rows_of(source_of(tmp_path, text, "a.json"), "json")
    assert [(time, round(lon, 6), round(lat, 6)) for time, lon, lat in places(rows)] == PLACES


@pytest.mark.parametrize("text", ["[", "[{}]", '{"a": [1]}', '[{"time": 1, "lat": 2}]', "{" * 5000, '{"exercises": 1}'])
def test_other_json_is_none_of_these(tmp_path: Path, text: str) -> None:
    assert recognise(source_of(tmp_path, text, "a.json")) is None


@pytest.mark.parametrize(
    "document",
    [
        {"timelineItems": []},
        {"exportVersion": "1", "exercises": []},
        {"DeviceLog": {}},
        [{"start_time": None, "latitude": None, "longitude": None}],
    ],
)
def test_apps_without_fixes_say_so(tmp_path: Path, document: Any) -> None:
    source = source_of(tmp_path, json.dumps(document), "a.json")
    (report,), _ = bring(tmp_path, Path(source.path))
    assert "no fixes" in str(report.error)


# Google's estimates


IOS = [
    {
        "startTime": "2024-05-01T10:00:00Z",
        "endTime": "2024-05-01T10:00:05Z",
        "visit": {"topCandidate": {"placeLocation": "geo:47.1,8.1"}},
    },
    {
        "startTime": "2024-05-01T10:00:05Z",
        "endTime": "2024-05-01T10:00:09Z",
        "activity": {"start": "geo:47.1,8.1", "end": "geo:47.2,8.2"},
    },
]
ANDROID = {
    "semanticSegments": [
        {**IOS[0], "visit": {"topCandidate": {"placeLocation": {"latLng": "47.1°, 8.1°"}}}},
        {**IOS[1], "activity": {"start": {"latLng": "47.1°, 8.1°"}, "end": {"latLng": "47.2°, 8.2°"}}},
    ]
}
MONTH = {
    "timelineObjects": [
        {
            "placeVisit": {
                "location": {"latitudeE7": 471000000, "longitudeE7": 81000000},
                "duration": {"startTimestamp": "2024-05-01T10:00:00Z", "endTimestamp": "2024-05-01T10:00:05Z"},
            }
        },
        {
            "activitySegment": {
                "startLocation": {"latitudeE7": 471000000, "longitudeE7": 81000000},
                "endLocation": {"latitudeE7": 472000000, "longitudeE7": 82000000},
                "duration": {"startTimestampMs": str(T0 + 5000), "endTimestampMs": str(T0 + 9000)},
            }
        },
    ]
}


@pytest.mark.parametrize("document", [IOS, ANDROID, MONTH], ids=["ios", "android", "month"])
def test_visits_and_activities_of_google_only_if_asked_for(tmp_path: Path, document: Any) -> None:
    strict = source_of(tmp_path, json.dumps(document), "Timeline.json")
    with pytest.raises(NoFixes, match="3 estimates of Google alone, of visits and activities; with --visits"):
        rows_of(strict, "google")
    wanted = source_of(tmp_path, json.dumps(document), "Timeline.json", visits=True)
    assert places(rows_of(wanted)) == [(0, 8.1, 47.1), (5000, 8.1, 47.1), (5000, 8.1, 47.1), (9000, 8.2, 47.2)]


def test_a_json_document_that_breaks_off_says_where(tmp_path: Path) -> None:
    text = json.dumps({"timelineItems": [{"itemId": "x", "samples": ARC}] * 3})
    with pytest.raises(UnreadableFile, match=r"byte \d+: the file breaks off"):
        rows_of(source_of(tmp_path, text[:-200], "a.json"))
