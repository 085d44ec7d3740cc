"""Sections 5 and 6 of `docs/rules.md` about links: their length without jitter, and how fast, steady and straight
they are. See `tests/reference.py`.

Speeds are float64, in m/s: 10 times a distance in cm over a time in ms. So a speed times a time in ms is a length in
mm, which is cut to an integer. A link is known by the number of the point or cell to which it leads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.reference_dwelling import Cell, cells_of, clock_of
from tests.reference_words import MINUTE_MS, SECOND_MS, Fix, apart_cm, gap_ms, link_mm, mean
from trackgen_core.settings import Settings

BANDS_M_S = (0, 0.5, 2.2, 4.2, 8, 10, 45, 88)
"""The speeds at which the bands begin."""

SEA = Path(__file__).parent.parent / "trackgen_core" / "data" / "sea.npz"


@dataclass(frozen=True)
class Link:
    """What is known of the link to a point."""

    ms: int
    length_mm: int
    moves: bool
    band: int
    is_unsteady: bool
    straight: int
    """In permille."""
    is_at_sea: bool
    """Whether the map says so."""


def links_of(fixes: Sequence[Fix], rules: Settings) -> list[Link | None]:
    """Return the link to each point of one device that is no noise; the first point has none."""
    cells = cells_of(fixes)
    plain_mm = plain_lengths(fixes)
    fine_mm = fine_lengths(fixes, plain_mm)
    fine = cells_of(fixes, 5 * SECOND_MS)
    noisy = [is_noisy(cells, n, plain_mm, fine_mm, fine) for n in range(len(cells))]
    of_cell = {n: number for number, cell in enumerate(cells) for n in range(cell.first, cell.last + 1)}
    chosen_mm = [fine_mm[n] if noisy[of_cell[n]] else plain_mm[n] for n in range(len(fixes))]
    jittery = [is_jittery(cells, n, chosen_mm) for n in range(len(cells))]

    links: list[Link | None] = [None]
    for n in range(1, len(fixes)):
        k = of_cell[n]
        ms = gap_ms(fixes[n - 1], fixes[n])
        is_jitter = jittery[k] and ms <= 10 * MINUTE_MS
        smooth_mm = int(speed_around(cells, k, 25 * SECOND_MS) * ms) if is_jitter else chosen_mm[n]
        length_mm = smooth_mm if rules.length_smoothing == "on" else plain_mm[n]
        at_sea = is_open_sea(fixes[cells[k].first])
        if ms > 30 * MINUTE_MS:
            band = band_of(plain_mm[n] / ms)
            links.append(Link(ms, length_mm, band > 0, band, False, 0, at_sea))
            continue
        moves = link_speed(cells, k) >= 0.5 if noisy[k] or is_jitter else 2 * plain_mm[n] >= ms
        band = max(1, band_of(link_speed(cells, k))) if moves else 0
        links.append(Link(ms, length_mm, moves, band, is_unsteady(cells, k), straightness(cells, k), at_sea))
    return links


# Chords


def own_link(cells: Sequence[Cell], k: int) -> tuple[int, int] | None:
    """Return the two cells of the link to a cell; a cell alone in its part has none."""
    if k > 0 and cells[k - 1].part == cells[k].part:
        return k - 1, k
    if k + 1 < len(cells) and cells[k + 1].part == cells[k].part:
        return k, k + 1
    return None


def chord(cells: Sequence[Cell], k: int, reach_ms: int) -> tuple[int, int] | None:
    """Return the first and the last cell of the chord around the link to a cell."""
    link = own_link(cells, k)
    if link is None:
        return None
    first, last = link
    middle_ms = mean([cells[first].clock_ms, cells[last].clock_ms])
    before = bisect_right(cells, middle_ms - reach_ms, key=clock_of) - 1
    after = bisect_left(cells, middle_ms + reach_ms, key=clock_of)
    if before >= 0 and is_within_reach(cells[before], cells[k], middle_ms):
        first = before
    if after < len(cells) and is_within_reach(cells[after], cells[k], middle_ms):
        last = after
    return first, last


def is_within_reach(end: Cell, cell: Cell, middle_ms: int) -> bool:
    return end.part == cell.part and abs(end.clock_ms - middle_ms) <= 10 * MINUTE_MS


def speed_between(a: Cell, b: Cell) -> float:
    """Return the speed from one cell to the other in m/s."""
    ms = b.clock_ms - a.clock_ms
    return 10 * apart_cm(a.place, b.place) / ms if ms else 0.0


def speed_around(cells: Sequence[Cell], k: int, reach_ms: int) -> float:
    """Return the speed of the chord around the link to a cell."""
    ends = chord(cells, k, reach_ms)
    return speed_between(cells[ends[0]], cells[ends[1]]) if ends else 0.0


def link_speed(cells: Sequence[Cell], k: int) -> float:
    """Return the speed of the link to a cell."""
    return speed_around(cells, k, 0)


# Lengths


def plain_lengths(fixes: Sequence[Fix]) -> list[int]:
    return [0] + [link_mm(fixes[n - 1], fixes[n]) for n in range(1, len(fixes))]


def fine_lengths(fixes: Sequence[Fix], plain_mm: Sequence[int]) -> list[int]:
    """Return the lengths of the links to the points, as fine cells have them."""
    fine_mm = [0] * len(fixes)
    cells = cells_of(fixes, 5 * SECOND_MS)
    for k, cell in enumerate(cells):
        for n in range(max(cell.first, 1), cell.last + 1):
            ms = gap_ms(fixes[n - 1], fixes[n])
            fine_mm[n] = plain_mm[n] if ms > 30 * MINUTE_MS else int(link_speed(cells, k) * ms)
    return fine_mm


def way_mm(cells: Sequence[Cell], ends: tuple[int, int], lengths_mm: Sequence[int]) -> int:
    """Return by how much the sum of lengths grows from one cell to another."""
    from_mm, to_mm = (
        mean([sum(lengths_mm[: n + 1]) for n in range(cells[end].first, cells[end].last + 1)]) for end in ends
    )
    return to_mm - from_mm


def is_noisy(
    cells: Sequence[Cell], k: int, plain_mm: Sequence[int], fine_mm: Sequence[int], fine: Sequence[Cell]
) -> bool:
    """Tell whether the links to the points of a cell have their fine lengths.

    `fine` are the fine cells.
    """
    ends = chord(cells, k, 25 * SECOND_MS)
    if ends is None:
        return False
    first, last = cells[ends[0]].first, cells[ends[1]].last
    if last - first + 1 < 2 * sum(first <= cell.first <= last for cell in fine):
        return False
    return 100 * way_mm(cells, ends, fine_mm) < 95 * way_mm(cells, ends, plain_mm)


def is_jittery(cells: Sequence[Cell], k: int, lengths_mm: Sequence[int]) -> bool:
    """Tell whether the points of a cell lead to and fro, and hardly on."""
    ends = chord(cells, k, 25 * SECOND_MS)
    if ends is None:
        return False
    chord_mm = 10 * apart_cm(cells[ends[0]].place, cells[ends[1]].place)
    by_cells_mm = 10 * sum(int(apart_cm(cells[n].place, cells[n + 1].place)) for n in range(*ends))
    is_fast_by_cells = 10 * by_cells_mm >= 22 * (cells[ends[1]].clock_ms - cells[ends[0]].clock_ms)
    if is_fast_by_cells and by_cells_mm >= 0.8 * way_mm(cells, ends, lengths_mm):
        return False  # laps
    is_fast = speed_between(cells[ends[0]], cells[ends[1]]) >= 2.2
    return chord_mm < (0.5 if is_fast else 0.7) * way_mm(cells, ends, lengths_mm)


# How fast, steady and straight


def band_of(speed: float) -> int:
    """Return the band of a speed in m/s."""
    return max(number for number, from_m_s in enumerate(BANDS_M_S) if speed >= from_m_s)


def is_unsteady(cells: Sequence[Cell], k: int) -> bool:
    """Tell whether the device became much faster or slower with the link to a cell."""
    if k == 0 or cells[k - 1].part != cells[k].part:
        return False
    links = [own_link(cells, k - 1), own_link(cells, k)]
    shorter_ms = min(cells[link[1]].clock_ms - cells[link[0]].clock_ms for link in links if link)
    change = abs(link_speed(cells, k) - link_speed(cells, k - 1))
    return SECOND_MS * change > 0.12 * min(max(SECOND_MS, shorter_ms), 15 * SECOND_MS)


def straightness(cells: Sequence[Cell], k: int) -> int:
    """Return how straight the way around the link to a cell is, in permille."""
    ends = chord(cells, k, 90 * SECOND_MS)
    if ends is None:
        return 1000
    first, last = ends
    whole_cm = sum(int(apart_cm(cells[n - 1].place, cells[n].place)) for n in range(first + 1, last + 1))
    if whole_cm == 0:
        return 1000
    return min(1000, int(1000 * apart_cm(cells[first].place, cells[last].place) / whole_cm))


# The map of the open sea


@cache
def sea_map() -> tuple[list[bytes], int]:
    """Return the rows from 90 N down, each with a bit for each column from 180 W on; and the number of columns."""
    with np.load(SEA) as stored:
        return [row.tobytes() for row in stored["bits"]], int(stored["columns"])


def is_open_sea(fix: Fix) -> bool:
    rows, columns = sea_map()
    row = min(int((90 - fix.lat) * len(rows) / 180), len(rows) - 1)
    column = min(int((fix.lon + 180) * columns / 360), columns - 1)
    return bool(rows[row][column // 8] >> (7 - column % 8) & 1)
