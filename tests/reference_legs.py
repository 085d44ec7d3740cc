"""Section 6 of `docs/rules.md` about the legs of a track: stretches, modes and confidence. See `tests/reference.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from tests.reference_motion import BANDS_M_S, Link
from tests.reference_words import MINUTE_MS, Fix

ACTIVITIES = ("", "stationary", "walk", "run", "cycle", "drive", "train", "boat", "fly")

MODES = {
    "stationary": ((0,), 95),
    "walk": ((1,), 95),
    "run": ((2,), 60),
    "cycle": ((2, 3, 4), 70),
    "drive": ((2, 3, 4, 5), 80),
    "train": ((3, 4, 5, 6), 70),
    "boat": ((1, 2, 3, 4, 5), 80),
    "fly": ((6, 7), 95),
}
"""The bands of each mode, and what speed alone can tell about it at best, in percent."""

INSTEAD = {
    "walk": ("run", "cycle", "drive"),
    "run": ("cycle", "walk", "drive"),
    "cycle": ("run", "drive", "walk"),
    "drive": ("train", "cycle", "run", "walk"),
    "train": ("drive", "cycle", "run", "walk"),
    "boat": ("drive", "cycle", "run", "walk"),
    "fly": ("train", "drive"),
}
"""What somebody did who does not use a mode."""

FASTEST = {"stationary": 1, "walk": 2, "run": 3, "cycle": 4, "drive": 5, "train": 6, "boat": 5, "fly": 7}
"""The highest band that is not absurd for a mode."""

SHORTEST_MINUTES = {"stationary": 10, "boat": 10, "fly": 5, "drive": 2, "walk": 3, "run": 3, "cycle": 3, "train": 3}
"""What takes less, between two legs of one mode, is none."""


class Leg(NamedTuple):
    """A part of a track, as it is stored."""

    mode: str
    confidence: int
    started_ms: int
    ended_ms: int
    length_mm: int
    moving_ms: int
    source: str
    """`rule`, `file` or `hand`."""


class Pace(NamedTuple):
    """How somebody came to a point: a word of `reference_pace`; or a mode, if somebody said so."""

    word: str
    is_by_hand: bool = False


class Named(NamedTuple):
    """A mode, and where it is from."""

    mode: str
    source: str


class Stretch(NamedTuple):
    """Links of a track with one pace and one activity."""

    pace: Pace
    activity: str
    first: int
    """The vertex with which it begins."""
    last: int
    links: list[Link]
    """Without pauses."""
    sea_ms: int

    def ms(self, chosen: Callable[[Link], bool] = lambda _: True) -> int:
        """Return the time of some of its links."""
        return sum(link.ms for link in self.links if chosen(link))

    def in_bands(self, *bands: int) -> int:
        return self.ms(lambda link: link.band in bands)

    @property
    def moving_ms(self) -> int:
        return self.in_bands(*range(1, 8))

    @property
    def length_mm(self) -> int:
        return sum(link.length_mm for link in self.links)


def stretches_of(run: Sequence[Fix], paces: Sequence[Pace], links: Sequence[Link | None]) -> list[Stretch]:
    """Cut a track; paces and links are those of its vertices, of which the first one says nothing."""
    found = []
    vertices = range(1, len(run))
    for (pace, activity), group in groupby(vertices, key=lambda n: (paces[n], ACTIVITIES[run[n].point.activity])):
        own = list(group)
        recorded = {n: link for n in own if (link := links[n]) is not None and not run[n].resumes}
        sea_ms = sum(link.ms for n, link in recorded.items() if link.is_at_sea and paces[n].word != "still")
        found.append(Stretch(pace, activity, own[0] - 1, own[-1], list(recorded.values()), sea_ms))
    return found


# Modes


def named(stretch: Stretch, unused: Sequence[str]) -> Named:
    """Return the mode of a stretch, and where it is from."""
    if stretch.pace.is_by_hand:
        return Named(stretch.pace.word, "hand")
    if stretch.activity and not is_absurd(stretch, stretch.activity):
        return Named(stretch.activity, "file")
    mode = mode_by_rule(stretch)
    if mode in unused:
        mode = next((other for other in INSTEAD[mode] if other not in unused), mode)
    return Named(mode, "rule")


def mode_by_rule(stretch: Stretch) -> str:
    all_ms = stretch.ms()
    pace = stretch.pace.word
    mode = mode_by_top(stretch)
    if mode == "drive" and is_train(stretch):
        mode = "train"
    if pace == "walking":
        mode = "walk"
    if pace == "hidden" and stretch.length_mm >= 2_000_000 and stretch.length_mm >= 5 * all_ms:
        mode = "train"
    if pace == "flying":
        mode = "fly"
    if mode == "fly" and stretch.length_mm < 50_000_000:
        mode = "train"
    if mode != "fly" and is_boat(stretch):
        mode = "boat"
    if pace == "still" and 2 * stretch.in_bands(0) >= all_ms:
        mode = "stationary"
    return mode


def mode_by_top(stretch: Stretch) -> str:
    all_ms, moving_ms, unsteady_ms = stretch.ms(), stretch.moving_ms, stretch.ms(lambda link: link.is_unsteady)
    top = next(top for top in range(1, 8) if 100 * stretch.in_bands(*range(1, top + 1)) >= 90 * moving_ms)
    if top == 2:
        return "run" if 100 * stretch.in_bands(2) >= 50 * moving_ms else "cycle"
    if top == 3:
        return "drive" if 2 * unsteady_ms > all_ms else "cycle"
    if top == 4:
        is_steady = 100 * unsteady_ms <= 20 * all_ms
        is_slow = 100 * stretch.in_bands(5, 6, 7) <= 3 * moving_ms
        goes_on = 100 * stretch.in_bands(0) <= 15 * all_ms
        return "cycle" if is_steady and is_slow and goes_on else "drive"
    return {1: "walk", 5: "drive", 6: "train", 7: "fly"}[top]


def is_train(stretch: Stretch) -> bool:
    """Tell whether a way is fast and straight."""
    all_ms = stretch.ms()
    straight = sum(link.straight * link.ms for link in stretch.links)
    unsteady_ms = stretch.ms(lambda link: link.is_unsteady)
    is_straight = straight >= 955 * all_ms or (straight >= 840 * all_ms and 100 * unsteady_ms >= 70 * all_ms)
    return stretch.length_mm >= 8 * all_ms and is_straight


def is_boat(stretch: Stretch) -> bool:
    all_ms = stretch.ms()
    return (
        all_ms >= 30 * MINUTE_MS
        and 10_000_000 <= stretch.length_mm <= 15 * all_ms
        and 100 * stretch.sea_ms >= 80 * all_ms
        and 100 * stretch.ms(lambda link: link.is_unsteady) <= 20 * all_ms
    )


def is_absurd(stretch: Stretch, mode: str) -> bool:
    """Tell whether it cannot be what the file says."""
    too_fast_ms = stretch.in_bands(*range(FASTEST[mode] + 1, 8))
    goes = mode == "stationary" and 2 * stretch.moving_ms > stretch.ms()
    return 100 * too_fast_ms > 10 * stretch.moving_ms or goes


# Legs


def legs_of(
    run: Sequence[Fix], paces: Sequence[Pace], links: Sequence[Link | None], unused: Sequence[str]
) -> tuple[tuple[Leg, ...], str]:
    """Tile a track by legs, and return them with its mode."""
    stretches = stretches_of(run, paces, links)
    parts = united([(named(stretch, unused), [stretch]) for stretch in stretches])
    while short := [n for n in range(len(parts)) if is_no_leg(parts, n)]:
        n = min(short, key=lambda n: part_ms(parts[n]))  # the first of equals
        if n == 0:
            parts = united([(parts[1][0], parts[0][1] + parts[1][1]), *parts[2:]])
        else:
            name, before = parts[n - 1]
            parts = united([*parts[: n - 1], (name, before + parts[n][1]), *parts[n + 1 :]])
    parts = united([(main_name(part, unused), part) for _, part in parts])
    legs = tuple(make_leg(name, part, run) for name, part in parts)
    return legs, mode_of([leg.mode for leg in legs], [part_ms(part) for part in parts])


Part = tuple[Named, list[Stretch]]


def part_ms(part: Part) -> int:
    return sum(stretch.ms() for stretch in part[1])


def united(parts: Sequence[Part]) -> list[Part]:
    """Unite parts that follow one another and have the same name."""
    return [
        (name, [stretch for _, stretches in group for stretch in stretches])
        for name, group in groupby(parts, key=lambda part: part[0])
    ]


def is_no_leg(parts: Sequence[Part], n: int) -> bool:
    """Tell whether a part is too short for a leg of its own."""
    name = parts[n][0]
    beside = [parts[m][0] for m in (n - 1, n + 1) if 0 <= m < len(parts)]
    if name.source == "hand" or all(other.source == "hand" for other in beside):
        return False
    if len(beside) == 1:
        return part_ms(parts[n]) < MINUTE_MS
    shortest_minutes = 60 if beside[0].mode == "boat" else SHORTEST_MINUTES[name.mode]
    return beside[0] == beside[1] and part_ms(parts[n]) < shortest_minutes * MINUTE_MS


def main_name(stretches: Sequence[Stretch], unused: Sequence[str]) -> Named:
    """Return the mode and source with the most time."""
    by_name: dict[Named, int] = {}
    for stretch in stretches:
        name = named(stretch, unused)
        by_name[name] = by_name.get(name, 0) + stretch.ms()
    return max(by_name, key=lambda name: by_name[name])  # the first of equals


def make_leg(name: Named, stretches: Sequence[Stretch], run: Sequence[Fix]) -> Leg:
    by_band = [sum(stretch.in_bands(band) for stretch in stretches) for band in range(len(BANDS_M_S))]
    return Leg(
        mode=name.mode,
        confidence=confidence(name, by_band),
        started_ms=run[stretches[0].first].time_ms,
        ended_ms=run[stretches[-1].last].time_ms,
        length_mm=sum(stretch.length_mm for stretch in stretches),
        moving_ms=sum(by_band[1:]),
        source=name.source,
    )


def confidence(name: Named, by_band: Sequence[int]) -> int:
    """Return how sure it is that this is the mode, in percent."""
    if name.source == "hand":
        return 100
    bands, at_best = MODES[name.mode]
    all_ms = sum(by_band) if name.mode == "stationary" else sum(by_band[1:])
    by_speed = sum(by_band[band] for band in bands) * at_best // all_ms if all_ms else 0
    return max(by_speed, 90) if name.source == "file" else by_speed


def mode_of(modes: Sequence[str], times_ms: Sequence[int]) -> str:
    """Return the mode of the track of legs with these modes and times."""
    by_mode: dict[str, int] = {}
    for mode, ms in zip(modes, times_ms, strict=True):
        by_mode[mode] = by_mode.get(mode, 0) + ms
    others = [mode for mode in by_mode if mode != "stationary"] or modes
    return max(others, key=lambda mode: by_mode[mode])  # the first of equals
