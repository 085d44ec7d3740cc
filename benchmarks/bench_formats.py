"""Every format that can be read: points a second and peak memory, each file read by a process of its own.

Seconds are those of the processor, which other work on the machine disturbs less than a clock on the wall.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from history import make_points

from tests import fit_files as fit

BLOCK_POINTS = 50_000
"""A file is made of the same block again and again, which takes no longer to read than others would."""

MB = 1_000_000

Rows = Sequence[tuple[str, int, float, float, float, float, float]]
"""Time as text and in ms, lon, lat, altitude, accuracy, speed."""


def rows_of(points: pd.DataFrame) -> Rows:
    """Return points as tuples; what is unknown is 0, so that every row is as long as it can be."""
    known = points.fillna(0)
    times = pd.to_datetime(known["time_ms"], unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str[:-3] + "Z"
    names = ("time_ms", "lon", "lat", "altitude", "accuracy", "speed")
    return list(zip(times, *(known[name].tolist() for name in names), strict=True))


def csv(rows: Rows) -> list[str]:
    head = "timestamp,lon,lat,altitude,accuracy,speed\n"
    return [head, "".join(f"{t},{lon},{lat},{alt},{acc},{v}\n" for t, _, lon, lat, alt, acc, v in rows), ""]


def gpx(rows: Rows) -> list[str]:
    points = (
        f'<trkpt lat="{lat}" lon="{lon}"><ele>{alt}</ele><time>{t}</time></trkpt>\n'
        for t, _, lon, lat, alt, _, _ in rows
    )
    return ['<gpx version="1.1"><trk><trkseg>\n', "".join(points), "</trkseg></trk></gpx>\n"]


def tcx(rows: Rows) -> list[str]:
    points = (
        f"<Trackpoint><Time>{t}</Time><Position><LatitudeDegrees>{lat}</LatitudeDegrees><LongitudeDegrees>{lon}"
        f"</LongitudeDegrees></Position><AltitudeMeters>{alt}</AltitudeMeters><Extensions><ns3:TPX><ns3:Speed>{v}"
        "</ns3:Speed></ns3:TPX></Extensions></Trackpoint>\n"
        for t, _, lon, lat, alt, _, v in rows
    )
    head = "<TrainingCenterDatabase><Activities><Activity><Lap><Track>\n"
    return [head, "".join(points), "</Track></Lap></Activity></Activities></TrainingCenterDatabase>\n"]


def kml(rows: Rows) -> list[str]:
    """One track, in which all times come before the first place: the most that a reader can have to hold."""
    whens = "".join(f"<when>{t}</when>\n" for t, *_ in rows)
    coords = "".join(f"<gx:coord>{lon} {lat} {alt}</gx:coord>\n" for _, _, lon, lat, alt, _, _ in rows)
    return ["<kml><Document><Placemark><gx:Track>\n", whens, "", coords, "</gx:Track></Placemark></Document></kml>\n"]


def geojson(rows: Rows) -> list[str]:
    features = ",\n".join(
        f'{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": [{lon}, {lat}, {alt}]}}, '
        f'"properties": {{"timestamp": "{t}", "accuracy": {acc}, "speed": {v}}}}}'
        for t, _, lon, lat, alt, acc, v in rows
    )
    last = '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}, "properties": {}}]}'
    return ['{"type": "FeatureCollection", "features": [\n', features + ",\n", last]


def owntracks(rows: Rows) -> list[str]:
    lines = (
        f'{t}\t*                 \t{{"_type": "location", "tst": {ms // 1000}, "lon": {lon}, "lat": {lat}, '
        f'"alt": {alt}, "acc": {acc}, "vel": {round(v * 3.6)}}}\n'
        for t, ms, lon, lat, alt, acc, v in rows
    )
    return ["", "".join(lines), ""]


def nmea(rows: Rows) -> list[str]:
    def sentence(body: str) -> str:
        checksum = 0
        for character in body.encode():
            checksum ^= character
        return f"${body}*{checksum:02X}\r\n"

    def angle(degrees: float, width: int, sides: str) -> str:
        whole, rest = divmod(abs(degrees), 1)
        return f"{int(whole):0{width}d}{rest * 60:07.4f},{sides[degrees < 0]}"

    def fix(t: str, lon: float, lat: float, alt: float, v: float) -> str:
        clock, place = t[11:23].replace(":", ""), f"{angle(lat, 2, 'NS')},{angle(lon, 3, 'EW')}"
        rmc = sentence(f"GPRMC,{clock},A,{place},{v / 0.5144:.1f},0.0,{t[8:10]}{t[5:7]}{t[2:4]},,,A")
        return rmc + sentence(f"GPGGA,{clock},{place},1,08,0.9,{alt},M,47.0,M,,")

    return ["", "".join(fix(t, lon, lat, alt, v) for t, _, lon, lat, alt, _, v in rows), ""]


def listed(head: str, first: str, elements: Iterable[str], tail: str) -> list[str]:
    """An array in JSON: the first element is there once."""
    return [f"{head}{first}", "".join(f",\n{element}" for element in elements), tail]


def e7(degrees: float) -> int:
    return round(degrees * 1e7)


def google_records(rows: Rows) -> list[str]:
    records = (
        f'{{"latitudeE7": {e7(lat)}, "longitudeE7": {e7(lon)}, "accuracy": {round(acc)}, "altitude": {round(alt)}, '
        f'"velocity": {round(v)}, "source": "GPS", "deviceTag": -1184882232, "timestamp": "{t}"}}'
        for t, _, lon, lat, alt, acc, v in rows
    )
    return listed('{"locations": [\n', next(records), records, "]}\n")


def google_android(rows: Rows) -> list[str]:
    """Paths of ten points, and as many raw signals."""
    paths = (
        ", ".join(
            f'{{"point": "{lat:.7f}°, {lon:.7f}°", "time": "{t}"}}' for t, _, lon, lat, *_ in rows[n : n + 20 : 2]
        )
        for n in range(0, len(rows), 20)
    )
    segments = "".join(f',\n{{"startTime": "{rows[0][0]}", "timelinePath": [{path}]}}' for path in paths)
    signals = "".join(
        f',\n{{"position": {{"LatLng": "{lat:.6f}°, {lon:.6f}°", "accuracyMeters": {round(acc)}, '
        f'"altitudeMeters": {alt}, "source": "GPS", "timestamp": "{t}", "speedMetersPerSecond": {v}}}}}'
        for t, _, lon, lat, alt, acc, v in rows[1::2]
    )
    head = f'{{"semanticSegments": [\n{{"startTime": "{rows[0][0]}", "timelineMemory": {{"trip": {{}}}}}}'
    return [head, segments, '],\n"rawSignals": [\n{"wifiScan": {}}', signals, "]}\n"]


def google_ios(rows: Rows) -> list[str]:
    paths = (
        ", ".join(
            f'{{"point": "geo:{lat:.6f},{lon:.6f}", "durationMinutesOffsetFromStartTime": "{n}"}}'
            for n, (_, _, lon, lat, *_) in enumerate(rows[n : n + 10])
        )
        for n in range(0, len(rows), 10)
    )
    segments = (f'{{"startTime": "{rows[0][0]}", "timelinePath": [{path}]}}' for path in paths)
    return listed("[\n", f'{{"startTime": "{rows[0][0]}", "timelinePath": []}}', segments, "]\n")


def google_months(rows: Rows) -> list[str]:
    paths = (
        ", ".join(
            f'{{"latE7": {e7(lat)}, "lngE7": {e7(lon)}, "accuracyMeters": {round(acc)}, "timestamp": "{t}"}}'
            for t, _, lon, lat, _, acc, _ in rows[n : n + 10]
        )
        for n in range(0, len(rows), 10)
    )
    objects = (f'{{"activitySegment": {{"simplifiedRawPath": {{"points": [{path}]}}}}}}' for path in paths)
    return listed('{"timelineObjects": [\n', '{"activitySegment": {}}', objects, "]}\n")


def google_edits(rows: Rows) -> list[str]:
    signals = (
        f'{{"deviceId": "-5", "rawSignal": {{"signal": {{"position": {{"point": {{"latE7": {e7(lat)}, '
        f'"lngE7": {e7(lon)}}}, "accuracyMm": {round(acc * 1000)}, "altitudeMeters": {alt}, "timestamp": "{t}"}}}}}}}}'
        for t, _, lon, lat, alt, acc, _ in rows
    )
    return listed('{"timelineEdits": [\n', '{"deviceId": "0", "placeAggregates": {}}', signals, "]}\n")


def overland(rows: Rows) -> list[str]:
    features = (
        f'{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": [{lon}, {lat}]}}, "properties": {{'
        f'"timestamp": "{t}", "device_id": "phone", "horizontal_accuracy": {acc}, "speed": {v}, "altitude": {alt}, '
        '"battery_level": 0.8, "battery_state": "unplugged", "motion": ["driving"], "wifi": ""}}'
        for t, _, lon, lat, alt, acc, v in rows
    )
    return listed('{"locations": [\n', next(features), features, "]}\n")


def dawarich(rows: Rows) -> list[str]:
    lines = (
        f'{{"battery_status": "unplugged", "battery": 90, "timestamp": {ms // 1000}, "altitude": {alt}, "velocity": '
        f'"{v}", "accuracy": {round(acc)}, "tracker_id": "RO", "inrids": [], "raw_data": {{}}, "longitude": "{lon}", '
        f'"latitude": "{lat}"}}\n'
        for _, ms, lon, lat, alt, acc, v in rows
    )
    return ["", "".join(lines), ""]


def traccar(rows: Rows) -> list[str]:
    positions = (
        '{"id": 1, "attributes": {"batteryLevel": 85.0, "motion": true}, "deviceId": 10, "protocol": "osmand", '
        f'"serverTime": "{t}", "deviceTime": "{t}", "fixTime": "{t}", "outdated": false, "valid": true, '
        f'"latitude": {lat}, "longitude": {lon}, "altitude": {alt}, "speed": {v}, '
        f'"course": 180.0, "address": null, "accuracy": {acc}}}'
        for t, _, lon, lat, alt, acc, v in rows
    )
    return listed("[\n", next(positions), positions, "]\n")


def home_assistant(rows: Rows) -> list[str]:
    states = (
        '{"entity_id": "device_tracker.phone", "state": "not_home", "attributes": {"source_type": "gps", '
        f'"latitude": {lat}, "longitude": {lon}, "gps_accuracy": {round(acc)}, "altitude": {alt}, "speed": {v}}}, '
        f'"last_changed": "{t}", "last_updated": "{t}"}}'
        for t, _, lon, lat, alt, acc, v in rows
    )
    return listed("[[\n", '{"entity_id": "zone.home", "state": "0", "attributes": {}}', states, "]]\n")


def fit_file(rows: Rows) -> bytes:
    fields = [fit.TIME, fit.LAT, fit.LON, fit.ENHANCED_ALTITUDE, fit.ENHANCED_SPEED, fit.GPS_ACCURACY, fit.HEART_RATE]
    more = [((4, fit.UINT8), 80), ((7, fit.UINT16), 200), ((5, fit.UINT32), 123_456), ((13, fit.UINT8), 21)]
    fields += [field for field, _ in more]  # cadence, power, distance, temperature: as a watch or a bike computer
    records = (
        fit.data(
            0,
            fields,
            [
                ms // 1000 - fit.EPOCH_S,
                *(fit.semicircles(lat), fit.semicircles(lon), round((alt + 500) * 5), round(v * 1000)),
                *(round(acc), 120, *(value for _, value in more)),
            ],
        )
        for _, ms, lon, lat, alt, acc, v in rows
    )
    return fit.file(fit.definition(0, fit.RECORD, fields), *records)


def write_parquet(path: Path, size: int) -> int:
    """Write GeoParquet in row groups of a million points, as they are by default, and return how many points."""
    points = make_points(1_000_000)
    places = points[["lon", "lat"]].to_numpy("<f8")
    table = pa.table(
        {
            "time": pa.array(points["time_ms"], pa.timestamp("ms", "UTC")),
            "geometry": [struct.pack("<BI", 1, 1) + place.tobytes() for place in places],
            **{name: pa.array(points[name]) for name in ("altitude", "accuracy", "speed")},
        }
    )
    count = 0
    with path.open("wb") as file, pq.ParquetWriter(file, table.schema) as writer:
        while file.tell() < size:
            writer.write_table(table)
            count += len(table)
    return count


TEXTS: dict[str, Callable[[Rows], list[str]]] = {
    "csv": csv,
    "gpx": gpx,
    "tcx": tcx,
    "kml": kml,
    "geojson": geojson,
    "owntracks": owntracks,
    "nmea": nmea,
    "google-records": google_records,
    "google-android": google_android,
    "google-ios": google_ios,
    "google-months": google_months,
    "google-edits": google_edits,
    "overland": overland,
    "dawarich": dawarich,
    "traccar": traccar,
    "home-assistant": home_assistant,
}
"""Of each format, parts of text: every other one, from the second on, is written again and again."""
FORMATS = (*TEXTS, "fit", "parquet")
READERS = {"overland": "geojson"} | {name: "google" for name in TEXTS if name.startswith("google-")}
"""What reads a format whose reader is called otherwise."""
ONCE = ("google-records", "overland", "traccar")
"""Formats whose first point is written once."""


def write(format: str, path: Path, size: int) -> int:
    """Write a file of about so many bytes, and return how many points it holds."""
    if format == "parquet":
        return write_parquet(path, size)
    rows = rows_of(make_points(BLOCK_POINTS))
    # FIT files may follow one another in one.
    parts = [b"", fit_file(rows)] if format == "fit" else [part.encode() for part in TEXTS[format](rows)]
    count = max(1, round(size / sum(map(len, parts[1::2]))))
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            for _ in range(count if number % 2 else 1):
                file.write(part)
    once = format in ONCE
    return once + count * (len(rows) - once)


def read(format: str, path: Path) -> None:
    """Print what reading a file took, as JSON: in a process of its own."""
    from trackgen_core.readers import find_sources, read, recognise

    (source,) = find_sources([path])
    before = peak_mb()
    started = time.process_time()
    reader = READERS.get(format, format)
    if recognise(source) != reader:
        raise SystemExit(f"{path} is not recognised as {reader}")
    points = sum(map(len, read(source, reader)))
    seconds = time.process_time() - started
    print(json.dumps({"points": points, "seconds": seconds, "before_mb": before, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB; its parent's does not count."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024 / MB


def main() -> None:
    """Print a table, a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"by default all: {', '.join(FORMATS)}")
    parser.add_argument("--mb", type=int, default=200, help="size of each file (default: %(default)s)")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.formats) - set(FORMATS):
        parser.error(f"no format {', '.join(sorted(unknown))}: choose from {', '.join(FORMATS)}")
    if arguments.read:
        read(*arguments.formats, arguments.read)
        return
    print(f"{'':14} {'MB':>5} {'points':>11} {'seconds':>8} {'points/s':>10} {'peak MB':>8} {'before':>7}")
    for format in arguments.formats or FORMATS:
        with TemporaryDirectory() as folder:
            path = Path(folder, "points")
            written = write(format, path, arguments.mb * MB)
            command = [sys.executable, __file__, format, "--read", str(path)]
            took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            if took["points"] != written:
                raise SystemExit(f"{format}: {written} points written, {took['points']} read")
            print(
                f"{format:14} {path.stat().st_size / MB:5.0f} {written:11,} {took['seconds']:8.1f} "
                f"{written / took['seconds']:10,.0f} {took['peak_mb']:8.0f} {took['before_mb']:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
