"""The work: windows of days, from points to segments and from segments to tracks.

`plan` turns the work list into windows, `make_segments` and `make_tracks` do one window each, in transactions of
their own. Every way to run Trackgen goes through these three.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from trackgen_core import merging
from trackgen_core.breaks import BREAK_REASONS, LONGEST_LINK_MS, NO_BREAK
from trackgen_core.digests import mixed, text_words
from trackgen_core.dwelling import JOIN_MS
from trackgen_core.geodesy import IntArray
from trackgen_core.merging import find_chains, is_track
from trackgen_core.points import MS_PER_DAY
from trackgen_core.seams import Seams, connect
from trackgen_core.segmentation import days_between, empty_segments, segment
from trackgen_core.settings import Settings
from trackgen_core.store import ITEM_DAY_DTYPES, KEY_DTYPES, NOISE_DTYPES, SPAN_DTYPES, Stage, Store, signatures

DAYS_PER_WINDOW: Final = 32
"""Days that are done together where nobody has counted their points."""

POINTS_PER_WINDOW: Final[Mapping[Stage, int]] = {"segments": 200_000, "tracks": 500_000}
"""Points that are done together where they were counted: many enough for a window's own time not to matter (that of
tracks is four times that of segments), few enough for memory, and for several workers to have something to do."""

USER_DAYS_PER_WINDOW: Final = 2_000
"""Days times users of a window; with a fix every 30 s a day has 2 880."""

FILL: Final = 0.5
"""A window is a rectangle of days and users; it is widened while at least this share of it is work."""

NEIGHBOURS_MS: Final = LONGEST_LINK_MS + JOIN_MS
"""How far away what happens may decide whether something belongs to a stay."""

INTERVAL: Final = ("device_id", "started_ms", "ended_ms")
COMPARED: Final = (*INTERVAL, "is_stay", "digest", "settings_id", "break_reason")
"""What tells a chain from what is stored of it."""

PATH_POINTS_AT_ONCE: Final = 1_000_000
"""Vertices of paths held at once while tracks are made; a single track is never cut."""


@dataclass(frozen=True, order=True)
class Window:
    """Some days, inclusive, of some users."""

    lo_day: int
    hi_day: int
    user_ids: tuple[int, ...]

    @property
    def days(self) -> int:
        """How many days the window has."""
        return self.hi_day - self.lo_day + 1

    @property
    def range(self) -> range:
        """The days of the window."""
        return range(self.lo_day, self.hi_day + 1)

    @property
    def user_days(self) -> int:
        """How many days of users the window has."""
        return self.days * len(self.user_ids)

    def halves(self) -> tuple[Window, Window]:
        """Cut the window in two: between users if it has several, otherwise between days."""
        if half := len(self.user_ids) // 2:
            return replace(self, user_ids=self.user_ids[:half]), replace(self, user_ids=self.user_ids[half:])
        middle = (self.lo_day + self.hi_day) // 2
        return replace(self, hi_day=middle), replace(self, lo_day=middle + 1)


@dataclass(frozen=True)
class WindowResult:
    """What it took to do a window."""

    window: Window
    points: int
    """Points that were read, or that the rebuilt chains hold."""
    seconds: float
    peak_memory_mb: float
    """The most memory the process has held so far."""


def plan_work(
    store: Store, stage: Stage, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
) -> list[Window]:
    """Cut what is listed from `lo_day` to `hi_day` and no dead letter into windows."""
    with store.read() as connection:
        work = store.dirty(connection, stage, lo_day, hi_day, user_ids, dead=False)
        if len(work) <= DAYS_PER_WINDOW:
            return plan(work, stage=stage)
        count = store.estimate_points if stage == "segments" else store.count_segment_points
        return plan(work, count(connection, int(work["day"].min()), int(work["day"].max()), user_ids), stage)


def plan(work: pd.DataFrame, points_of_day: Mapping[int, int] | None = None, stage: Stage = "segments") -> list[Window]:
    """Cut the work list into windows.

    Parameters
    ----------
    work : DataFrame
        `user_id` and `day`, distinct pairs in the order of days.
    points_of_day : mapping of int to int, optional
        About how many points there are on each day.
    stage : {"segments", "tracks"}
        What is to be made.

    Returns
    -------
    list of Window
        Windows that do not overlap and hold all the work, in the order of days.
    """
    users_of_day: dict[int, set[int]] = {}
    for user_id, day in zip(work["user_id"].tolist(), work["day"].tolist(), strict=True):
        users_of_day.setdefault(day, set()).add(user_id)

    windows: list[Window] = []
    held: list[int] = []
    together: set[int] = set()
    filled = counted = 0  # user-days, and points, of the days held
    most_points = POINTS_PER_WINDOW[stage]

    def points(days: int, counted: int) -> int:
        return days * most_points // DAYS_PER_WINDOW if points_of_day is None else counted

    def close() -> None:
        if held:
            ids, days = sorted(together), held[-1] - held[0] + 1
            most = len(ids) * most_points // (points(days, counted) or 1)
            step = max(1, min(USER_DAYS_PER_WINDOW // days, most))
            windows.extend(Window(held[0], held[-1], tuple(ids[i : i + step])) for i in range(0, len(ids), step))

    for day in sorted(users_of_day):
        users, here = users_of_day[day], (points_of_day or {}).get(day, 0)
        wider = together | users
        days = day - held[0] + 1 if held else 1
        area = days * len(wider)
        too_many = points(days, counted + here) > most_points
        if too_many or area > USER_DAYS_PER_WINDOW or filled + len(users) < FILL * area:
            close()
            held, together, filled, counted = [], set(users), 0, 0
        else:
            together = wider
        held.append(day)
        filled += len(users)
        counted += here
    close()
    return windows


def make_segments(store: Store, window: Window) -> WindowResult:
    """Make the segments of the listed days of a window, and take these days off the work list.

    Days of the window that are not listed, or only as dead letters, are left as they are.
    """
    started = time.perf_counter()
    with store.read() as connection:
        claimed = store.dirty(connection, "segments", window.lo_day, window.hi_day, window.user_ids, dead=False)
    if claimed.empty:
        return WindowResult(window, 0, time.perf_counter() - started, peak_memory_mb())
    with store.read() as connection:
        settings_of = store.settings_of(connection, window.user_ids)
        user_of = user_by_device(store.devices(connection, window.user_ids))
        edits = store.edits(connection, window.user_ids)
        made = [
            segment(part, settings, edits)
            for batch in store.read_points(connection, window.lo_day, window.hi_day, window.user_ids)
            for settings, part in by_settings(batch, user_of, settings_of)
        ]
    segments = pd.concat([one.segments for one in made], ignore_index=True) if made else empty_segments()
    noise = pd.concat([one.noise for one in made], ignore_index=True) if made else pd.DataFrame(columns=[*NOISE_DTYPES])
    with store.write(window.user_ids) as connection:
        store.note_settings(connection, set(settings_of.values()))
        store.replace_segments(connection, segments, noise.astype(NOISE_DTYPES), user_of, claimed)

    points = int(segments["points"].sum()) + len(noise)
    return WindowResult(window, points, time.perf_counter() - started, peak_memory_mb())


def make_tracks(store: Store, window: Window) -> WindowResult:
    """Rebuild every chain that touches a window, and take its days off the work list.

    Chains are followed outward as far as they go; tracks that did not change are not written. They are made before the
    transaction that writes them, so that others can write meanwhile, and once more inside it if they did write what
    these are made of. So two runs can do this at once. Without a listed day that is no dead letter, there is nothing to
    do.
    """
    started = time.perf_counter()
    with store.read() as connection:
        rebuilt = _rebuild(store, connection, window)
    if rebuilt is None:
        return WindowResult(window, 0, time.perf_counter() - started, peak_memory_mb())
    with store.write(window.user_ids) as connection:
        if rebuilt.chains.made_of != _read_again(store, connection, window, rebuilt.chains.spans):
            rebuilt = _rebuild(store, connection, window)
        if rebuilt:
            chains = rebuilt.chains
            gone = [*chains.gone_tracks, *chains.gone_stays]
            store.replace_items(connection, gone, rebuilt.tracks, rebuilt.stays, rebuilt.days)
            store.clear(connection, "tracks", rebuilt.seen)
    points = int(rebuilt.chains.heads["points"].sum()) if rebuilt else 0
    return WindowResult(window, points, time.perf_counter() - started, peak_memory_mb())


class Rebuilt(NamedTuple):
    """What becomes of a window's listed days."""

    seen: pd.DataFrame
    """These days, as `Store.dirty` returned them."""
    chains: Chains
    tracks: list[tuple[pd.DataFrame, pd.DataFrame]]
    stays: pd.DataFrame
    days: pd.DataFrame


def _rebuild(store: Store, connection: Connection, window: Window) -> Rebuilt | None:
    seen = store.dirty(connection, "tracks", window.lo_day, window.hi_day, window.user_ids, dead=False)
    if seen.empty:
        return None
    chains = compare_chains(store, connection, window)
    tracks = list(_tracks_of(store, connection, chains))
    stays = merging.make_stays(chains.to_make, chains.devices)
    return Rebuilt(seen, chains, tracks, stays, _days_of(chains, [track["track_id"] for track, _ in tracks], stays))


class MadeOf(NamedTuple):
    """What tells whether the chains of a window would be the same once more."""

    segments: dict[Hashable, int]
    edits: dict[str, list[Any]]
    settings_of: dict[int, Settings]


def _made_of(keys: pd.DataFrame, edits: pd.DataFrame, settings_of: dict[int, Settings]) -> MadeOf:
    return MadeOf(signatures(keys).to_dict(), {str(name): edits[name].tolist() for name in edits}, settings_of)


def _read_again(store: Store, connection: Connection, window: Window, spans: pd.DataFrame) -> MadeOf:
    keys = store.segment_keys(connection, spans)
    return _made_of(keys, store.edits(connection, window.user_ids), store.settings_of(connection, window.user_ids))


class Chains(NamedTuple):
    """The chains that touch a window, beside the tracks and stays that are stored of them."""

    heads: pd.DataFrame
    """Their segments, without paths, with the fields of the seam before each (`seams.Seams`), and `chain`."""
    to_make: pd.DataFrame
    """The chains of which nothing, or something else, is stored, as `find_chains` makes them, by `chain`."""
    gone_tracks: list[str]
    """Ids of stored tracks that are no chain any more."""
    gone_stays: list[str]
    devices: pd.DataFrame
    settings_of: dict[int, Settings]
    made_of: MadeOf
    spans: pd.DataFrame
    """Where segments were looked at: the columns of `store.SPAN_DTYPES`."""


def compare_chains(store: Store, connection: Connection, window: Window) -> Chains:
    """Compare the chains that touch a window, followed outward as far as they go, with what is stored."""
    settings_of = store.settings_of(connection, window.user_ids)
    devices = store.devices(connection, window.user_ids)
    start_ms, end_ms = window.lo_day * MS_PER_DAY, (window.hi_day + 1) * MS_PER_DAY
    # Whether the last fix before the window is a stay's or a track's may depend on the window's first; and what starts
    # soon after the window may owe its break reason to the window's last.
    spans = _spans(devices, start_ms - NEIGHBOURS_MS, end_ms - 1 + NEIGHBOURS_MS)
    edits = store.edits(connection, window.user_ids)
    heads, chains, old, keys, spans = _settle(store, connection, spans, user_by_device(devices), settings_of, edits)
    items = _intervals(chains[is_track(chains) | (chains["is_stay"] == 1)])
    new, known = _fingerprints(items), _fingerprints(old)
    compared = pd.concat([items[~np.isin(new, known)].assign(item_id=""), old[~np.isin(known, new)].assign(chain=-1)])
    several = heads.groupby("whole")["chain"].transform("nunique") > 1
    differing = _of_window(compared, _wholes(heads[several]), start_ms, end_ms)
    to_make = differing.loc[differing["chain"] >= 0, "chain"]
    gone = differing[differing["chain"] < 0]
    return Chains(
        heads,
        chains.loc[chains.index.isin(to_make)],
        gone.loc[gone["is_stay"] == 0, "item_id"].tolist(),
        gone.loc[gone["is_stay"] == 1, "item_id"].tolist(),
        devices,
        settings_of,
        _made_of(keys, edits, settings_of),
        spans,
    )


def _fingerprints(items: pd.DataFrame) -> IntArray:
    """Return a hash of the columns of `COMPARED`."""
    words = [items[name].to_numpy("int64") for name in (*INTERVAL, "is_stay", "digest")]
    return mixed(*words, *(text_words(items[name]) for name in ("settings_id", "break_reason")))


def _of_window(differing: pd.DataFrame, wholes: pd.DataFrame, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Leave out chains and items before and after the window that differ for reasons of their own.

    Their days are listed themselves, and if one of them cannot be made, that is no concern of the window. The window's
    are those that share an instant, directly or not, with something in it, also by way of what has to be known together
    (`wholes`: where a rest that creeps is cut depends on where it began); and those of which only the break reason
    differs.
    """
    items = pd.concat([differing.assign(is_item=True), wholes.assign(is_item=False)])
    items = items.sort_values(["device_id", "started_ms", "ended_ms"], ignore_index=True)
    together = items.groupby(_clusters(items, "started_ms", "ended_ms", touching=True))
    in_window = (together["started_ms"].transform("min") < end_ms) & (together["ended_ms"].transform("max") >= start_ms)
    only_reason = items.duplicated([name for name in COMPARED if name != "break_reason"], keep=False)
    found = items.loc[items["is_item"] & (in_window | only_reason), list(differing)]
    return found.astype(differing.dtypes)


def mark_all(store: Store, stage: Stage, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None) -> None:
    """List as work every day from `lo_day` to `hi_day` that has anything to make or to remove.

    Days that are listed keep their entry; dead letters come alive.
    """
    with store.write() as connection:
        days = [store.days_with_segments(connection, lo_day, hi_day, user_ids)]
        if stage == "segments":
            days.append(store.days_with_points(connection, user_ids, lo_day, hi_day))
        else:
            days.append(store.days_with_tracks(connection, lo_day, hi_day, user_ids))
        store.revive(connection, stage, lo_day, hi_day, user_ids)  # also of days that have nothing any more
        store.mark(connection, stage, pd.concat(days).drop_duplicates(), is_change=False)


def segment_stats(store: Store, lo_day: int, hi_day: int) -> pd.DataFrame:
    """Return what the first stage has stored of each day from `lo_day` to `hi_day` inclusive, over all users.

    Returns
    -------
    DataFrame
        One row a day, by `day`: `points`; `segments` that they are in; `noise`, those that are set aside instead.
    """
    with store.read() as connection:
        return _segment_stats(store, connection, lo_day, hi_day)


def _segment_stats(store: Store, connection: Connection, lo_day: int, hi_day: int) -> pd.DataFrame:
    noise = pd.Series(store.count_noise(connection, lo_day, hi_day), name="noise", dtype="int64")
    stats = _each_day(store.segment_sums(connection, lo_day, hi_day).join(noise, how="outer"), lo_day, hi_day)
    return stats.assign(points=stats["points"] + stats["noise"])


def day_stats(store: Store, lo_day: int, hi_day: int) -> pd.DataFrame:
    """Return what is stored of each day from `lo_day` to `hi_day` inclusive, over all users.

    Returns
    -------
    DataFrame
        One row a day, by `day`: the columns of `segment_stats`; `tracks` that start on it and their `length_mm`;
        `stays` that start on it; `leftover`, the points of the day that are in no track and no stay; unknown, and not
        counted, where a user's settings cannot be read.
    """
    with store.read() as connection:
        of_segments = _segment_stats(store, connection, lo_day, hi_day)
        devices = store.devices(connection)
        user_of = user_by_device(devices)
        settings_of = store.settings_of(connection, readable_only=True)
        spans = _spans(devices, (lo_day - 1) * MS_PER_DAY, (hi_day + 2) * MS_PER_DAY - 1)
        heads = store.segment_heads(connection, spans)
        edits = store.edits(connection)
        of_tracks = store.track_sums(connection, lo_day, hi_day)
        stays = pd.Series(store.count_stays(connection, lo_day, hi_day), name="stays", dtype="int64")
    heads = _with_seams(heads[heads["device_id"].map(user_of).isin(list(settings_of))], user_of, settings_of, edits)
    chains = chains_of(heads)
    alone = chains[(chains["is_stay"] == 0) & ~is_track(chains)]
    leftover = alone.groupby("day")["points"].sum().rename("leftover")
    of_chains = _each_day(of_tracks.join([stays, leftover], how="outer"), lo_day, hi_day)
    return of_segments.join(of_chains)


def _each_day(counts: pd.DataFrame, lo_day: int, hi_day: int) -> pd.DataFrame:
    return counts.reindex(pd.RangeIndex(lo_day, hi_day + 1, name="day")).fillna(0).astype("int64")


def user_by_device(devices: pd.DataFrame) -> dict[int, int]:
    """Return the `user_id` of each `device_id`, from the frame of `Store.devices`."""
    return dict(zip(devices.index.tolist(), devices["user_id"].tolist(), strict=True))


def by_settings(
    frame: pd.DataFrame, user_of: dict[int, int], settings_of: dict[int, Settings]
) -> Iterator[tuple[Settings, pd.DataFrame]]:
    """Split a frame with `device_id` by the settings of the devices' users; the order of rows is kept."""
    device_ids = frame["device_id"].unique()
    groups: dict[Settings, list[int]] = {}
    for device_id in device_ids.tolist():
        groups.setdefault(settings_of[user_of[device_id]], []).append(device_id)
    for settings, ids in groups.items():
        yield settings, frame if len(groups) == 1 else frame[frame["device_id"].isin(ids)]


def _spans(devices: pd.DataFrame, lo_ms: int, hi_ms: int) -> pd.DataFrame:
    """Return the same span of time for all devices."""
    # A little more, so that what is at the very edge is inside: items that only touch do not overlap.
    spans = pd.DataFrame({"device_id": devices.index.to_numpy(), "lo_ms": lo_ms - 1, "hi_ms": hi_ms + 1})
    return spans.astype(SPAN_DTYPES)


def _settle(
    store: Store,
    connection: Connection,
    spans: pd.DataFrame,
    user_of: dict[int, int],
    settings_of: dict[int, Settings],
    edits: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Widen spans until no chain and no stored track crosses their edges.

    Returns
    -------
    heads : DataFrame
        The segments, without paths, of all chains that touch the widened spans, with their shared ends, the fields of
        the seam before each, and `chain`.
    chains : DataFrame
        These chains.
    old : DataFrame
        The stored tracks and stays that touch the widened spans, with the columns of `store.ITEM_DTYPES`.
    keys : DataFrame
        All segments that were looked at for that, with the columns of `store.KEY_DTYPES`.
    read : DataFrame
        Where they are: spans, with a day and more on either side.
    """
    settled: list[tuple[pd.DataFrame, ...]] = []
    chains_so_far, reach_ms = 0, 3 * MS_PER_DAY - 1
    while True:
        spans = spans.sort_values("device_id", ignore_index=True)
        read = spans.assign(lo_ms=(spans["lo_ms"] - reach_ms).clip(lower=0), hi_ms=spans["hi_ms"] + reach_ms)
        found = store.segment_heads(connection, read)
        heads = _with_seams(found, user_of, settings_of, edits)
        heads[["chain", "whole"]] += chains_so_far
        chains_so_far += len(heads)
        every_chain, old = chains_of(heads), store.item_heads(connection, read)
        chains = _intervals(every_chain)
        wider = _widen(spans, pd.concat([_wholes(heads), old[list(INTERVAL)]]))

        # A seam is only known if the days on its other side were read, too.
        cut = (wider["lo_ms"] < read["lo_ms"] + 2 * MS_PER_DAY) & (read["lo_ms"] > 0)
        cut |= wider["hi_ms"] > read["hi_ms"] - 2 * MS_PER_DAY
        whole = wider[~cut]
        touching = _touching(chains, whole)["chain"]
        touching_chains = every_chain[every_chain.index.isin(touching)]
        touching_items = _touching(old, whole)
        keys = found.loc[found["device_id"].isin(whole["device_id"]), list(KEY_DTYPES)]
        settled.append((heads[heads["chain"].isin(touching)], touching_chains, touching_items, keys, read[~cut]))
        if not cut.any():
            heads, chains, items, keys, spans = (pd.concat(parts) for parts in zip(*settled, strict=True))
            return heads.reset_index(drop=True), chains, items.reset_index(drop=True), keys, spans
        spans = wider[cut].reset_index(drop=True)
        reach_ms *= 2


def _wholes(heads: pd.DataFrame) -> pd.DataFrame:
    """Return when that begins and ends which has to be known together: the columns of `INTERVAL`."""
    wholes = heads.groupby("whole")
    return pd.DataFrame(
        {
            "device_id": wholes["device_id"].first(),
            "started_ms": wholes["first_ms"].min(),
            "ended_ms": wholes["last_ms"].max(),
        }
    )


def _widen(spans: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Widen the span of each device until no interval of the device crosses its edges.

    Intervals that overlap form clusters, found in one pass over their starts; a span becomes its cluster.
    """
    renamed = intervals.rename(columns={"started_ms": "lo_ms", "ended_ms": "hi_ms"})
    every = pd.concat([spans.assign(is_span=True), renamed.assign(is_span=False)], ignore_index=True)
    every = every.sort_values(["device_id", "lo_ms"], ignore_index=True)
    clusters = every.groupby(_clusters(every, "lo_ms", "hi_ms")).agg(
        device_id=("device_id", "first"), lo_ms=("lo_ms", "min"), hi_ms=("hi_ms", "max"), is_span=("is_span", "any")
    )
    return clusters.loc[clusters["is_span"], list(SPAN_DTYPES)].reset_index(drop=True)


def _clusters(intervals: pd.DataFrame, start: str, end: str, *, touching: bool = False) -> pd.Series:
    """Return the number of the cluster of each interval: those of a device that overlap are one.

    They are sorted by device and start. That one begins where the other ends is no overlap, for tracks and stays do,
    unless that is asked for, or it takes no time: then nothing tells that it is not inside the other.
    """
    reached = intervals.groupby("device_id")[end].cummax()
    begins_later = (intervals[start] == reached.shift()) & (intervals[end] > intervals[start]) & (not touching)
    apart = (
        (intervals[start] > reached.shift()) | begins_later | (intervals["device_id"] != intervals["device_id"].shift())
    )
    return apart.cumsum()


def _with_seams(
    heads: pd.DataFrame, user_of: dict[int, int], settings_of: dict[int, Settings], edits: pd.DataFrame
) -> pd.DataFrame:
    parts, chains = [], 0
    for settings, part in by_settings(heads, user_of, settings_of):
        whole, seams = connect(part, settings, edits)
        parts.append(whole.assign(**seams._asdict() | {"whole": seams.whole + chains}, chain=seams.chain + chains))
        chains += len(whole)
    if not parts:
        return heads.assign(**dict.fromkeys((*Seams._fields, "chain"), np.int64(0)))
    return pd.concat(parts).sort_values("device_id", kind="stable", ignore_index=True)


def chains_of(heads: pd.DataFrame) -> pd.DataFrame:
    """Return the chains of segments with seams (`Chains.heads`), as `find_chains` makes them, by `chain`."""
    starts = heads["reason"].to_numpy() != NO_BREAK
    return find_chains(heads, seams_of(heads)).set_index(pd.Index(heads["chain"].to_numpy()[starts], name="chain"))


def _intervals(chains: pd.DataFrame) -> pd.DataFrame:
    """Return chains as they are compared with what is stored: `chain` and the columns of `COMPARED`."""
    named = chains.rename(columns={"first_ms": "started_ms", "last_ms": "ended_ms"}).reset_index()
    named["break_reason"] = np.array(BREAK_REASONS, object)[named["reason"]]
    return named[["chain", *COMPARED]]


def seams_of(heads: pd.DataFrame) -> Seams:
    """Return the seams of segments (`Chains.heads`)."""
    return Seams(*(heads[name].to_numpy() for name in Seams._fields))


def _touching(intervals: pd.DataFrame, spans: pd.DataFrame) -> pd.DataFrame:
    """Return those of the intervals that overlap the span of their device, if it has one."""
    device = intervals["device_id"].to_numpy()
    of_spans = spans["device_id"].to_numpy()
    of = np.searchsorted(of_spans, device)
    lo_ms, hi_ms = (np.append(spans[name].to_numpy(), -1)[of] for name in ("lo_ms", "hi_ms"))
    started_ms, ended_ms = intervals["started_ms"].to_numpy(), intervals["ended_ms"].to_numpy()
    overlaps = (started_ms < hi_ms) & (ended_ms > lo_ms)
    # What takes no time cannot overlap; it is inside, also at the edges.
    inside = (started_ms == ended_ms) & (started_ms >= lo_ms) & (started_ms <= hi_ms)
    touching: pd.DataFrame = intervals[(np.append(of_spans, -1)[of] == device) & (overlaps | inside)]
    return touching


def _tracks_of(store: Store, connection: Connection, chains: Chains) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Make the tracks among the chains that are to be made, with legs, in portions whose paths fit into memory."""
    tracks = chains.to_make[is_track(chains.to_make)]
    heads = chains.heads[chains.heads["chain"].isin(tracks.index)]
    starts = heads["reason"].to_numpy() != NO_BREAK
    points_before = (heads["points"].cumsum() - heads["points"]).where(starts).ffill()
    key = ["device_id", "day", "number"]
    for _, part in heads.groupby(points_before // PATH_POINTS_AT_ONCE):
        paths = store.segment_paths(connection, part[part["points"] > 0])
        whole = part.merge(paths, on=key, how="left")
        places = np.column_stack([whole["first_lon"], whole["first_lat"]]).astype("<f8")
        single = (whole["path"].fillna(b"") == b"").to_numpy()  # shared ends, and what a merge has left of a stay
        whole.loc[single, "path"] = pd.Series(
            [place.tobytes() for place in places[single]], whole.index[single], object
        )
        yield merging.make_tracks(whole, seams_of(whole), chains.devices)


def _days_of(chains: Chains, track_ids: list[pd.Series], stays: pd.DataFrame) -> pd.DataFrame:
    """Return the shares that the chains to be made have in days: columns of `store.ITEM_DAY_DTYPES`.

    Parameters
    ----------
    chains : Chains
        The chains.
    track_ids : list of Series
        The ids of the tracks that were made of them, in their order.
    stays : DataFrame
        The stays that were made of them, in their order.
    """
    user_of = user_by_device(chains.devices)
    made = chains.to_make.assign(item_id="", user_id=chains.to_make["device_id"].map(user_of).astype("int64"))
    is_stay = made["is_stay"] == 1
    made.loc[is_stay, "item_id"] = stays["stay_id"].to_numpy()
    made.loc[~is_stay, "item_id"] = np.concatenate([np.array([], object), *track_ids])
    heads = chains.heads[chains.heads["chain"].isin(made.index[made["is_stay"] == 0])]
    shares = merging.day_shares(heads, seams_of(heads)) if len(heads) else pd.DataFrame(columns=["local_day"])
    starts = heads["reason"].to_numpy() != NO_BREAK
    shares.index = pd.Index(heads["chain"].to_numpy()[starts][shares.index.to_numpy("int64")], name="chain")
    rests = [
        (chain, day, ms)
        for chain, user_id, first_ms, last_ms in made.loc[
            made["is_stay"] == 1, ["user_id", "first_ms", "last_ms"]
        ].itertuples(name=None)
        for day, ms in days_between(first_ms, last_ms, chains.settings_of[user_id].timezone)
    ]
    rested = pd.DataFrame(rests, columns=["chain", "local_day", "rest_ms"]).set_index("chain")
    days = pd.concat([shares, rested]).join(made[["item_id", "user_id", "is_stay"]])
    return days.reindex(columns=[*ITEM_DAY_DTYPES]).fillna(0)


def peak_memory_mb() -> float:
    """Return the most memory this process has held at once, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says begins, in Linux, with what the process held that started this one
        (held,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(held.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
