"""Edits by hand: what they make of tracks, that they last, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import world
from tests.core.test_stays import assert_sound
from tests.scenarios import DAY, HOUR, MINUTE, Point, at, fix, ride
from trackgen_core.editing import EditError, merge, set_mode, split, undo
from trackgen_core.store import Store

HOME = [fix(at("08:30") + n * MINUTE, 27_000) for n in range(1, 60)]
THERE = ride("08:00", 31, step_m=900)
BACK = ride("09:30", 31, step_m=-900, from_m=27_000)
OUT_AND_BACK = [*THERE, *HOME, *BACK]


def made(tmp_path: Path, points: list[Point]) -> Store:
    store = world.open_store(tmp_path)
    world.add(store, points)
    world.generate(store)
    return store


def ids(store: Store) -> list[str]:
    return [track.track_id for track in world.tracks(store)]


def everything(store: Store) -> list[list[tuple[object, ...]]]:
    return [world.rows(store, name) for name in world.RESULTS]


def assert_it_lasts(store: Store) -> None:
    """Making everything again changes nothing, and the checks find nothing."""
    before = everything(store)
    world.generate(store, [at("00:00") // DAY - 1, at("00:00") // DAY + 3])
    assert everything(store) == before
    assert_sound(store)


def test_a_split_loses_no_metre_and_can_be_undone(tmp_path: Path) -> None:
    store = made(tmp_path, THERE)
    before = everything(store)
    (whole,) = world.tracks(store)
    number = split(store, whole.track_id[:8], at("08:10") + 1)
    world.generate(store)
    one, other = world.tracks(store)
    assert (one.ended_ms, other.started_ms) == (at("08:10"), at("08:10"))
    assert one.length_mm + other.length_mm == whole.length_mm
    assert one.points + other.points == whole.points
    assert (one.track_id, other.break_reason) == (whole.track_id, "split")
    assert_it_lasts(store)

    world.add(store, [fix(at("08:10") + 30_000, 9_450)])  # late, after the split
    world.generate(store)
    one, other = world.tracks(store)
    assert (one.ended_ms, other.points) == (at("08:10"), 21)
    world.delete(store, [fix(at("08:10") + 30_000, 9_450)])

    undo(store, number)
    world.generate(store)
    assert everything(store) == before


def test_a_merge_over_a_stay_makes_one_journey(tmp_path: Path) -> None:
    store = made(tmp_path, OUT_AND_BACK)
    before = everything(store)
    assert (len(ids(store)), len(world.stays(store))) == (2, 1)
    number = merge(store, *reversed(ids(store)))
    world.generate(store)
    (track,) = world.tracks(store)
    assert (track.points, track.length_mm, world.stays(store)) == (len(OUT_AND_BACK), 54_000_000, [])
    assert [leg.mode for leg in track.legs] == ["train", "stationary", "train"]
    assert_it_lasts(store)
    undo(store, number)
    world.generate(store)
    assert everything(store) == before


def test_a_merge_over_a_gap_covers_what_arrives_later(tmp_path: Path) -> None:
    late = [fix(at("09:00") + n * 10 * MINUTE, 27_000 + n * 5_000) for n in range(3)]
    store = made(tmp_path, [*THERE, *ride("10:00", 31, step_m=900, from_m=60_000)])
    merge(store, *ids(store))
    world.generate(store)
    assert [track.points for track in world.tracks(store)] == [62]
    assert_it_lasts(store)
    world.add(store, late)
    world.generate(store)
    assert [track.points for track in world.tracks(store)] == [65]
    assert_it_lasts(store)


def test_a_merge_over_midnight(tmp_path: Path) -> None:
    store = made(tmp_path, ride("23:00", 121, step_m=900))
    store.set_settings("anna", {"split_at_midnight": True})
    world.generate(store)
    assert len(ids(store)) == 2
    merge(store, *ids(store))
    world.generate(store)
    (track,) = world.tracks(store)
    assert track.length_mm == 108_000_000
    assert_it_lasts(store)


def test_a_split_at_a_seam_of_days_touches_no_segment(tmp_path: Path) -> None:
    store = made(tmp_path, ride("23:30", 61, step_m=900))
    segments = world.rows(store, "segments")
    split(store, ids(store)[0], at("2 00:00") - 1)
    world.generate(store)
    assert [track.points for track in world.tracks(store)] == [30, 31]
    assert world.rows(store, "segments") == segments
    assert_it_lasts(store)


def test_modes_of_a_leg_and_of_a_track(tmp_path: Path) -> None:
    store = made(tmp_path, [*THERE, *[fix(at("08:30") + n * MINUTE, 27_000 + n * 80) for n in range(1, 40)]])
    (track,) = world.tracks(store)
    assert [leg.mode for leg in track.legs] == ["train", "walk"]
    set_mode(store, track.track_id, "run", at("09:00"))
    world.generate(store)
    assert [(leg.mode, leg.source) for leg in world.tracks(store)[0].legs] == [("train", "rule"), ("run", "hand")]
    number = set_mode(store, track.track_id, "boat")
    world.generate(store)
    (track,) = world.tracks(store)
    assert [(leg.mode, leg.confidence, leg.source) for leg in track.legs] == [("boat", 100, "hand")]
    assert track.mode == "boat"
    assert_it_lasts(store)
    undo(store, number)
    world.generate(store)
    assert [leg.mode for leg in world.tracks(store)[0].legs] == ["train", "run"]
    assert store.list_edits()["kind"].tolist() == ["mode"]


def test_what_cannot_be(tmp_path: Path) -> None:
    far = ride("3 12:00", 31, step_m=900, from_m=60_000)
    store = made(tmp_path, [*THERE, *far])
    one, other = ids(store)
    for refused, why in (
        (lambda: split(store, one, at("08:30")), "is not inside the track"),
        (lambda: split(store, one, at("08:00") - 1), "is not inside the track"),
        (lambda: split(store, "nothing", at("08:10")), "no track begins with 'nothing'"),
        (lambda: split(store, "", at("08:10")), "2 tracks begin with ''"),
        (lambda: split(store, "%", at("08:10")), "no track begins with '%'"),
        (lambda: merge(store, one, one), "two tracks of one device"),
        (lambda: merge(store, one, other), "nothing was recorded for 51.5 h"),
        (lambda: set_mode(store, one, "rocket"), "there is no mode 'rocket'; there are: stationary"),
        (lambda: set_mode(store, one, "walk", at("08:00") - HOUR), "is not inside the track"),
        (lambda: undo(store, 7), "there is no edit 7"),
    ):
        with pytest.raises(EditError, match=why):
            refused()
    assert world.dirty(store) == 0
    number = split(store, one, at("08:10"))
    world.generate(store)
    one, other, _ = ids(store)
    with pytest.raises(EditError, match="split by hand"):
        merge(store, one, other)
    undo(store, number)
    world.generate(store)
    split(store, ids(store)[0], at("08:20"))
    assert store.list_edits()["edit_id"].tolist() == [number + 1]  # a number is given once
