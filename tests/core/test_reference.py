"""Is the reference right? The scenarios with a known answer, the cutting of paths, and the one law itself."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from itertools import accumulate, pairwise

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.reference import Point, Track, cut_path, distinct, half_away, link_mm, speed_kmh, timeline, tracks
from tests.scenarios import (
    ARRIVALS,
    BREAKS_ALONE,
    SCENARIOS,
    TWO_DEVICES,
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

patient = hypothesis.settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


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
    (track,), _ = tracks(braided, Settings(**BREAKS_ALONE, max_speed_kmh=100_000))
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
    points = [point._replace(user=user) for user in ("anna", "bob") for point in pairs(gap_ms=20 * 60_000)]
    found, leftover = tracks(points, {"bob": Settings(minutes_between_routes=10)})
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
    (track,), _ = tracks(points, Settings())
    # in cm: 10000, 9988 (9987.5), 10013 (10012.5), -13 (-12.5)
    assert track.elevation_gain_cm == 25
    assert track.elevation_loss_cm == 12 + 10_026
    assert (track.elevation_min_cm, track.elevation_max_cm) == (-13, 10_013)


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
        "path": ((place(0), place(600), place(1200)),),
    }


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
