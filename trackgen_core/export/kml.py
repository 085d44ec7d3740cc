"""KML 2.2 (OGC 07-147r2): a Placemark a track; its points are a gx:Track, Google's extension of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import numpy as np
import pandas as pd

from trackgen_core.export.columns import TRACKS, iso_times, plain_decimals, texts
from trackgen_core.export.lines import ALTITUDE, LAT, LON, TIME, LinesOf, only_points, times_ms
from trackgen_core.export.xml import xml_text
from trackgen_core.geodesy import FloatArray

HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Document>
"""


def write_tracks(batches: Iterable[pd.DataFrame], out: BinaryIO, lines_of: LinesOf) -> None:
    """Write tracks with their figures as extended data, and a line or their points."""
    out.write(HEAD.encode())
    for batch in batches:
        columns = texts(batch, TRACKS)
        for track, *row in zip(batch.itertuples(index=False), *columns.values(), strict=True):
            of = dict(zip(columns, map(xml_text, row), strict=True))
            name = " ".join(filter(None, (of["user"], of["device"], of["started_at"])))
            data = "".join(f'<Data name="{key}"><value>{text}</value></Data>' for key, text in of.items())
            # The schema wants this order: name, TimeSpan, ExtendedData, geometry.
            out.write(
                f"<Placemark><name>{name}</name>"
                f"<TimeSpan><begin>{of['started_at']}</begin><end>{of['ended_at']}</end></TimeSpan>"
                f"<ExtendedData>{data}</ExtendedData>\n{_geometry(lines_of(track))}</Placemark>\n".encode()
            )
    out.write(b"</Document></kml>\n")


def _geometry(lines: list[FloatArray]) -> str:
    if not lines:
        return ""
    if not all(np.isnan(line[:, TIME]).all() for line in lines):
        points = np.concatenate([only_points(line) for line in lines])
        whens = "".join(f"<when>{time}</when>" for time in iso_times(times_ms(points)))
        coords = "".join(f"<gx:coord>{' '.join(filter(None, vertex))}</gx:coord>" for vertex in _vertices(points))
        return f"<gx:Track>{whens}\n{coords}</gx:Track>"
    texts = [" ".join(",".join(filter(None, vertex)) for vertex in _vertices(line)) for line in lines]
    drawn = [f"<LineString><tessellate>1</tessellate><coordinates>{text}</coordinates></LineString>" for text in texts]
    return drawn[0] if len(drawn) == 1 else f"<MultiGeometry>{''.join(drawn)}</MultiGeometry>"


def _vertices(line: FloatArray) -> Iterator[tuple[str, str, str]]:
    """Return lon, lat and altitude as texts, the altitude empty where it is unknown."""
    return zip(*(plain_decimals(line[:, axis].tolist()) for axis in (LON, LAT, ALTITUDE)), strict=True)
