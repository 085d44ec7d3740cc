"""Pictures for terminals: the outline of a path in braille, and profiles in blocks."""

from __future__ import annotations

from typing import Final

import numpy as np

from trackgen_core.geodesy import FloatArray

BRAILLE: Final = 0x2800
DOT_BITS: Final = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""What the dots of a braille character add to `BRAILLE`, by row and column."""
DOT_ROWS, DOT_COLUMNS = DOT_BITS.shape
BLOCKS: Final = " ▁▂▃▄▅▆▇█"


def outline(lon: FloatArray, lat: FloatArray, columns: int, rows: int) -> list[str]:
    """Draw a line of at least one point, north up and true to scale, with A at its start and B at its end.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Degrees.
    columns, rows : int
        The most characters and lines to use.

    Returns
    -------
    list of str
        Lines without blanks at their ends.
    """
    east = np.unwrap(lon, period=360)
    x, y = (east - east.min()) * np.cos(np.radians((lat.min() + lat.max()) / 2)), lat.max() - lat
    # A dot is about as high as wide: a character has two by four of them, and is twice as high as wide.
    dots_wide, dots_high = columns * DOT_COLUMNS - 1, rows * DOT_ROWS - 1
    scale = min(limit / size for limit, size in ((dots_wide, x.max()), (dots_high, y.max()), (1, 1e-9)) if size > 0)
    x, y = x * scale, y * scale
    way = np.append(0, np.cumsum(np.maximum(np.abs(np.diff(x)), np.abs(np.diff(y)))))
    samples = np.arange(0, way[-1] + 0.5, 0.5)
    across, down = (np.rint(np.interp(samples, way, axis)).astype(int) for axis in (x, y))
    dots = np.unique(np.column_stack([down, across]), axis=0)
    cells = np.zeros((dots[:, 0].max() // DOT_ROWS + 1, dots[:, 1].max() // DOT_COLUMNS + 1), int)
    at_row, at_column = dots[:, 0] // DOT_ROWS, dots[:, 1] // DOT_COLUMNS
    np.add.at(cells, (at_row, at_column), DOT_BITS[dots[:, 0] % DOT_ROWS, dots[:, 1] % DOT_COLUMNS])
    drawn = [[chr(BRAILLE + cell) if cell else " " for cell in row] for row in cells.tolist()]
    for letter, end in (("B", -1), ("A", 0)):
        drawn[round(y[end]) // DOT_ROWS][round(x[end]) // DOT_COLUMNS] = letter
    return ["".join(row).rstrip() for row in drawn]


def profile(values: FloatArray, rows: int) -> list[str]:
    """Draw bars side by side from the least to the greatest of some values; none where a value is NaN.

    Parameters
    ----------
    values : (n,) float array
        A value a column, at least one of them known.
    rows : int
        How many lines to use.

    Returns
    -------
    list of str
        `rows` lines of n characters, the highest first.
    """
    least, greatest = np.nanmin(values), np.nanmax(values)
    steps = rows * (len(BLOCKS) - 1)
    share = (values - least) / (greatest - least) if greatest > least else values * 0
    heights = np.where(np.isnan(values), 0, 1 + np.nan_to_num(share) * (steps - 1)).round().astype(int)
    lines = [np.clip(heights - row * (len(BLOCKS) - 1), 0, len(BLOCKS) - 1) for row in reversed(range(rows))]
    return ["".join(BLOCKS[level] for level in line.tolist()) for line in lines]
