"""Everyday situations, and what a person would answer: how many tracks and stays there are, when, and how long.

Each is made by a traveller on a plane of metres and goes through the library. Measurements scatter; the truth is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

import pandas as pd
import pytest

import trackgen_core as tg

START_S = 1_748_764_800  # 2025-06-01 08:00 UTC
MINUTE_S, HOUR_S = 60, 3600
LAT, LON = 50.0, 8.0
METRES_PER_DEGREE = 111_229.0
"""Along a meridian at this latitude."""
EAST = 71_696.0
"""Metres in a degree of longitude at this latitude."""


@dataclass
class Traveller:
    """Somebody with a device that reports every so many seconds."""

    every_s: float = 10
    noise_m: float = 3.0
    accuracy: float | None = None
    seed: int = 1
    time_s: float = START_S
    x: float = 0.0
    y: float = 0.0
    altitude: float | None = None
    rows: list[dict[str, float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def see(self, x: float | None = None, y: float | None = None, **rest: float) -> None:
        """Report a point: where the traveller is, or elsewhere."""
        east = (self.x if x is None else x) + self.random.gauss(0, self.noise_m)
        north = (self.y if y is None else y) + self.random.gauss(0, self.noise_m)
        place = {"lon": round(LON + east / EAST, 7), "lat": round(LAT + north / METRES_PER_DEGREE, 7)}
        values = {"accuracy": self.accuracy, "altitude": self.altitude}
        self.rows.append({"timestamp": round(self.time_s, 3), **place, **values, **rest})

    def stay(self, minutes: float) -> Traveller:
        for _ in range(round(minutes * MINUTE_S / self.every_s)):
            self.time_s += self.every_s
            self.see()
        return self

    def go(self, x: float, y: float, speed_ms: float) -> Traveller:
        """Go straight to a place."""
        from_x, from_y = self.x, self.y
        way_s = math.hypot(x - from_x, y - from_y) / speed_ms
        steps = max(1, round(way_s / self.every_s))
        for step in range(1, steps + 1):
            self.time_s += way_s / steps
            self.x, self.y = from_x + (x - from_x) * step / steps, from_y + (y - from_y) * step / steps
            self.see()
        return self

    def silence(self, minutes: float) -> Traveller:
        self.time_s += minutes * MINUTE_S
        return self

    def tracks(self, **settings: object) -> pd.DataFrame:
        return tg.tracks(pd.DataFrame(self.rows), settings)

    def stays(self, **settings: object) -> pd.DataFrame:
        return tg.stays(pd.DataFrame(self.rows), settings)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of tracks and stays."""
        return len(self.tracks()), len(self.stays())


def minutes(items: pd.DataFrame) -> list[float]:
    """Return how long each takes."""
    return [round((row.ended_at - row.started_at).total_seconds() / MINUTE_S, 1) for row in items.itertuples()]


# Halts


@pytest.mark.parametrize(
    ("speed_ms", "every_s", "halt", "way_m"),
    [
        (1.3, 1, 12, 900),
        (1.3, 10, 20, 1500),
        (1.3, 30, 15, 1500),
        (1.3, 60, 20, 1500),
        (5.0, 5, 25, 5000),
        (5.0, 20, 15, 5000),
        (12.0, 1, 12, 8000),
        (12.0, 60, 20, 12_000),
        (12.0, 300, 40, 24_000),
        (12.0, 600, 45, 36_000),
    ],
)
def test_a_halt_on_the_way(speed_ms: float, every_s: float, halt: float, way_m: float) -> None:
    one = Traveller(every_s, noise_m=min(3.0, 0.3 * every_s))
    one.see()
    one.go(way_m, 0, speed_ms).stay(halt).go(2 * way_m, 0, speed_ms)
    (stay,) = minutes(one.stays())
    assert abs(stay - halt) <= max(2.5, 2 * every_s / MINUTE_S)
    tracks = one.tracks()
    assert [abs(length - way_m) <= max(150, 0.05 * way_m) for length in tracks["distance_m"]] == [True, True]


def test_a_friend_320_m_away_is_visited() -> None:
    one = Traveller(20)
    one.stay(60).go(320, 0, 1.3).stay(40).go(0, 0, 1.3).stay(60)
    assert one.counts() == (2, 3)
    assert all(abs(length - 320) <= 130 for length in one.tracks()["distance_m"])


def test_a_bakery_200_m_away_is_two_ways_at_most() -> None:
    one = Traveller(10)
    one.stay(60).go(200, 0, 1.3).stay(4).go(0, 0, 1.3).stay(60)
    assert len(one.stays()) == 2
    assert len(one.tracks()) in (1, 2)


def test_a_time_in_a_mall_is_a_stay() -> None:
    one = Traveller(30, seed=2)
    one.stay(30).go(6000, 0, 12.0)
    one.accuracy, one.noise_m = 30.0, 10.0
    until_s = one.time_s + 40 * MINUTE_S
    while one.time_s < until_s:
        one.go(6000 + one.random.uniform(0, 120), one.random.uniform(0, 70), 0.9).stay(1.5)
    one.accuracy, one.noise_m = None, 3.0
    one.go(0, 0, 12.0).stay(30)
    stays = minutes(one.stays())
    assert len(stays) == 3
    assert 30 <= stays[1] <= 50
    assert len(one.tracks()) == 2


def test_a_coarse_phone_at_home_does_not_move() -> None:
    one = Traveller(150, noise_m=60.0, accuracy=90.0)
    one.stay(8 * 60)
    assert one.counts() == (0, 1)


def test_a_wifi_router_that_moved_is_no_journey() -> None:
    one = Traveller(300, noise_m=6.0, accuracy=20.0)
    for _ in range(12):
        one.stay(40)
        one.time_s += 300
        one.see(800, 0)
    one.stay(40)
    assert one.counts() == (0, 1)


@pytest.mark.parametrize("seen", [(1, 4, 7, 10), (2, 3, 8, 9), (4, 5, 6, 7), (2, 3, 4, 9)], ids=str)
@pytest.mark.parametrize("accuracy", [None, 20.0, 800.0])
def test_a_phone_in_bed_that_sees_a_mast_a_third_of_the_time(seen: tuple[int, ...], accuracy: float | None) -> None:
    one = Traveller(300, noise_m=8.0, accuracy=accuracy and 20.0)
    for number in range(8 * 12):
        one.time_s += 300
        if number % 12 in seen:
            one.see(600, 0, **{"accuracy": accuracy} if accuracy else {})
        else:
            one.see()
    assert one.counts() == (0, 1)
    assert minutes(one.stays())[0] >= 7.5 * 60
    (stay,) = one.stays().itertuples()
    assert math.hypot((stay.lon - LON) * EAST, (stay.lat - LAT) * METRES_PER_DEGREE) < 20


def test_a_phone_that_sleeps_at_night_is_at_home() -> None:
    one = Traveller(60, noise_m=8.0)
    one.stay(120)
    for _ in range(4):
        one.silence(120).stay(5)
    one.silence(60).stay(60)
    assert one.counts() == (0, 1)


def test_pings_at_home_every_two_hours_are_one_stay() -> None:
    one = Traveller(noise_m=60.0)
    for _ in range(20):
        one.silence(120).see()
    assert one.counts() == (0, 1)
    assert minutes(one.stays()) == [19 * 120]


# What is no stay


def test_a_walk_with_the_dog_is_no_stay() -> None:
    one = Traveller(10, noise_m=4.0)
    for n in range(1, 40):
        one.go(40.0 * n, one.random.uniform(-20, 20), 1.1).stay(0.5 if n % 3 == 0 else 0)
    assert one.counts() == (1, 0)


def test_laps_in_a_stadium_are_no_stay() -> None:
    one = Traveller(5)
    straight, radius = 84.4, 36.5
    bend = math.pi * radius
    for n in range(45 * MINUTE_S // 5):
        side, along = divmod(3.3 * 5 * n % (2 * (straight + bend)), straight + bend)
        if along < straight:
            x, y = along - straight / 2, -radius
        else:
            angle = (along - straight) / radius
            x, y = straight / 2 + radius * math.sin(angle), -radius * math.cos(angle)
        one.time_s += 5
        one.see(x if side == 0 else -x, y if side == 0 else -y)
    assert one.counts() == (1, 0)
    assert one.tracks()["distance_m"][0] > 8500


def test_a_queue_that_moves_is_no_stay() -> None:
    one = Traveller(30)
    one.go(10_000, 0, 15.0)
    for _ in range(48):
        one.go(one.x + 21, 0, 1.0).stay(2)
    one.go(30_000, 0, 15.0)
    assert one.counts() == (1, 0)


# Times


def test_a_tracker_of_half_an_hour_has_one_track() -> None:
    one = Traveller(noise_m=5.0)
    for n in range(24):
        one.time_s = START_S + 30 * MINUTE_S * n + one.random.uniform(-20, 20)
        one.see(9000.0 * n, 0)
    assert one.counts() == (1, 0)
    assert abs(one.tracks()["distance_m"].sum() - 23 * 9000) < 500


@pytest.mark.parametrize("direction", [1, -1], ids=["east", "west"])
def test_points_of_one_second_are_in_the_order_of_their_file(direction: int) -> None:
    rows = [{"timestamp": START_S + n // 4, "lon": LON + direction * 3.0 * n / EAST, "lat": LAT} for n in range(400)]
    (length_m,) = tg.tracks(pd.DataFrame(rows))["distance_m"]
    assert abs(length_m - 399 * 3) < 3


def test_a_batch_of_one_time_is_a_way_and_no_noise() -> None:
    rows = [{"timestamp": START_S + n // 10 * 300, "lon": LON + 300.0 * n / EAST, "lat": LAT} for n in range(60)]
    (length_m,) = tg.tracks(pd.DataFrame(rows))["distance_m"]
    assert abs(length_m - 59 * 300) < 30


@pytest.mark.parametrize("copy", ["five decimals", "full seconds"])
def test_a_recording_that_was_imported_twice_counts_once(copy: str) -> None:
    one = Traveller(5, time_s=START_S + 0.4)
    one.go(3000, 0, 4.0)
    (length_m,) = one.tracks()["distance_m"]
    for row in list(one.rows):
        if copy == "five decimals":
            one.rows.append(row | {"lon": round(row["lon"], 5), "lat": round(row["lat"], 5), "seq": 0})
        else:
            one.rows.append(row | {"timestamp": math.floor(row["timestamp"])})
    frame = pd.DataFrame(one.rows).assign(seq=0)
    assert tg.tracks(frame)["distance_m"].tolist() == [length_m]


def test_an_accuracy_of_0_is_unknown() -> None:
    one = Traveller(10)
    one.go(2000, 0, 1.4)
    frame = pd.DataFrame(one.rows)
    with pytest.warns(UserWarning, match="unknown"):
        found = tg.tracks(frame.assign(accuracy=0.0))
    assert found["distance_m"].tolist() == one.tracks()["distance_m"].tolist()


def test_a_flight_without_points_is_of_the_journey() -> None:
    one = Traveller(60)
    one.go(30_000, 0, 16.0)
    one.time_s += 2 * HOUR_S
    one.x = 1_230_000.0
    one.see()
    one.go(1_250_000.0, 0, 16.0)
    (length_m,) = one.tracks()["distance_m"]
    assert length_m > 1_200_000


def test_a_pause_has_no_length_and_no_climb() -> None:
    one = Traveller(5, noise_m=0.0, altitude=500.0)
    one.go(1000, 0, 1.4)
    one.time_s += 5 * MINUTE_S
    one.x, one.altitude = 3000.0, 900.0  # up by a ropeway
    one.see(pause=1)
    one.go(4000, 0, 1.4)
    (track,) = one.tracks().itertuples()
    assert abs(track.distance_m - 2000) < 20
    assert track.elevation_gain_m == 0


def test_a_pause_before_noise_is_one() -> None:
    one = Traveller(5, noise_m=0.0, accuracy=5.0)
    one.go(1000, 0, 1.4)
    one.time_s += 5 * MINUTE_S
    one.x = 3000.0
    one.see(pause=1, accuracy=500.0)
    one.go(4000, 0, 1.4)
    (length_m,) = one.tracks()["distance_m"]
    assert abs(length_m - 2000) < 20


def test_a_silence_is_a_stay_unless_somebody_does_not_want_it() -> None:
    one = Traveller(60, noise_m=0.0)
    one.go(20_000, 0, 12.0)
    one.silence(240)
    one.go(0, 0, 12.0)
    assert len(one.stays(silent_stay_m=5000)) == 1
    assert len(one.stays(silent_stay_m=0)) == 0


# Noise


def test_a_point_far_aside_on_a_walk_is_no_way() -> None:
    one = Traveller(10)
    one.go(700, 0, 1.4)
    one.time_s += 10
    one.see(one.x, 400)
    one.go(1400, 0, 1.4)
    (length_m,) = one.tracks()["distance_m"]
    assert length_m < 1550


def test_a_glitch_of_a_second_is_no_way() -> None:
    one = Traveller(1, noise_m=0.5)
    one.go(1000, 0, 3.0)
    one.time_s += 1
    one.see(one.x, 45)
    one.go(2000, 0, 3.0)
    (length_m,) = one.tracks()["distance_m"]
    assert length_m < 2080


def test_a_mast_that_is_seen_for_minutes_is_no_way() -> None:
    one = Traveller(20)
    one.stay(60)
    for _ in range(12):
        one.time_s += 20
        one.see(3000, 1000)
    one.stay(60)
    assert one.counts() == (0, 1)


# Altitudes


def climbed(noise_m: float, jump_m: float = 0.0) -> float:
    """Return the gain of a way 200 m up and 200 m down again."""
    one = Traveller(5, noise_m=2.0, altitude=0.0)
    for n in range(721):
        true_m = 200 - abs(n - 360) / 360 * 200
        one.altitude = round(true_m + one.random.gauss(0, noise_m) + (jump_m if n in (100, 500) else 0.0), 2)
        one.x += 6.0
        one.time_s += 5
        one.see()
    (track,) = one.tracks().itertuples()
    return float(track.elevation_gain_m)


@pytest.mark.parametrize(
    ("noise_m", "jump_m", "off_m"), [(0.0, 0.0, 2), (0.3, 0.0, 10), (6.0, 0.0, 60), (0.2, 80.0, 10)]
)
def test_noise_of_altitudes_is_no_climb(noise_m: float, jump_m: float, off_m: float) -> None:
    assert abs(climbed(noise_m, jump_m) - 200) <= off_m
