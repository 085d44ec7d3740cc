"""Section 5 of `docs/rules.md`: altitudes are cleaned. See `tests/reference.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tests.reference_dwelling import Cell, cells_of, cells_within
from tests.reference_words import METRE_CM, MINUTE_MS, Fix, Place, apart_cm, gap_ms, half_away, mean, place_of
from trackgen_core.settings import Settings


def cleaned_altitudes(fixes: Sequence[Fix], rules: Settings) -> list[int | None]:
    """Return the altitudes of the points of one device that are no noise, in cm."""
    altitudes = [None if fix.point.altitude is None else half_away(fix.point.altitude * METRE_CM) for fix in fixes]
    if not rules.noise_filter:
        return altitudes
    wrong = between_jumps(fixes, altitudes)
    altitudes = [None if n in wrong else altitude for n, altitude in enumerate(altitudes)]

    known: dict[int, int] = {n: altitude for n, altitude in enumerate(altitudes) if altitude is not None}
    bends = bends_of(known, [fix.clock_ms for fix in fixes], [place_of(fix) for fix in fixes])
    cells = {}
    for cell in cells_of(fixes):
        own = [known[n] for n in range(cell.first, cell.last + 1) if n in known]
        if own:
            cells[cell] = mean(own)
    of_cells = list(cells)
    cell_bends = bends_of(
        dict(enumerate(cells.values())), [cell.clock_ms for cell in of_cells], [cell.place for cell in of_cells]
    )
    smooth: list[int | None] = list(altitudes)
    for cell, own_altitude in cells.items():
        near = cells_within(of_cells, cell.clock_ms - 5 * MINUTE_MS, cell.clock_ms + 5 * MINUTE_MS)
        fine = mean_or_0([bends[k] for n in near for k in range(of_cells[n].first, of_cells[n].last + 1) if k in bends])
        coarse = mean_or_0([cell_bends[n] for n in near if n in cell_bends])
        if fine < 50 and coarse < 50:
            continue
        altitude = mean_around(cells, cell, coarse) if coarse >= 50 else own_altitude
        for n in range(cell.first, cell.last + 1):
            if n in known:
                smooth[n] = altitude
    return smooth


def mean_or_0(values: Sequence[int]) -> int:
    return mean(values) if values else 0


def mean_around(cells: Mapping[Cell, int], cell: Cell, coarse: int) -> int:
    """Return the mean altitude of the cells around one, the farther the rougher."""
    minutes = 20 if coarse >= 400 else 5 if coarse >= 100 else 2
    return mean([cm for other, cm in cells.items() if abs(other.clock_ms - cell.clock_ms) <= minutes * MINUTE_MS])


def between_jumps(fixes: Sequence[Fix], altitudes: Sequence[int | None]) -> set[int]:
    """Return the points whose altitude is taken for unknown, because it jumped there and back."""
    known = [(n, altitude) for n, altitude in enumerate(altitudes) if altitude is not None]
    jumps = []
    for k, ((a, from_cm), (b, to_cm)) in enumerate(pairwise(known)):
        rise_cm, link_ms = to_cm - from_cm, gap_ms(fixes[a], fixes[b])
        if abs(rise_cm) >= 20 * METRE_CM and 1000 * abs(rise_cm) > 500 * link_ms and link_ms <= 2 * MINUTE_MS:
            jumps.append(k)
    rise = {k: known[k + 1][1] - known[k][1] for k in jumps}
    wrong = set()
    for count, one in enumerate(jumps):
        for two in jumps[count + 1 : count + 4]:
            other_way = rise[one] * rise[two] < 0
            whole_ms = gap_ms(fixes[known[one][0]], fixes[known[two + 1][0]])
            left_cm = abs(known[two + 1][1] - known[one][1])
            is_back = 2 * left_cm <= min(abs(rise[one]), abs(rise[two]))
            if other_way and whole_ms <= 2 * MINUTE_MS and is_back and one - 1 not in jumps and two + 1 not in jumps:
                wrong |= {n for n, _ in known[one + 1 : two + 1]}
    return wrong


def bends_of(known: Mapping[int, int], times_ms: Sequence[int], places: Sequence[Place]) -> dict[int, int]:
    """Return how much the altitude bends at those that have others not far before and after them."""
    bends = {}
    numbers = sorted(known)
    for a, b, c in zip(numbers, numbers[1:], numbers[2:], strict=False):
        if max(times_ms[b] - times_ms[a], times_ms[c] - times_ms[b]) <= 2 * MINUTE_MS:
            way_cm = int(apart_cm(places[a], places[b])) + int(apart_cm(places[b], places[c]))
            bends[b] = max(0, abs(known[a] - 2 * known[b] + known[c]) - way_cm // 25)
    return bends
