"""Paths as WKB: coordinates in, geometry that every GIS tool reads out; and paths with fewer vertices, for the eye."""

from __future__ import annotations

import struct
from collections.abc import Collection
from itertools import pairwise
from typing import Final

import numpy as np

from trackgen_core.geodesy import FloatArray, IntArray, Mask

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
    pieces = cut_at_antimeridian(coordinates)
    lines = [
        struct.pack("<BII", _LITTLE_ENDIAN, _LINESTRING, len(piece)) + piece.astype("<f8").tobytes() for piece in pieces
    ]
    if len(lines) == 1:
        return lines[0]
    return struct.pack("<BII", _LITTLE_ENDIAN, _MULTILINESTRING, len(lines)) + b"".join(lines)


def encode_paths(coordinates: Collection[bytes]) -> list[bytes]:
    """Return the paths of tracks as `encode_path` does, given the bytes of their coordinates."""
    all_lon = np.frombuffer(b"".join(coordinates), "<f8")[::2]
    ends = np.cumsum([len(path) // 16 for path in coordinates])
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
    a single vertex is left out: it says nothing that its neighbour does not.
    """
    lon, lat = coordinates[:, 0], coordinates[:, 1]
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
            piece = piece if np.array_equal(entry[0], piece[0]) else np.vstack([entry, piece])
        if i < len(before):
            leave = np.array([[edge[i], cut_lat[i]]])
            piece = piece if np.array_equal(leave[0], piece[-1]) else np.vstack([piece, leave])
        if len(piece) > 1:
            pieces.append(piece)
    if not pieces:
        # All points are one place on the antimeridian itself, told from both sides: one side will do.
        pieces = [np.column_stack([np.full(len(lon), lon[0]), lat])]
    return pieces


def simplify(x: FloatArray, y: FloatArray, kept: Mask, tolerance: FloatArray) -> Mask:
    """Tell which vertices of lines are needed to draw them (Douglas and Peucker 1973), of all lines at once.

    Parameters
    ----------
    x, y : (n,) float arrays
        The vertices of all lines, one line after the other, in the plane in which they are drawn.
    kept : (n,) bool array
        The vertices that are needed in any case; the first and the last of every line must be among them.
    tolerance : (n,) float array
        How far each vertex may come to lie from the line if it is left out.

    Returns
    -------
    (n,) bool array
        `kept`, and what else is needed.

    Notes
    -----
    All spans between kept vertices are halved at their farthest vertex in the same pass, so that the number of
    passes is the depth of the recursion, and not the number of lines.
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
        off = _distances(x, y, vertex, lo[span], hi[span]) / tolerance[vertex]
        farthest = np.maximum.reduceat(off, starts)
        splits = farthest > 1
        candidates = np.flatnonzero(off == farthest[span])
        _, first = np.unique(span[candidates], return_index=True)
        middle = vertex[candidates[first]][splits]
        kept[middle] = True
        lo, hi = np.append(lo[splits], middle), np.append(middle, hi[splits])


def _distances(x: FloatArray, y: FloatArray, vertex: IntArray, a: IntArray, b: IntArray) -> FloatArray:
    """Return the distances of vertices from the straight lines between two others, all given by their numbers."""
    to_x, to_y, by_x, by_y = x[b] - x[a], y[b] - y[a], x[vertex] - x[a], y[vertex] - y[a]
    square = to_x**2 + to_y**2
    share = np.divide(by_x * to_x + by_y * to_y, square, out=np.zeros_like(square), where=square > 0).clip(0, 1)
    distances: FloatArray = np.hypot(by_x - share * to_x, by_y - share * to_y)
    return distances
