"""The formats that come as JSON. The examples have the shape of the published descriptions of each format."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from trackgen_core.points import POINT_DTYPES, validate
from trackgen_core.readers import NoFixes, UnreadableFile, columns, find_sources, read, recognise
from trackgen_core.readers.google import COVERED, END, PLACE, WAY
from trackgen_core.readers.sources import Source
from trackgen_core.readers.traccar import INVALID

T0 = 1714557600000  # 2024-05-01T10:00:00Z


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def save(folder: Path, document: Any, name: str = "a.json") -> Source:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    (source,) = find_sources([path])
    return source


def imported(source: Source, format: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the points of a file that must be recognised as of this format, and why others are none."""
    assert recognise(source) == format
    frames = list(read(source, format))
    assert all(0 < len(frame) <= columns.BATCH_ROWS for frame in frames)
    validated = [validate(frame) for frame in frames]
    points = pd.concat([one.points for one in validated], ignore_index=True)
    assert list(points) == list(POINT_DTYPES)
    reasons: dict[str, int] = {}
    for one in validated:
        for reason, count in one.rejected.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return points, reasons


def places(points: pd.DataFrame) -> list[tuple[int, float, float]]:
    return list(points[["time_ms", "lon", "lat"]].itertuples(index=False, name=None))


# Google: Records.json


def record(ms: int, lat_e7: int, lon_e7: int, **more: Any) -> dict[str, Any]:
    return {"latitudeE7": lat_e7, "longitudeE7": lon_e7, "timestamp": iso(ms), "source": "WIFI", **more}


def test_google_records(tmp_path: Path) -> None:
    scan = {"accessPoints": [{"mac": "1", "strength": -60}]}
    activity = [{"activity": [{"type": "STILL", "confidence": 9}], "timestamp": iso(T0)}]
    records = [
        record(T0, 471234567, 81234567, accuracy=20, altitude=410, velocity=3, deviceTag=-1184882232, heading=270),
        record(T0 + 1, 471234568, 81234567, activeWifiScan=scan, activity=activity, deviceTag=7),
        {"timestampMs": str(T0 + 2), "latitudeE7": 471234569, "longitudeE7": 81234567, "accuracy": 18000},
        {"timestamp": iso(T0), "activeWifiScan": scan},
        {"latitudeE7": 471234569, "longitudeE7": 81234567},
        "junk",
    ]
    points, reasons = imported(save(tmp_path, {"locations": records}), "google")
    assert places(points) == [(T0 + i, 8.1234567, round(47.1234567 + i / 1e7, 7)) for i in range(3)]
    assert points["device"].tolist() == ["-1184882232", "7", ""]
    assert points.loc[0, ["altitude", "accuracy", "speed"]].tolist() == [410, 20, 3]
    assert points["accuracy"].isna().tolist() == [False, True, False]
    assert reasons == {"no readable position": 1, "no readable time": 2}


@given(st.integers(-900_000_000, 900_000_000).filter(bool), st.integers(-1_800_000_000, 1_800_000_000), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(30))
def test_google_coordinates_that_were_written_as_unsigned_are_mended(
    tmp_path: Path, lat: int, lon: int, unsigned: bool
) -> None:
    written = [n % 2**32 if unsigned else n for n in (lat, lon)]
    points, reasons = imported(save(tmp_path, {"locations": [record(T0, *written)]}), "google")
    assert places(points) == [(T0, lon / 1e7, lat / 1e7)]
    assert not reasons


def test_google_coordinates_that_cannot_be_mended_are_refused(tmp_path: Path) -> None:
    records = [record(T0, *e7) for e7 in ((900000001, 0), (10, 2**31 - 1), (3 * 2**32, 10), (10, 10**400))]
    points, reasons = imported(save(tmp_path, {"locations": records}), "google")
    assert len(points) == 0
    assert reasons == {
        "latitude outside -90..90": 2,
        "longitude outside -180..180": 1,
        "no readable position": 1,
    }


def test_google_records_that_break_off_are_unreadable(tmp_path: Path) -> None:
    text = json.dumps({"locations": [record(T0 + i, 471234567, 81234567) for i in range(3)]})
    for length in range(60, len(text)):
        source = save(tmp_path, text[:length])
        assert recognise(source) == "google"
        with pytest.raises(UnreadableFile, match=r"byte \d+: the file breaks off"):
            list(read(source, "google"))


def test_google_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no location history of Google"):
        list(read(save(tmp_path, {"a": 1}), "google"))


class Endless(io.RawIOBase):
    """The bytes of a `Records.json` of many records, made while they are read."""

    def __init__(self, records: int, text: bytes) -> None:
        self.text, self.left, self.rest = text + b",\n", records, b'{"locations": ['

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self.rest) < len(buffer) and self.left > 0:
            self.left -= 1000
            self.rest += self.text * 1000 if self.left > 0 else self.text * 999 + self.text[:-2] + b"]}"
        taken, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 2000)
    text = json.dumps(record(T0, 471234567, 81234567, accuracy=20, deviceTag=1)).encode()
    peaks = []
    for records in (6_000, 24_000):
        source = Source("Records.json", True, lambda n=records: io.BufferedReader(Endless(n, text)))
        tracemalloc.start()
        assert sum(len(frame) for frame in read(source, "google")) == records
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# Google: Timeline.json


def test_google_timeline_of_android(tmp_path: Path) -> None:
    hour = T0 - 3_600_000
    timeline = {
        "semanticSegments": [
            {
                "startTime": "2024-05-01T11:00:00.000+02:00",
                "endTime": "2024-05-01T13:00:00.000+02:00",
                "timelinePath": [
                    {"point": "47.1234567°, 8.5°", "time": "2024-05-01T11:14:00.000+02:00"},
                    {"point": "-33.5°, -70.25°", "time": "2024-05-01T11:15:00.000+02:00"},
                    {"point": "47.2°, 8.5°", "time": "2024-05-01T12:14:00.000+02:00"},
                    {"point": "nowhere", "time": "2024-05-01T11:16:00.000+02:00"},
                ],
            },
            {
                "startTime": "2024-05-01T11:00:00.000+02:00",
                "visit": {"topCandidate": {"placeLocation": {"latLng": "47.1°, 8.1°"}}},
            },
            {
                "startTime": "2024-05-01T11:00:00.000+02:00",
                "activity": {"start": {"latLng": "47.1°, 8.1°"}, "end": {"latLng": "47.1°, 8.1°"}},
            },
            {"startTime": "2024-05-01T11:00:00.000+02:00", "timelineMemory": {"trip": {}}},
        ],
        "rawSignals": [
            {"wifiScan": {"deliveryTime": iso(T0), "devicesRecords": [{"mac": 1, "rawRssi": -76}]}},
            {"activityRecord": {"probableActivities": [], "timestamp": iso(T0)}},
            {
                "position": {
                    "LatLng": "48.833657°, 2.256223°",
                    "accuracyMeters": 13,
                    "altitudeMeters": 90.5,
                    "source": "WIFI",
                    "timestamp": "2024-05-01T12:00:00.000+02:00",
                    "speedMetersPerSecond": 0.5,
                }
            },
            {"position": {"LatLng": "48.8566, 2.3522", "timestamp": iso(T0 + 1)}},
        ],
        "userLocationProfile": {"frequentPlaces": [{"placeLocation": "50.0°, 14.3°", "label": "WORK"}]},
    }
    points, reasons = imported(save(tmp_path, timeline), "google")
    assert places(points) == [
        (hour + 14 * 60_000, 8.5, 47.1234567),
        (hour + 15 * 60_000, -70.25, -33.5),
        (T0, 2.256223, 48.833657),
        (T0 + 1, 2.3522, 48.8566),
    ]
    assert points.loc[2, ["altitude", "accuracy", "speed"]].tolist() == [90.5, 13, 0.5]
    assert reasons == {PLACE: 1, END: 2, COVERED: 1, "no readable position": 1}


def test_google_timeline_of_ios(tmp_path: Path) -> None:
    start = "2024-05-01T12:00:00.500+02:00"
    timeline = [
        {
            "startTime": start,
            "endTime": "2024-05-01T14:00:00.000+02:00",
            "visit": {"probability": "0.7", "topCandidate": {"placeLocation": "geo:47.1,8.1"}},
        },
        {
            "startTime": start,
            "activity": {"start": "geo:47.1,8.1", "end": "geo:47.2,8.2", "distanceMeters": "12.5"},
        },
        {
            "startTime": start,
            "timelinePath": [
                {"point": "geo:47.25,-8.5", "durationMinutesOffsetFromStartTime": "0"},
                {"point": "geo:47.25,8.5,412.5", "durationMinutesOffsetFromStartTime": "5"},
                {"point": "geo:47.25,8.5;u=35", "durationMinutesOffsetFromStartTime": 6},
                {"point": "geo:47.25,8.5"},
            ],
        },
    ]
    points, reasons = imported(save(tmp_path, timeline), "google")
    assert places(points) == [(T0 + 500 + m * 60_000, lon, 47.25) for m, lon in ((0, -8.5), (5, 8.5), (6, 8.5))]
    assert points["altitude"].fillna(0).tolist() == [0, 412.5, 0]
    assert reasons == {PLACE: 1, END: 2, "no readable time": 1}


@given(st.lists(st.tuples(st.integers(0, 72), st.integers(0, 59))), st.sets(st.integers(0, 72)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(30))
def test_google_paths_are_kept_where_there_are_no_signals(
    tmp_path: Path, path: list[tuple[int, int]], hours: set[int]
) -> None:
    first = T0 - T0 % 3_600_000
    minutes = [first + hour * 3_600_000 + minute * 60_000 for hour, minute in path]
    segment = {"startTime": iso(T0), "timelinePath": [{"point": "47°, 8°", "time": iso(ms)} for ms in minutes]}
    signals = [{"position": {"LatLng": "48°, 9°", "timestamp": iso(first + h * 3_600_000)}} for h in hours]
    # In either order: what follows in the file decides about what stands before.
    for document in (
        {"semanticSegments": [segment], "rawSignals": signals},
        {"rawSignals": signals, "semanticSegments": [segment]},
    ):
        source = save(tmp_path, document)
        frames = [validate(frame) for frame in read(source, "google")]
        kept = [ms for frame in frames for ms in frame.points.loc[frame.points["lat"] == 47, "time_ms"]]
        expected = [ms for ms, (hour, _) in zip(minutes, path, strict=True) if hour not in hours]
        assert sorted(kept) == sorted(expected)
        assert sum(frame.rejected[COVERED] for frame in frames) == len(minutes) - len(expected)


# Google: the Semantic Location History, and the edits


def test_google_months(tmp_path: Path) -> None:
    def path(*times: dict[str, Any]) -> dict[str, Any]:
        points = [{"latE7": 416032766, "lngE7": 21841819, "accuracyMeters": 10, **time} for time in times]
        return {"points": points, "source": "INFERRED"}

    place = {"latitudeE7": 414216106, "longitudeE7": 21684775}
    month = {
        "timelineObjects": [
            {
                "activitySegment": {
                    "startLocation": place,
                    "endLocation": place,
                    "duration": {"startTimestamp": iso(T0), "endTimestamp": iso(T0 + 9)},
                    "waypointPath": {"waypoints": [{"latE7": 1, "lngE7": 2}] * 3},
                    "simplifiedRawPath": path({"timestamp": iso(T0)}, {"timestampMs": str(T0 + 1)}),
                }
            },
            {"activitySegment": {"startLocation": {}, "endLocation": {}}},
            {
                "placeVisit": {
                    "location": place,
                    "centerLatE7": 1,
                    "simplifiedRawPath": path({"timestamp": iso(T0 + 2)}),
                    "childVisits": [{"location": place, "simplifiedRawPath": path({"timestamp": iso(T0 + 3)})}],
                }
            },
        ]
    }
    points, reasons = imported(save(tmp_path, month), "google")
    assert places(points) == [(T0 + i, 2.1841819, 41.6032766) for i in range(4)]
    assert points["accuracy"].tolist() == [10] * 4
    assert reasons == {END: 2, WAY: 3, PLACE: 2}


def test_google_edits(tmp_path: Path) -> None:
    position = {"point": {"latE7": 426974802, "lngE7": -778539156}, "accuracyMm": 12500, "timestamp": iso(T0)}
    edits = [
        {"deviceId": "-5", "rawSignal": {"signal": {"position": position | {"altitudeMeters": 224.0}}}},
        {"deviceId": "-5", "rawSignal": {"signal": {"wifiScan": {}}}},
        {"deviceId": "0", "placeAggregates": {"placeAggregateInfo": []}},
    ]
    points, reasons = imported(save(tmp_path, {"timelineEdits": edits}), "google")
    assert places(points) == [(T0, -77.8539156, 42.6974802)]
    assert points.loc[0, ["device", "altitude", "accuracy"]].tolist() == ["-5", 224, 12.5]
    assert not reasons


# Overland


def overland(ms: int, **more: Any) -> dict[str, Any]:
    properties = {"timestamp": iso(ms), "device_id": "phone", "horizontal_accuracy": 30, "speed": -1, "altitude": 80}
    geometry = {"type": "Point", "coordinates": [-122.25, 37.5]}
    return {"type": "Feature", "geometry": geometry, "properties": properties | more}


def test_overland(tmp_path: Path) -> None:
    gone = {"type": "Feature", "properties": {"timestamp": iso(T0), "action": "will_terminate"}}
    batch = {"locations": [overland(T0), overland(T0 + 1, speed=4), gone], "current": overland(T0 + 5), "trip": {}}
    source = save(tmp_path, batch)
    points, reasons = imported(source, "geojson")
    assert places(points) == [(T0, -122.25, 37.5), (T0 + 1, -122.25, 37.5)]
    assert points["device"].tolist() == ["phone"] * 2
    assert points["speed"].fillna(-9).tolist() == [-9, 4]
    assert points.loc[0, ["altitude", "accuracy"]].tolist() == [80, 30]
    assert reasons == {"no readable position": 1}
    assert validate(next(iter(read(source, "geojson")))).ignored == {"speed": 1}


def test_overland_as_servers_log_it(tmp_path: Path) -> None:
    batches = "".join(json.dumps({"locations": [overland(T0 + i), overland(T0 + i + 1)]}) + "\n" for i in (0, 2))
    features = "".join(json.dumps(overland(T0 + i)) + "\n" for i in range(4))
    for text in (batches, features):
        points, reasons = imported(save(tmp_path, text, "log.ndjson"), "geojson")
        assert points["time_ms"].tolist() == [T0, T0 + 1, T0 + 2, T0 + 3]
        assert not reasons


# Dawarich


def dawarich(s: int, **more: Any) -> dict[str, Any]:
    return {
        "battery_status": "unplugged",
        "battery": 90,
        "timestamp": s,
        "altitude": 34,
        "velocity": "1.5",
        "accuracy": 9,
        "tracker_id": "RO",
        "inrids": [],
        "raw_data": {"type": "Feature"},
        "lonlat": "0101000020E61000000000000000002A400000000000404A40",
        "longitude": "13.25",
        "latitude": 52.5,
        **more,
    }


def test_dawarich(tmp_path: Path) -> None:
    s = T0 // 1000
    old = dawarich(s + 1, longitude=None, latitude=None, lonlat="POINT (13.25 52.5)", velocity=None)
    lines = "".join(json.dumps(point) + "\n" for point in (dawarich(s), old, dawarich(s, latitude="?")))
    points, reasons = imported(save(tmp_path, lines, "2024-05.jsonl"), "dawarich")
    assert places(points) == [(T0, 13.25, 52.5), (T0 + 1000, 13.25, 52.5)]
    assert points.loc[0, ["device", "altitude", "accuracy", "speed"]].tolist() == ["RO", 34, 9, 1.5]
    assert np.isnan(points.loc[1, "speed"])
    assert reasons == {"no readable position": 1}


def test_dawarich_of_old(tmp_path: Path) -> None:
    document = {
        "counts": {"points": 1},
        "settings": {"maps": {}},
        "areas": [{"name": "Home", "latitude": "1", "longitude": "2"}],
        "points": [dawarich(T0 // 1000)],
        "visits": [{"name": "x", "started_at": iso(T0)}],
    }
    points, reasons = imported(save(tmp_path, document, "data.json"), "dawarich")
    assert places(points) == [(T0, 13.25, 52.5)]
    assert not reasons


@pytest.mark.parametrize("old", [False, True])
def test_of_an_archive_of_dawarich_the_originals_are_set_aside(tmp_path: Path, old: bool) -> None:
    point = dawarich(T0 // 1000)
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        if old:
            document = {"counts": {}, "settings": {}, "areas": [], "points": [point]}
            archive.writestr("data.json", json.dumps(document))
        else:
            archive.writestr("manifest.json", json.dumps({"format_version": 2, "counts": {"points": 1}}))
            archive.writestr("points/2024/2024-05.jsonl", json.dumps(point) + "\n")
        archive.writestr("files/import_1.json", json.dumps({"locations": [record(T0 + 1, 471234567, 81234567)]}))
    sources = {source.path.removeprefix(f"{tmp_path}/"): source for source in find_sources([tmp_path])}
    assert [path for path, source in sources.items() if source.aside] == ["export.zip/files/import_1.json"]
    points = "data.json" if old else "points/2024/2024-05.jsonl"
    assert recognise(sources[f"export.zip/{points}"]) == "dawarich"


def test_files_of_another_archive_are_not_set_aside(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("data.json", "{}")
        archive.writestr("files/a.csv", "time,lon,lat")
    assert [source.aside for source in find_sources([tmp_path])] == [None, None]


def test_dawarich_geojson(tmp_path: Path) -> None:
    properties = {key: value for key, value in dawarich(T0 // 1000).items() if key not in ("raw_data", "lonlat")}
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [13.25, 52.5]}, "properties": properties}
    points, _ = imported(save(tmp_path, {"type": "FeatureCollection", "features": [feature]}), "geojson")
    assert places(points) == [(T0, 13.25, 52.5)]
    assert points.loc[0, ["device", "altitude", "accuracy", "speed"]].tolist() == ["RO", 34, 9, 1.5]


# Traccar and Home Assistant


def test_traccar(tmp_path: Path) -> None:
    def position(ms: int, **more: Any) -> dict[str, Any]:
        return {
            "id": 1,
            "attributes": {"batteryLevel": 85.0, "motion": True},
            "deviceId": 10,
            "protocol": "osmand",
            "serverTime": "2024-06-01T00:00:00.000+00:00",
            "deviceTime": "2024-06-01T00:00:00.000+00:00",
            "fixTime": "2024-05-01T10:00:00.000+00:00" if ms == T0 else ms,
            "outdated": False,
            "valid": True,
            "latitude": -23.5,
            "longitude": -46.5,
            "altitude": 760.0,
            "speed": 10,
            "course": 180.0,
            "address": None,
            "accuracy": 0.0,
            **more,
        }

    positions = [position(T0), position(T0 + 1, accuracy=12.5), position(T0 + 2, valid=False)]
    points, reasons = imported(save(tmp_path, positions), "traccar")
    assert places(points) == [(T0, -46.5, -23.5), (T0 + 1, -46.5, -23.5)]
    assert points["device"].tolist() == ["10", "10"]
    assert points["speed"].tolist() == pytest.approx([5.14444444] * 2)
    assert points["accuracy"].fillna(-9).tolist() == [-9, 12.5]
    assert points["altitude"].tolist() == [760, 760]
    assert reasons == {INVALID: 1}


def test_home_assistant(tmp_path: Path) -> None:
    def state(ms: int, entity: str = "device_tracker.phone", **attributes: Any) -> dict[str, Any]:
        place = {"latitude": 52.5, "longitude": 13.25, "gps_accuracy": 14, "source_type": "gps"}
        return {
            "entity_id": entity,
            "state": "not_home",
            "attributes": place | attributes,
            "last_changed": "2024-01-01T00:00:00+00:00",
            "last_updated": datetime.fromtimestamp(ms / 1000, UTC).isoformat(),
        }

    bare = {"state": "home", "last_changed": iso(T0)}
    nowhere = {"entity_id": "device_tracker.router", "state": "home", "attributes": {"source_type": "router"}}
    phone = [state(T0, altitude=80.5, speed=-1), state(T0 + 1, speed=3), bare]
    person = [state(T0 + 2, "person.anna", source="device_tracker.phone"), state(T0 + 3, "person.bob")]
    history = [phone, person, [state(T0, "zone.home")], [], [nowhere]]
    points, reasons = imported(save(tmp_path, history), "home-assistant")
    assert places(points) == [(T0 + i, 13.25, 52.5) for i in range(4)]
    assert points["device"].tolist() == [*["device_tracker.phone"] * 3, "person.bob"]
    assert points.loc[0, ["altitude", "accuracy"]].tolist() == [80.5, 14]
    assert points["speed"].fillna(-9).tolist() == [-9, 3, -9, -9]
    assert not reasons
    now, _ = imported(save(tmp_path, [*phone, nowhere]), "home-assistant")
    assert places(now) == places(points)[:2]


# All of them


def place_of(ms: int) -> dict[str, Any]:
    return {"point": "47.25°, 8.5°", "time": iso(ms)}


SAMPLES: dict[str, tuple[str, Any]] = {
    "records": (
        "google",
        {"n": 1, "locations": [record(T0 + i, 471234567, 81234567, accuracy=i, deviceTag=7) for i in range(4)]},
    ),
    "android": (
        "google",
        {
            "semanticSegments": [
                {"startTime": iso(T0), "visit": {"topCandidate": {}}},
                {"startTime": iso(T0), "timelinePath": [place_of(T0), place_of(T0 + 7_200_000)]},
                {"startTime": iso(T0), "activity": {"start": {"latLng": "1°, 2°"}, "end": {"latLng": "1°, 2°"}}},
            ],
            "rawSignals": [{"position": {"LatLng": "48°, 9°", "timestamp": iso(T0)}}, {"wifiScan": {}}],
        },
    ),
    "ios": (
        "google",
        [
            {
                "startTime": iso(T0),
                "timelinePath": [{"point": "geo:47.1,8.1", "durationMinutesOffsetFromStartTime": "3"}] * 2,
            }
        ],
    ),
    "month": (
        "google",
        {
            "timelineObjects": [
                {
                    "activitySegment": {
                        "startLocation": {"latitudeE7": 1},
                        "waypointPath": {"waypoints": [{"latE7": 1}]},
                        "simplifiedRawPath": {"points": [{"latE7": 471, "lngE7": 81, "timestamp": iso(T0)}]},
                    }
                },
                {"placeVisit": {"location": {"latitudeE7": 1}, "childVisits": [{"simplifiedRawPath": {"points": []}}]}},
            ]
        },
    ),
    "edits": (
        "google",
        {
            "timelineEdits": [
                {
                    "deviceId": "1",
                    "rawSignal": {
                        "signal": {"position": {"point": {"latE7": 471, "lngE7": 81}, "timestamp": iso(T0)}},
                    },
                }
            ]
        },
    ),
    "overland": ("geojson", {"locations": [overland(T0), overland(T0 + 1)], "current": {}}),
    "dawarich": ("dawarich", dawarich(T0 // 1000)),
    "data.json": (
        "dawarich",
        {"counts": {}, "settings": {}, "areas": [[]], "points": [dawarich(T0 // 1000)], "visits": [{}]},
    ),
    "traccar": (
        "traccar",
        [{"deviceId": 1, "fixTime": iso(T0 + i), "latitude": 1, "longitude": 2, "valid": i > 0} for i in range(3)],
    ),
    "home-assistant": (
        "home-assistant",
        [
            [
                {
                    "entity_id": "person.anna",
                    "state": "home",
                    "attributes": {"latitude": 1, "longitude": 2},
                    "last_updated": iso(T0 + i),
                }
                for i in range(3)
            ],
            [],
        ],
    ),
}
laws = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=examples(60))


@laws
@example(name="dawarich", batch=1, chunk=77, indent=1)  # a number is cut behind its point
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    batch=st.integers(1, 5),
    chunk=st.integers(1, 80),
    indent=st.none() | st.just(1),
)
def test_batches_chunks_and_blanks_do_not_matter(
    tmp_path: Path, name: str, batch: int, chunk: int, indent: int | None
) -> None:
    format, document = SAMPLES[name]
    expected = imported(save(tmp_path, document), format)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BATCH_ROWS", batch)
        patch.setattr("trackgen_core.readers.values.CHUNK_CHARS", chunk)
        points, reasons = imported(save(tmp_path, json.dumps(document, indent=indent)), format)
    assert len(points)
    pd.testing.assert_frame_equal(points, expected[0])
    assert reasons == expected[1]


JUNK: list[Any] = [None, True, 0, -1, 10**400, math.inf, math.nan, "", "1e999", "9999-12-31T23:59:59-14:00", "geo:,"]
JUNK += [
    [],
    {},
    [[]],
    [{}],
    [None],
    {"start": 1},
    {"points": 3},
    "POINT (. .)",
    "٤٧°, ٨°",
    "\ud800",
    "0001-01-01T00:00:00+14:00",
]


@laws
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_any_value_may_be_anything(tmp_path: Path, data: st.DataObject, name: str) -> None:
    format, document = SAMPLES[name]
    document = json.loads(json.dumps(document))
    spots = list(spots_of(document))
    for holder, key in data.draw(st.lists(st.sampled_from(spots), min_size=1, max_size=2)):
        holder[key] = data.draw(st.sampled_from(JUNK))
    source = save(tmp_path, document)
    recognise(source)
    try:
        rows = sum(len(validate(frame).points) for frame in read(source, format))
    except UnreadableFile as error:
        assert str(error).startswith(f"{source.path}: byte ") or isinstance(error, NoFixes)
    else:
        assert rows <= 6


def spots_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield where values are in a document: what holds each, and its key or place there."""
    for key in range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ():
        yield value, key
        yield from spots_of(value[key])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[[]]",
        "[1]",
        "{}",
        '{"locations": [{"id": 1}]}',
        '{"locations": [{"id": ',
        '[{"startTime": "x"}]',
        '[{"deviceId": 1}]',
        '[{"state": 1}]',
    ],
)
def test_json_of_no_known_format(tmp_path: Path, text: str) -> None:
    assert recognise(save(tmp_path, text)) is None
