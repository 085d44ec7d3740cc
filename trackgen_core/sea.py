"""Which places are on the open sea, by a map that comes with the package (`docs/sea_mask.py` makes it)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from trackgen_core.geodesy import FloatArray, Mask

FILE: Final = Path(__file__).parent / "data" / "sea.npz"


def is_sea(lon: FloatArray, lat: FloatArray) -> Mask:
    """Say which places are on the open sea: some kilometres off every coast.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Degrees.

    Returns
    -------
    (n,) bool array

    Notes
    -----
    The map is GLOBE of NOAA, by way of the package global-land-mask, in pixels of two arc minutes. Lakes, rivers and
    waters near a coast are not in it.
    """
    bits, columns = _map()
    row = np.clip(((90 - lat) * len(bits) / 180).astype(np.int64), 0, len(bits) - 1)
    column = np.clip(((lon + 180) * columns / 360).astype(np.int64), 0, columns - 1)
    sea: Mask = bits[row, column // 8] >> (7 - column % 8) & 1 == 1
    return sea


@cache
def _map() -> tuple[npt.NDArray[np.uint8], int]:
    with np.load(FILE) as file:
        return file["bits"], int(file["columns"])
