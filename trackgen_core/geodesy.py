"""Distances on the WGS84 ellipsoid, whole columns at a time, in integer millimetres."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from pyproj import Geod

GEOD: Final = Geod(ellps="WGS84")
BELOW_HALF: Final = np.nextafter(0.5, 0)
"""Added to a float that ends in .5 it still gives the next whole number, as sums are rounded to the nearest float."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def round_half_away(values: FloatArray) -> IntArray:
    """Round to the nearest integer, halves away from zero, as SQL and people do.

    Adding 0.5 itself would be wrong for the largest float below 0.5, and numpy's own rounding is half to even.
    """
    return (values + np.copysign(BELOW_HALF, values)).astype(np.int64)  # which drops the fraction


def link_lengths_mm(lon: FloatArray, lat: FloatArray) -> IntArray:
    """Return the geodesic length of each link of a line.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Vertices in degrees.

    Returns
    -------
    (n - 1,) int array
        Millimetres, each link rounded by itself. Element i joins vertices i and i + 1.
    """
    if len(lon) < 2:
        return np.zeros(0, np.int64)
    return round_half_away(np.asarray(GEOD.line_lengths(lon, lat)) * 1000)


def pair_lengths_mm(lon0: FloatArray, lat0: FloatArray, lon1: FloatArray, lat1: FloatArray) -> IntArray:
    """Return the geodesic length between n pairs of points, bit for bit as `link_lengths_mm` would.

    Parameters
    ----------
    lon0, lat0, lon1, lat1 : (n,) float arrays
        The two ends of each pair in degrees.

    Returns
    -------
    (n,) int array
        Millimetres.
    """
    lon, lat = np.column_stack([lon0, lon1]).ravel(), np.column_stack([lat0, lat1]).ravel()
    return link_lengths_mm(lon, lat)[::2]
