"""What each format says of its points beside what was measured: pauses of the recording, and how somebody moved."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests import fit_files as fit
from tests import world
from tests.core.test_importing import bring
from tests.core.test_readers import assert_batches_do_not_matter, rows_of, save
from trackgen_core.export import POINT_FORMATS, export_points
from trackgen_core.points import ACTIVITIES
from trackgen_core.readers import columns

T0 = 1_714_557_600  # 2024-05-01T10:00:00Z
FIT_T0 = T0 - fit.EPOCH_S


def iso(second: float) -> str:
    return datetime.fromtimestamp(T0 + second, UTC).isoformat().replace("+00:00", "Z")


def facts(rows: pd.DataFrame) -> list[tuple[int, str]]:
    return [
        (pause, ACTIVITIES[code]) for pause, code in zip(rows["pause"].tolist(), rows["activity"].tolist(), strict=True)
    ]


def trkpts(*seconds: int) -> str:
    return "".join(f'<trkpt lat="47" lon="{8 + at / 1e4}"><time>{iso(at)}</time></trkpt>' for at in seconds)


def gpx(*tracks: str) -> str:
    return f'<gpx xmlns="http://www.topografix.com/GPX/1/1" version="1.1" creator="t">{"".join(tracks)}</gpx>'


GPX = gpx(
    '<metadata><link href="x"><type>running</type></link></metadata><wpt lat="47" lon="8"><type>run</type></wpt>',
    f"<trk><name>a</name><link href='x'><type>walk</type></link><type> cycling_road </type>"
    f"<trkseg>{trkpts(0, 1)}</trkseg><trkseg>{trkpts(2, 3)}</trkseg><trkseg/><trkseg>{trkpts(4)}</trkseg></trk>",
    f"<trk><trkseg>{trkpts(5)}</trkseg></trk>",
    f"<trk><type>9</type><trkseg/><trkseg>{trkpts(6)}</trkseg></trk>",
)
GPX_FACTS = [*[(0, "cycle")] * 2, (1, "cycle"), (0, "cycle"), (1, "cycle"), (0, ""), (1, "run")]


def test_gpx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, GPX, "a.gpx")
    assert facts(rows_of(source)) == GPX_FACTS
    assert_batches_do_not_matter(source, monkeypatch)
    prefixed = GPX.replace("</", "</g:").replace("<", "<g:").replace("<g:/g:", "</g:").replace("xmlns=", "xmlns:g=")
    assert facts(rows_of(save(tmp_path, prefixed, "b.gpx"))) == GPX_FACTS


def test_a_point_without_a_time_passes_its_pause_on(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    lost = '<trkpt lat="47" lon="8.5"/>'
    track = f"<trk><trkseg>{trkpts(0)}</trkseg><trkseg>{lost}{trkpts(60, 120)}</trkseg></trk>"
    save(tmp_path, gpx(track), "a.gpx")
    assert bring(store, tmp_path / "a.gpx").total("rejected") == 1
    (points,) = store.read_all_points()
    assert points["pause"].tolist() == [0, 1, 0]


def trackpoints(*seconds: int) -> str:
    place = "<Position><LatitudeDegrees>47</LatitudeDegrees><LongitudeDegrees>8</LongitudeDegrees></Position>"
    return "".join(f"<Trackpoint><Time>{iso(abs(at))}</Time>{place if at >= 0 else ''}</Trackpoint>" for at in seconds)


TCX = f"""<TrainingCenterDatabase><Activities>
<Activity Sport="Biking"><Lap><Track>{trackpoints(0, 1)}</Track><Track>{trackpoints(-2, 3, 4)}</Track></Lap>
<Lap><Track>{trackpoints(5)}</Track><Track/><Track>{trackpoints(6)}</Track></Lap></Activity>
<Activity><Lap><Track>{trackpoints(7)}</Track></Lap></Activity>
<Activity Sport="Running"><Lap><Track>{trackpoints(8)}</Track></Lap></Activity>
</Activities></TrainingCenterDatabase>"""


def test_tcx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, TCX, "a.tcx")
    ride = [(0, "cycle"), (0, "cycle"), (1, "cycle"), (0, "cycle"), (0, "cycle"), (1, "cycle")]
    assert facts(rows_of(source)) == [*ride, (0, ""), (0, "run")]
    assert_batches_do_not_matter(source, monkeypatch)


PLACE = [fit.TIME, fit.LAT, fit.LON]
EVENT = [fit.TIME, (0, fit.ENUM), (1, fit.ENUM), (3, fit.UINT32)]
SPORT = [(0, fit.ENUM)]
LAP = [fit.TIME, (2, fit.UINT32), (25, fit.ENUM)]
SESSION = [fit.TIME, (2, fit.UINT32), (5, fit.ENUM)]
DEFINITIONS = b"".join(
    fit.definition(local, message, fields)
    for local, (message, fields) in enumerate([(20, PLACE), (21, EVENT), (12, SPORT), (19, LAP), (18, SESSION)])
)
START, STOP, STOP_ALL = 0, 1, 4
RUN, RIDE, WALK = 1, 2, 11


def records(*seconds: int) -> bytes:
    return b"".join(fit.data(0, PLACE, [FIT_T0 + at, fit.semicircles(47), fit.semicircles(8)]) for at in seconds)


def timer(second: int, kind: int, by_itself: bool = False) -> bytes:
    return fit.data(1, EVENT, [FIT_T0 + second, 0, kind, int(by_itself)])


def lap(first: int, last: int, sport: int | None) -> bytes:
    return fit.data(3, LAP, [FIT_T0 + last, FIT_T0 + first, sport])


def session(first: int, last: int, sport: int | None) -> bytes:
    return fit.data(4, SESSION, [FIT_T0 + last, FIT_T0 + first, sport])


def fit_facts(folder: Path, *messages: bytes) -> list[tuple[int, str]]:
    return facts(rows_of(save(folder, fit.file(DEFINITIONS, *messages), "a.fit"), "fit"))


@pytest.mark.parametrize("kind", [STOP, STOP_ALL, 8, 9])
def test_fit_timer(tmp_path: Path, kind: int) -> None:
    nothing = fit.data(0, PLACE, [FIT_T0 + 4, None, None])
    messages = (timer(0, START), records(0, 1), timer(2, kind), records(2), timer(3, START), nothing, records(5, 6))
    assert [pause for pause, _ in fit_facts(tmp_path, *messages)] == [0, 0, 0, 1, 0]


def test_fit_pauses_that_nobody_made_are_none(tmp_path: Path) -> None:
    other_event = fit.data(1, EVENT, [FIT_T0 + 6, 8, STOP, 0])
    messages = (records(0), timer(1, STOP, by_itself=True), timer(2, START), records(3), other_event, timer(7, START))
    assert [pause for pause, _ in fit_facts(tmp_path, *messages, records(8))] == [0, 0, 0]


def test_fit_sports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ride, walk = fit.data(2, SPORT, [RIDE]), fit.data(2, SPORT, [WALK])
    assert fit_facts(tmp_path, records(0), ride, records(1), walk, records(2)) == [(0, ""), (0, "cycle"), (0, "walk")]
    whole = [records(0, 1, 2, 3, 4), lap(0, 1, RUN), lap(2, 4, None), session(0, 3, RIDE), session(9, 9, WALK)]
    expected = [(0, "run"), (0, "run"), (0, "cycle"), (0, "cycle"), (0, "")]
    assert fit_facts(tmp_path, *whole) == expected
    for size in (1, 2):
        monkeypatch.setattr(columns, "BATCH_ROWS", size)
        assert fit_facts(tmp_path, *whole) == expected
    assert fit_facts(tmp_path, records(0), session(0, 0, 5)) == [(0, "")]  # swimming is none of them


def test_kml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def track(*seconds: int) -> str:
        whens = "".join(f"<when>{iso(at)}</when>" for at in seconds)
        return f"<gx:Track>{whens}{'<gx:coord>8 47 0</gx:coord>' * len(seconds)}</gx:Track>"

    multi = f"<gx:MultiTrack>{track(1, 2)}{track(3, 4)}{track(5)}</gx:MultiTrack>"
    point = (
        f"<Placemark><TimeStamp><when>{iso(7)}</when></TimeStamp>"
        "<Point><coordinates>8,47</coordinates></Point></Placemark>"
    )
    parts = (track(0), multi, track(6))
    marks = "".join(f"<Placemark>{part}</Placemark>" for part in parts)
    head = '<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Document>'
    source = save(tmp_path, f"{head}{marks}{point}</Document></kml>", "a.kml")
    assert rows_of(source)["pause"].tolist() == [0, 0, 0, 1, 0, 1, 0, 0]
    assert_batches_do_not_matter(source, monkeypatch)


def json_facts(folder: Path, document: Any, name: str = "a.json") -> list[tuple[int, str]]:
    return facts(rows_of(save(folder, document if isinstance(document, str) else json.dumps(document), name)))


def overland(second: int, **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [8.1, 47.1]}
    return {"type": "Feature", "geometry": geometry, "properties": {"timestamp": iso(second), **properties}}


def test_overland(tmp_path: Path) -> None:
    points = [
        overland(0, motion=["driving"], activity="other_navigation"),
        overland(1, motion=["driving", "stationary"]),
        overland(2, motion=[], activity="automotive_navigation"),
        overland(3, motion=None),
        overland(4, motion=[7, "walking"]),
    ]
    expected = [(0, "drive"), (0, "drive"), (0, ""), (0, ""), (0, "walk")]
    assert json_facts(tmp_path, {"locations": points}) == expected


def test_owntracks(tmp_path: Path) -> None:
    messages = [{"tst": T0, "lon": 8.1, "lat": 47.1}, {"tst": T0, "lon": 8.1, "lat": 47.1, "motionactivities": None}]
    messages[0]["motionactivities"] = ["stationary", "automotive"]
    lines = "".join(f"{iso(0)}\t*\t{json.dumps({'_type': 'location', **message})}\n" for message in messages)
    assert json_facts(tmp_path, lines, "a.rec") == [(0, "drive"), (0, "")]


def test_google_records(tmp_path: Path) -> None:
    def record(*candidates: tuple[str, Any]) -> dict[str, Any]:
        found = [{"type": kind, "confidence": confidence} for kind, confidence in candidates]
        return {
            "latitudeE7": 471234567,
            "longitudeE7": 81234567,
            "timestamp": iso(0),
            "activity": [{"activity": found}],
        }

    records = [
        record(("STILL", 10), ("IN_RAIL_VEHICLE", 80)),
        record(("TILTING", 100)),
        record(),
        record(("ON_FOOT", None), ("ON_BICYCLE", 1)),
        {**record(), "activity": "none"},
    ]
    expected = [(0, "train"), (0, ""), (0, ""), (0, "cycle"), (0, "")]
    assert json_facts(tmp_path, {"locations": records}) == expected


@pytest.mark.parametrize("ios", [False, True])
def test_google_paths_within_activities(tmp_path: Path, ios: bool) -> None:
    def activity(first: int, last: int, kind: str) -> dict[str, Any]:
        found = {"topCandidate": {"type": kind, "probability": "0.9"}}
        return {"startTime": iso(first), "endTime": iso(last), "activity": found}

    place = "geo:47.1,8.1" if ios else "47.1°, 8.1°"
    points = [{"point": place, "time": iso(minute * 60)} for minute in range(6)]
    if ios:
        points = [{"point": place, "durationMinutesOffsetFromStartTime": str(minute)} for minute in range(6)]
    segments = [
        activity(60, 120, "walking" if ios else "WALKING"),
        {"startTime": iso(0), "endTime": iso(7200), "timelinePath": points},
        activity(240, 299, "in train" if ios else "IN_TRAIN"),
    ]
    expected = [(0, ""), (0, "walk"), (0, "walk"), (0, ""), (0, "train"), (0, "")]
    assert json_facts(tmp_path, segments if ios else {"semanticSegments": segments}) == expected


def test_google_months(tmp_path: Path) -> None:
    path = {"points": [{"latE7": 471234567, "lngE7": 81234567, "timestamp": iso(0)}]}
    objects = [
        {"activitySegment": {"activityType": "CYCLING", "simplifiedRawPath": path}},
        {"placeVisit": {"simplifiedRawPath": path}},
    ]
    assert json_facts(tmp_path, {"timelineObjects": objects}) == [(0, "cycle"), (0, "")]


@pytest.mark.parametrize("name", ["activity", "Sport", "mode"])
def test_csv(tmp_path: Path, name: str) -> None:
    rows = [f"{T0},8.1,47.1,Running,1", f"{T0 + 1},8.1,47.1,,true", f"{T0 + 2},8.1,47.1,3,", f"{T0 + 3},8,47,car,0"]
    text = "\n".join([f"timestamp,lon,lat,{name},pause", *rows])
    assert facts(rows_of(save(tmp_path, text))) == [(1, "run"), (1, ""), (0, ""), (0, "drive")]


def rows_with(**facts_of: Iterable[object]) -> str:
    frame = pd.DataFrame({"timestamp": [T0, T0 + 60], "lon": [8.1, 8.2], "lat": 47.1} | facts_of)
    return frame.to_csv(index=False)


def test_of_files_that_differ_the_largest_stands_in_any_order(tmp_path: Path) -> None:
    texts = [
        rows_with(activity=["walk", "fly"], pause=[1, 0]),
        rows_with(activity=["train", ""]),
        rows_with(pause=[0, 1]),
    ]
    for name, order in (("a", texts), ("b", texts[::-1])):
        store = world.open_store(tmp_path / name)
        for number, text in enumerate(order):
            save(tmp_path, text, f"{name}{number}.csv")
            bring(store, tmp_path / f"{name}{number}.csv")
            world.generate(store)
        (points,) = store.read_all_points()
        assert facts(points) == [(1, "train"), (1, "fly")]
        save(tmp_path, texts[0], "again.csv")
        bring(store, tmp_path / "again.csv")
        assert world.dirty(store) == 0


@pytest.mark.parametrize("column", ["pause", "activity", "seq"])
def test_what_a_file_says_anew_of_a_point_lists_its_day(tmp_path: Path, column: str) -> None:
    store = world.open_store(tmp_path)
    points = [world.Point("anna", "", T0 * 1000, 8.1, 47.1, seq=1)]
    world.add(store, points)
    world.generate(store)
    assert world.dirty(store) == 0
    world.add(store, [points[0]._replace(**{column: int(column != "seq")})])
    assert world.dirty(store) > 0


@pytest.mark.parametrize("format", POINT_FORMATS)
def test_points_that_are_exported_come_back_in_their_order(tmp_path: Path, format: str) -> None:
    stores = [world.open_store(tmp_path / name) for name in ("one", "other")]
    points = [
        world.Point("anna", "", (T0 + n // 3) * 1000, 8.5 - n * 1e-4, 47.1, None, None, n % 3, int(n in (0, 7)), n % 9)
        for n in range(30)
    ]
    world.add(stores[0], points)
    out = io.BytesIO()
    export_points(stores[0].read_all_points(), out, format)
    save(tmp_path, out.getvalue(), f"points.{format}")
    bring(stores[1], tmp_path / f"points.{format}")
    one, other = (pd.concat([*store.read_all_points()]) for store in stores)
    pd.testing.assert_frame_equal(one, other)
