"""Small pictures of the tracks of days: SVG of some hundred characters, as a URL that holds the picture itself.

A picture has a panel for each device, side by side, each with a scale of its own, north up and without a ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from trackgen_core.geodesy import FloatArray, IntArray
from trackgen_core.paths import decode_path

SIZE: Final = 120
"""Width and height of a panel."""

MARGIN: Final = 6
LEAST_DEGREES: Final = 0.002
"""What fills a panel at least, about 200 m, so that a walk around a house looks like one."""

COARSER: Final = 1.4
"""How much wider the cells of a grid are than those of the one before."""

COARSEST: Final = SIZE / 8
CELLS: Final = SIZE + 1
"""The finest grid has no more cells in a row."""

# What a URL cannot hold is written in the way of URLs.
HEAD: Final = (
    "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20width='{}'%20height='{}'%20fill='none'"
    "%20stroke='royalblue'%20stroke-width='2'%20stroke-linejoin='round'%3E%3Cpath%20d='"
)
TAIL: Final = "'/%3E%3C/svg%3E"
FRAME: Final = len(HEAD.format(3 * SIZE, SIZE)) + len(TAIL)


def draw_days(tracks: pd.DataFrame, room: Mapping[int, int]) -> dict[int, str]:
    """Draw the tracks of days.

    Parameters
    ----------
    tracks : DataFrame
        `day`, `panel` (from 0, left to right) and `path` (WKB), sorted by day and panel; where a panel cannot hold all
        of them, it holds the first.
    room : mapping of int to int
        How many characters the picture of each day may have.

    Returns
    -------
    dict of int to str
        The pictures by day; none of a day on which there is nothing to be seen.
    """
    if tracks.empty:
        return {}
    paths = [decode_path(path) for path in tracks["path"]]
    lines = [line for path in paths for line in path]
    of_line = tracks[["day", "panel"]].loc[tracks.index.repeat([len(path) for path in paths])]
    panels = of_line.drop_duplicates()
    panel = np.asarray(of_line.groupby(["day", "panel"]).ngroup(), np.int64)
    in_row = panels.groupby("day")["panel"].transform("size").to_numpy("int64")
    line = np.repeat(np.arange(len(lines)), [len(one) for one in lines])

    x, y = _places(np.concatenate(lines), panel[line])
    room_of = (panels["day"].map(room).to_numpy("int64") - FRAME) // in_row
    kept = _thinned(x, y, line, panel, room_of)
    x, y, line = x[kept] + SIZE * panels["panel"].to_numpy()[panel[line[kept]]], y[kept], line[kept]

    texts: dict[int, list[str]] = {}
    begins, ends = np.flatnonzero(np.diff(line, prepend=-1)), np.flatnonzero(np.diff(line, append=-1)) + 1
    steps = np.diff(np.column_stack([x, y]), axis=0)
    days = of_line["day"].to_numpy()[line[begins]]
    for day, begin, end in zip(days.tolist(), begins.tolist(), ends.tolist(), strict=True):
        way = steps[begin : end - 1].ravel().tolist()
        texts.setdefault(day, []).append(f"M{x[begin]},{y[begin]}l" + "%+d" * len(way) % tuple(way))
    width = dict(zip(panels["day"].tolist(), (SIZE * in_row).tolist(), strict=True))
    return {day: HEAD.format(width[day], SIZE) + "".join(ways) + TAIL for day, ways in texts.items()}


def _places(positions: FloatArray, panel: IntArray) -> tuple[IntArray, IntArray]:
    """Return where positions lie in their panels, from the upper left; `panel` is sorted, and its numbers are dense."""
    first = np.flatnonzero(np.diff(panel, prepend=-1))
    lon, lat = positions.T
    x = (lon - lon[first][panel] + 180) % 360 - 180  # on whichever side of the antimeridian the first one is
    y = -lat
    middle = (np.minimum.reduceat(y, first) + np.maximum.reduceat(y, first)) / 2
    x *= np.cos(np.radians(middle))[panel]
    extents = []
    for axis in (x, y):
        lo, hi = np.minimum.reduceat(axis, first), np.maximum.reduceat(axis, first)
        axis -= ((lo + hi) / 2)[panel]
        extents.append(hi - lo)
    scale = (SIZE - 2 * MARGIN) / np.maximum(np.maximum(*extents), LEAST_DEGREES)
    return tuple(np.rint(axis * scale[panel] + SIZE / 2).astype(np.int64) for axis in (x, y))


def _thinned(x: IntArray, y: IntArray, line: IntArray, panel: IntArray, room: IntArray) -> IntArray:
    """Return which vertices are drawn: each panel has room for its own.

    Of those in a row in a cell of a grid, one is; the grid of a panel is the finest for which there is room. What has
    no room even on the coarsest, the end of the last lines, is left out.
    """
    kept = [np.empty(0, np.int64)]
    left, cell = np.arange(len(x)), 1.0
    while len(left) and cell < COARSEST:
        cells = (line[left] * CELLS + x[left] // cell) * CELLS + y[left] // cell
        left = _without_single(left[np.diff(cells, prepend=-1) != 0], line)
        fits = np.bincount(panel[line[left]], _characters(x[left], y[left], line[left]), len(room)) <= room
        kept.append(left[fits[panel[line[left]]]])
        left = left[~fits[panel[line[left]]]]
        cell *= COARSER
    spent = pd.Series(_characters(x[left], y[left], line[left])).groupby(panel[line[left]]).cumsum().to_numpy()
    kept.append(_without_single(left[spent <= room[panel[line[left]]]], line))
    return np.sort(np.concatenate(kept))


def _without_single(vertices: IntArray, line: IntArray) -> IntArray:
    """Leave out the only vertex of a line, for it is no way."""
    return vertices[np.bincount(line[vertices])[line[vertices]] > 1] if len(vertices) else vertices


def _characters(x: IntArray, y: IntArray, line: IntArray) -> IntArray:
    """Return how many characters each vertex takes: a sign and digits for each axis; where lines begin, nine in all."""
    across, down = (np.abs(np.diff(axis, prepend=0)) for axis in (x, y))
    count: IntArray = 4 + (across >= 10) + (across >= 100) + (down >= 10) + (down >= 100)
    return np.where(np.diff(line, prepend=-1) != 0, 9, count)
