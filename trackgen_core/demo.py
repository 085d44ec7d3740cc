"""Demo: half a year of three people's fixes, made up, the same for a seed and its days on every machine.

A `Diary` follows one person through `move` and `dwell`; every device writes down what it would have measured.
A diary can only leave from where it is, so nobody jumps; what looks odd in the result (holes, jitter, repeated
instants, missing values, pings all night) is odd in real histories too.

Nothing is drawn but `Generator.random`: numpy may change its other distributions from version to version. All
results are rounded far above the last bit, so that no machine's mathematical library shows through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import Geod

from trackgen_core.points import FILE_FACTS, MS_PER_DAY, completed, day_number, now_ms

Floats = NDArray[np.float64]

START: Final = date(2025, 3, 1)
END: Final = date(2025, 8, 31)
"""The first and the last day, where nobody asks for others."""
START_MS: Final = day_number(START) * MS_PER_DAY
MONTHS: Final = 5
"""Whole months before that of its last day."""
SAIL_AFTER: Final = timedelta(days=104)
FLIGHT_AFTER: Final = timedelta(days=132)
"""Ben sails, and Chloe flies, on the first Friday so long after the start."""
FRIDAY: Final = 4
WAKE_H: Final = 5.0
AT_ONCE_H: Final = 0.0

PIECE_M: Final = 40
"""How finely a way is drawn, as far as `MAX_HALVINGS` get."""
MAX_HALVINGS: Final = 12
DRIFT_S: Final = 60
"""The error of a receiver wanders: it is drawn anew every so many seconds and interpolated between."""
PING_S: Final = (300.0, 1200.0)
"""Least and most time between two fixes of a phone that rests."""
INDOORS: Final = 3.0
"""How many times worse positions are under a roof."""
REPEATED_SHARE: Final = 0.002
"""Share of fixes that a device reports twice for one instant, a little apart."""
MEASURED: Final = ("time_ms", "lon", "lat", "altitude", "accuracy", "speed")
"""What a page of a diary holds."""
UNKNOWN_SHARE: Final = 0.02
"""Share of altitudes, accuracies and speeds that a device leaves out."""
M_PER_DEGREE: Final = 111_320.0
GEOD: Final = Geod(ellps="WGS84")

# fmt: off
PLACES: Final = {  # public ground: longitude (beyond 180 across the antimeridian), latitude, height in m
    "helvetiaplatz": (8.5263, 47.3737, 410), "limmatplatz": (8.5316, 47.3847, 404),
    "bucheggplatz": (8.5340, 47.3988, 468), "oerlikon": (8.5464, 47.4105, 442),
    "irchelpark": (8.5470, 47.3985, 490), "bürkliplatz": (8.5408, 47.3665, 407),
    "landiwiese": (8.5365, 47.3520, 407), "wollishofen": (8.5333, 47.3440, 409),
    "zürich hb": (8.5392, 47.3779, 408), "thalwil": (8.5647, 47.2958, 435), "zug": (8.5153, 47.1735, 425),
    "goldau": (8.5487, 47.0487, 510), "rigi": (8.4853, 47.0567, 1798), "triemli": (8.4955, 47.3680, 470),
    "uetliberg": (8.4914, 47.3495, 869), "felsenegg": (8.5080, 47.3110, 804), "adliswil": (8.5245, 47.3120, 451),

    "pombal": (-9.1500, 38.7253, 60), "alcântara": (-9.1765, 38.7055, 30), "pragal": (-9.1720, 38.6760, 90),
    "coina": (-9.0440, 38.5880, 20), "palmela": (-8.9000, 38.5690, 120), "setúbal": (-8.8926, 38.5243, 10),
    "albarquel": (-8.9120, 38.5170, 10), "montemor": (-8.2160, 38.6470, 240), "évora": (-7.9093, 38.5712, 300),
    "santarém": (-8.6860, 39.2360, 100), "leiria": (-8.8070, 39.7440, 50), "coimbra": (-8.4289, 40.2111, 30),
    "sintra": (-9.3907, 38.7976, 200), "peninha": (-9.4597, 38.7690, 488), "roca": (-9.4985, 38.7804, 140),
    "cascais": (-9.4180, 38.6920, 2), "off cascais": (-9.5500, 38.6200, 2), "off azores": (-25.6000, 37.6500, 2),
    "ponta delgada": (-25.6650, 37.7380, 2), "above azores": (-24.0000, 37.9000, 10_100),
    "above atlantic": (-11.0000, 38.6500, 10_100), "lisbon airport": (-9.1354, 38.7742, 110),

    "new lynn": (174.6843, -36.9095, 30), "kingsland": (174.7446, -36.8723, 65),
    "newmarket": (174.7785, -36.8697, 70), "britomart": (174.7668, -36.8442, 5), "wynyard": (174.7570, -36.8410, 4),
    "bean rock": (174.8250, -36.8300, 2), "rangitoto wharf": (174.8620, -36.8100, 3),
    "rangitoto": (174.8601, -36.7866, 259), "titirangi": (174.6560, -36.9375, 190), "piha": (174.4700, -36.9540, 8),
    "mercer bay": (174.4690, -36.9750, 210), "auckland airport": (174.7850, -37.0082, 7),
    "above northland": (175.9000, -35.2000, 10_400), "above oahu": (200.9000, 19.4000, 11_000),
    "honolulu airport": (202.0776, 21.3187, 4), "waikiki": (202.1710, 21.2766, 3),
    "diamond head": (202.1944, 21.2620, 230),
}
# fmt: on
TUNNELS: Final = ({"zürich hb", "thalwil"}, {"newmarket", "britomart"}, {"alcântara", "pombal"})
"""Legs on whose middle third nothing is received."""


class Mode(NamedTuple):
    """A way of getting about: the mean speed with stops, and how even, straight and level it is."""

    kmh: float
    every_s: tuple[float, float]  # least and most time between two fixes
    vary: float  # spread of the speed, as a share of it ...
    even_s: int  # ... and the time from one change of speed to the next
    stops: float  # share of those changes that are stops
    winding: float  # how far the way bends sideways and ...
    hilly: float  # ... up and down, as a share of the distance
    lost: float  # chance of losing reception for some minutes


WALK: Final = Mode(4.4, (8, 25), 0.20, 25, 0.06, 0.20, 0.004, 0.03)
HIKE: Final = Mode(3.0, (10, 30), 0.30, 60, 0.05, 0.32, 0.015, 0.10)
RUN: Final = Mode(10.2, (5, 15), 0.10, 40, 0.02, 0.14, 0.002, 0.0)
BIKE: Final = Mode(16, (5, 12), 0.25, 20, 0.08, 0.18, 0.004, 0.03)
CAR: Final = Mode(62, (5, 15), 0.25, 25, 0.06, 0.14, 0.002, 0.05)
MOTORWAY: Final = Mode(104, (15, 60), 0.08, 60, 0.01, 0.10, 0.002, 0.10)
TRAIN: Final = Mode(52, (8, 40), 0.25, 60, 0.15, 0.08, 0.001, 0.08)
FERRY: Final = Mode(24, (15, 60), 0.10, 120, 0.0, 0.05, 0.0, 0.0)
SAIL: Final = Mode(12.5, (120, 600), 0.25, 1800, 0.0, 0.09, 0.0, 0.0)
FLIGHT: Final = Mode(840, (120, 420), 0.02, 600, 0.0, 0.02, 0.0, 0.0)


class Device(NamedTuple):
    """What a device measures, and how well."""

    name: str
    blur_m: float  # typical error in the open
    tick_ms: int  # resolution of its clock
    altitude: bool = True
    accuracy: bool = True
    speed: bool = True
    every_s: tuple[float, float] | None = None  # time between two fixes, if not the mode's


class Route(NamedTuple):
    """A way through the land: vertices with their metres from the start, and the stretches without reception."""

    along_m: Floats
    lon: Floats
    lat: Floats
    height_m: Floats
    holes_m: list[tuple[float, float]]

    def back(self) -> Route:
        """Return the same way in the other direction."""
        end_m = self.along_m[-1]
        holes_m = [(end_m - b, end_m - a) for a, b in self.holes_m]
        return Route(end_m - self.along_m[::-1], self.lon[::-1], self.lat[::-1], self.height_m[::-1], holes_m)


def noise(rng: np.random.Generator, n: int) -> Floats:
    """Return `n` bell-shaped numbers: mean 0, standard deviation 1, never beyond 3.5."""
    return np.asarray((rng.random((4, n)).sum(axis=0) - 2.0) * math.sqrt(3.0))


def find_route(rng: np.random.Generator, via: tuple[str, ...], mode: Mode) -> Route:
    """Wind a way through the places: halve every piece again and again, shifting its middle sideways and up."""
    path = np.array([PLACES[name] for name in via], float)
    squeeze = math.cos(math.radians(path[0, 1]))
    halvings = min(MAX_HALVINGS, int(max(GEOD.line_lengths(path[:, 0], path[:, 1])) / PIECE_M).bit_length())
    for _ in range(halvings):
        lon, lat, _ = np.diff(path, axis=0).T
        aside = mode.winding * (2 * rng.random(len(lon)) - 1)
        up = mode.hilly * (2 * rng.random(len(lon)) - 1)
        length_m = M_PER_DEGREE * np.sqrt((lon * squeeze) ** 2 + lat**2)
        shift = np.column_stack((-lat / squeeze * aside, lon * squeeze * aside, up * length_m))
        finer = np.empty((2 * len(path) - 1, 3))
        finer[::2] = path
        finer[1::2] = (path[:-1] + path[1:]) / 2 + shift
        path = finer
    along_m = np.concatenate(([0.0], np.cumsum(GEOD.line_lengths(path[:, 0], path[:, 1]))))
    at_m = along_m[:: 2**halvings]
    holes_m = [
        ((2 * start_m + end_m) / 3, (start_m + 2 * end_m) / 3)
        for leg, (start_m, end_m) in zip(pairwise(via), pairwise(at_m), strict=True)
        if set(leg) in TUNNELS
    ]
    return Route(along_m, path[:, 0], path[:, 1], path[:, 2], holes_m)


class Person(NamedTuple):
    """Who lives where, with which phone."""

    live: Callable[[Diary], None]
    zone: str
    home: str
    phone: Device
    doze: float  # chance that the resting phone soon stops to report ...
    off: float  # ... and else that it is off at night


def _friday(day: date) -> date:
    """Return the first Friday from a day on."""
    return day + timedelta(days=(FRIDAY - day.weekday()) % 7)


class Diary:
    """One person: where they are, what time it is, and what their devices have written so far."""

    def __init__(self, person: Person, rng: np.random.Generator, start: date = START) -> None:
        self.person, self.rng = person, rng
        self.place, self.zone = person.home, ZoneInfo(person.zone)
        self.clock_ms = day_number(start) * MS_PER_DAY
        self.sail_day, self.flight_day = (_friday(start + after) for after in (SAIL_AFTER, FLIGHT_AFTER))
        self.pages: dict[str, list[tuple[NDArray[np.generic], ...]]] = {}
        self.routes: dict[tuple[Mode, tuple[str, ...]], Route] = {}

    @property
    def now(self) -> datetime:
        """The local time."""
        return datetime.fromtimestamp(self.clock_ms / 1000, self.zone)

    def between(self, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        return low + (high - low) * float(self.rng.random())

    def dwell(self, hour: float) -> None:
        """Stay until about `hour` o'clock of today (24 and more: tomorrow); if that is past, do nothing."""
        until = datetime.combine(self.now.date(), datetime.min.time()) + timedelta(hours=hour + self.between(0, 0.3))
        span_s = int(until.replace(tzinfo=self.zone).timestamp() - self.clock_ms / 1000)
        if span_s <= 0:
            return
        at_s = self._instants(PING_S, span_s)
        if self.rng.random() < self.person.doze:
            at_s = at_s[(at_s < 1500) | (at_s > span_s - 600)]
        elif self.rng.random() < self.person.off:
            local_h = ((self.now.hour * 3600 + self.now.minute * 60 + at_s) / 3600) % 24
            at_s = at_s[(local_h > 6.5) & (local_h < 22.7)]
        lon, lat, height_m = (np.full(len(at_s), float(value)) for value in PLACES[self.place])
        self._write(self.person.phone, at_s, lon, lat, height_m, np.zeros(len(at_s)), INDOORS)
        self.clock_ms += span_s * 1000

    def rest(self, hours: float) -> None:
        """Stay for about so many hours."""
        self.dwell(self.now.hour + self.now.minute / 60 + hours)

    def sleep(self) -> None:
        """Stay until the next morning."""
        self.dwell(WAKE_H if self.now.hour < WAKE_H else 24 + WAKE_H)

    def move(self, hour: float, mode: Mode, *via: str, devices: tuple[Device, ...] = ()) -> None:
        """Stay until `hour`, then go through the places `via` to the last; `devices` (the phone) write it down."""
        self.dwell(hour)
        route = self._route((self.place, *via), mode)
        self.place = via[-1]
        seconds = int(route.along_m[-1] / mode.kmh * 3.6 * self.between(0.94, 1.12))
        # Speeds are drawn first and then scaled to arrive in time: no draw can miss the end.
        changes = max(seconds // mode.even_s, 2) + 1
        pace = np.maximum(1 + mode.vary * noise(self.rng, changes), 0.1)
        pace[self.rng.random(changes) < mode.stops] = 0.0
        pace[[0, -1]] = 0.1
        clock_s = np.arange(seconds + 1.0)
        speed = np.interp(clock_s, np.linspace(0, seconds, changes), pace)
        gone_m = np.cumsum(speed)
        speed, gone_m = (values * (route.along_m[-1] / gone_m[-1]) for values in (speed, gone_m))
        for device in devices or (self.person.phone,):
            at_s = self._instants(device.every_s or mode.every_s, seconds)
            here_m = np.interp(at_s, clock_s, gone_m)
            heard = np.ones(len(at_s), bool)
            for start_m, end_m in route.holes_m:
                heard &= (here_m < start_m) | (here_m > end_m)
            if self.rng.random() < mode.lost:
                lost_s = self.between(0, seconds)
                heard &= (at_s < lost_s) | (at_s > lost_s + self.between(180, 1500))
            at_s, here_m = at_s[heard], here_m[heard]
            lon, lat, height_m = (np.interp(here_m, route.along_m, values) for values in route[1:4])
            self._write(device, at_s, lon, lat, height_m, np.interp(at_s, clock_s, speed))
        self.clock_ms += seconds * 1000

    def _route(self, via: tuple[str, ...], mode: Mode) -> Route:
        """Return the way: the same every day, and the same way back."""
        if (mode, via) not in self.routes:
            self.routes[mode, via] = find_route(self.rng, via, mode)
            self.routes[mode, via[::-1]] = self.routes[mode, via].back()
        return self.routes[mode, via]

    def _instants(self, every_s: tuple[float, float], span_s: float) -> Floats:
        """Return the seconds, out of the next `span_s`, at which a device takes a fix."""
        low, high = every_s
        at_s = np.cumsum(low + (high - low) * self.rng.random(int(span_s / low) + 1))
        at_s = at_s[at_s < span_s]
        return np.repeat(at_s, 1 + (self.rng.random(len(at_s)) < REPEATED_SHARE))

    def _write(
        self, device: Device, at_s: Floats, lon: Floats, lat: Floats, height_m: Floats, speed: Floats, roof: float = 1.0
    ) -> None:
        """Write fixes down as `device` would: blurred, rounded, and with what it cannot measure left out."""
        n, rng, blur_m = len(at_s), self.rng, device.blur_m * roof
        if n == 0:
            return
        drift_s = np.arange(0.0, at_s[-1] + 2 * DRIFT_S, DRIFT_S)
        drift = (np.interp(at_s, drift_s, noise(rng, len(drift_s))) for _ in range(3))
        east, north, up = (wander * blur_m + noise(rng, n) * (0.3 + 0.05 * blur_m) for wander in drift)
        lon = lon + east / (M_PER_DEGREE * math.cos(math.radians(lat[0])))
        known = rng.random((3, n)) >= UNKNOWN_SHARE
        known &= np.array([[device.altitude], [device.accuracy], [device.speed]])
        page = (
            (self.clock_ms + (at_s * 1000).astype("int64")) // device.tick_ms * device.tick_ms,
            np.round(np.where(lon > 180, lon - 360, lon), 6),
            np.round(lat + north / M_PER_DEGREE, 6),
            np.where(known[0], np.round(height_m + up / roof, 1), np.nan),
            np.where(known[1], np.round(blur_m * (0.8 + rng.random(n)), 1), np.nan),
            np.where(known[2], np.round(np.maximum(speed + 0.1 * noise(rng, n), 0.0), 2), np.nan),
        )
        self.pages.setdefault(device.name, []).append(page)


def ada(diary: Diary) -> None:
    """Live a day in Zürich: by bicycle to work, running with a watch, mountains at weekends."""
    weekday, week = diary.now.weekday(), diary.now.isocalendar().week
    run = ("bürkliplatz", "landiwiese", "wollishofen", "landiwiese", "bürkliplatz", "helvetiaplatz")
    both = (ADAS_WATCH, diary.person.phone)
    if weekday in (1, 3):
        diary.move(5.9, RUN, *run, devices=both if weekday == 1 else (ADAS_WATCH,))
    if weekday < 5:
        diary.move(7.6, BIKE, "limmatplatz", "bucheggplatz", "oerlikon")
        if weekday % 2 == 0:
            diary.move(12.1, WALK, "irchelpark")
            diary.move(AT_ONCE_H, WALK, "oerlikon")
        diary.move(17.3, BIKE, "bucheggplatz", "limmatplatz", "helvetiaplatz")
        if weekday == 4:
            diary.move(19.5, WALK, "bürkliplatz")
            diary.move(23.4, WALK, "helvetiaplatz")
    elif weekday == 5 and week % 2 == 0:
        diary.move(7.2, WALK, "zürich hb")
        diary.move(AT_ONCE_H, TRAIN, "thalwil", "zug", "goldau")
        diary.move(9.3, HIKE, "rigi")
        diary.rest(1.2)
        diary.move(AT_ONCE_H, HIKE, "goldau")
        diary.move(AT_ONCE_H, TRAIN, "zug", "thalwil", "zürich hb")
        diary.move(AT_ONCE_H, WALK, "helvetiaplatz")
    elif weekday == 5:
        diary.move(10.0, BIKE, "triemli")
        diary.move(AT_ONCE_H, HIKE, "uetliberg", "felsenegg", "adliswil")
        diary.move(AT_ONCE_H, TRAIN, "zürich hb")
        diary.move(AT_ONCE_H, WALK, "helvetiaplatz")
    else:
        diary.move(9.5, RUN, *run, devices=both)


def ben(diary: Diary) -> None:
    """Live a day in Lisbon: by car to work across the bridge, long drives at weekends, once a sail to the Azores."""
    weekday, week = diary.now.weekday(), diary.now.isocalendar().week
    south, north = ("alcântara", "pragal", "coina", "palmela"), ("palmela", "coina", "pragal", "alcântara", "pombal")
    if diary.now.date() == diary.sail_day:
        diary.move(8.0, CAR, "cascais")
        diary.move(10.0, SAIL, "off cascais", "off azores", "ponta delgada")
        diary.rest(46)
        diary.move(AT_ONCE_H, FLIGHT, "above azores", "above atlantic", "lisbon airport")
        diary.rest(0.7)
        diary.move(AT_ONCE_H, CAR, "pombal")
    elif weekday < 5:
        diary.move(7.1, CAR, *south, "setúbal")
        if weekday in (1, 3):
            diary.move(12.6, WALK, "albarquel")
            diary.move(AT_ONCE_H, WALK, "setúbal")
        diary.move(17.2, CAR, *north)
    elif weekday == 5 and week % 3 == 0:
        diary.move(9.0, MOTORWAY, "santarém", "leiria", "coimbra")
        diary.move(23.2, MOTORWAY, "leiria", "santarém", "pombal")
    elif weekday == 5 and week % 3 == 1:
        diary.move(9.5, CAR, "sintra")
        diary.move(AT_ONCE_H, HIKE, "peninha", "roca")
        diary.rest(0.9)
        diary.move(AT_ONCE_H, HIKE, "peninha", "sintra")
        diary.move(AT_ONCE_H, CAR, "pombal")
    elif weekday == 6 and week % 3 == 2:
        diary.move(10.0, MOTORWAY, *south, "montemor", "évora")
        diary.move(18.0, MOTORWAY, "montemor", *north)


def chloe(diary: Diary) -> None:
    """Live a day in Auckland: by train to work, an island or a beach at weekends, once a week in Hawaii."""
    weekday, week = diary.now.weekday(), diary.now.isocalendar().week
    to_town, to_home = ("kingsland", "newmarket", "britomart"), ("newmarket", "kingsland", "new lynn")
    if diary.now.date() == diary.flight_day:
        diary.move(18.5, CAR, "auckland airport")
        diary.move(22.0, FLIGHT, "above northland", "above oahu", "honolulu airport")
        diary.zone = ZoneInfo("Pacific/Honolulu")
        diary.rest(0.8)
        diary.move(AT_ONCE_H, CAR, "waikiki")
        for _ in range(6):
            diary.sleep()
            diary.move(9.0, WALK, "diamond head", "waikiki")
        diary.sleep()
        diary.move(9.5, CAR, "honolulu airport")
        diary.move(13.0, FLIGHT, "above oahu", "above northland", "auckland airport")
        diary.zone = ZoneInfo(diary.person.zone)
        diary.rest(0.8)
        diary.move(AT_ONCE_H, CAR, "new lynn")
    elif weekday in (0, 1, 3, 4):
        diary.move(7.9, TRAIN, *to_town)
        diary.move(12.3, WALK, "wynyard")
        diary.move(AT_ONCE_H, WALK, "britomart")
        diary.move(17.5, TRAIN, *to_home)
    elif weekday == 5 and week % 2 == 0:
        diary.move(8.5, TRAIN, *to_town)
        diary.move(AT_ONCE_H, FERRY, "bean rock", "rangitoto wharf")
        diary.move(AT_ONCE_H, HIKE, "rangitoto")
        diary.rest(0.9)
        diary.move(AT_ONCE_H, HIKE, "rangitoto wharf")
        diary.move(14.5, FERRY, "bean rock", "britomart")
        diary.move(AT_ONCE_H, TRAIN, *to_home)
    elif weekday == 6 and week % 2 == 1:
        diary.move(9.8, CAR, "titirangi", "piha")
        diary.move(AT_ONCE_H, HIKE, "mercer bay", "piha")
        diary.move(15.0, CAR, "titirangi", "new lynn")


ADAS_WATCH: Final = Device("watch", 1.5, 1000, accuracy=False, every_s=(1, 5))
PEOPLE: Final = {
    "ada": Person(ada, "Europe/Zurich", "helvetiaplatz", Device("phone", 5, 1000), 0.75, 0.6),
    "ben": Person(ben, "Europe/Lisbon", "pombal", Device("phone", 7, 1, altitude=False), 0.2, 0.6),
    "chloe": Person(chloe, "Pacific/Auckland", "new lynn", Device("phone", 4, 1, accuracy=False), 0.6, 0.5),
}


def start_before(end: date) -> date:
    """Return the first day of a demo that ends with a day: that of a month, so that no partition is left out."""
    months = 12 * end.year + end.month - 1 - MONTHS
    return date(months // 12, months % 12 + 1, 1)


def demo_history(seed: int = 7, end: date = END) -> pd.DataFrame:
    """Make up the fixes of three people in about half a year.

    Parameters
    ----------
    seed : int, default 7
        The same seed gives the same bits.
    end : date, default 2025-08-31
        The last day; the first one is that of the fifth month before, here 2025-03-01. Nothing is later than now.

    Returns
    -------
    DataFrame
        About 350 000 points with the columns and dtypes of `POINT_DTYPES`, sorted by user, device, time, position.
    """
    start, end_ms = start_before(end), min((day_number(end) + 1) * MS_PER_DAY, now_ms())
    frames = []
    for number, (user, person) in enumerate(PEOPLE.items()):
        diary = Diary(person, np.random.Generator(np.random.PCG64([seed, number])), start)
        while diary.clock_ms < end_ms:
            person.live(diary)
            diary.sleep()
        for device, pages in sorted(diary.pages.items()):
            columns = [np.concatenate(column) for column in zip(*pages, strict=True)]
            time_ms, lon, lat = columns[:3]
            order = np.lexsort((lat, lon, time_ms))
            order = order[time_ms[order] < end_ms]
            frame = pd.DataFrame({"user": user, "device": device}, index=range(len(order)))
            for name, column in zip(MEASURED, columns, strict=True):
                frame[name] = column[order]
            # What is repeated to the last digit is one point, and would only be counted as a duplicate on import.
            frame = frame.drop_duplicates(["time_ms", "lon", "lat"])
            frames.append(completed(frame.assign(seq=frame.groupby("time_ms").cumcount())))
    return pd.concat(frames, ignore_index=True)


def write_demo(folder: Path, seed: int = 7, end: date = END) -> list[Path]:
    """Write the history as its people would bring it: one CSV file a device.

    Parameters
    ----------
    folder : Path
        Where to write; made if it is missing.
    seed, end
        See `demo_history`.

    Returns
    -------
    list of Path
        The files written, `<user>-<device>.csv`, with the columns `user, device, timestamp, lon, lat, altitude,
        accuracy, speed`; times are ISO 8601 in UTC with milliseconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for (user, device), points in demo_history(seed, end).groupby(["user", "device"], sort=True):
        times = np.datetime_as_string(points["time_ms"].to_numpy().astype("datetime64[ms]"), unit="ms")
        rows = points.drop(columns=["time_ms", *FILE_FACTS])
        rows.insert(2, "timestamp", [f"{time}Z" for time in times])
        paths.append(folder / f"{user}-{device}.csv")
        rows.to_csv(paths[-1], index=False, lineterminator="\n", encoding="utf-8")
    return paths
