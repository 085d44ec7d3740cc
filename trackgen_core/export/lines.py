"""What formats draw of a track: the lines of its path, or of its points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from trackgen_core.geodesy import FloatArray
from trackgen_core.paths import cut_at_antimeridian, decode_path, simplified

Track = Any
"""A row of a batch, as `DataFrame.itertuples` makes it."""
PointsOf = Callable[[Track], pd.DataFrame]
LinesOf = Callable[[Track], list[FloatArray]]
"""Given a track, the lines that it is drawn as: (n, 4) arrays of lon, lat, altitude (m) and time (ms since the epoch).
Altitude and time are NaN where there is no point, as where the antimeridian is crossed."""

LON, LAT, ALTITUDE, TIME = range(4)
WIDTH: Final = 4


def path_lines(tolerance_m: float) -> LinesOf:
    """Return what draws the paths of tracks, simplified."""

    def lines_of(track: Track) -> list[FloatArray]:
        pieces = (simplified(piece, tolerance_m) for piece in decode_path(track.path))
        return [np.pad(piece, ((0, 0), (0, 2)), constant_values=np.nan) for piece in pieces]

    return lines_of


def point_lines(points_of: PointsOf, tolerance_m: float) -> LinesOf:
    """Return what draws the points of tracks, those that are left when the line is simplified."""

    def lines_of(track: Track) -> list[FloatArray]:
        points = points_of(track)
        coordinates = points[["lon", "lat", "altitude", "time_ms"]].to_numpy("float64")
        return cut_at_antimeridian(simplified(coordinates, tolerance_m)) if len(points) else []

    return lines_of


def only_points(line: FloatArray) -> FloatArray:
    """Return a line without the vertices that are no points."""
    return line[~np.isnan(line[:, TIME])]


def times_ms(line: FloatArray) -> pd.Series:
    """Return the times of points."""
    return pd.Series(line[:, TIME].astype(np.int64))
