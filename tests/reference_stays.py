"""Section 2 of `docs/rules.md` from "Silent stays" on: what becomes of stays, silences, and the ways between them.

See `tests/reference.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.reference_dwelling import SILENCE_MS, cells_of, dwelling, known_cells
from tests.reference_motion import Link, links_of
from tests.reference_words import (
    HOUR_MS,
    METRE_CM,
    MINUTE_MS,
    Fix,
    box_cm,
    consecutive,
    distance_cm,
    gap_ms,
    place_of,
)
from trackgen_core.settings import Settings

DAY_MS = 24 * HOUR_MS


class StayRun(NamedTuple):
    """A stay, by the numbers of its points."""

    first: int
    last: int
    own: list[int]
    """Those of its points that it does not share with a track."""
    visited: list[int]
    """Those that say where it is."""


@dataclass(frozen=True)
class Given:
    """What is known of the points of one device before their stays are."""

    fixes: Sequence[Fix]
    rules: Settings
    breaks: Mapping[int, str]
    """Links that would be a break if there were no stays, but for those that are freed by hand."""
    taken: Set[int]
    freed: Set[int]
    ends: Set[int]
    """Links over which a track would not go on: splits by hand."""

    @property
    def radius_cm(self) -> int:
        return self.rules.stay_radius_m * METRE_CM

    def links(self) -> range:
        return range(len(self.fixes) - 1)

    @cached_property
    def measured_links(self) -> list[Link | None]:
        """The links that lead to each point."""
        return links_of(self.fixes, self.rules)

    def is_near(self, a: int, b: int) -> bool:
        return distance_cm(self.fixes[a], self.fixes[b]) <= self.radius_cm


class Stays(NamedTuple):
    runs: list[StayRun]
    inside: set[int]
    """The links that are of a stay."""
    nowhere: set[int]
    """The links between two stays that belong to nothing."""

    @property
    def points(self) -> set[int]:
        return {n for run in self.runs for n in run.own}


def stays_of(given: Given) -> Stays:
    """Return the stays of one device."""
    dwelt = dwelling(given.fixes, given.rules)
    number = {n: count for count, (first, last) in enumerate(dwelt.stays) for n in range(first, last + 1)}
    number = {n: count for n, count in number.items() if n not in given.taken}
    silent = silent_links(given)
    same = {n for n in given.links() if n in number and number[n] == number.get(n + 1)}

    def near_links(of_stays: Set[int]) -> set[int]:
        """Return the links over which two stays are one, though nothing was recorded."""
        return {
            n
            for n in (silent | given.breaks.keys()) - given.freed
            if {n, n + 1} <= of_stays and gap_ms(*given.fixes[n : n + 2]) <= DAY_MS and given.is_near(n, n + 1)
        }

    # A stay of which a merge has left a single point is none.
    joined = same | near_links(number.keys())
    of_stays = {n for n in number if {n - 1, n} & joined}
    alone = lonely_points(given, silent) - given.taken - of_stays
    of_stays |= alone
    at_rest = (dwelt.at_rest & of_stays) | alone
    over_nothing = near_links(of_stays) - same | {n for n in silent if {n, n + 1} & alone and {n, n + 1} <= of_stays}
    joined = same | over_nothing
    for way in brief_ways(given, of_stays, silent):
        of_stays |= set(way)
        joined |= set(range(way[0] - 1, way[-1] + 1))
        over_nothing.add(way[-1])
    joined = {n for n in joined if {n, n + 1} <= of_stays}

    crept = creeping_links(given, joined, at_rest, over_nothing)
    between = {n for n in silent if {n, n + 1} <= of_stays and n not in joined}
    shared = {n for n in silent if not {n, n + 1} <= of_stays}
    inside = joined - crept | shared
    runs = []
    for run in runs_of_points(of_stays, inside, given.taken):
        visited = [n for n in run if n in at_rest or (n not in of_stays and says_where(given, n, run, of_stays))]
        runs.append(StayRun(run[0], run[-1], [n for n in run if n in of_stays], visited or run[:1]))
    return Stays(runs, inside, between | crept)


def silent_links(given: Given) -> set[int]:
    """Return the silent stays."""
    if not given.rules.stay_minutes or not given.rules.silent_stay_m:
        return set()
    return {
        n
        for n, (a, b) in enumerate(pairwise(given.fixes))
        if n not in given.freed
        and SILENCE_MS < gap_ms(a, b) <= DAY_MS
        and distance_cm(a, b) <= given.rules.silent_stay_m * METRE_CM
    }


def lonely_points(given: Given, silent: Set[int]) -> set[int]:
    """Return the points with nothing but silent stays and breaks around them, and at least one silent stay."""
    ends = {-1, len(given.fixes) - 1, *given.breaks, *silent}
    return {n for n in range(len(given.fixes)) if {n - 1, n} <= ends and {n - 1, n} & silent}


def brief_ways(given: Given, of_stays: Set[int], silent: Set[int]) -> list[list[int]]:
    """Return the ways that become a part of a stay."""
    fixes = given.fixes
    stops = (given.breaks.keys() - silent) | given.ends
    found = []
    for way in consecutive_points([n for n in range(len(fixes)) if n not in of_stays], silent | stops):
        into, out_of = way[0] - 1, way[-1]
        if into < 0 or out_of == len(fixes) - 1 or {into, out_of} & stops or set(way) & given.taken:
            continue
        if not (into in silent or way[0] - 1 in of_stays) or not (out_of in silent or way[-1] + 1 in of_stays):
            continue
        first = way[0] if into in silent else way[0] - 1
        last = way[-1] if out_of in silent else way[-1] + 1
        if (
            fixes[last].time_ms - fixes[first].time_ms <= 10 * MINUTE_MS
            and sum(link.length_mm for link in given.measured_links[first + 1 : last + 1] if link)
            <= 20 * given.radius_cm
            and given.is_near(way[0] - 1, way[-1] + 1)
        ):
            found.append(way)
    return found


def consecutive_points(numbers: Sequence[int], cuts: Set[int]) -> list[list[int]]:
    """Return points in runs, which end where one is missing and at these links."""
    found: list[list[int]] = []
    for n in numbers:
        if found and found[-1][-1] == n - 1 and n - 1 not in cuts:
            found[-1].append(n)
        else:
            found.append([n])
    return found


def runs_of_points(of_stays: Set[int], inside: Set[int], taken: Set[int]) -> list[list[int]]:
    """Return the points of each stay, with the ends that it shares; a point that is taken may be an end of two."""
    numbers = sorted(of_stays | inside | {n + 1 for n in inside})
    found: list[list[int]] = []
    for n in numbers:
        if n - 1 in inside:
            found[-1].append(n)
        if n - 1 not in inside or (n in taken and n in inside):
            found.append([n])
    return found


def says_where(given: Given, shared: int, run: Sequence[int], of_stays: Set[int]) -> bool:
    """Tell whether an end that a stay shares with a track says where the stay is."""
    if shared == run[-1]:
        return given.is_near(run[-2], shared)
    return given.is_near(shared, run[1]) or run[1] not in of_stays


# A place that creeps


def creeping_links(given: Given, joined: Set[int], at_rest: Set[int], over_nothing: Set[int]) -> set[int]:
    """Return the links at which stays are cut, because their place creeps."""
    block_links = over_nothing | new_blocks(given)
    crept = set()
    for links in consecutive(joined):
        run = range(links[0], links[-1] + 2)
        blocks = consecutive_points(run, block_links)

        def box(points: Sequence[int]) -> float:
            return box_cm(place_of(given.fixes[n]) for n in points if n in at_rest)

        limit = max(4 * given.radius_cm, 1.5 * max(map(box, blocks)))
        if box(run) <= limit:
            continue
        so_far = blocks[0]
        for block in blocks[1:]:
            if box(so_far + block) > limit:
                crept.add(block[0] - 1)
                so_far = block
            else:
                so_far = so_far + block
    return crept


def new_blocks(given: Given) -> set[int]:
    """Return the links behind which a block of a stay begins, whatever stays there are."""
    fixes = given.fixes
    all_cells = cells_of(fixes)
    known = known_cells(all_cells)
    found = set()
    for n, (a, b) in enumerate(pairwise(fixes)):
        if a.time_ms // (6 * HOUR_MS) != b.time_ms // (6 * HOUR_MS):
            found.add(n)
        if local_date(a, given.rules) != local_date(b, given.rules):
            found.add(n)
        if a.time_ms // HOUR_MS != b.time_ms // HOUR_MS:
            its_cell = next(cell for cell in all_cells if cell.first <= n + 1 <= cell.last)
            around = [cell for cell in known if abs(cell.clock_ms - its_cell.clock_ms) <= 2.5 * HOUR_MS]
            if box_cm(cell.place for cell in around) > 2 * given.radius_cm:
                found.add(n)
    return found


def local_date(fix: Fix, rules: Settings) -> date:
    """Return the date in the user's time zone."""
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=fix.time_ms)
    return instant.astimezone(ZoneInfo(rules.timezone)).date()
