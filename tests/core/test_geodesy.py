"""Lengths are those of pyproj, to the millimetre, wherever on Earth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackgen_core.geodesy import GEOD, link_lengths_mm, pair_lengths_mm, round_half_away

LINKS = 40_000
Ends = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def near(rng: np.random.Generator, degrees: float) -> Ends:
    lon, lat = rng.uniform(-180, 180, LINKS), rng.uniform(-90, 90, LINKS)
    lon_hop, lat_hop = rng.uniform(-degrees, degrees, (2, LINKS))
    return lon, lat, np.clip(lon + lon_hop, -180, 180), np.clip(lat + lat_hop, -90, 90)


def across_the_poles(rng: np.random.Generator) -> Ends:
    lat = 90 - rng.exponential(1e-2, LINKS)
    return rng.uniform(-180, 180, LINKS), lat, rng.uniform(-180, 180, LINKS), np.minimum(lat + rng.normal(0, 1e-3), 90)


def across_the_antimeridian(rng: np.random.Generator) -> Ends:
    east, west = 180 - rng.exponential(1e-2, LINKS), -180 + rng.exponential(1e-2, LINKS)
    lat = rng.uniform(-89, 89, LINKS)
    return east, lat, west, lat + rng.normal(0, 1e-2, LINKS)


def along(rng: np.random.Generator, lon_hop: float, lat_hop: float) -> Ends:
    lon, lat, share = rng.uniform(-179, 179, LINKS), rng.uniform(-89, 89, LINKS), rng.random(LINKS)
    return lon, lat, lon + share * lon_hop, lat + share * lat_hop


def near_a_half(rng: np.random.Generator) -> Ends:
    """Links within some nm of a half millimetre, where the error of a series would show."""
    lon, lat, azimuth = rng.uniform(-180, 180, LINKS), rng.uniform(-80, 80, LINKS), rng.uniform(-180, 180, LINKS)
    metres = (rng.integers(0, 8_000_000, LINKS) + 0.5 + rng.normal(0, 2e-5, LINKS)) / 1_000
    lon_end, lat_end, _ = GEOD.fwd(lon, lat, azimuth, metres)
    return lon, lat, np.asarray(lon_end), np.asarray(lat_end)


KINDS = {
    **{f"within {degrees} degrees": lambda rng, d=degrees: near(rng, d) for degrees in (1e-7, 1e-5, 1e-3, 0.05, 1, 60)},
    "across the poles": across_the_poles,
    "across the antimeridian": across_the_antimeridian,
    "along meridians": lambda rng: along(rng, 0, 0.2),
    "along parallels": lambda rng: along(rng, 0.2, 0),
    "near a half": near_a_half,
    "nearly antipodal": lambda rng: (
        *(lon_lat := (rng.uniform(-179, 0, LINKS), rng.uniform(-89, 89, LINKS))),
        lon_lat[0] + 180 - rng.exponential(0.1, LINKS),
        -lon_lat[1],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_those_of_pyproj(kind: str) -> None:
    ends = KINDS[kind](np.random.default_rng(7))
    expected = round_half_away(np.asarray(GEOD.inv(*ends)[2]) * 1_000)
    assert np.array_equal(pair_lengths_mm(*ends), expected)
    lon, lat = (np.column_stack(pair).ravel() for pair in (ends[::2], ends[1::2]))
    assert np.array_equal(link_lengths_mm(lon, lat)[::2], expected)


places = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(st.lists(places, max_size=8))
def test_a_line_is_as_long_as_its_links_one_by_one(line: list[tuple[float, float]]) -> None:
    lon, lat = np.array(line, float).reshape(-1, 2).T
    one_by_one = [int(round_half_away(np.array([GEOD.inv(*a, *b)[2]]) * 1_000)[0]) for a, b in zip(line, line[1:])]  # noqa: B905, RUF007
    assert link_lengths_mm(lon, lat).tolist() == one_by_one
