"""Requests: the runs that a work list asks for see to all of it, and to what nothing else sees to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from trackgen_dagster.partitions import DAYS_PER_RUN
from trackgen_dagster.requests import MOST_RANGES, Cover, DayRange, Request, group, uncovered, wanted

COLUMNS = ["stage", "user", "day", "version", "listed_ms"]
USERS = ("anna", "bob", "zoë")
FIRST = 19_000
NOW_MS = 1_700_000_000_000

# Most days lie close together, some far away: ranges, gaps in them, and ranges longer than a run.
DAYS = st.integers(0, 30) | st.sampled_from([365, 366, 367, 800]) | st.integers(0, 5_000)


@st.composite
def works(draw: st.DrawFn) -> pd.DataFrame:
    keys = st.tuples(st.sampled_from(["segments", "tracks"]), st.sampled_from(USERS), DAYS.map(FIRST.__add__))
    rows = draw(st.lists(keys, unique=True, max_size=40))
    listed = [NOW_MS - draw(st.integers(0, 1_000)) for _ in rows]
    versions = [(one + draw(st.integers(0, 1_000)) << 20) + draw(st.integers(0, 9)) for one in listed]
    full = [(*row, version, one) for row, version, one in zip(rows, versions, listed, strict=True)]
    return pd.DataFrame(full, columns=COLUMNS).astype({"day": "int64", "version": "int64", "listed_ms": "int64"})


def day_ranges() -> st.SearchStrategy[DayRange]:
    return st.tuples(DAYS, DAYS).map(lambda days: DayRange(FIRST + min(days), FIRST + max(days)))


covers = st.builds(
    Cover,
    day_ranges(),
    st.none() | st.frozensets(st.sampled_from([*USERS, "somebody else"])),
    st.none() | st.integers(NOW_MS - 1_000, NOW_MS + 1_000),
)


def holds(days: DayRange, day: int) -> bool:
    return days.lo_day <= day <= days.hi_day


def consecutive(days: Sequence[int]) -> list[list[int]]:
    """The ranges of days without a gap."""
    ranges: list[list[int]] = []
    for day in sorted(set(days)):
        if ranges and day == ranges[-1][-1] + 1:
            ranges[-1].append(day)
        else:
            ranges.append([day])
    return ranges


@given(works(), st.integers(1, MOST_RANGES))
def test_every_row_is_in_exactly_one_request(work: pd.DataFrame, most: int) -> None:
    requests = wanted(work, most=most)
    for row in work.itertuples():
        (request,) = (one for one in requests if holds(one.days, row.day))
        assert row.user in request.users
        assert request.listed_ms <= row.listed_ms
        assert request.version >= row.version
    assert [one.listed_ms for one in requests] == sorted(one.listed_ms for one in requests)
    # Nobody is asked for without work, and no run begins or ends with a day without work.
    for request in requests:
        rows = work[work["day"].between(*request.days)]
        assert request.users == tuple(sorted(set(rows["user"])))
        assert request.days == (rows["day"].min(), rows["day"].max())
        assert request.days.hi_day - request.days.lo_day < DAYS_PER_RUN


@given(works())
def test_ranges_without_gaps_are_the_requests(work: pd.DataFrame) -> None:
    ranges = consecutive(work["day"].tolist())
    requests = wanted(work, most=max(1, len(ranges)))
    assert sorted(one.days for one in requests) == [(days[0], days[-1]) for days in ranges]


@given(st.lists(DAYS), st.integers(1, MOST_RANGES))
def test_of_too_many_ranges_the_closest_are_joined(days: list[int], most: int) -> None:
    ranges = consecutive(days)
    found = group(days, most)
    assert len(found) == min(most, len(ranges))
    gaps = [
        (after[0] - before[-1], any(holds(one, before[-1] + 1) for one in found)) for before, after in pairwise(ranges)
    ]
    bridged, kept = ([gap for gap, is_bridged in gaps if is_bridged is which] for which in (True, False))
    assert max(bridged, default=0) <= min(kept, default=5_000)
    assert len(kept) == max(0, len(found) - 1)


@given(works(), st.lists(covers, max_size=3))
def test_what_is_seen_to_is_not_asked_for_and_all_else_is(work: pd.DataFrame, under_way: list[Cover]) -> None:
    def is_seen_to(user: str, day: int, version: int) -> bool:
        return any(
            holds(cover.days, day)
            and (cover.users is None or user in cover.users)
            and (cover.asked_ms is None or version >> 20 <= cover.asked_ms)
            for cover in under_way
        )

    left = set(uncovered(work, under_way).itertuples(index=False, name=None))
    for row in work.itertuples(index=False, name=None):
        assert (row in left) is not is_seen_to(row[1], row[2], row[3])


def keys(work: pd.DataFrame) -> dict[DayRange, str]:
    return {request.days: request.key for request in wanted(work)}


@given(works(), st.data())
def test_equal_work_has_equal_keys_and_a_later_change_other_ones(work: pd.DataFrame, data: st.DataObject) -> None:
    before = keys(work)
    assert keys(work.sample(frac=1, random_state=1)) == before
    if len(work):
        row = data.draw(st.sampled_from(work.index.tolist()))
        work.loc[row, "version"] = work["version"].max() + 1
        changed = {days for days, key in keys(work).items() if before[days] != key}
        assert changed == {days for days in before if holds(days, work.loc[row, "day"])}


def test_days_and_users_are_in_the_key() -> None:
    requests = [Request(DayRange(1, hi), users, version=7) for hi in (1, 2) for users in ((), ("anna",), ("bob",))]
    assert len({request.key for request in requests}) == len(requests)
