"""Section 2 of `docs/rules.md` up to "Stays": cells, excursions, windows, and the pieces in which a device dwelt.

See `tests/reference.py`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from tests.reference_words import (
    METRE_CM,
    MINUTE_MS,
    SECOND_MS,
    Fix,
    Place,
    apart_cm,
    box_cm,
    consecutive,
    gap_ms,
    mean,
    mean_place,
    place_of,
)
from trackgen_core.settings import Settings

SILENCE_MS = 30 * MINUTE_MS

Run = tuple[int, int]
"""The first and the last of some settled cells."""


@dataclass(frozen=True)
class Cell:
    first: int
    """The first of its points."""
    last: int
    clock_ms: int
    place: Place
    accuracy_cm: int | None
    part: int


def clock_of(cell: Cell) -> int:
    """Return when a cell was, to search among cells, which are in the order of their times."""
    return cell.clock_ms


def cells_within(cells: Sequence[Cell], from_ms: int, to_ms: int) -> range:
    """Return the numbers of the cells from one time to another, both included."""
    return range(bisect_left(cells, from_ms, key=clock_of), bisect_right(cells, to_ms, key=clock_of))


class Dwelling(NamedTuple):
    """Where a device dwelt."""

    stays: list[tuple[int, int]]
    """The first and the last point of each."""
    at_rest: set[int]


def cells_of(fixes: Sequence[Fix], cell_ms: int = 20 * SECOND_MS) -> list[Cell]:
    """Return the cells of one device, also vague ones."""
    cells = []
    part = 0
    for _, group in groupby(range(len(fixes)), key=lambda n: fixes[n].time_ms // cell_ms):
        numbers = list(group)
        first, last = fixes[numbers[0]], fixes[numbers[-1]]
        if numbers[0] > 0 and gap_ms(fixes[numbers[0] - 1], first) > SILENCE_MS:
            part += 1
        known = [accuracy for n in numbers if (accuracy := fixes[n].accuracy) is not None]
        cells.append(
            Cell(
                first=numbers[0],
                last=numbers[-1],
                clock_ms=mean([first.clock_ms, last.clock_ms]),
                place=mean_place([place_of(fixes[n]) for n in numbers]),
                accuracy_cm=int(min(known) * 100) if known else None,
                part=part,
            )
        )
    return cells


def known_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that are not vague."""
    return [cell for cell in cells if cell.accuracy_cm is None or cell.accuracy_cm <= 1000 * METRE_CM]


def dwelling(fixes: Sequence[Fix], rules: Settings) -> Dwelling:
    """Find the stays among the points of one device that are not noise, as far as points follow one another."""
    if not rules.stay_minutes:
        return Dwelling([], set())
    radius_cm = rules.stay_radius_m * METRE_CM
    cells = known_cells(cells_of(fixes))
    away = away_cells(cells, radius_cm)
    settled = [cell for n, cell in enumerate(cells) if n not in away]
    pieces = pieces_among(cells, settled, rules)

    stays: list[tuple[int, int]] = []
    for n, (first, last) in enumerate(pieces):
        begin, end = settled[first].first, settled[last].last
        if n > 0 and is_same_stay(settled, pieces[n - 1], (first, last), radius_cm):
            stays[-1] = (stays[-1][0], end)
        else:
            stays.append((begin, end))
    at_rest = {
        n for first, last in pieces for cell in settled[first : last + 1] for n in range(cell.first, cell.last + 1)
    }
    return Dwelling(stays, at_rest)


def is_same_stay(settled: Sequence[Cell], a: Run, b: Run, radius_cm: int) -> bool:
    """Tell whether a piece goes on with the stay of the one before it."""
    end, begin = settled[a[1]], settled[b[0]]
    return (
        begin.clock_ms - end.clock_ms <= 10 * MINUTE_MS
        and apart_cm(end.place, begin.place) <= radius_cm
        and all(apart_cm(end.place, cell.place) <= 2 * radius_cm for cell in settled[a[1] + 1 : b[0]])
    )


def company(cells: Sequence[Cell], n: int, radius_cm: int) -> int:
    """Return how many of the five cells before and after one are near it in time and place."""
    beside = [*cells[max(0, n - 5) : n], *cells[n + 1 : n + 6]]
    return sum(
        abs(cell.clock_ms - cells[n].clock_ms) <= 15 * MINUTE_MS and apart_cm(cell.place, cells[n].place) <= radius_cm
        for cell in beside
    )


def away_cells(cells: Sequence[Cell], radius_cm: int) -> set[int]:
    """Return the cells of excursions."""
    away = set()
    for n, cell in enumerate(cells):
        for i in range(max(0, n - 5), n):
            for j in range(n + 1, min(i + 6, len(cells) - 1) + 1):  # at most five between them
                a, b = cells[i], cells[j]
                if (
                    b.clock_ms - a.clock_ms <= 25 * MINUTE_MS
                    and apart_cm(a.place, b.place) <= radius_cm
                    and apart_cm(a.place, cell.place) > radius_cm
                    and apart_cm(b.place, cell.place) > radius_cm
                    and max(apart_cm(c.place, d.place) for c, d in pairwise(cells[i : j + 1])) > radius_cm
                    and 2 * company(cells, n, radius_cm) <= sum(company(cells, k, radius_cm) for k in (i, j))
                ):
                    away.add(n)
    return away


# Pieces


def pieces_among(cells: Sequence[Cell], settled: Sequence[Cell], rules: Settings) -> list[Run]:
    """Return the pieces in which the device dwelt, in order."""
    radius_cm = rules.stay_radius_m * METRE_CM
    dwell_cm = radius_cm * 11 // 20
    short_ms = rules.stay_minutes * MINUTE_MS
    long_ms = max(30 * MINUTE_MS, short_ms)
    short_windows, long_windows = windows(settled, short_ms), windows(settled, long_ms)

    def accuracy(run: Run) -> int:
        return mean_accuracy_cm(settled[run[0] : run[1] + 1])

    def box(run: Run) -> float:
        return box_of(settled[run[0] : run[1] + 1])

    def trimmed_pieces(some: Iterable[Run]) -> list[Run]:
        return [piece for one in united(some) for piece in trimmed(settled, one, rules, dwell_cm)]

    pieces = []
    fits = [one for one in long_windows if box(one) <= 1.5 * radius_cm]
    for piece in trimmed_pieces(
        one for one in short_windows if accuracy(one) <= 60 * METRE_CM and box(one) <= 2 * dwell_cm
    ):
        if duration_ms(settled, piece) < long_ms:
            if box(piece) <= 1.5 * radius_cm:
                pieces.append(piece)
        else:
            links = {n for n in range(*piece) if any(first <= n < last for first, last in fits)}
            left = [(run[0], run[-1] + 1) for run in consecutive(links)]
            pieces += [one for one in left if duration_ms(settled, one) >= short_ms]
    coarse = [one for one in long_windows if box(one) <= 2.4 * accuracy(one)]
    pieces = united(pieces + trimmed_pieces(coarse))

    dwelt = {n for first, last in pieces for n in range(first, last + 1)}
    wide = [
        one
        for one in long_windows
        if one not in fits
        and one not in coarse
        and box(one) <= 2 * radius_cm + 5 * accuracy(one)
        and not dwelt & set(range(one[0], one[1] + 1))
        and 10 * under_way_ms(cells, settled[one[0]], settled[one[1]]) <= 7 * duration_ms(settled, one)
    ]
    return united(pieces + trimmed_pieces(wide))


def windows(settled: Sequence[Cell], length_ms: int) -> list[Run]:
    """Return the windows of this length that count."""
    found = set()
    for n, cell in enumerate(settled):
        later = next((m for m in range(n, len(settled)) if settled[m].clock_ms - cell.clock_ms >= length_ms), None)
        earlier = next((m for m in range(n, -1, -1) if cell.clock_ms - settled[m].clock_ms >= length_ms), None)
        found |= {(min(n, m), max(n, m)) for m in (later, earlier) if m is not None}
    return sorted(
        (first, last)
        for first, last in found
        if duration_ms(settled, (first, last)) <= 90 * MINUTE_MS and settled[first].part == settled[last].part
    )


def duration_ms(settled: Sequence[Cell], run: Run) -> int:
    return settled[run[1]].clock_ms - settled[run[0]].clock_ms


def mean_accuracy_cm(cells: Sequence[Cell]) -> int:
    known = [cell.accuracy_cm for cell in cells if cell.accuracy_cm is not None]
    return mean(known) if known else 0


def box_of(cells: Sequence[Cell]) -> float:
    return box_cm(cell.place for cell in cells)


def united(some: Iterable[Run]) -> list[Run]:
    """Unite those that have more than one cell in common."""
    found: list[Run] = []
    for first, last in sorted(some):
        if found and first < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def trimmed(settled: Sequence[Cell], piece: Run, rules: Settings, dwell_cm: int) -> list[Run]:
    """Return what is left of a piece without the way to the place and the way from it: one piece, or none."""
    own = settled[piece[0] : piece[1] + 1]
    first = arrival(own, rules, dwell_cm)
    last = len(own) - 1 - arrival(own[::-1], rules, dwell_cm)
    left = (piece[0] + first, piece[0] + last)
    return [left] if first <= last and duration_ms(settled, left) >= rules.stay_minutes * MINUTE_MS else []


def arrival(own: Sequence[Cell], rules: Settings, dwell_cm: int) -> int:
    """Return the cell with which a piece begins. Of cells that are backwards in time, the one with which it ends."""
    since_ms = [abs(cell.clock_ms - own[0].clock_ms) for cell in own]
    stay_ms = rules.stay_minutes * MINUTE_MS
    m = next((n for n in range(len(own)) if 2 * since_ms[n] >= stay_ms), len(own) - 1)
    u = max(m, max(n for n in range(len(own)) if since_ms[n] <= stay_ms))
    middle = mean_place([cell.place for cell in own[m : u + 1]])
    accuracy_cm = mean_accuracy_cm(own[m : u + 1])
    for n in range(m):
        away_cm = apart_cm(own[n].place, middle)
        is_there = 4 * away_cm <= 3 * dwell_cm or 10 * away_cm <= 9 * accuracy_cm
        if is_there or since_ms[n + 1] - since_ms[n] > 2 * MINUTE_MS:
            return n
    return m


def under_way_ms(cells: Sequence[Cell], first: Cell, last: Cell) -> int:
    """Return the time between two cells in which the device was under way."""
    return sum(
        b.clock_ms - a.clock_ms
        for a, b in pairwise(cells)
        if first.clock_ms < b.clock_ms <= last.clock_ms and is_under_way(cells, b)
    )


def is_under_way(cells: Sequence[Cell], cell: Cell) -> bool:
    """Tell whether the device was under way in the time before a cell."""
    part = [one for one in cells if one.part == cell.part]
    before = next((one for one in part[::-1] if cell.clock_ms - one.clock_ms >= 30 * SECOND_MS), part[0])
    after = next((one for one in part if one.clock_ms - cell.clock_ms >= 30 * SECOND_MS), part[-1])
    return 1000 * apart_cm(before.place, after.place) > 60 * (after.clock_ms - before.clock_ms)
