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
from collections.abc import Callable, Sequence
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
    return ["<kml><Document><Placemark><gx:Track>\n", whens, coords, "</gx:Track></Placemark></Document></kml>\n"]


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
}
FORMATS = (*TEXTS, "fit", "parquet")


def write(format: str, path: Path, size: int) -> int:
    """Write a file of about so many bytes, and return how many points it holds."""
    if format == "parquet":
        return write_parquet(path, size)
    rows = rows_of(make_points(BLOCK_POINTS))
    if format == "fit":
        head, blocks, tail = b"", [fit_file(rows)], b""  # FIT files may follow one another in one
    else:
        head, *blocks, tail = (part.encode() for part in TEXTS[format](rows))
    count = max(1, round(size / sum(map(len, blocks))))
    with path.open("wb") as file:
        file.write(head)
        for block in blocks:
            for _ in range(count):
                file.write(block)
        file.write(tail)
    return count * len(rows)


def read(format: str, path: Path) -> None:
    """Print what reading a file took, as JSON: in a process of its own."""
    from trackgen_core.readers import find_sources, read, recognise

    (source,) = find_sources([path])
    before = peak_mb()
    started = time.process_time()
    if recognise(source) != format:
        raise SystemExit(f"{path} is not recognised as {format}")
    points = sum(map(len, read(source, format)))
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
    print(f"{'':10} {'MB':>5} {'points':>11} {'seconds':>8} {'points/s':>10} {'peak MB':>8} {'before':>7}")
    for format in arguments.formats or FORMATS:
        with TemporaryDirectory() as folder:
            path = Path(folder, "points")
            written = write(format, path, arguments.mb * MB)
            command = [sys.executable, __file__, format, "--read", str(path)]
            took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            if took["points"] != written:
                raise SystemExit(f"{format}: {written} points written, {took['points']} read")
            print(
                f"{format:10} {path.stat().st_size / MB:5.0f} {written:11,} {took['seconds']:8.1f} "
                f"{written / took['seconds']:10,.0f} {took['peak_mb']:8.0f} {took['before_mb']:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
