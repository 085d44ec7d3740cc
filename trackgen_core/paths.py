"""Paths as WKB: coordinates in, geometry that every GIS tool reads out; and paths with fewer vertices, for the eye."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from trackgen_core.geodesy import GEOD, FloatArray, Mask

_LITTLE_ENDIAN: Final = 1
_POINT: Final = 1
_LINESTRING: Final = 2
_MULTILINESTRING: Final = 5


def encode_path(coordinates: FloatArray) -> bytes:
    """Return a track's path as little-endian WKB.

    Parameters
    ----------
    coordinates : (n, 2) float array
        Longitude and latitude of at least two points.

    Returns
    -------
    bytes
        A LineString, or a MultiLineString of the pieces where the path crosses the antimeridian.
    """
    return encode_lines(cut_at_antimeridian(coordinates))


def encode_lines(pieces: Sequence[FloatArray]) -> bytes:
    """Return the pieces of a path, each an (n, 2) array of lon and lat, as `encode_path` does."""
    lines = [
        struct.pack("<BII", _LITTLE_ENDIAN, _LINESTRING, len(piece)) + piece.astype("<f8").tobytes() for piece in pieces
    ]
    if len(lines) == 1:
        return lines[0]
    return struct.pack("<BII", _LITTLE_ENDIAN, _MULTILINESTRING, len(lines)) + b"".join(lines)


def encode_paths(coordinates: Collection[bytes]) -> list[bytes]:
    """Return the paths of tracks as `encode_path` does, given the bytes of their coordinates."""
    all_lon = np.frombuffer(b"".join(coordinates), "<f8")[::2]
    ends = np.cumsum([len(path) // 16 for path in coordinates], dtype=np.int64)
    # What leads from one track to the next counts too, and does no harm.
    hops = np.append(np.abs(np.diff(all_lon)) > 180, False).cumsum()
    crosses = np.diff(hops[ends - 1], prepend=0) > 0
    return [
        encode_path(np.frombuffer(path, "<f8").reshape(-1, 2))
        if cut
        else struct.pack("<BII", _LITTLE_ENDIAN, _LINESTRING, len(path) // 16) + path
        for path, cut in zip(coordinates, crosses.tolist(), strict=True)
    ]


def encode_point(lon: float, lat: float) -> bytes:
    """Return a position as little-endian WKB."""
    return struct.pack("<BIdd", _LITTLE_ENDIAN, _POINT, lon, lat)


def decode_path(path: bytes) -> list[FloatArray]:
    """Return the pieces of a path written by `encode_path`, each an (n, 2) array of lon and lat."""
    kind, count = struct.unpack_from("<II", path, 1)
    offset = 9  # of the first piece, behind the header of a MultiLineString
    if kind == _LINESTRING:
        count, offset = 1, 0
    pieces = []
    for _ in range(count):
        (vertices,) = struct.unpack_from("<I", path, offset + 5)
        pieces.append(np.frombuffer(path, "<f8", 2 * vertices, offset + 9).reshape(-1, 2))
        offset += 9 + 16 * vertices
    return pieces


def cut_at_antimeridian(coordinates: FloatArray) -> list[FloatArray]:
    """Cut a line where two neighbours lie more than 180 degrees of longitude apart (RFC 7946, 3.1.9).

    The crossing's latitude is interpolated linearly, which is how a map draws the line. A piece that would hold
    a single vertex is left out: it says nothing that its neighbour does not. Where there are more columns than lon and
    lat, they are NaN at the crossings, and such a piece stays, with its vertex twice.
    """
    lon, lat = coordinates[:, 0], coordinates[:, 1]
    more = np.full((1, coordinates.shape[1] - 2), np.nan)
    hop = np.diff(lon)
    before = np.flatnonzero(np.abs(hop) > 180)
    if not len(before):
        return [coordinates]
    edge = np.where(hop[before] < 0, 180.0, -180.0)
    span = lon[before + 1] + 2 * edge - lon[before]
    share = np.divide(edge - lon[before], span, out=np.zeros_like(span), where=span != 0)
    cut_lat = lat[before] + share * (lat[before + 1] - lat[before])

    pieces = []
    bounds = [0, *(before + 1), len(lon)]
    for i, (start, end) in enumerate(pairwise(bounds)):
        piece = coordinates[start:end]
        if i > 0:
            entry = np.array([[-edge[i - 1], cut_lat[i - 1]]])
            piece = piece if np.array_equal(entry[0], piece[0, :2]) else np.vstack([np.hstack([entry, more]), piece])
        if i < len(before):
            leave = np.array([[edge[i], cut_lat[i]]])
            piece = piece if np.array_equal(leave[0], piece[-1, :2]) else np.vstack([piece, np.hstack([leave, more])])
        if len(piece) == 1 and more.size:
            piece = np.vstack([piece, np.hstack([piece[:, :2], more])])
        if len(piece) > 1:
            pieces.append(piece)
    if not pieces:
        # All points are one place on the antimeridian itself, told from both sides: one side will do.
        pieces = [np.column_stack([np.full(len(lon), lon[0]), lat])]
    return pieces


def simplified(coordinates: FloatArray, tolerance_m: float) -> FloatArray:
    """Leave out vertices of a line that lie within a distance of what is left, and keep both ends.

    Parameters
    ----------
    coordinates : (n, 2+) float array
        Longitude and latitude, and whatever else belongs to the vertices.
    tolerance_m : float
        How far from the new line, as a map of longitudes and latitudes draws it, a vertex may lie that is left out.

    Returns
    -------
    (m, 2+) float array
        Some of the rows.

    Notes
    -----
    Distances are measured around each vertex by itself, in metres on the ellipsoid, so that no
    projection has to fit the whole line.
    """
    if len(coordinates) < 3 or tolerance_m <= 0:
        return coordinates
    lon, lat = np.unwrap(coordinates[:, 0], period=360), coordinates[:, 1]
    sine = np.sin(np.radians(lat))
    curvature = 1 - GEOD.es * sine**2
    lon_m = np.radians(GEOD.a * np.cos(np.radians(lat)) / np.sqrt(curvature))  # metres in a degree, at each vertex
    lat_m = np.radians(GEOD.a * (1 - GEOD.es) / curvature**1.5)
    kept = np.zeros(len(lon), bool)
    kept[[0, -1]] = True
    return coordinates[simplify(lon, lat, lon_m, lat_m, kept, tolerance_m)]


def simplify(x: FloatArray, y: FloatArray, x_m: FloatArray, y_m: FloatArray, kept: Mask, tolerance_m: float) -> Mask:
    """Tell which vertices of lines are needed to draw them, of all lines at once.

    Parameters
    ----------
    x, y : (n,) float arrays
        The vertices of all lines, one line after the other, in the plane in which they are drawn.
    x_m, y_m : (n,) float arrays
        How many metres a unit of x and of y is where each vertex is.
    kept : (n,) bool array
        The vertices that are needed in any case; the first and the last of every line must be among them.
    tolerance_m : float
        How far a vertex may come to lie from the line if it is left out.

    Returns
    -------
    (n,) bool array
        `kept`, and what else is needed.

    Notes
    -----
    Douglas, D. and Peucker, T. (1973): Algorithms for the reduction of the number of points required to represent a
    digitized line. All spans between kept vertices are halved at their farthest vertex in the same pass, so that the
    number of passes is the depth of the recursion, and not the number of lines.
    """
    kept = kept.copy()
    ends = np.flatnonzero(kept)
    lo, hi = ends[:-1], ends[1:]
    while True:
        is_open = hi - lo > 1
        lo, hi = lo[is_open], hi[is_open]
        if not len(lo):
            return kept
        inside = hi - lo - 1
        span = np.repeat(np.arange(len(lo)), inside)
        starts = np.cumsum(inside) - inside
        vertex = np.arange(len(span)) - starts[span] + lo[span] + 1
        from_x, from_y, scale_x, scale_y = x[lo[span]], y[lo[span]], x_m[vertex], y_m[vertex]
        off = _distances(
            *((x[vertex] - from_x) * scale_x, (y[vertex] - from_y) * scale_y),
            *((x[hi[span]] - from_x) * scale_x, (y[hi[span]] - from_y) * scale_y),
        )
        farthest = np.maximum.reduceat(off, starts)
        splits = farthest > tolerance_m
        candidates = np.flatnonzero(off == farthest[span])
        _, first = np.unique(span[candidates], return_index=True)
        middle = vertex[candidates[first]][splits]
        kept[middle] = True
        lo, hi = np.append(lo[splits], middle), np.append(middle, hi[splits])


def _distances(x: FloatArray, y: FloatArray, to_x: FloatArray, to_y: FloatArray) -> FloatArray:
    """Return the distances of points from the straight lines between the origin and others."""
    square = to_x**2 + to_y**2
    share = np.divide(x * to_x + y * to_y, square, out=np.zeros_like(square), where=square > 0).clip(0, 1)
    distances: FloatArray = np.hypot(x - share * to_x, y - share * to_y)
    return distances
