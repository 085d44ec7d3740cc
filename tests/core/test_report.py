"""A track explained and drawn, and a month summed up."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests import reference, strategies, world
from tests.effort import examples
from trackgen_core.breaks import BREAK_REASONS
from trackgen_core.editing import EditError, find_track
from trackgen_core.points import day_date, day_number
from trackgen_core.report import report
from trackgen_core.segmentation import local_days
from trackgen_core.settings import Settings
from trackgen_core.store import UnknownUser
from trackgen_core.terminal import BRAILLE, DOT_BITS, outline, profile
from trackgen_core.timeline import timeline, why

slow = hypothesis_settings(max_examples=examples(4), deadline=None, suppress_health_check=list(HealthCheck))


@slow
@given(strategies.lives(), strategies.settings_of_rest())
def test_reasons_are_those_of_the_time_line_and_a_report_adds_up(points, rules: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        store.set_settings("anna", rules.model_dump())
        world.add(store, points)
        world.generate(store)
        line = timeline(store, None, *world.ALL_DAYS).to_dict("records")
        tracks = {(track.device, track.started_ms, track.ended_ms): track for track in world.tracks(store)}
        for n, row in enumerate(line):
            if row["kind"] != "track":
                continue
            track = tracks[row["device"], row["started_ms"], row["ended_ms"]]
            with store.read() as connection:
                began, ended = why(store, connection, find_track(store, connection, track.track_id), rules)
            same_device = [other for other in line[n + 1 :] if other["device"] == row["device"]]
            assert began == ("first fix of this device" if track.break_reason == "start" else row["reason"])
            assert ended == (same_device[0]["reason"] if same_device else "nothing was recorded after it")

        expected = reference.timeline(points, rules).tracks
        whole = report(store, "anna", *world.ALL_DAYS)
        assert whole["totals"]["tracks"] == sum(day["tracks"] for day in whole["days"]) == len(expected)
        for sums in ([whole["totals"]], whole["days"], whole["modes"].values()):
            assert round(sum(one["distance_m"] for one in sums) * 1000) == sum(track.length_mm for track in expected)
            assert round(sum(one["duration_s"] for one in sums) * 1000) == sum(
                leg.ended_ms - leg.started_ms for track in expected for leg in track.legs
            )
        for day in whole["days"]:
            assert round(sum(mode["distance_m"] for mode in day["modes"].values()) * 1000) == round(
                day["distance_m"] * 1000
            )
            number = day_number(pd.Timestamp(day["day"]).date())
            local = [local_days(np.array([track.started_ms]), rules.timezone)[0] for track in expected]
            assert day["tracks"] == local.count(number)
            alone = report(store, "anna", number, number)
            assert alone["days"] == [day]
        longest = max((track.length_mm for track in expected), default=None)
        assert longest == (whole["longest"] and round(whole["longest"]["distance_m"] * 1000))
        heights = [track.elevation_max_cm for track in expected if track.elevation_max_cm is not None]
        assert max(heights, default=None) == (whole["highest"] and round(whole["highest"]["elevation_max_m"] * 100))
        speeds = [track.length_mm / track.moving_ms * 3.6 for track in expected if track.moving_ms]
        assert (whole["fastest"] is None) == (not speeds)
        if speeds:
            assert whole["fastest"]["moving_speed_kmh"] == round(max(speeds), 3)


def test_what_is_not_there(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    store.set_settings("anna", {})
    empty = report(store, "anna", 20_000, 20_030)
    assert (empty["days"], empty["modes"], empty["longest"]) == ([], {}, None)
    assert (empty["start"], empty["end"]) == (str(day_date(20_000)), str(day_date(20_030)))
    with pytest.raises(UnknownUser, match="eve"):
        report(store, "eve", 20_000, 20_030)
    with store.read() as connection, pytest.raises(EditError, match="no track begins with 'ffff'"):
        find_track(store, connection, "ffff")
    assert BREAK_REASONS[0] == ""


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """The dots of a drawing, by row and column; letters are none."""
    return {
        (4 * row + y, 2 * column + x)
        for row, line in enumerate(lines)
        for column, character in enumerate(line)
        for y in range(4)
        for x in range(2)
        if ord(character) >= BRAILLE and (ord(character) - BRAILLE) & DOT_BITS[y, x]
    }


def test_an_outline_shows_the_way() -> None:
    lines = outline(np.array([8.0, 8.0, 8.1]), np.array([0.1, 0.0, 0.0]), 40, 10)
    assert len(lines) == 10
    assert lines[0] == "A"
    assert lines[-1][-1] == "B"
    assert lines[-1].index("B") == 19  # as wide as high: ten lines are as high as twenty characters are wide
    assert dots(lines) == {(y, 0) for y in range(4, 40)} | {(39, x) for x in range(38)}
    assert outline(np.array([8.0, 8.0]), np.array([47.0, 47.0]), 40, 10) == ["A"]
    lines = outline(np.array([179.9, -179.9]), np.array([0.0, 0.0]), 40, 10)
    assert lines == ["A" + "⠉" * 38 + "B"]


@given(
    st.lists(st.tuples(st.floats(-180, 180), st.floats(-89, 89)), min_size=1, max_size=20),
    st.integers(2, 80),
    st.integers(1, 20),
)
@hypothesis_settings(max_examples=examples(40), deadline=None)
def test_an_outline_keeps_within_its_bounds(places, columns: int, rows: int) -> None:
    lon, lat = np.array(places).T
    lines = outline(lon, lat, columns, rows)
    assert 1 <= len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert "A" in "".join(lines)


def test_a_profile_shows_heights() -> None:
    assert profile(np.array([0.0, 5.2, 10.0, np.nan]), 2) == [" ▁█ ", "▁██ "]
    assert profile(np.array([3.0, 3.0]), 2) == ["  ", "▁▁"]
