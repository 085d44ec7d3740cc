"""Export: tracks, stays and points as files that spreadsheets, maps and other programs read.

Every format is one function that takes batches and writes as they come, so that a history of any length passes
through. Lengths, times and heights are integers, and become text without the errors of a float.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Final
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trackgen_core.geodesy import FloatArray
from trackgen_core.paths import decode_path, encode_point
from trackgen_core.points import day_date

CSV_COLUMNS: Final = (
    "track_id",
    "user",
    "device",
    "started_at",
    "ended_at",
    "points",
    "distance_m",
    "duration_s",
    "avg_speed_kmh",
    "elevation_gain_m",
    "elevation_loss_m",
    "elevation_min_m",
    "elevation_max_m",
    "break_reason",
)
ELEVATIONS: Final = ("elevation_gain", "elevation_loss", "elevation_min", "elevation_max")

STAY_COLUMNS: Final = (
    "stay_id",
    "user",
    "device",
    "started_at",
    "ended_at",
    "points",
    "duration_s",
    "lon",
    "lat",
    "radius_m",
    "ongoing",
    "break_reason",
)
LEG_COLUMNS: Final = (
    "track_id",
    "number",
    "user",
    "device",
    "started_at",
    "ended_at",
    "mode",
    "confidence",
    "by_hand",
    "distance_m",
    "duration_s",
    "moving_s",
)
POINT_COLUMNS: Final = ("user", "device", "timestamp", "lon", "lat", "altitude", "accuracy", "speed", "noise")


def _geoparquet(*geometry_types: str) -> dict[str, str]:
    """Return a file's metadata; without "crs" it is OGC:CRS84 (https://geoparquet.org/releases/v1.1.0/)."""
    geometry = {"encoding": "WKB", "geometry_types": list(geometry_types)}
    return {"geo": json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}})}


PARQUET_SCHEMA: Final = pa.schema(
    [
        ("track_id", pa.string()),
        ("user", pa.string()),
        ("device", pa.string()),
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("ended_at", pa.timestamp("ms", tz="UTC")),
        ("points", pa.int64()),
        ("distance_m", pa.float64()),
        ("duration_s", pa.float64()),
        ("avg_speed_kmh", pa.float64()),
        *((f"{name}_m", pa.float64()) for name in ELEVATIONS),
        ("break_reason", pa.string()),
        ("moving_s", pa.float64()),
        ("moving_speed_kmh", pa.float64()),
        ("mode", pa.string()),
        ("geometry", pa.binary()),
    ],
    metadata=_geoparquet("LineString", "MultiLineString"),
)
STAY_PARQUET_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("stay_id", "user", "device")),
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("ended_at", pa.timestamp("ms", tz="UTC")),
        ("points", pa.int64()),
        *((name, pa.float64()) for name in ("duration_s", "lon", "lat", "radius_m")),
        ("ongoing", pa.bool_()),
        ("break_reason", pa.string()),
        ("geometry", pa.binary()),
    ],
    metadata=_geoparquet("Point"),
)

GPX_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="Trackgen" xmlns="http://www.topografix.com/GPX/1/1" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd">
"""
NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot carry, not even escaped."""

Track = Any
"""A row of a batch, as `DataFrame.itertuples` makes it."""
PointsOf = Callable[[Track], pd.DataFrame]


def export_tracks(batches: Iterable[pd.DataFrame], out: BinaryIO, format: str, *, points_of: PointsOf) -> int:
    """Write tracks to a file.

    Parameters
    ----------
    batches : iterable of DataFrame
        Tracks in the order in which they are to be written, with the columns `track_id`, `user`, `device`,
        `started_ms`, `ended_ms`, `points`, `length_mm`, `duration_ms`, `moving_ms`, `avg_speed_kmh`,
        `elevation_gain_cm`, `elevation_loss_cm`, `elevation_min_cm`, `elevation_max_cm` (missing where unknown),
        `mode`, `break_reason` and `path` (little-endian WKB). Only one batch is held at a time.
    out : binary file
        Where to write. It stays open.
    format : str
        One of `FORMATS`.
    points_of : callable
        Given a track (a row as `itertuples` makes it), return its points in order: `time_ms`, `lon`, `lat`,
        `altitude`. Asked only by formats that show points (gpx).

    Returns
    -------
    int
        The tracks written.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    if format not in _WRITERS:
        raise ValueError(f"there is no format {format!r}; there are: {', '.join(FORMATS)}")
    count = 0

    def counted() -> Iterator[pd.DataFrame]:
        nonlocal count
        for batch in batches:
            if len(batch):
                count += len(batch)
                yield batch

    _WRITERS[format](counted(), out, points_of)
    return count


def write_csv(batches: Iterable[pd.DataFrame], out: BinaryIO, points_of: PointsOf) -> None:
    """Write RFC 4180, but with line feeds. A text that a spreadsheet takes for a formula stays as it is."""
    out.write((",".join(CSV_COLUMNS) + "\n").encode())
    for batch in batches:
        columns = (
            *(map(csv_field, batch[name]) for name in ("track_id", "user", "device")),
            iso_times(batch["started_ms"]),
            iso_times(batch["ended_ms"]),
            map(str, batch["points"]),
            decimal_texts(batch["length_mm"], 3),
            decimal_texts(batch["duration_ms"], 3),
            (f"{speed:.3f}" for speed in batch["avg_speed_kmh"]),
            *(decimal_texts(batch[f"{name}_cm"], 2) for name in ELEVATIONS),
            (csv_field(reason or "") for reason in known(batch["break_reason"])),
        )
        out.write("".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode())


def write_geojson(batches: Iterable[pd.DataFrame], out: BinaryIO, points_of: PointsOf) -> None:
    """Write RFC 7946: one FeatureCollection, a Feature a line."""
    out.write(b'{"type":"FeatureCollection","features":[')
    separator = "\n"
    for batch in batches:
        for path, properties in zip(batch["path"], track_properties(batch), strict=True):
            feature = {
                "type": "Feature",
                "id": properties["track_id"],
                "geometry": geojson_geometry(path),
                "properties": properties,
            }
            text = json.dumps(feature, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            out.write((separator + text).encode())
            separator = ",\n"
    out.write(b"\n]}\n")


def write_gpx(batches: Iterable[pd.DataFrame], out: BinaryIO, points_of: PointsOf) -> None:
    """Write GPX 1.1: a <trk> a track, with the points that were measured."""
    out.write(GPX_HEAD.encode())
    for batch in batches:
        columns = (
            batch.itertuples(index=False, name="Track"),
            iso_times(batch["started_ms"]),
            decimal_texts(batch["length_mm"], 3),
            decimal_texts(batch["duration_ms"], 3),
        )
        track: Track
        for track, started_at, distance_m, duration_s in zip(*columns, strict=True):
            user, device = xml_text(track.user), xml_text(track.device)
            # The schema wants this order: name, cmt, desc, src, link, number, type, extensions, trkseg.
            out.write(
                f"<trk><name>{' '.join(filter(None, (user, device, started_at)))}</name>"
                f"<desc>user {user}, device {device}, {track.points} points, {distance_m} m, {duration_s} s, "
                f"track {xml_text(track.track_id)}</desc>\n".encode()
            )
            out.writelines(text.encode() for text in gpx_segments(points_of(track)))
            out.write(b"</trk>\n")
    out.write(b"</gpx>\n")


def write_parquet(batches: Iterable[pd.DataFrame], out: BinaryIO, points_of: PointsOf) -> None:
    """Write GeoParquet 1.1, a row group a batch."""
    with pq.ParquetWriter(out, PARQUET_SCHEMA, compression="zstd") as file:
        for batch in batches:
            columns = (
                *(batch[name].tolist() for name in ("track_id", "user", "device")),
                batch["started_ms"].to_numpy("datetime64[ms]"),
                batch["ended_ms"].to_numpy("datetime64[ms]"),
                batch["points"].tolist(),
                in_units(batch["length_mm"], 1000),
                in_units(batch["duration_ms"], 1000),
                batch["avg_speed_kmh"].tolist(),
                *(in_units(batch[f"{name}_cm"], 100) for name in ELEVATIONS),
                known(batch["break_reason"]),
                in_units(batch["moving_ms"], 1000),
                moving_speeds_kmh(batch).tolist(),
                batch["mode"].tolist(),
                batch["path"].tolist(),
            )
            arrays = [pa.array(column, field.type) for column, field in zip(columns, PARQUET_SCHEMA, strict=True)]
            file.write_table(pa.Table.from_arrays(arrays, schema=PARQUET_SCHEMA))


def track_properties(batch: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Return the tracks of a batch as JSON objects: the names of `CSV_COLUMNS`, moving time and speed, and mode."""
    columns = (
        batch["track_id"],
        batch["user"],
        batch["device"],
        iso_times(batch["started_ms"]),
        iso_times(batch["ended_ms"]),
        batch["points"].tolist(),
        in_units(batch["length_mm"], 1000),
        in_units(batch["duration_ms"], 1000),
        (round(speed, 3) for speed in batch["avg_speed_kmh"].tolist()),
        *(in_units(batch[f"{name}_cm"], 100) for name in ELEVATIONS),
        known(batch["break_reason"]),
        in_units(batch["moving_ms"], 1000),
        (round(speed, 3) for speed in moving_speeds_kmh(batch).tolist()),
        batch["mode"].tolist(),
    )
    names = (*CSV_COLUMNS, "moving_s", "moving_speed_kmh", "mode")
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def moving_speeds_kmh(batch: pd.DataFrame) -> FloatArray:
    """Return the lengths of tracks over the time in which they moved; 0 if they never did."""
    length_mm, moving_ms = batch["length_mm"].to_numpy("float64"), batch["moving_ms"].to_numpy("float64")
    speeds: FloatArray = np.divide(length_mm * 3.6, moving_ms, out=np.zeros(len(batch)), where=moving_ms > 0)
    return speeds


def stay_properties(batch: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Return the stays of a batch as JSON objects with the names of `STAY_COLUMNS`."""
    columns = (
        *(batch[name] for name in ("stay_id", "user", "device")),
        iso_times(batch["started_ms"]),
        iso_times(batch["ended_ms"]),
        batch["points"].tolist(),
        in_units(batch["duration_ms"], 1000),
        batch["lon"].tolist(),
        batch["lat"].tolist(),
        in_units(batch["radius_cm"], 100),
        batch["is_ongoing"].tolist(),
        known(batch["break_reason"]),
    )
    return (dict(zip(STAY_COLUMNS, values, strict=True)) for values in zip(*columns, strict=True))


def leg_properties(batch: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Return the legs of a batch as JSON objects with the names of `LEG_COLUMNS`."""
    columns = (
        *(batch[name].tolist() for name in ("track_id", "number", "user", "device")),
        iso_times(batch["started_ms"]),
        iso_times(batch["ended_ms"]),
        batch["mode"].tolist(),
        batch["confidence"].tolist(),
        (bool(by_hand) for by_hand in batch["by_hand"].tolist()),
        in_units(batch["length_mm"], 1000),
        in_units(batch["ended_ms"] - batch["started_ms"], 1000),
        in_units(batch["moving_ms"], 1000),
    )
    return (dict(zip(LEG_COLUMNS, values, strict=True)) for values in zip(*columns, strict=True))


def export_legs(batches: Iterable[pd.DataFrame], out: BinaryIO) -> int:
    """Write legs as CSV, and return how many.

    Parameters
    ----------
    batches : iterable of DataFrame
        Legs as `Store.read_legs` streams them.
    out : binary file
        Where to write. It stays open.
    """
    count = 0
    out.write(_csv_line(LEG_COLUMNS))
    for batch in batches:
        count += len(batch)
        exact = {
            "distance_m": decimal_texts(batch["length_mm"], 3),
            "duration_s": decimal_texts(batch["ended_ms"] - batch["started_ms"], 3),
            "moving_s": decimal_texts(batch["moving_ms"], 3),
        }
        for leg, *texts in zip(leg_properties(batch), *exact.values(), strict=True):
            row = leg | dict(zip(exact, texts, strict=True)) | {"by_hand": str(leg["by_hand"]).lower()}
            out.write(_csv_line(row.values()))
    return count


def day_properties(days: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Return days as `Store.day_sums` sums them up as JSON objects."""
    columns = {
        "user": days["user"],
        "day": [day_date(day).isoformat() for day in days["local_day"].tolist()],
        "tracks": days["tracks"].tolist(),
        "stays": days["stays"].tolist(),
        "distance_m": in_units(days["length_mm"], 1000),
        "moving_s": in_units(days["moving_ms"], 1000),
        "rest_s": in_units(days["rest_ms"], 1000),
        "elevation_gain_m": in_units(days["gain_cm"], 100),
        "elevation_loss_m": in_units(days["loss_cm"], 100),
    }
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def export_stays(batches: Iterable[pd.DataFrame], out: BinaryIO, format: str) -> int:
    """Write stays to a file, and return how many.

    Parameters
    ----------
    batches : iterable of DataFrame
        Stays as `Store.read_stays` streams them.
    out : binary file
        Where to write. It stays open.
    format : {"csv", "geojson", "parquet"}
        RFC 4180 with line feeds; RFC 7946, a point a stay; GeoParquet 1.1.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    if format not in STAY_FORMATS:
        raise ValueError(f"there is no format {format!r} of stays; there are: {', '.join(STAY_FORMATS)}")
    count, separator = 0, "\n"
    if format == "parquet":
        with pq.ParquetWriter(out, STAY_PARQUET_SCHEMA, compression="zstd") as file:
            for batch in batches:
                count += len(batch)
                rows = pd.DataFrame(list(stay_properties(batch)), columns=list(STAY_COLUMNS))
                rows["started_at"] = batch["started_ms"].to_numpy("datetime64[ms]")
                rows["ended_at"] = batch["ended_ms"].to_numpy("datetime64[ms]")
                places = zip(batch["lon"].tolist(), batch["lat"].tolist(), strict=True)
                rows["geometry"] = [encode_point(lon, lat) for lon, lat in places]
                arrays = [pa.array(rows[field.name].tolist(), field.type) for field in STAY_PARQUET_SCHEMA]
                file.write_table(pa.Table.from_arrays(arrays, schema=STAY_PARQUET_SCHEMA))
        return count
    out.write(b'{"type":"FeatureCollection","features":[' if format == "geojson" else _csv_line(STAY_COLUMNS))
    for batch in batches:
        count += len(batch)
        duration_s, radius_m = decimal_texts(batch["duration_ms"], 3), decimal_texts(batch["radius_cm"], 2)
        for stay, *exact in zip(stay_properties(batch), duration_s, radius_m, strict=True):
            if format == "csv":
                texts = stay | {"duration_s": exact[0], "radius_m": exact[1], "ongoing": str(stay["ongoing"]).lower()}
                out.write(_csv_line(texts.values()))
                continue
            geometry = {"type": "Point", "coordinates": [stay["lon"], stay["lat"]]}
            feature = {"type": "Feature", "id": stay["stay_id"], "geometry": geometry, "properties": stay}
            out.write((separator + json.dumps(feature, ensure_ascii=False, separators=(",", ":"))).encode())
            separator = ",\n"
    if format == "geojson":
        out.write(b"\n]}\n")
    return count


def export_points(batches: Iterable[pd.DataFrame], out: BinaryIO) -> int:
    """Write points as CSV that can be imported again, and return how many.

    Parameters
    ----------
    batches : iterable of DataFrame
        Points as `Store.read_all_points` streams them; `noise` says why a point was set aside.
    out : binary file
        Where to write. It stays open.
    """
    count = 0
    out.write(_csv_line(POINT_COLUMNS))
    for batch in batches:
        count += len(batch)
        numbers = (
            ["" if math.isnan(value) else plain_decimal(value) for value in batch[name].tolist()]
            for name in ("lon", "lat", "altitude", "accuracy", "speed")
        )
        columns = (batch["user"], batch["device"], iso_times(batch["time_ms"]), *numbers, known(batch["noise"]))
        out.write(b"".join(_csv_line(row) for row in zip(*columns, strict=True)))
    return count


def _csv_line(values: Iterable[Any]) -> bytes:
    return (",".join("" if value is None else csv_field(str(value)) for value in values) + "\n").encode()


STAY_FORMATS: Final = ("csv", "geojson", "parquet")
_WRITERS: Final = {"csv": write_csv, "geojson": write_geojson, "gpx": write_gpx, "parquet": write_parquet}
FORMATS: Final = tuple(_WRITERS)


def iso_times(times_ms: pd.Series) -> list[str]:
    """Return times (ms since the epoch) as ISO 8601 in UTC with milliseconds."""
    instants = times_ms.to_numpy("int64").astype("datetime64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(instants, unit="ms").tolist()]


def decimal_texts(amounts: pd.Series, places: int) -> list[str]:
    """Return integers of 10**-`places` as decimal text with exactly `places` decimals, empty where missing."""
    unit = 10**places
    return [
        "" if pd.isna(amount) else f"{'-' * (amount < 0)}{abs(amount) // unit}.{abs(amount) % unit:0{places}}"
        for amount in amounts.tolist()
    ]


def in_units(amounts: pd.Series, unit: int) -> list[float | None]:
    """Return integers divided by `unit`, None where missing.

    Python divides integers with one rounding, so the shortest text of the result is the exact decimal.
    """
    return [None if pd.isna(amount) else amount / unit for amount in amounts.tolist()]


def known(texts: pd.Series) -> list[str | None]:
    """Return texts, None where missing: pandas has several ways to say so, and JSON and Arrow have one."""
    return [None if pd.isna(text) else text for text in texts.tolist()]


def csv_field(text: str) -> str:
    """Return `text` as a CSV field."""
    # The csv module of Python 3.11 leaves a lone \r bare where lines end in \\n, and readers then see a new line.
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text


def xml_text(text: str) -> str:
    """Return `text` for the inside of an XML element, without the characters that XML cannot carry."""
    return escape(NOT_XML.sub("", text), {"\r": "&#13;"})


def gpx_segments(points: pd.DataFrame) -> Iterator[str]:
    """Yield points as <trkseg> elements: a new one where the antimeridian is crossed, as a map would draw it."""
    lon = points["lon"].to_numpy("float64")
    lon = np.where(lon == 180, -180.0, lon)  # the schema's longitudes end before 180
    crossings = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
    starts = {0, *crossings.tolist()}
    rows = zip(
        lon.tolist(),
        points["lat"].to_numpy("float64").tolist(),
        points["altitude"].to_numpy("float64").tolist(),
        iso_times(points["time_ms"]),
        strict=True,
    )
    for i, (x, y, altitude, time) in enumerate(rows):
        if i in starts:
            yield "</trkseg>\n<trkseg>\n" if i else "<trkseg>\n"
        ele = "" if math.isnan(altitude) else f"<ele>{plain_decimal(altitude)}</ele>"
        yield f'<trkpt lat="{plain_decimal(y)}" lon="{plain_decimal(x)}">{ele}<time>{time}</time></trkpt>\n'
    if len(lon):
        yield "</trkseg>\n"


def plain_decimal(number: float) -> str:
    """Return the shortest text that reads back as `number`, never with an exponent: xsd:decimal has none."""
    text = repr(number)
    return np.format_float_positional(number, trim="0") if "e" in text else text


def geojson_geometry(path: bytes) -> dict[str, Any]:
    """Return a path as a GeoJSON geometry."""
    lines = [line.tolist() for line in decode_path(path)]
    if len(lines) == 1:
        return {"type": "LineString", "coordinates": lines[0]}
    return {"type": "MultiLineString", "coordinates": lines}
