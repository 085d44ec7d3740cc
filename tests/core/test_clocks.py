"""Clocks that jump inside a file are named, whatever its batches, and files that are only out of order are not."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import world
from trackgen_core.clocks import ROLLOVER_MS, ClockWatch
from trackgen_core.importing import FileReport, import_paths
from trackgen_core.points import REFUSED
from trackgen_core.readers import columns
from trackgen_core.store import Store

T0 = 1_760_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
SET_BACK = "a time that came before: the clock was set back by {:g} h"


def walk(minutes: int, every_s: int = 30, start_ms: int = T0) -> pd.DataFrame:
    """Somebody who goes east at 1.3 m/s."""
    seconds = np.arange(0, minutes * 60 + 1, every_s)
    return pd.DataFrame({"time_ms": start_ms + 1000 * seconds, "lon": 8.5 + seconds * 1.3 / 76_000, "lat": 47.1})


def bring(folder: Path, rows: pd.DataFrame, **options: int) -> tuple[FileReport, Store]:
    store, path = world.open_store(folder), folder / "file.csv"
    rows.rename(columns={"time_ms": "timestamp"}).to_csv(path, index=False)
    (report,) = import_paths(store, [path], user="anna", **options).files
    assert report.error is None
    world.generate(store)
    return report, store


@pytest.mark.parametrize("batch", [40, 50_000])
@pytest.mark.parametrize("hours", [0.5, 1, 3])
def test_an_hour_that_comes_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, hours: float
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", batch)
    rows = walk(480)
    late = rows["time_ms"] > T0 + 4 * HOUR
    rows.loc[late, "time_ms"] -= int(hours * HOUR)
    report, store = bring(tmp_path, rows)
    assert report.reasons == {SET_BACK.format(hours): hours * 120}
    # The way over what was refused is a pause, which has no length; a long one ends the track.
    lengths = [track.length_mm for track in world.tracks(store)]
    assert sum(lengths) == pytest.approx((8 - hours) * 3600 * 1300, rel=0.005)
    assert len(lengths) == 1 if hours < 3 else len(lengths) <= 2


def test_a_walk_on_after_an_hour_that_came_twice(tmp_path: Path) -> None:
    """In autumn, local time is written as UTC: the recording ends within the hour that comes twice."""
    rows = walk(120)
    rows.loc[rows["time_ms"] >= T0 + HOUR, "time_ms"] -= HOUR
    report, store = bring(tmp_path, rows)
    assert report.reasons == {SET_BACK.format(1): 120}  # the first of them comes at the very first instant
    (track,) = world.tracks(store)
    assert track.length_mm == pytest.approx(3600 * 1300, rel=0.02)


@pytest.mark.parametrize("batch", [10, 50_000])
def test_a_week_rollover_inside_a_file_is_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", batch)
    rows = walk(60)
    behind = (rows["time_ms"] > T0 + 20 * MINUTE) & (rows["time_ms"] < T0 + 40 * MINUTE)
    report, store = bring(tmp_path / "one", rows.assign(time_ms=rows["time_ms"] - ROLLOVER_MS * behind))
    assert report.notes == [
        "39 rows 1,024 weeks behind those before: the receiver's week number rolled over; this was put right"
    ]
    _, right = bring(tmp_path / "other", rows)
    assert world.tracks(store) == world.tracks(right)
    assert report.read == report.new == len(rows)


def test_a_file_that_is_behind_as_a_whole_is_named_and_mended_when_told_to(tmp_path: Path) -> None:
    rows = walk(60)
    report, store = bring(tmp_path / "one", rows.assign(time_ms=rows["time_ms"] - ROLLOVER_MS))
    assert report.notes == [
        "it ends on 2006-02-23; if it was recorded until 2025-10-09, the receiver's week number rolled over: "
        "import it with --add-weeks 1024"
    ]
    report, store = bring(tmp_path / "two", rows.assign(time_ms=rows["time_ms"] - ROLLOVER_MS), add_weeks=1024)
    assert report.notes == []
    _, right = bring(tmp_path / "three", rows)
    assert world.tracks(store) == world.tracks(right)


def test_files_that_are_out_of_order_are_kept(tmp_path: Path) -> None:
    morning, noon = walk(90), walk(90, start_ms=T0 + 5 * HOUR)
    there_and_back = pd.concat([walk(60), walk(60, start_ms=T0 + HOUR)[::-1]])
    elsewhere = walk(60, start_ms=T0 + 30 * MINUTE + 15_000).assign(lat=48.0)
    for number, rows in enumerate(
        [pd.concat([noon, morning]), morning[::-1], there_and_back, pd.concat([walk(60), elsewhere])]
    ):
        report, _ = bring(tmp_path / str(number), rows)
        assert (report.reasons, report.notes) == (Counter(), [])


def test_each_device_has_a_clock_of_its_own(tmp_path: Path) -> None:
    watch, phone = walk(60).assign(device="watch"), walk(60, start_ms=T0 + 15_000).assign(device="phone")
    phone.loc[phone["time_ms"] > T0 + 40 * MINUTE, "time_ms"] -= 30 * MINUTE
    both = pd.concat([watch, phone]).sort_index(kind="stable").reset_index(drop=True)
    report, _ = bring(tmp_path, both)
    assert report.reasons == {SET_BACK.format(0.5): 41}


@given(st.lists(st.integers(1, 121), max_size=6), st.integers(1, 120), st.sampled_from([HOUR, ROLLOVER_MS, 2 * HOUR]))
def test_batches_do_not_matter(cuts: list[int], first: int, back_ms: int) -> None:
    rows = walk(120, 60).assign(user="", device="")
    rows.loc[first:, "time_ms"] -= back_ms
    rows.loc[first + 30 :, "time_ms"] += back_ms
    whole = ClockWatch().watch(rows)
    watch = ClockWatch()
    bounds = [0, *sorted(cuts), len(rows)]
    parts = pd.concat([watch.watch(rows[a:b]) for a, b in pairwise(bounds) if a < b])
    assert parts["time_ms"].tolist() == whole["time_ms"].tolist()
    refused = [frame[REFUSED].fillna("").tolist() if REFUSED in frame else [""] * len(rows) for frame in (whole, parts)]
    assert refused[0] == refused[1]
