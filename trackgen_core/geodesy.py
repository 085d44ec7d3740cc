"""Distances on the WGS84 ellipsoid, whole columns at a time, in integer millimetres."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from pyproj import Geod

GEOD: Final = Geod(ellps="WGS84")
BELOW_HALF: Final = np.nextafter(0.5, 0)
"""Added to a float that ends in .5 it still gives the next whole number, as sums are rounded to the nearest float."""

LEAST_RADIUS_M: Final = GEOD.a * (1 - GEOD.es)
MOST_RADIUS_M: Final = GEOD.a / np.sqrt(1 - GEOD.es)
"""Of all curvatures of the ellipsoid: along the meridian at the equator, and in any direction at the poles."""
CUBE: Final = (LEAST_RADIUS_M**-2 + MOST_RADIUS_M**-2) / 48
CUBE_ERROR: Final = (LEAST_RADIUS_M**-2 - MOST_RADIUS_M**-2) / 48
"""An arc is longer than its chord c by c**3 / (24 R**2), and the next term is far below a nanometre here."""
CHORD_ERROR_M: Final = 1e-7
"""Rounding moves a position by less than 7 nm along each axis, and `Geod` is exact to 15 nm: this is far more."""
CHORD_ERROR_LIMIT_M: Final = 2e-5
"""Beyond it, with a chord of some 12 km, asking `Geod` costs no more."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def round_half_away(values: FloatArray) -> IntArray:
    """Round to the nearest integer, halves away from zero, as SQL and people do.

    Adding 0.5 itself would be wrong for the largest float below 0.5, and numpy's own rounding is half to even.
    """
    return (values + np.copysign(BELOW_HALF, values)).astype(np.int64)  # which drops the fraction


def link_lengths_mm(lon: FloatArray, lat: FloatArray, positions: FloatArray | None = None) -> IntArray:
    """Return the geodesic length of each link of a line.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Vertices in degrees.
    positions : (3, n) float array, optional
        Their `positions_m`, if they are known already.

    Returns
    -------
    (n - 1,) int array
        Millimetres, each link rounded by itself. Element i joins vertices i and i + 1.
    """
    positions = positions_m(lon, lat) if positions is None else positions
    return _lengths_mm(positions[:, :-1], positions[:, 1:], (lon[:-1], lat[:-1], lon[1:], lat[1:]))


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
    return _lengths_mm(positions_m(lon0, lat0), positions_m(lon1, lat1), (lon0, lat0, lon1, lat1))


def _lengths_mm(a: FloatArray, b: FloatArray, ends: tuple[FloatArray, FloatArray, FloatArray, FloatArray]) -> IntArray:
    """Return what `Geod` says of the length from `a` to `b`, in whole mm, without asking it about most of them.

    A geodesic bends like the ellipsoid under it, with a radius between `LEAST_RADIUS_M` and `MOST_RADIUS_M`. Its length
    is therefore between those of two circular arcs over the same chord (Schur's theorem; the torsion of a geodesic,
    below 1e-9 per m, changes less than is rounded here). Their mean is taken where both of these, and whatever lies
    within the errors of arithmetic, round to the same millimetre; `Geod` (Karney 2013) says the rest.
    """
    step = b - a
    step *= step
    square = step[0]
    square += step[1]
    square += step[2]
    mm = np.sqrt(square)
    cube = square
    cube *= mm
    error = cube * (1_000 * CUBE_ERROR)
    error += 1_000 * CHORD_ERROR_M
    cube *= CUBE
    mm += cube
    mm *= 1_000
    lengths: IntArray = (mm + 0.5).astype(np.int64)
    mm -= lengths  # from -0.5 to 0.5
    np.abs(mm, out=mm)
    mm += error
    unsure = np.flatnonzero((mm >= 0.5) | (error > 1_000 * CHORD_ERROR_LIMIT_M))
    if len(unsure):
        lon0, lat0, lon1, lat1 = (end[unsure] for end in ends)
        geodesics = GEOD.inv(lon0, lat0, lon1, lat1, return_back_azimuth=False)[2]
        lengths[unsure] = round_half_away(np.asarray(geodesics) * 1_000)
    return lengths


def positions_m(lon: FloatArray, lat: FloatArray) -> FloatArray:
    """Return geocentric positions at height 0 on WGS84: no antimeridian, no poles, and distances by Pythagoras.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Degrees.

    Returns
    -------
    (3, n) float array
        Metres along the three axes, to some nanometres.
    """
    lam, phi = np.radians(np.ascontiguousarray(lon)), np.radians(np.ascontiguousarray(lat))
    sin_phi, cos_phi = np.sin(phi), np.cos(phi)
    normal = GEOD.a / np.sqrt(1 - GEOD.es * sin_phi**2)
    cos_phi *= normal
    return np.stack([cos_phi * np.cos(lam), cos_phi * np.sin(lam), normal * (1 - GEOD.es) * sin_phi])


def places_cm(positions: FloatArray) -> IntArray:
    """Return `positions_m` in whole centimetres, (3, n), so that whatever is computed of them is exact."""
    return round_half_away(positions * 100)


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
