"""Modes and lengths of small journeys that people make: on foot, by bike, on rails, at sea and in the air."""

from __future__ import annotations

from math import sqrt
from random import Random

import pytest
from pyproj import Geod

from tests import world
from tests.reference import Point, Track
from trackgen_core.demo import demo_history
from trackgen_core.points import ACTIVITIES, MS_PER_DAY
from trackgen_core.settings import Settings

WGS84 = Geod(ellps="WGS84")
MINUTE_S = 60
LAND, SEA = (20.0, 48.0), (-30.0, 40.0)


class Traveller:
    """Somebody with a phone, of whom every step is known."""

    def __init__(self, lon_lat: tuple[float, float] = LAND, activity: str = "") -> None:
        self.points: list[Point] = []
        self.activity = ACTIVITIES.index(activity)
        self.random = Random(11)
        self.lon, self.lat = lon_lat
        self.bearing, self.time_s, self.metres = 90.0, 1_709_280_000.0, 0.0
        self.see()

    def see(self, noise_m: float = 0) -> None:
        """Measure the place, so far off (root mean square)."""
        east, north = (self.random.gauss(0, noise_m / sqrt(2)) for _ in range(2))
        lon, lat, _ = WGS84.fwd(self.lon, self.lat, 90, east)
        lon, lat, _ = WGS84.fwd(lon, lat, 0, north)
        self.points.append(Point("anna", "phone", int(self.time_s * 1000), lon, lat, activity=self.activity))

    def go(
        self,
        kmh: float,
        minutes: float,
        every_s: float = 5,
        *,
        curve: float = 0,
        change: float = 0.05,
        noise_m: float = 0,
    ) -> Traveller:
        """Go on at a speed that changes by such a share; the way swings by `curve` degrees to both sides."""
        for step in range(round(minutes * MINUTE_S / every_s)):
            metres = kmh / 3.6 * self.random.uniform(1 - change, 1 + change) * every_s
            swing = curve if step * every_s % 120 < 60 else -curve
            self.lon, self.lat, _ = WGS84.fwd(self.lon, self.lat, self.bearing + swing, metres)
            self.time_s += every_s
            self.metres += metres
            self.see(noise_m)
        return self

    def city(self, minutes: float) -> Traveller:
        """Drive through a city: lights, corners, hardly ever at one speed."""
        for _ in range(round(minutes / 2)):
            for kmh in (0, 0, 8, 25, 40, 50, 52, 48, 50, 45, 30, 12):
                self.go(kmh, 1 / 6, change=0.1)
            self.bearing += self.random.choice([90, -90])
        return self

    def road(self, kmh: float, minutes: float) -> Traveller:
        """Drive along a road with curves."""
        return self.go(kmh, minutes, curve=40, change=0.03)

    def tracks(self, **settings: object) -> list[Track]:
        return world.whole(self.points, Settings(**settings)).tracks


def legs(traveller: Traveller, **settings: object) -> list[tuple[str, str]]:
    (track,) = traveller.tracks(**settings)
    return [(leg.mode, leg.source) for leg in track.legs]


def modes(traveller: Traveller, **settings: object) -> list[str]:
    return [mode for mode, _ in legs(traveller, **settings)]


@pytest.mark.parametrize("kmh", [15, 20, 27, 30])
def test_a_cyclist_rides_a_bike(kmh: float) -> None:
    assert modes(Traveller().go(kmh, 25, curve=20)) == ["cycle"]


def test_a_moped_is_a_drive() -> None:
    assert modes(Traveller().road(45, 25)) == ["drive"]


def test_a_car_in_a_city_is_a_drive() -> None:
    assert modes(Traveller().city(30)) == ["drive"]


def test_bike_platform_train_walk_and_bike() -> None:
    traveller = Traveller().go(17, 15, curve=30).go(4, 3).go(0, 7).go(110, 25).go(5, 6, curve=30).go(17, 12, curve=30)
    assert modes(traveller) == ["cycle", "walk", "stationary", "train", "walk", "cycle"]


def test_a_flight_without_a_point() -> None:
    traveller = Traveller().city(20).go(720, 25, every_s=25 * MINUTE_S).city(20)
    assert modes(traveller) == ["drive", "fly", "drive"]


def test_a_metro_without_a_point() -> None:
    traveller = Traveller().go(5, 12, curve=40).go(22, 22, every_s=22 * MINUTE_S).go(5, 12, curve=40)
    assert modes(traveller) == ["walk", "train", "walk"]


@pytest.mark.parametrize("kmh", [11, 25, 40])
def test_a_boat_is_on_the_open_sea(kmh: float) -> None:
    at_sea, on_land = (modes(Traveller(place).go(kmh, 90, every_s=60, curve=10)) for place in (SEA, LAND))
    assert at_sea == ["boat"]
    assert "boat" not in on_land


def test_what_a_file_says() -> None:
    assert legs(Traveller(activity="cycle").go(17, 30)) == [("cycle", "file")]
    assert legs(Traveller(activity="run").go(17, 30)) == [("run", "file")]
    assert legs(Traveller(activity="cycle").road(120, 30)) == [("drive", "rule")]
    (track,) = Traveller(activity="boat").go(9, 30).tracks()
    assert (track.mode, track.legs[0].confidence) == ("boat", 90)


def test_who_does_not_drive_takes_the_train() -> None:
    regional = Traveller().road(75, 40)
    assert modes(regional) == ["drive"]
    assert modes(regional, unused_modes="drive") == ["train"]
    assert modes(regional, unused_modes="drive,train") == ["cycle"]
    assert modes(regional, unused_modes="walk") == ["drive"]


def test_a_walk_is_as_long_as_its_way_and_not_as_its_jitter() -> None:
    walk = Traveller().go(5, 40, every_s=1, noise_m=5)
    (track,) = walk.tracks()
    assert track.length_mm / 1000 == pytest.approx(walk.metres, rel=0.1)
    assert track.moving_ms == pytest.approx(40 * 60_000, rel=0.05)
    (plain,) = walk.tracks(length_smoothing="off")
    assert plain.length_mm > 1.2 * track.length_mm


def test_red_lights_are_no_moving_time() -> None:
    drive = Traveller()
    for _ in range(10):
        drive.go(50, 2, every_s=1, curve=20).go(0, 1, every_s=1)
    (track,) = drive.tracks()
    assert track.moving_ms == pytest.approx(20 * 60_000, rel=0.03)
    assert track.duration_ms == 30 * 60_000
    assert track.length_mm / 1000 == pytest.approx(drive.metres, rel=0.02)


def test_the_voyage_of_the_demo_is_by_boat() -> None:
    history = demo_history()
    of_ben = history[history["user"] == "ben"]
    day = of_ben["time_ms"] // MS_PER_DAY
    at_sea = day[(of_ben["lon"] < -12) & (of_ben["lon"] > -20)]  # between Lisbon and the Azores
    own = of_ben[(day >= at_sea.min() - 3) & (day <= at_sea.max() + 4)].astype(object)
    own = own.where(own.notna(), None)
    points = [Point(**{name: row[name] for name in Point._fields if name in row}) for row in own.to_dict("records")]
    voyage = max(world.whole(points, Settings()).tracks, key=lambda track: track.duration_ms)
    assert voyage.length_mm > 1_000_000_000
    assert voyage.mode == "boat"
