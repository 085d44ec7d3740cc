"""Each rule of `docs/rules.md` at its edges, by hand; the scenarios of stays and noise; properties of the time line."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate, groupby, pairwise

import hypothesis
import pytest
from hypothesis import HealthCheck, given

from tests.effort import examples
from tests.reference import Point, Stay, Track, breaks_among, distinct, half_away, timeline, tracks
from tests.reference_words import by_the_clock
from tests.scenarios import (
    BREAKS_ALONE,
    DAY,
    HOUR,
    HOUR_RIDE,
    MINUTE,
    SCENARIOS,
    SECOND,
    STAYS_AND_NOISE,
    WGS84,
    assert_expected,
    at,
    fix,
    joined,
    replaced,
    ride,
)
from tests.strategies import USERS, cases
from trackgen_core.settings import Settings, make_settings

BY_BREAKS = Settings(**BREAKS_ALONE)

patient = hypothesis.settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])


# The scenarios


@pytest.mark.parametrize("scenario", [*SCENARIOS, *STAYS_AND_NOISE], ids=lambda scenario: scenario.name)
def test_scenario(scenario):
    line = timeline(scenario.remaining, make_settings(scenario.settings))
    assert_expected(scenario, line.tracks, len(line.leftover), line.stays, line.noise)


@pytest.mark.parametrize("scenario", [s for s in STAYS_AND_NOISE if s.noise_after], ids=lambda scenario: scenario.name)
def test_noise_is_judged_again_after_each_batch(scenario):
    lines = [timeline(points, make_settings(scenario.settings)) for points in accumulate(scenario.arrivals)]
    assert tuple(len(line.noise) for line in lines) == scenario.noise_after
    assert tuple(len(line.tracks) for line in lines) == (scenario.tracks_after or tuple(len(x.tracks) for x in lines))


def test_scenarios_are_sound():
    names = [scenario.name for scenario in STAYS_AND_NOISE]
    assert len(set(names)) == len(names)
    for scenario in STAYS_AND_NOISE:
        assert len(scenario.expected) in (0, scenario.tracks), scenario.name
        assert len(scenario.expected_stays) in (0, scenario.stays), scenario.name
        assert joined(scenario.arrivals) == scenario.points, scenario.name


# Points


def test_altitude_and_accuracy_are_chosen_independently():
    same = [fix(0, altitude=5.0), fix(0, accuracy=9.0), fix(0, altitude=3.0, accuracy=4.0)]
    assert distinct(same) == distinct(same[::-1]) == [fix(0, altitude=5.0, accuracy=9.0)]


@pytest.mark.parametrize(("hop_m", "moving_ms"), [(30.0, 60_000), (29.9996, 60_000), (29.999, 0)])
def test_moving_is_half_a_metre_per_second_by_the_rounded_length(hop_m, moving_ms):
    points = [fix(0), fix(60_000, hop_m), fix(70_000, hop_m)]
    (track,), _ = tracks(points, BY_BREAKS)
    assert (track.moving_ms, track.duration_ms) == (moving_ms, 70_000)


# Noise. North and east of (90, 0) are axes of places: metres are exact to the centimetre, some hundred metres around.


def spot(time_s: float, north_m: float = 0.0, east_m: float = 0.0, accuracy: float | None = None) -> Point:
    lon, lat, _ = WGS84.fwd(90.0, 0.0, 90.0, east_m)
    lon, lat, _ = WGS84.fwd(lon, lat, 0.0, north_m)
    return fix(round(time_s * 1000), lon_lat=(lon, lat), accuracy=accuracy)


def still(start_s: float, count: int, every_s: float = 60, north_m: float = 0.0) -> list[Point]:
    return [spot(start_s + i * every_s, north_m) for i in range(count)]


def reasons(points: Sequence[Point], **values) -> list[tuple[float, str]]:
    """What is set aside: (s, reason)."""
    return [(point.time_ms / 1000, reason) for point, reason in timeline(points, Settings(**values)).noise]


def backwards(points: Sequence[Point]) -> list[Point]:
    return [point._replace(time_ms=10 * DAY - point.time_ms) for point in points]


def count_noise(points: Sequence[Point]) -> int:
    """How many are set aside; the same if time went backwards, which holds for spikes without two at one instant."""
    count = len(reasons(points))
    assert len(reasons(backwards(points))) == count
    return count


@pytest.mark.parametrize(
    ("before_s", "after_s", "aside"),
    [
        (60, 7200, True),
        (60.001, 7200, False),
        (7200, 60, True),
        (7200, 60.001, False),
        (600, 600, True),
        (600.001, 600, False),
        (600, 600.001, False),
        (1, 7200, True),
    ],
)
def test_a_coarse_fix_is_set_aside_near_better_ones(before_s, after_s, aside):
    points = [spot(0), spot(before_s, accuracy=100.5), spot(before_s + after_s, accuracy=100.0)]
    assert reasons(points) == ([(before_s, "accuracy")] if aside else [])
    assert reasons(points, gps_accuracy_threshold=None) == []
    assert reasons(points, noise_filter=False) == []


def test_a_coarse_fix_is_not_better_than_another():
    assert reasons([spot(60 * i, accuracy=150.0) for i in range(5)]) == []
    # the better ones are 5 minutes away on either side
    points = [spot(0), *(spot(60 * i, accuracy=150.0) for i in range(1, 10)), spot(600)]
    assert reasons(points) == [(60.0 * i, "accuracy") for i in range(1, 10)]


@pytest.mark.parametrize(
    ("metres", "out_s", "back_s", "aside"),
    [
        (25.0, 0.5, 0.5, False),  # 180 km/h, but not far
        (25.01, 0.5, 0.5, True),
        (100.0, 10, 10, False),  # 36 km/h, but not far enough for that
        (100.01, 10, 10, True),
        (499.99, 60, 60, False),
        (500.01, 60, 60, True),  # 30 km/h
        (2600.0, 60, 60.001, True),
        (2500.01, 60, 61, False),  # 150 km/h are asked of links of more than a minute
        (2500.01, 61, 60, False),
        (100_000, 1800, 1800, True),  # 200 km/h; no end of a recording is judged below 250
        (100_000, 1800, 1800.001, False),
        (100_000, 1800.001, 1800, False),
    ],
)
def test_edges_of_a_spike(metres, out_s, back_s, aside):
    points = [*still(0, 5), spot(240 + out_s, metres), *still(240 + out_s + back_s, 5)]
    assert count_noise(points) == aside


@pytest.mark.parametrize(("metres", "aside"), [(5990, False), (6010, True)])
def test_a_spike_is_three_times_as_fast_as_its_surroundings(metres, aside):
    drive = [spot(60 * i, 0, 2000 * i) for i in range(12)]
    points = [*drive[:6], spot(360, metres, 10_000), *drive[7:]]
    assert count_noise(points) == aside


@pytest.mark.parametrize(("back_m", "aside"), [(9990, True), (10_010, False)])
def test_a_spike_turns_back(back_m, aside):
    points = [*still(0, 8), spot(480, 10_000), *(spot(540 + 60 * i, 0, back_m) for i in range(8))]
    assert count_noise(points) == aside


@pytest.mark.parametrize(
    ("count", "every_s", "aside"),
    [(1, 60, 1), (5, 60, 5), (5, 400, 5), (9, 60, 9), (10, 60, 0), (14, 40, 14), (15, 40, 0)],
)
def test_a_spike_has_five_fixes_or_takes_ten_minutes_at_most(count, every_s, aside):
    points = [*still(0, 8), *still(420 + every_s, count, every_s, 1e5), *still(420 + every_s * (count + 1), 8)]
    assert count_noise(points) == aside


@pytest.mark.parametrize(("off_m", "aside"), [(4999.0, 6), (5001.0, 1)])  # the one that is off is a spike by itself
def test_a_long_spike_is_a_place_of_its_own(off_m, aside):
    away = [spot(480 + 10 * i, 10_000, off_m if i == 3 else 0.0) for i in range(6)]
    assert count_noise([*still(0, 8), *away, *still(540, 8)]) == aside


@pytest.mark.parametrize(("others", "count", "aside"), [(3, 5, 5), (2, 4, 0), (2, 3, 3), (1, 1, 0)])
def test_a_spike_is_outnumbered(others, count, aside):
    # 60 km/h, which no end of a recording is judged by
    points = [*still(0, others), *still(60 * others, count, north_m=1e3), *still(60 * (others + count), others)]
    assert count_noise(points) == aside


@pytest.mark.parametrize(("every_s", "aside"), [(600, 5), (600.001, 0)])
def test_a_spike_takes_an_hour_at_most(every_s, aside):
    points = [*still(0, 8), *still(420 + every_s, 5, every_s, north_m=1e5), *still(420 + 6 * every_s, 8)]
    assert count_noise(points) == aside


@pytest.mark.parametrize(("middle_m", "aside"), [(5010, 3), (4990, 1)])  # the first is a spike by itself
def test_every_fix_of_a_spike_is_far_off(middle_m, aside):
    points = [*still(0, 8), spot(480, 10_000), spot(1680, middle_m), spot(2880, 10_000), *still(2940, 8)]
    assert count_noise(points) == aside


def test_a_spike_is_compared_with_what_stands():
    # home, away, home, away, home: it is not the one in the middle that is wrong
    points = [*still(0, 4), spot(240, 10_000), spot(300), spot(360, 10_000), *still(420, 4)]
    assert reasons(points) == [(240.0, "spike"), (360.0, "spike")]


def test_a_zigzag_is_no_spike():
    # nothing is faster than its surroundings; no position comes twice, or it would be a replay
    assert reasons([spot(60 * i, 10_000 * (i % 2), i) for i in range(30)]) == []


@pytest.mark.parametrize(
    ("before", "run", "aside"), [(3, 1, 1), (2, 1, 0), (3, 2, 2), (3, 3, 0), (4, 3, 3), (6, 5, 5), (5, 5, 0)]
)
def test_the_end_of_a_recording_needs_more_before_it(before, run, aside):
    points = [*still(0, before), *still(60 * before, run, north_m=1e5)]
    assert count_noise(points) == aside


@pytest.mark.parametrize(("metres", "aside"), [(2499.9, False), (2500.1, True)])
def test_the_end_of_a_recording_is_judged_beyond_250_km_per_hour(metres, aside):
    assert count_noise([*still(0, 5), spot(240 + 36, metres)]) == aside


@pytest.mark.parametrize(("next_s", "aside"), [(1800, False), (1800.001, True)])
def test_a_recording_ends_where_nothing_follows_for_half_an_hour(next_s, aside):
    # a way back of 50 km in half an hour is too slow for a spike that is not at the end
    assert count_noise([*still(0, 10), spot(600, 5e4), *still(600 + next_s, 10)]) == aside


@pytest.mark.parametrize(("first_s", "aside"), [(0, True), (-0.001, False)])
def test_what_was_before_the_end_counts_for_an_hour(first_s, aside):
    assert count_noise([spot(first_s), spot(1800), spot(3540), spot(3600, 1e5)]) == aside


@pytest.mark.parametrize(("second_m", "aside"), [(14_990, [600.0, 660.0]), (15_010, [])])
def test_the_end_of_a_recording_is_a_place_of_its_own(second_m, aside):
    # two that lie far apart are none: somebody may be taking off
    points = [*still(0, 10), spot(600, 10_000), spot(660, second_m)]
    assert [time_s for time_s, _ in reasons(points)] == aside


def test_good_fixes_between_a_spike_and_the_end_are_kept():
    points = replaced(HOUR_RIDE, fix(at("10:02"), 90_000))
    assert [point.time_ms for point, _ in timeline(points, Settings()).noise] == [at("10:02")]


def cached(old_s: float, replay_s: float, metres: float = 2000.0) -> list[Point]:
    """The position of `old_s`, then others so far away until it comes once more."""
    others = [spot(time_s, metres) for time_s in range(0, 20_000, 600) if old_s < time_s < replay_s - 90]
    # 80 km/h over more than a minute are no spike
    around = [spot(replay_s - 90, metres), spot(replay_s), spot(replay_s + 90, metres), spot(replay_s + 900, metres)]
    return [spot(old_s), *others, *around]


@pytest.mark.parametrize(
    ("ago_s", "metres", "aside"),
    [
        (600, 2000, True),
        (599.999, 2000, False),
        (10_800, 2000, True),
        (10_800.001, 2000, False),
        (3600, 500.1, True),
        (3600, 499.9, False),
    ],
)
def test_edges_of_a_replay(ago_s, metres, aside):
    assert reasons(cached(0, ago_s, metres)) == ([(ago_s, "replay")] if aside else [])


def test_a_replay_repeats_the_very_position():
    points = cached(0, 3600)
    assert reasons([spot(0, 0.01), *points[1:]]) == []


def test_what_is_a_replay_and_a_spike_is_a_spike():
    points = [*cached(0, 3600, 6000), *still(4560, 5, north_m=6000)]
    assert reasons(points) == [(3600.0, "spike")]


def test_what_comes_later_makes_no_replay():
    # out to a place, back, and an hour later there once more: the phone was not there before
    points = [*still(0, 3, 600), spot(1500, 2000), spot(1800), spot(2400), spot(6000, 2000)]
    assert reasons(points) == []


def aside(*points: Point) -> list[Point]:
    """The points of these that are set aside as duplicates; there are others before and after them."""
    line = timeline([*still(0, 3), *points, *still(600, 3)], Settings())
    assert {reason for _, reason in line.noise} <= {"duplicate"}
    return [point for point, _ in line.noise]


def test_of_points_of_one_time_the_best_one_stays():
    here = Point("anna", "phone", 300_000, 90.0000001, 0.0)
    other, rounded = here._replace(lon=90.0000002), here._replace(lon=90.0)
    assert aside(here, other) == [other]  # the first
    assert aside(here, rounded) == [rounded]
    assert aside(here, other._replace(accuracy=30.0)) == [here]
    assert aside(here._replace(accuracy=31.0), other._replace(accuracy=30.0)) == [here._replace(accuracy=31.0)]
    assert aside(here, rounded._replace(accuracy=0.0)) == [rounded._replace(accuracy=0.0)]  # which means unknown
    assert aside(here, other._replace(seq=1)) == []  # one after the other in their file


@pytest.mark.parametrize(
    ("original_ms", "copy_ms", "lon", "is_copy"),
    [
        (300_400, 300_000, 90.0012346, True),
        (300_400, 301_000, 90.0012346, True),
        (300_400, 300_000, 90.00123, True),
        (300_400, 300_000, 90.00124, False),
        (300_400, 300_000, 90.0012347, False),
        (300_400, 299_000, 90.0012346, False),
        (300_400, 300_500, 90.0012346, False),
    ],
)
def test_a_point_in_a_full_second_is_a_copy_of_one_beside_it(original_ms, copy_ms, lon, is_copy):
    original = Point("anna", "phone", original_ms, 90.0012346, 0.0)
    copy = original._replace(time_ms=copy_ms, lon=lon)
    assert aside(original, copy) == ([copy] if is_copy else [])


def test_several_points_a_second_have_no_copies():
    for every_ms, count in ((400, 0), (500, 1)):
        points = [Point("anna", "phone", 300_000 + n * every_ms, 90.0012346, 0.0) for n in (-0.5, 0.5)]
        assert (
            len(
                aside(
                    *(point._replace(time_ms=int(point.time_ms)) for point in points),
                    spot(300)._replace(lon=90.0012346),
                )
            )
            == count
        )


# Stays


def stays(points: Sequence[Point], **values) -> list[tuple[float, float, int]]:
    """The stays: start, end (s), points."""
    values = {"noise_filter": False, **values}
    found = timeline(points, Settings(**values)).stays
    return [(stay.started_ms / 1000, stay.ended_ms / 1000, stay.points) for stay in found]


def test_a_stay_carries_its_ends_and_its_id():
    points = [*still(0, 3, 600), spot(1800, 0, 40.0), *ride("10:00", 3)]
    first, *_ = timeline(points, Settings()).stays
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/stay")
    assert asdict(first) == {
        "stay_id": str(uuid.uuid5(namespace, '["anna", "phone", 0, 90.0, 0.0]')),
        "user": "anna",
        "device": "phone",
        "started_ms": 0,
        "ended_ms": 1_800_000,
        "points": 4,
        "lon": round(WGS84.fwd(90.0, 0.0, 90.0, 10.0)[0], 7),
        "lat": 0.0,
        "radius_cm": 2000,
        "break_reason": "start",
        "is_ongoing": False,
    }


@pytest.mark.parametrize("lon_lat", [(10.0, 50.0), (-77.03, -12.05), (180.0, 65.0), (13.4, -89.9), (0.0, 51.5)])
def test_the_position_of_a_stay_is_where_its_fixes_are(lon_lat):
    (stay,) = timeline([fix(i * 10 * MINUTE, lon_lat=lon_lat) for i in range(4)], Settings()).stays
    assert stay.radius_cm == 0
    assert WGS84.inv(*lon_lat, stay.lon, stay.lat)[2] < 0.02


def test_half_a_centimetre_of_radius_is_rounded_away_from_zero():
    (stay,) = timeline([spot(0), spot(600, 0.25)], Settings()).stays
    assert stay.radius_cm == 13


@pytest.mark.parametrize(
    ("gap_s", "metres", "is_stay"),
    [
        (600, 82.5, True),
        (599.999, 82.5, False),
        (600, 82.51, False),
        (1800, 82.5, True),
        (1800, 82.51, False),
        (1800, 112.51, True),  # a wide piece
        (1800, 150.01, False),
        (1800.001, 299.9, True),  # a silent stay
        (1800.001, 500.1, False),
        (86_400, 299.9, True),
        (86_400.001, 0.0, False),
    ],
)
def test_edges_of_a_stay_of_two_fixes(gap_s, metres, is_stay):
    points = [spot(0), spot(gap_s, metres)]
    assert stays(points) == ([(0, gap_s, 2)] if is_stay else [])
    assert stays(points, stay_minutes=0) == []


@pytest.mark.parametrize(("minutes", "found"), [(15, [(120, 780, 12)]), (45, [])])
def test_who_stays_for_half_an_hour_may_not_creep(minutes, found):
    # 5.1 m a minute: 51 m in 10 minutes, and 153 m in half an hour
    points = [spot(60 * i, 5.1 * i, 20.0 * (i % 2)) for i in range(minutes + 1)]
    assert stays(points) == found


@pytest.mark.parametrize(
    ("metres", "every_s", "count", "is_away"),
    [
        (75.01, 60, 1, True),
        (75.0, 60, 1, False),
        (5000, 60, 5, True),
        (5000, 250, 5, True),
        (5000, 250.001, 5, False),
        (5000, 60, 6, False),
    ],
)
def test_edges_of_an_excursion(metres, every_s, count, is_away):
    points = [*still(0, 41), *still(2400 + every_s, count, every_s, north_m=metres)]
    points += still(2400 + (count + 1) * every_s, 41)
    (first, *others) = timeline(points, Settings(noise_filter=False)).stays
    if is_away:
        assert (others, first.points, first.radius_cm) == ([], len(points), 0)
    else:
        assert others or first.radius_cm > 0


def roomy(start_s: float, north_m: float = 0.0) -> list[Point]:
    """40 minutes, a fix a minute, every other one 20 m to the west."""
    return [spot(start_s + 60 * i, north_m, -20.0 * (i % 2)) for i in range(41)]


@pytest.mark.parametrize(
    ("back_s", "north_m", "out_m", "is_one"),
    [
        (600, 0.0, 150.0, True),
        (600.001, 0.0, 150.0, False),
        (600, 75.0, 150.0, True),
        (600, 75.01, 150.0, False),
        (600, 0.0, 150.01, False),
    ],
)
def test_edges_of_joined_pieces(back_s, north_m, out_m, is_one):
    # 8 fixes to the east: too many for an excursion, and no room for them in the box
    points = [*roomy(0), *(spot(2460 + 60 * i, 0.0, out_m) for i in range(8)), *roomy(2400 + back_s, north_m)]
    assert stays(points) == (
        [(0, 4800 + back_s, len(points))] if is_one else [(0, 2400, 41), (2400 + back_s, 4800 + back_s, 41)]
    )
    if is_one:  # of those between, nothing counts for the place
        (stay,) = timeline(points, Settings(noise_filter=False)).stays
        assert stay.radius_cm == half_away(math.hypot(20.0, north_m) * 50)


def test_the_ends_of_a_pause_remain_fixes_of_their_tracks():
    points = [*ride("10:00", 11), *ride("18:10", 11, from_m=6000)]
    line = timeline(points, Settings())
    assert [(track.points, track.break_reason) for track in line.tracks] == [(11, "start"), (11, "stay")]
    (stay,) = line.stays
    assert (stay.started_ms, stay.ended_ms, stay.points, stay.break_reason) == (at("10:10"), at("18:10"), 0, "stay")


def test_a_pause_goes_on_with_the_stay_before_it():
    points = [*still(0, 61), *(spot(28_800 + 60 * i, 600.0 * i) for i in range(11))]
    line = timeline(points, Settings())
    assert stays(points) == [(0, 28_800, 61)]
    assert [(track.points, track.started_ms / 1000) for track in line.tracks] == [(11, 28_800)]


def test_a_fix_between_pauses_is_one_of_the_stay():
    points = [spot(0), spot(3 * 3600), spot(6 * 3600, 60.0)]
    line = timeline(points, Settings())
    assert stays(points) == [(0, 6 * 3600, 3)]
    assert (line.tracks, line.leftover) == ([], [])


def test_a_fix_between_a_pause_and_a_break_is_one_of_the_stay():
    points = [spot(0, 5000), spot(3600), spot(3600 + 3 * 3600), spot(6 * 3600, 5000)]
    line = timeline(points, Settings())
    assert stays(points) == [(3600, 4 * 3600, 2)]
    assert (line.tracks, [point.time_ms for point in line.leftover]) == ([], [0, 6 * HOUR])


# The time line


def test_stays_and_tracks_touch_and_gaps_have_a_reason():
    points = [
        *still(0, 31),
        *(spot(1800 + 60 * i, 600.0 * i) for i in range(1, 6)),
        *still(2160, 31, north_m=3600.0),
        *still(3960 + 1800.001, 31, north_m=10_000.0),
    ]
    line = timeline(points, Settings())
    assert [(track.break_reason, track.started_ms, track.ended_ms, track.points) for track in line.tracks] == [
        ("stay", 1800 * SECOND, 2160 * SECOND, 5)
    ]
    assert [(stay.break_reason, stay.points, stay.is_ongoing) for stay in line.stays] == [
        ("start", 31, False),
        ("stay", 31, False),
        ("time_gap", 31, True),
    ]


def test_two_stays_without_a_break_have_a_track_of_a_single_hop_between_them():
    points = [*still(0, 31), *still(1800 + 1800, 31, north_m=10_000.0)]
    (track,) = timeline(points, Settings()).tracks
    assert (track.points, track.length_mm // 1000, track.break_reason) == (0, 10_000, "stay")
    assert len(track.path[0]) == 2


def test_noise_after_a_stay_does_not_end_it():
    points = [*still(0, 31), spot(1860, 1e5)]
    (stay,) = timeline(points, Settings()).stays
    assert (stay.points, stay.is_ongoing) == (31, True)


SPLIT = {**BREAKS_ALONE, "split_at_midnight": True}


@pytest.mark.parametrize(
    ("timezone", "evening", "morning", "is_split"),
    [
        ("UTC", "23:59:59.999", "2 00:00", True),
        ("UTC", "2 00:01", "2 00:02", False),
        ("Europe/Berlin", "22:59", "23:00", True),
        ("Europe/Berlin", "23:59", "2 00:00", False),
        ("Europe/Berlin", "31 21:59", "31 22:00", True),  # in summer time
        ("Europe/Berlin", "31 22:59", "31 23:00", False),
        ("Asia/Kolkata", "18:29", "18:30", True),
        ("America/New_York", "2 04:59", "2 05:00", True),
        ("Pacific/Auckland", "10:59", "11:00", True),
    ],
)
def test_midnight_is_that_of_the_time_zone(timezone, evening, morning, is_split):
    before, after = at(evening), at(morning)
    points = [fix(before - MINUTE, 0), fix(before, 100), fix(after, 200), fix(after + MINUTE, 300)]
    found, leftover = tracks(points, Settings(**SPLIT, timezone=timezone))
    sizes = [(track.points, track.length_mm, track.break_reason) for track in found]
    whole, halves = [(4, 300_000, "start")], [(2, 100_000, "start"), (2, 200_000, "midnight")]
    assert (sizes, leftover) == (halves if is_split else whole, 0)


def test_a_fix_alone_before_midnight_is_leftover_and_the_beginning_of_the_next_track():
    points = [fix(at("23:59"), 0), fix(at("2 00:01"), 100), fix(at("2 00:02"), 200)]
    line = timeline(points, Settings(**SPLIT))
    assert [point.time_ms for point in line.leftover] == [at("23:59")]
    (track,) = line.tracks
    assert (track.points, track.length_mm, track.started_ms) == (2, 200_000, at("23:59"))
    assert track.break_reason in ("midnight", "start")  # the page allows both: it is the first of the device, too


# Properties


def by_device(items: Sequence[Track | Stay]) -> dict[tuple[str, str], list[Track | Stay]]:
    trails = {(item.user, item.device) for item in items}
    return {trail: [item for item in items if (item.user, item.device) == trail] for trail in trails}


@patient
@given(case=cases())
def test_every_fix_is_in_exactly_one_of_noise_stay_track_and_leftover(case):
    points, rules = case
    line = timeline(points, rules)
    fixes = distinct(points)
    in_items = sum(item.points for item in [*line.tracks, *line.stays])
    assert in_items + len(line.noise) + len(line.leftover) == len(fixes)
    aside = [*(point for point, _ in line.noise), *line.leftover]
    assert len({*aside}) == len(aside)
    assert {*aside} <= {*fixes}
    assert tracks(points, rules) == (line.tracks, len(line.leftover))


@patient
@given(case=cases())
def test_all_lists_are_sorted_and_ids_are_unique(case):
    points, rules = case
    line = timeline(points, rules)
    for items in (line.tracks, line.stays):
        keys = [(item.user, item.device, item.started_ms, item.ended_ms) for item in items]
        assert keys == sorted(keys)
    for fixes in ([point for point, _ in line.noise], line.leftover):
        assert fixes == sorted(fixes, key=lambda point: point[:5])
    assert len({track.track_id for track in line.tracks}) == len(line.tracks)
    assert len({stay.stay_id for stay in line.stays}) == len(line.stays)


@patient
@given(case=cases())
def test_the_items_of_a_device_never_overlap(case):
    points, rules = case
    line = timeline(points, rules)
    for items in by_device([*line.tracks, *line.stays]).values():
        in_order = sorted(items, key=lambda item: (item.started_ms, item.ended_ms))
        assert all(before.ended_ms <= after.started_ms for before, after in pairwise(in_order))


@patient
@given(case=cases())
def test_tracks_and_stays_touch_or_there_is_a_gap_with_a_reason(case):
    points, rules = case
    line = timeline(points, rules)
    trails = by_device([*line.tracks, *line.stays])
    for trail, items in trails.items():
        left_ms = {point.time_ms for point in line.leftover if (point.user, point.device) == trail}
        stays_end = {item.ended_ms for item in items if isinstance(item, Stay)}
        tracks_end = {item.ended_ms for item in items if isinstance(item, Track)}
        items.sort(key=lambda item: (item.started_ms, item.ended_ms))
        for before, item in pairwise(items):
            touches_stay, touches_track = item.started_ms in stays_end, item.started_ms in tracks_end
            if item.break_reason == "stay":
                # Two stays have nothing between them where a place creeps, or after a silence.
                is_after_stay = isinstance(item, Stay) and (touches_track or isinstance(before, Stay))
                assert touches_stay or is_after_stay
            elif item.break_reason == "midnight":
                assert isinstance(item, Track)
                assert touches_track or item.started_ms in left_ms
        assert sum(item.break_reason == "start" for item in items) <= 1


@patient
@given(case=cases())
def test_without_noise_and_stays_only_breaks_count(case):
    points, rules = case
    rules = {user: rules.get(user, Settings()).model_copy(update=BREAKS_ALONE) for user in USERS}
    rules = {user: own.model_copy(update={"split_at_midnight": False}) for user, own in rules.items()}
    line = timeline(points, rules)
    assert (line.stays, line.noise) == ([], [])
    sizes = []
    for (user, _), trail in groupby(distinct(points), key=lambda point: (point.user, point.device)):
        fixes = list(trail)
        starts = [0, *(n + 1 for n in breaks_among(by_the_clock(fixes), rules[user]))]
        sizes += [b - a for a, b in pairwise([*starts, len(fixes)])]
    assert [track.points for track in line.tracks] == [size for size in sizes if size > 1]
    assert len(line.leftover) == sizes.count(1)


@patient
@given(case=cases())
def test_a_split_at_midnight_loses_nothing(case):
    points, rules = case
    cut = {user: rules.get(user, Settings()).model_copy(update={"split_at_midnight": True}) for user in USERS}
    whole = {user: own.model_copy(update={"split_at_midnight": False}) for user, own in cut.items()}
    parts, wholes = timeline(points, cut), timeline(points, whole)
    for name in ("length_mm", "duration_ms", "moving_ms"):
        assert sum(getattr(track, name) for track in parts.tracks) == sum(getattr(t, name) for t in wholes.tracks)
    assert (parts.stays, parts.noise) == (wholes.stays, wholes.noise)


@patient
@given(case=cases())
def test_noise_is_decided_by_the_six_hours_around(case):
    points, rules = case
    noise = dict(timeline(points, rules).noise)
    for point in distinct(points)[::7]:
        near = [other for other in points if abs(other.time_ms - point.time_ms) <= 6 * HOUR]
        assert dict(timeline(near, rules).noise).get(point) == noise.get(point)
