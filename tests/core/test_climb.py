"""Climb: the same however a way is cut, and read backwards what went up went down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import climb_cm
from trackgen_core.climb import BLOCK, CLIMB_COLUMNS, climb_of, join_at, join_up_to

GAIN, LOSS = CLIMB_COLUMNS.index("gain_cm"), CLIMB_COLUMNS.index("loss_cm")

ways = st.lists(st.none() | st.integers(-12, 12) | st.integers(-3, 3), max_size=5 * BLOCK)
"""Altitudes in cm; thresholds are as small."""


def known(way: Sequence[int | None]) -> list[int]:
    return [cm for cm in way if cm is not None]


def metres(way: Sequence[int | None]) -> np.ndarray:
    return np.array([np.nan if cm is None else cm / 100 for cm in way])


def starts(cuts: Sequence[int], length: int) -> np.ndarray:
    return np.unique([0, *(cut for cut in cuts if cut < length)])


@given(ways.filter(len), st.lists(st.integers(0, 5 * BLOCK), max_size=6), st.integers(1, 9))
def test_parts_joined_are_the_whole(way, cuts, threshold: int) -> None:
    whole = climb_of(metres(way), np.array([0]), threshold)
    first = starts(cuts, len(way))
    parts = climb_of(metres(way), first, threshold)
    assert (join_at(parts, np.array([0]), threshold) == whole).all()
    assert (whole[GAIN, 0], whole[LOSS, 0]) == climb_cm(known(way), threshold)
    for n, (a, b) in enumerate(zip(first, [*first[1:], len(way)], strict=True)):
        assert (parts[GAIN, n], parts[LOSS, n]) == climb_cm(known(way[a:b]), threshold)


@given(ways.filter(len), st.integers(1, 9))
def test_up_to_each_point_it_is_the_climb_so_far(way, threshold: int) -> None:
    points = climb_of(metres(way), np.arange(len(way)), threshold)
    so_far = join_up_to(points, np.array([0]), threshold)
    for n in range(len(way)):
        assert (so_far[GAIN, n], so_far[LOSS, n]) == climb_cm(known(way[: n + 1]), threshold)
    assert (np.diff(so_far[[GAIN, LOSS]]) >= 0).all()  # days never take away


@given(ways.filter(len), st.integers(1, 9))
def test_backwards_gain_is_loss(way, threshold: int) -> None:
    (there, back) = (climb_of(metres(one), np.array([0]), threshold)[:, 0] for one in (way, way[::-1]))
    assert (there[GAIN], there[LOSS]) == (back[LOSS], back[GAIN])


@pytest.mark.parametrize(
    ("altitudes", "gain_m", "loss_m"),
    [
        ([100, None, 150], 50, 0),
        ([100, 104, 100, 104, 100], 0, 0),
        ([100, 105], 5, 0),
        ([100, 104.99], 0, 0),
        ([100, 102, 99, 150, 147, 160], 61, 0),
        ([100, 150, 145, 160], 65, 5),
        ([None, None], 0, 0),
    ],
)
def test_five_metres(altitudes, gain_m, loss_m) -> None:
    climb = climb_of(np.array(altitudes, float), np.array([0]), 500)
    assert (climb[GAIN, 0], climb[LOSS, 0]) == (gain_m * 100, loss_m * 100)
