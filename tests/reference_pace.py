"""Section 6 of `docs/rules.md` about pace: where something new may begin. See `tests/reference.py`.

A link between cells is known by the number of the cell to which it leads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence, Set

from tests.reference_dwelling import Cell, cells_of, clock_of
from tests.reference_motion import band_of, speed_around
from tests.reference_words import HOUR_MS, MINUTE_MS, SECOND_MS, Fix, consecutive

WINDOW_MS = 150 * SECOND_MS


def paces_of_points(fixes: Sequence[Fix], breaks: Set[int]) -> list[str]:
    """Return the pace of each point of one device that is no noise.

    `breaks` are the links that would be a break if there were neither stays nor edits, by the points with which they
    begin.
    """
    cells = cells_of(fixes)
    paces = ["none"] * len(fixes)
    linked = [k for k in range(1, len(cells)) if has_pace(fixes, cells, k, breaks)]
    for links in consecutive(linked):
        first = links[0] - 1
        of_links = dict(zip(links, piece_paces(cells, first, links[-1]), strict=True))
        of_links[first] = of_links[first + 1]
        for k, pace in of_links.items():
            for n in range(cells[k].first, cells[k].last + 1):
                paces[n] = pace
    return paces


def has_pace(fixes: Sequence[Fix], cells: Sequence[Cell], k: int, breaks: Set[int]) -> bool:
    """Tell whether the link to a cell has a pace."""
    a, b = cells[k - 1], cells[k]
    return a.part == b.part and a.last not in breaks and not fixes[b.first].is_after_pause


def piece_paces(cells: Sequence[Cell], first: int, last: int) -> list[str]:
    """Return the paces of the links of the piece from the one cell to the other."""
    links = range(first + 1, last + 1)
    ms = {k: cells[k].clock_ms - cells[k - 1].clock_ms for k in links}
    bands = {k: band_of(speed_around(cells, k, 30 * SECOND_MS)) for k in links}
    still: set[int] = set()
    walking: set[int] = set()
    for begin, end in windows(cells, first, last):
        own = range(begin + 1, end + 1)
        whole_ms = sum(ms[k] for k in own)
        slow_ms = sum(ms[k] for k in own if bands[k] == 0)
        fast_ms = sum(ms[k] for k in own if bands[k] >= 2)
        if 100 * slow_ms >= 90 * whole_ms:
            still |= from_first_to_last(k for k in own if bands[k] == 0)
        if 100 * fast_ms <= 10 * (whole_ms - slow_ms):
            walking |= from_first_to_last(k for k in own if bands[k] < 2)
    paces = {
        k: "still" if k in still else "walking" if k in walking else "flying" if bands[k] == 7 else "riding"
        for k in links
    }
    slow = {"still", "walking"}
    for run in consecutive(k for k in links if paces[k] == "riding"):
        is_between = paces.get(run[0] - 1) in slow and paces.get(run[-1] + 1) in slow
        if is_between and sum(ms[k] for k in run) < 2 * MINUTE_MS:
            paces |= dict.fromkeys(run, "walking")
        elif is_between and len(run) == 1 and ms[run[0]] >= 5 * MINUTE_MS:
            paces[run[0]] = "hidden"
    return list(paces.values())


def from_first_to_last(numbers: Iterable[int]) -> set[int]:
    """Return the numbers with all that are between them."""
    ordered = sorted(numbers)
    return set(range(ordered[0], ordered[-1] + 1)) if ordered else set()


def windows(cells: Sequence[Cell], first: int, last: int) -> set[tuple[int, int]]:
    """Return the first and the last cell of every window of a piece that counts."""
    found = set()
    piece = range(first, last + 1)
    for n in piece:
        later = bisect_left(cells, cells[n].clock_ms + WINDOW_MS, key=clock_of)
        earlier = bisect_right(cells, cells[n].clock_ms - WINDOW_MS, key=clock_of) - 1
        found |= {(a, b) for a, b in [(n, later), (earlier, n)] if a in piece and b in piece}
    if cells[last].clock_ms - cells[first].clock_ms < WINDOW_MS:
        found.add((first, last))
    return {(n, m) for n, m in found if cells[m].clock_ms - cells[n].clock_ms <= HOUR_MS}
