"""GPX 1.1: the points that were measured, of tracks or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import BinaryIO, Final

import numpy as np
import pandas as pd

from trackgen_core.export.columns import activity_names, decimal_texts, iso_times, plain_decimals
from trackgen_core.export.lines import ALTITUDE, LAT, LON, LinesOf, Track, only_points, times_ms
from trackgen_core.export.xml import xml_text
from trackgen_core.geodesy import FloatArray
from trackgen_core.words import counted

HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="Trackgen" xmlns="http://www.topografix.com/GPX/1/1" \
xmlns:trackgen="https://github.com/trackgen/trackgen/gpx" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd">
"""
MORE: Final = ("accuracy", "speed")
"""What GPX 1.1 has no element for, and is put into extensions."""


def write_tracks(batches: Iterable[pd.DataFrame], out: BinaryIO, lines_of: LinesOf) -> None:
    """Write a <trk> a track, with a new <trkseg> where the antimeridian is crossed, as a map would draw it."""
    out.write(HEAD.encode())
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
                f"<desc>{counted(track.points, 'point')}, {distance_m} m, {duration_s} s; "
                f"track {xml_text(track.track_id)}</desc>{_type(track.mode)}\n".encode()
            )
            for line in _segments(lines_of(track)):
                points = trkpts(times_ms(line), line[:, LON], line[:, LAT], line[:, ALTITUDE])
                out.write(f"<trkseg>\n{''.join(points)}</trkseg>\n".encode())
            out.write(b"</trk>\n")
    out.write(b"</gpx>\n")


def write_points(batches: Iterable[pd.DataFrame], out: BinaryIO) -> None:
    """Write a <trk> a device, with a new <trkseg> where the recording was stopped, also before the first point."""
    out.write(HEAD.encode())
    end, owner = b"", None
    for batch in batches:
        starts = np.flatnonzero(batch[["user", "device"]].ne(batch[["user", "device"]].shift()).any(axis=1))
        for start, stop in zip(starts, [*starts[1:], len(batch)], strict=True):
            part = batch.iloc[start:stop]
            if owner != (owner := (part["user"].iloc[0], part["device"].iloc[0])):
                name = xml_text(" ".join(filter(None, owner)))
                out.write(end + f"<trk><name>{name}</name>\n<trkseg>\n".encode())
                end = b"</trkseg>\n</trk>\n"
            lon, lat, altitude = (part[name].to_numpy("float64") for name in ("lon", "lat", "altitude"))
            more = {name: plain_decimals(part[name].tolist()) for name in MORE}
            more["activity"] = [name or "" for name in activity_names(part["activity"])]
            points = trkpts(part["time_ms"], lon, lat, altitude, **more)
            pauses = ("</trkseg>\n<trkseg>\n" if pause else "" for pause in part["pause"].tolist())
            out.write("".join(pause + point for pause, point in zip(pauses, points, strict=True)).encode())
    out.write(end + b"</gpx>\n")


def _type(mode: str | None) -> str:
    return "" if pd.isna(mode) or not mode else f"<type>{xml_text(mode)}</type>"


def _segments(lines: list[FloatArray]) -> list[FloatArray]:
    """Return the points of lines, cut anew: the schema's longitudes end before 180."""
    if not lines:
        return []
    points = np.concatenate([only_points(line) for line in lines])
    points[points[:, LON] == 180, LON] = -180
    return np.split(points, np.flatnonzero(np.abs(np.diff(points[:, LON])) > 180) + 1)


def trkpts(
    time_ms: pd.Series, lon: FloatArray, lat: FloatArray, altitude: FloatArray, **more: list[str]
) -> Iterator[str]:
    """Yield points as <trkpt> elements."""
    rows = zip(
        plain_decimals(np.where(lon == 180, -180.0, lon).tolist()),
        plain_decimals(lat.tolist()),
        plain_decimals(altitude.tolist()),
        iso_times(time_ms),
        zip(*more.values(), strict=True) if more else repeat((), len(lon)),
        strict=True,
    )
    for x, y, z, time, rest in rows:
        ele = f"<ele>{z}</ele>" if z else ""
        elements = "".join(
            f"<trackgen:{name}>{text}</trackgen:{name}>" for name, text in zip(more, rest, strict=True) if text
        )
        extensions = f"<extensions>{elements}</extensions>" if elements else ""
        yield f'<trkpt lat="{y}" lon="{x}">{ele}<time>{time}</time>{extensions}</trkpt>\n'
