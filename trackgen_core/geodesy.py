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
Mask = npt.NDArray[np.bool_]


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


def places_cm(lon: FloatArray, lat: FloatArray) -> IntArray:
    """Return geocentric positions at height 0 on WGS84: no antimeridian, no poles, and distances by Pythagoras.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Degrees.

    Returns
    -------
    (3, n) int array
        Centimetres along the three axes, so that whatever is computed of them is exact.
    """
    lam, phi = np.radians(np.ascontiguousarray(lon)), np.radians(np.ascontiguousarray(lat))
    sin_phi, cos_phi = np.sin(phi), np.cos(phi)
    normal = GEOD.a / np.sqrt(1 - GEOD.es * sin_phi**2)
    axes = (normal * cos_phi * np.cos(lam), normal * cos_phi * np.sin(lam), normal * (1 - GEOD.es) * sin_phi)
    return np.stack([round_half_away(axis * 100) for axis in axes])


def distances_cm(a: IntArray, b: IntArray) -> FloatArray:
    """Return the straight distances between places, (3, n) each, in cm."""
    squared: IntArray = np.square(a[0] - b[0])
    squared += np.square(a[1] - b[1])
    squared += np.square(a[2] - b[2])
    return np.sqrt(squared.astype(np.float64))


def box_sizes_cm(places: IntArray, first: IntArray, last: IntArray) -> FloatArray:
    """Return the diagonals of the boxes around runs of places.

    Parameters
    ----------
    places : (3, n) int array
        Places in cm.
    first, last : (k,) int arrays
        Index of the first and last place of each run, in any order; runs may overlap.

    Returns
    -------
    (k,) float array
        Centimetres.

    Notes
    -----
    The extremes of all runs of 1, 2, 4, 8, ... places are computed in turn; every run is the union of two of them.
    """
    if not len(first):
        return np.zeros(0)
    covered = np.cumsum(
        np.bincount(first, minlength=places.shape[1] + 1) - np.bincount(last + 1, minlength=places.shape[1] + 1)
    )[:-1]
    kept = covered > 0
    if not kept.all():  # most of a journey is in no run
        position = np.cumsum(kept) - 1
        places, first, last = places[:, kept], position[first], position[last]
    level = np.frexp((last - first + 1).astype(np.float64))[1] - 1
    order = np.argsort(level, kind="stable")
    bounds = np.searchsorted(level[order], np.arange(level.max() + 2))
    size_squared = np.empty(len(first), np.int64)
    lowest, highest = places, places
    for power in range(level.max() + 1):
        runs = order[bounds[power] : bounds[power + 1]]
        one, other = first[runs], last[runs] + 1 - (1 << power)
        extent = np.maximum(highest[:, one], highest[:, other]) - np.minimum(lowest[:, one], lowest[:, other])
        size_squared[runs] = (extent * extent).sum(axis=0)
        step = 1 << power
        lowest = np.minimum(lowest[:, :-step], lowest[:, step:])
        highest = np.maximum(highest[:, :-step], highest[:, step:])
    return np.sqrt(size_squared.astype(np.float64))
