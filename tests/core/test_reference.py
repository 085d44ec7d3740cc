"""Is the reference right? The scenarios with a known answer, the cutting of paths, and the one law itself."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from itertools import accumulate, pairwise

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.effort import examples
from tests.reference import (
    Edit,
    Leg,
    Point,
    Timeline,
    Track,
    climb_cm,
    cut_path,
    distinct,
    half_away,
    link_mm,
    speed_kmh,
    timeline,
    tracks,
)
from tests.reference_noise import fixes_and_noise
from tests.reference_pace import paces_of_points
from tests.scenarios import (
    ARRIVALS,
    BREAKS_ALONE,
    DEVICE,
    HOUR,
    MINUTE,
    SCENARIOS,
    TWO_DEVICES,
    USER,
    Scenario,
    assert_expected,
    at,
    fix,
    joined,
    pairs,
    per_day,
    place,
    ride,
)
from tests.strategies import DAY_MS, cases, groupings, histories, settings, trickles
from trackgen_core.settings import Settings

patient = hypothesis.settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(scenario: Scenario, points: tuple[Point, ...]) -> tuple[list[Track], int]:
    return tracks(points, Settings(**scenario.settings))


def ids(found: list[Track]) -> list[str]:
    return [track.track_id for track in found]


# The scenarios


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario):
    assert_expected(scenario, *outcome(scenario, scenario.remaining))


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.tracks_after], ids=lambda scenario: scenario.name)
def test_number_of_tracks_after_each_batch(scenario):
    arrived = accumulate(scenario.arrivals)
    assert tuple(len(outcome(scenario, points)[0]) for points in arrived) == scenario.tracks_after


@pytest.mark.parametrize(
    "scenario", [s for s in SCENARIOS if s.kept_ids is not None], ids=lambda scenario: scenario.name
)
def test_identity_is_stable_where_the_head_did_not_change(scenario):
    first, _ = outcome(scenario, scenario.arrivals[0])
    last, _ = outcome(scenario, scenario.remaining)
    assert len({*ids(first)} & {*ids(last)}) == scenario.kept_ids


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.points_per_day], ids=lambda scenario: scenario.name)
def test_chunks_are_half_open(scenario):
    assert per_day(scenario.points) == scenario.points_per_day


@pytest.mark.parametrize("scenario", ARRIVALS, ids=lambda scenario: scenario.name)
def test_arrival_changes_nothing(scenario):
    assert outcome(scenario, scenario.points) == outcome(ARRIVALS[0], ARRIVALS[0].points)


def test_scenarios_are_sound():
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    for scenario in SCENARIOS:
        assert len(scenario.expected) in (0, scenario.tracks), scenario.name
        assert joined(scenario.arrivals) == scenario.points, scenario.name
        assert set(scenario.deleted) <= set(scenario.points), scenario.name


def test_hops_of_m_and_m_plus_1_mm_are_just_that():
    for hop_m, mm in ((500.0, 500_000), (500.0004, 500_000), (500.001, 500_001), (1000.0, 1_000_000)):
        _, before, after, _ = pairs(hop_m=hop_m)
        assert link_mm(before, after) == mm


def test_two_devices_braided_would_be_3633_km():
    braided = [point._replace(device="phone") for point in TWO_DEVICES]
    (track,), _ = tracks(braided, Settings(**BREAKS_ALONE, max_speed_kmh=100_000, length_smoothing="off"))
    assert track.length_mm // 1_000_000 == 3633


# Points


def test_a_known_altitude_beats_an_unknown_one_and_the_larger_stands():
    same = [fix(0, altitude=altitude) for altitude in (None, 5.0, 7.0, 6.0, None)]
    assert distinct(same) == [fix(0, altitude=7.0)]
    assert distinct(same[::-1]) == [fix(0, altitude=7.0)]
    assert distinct([fix(0), fix(0)]) == [fix(0)]


def test_negative_zero_is_zero():
    signed = [Point("anna", "", 0, -0.0, 1.0), Point("anna", "", 1000, 1.0, -0.0)]
    plain = [Point("anna", "", 0, 0.0, 1.0), Point("anna", "", 1000, 1.0, 0.0)]
    assert repr(tracks(signed, Settings())) == repr(tracks(plain, Settings()))
    assert len(distinct(signed + plain)) == 2


def test_settings_are_per_user_with_defaults():
    points = [point._replace(user=user) for user in ("anna", "bob") for point in pairs(gap_ms=20 * 60_000, hop_m=600)]
    found, leftover = tracks(points, {"bob": Settings(minutes_between_routes=10, gap_rule="fixed")})
    assert [(track.user, track.points) for track in found] == [("anna", 4), ("bob", 2), ("bob", 2)]
    assert leftover == 0


def test_single_points_between_breaks_are_leftover():
    found, leftover = tracks([fix(at(hour)) for hour in ("10:00", "12:00", "14:00")], Settings(**BREAKS_ALONE))
    assert (found, leftover) == ([], 3)


def test_the_reason_of_a_track_is_the_break_right_before_it():
    # a leftover fix after a gap, and then a track that starts with a jump
    points = [*ride("10:00", 2), fix(at("12:00")), fix(at("12:01"), 5e6), fix(at("12:02"), 5e6)]
    found, leftover = tracks(points, Settings())
    assert [track.break_reason for track in found] == ["start", "implausible_speed"]
    assert leftover == 1


def test_a_leftover_first_fix_leaves_the_first_track_with_the_reason_of_its_break():
    found, leftover = tracks([fix(at("08:00")), *ride("10:00", 2)], Settings(**BREAKS_ALONE))
    assert ([track.break_reason for track in found], leftover) == (["time_gap"], 1)


def test_no_points_no_tracks():
    assert tracks([], Settings()) == ([], 0)


# Numbers


@pytest.mark.parametrize(
    ("value", "nearest"),
    [(0.5, 1), (1.5, 2), (2.5, 3), (-0.5, -1), (-2.5, -3), (0.49999999999999994, 0), (2.4, 2), (-2.6, -3)],
)
def test_half_away(value, nearest):
    assert half_away(value) == nearest


def test_speed():
    assert speed_kmh(1_000_000, 3600) == 1000
    assert speed_kmh(1_000_000, 3599) > 1000
    assert speed_kmh(1, 0) == float("inf")


def test_elevation():
    altitudes = [None, 100.0, 99.875, None, 100.125, None, -0.125]
    points = [fix(i * 1000, i, altitude=altitude) for i, altitude in enumerate(altitudes)]
    (track,), _ = tracks(points, Settings(noise_filter=False, climb_threshold_m=0))
    # in cm: 10000, 9988 (9987.5), 10013 (10012.5), -13 (-12.5)
    assert track.elevation_gain_cm == 25
    assert track.elevation_loss_cm == 12 + 10_026
    assert (track.elevation_min_cm, track.elevation_max_cm) == (-13, 10_013)
    (track,), _ = tracks(points, Settings(noise_filter=False))
    assert (track.elevation_gain_cm, track.elevation_loss_cm) == (0, 10_026)


@pytest.mark.parametrize(
    ("altitudes", "gain", "loss"),
    [
        pytest.param([], 0, 0, id="nothing"),
        pytest.param([7], 0, 0, id="one"),
        pytest.param([0, 4, 0, 4, 1], 0, 0, id="wavering"),
        pytest.param([0, 5], 5, 0, id="just the threshold"),
        pytest.param([0, 3, -1, 4], 5, 0, id="from the lowest before"),
        pytest.param([4, -1, 3, 0], 0, 5, id="the same backwards"),
        pytest.param([0, 5, 1, 9, 5, 8], 9, 0, id="wavering on the way up"),
        pytest.param([0, 9, 4, 8, 2, 6], 9, 7, id="a turn, and wavering on the way down"),
        pytest.param([0, 9, 4, 9, 3, 8, 4], 9 + 5 + 5, 5 + 6, id="turns by just the threshold"),
        pytest.param([-10, 10, 10, -10], 20, 20, id="a plateau"),
    ],
)
def test_climb(altitudes, gain, loss):
    assert climb_cm(altitudes, 5) == (gain, loss)


@given(st.lists(st.integers(-20, 20)), st.integers(0, 12))
def test_climb_is_the_same_backwards(altitudes, threshold):
    assert climb_cm(altitudes, threshold) == climb_cm(altitudes[::-1], threshold)[::-1]
    if threshold == 0:
        steps = [b - a for a, b in pairwise(altitudes)]
        assert climb_cm(altitudes, 0) == (sum(max(s, 0) for s in steps), sum(max(-s, 0) for s in steps))


def test_a_track_carries_its_ends_and_its_id():
    (track,), leftover = tracks(ride("10:00", 3), Settings())
    name = f'["anna", "phone", {at("10:00")}, 10.0, 0.0]'
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
    assert leftover == 0
    assert asdict(track) == {
        "track_id": str(uuid.uuid5(namespace, name)),
        "user": "anna",
        "device": "phone",
        "started_ms": at("10:00"),
        "ended_ms": at("10:02"),
        "start_lon": 10.0,
        "start_lat": 0.0,
        "end_lon": place(1200)[0],
        "end_lat": 0.0,
        "points": 3,
        "length_mm": 1_200_000,
        "duration_ms": 120_000,
        "moving_ms": 120_000,
        "elevation_gain_cm": None,
        "elevation_loss_cm": None,
        "elevation_min_cm": None,
        "elevation_max_cm": None,
        "break_reason": "start",
        "mode": "train",
        "legs": (Leg("train", 70, at("10:00"), at("10:02"), 1_200_000, 120_000, "rule"),),
        "path": ((place(0), place(600), place(1200)),),
    }


# Legs


def at_speeds(start: str, *speeds_ms: float, every_ms: int = MINUTE) -> list[Point]:
    """Return fixes so long after one another, at these speeds."""
    metres = accumulate([0.0, *(speed * every_ms / 1000 for speed in speeds_ms)])
    return [fix(at(start) + n * every_ms, so_far) for n, so_far in enumerate(metres)]


MOVING = Settings(noise_filter=False, stay_minutes=0)


@pytest.mark.parametrize(
    ("speeds_ms", "mode", "sure"),
    [
        pytest.param([0.1] * 20, "stationary", 95, id="still"),
        pytest.param([1.4] * 20, "walk", 95, id="walk"),
        pytest.param([3.0] * 20, "run", 60, id="run"),
        pytest.param([2.0, 3.0, 3.0] * 7, "run", 40, id="slow run"),
        pytest.param([2.0, 2.0, 3.0] * 7, "cycle", 23, id="too slow for a run"),
        pytest.param([5.0] * 20, "cycle", 70, id="cycle"),
        pytest.param([7.9] * 20, "cycle", 70, id="fast cycle"),
        pytest.param([9.0] * 20, "cycle", 70, id="steady and without a stop"),
        pytest.param([30.0] * 20, "train", 70, id="faster, and straight"),
        pytest.param([60.0] * 20, "train", 70, id="fast train"),
        pytest.param([200.0] * 20, "fly", 95, id="fly"),
        pytest.param([200.0] * 4, "train", 0, id="no flight is shorter than 50 km"),
        pytest.param([3.0] * 2, "run", 60, id="a whole piece shorter than a window"),
    ],
)
def test_mode_of_one_leg(speeds_ms, mode, sure):
    (track,), _ = tracks(at_speeds("10:00", *speeds_ms), MOVING)
    (leg,) = track.legs
    assert (leg.mode, leg.confidence, leg.source, track.mode) == (mode, sure, "rule", mode)
    assert (leg.length_mm, leg.moving_ms) == (track.length_mm, track.moving_ms)


def paces(points, breaks=()):
    return paces_of_points(fixes_and_noise(points, MOVING)[0], set(breaks))


def test_legs_tile_the_track():
    (track,), _ = tracks(at_speeds("10:00", *[1.4] * 12, *[5.0] * 10, *[0.0] * 10, *[5.0] * 4, *[1.4] * 12), MOVING)
    legs = [(leg.mode, (leg.started_ms - at("10:00")) // MINUTE, leg.confidence) for leg in track.legs]
    assert legs == [("walk", 0, 95), ("cycle", 12, 70), ("stationary", 22, 95), ("cycle", 32, 70), ("walk", 36, 95)]
    assert track.mode == "walk"


def test_a_short_dash_among_walks_is_a_walk():
    walk = [1.4] * 60
    for count, found in ((3, {"walking"}), (6, {"walking", "riding"})):
        assert set(paces(at_speeds("10:00", *walk, *[6.0] * count, *walk, every_ms=20_000))) == found
    assert "riding" in paces(at_speeds("10:00", *[6.0] * 5, *walk, every_ms=20_000))  # nothing before it


def test_no_pace_looks_over_a_break_or_a_pause():
    points = at_speeds("10:00", *[0.0] * 10)
    assert paces(points) == ["still"] * 11
    assert paces(points, [0, 1]) == ["none"] * 2 + ["still"] * 9
    assert paces([points[0], points[1]._replace(pause=1), points[2]._replace(pause=1)]) == ["none"] * 3
    assert paces([fix(at("10:00")), fix(at("10:31"))]) == ["none"] * 2


def test_one_hidden_link_between_walks():
    walk = at_speeds("10:00", *[1.4] * 10)
    for minutes, found in ((4, "riding"), (5, "hidden")):
        later = [
            point._replace(time_ms=point.time_ms + (9 + minutes) * MINUTE, lon=point.lon + 0.03) for point in walk[1:]
        ]
        assert paces([*walk, *later])[11] == found


# Edits


def said(kind: str, before: str, after: str, mode: str | None = None, device: str = DEVICE) -> Edit:
    return Edit(USER, device, kind, at(before), at(after), mode)


def items(line: Timeline) -> list[tuple[str, int, int, int, str]]:
    """Return tracks, stays and leftovers, their first and last minute after 08:00, their points and reasons."""
    rows = [("T", one.started_ms, one.ended_ms, one.points, one.break_reason) for one in line.tracks]
    rows += [("S", one.started_ms, one.ended_ms, one.points, one.break_reason) for one in line.stays]
    rows += [(".", one.time_ms, one.time_ms, 1, "") for one in line.leftover]
    minutes = [(what, (a - at("08:00")) // MINUTE, (b - at("08:00")) // MINUTE, *rest) for what, a, b, *rest in rows]
    return sorted(minutes, key=lambda row: row[1:3])


def test_split():
    ten = ride("08:00", 10)
    assert items(timeline(ten, Settings(), [said("split", "08:04", "08:05")])) == [
        ("T", 0, 4, 5, "start"),
        ("T", 4, 9, 5, "split"),
    ]
    for nowhere in (said("split", "08:09", "08:10"), said("split", "07:00", "07:01"), said("split", "08:04", "08:05")):
        other = nowhere._replace(device="other") if nowhere.before_ms == at("08:04") else nowhere
        assert timeline(ten, Settings(), [other]) == timeline(ten, Settings())
    # the first fix alone is no track, and a second split at the same hop is none
    edits = [said("split", "08:00", "08:01"), said("split", "08:00:30", "08:01")]
    assert items(timeline(ten, Settings(), edits)) == [(".", 0, 0, 1, ""), ("T", 0, 9, 9, "start")]


def test_a_split_is_between_two_fixes_of_the_track():
    points = [fix(at("08:00") + n * MINUTE, max(0, n - 20) * 600) for n in range(31)]  # a stay until 08:20
    line = timeline(points, Settings())
    assert items(line) == [("S", 0, 20, 21, "start"), ("T", 20, 30, 10, "stay")]
    for when in ("08:10", "08:20"):
        assert timeline(points, Settings(), [said("split", when, when)]) == line
    split = timeline(points, Settings(), [said("split", "08:21", "08:22")])
    assert items(split) == [("S", 0, 20, 21, "start"), ("T", 20, 21, 1, "stay"), ("T", 21, 30, 9, "split")]


STOPOVER = [
    *ride("08:00", 10),
    *(fix(at("08:09") + n * MINUTE, 5400) for n in range(1, 31)),
    *ride("08:40", 10, from_m=6000),
]


def test_merge_over_a_stay():
    assert items(timeline(STOPOVER, Settings())) == [
        ("T", 0, 9, 9, "start"),
        ("S", 9, 39, 31, "stay"),
        ("T", 39, 49, 10, "stay"),
    ]
    line = timeline(STOPOVER, Settings(), [said("merge", "08:09", "08:39")])
    assert items(line) == [("T", 0, 49, 50, "start")]
    assert [leg.mode for leg in line.tracks[0].legs] == ["train", "stationary", "train"]
    assert line.tracks[0].mode == "train"
    split = said("split", "08:20", "08:21")
    assert items(timeline(STOPOVER, Settings(), [split, said("merge", "08:09", "08:39")])) == [
        ("T", 0, 20, 21, "start"),
        ("T", 20, 49, 29, "split"),
    ]


def test_what_a_merge_leaves_of_a_stay_is_a_stay():
    line = timeline(STOPOVER, Settings(), [said("merge", "08:20", "08:30")])
    assert items(line) == [
        ("T", 0, 9, 9, "start"),
        ("S", 9, 19, 11, "stay"),
        ("T", 19, 31, 11, "stay"),
        ("S", 31, 39, 9, "stay"),
        ("T", 39, 49, 10, "stay"),
    ]
    # a single fix is none
    assert items(timeline(STOPOVER, Settings(), [said("merge", "08:10", "08:38")])) == [("T", 0, 49, 50, "start")]


def test_merge_over_a_break_of_a_day_at_most():
    for gap_ms, count in ((24 * HOUR, 1), (24 * HOUR + 1, 2)):
        points = [*ride("08:00", 10), *(fix(at("08:09") + gap_ms + n * MINUTE, 60_000 + n * 600) for n in range(10))]
        merge = Edit(USER, DEVICE, "merge", points[9].time_ms, points[10].time_ms)
        found, leftover = tracks(points, Settings(split_at_midnight=True), [merge])
        assert (len(found), leftover) == (count, 0)
        assert len(tracks(points, Settings())[0]) == 2
        if count == 1:
            assert [leg.mode for leg in found[0].legs] == ["walk"]  # a day at 0.6 m/s counts for more than two rides


def test_merge_over_a_pause():
    points = [*ride("08:00", 10), *ride("12:09", 10, from_m=5400)]
    assert items(timeline(points, Settings())) == [
        ("T", 0, 9, 10, "start"),
        ("S", 9, 249, 0, "stay"),
        ("T", 249, 258, 10, "stay"),
    ]
    assert items(timeline(points, Settings(), [said("merge", "08:09", "12:09")])) == [("T", 0, 258, 20, "start")]
    # a hop that only touches the interval remains a pause, and a fix that was taken out remains that of the track
    touching = timeline(points, Settings(), [said("merge", "08:05", "08:09")])
    assert items(touching) == items(timeline(points, Settings()))


def test_a_fix_alone_between_two_pauses_can_be_taken_out_of_them():
    points = [fix(at("08:00") + n * 3 * HOUR) for n in range(5)]
    assert items(timeline(points, Settings())) == [("S", 0, 720, 5, "start")]
    line = timeline(points, Settings(), [said("merge", "14:00", "14:00")])
    assert items(line) == [("S", 0, 360, 2, "start"), (".", 360, 360, 1, ""), ("S", 360, 720, 2, "stay")]


def test_a_merge_does_not_join_stays():
    points = [fix(at(when) + n * 5 * MINUTE) for when in ("08:00", "11:00") for n in range(5)]
    assert items(timeline(points, Settings())) == [("S", 0, 200, 10, "start")]
    line = timeline(points, Settings(), [said("merge", "08:21", "10:59")])
    assert items(line) == [("S", 0, 20, 5, "start"), ("T", 20, 180, 0, "stay"), ("S", 180, 200, 5, "stay")]
    # but a still hop remains in its stay if no fix was taken out
    still = timeline(points, Settings(), [said("merge", "08:11", "08:14")])
    assert items(still) == [("S", 0, 200, 10, "start")]


def test_mode_by_hand():
    edits = [said("mode", "08:02", "08:06", "boat"), said("mode", "08:04", "08:05", "walk")]
    (track,) = timeline(ride("08:00", 10, step_m=900), Settings(), edits).tracks
    assert [(leg.mode, (leg.ended_ms - at("08:00")) // MINUTE, leg.confidence, leg.source) for leg in track.legs] == [
        ("train", 2, 70, "rule"),
        ("boat", 4, 100, "hand"),
        ("walk", 5, 100, "hand"),
        ("boat", 6, 100, "hand"),
        ("train", 9, 70, "rule"),
    ]
    assert track.mode == "train"
    (track,) = timeline(ride("08:00", 10, step_m=900), Settings(), edits[::-1]).tracks
    assert [leg.mode for leg in track.legs] == ["train", "boat", "train"]


# Cutting of paths


@pytest.mark.parametrize(
    ("vertices", "pieces"),
    [
        pytest.param([(10, 0), (11, 1)], [[(10, 0), (11, 1)]], id="nothing to cut"),
        pytest.param([(-90, 0), (90, 1)], [[(-90, 0), (90, 1)]], id="exactly half around is not cut"),
        pytest.param(
            [(179, 0), (-179, 2)], [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]], id="eastward, interpolated"
        ),
        pytest.param(
            [(-179, 0), (178, 3)], [[(-179, 0), (-180, 1)], [(180, 1), (178, 3)]], id="westward, interpolated"
        ),
        pytest.param(
            [(179, 0), (-179, 0), (179, 0)],
            [[(179, 0), (180, 0)], [(-180, 0), (-179, 0), (-180, 0)], [(180, 0), (179, 0)]],
            id="there and back",
        ),
        pytest.param(
            [(178, 0), (180, 1), (-179, 2)],
            [[(178, 0), (180, 1)], [(-180, 1), (-179, 2)]],
            id="a vertex on the edge is not doubled",
        ),
        pytest.param(
            [(179, 0), (-180, 1), (-178, 1)],
            [[(179, 0), (180, 1)], [(-180, 1), (-178, 1)]],
            id="a vertex on the other edge is not doubled",
        ),
        pytest.param(
            [(179, 0), (-180, 1)], [[(179, 0), (180, 1)]], id="a piece of a single vertex is dropped at the end"
        ),
        pytest.param(
            [(180, 1), (-179, 2)], [[(-180, 1), (-179, 2)]], id="a piece of a single vertex is dropped at the start"
        ),
        pytest.param(
            [(180, 1), (-180, 2)],
            [[(-180, 1), (-180, 2)]],
            id="along the edge: the crossing sits on the first vertex",
        ),
        pytest.param(
            [(180, 1), (-180, 1)], [[(180, 1), (180, 1)]], id="where no piece is left the line stays on one side"
        ),
        pytest.param(
            [(180, 1), (-180, 1), (180, 1)],
            [[(180, 1), (180, 1), (180, 1)]],
            id="nor does a swing on the spot leave a piece",
        ),
        pytest.param([(10, 0), (10, 0)], [[(10, 0), (10, 0)]], id="real vertices are kept although they are equal"),
    ],
)
def test_cut_path(vertices, pieces):
    assert cut_path(vertices) == tuple(tuple(piece) for piece in pieces)


# Laws


@patient
@given(data=st.data(), case=cases())
def test_order_batches_and_repeats_of_arrival_change_nothing(data, case):
    points, rules = case
    arrived = [point for batch in data.draw(trickles(points)) for point in batch]
    assert tracks(arrived, rules) == tracks(points, rules)


@patient
@given(case=cases())
def test_every_point_is_in_exactly_one_place(case):
    points, rules = case
    line = timeline(points, rules)
    found = line.tracks
    of_items = sum(item.points for item in [*line.tracks, *line.stays])
    assert of_items + len(line.noise) + len(line.leftover) == len(distinct(points))
    assert [(t.user, t.device, t.started_ms) for t in found] == sorted((t.user, t.device, t.started_ms) for t in found)
    assert len(set(ids(found))) == len(found)
    for before, after in pairwise(found):
        if (before.user, before.device) == (after.user, after.device):
            assert before.ended_ms <= after.started_ms


@st.composite
def edited(draw):
    """A history, its settings, and edits at times of its points, or beside them."""
    points, rules = draw(cases())
    made = []
    for _ in range(draw(st.integers(0, 4)) if points else 0):
        ends = draw(st.tuples(st.sampled_from(points), st.sampled_from(points)))
        before_ms, after_ms = sorted(point.time_ms + draw(st.sampled_from([0, 1, -1])) for point in ends)
        kind = draw(st.sampled_from(["merge", "split", "mode"]))
        mode = draw(st.sampled_from(["walk", "boat"])) if kind == "mode" else None
        made.append(Edit(ends[0].user, ends[0].device, kind, before_ms, after_ms, mode))
    return points, rules, made


@patient
@given(case=edited())
def test_whatever_was_said_legs_tile_tracks_and_every_point_is_in_one_place(case):
    points, rules, edits = case
    line = timeline(points, rules, edits)
    of_items = sum(item.points for item in [*line.tracks, *line.stays])
    assert of_items + len(line.noise) + len(line.leftover) == len(distinct(points))
    assert line.noise == timeline(points, rules).noise
    for track in line.tracks:
        ends = [track.started_ms, *(leg.ended_ms for leg in track.legs)]
        assert [leg.started_ms for leg in track.legs] == ends[:-1]
        assert ends[-1] == track.ended_ms
        assert sum(leg.length_mm for leg in track.legs) == track.length_mm
        assert sum(leg.moving_ms for leg in track.legs) == track.moving_ms
        assert all(0 <= leg.confidence <= 100 for leg in track.legs)
        assert track.mode in {leg.mode for leg in track.legs}
    trails = {(one.user, one.device) for one in [*line.tracks, *line.stays]}
    for trail in trails:
        both = [one for one in [*line.tracks, *line.stays] if (one.user, one.device) == trail]
        both.sort(key=lambda one: (one.started_ms, one.ended_ms))
        assert all(before.ended_ms <= after.started_ms for before, after in pairwise(both))


@patient
@given(case=cases())
def test_users_and_devices_do_not_touch_each_other(case):
    points, rules = case
    alone = []
    for trail in sorted({(point.user, point.device) for point in points}):
        alone += tracks([point for point in points if (point.user, point.device) == trail], rules)[0]
    assert tracks(points, rules)[0] == alone


@patient
@given(points=histories(), rules=settings())
def test_paths_never_cross_the_map(points, rules):
    for track in tracks(points, rules)[0]:
        for piece in track.path:
            assert len(piece) >= 2
            whole = len(track.path) == 1 and len(piece) == track.points
            assert whole or all(abs(b[0] - a[0]) <= 180 for a, b in pairwise(piece))


# The strategies


@patient
@given(points=histories(max_points=30))
def test_histories_hold_fixes_that_are_valid(points):
    assert len(points) <= 30
    for point in points:
        assert -180 <= point.lon <= 180
        assert -90 <= point.lat <= 90
        assert (point.lon, point.lat) != (0, 0)
        assert "-0.0" not in (repr(point.lon), repr(point.lat))


@patient
@given(data=st.data(), days=st.sets(st.integers(0, 50)).map(sorted))
def test_groupings_are_contiguous_and_complete(data, days):
    ranges = data.draw(groupings(days))
    assert sorted({day for chunk in ranges for day in chunk}) == days
    for chunk in ranges:
        first = days.index(chunk[0])
        assert chunk == days[first : first + len(chunk)]


@patient
@given(data=st.data(), points=histories(max_points=20))
def test_trickles_bring_every_point(data, points):
    batches = data.draw(trickles(points))
    assert all(batches)
    assert {*joined(batches)} == {*points}
    assert sum(map(len, batches)) >= len(points)


def test_days_are_those_of_the_clock():
    assert at("2 00:00") % DAY_MS == 0
    assert at("1 23:59:59.999") == at("2 00:00") - 1
