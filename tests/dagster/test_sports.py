"""What a file says about how somebody moved reaches `legs list`, from every format that says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from tests import fit_files as fit
from tests.command_line import trackgen

SPORTS = {"gpx": "cycle", "tcx": "run", "fit": "cycle", "overland": "run"}
"""What each file says; by its speed, the way is by none of these."""

START = datetime(2024, 5, 1, 10, tzinfo=UTC)
PLACES = [(20 + n * 0.0007, 48.0) for n in range(60)]
"""A place every 10 seconds: 19 km/h."""
TIMES = [int(START.timestamp()) + 10 * n for n in range(60)]


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gpx() -> bytes:
    points = "".join(
        f'<trkpt lat="{lat}" lon="{lon}"><time>{iso(time)}</time></trkpt>'
        for (lon, lat), time in zip(PLACES, TIMES, strict=True)
    )
    head = '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
    return f"{head}<trk><type>cycling</type><trkseg>{points}</trkseg></trk></gpx>".encode()


def tcx() -> bytes:
    points = "".join(
        f"<Trackpoint><Time>{iso(time)}</Time><Position><LatitudeDegrees>{lat}</LatitudeDegrees>"
        f"<LongitudeDegrees>{lon}</LongitudeDegrees></Position></Trackpoint>"
        for (lon, lat), time in zip(PLACES, TIMES, strict=True)
    )
    head = '<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"><Activities>'
    activity = f'<Activity Sport="Running"><Lap><Track>{points}</Track></Lap></Activity>'
    return f"{head}{activity}</Activities></TrainingCenterDatabase>".encode()


def fit_file() -> bytes:
    fields = [fit.TIME, fit.LAT, fit.LON]
    kind, sport = [(0, fit.ENUM)], [(0, fit.ENUM)]
    records = [
        fit.data(0, fields, [time - fit.EPOCH_S, fit.semicircles(lat), fit.semicircles(lon)])
        for (lon, lat), time in zip(PLACES, TIMES, strict=True)
    ]
    return fit.file(
        fit.definition(7, fit.FILE_ID, kind) + fit.data(7, kind, [4]),
        fit.definition(2, 12, sport) + fit.data(2, sport, [2]),
        fit.definition(0, fit.RECORD, fields),
        *records,
    )


def overland() -> bytes:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [lon, lat]},
            "properties": {"timestamp": iso(time), "motion": ["running"], "device_id": "phone"},
        }
        for (lon, lat), time in zip(PLACES, TIMES, strict=True)
    ]
    return json.dumps({"locations": features}).encode()


def test_a_sport_of_a_file_is_a_mode(tmp_path: Path) -> None:
    home = tmp_path / "home"
    files = {"gpx": ("a.gpx", gpx()), "tcx": ("a.tcx", tcx()), "fit": ("a.fit", fit_file())}
    files |= {"overland": ("a.json", overland())}
    for user, (name, content) in files.items():
        path = tmp_path / user / name
        path.parent.mkdir()
        path.write_bytes(content)
        trackgen(home, "import", path, "--user", user)
    trackgen(home, "generate")
    legs = json.loads(trackgen(home, "legs", "list", "--json"))
    assert {leg["user"]: (leg["mode"], leg["source"]) for leg in legs} == {
        user: (mode, "file") for user, mode in SPORTS.items()
    }
    assert len(legs) == len(SPORTS)
    listed = trackgen(home, "legs", "list").splitlines()[1:]
    assert all(" file " in line for line in listed)
