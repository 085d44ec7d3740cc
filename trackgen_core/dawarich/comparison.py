"""Dawarich's tracks beside ours: which are the same, and what is wrong with the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.source import Dawarich
from trackgen_core.geodesy import IntArray
from trackgen_core.store import STAGES, Store

KINDS: Final = {
    "equal": "the same as ours",
    "changed": "another start, end or length than ours",
    "fused": "several of ours in one",
    "split": "a piece of one of ours",
    "duplicate": "there once more, or over another one of its device",
    "ghost": "fewer than two points are its own",
    "extra": "where we have no track",
    "lost": "only here",
}
"""What a track of Dawarich can be; `lost` is what a track of ours can be."""

LENGTH_TOLERANCE: Final = 0.01
"""Dawarich measures on a sphere, which is up to 0.6 % off."""

ROW_DTYPES: Final = {
    "kind": "object",
    "id": "Int64",
    "device": "object",
    "started_s": "int64",
    "ended_s": "int64",
    "distance_m": "Int64",
    "our_m": "Int64",
    "tracks": "int64",
}
"""A track of Dawarich, or of ours if it is lost, with the length of our track or tracks that it is, and how many."""

HEAD_DTYPES: Final = {
    "track_id": "object",
    "device": "object",
    "device_id": "int64",
    "started_s": "int64",
    "ended_s": "int64",
    "length_mm": "int64",
    "points": "int64",
}


@dataclass
class Comparison:
    """What Dawarich's tracks of a user are beside ours."""

    user: str
    counts: dict[str, int]
    """How many there are of each of `KINDS`."""
    lost_points: int
    """Points of our tracks that are in none of Dawarich's."""
    listed_days: int
    """Days that were not compared right, as work on them is still listed."""
    rows: pd.DataFrame
    """All that is not equal: the columns of `ROW_DTYPES`, by start."""

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        plain = self.rows.astype(object).where(self.rows.notna(), None)
        return {**vars(self), "rows": plain.to_dict("records")}


def compare_user(store: Store, dawarich: Dawarich, user: Mirrored) -> Comparison:
    """Compare Dawarich's tracks of a user with ours, and write nothing."""
    ours = our_heads(store, user.name)
    rows = classify(dawarich.tracks(user.dawarich_id), ours)
    found = rows["kind"].value_counts()
    return Comparison(
        user.name,
        {kind: int(found.get(kind, 0)) for kind in KINDS},
        _lost_points(store, dawarich, user, ours),
        listed_days(store, user),
        rows[rows["kind"] != "equal"].reset_index(drop=True),
    )


def our_heads(store: Store, name: str) -> pd.DataFrame:
    """Return our tracks of a user, without paths, with the columns of `HEAD_DTYPES`, by start."""
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in HEAD_DTYPES.items()})
    frames = [
        batch.assign(started_s=batch["started_ms"] // 1000, ended_s=batch["ended_ms"] // 1000)[[*HEAD_DTYPES]]
        for batch in store.read_tracks([name])
    ]
    return pd.concat([empty, *frames]).sort_values(["started_s", "ended_s", "track_id"], ignore_index=True)


def listed_days(store: Store, user: Mirrored) -> int:
    """Return on how many days of a user there is something to do."""
    with store.read() as connection:
        listed = pd.concat([store.dirty(connection, stage, user_ids=[user.user_id]) for stage in STAGES])
    return int(listed["day"].nunique())


def classify(theirs: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Say what each track of Dawarich is, and which of ours are lost.

    Parameters
    ----------
    theirs : DataFrame
        n tracks of Dawarich, with the columns of `source.TRACK_DTYPES`.
    ours : DataFrame
        m tracks, with `device`, `started_s`, `ended_s` and `length_mm`.

    Returns
    -------
    DataFrame
        n rows and one for each that is lost, with the columns of `ROW_DTYPES`, by start.

    Notes
    -----
    Two tracks of a device belong together where they overlap by more than the instant in which one ends and the other
    begins; the more of both together they share, the better. A track is the same as the one that it fits best, if that
    fits none better. A track of Dawarich whose device is not known may belong to those of any device.
    """
    theirs, ours = theirs.reset_index(drop=True), ours.reset_index(drop=True)
    is_ghost = theirs["points"].to_numpy() < 2
    pairs = best_pairs(theirs, ours)
    pairs = pairs[~is_ghost[pairs["one"].to_numpy()]]
    best_of_theirs = pairs.drop_duplicates("one").set_index("one")["other"].reindex(theirs.index)
    of_ours = pairs.drop_duplicates("other").set_index("other")
    best_of_ours = of_ours["one"].reindex(ours.index)
    held = of_ours[2 * of_ours["overlap_s"] >= of_ours["other_s"]].groupby("one").size()
    together = held.reindex(theirs.index, fill_value=0).to_numpy()
    fits = best_of_ours.reindex(best_of_theirs.to_numpy()).to_numpy() == theirs.index.to_numpy()

    matched = ours.reindex(best_of_theirs.to_numpy()).reset_index(drop=True)
    our_m = (matched["length_mm"] + 500) // 1000
    same_ends = (matched["started_s"] == theirs["started_s"]) & (matched["ended_s"] == theirs["ended_s"])
    same_length = (our_m - theirs["distance_m"]).abs() <= np.maximum(1, LENGTH_TOLERANCE * our_m.fillna(0))
    overlaps = best_pairs(theirs[~is_ghost], theirs[~is_ghost])
    overlapping = theirs.index.isin(theirs.index[~is_ghost][overlaps.loc[overlaps["one"] != overlaps["other"], "one"]])
    kind = np.select(
        [is_ghost, best_of_theirs.isna(), together > 1, fits & same_ends & same_length, fits, overlapping],
        ["ghost", "extra", "fused", "equal", "changed", "duplicate"],
        "split",
    )
    lengths = of_ours.assign(mm=ours["length_mm"].reindex(of_ours.index)).groupby("one")["mm"].sum()
    whole_m = (lengths.reindex(theirs.index) + 500) // 1000
    judged = theirs[["id", "device", "started_s", "ended_s", "distance_m"]].assign(
        kind=kind, our_m=whole_m.where(together > 1, our_m), tracks=np.where(kind == "fused", together, fits)
    )
    lost = ours[best_of_ours.isna()]
    lost = lost.assign(kind="lost", our_m=(lost["length_mm"] + 500) // 1000, tracks=1)
    rows = [frame.reindex(columns=[*ROW_DTYPES]).astype(ROW_DTYPES) for frame in (judged, lost)]
    result: pd.DataFrame = pd.concat(rows).sort_values(["started_s", "ended_s", "id"], ignore_index=True)
    return result


def best_pairs(ones: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of intervals of the same device that overlap by more than an instant, the best first.

    Parameters
    ----------
    ones, others : DataFrame
        Intervals, with `started_s`, `ended_s` and `device`; None stands for any device.

    Returns
    -------
    DataFrame
        `one` and `other` are positions in the two frames; `overlap_s` is what they share, and `other_s` the length of
        the other one, in seconds, each with both its ends. The best share the most of what they are together; of equal
        ones, those of which both devices are known.
    """
    starts, ends = ones["started_s"].to_numpy("int64"), ones["ended_s"].to_numpy("int64")
    order = np.argsort(others["started_s"].to_numpy("int64"), kind="stable")
    other_starts, other_ends = (others[name].to_numpy("int64")[order] for name in ("started_s", "ended_s"))
    lo = np.searchsorted(np.maximum.accumulate(other_ends) if len(order) else other_ends, starts)
    hi = np.searchsorted(other_starts, ends, "right")
    counts = np.maximum(hi - lo, 0)
    one = np.repeat(np.arange(len(starts)), counts)
    other = np.repeat(lo - np.cumsum(counts) + counts, counts) + np.arange(len(one))
    overlap = np.minimum(ends[one], other_ends[other]) - np.maximum(starts[one], other_starts[other]) + 1
    one_s, other_s = ends[one] - starts[one] + 1, other_ends[other] - other_starts[other] + 1
    pairs = pd.DataFrame(
        {
            "one": one,
            "other": order[other],
            "overlap_s": overlap,
            "other_s": other_s,
            "share": overlap / (one_s + other_s - overlap),
        }
    )
    codes, _ = pd.factorize(np.concatenate([ones["device"].to_numpy(object), others["device"].to_numpy(object)]))
    devices = codes[: len(ones)][one], codes[len(ones) :][order][other]
    pairs["any_device"] = np.minimum(*devices) < 0
    together = (overlap > 1) | (overlap == 1) & (np.minimum(one_s, other_s) == 1)
    ordered: pd.DataFrame = pairs[together & (pairs["any_device"] | (devices[0] == devices[1]))].sort_values(
        ["share", "any_device", "one", "other"], ascending=[False, True, True, True], ignore_index=True
    )
    return ordered


def spans_of(ours: pd.DataFrame) -> tuple[list[str], IntArray, IntArray]:
    """Return the device, the first and the last second of each of our tracks, so that none has a second of another.

    Where a track begins with the fix with which another one of its device ends, the fix is the latter's.
    """
    ordered = ours.sort_values(["device", "started_s", "ended_s"])
    shared = (ordered["device"] == ordered["device"].shift()) & (ordered["started_s"] == ordered["ended_s"].shift())
    starts = (ordered["started_s"] + shared).reindex(ours.index)
    return ours["device"].tolist(), starts.to_numpy("int64"), ours["ended_s"].to_numpy("int64")


def set_aside(store: Store, name: str) -> list[list[Any]]:
    """Return the fixes of a user that are noise: their devices, seconds, longitudes and latitudes."""
    frames = [
        frame.assign(time_s=frame["time_ms"] // 1000)[["device", "time_s", "lon", "lat"]]
        for frame in store.read_all_points([name], noise_only=True)
    ]
    columns = ("device", "time_s", "lon", "lat")
    return [pd.concat(frames)[name].tolist() for name in columns] if frames else [[], [], [], []]


def _lost_points(store: Store, dawarich: Dawarich, user: Mirrored, ours: pd.DataFrame) -> int:
    devices, starts, ends = spans_of(ours)
    row = dawarich.connection.execute(
        f"""
        WITH noise AS MATERIALIZED (
            SELECT * FROM unnest(%s::text[], %s::int8[], %s::float8[], %s::float8[]) AS n (device, time_s, lon, lat)
        )
        SELECT count(*) FROM unnest(%s::text[], %s::int8[], %s::int8[]) AS span (device, start_s, end_s)
        CROSS JOIN LATERAL (
            SELECT p.track_id, p.timestamp, p.lonlat, {dawarich.device} AS device FROM points AS p {dawarich.sources}
            WHERE p.user_id = %s AND {dawarich.usable} AND p.timestamp BETWEEN span.start_s AND span.end_s
            OFFSET 0  -- so that they are looked up by time
        ) AS p
        WHERE p.device = span.device AND NOT EXISTS (SELECT FROM tracks WHERE tracks.id = p.track_id)
          AND NOT EXISTS (SELECT FROM noise WHERE (noise.device, noise.time_s, noise.lon, noise.lat)
                          = (span.device, p.timestamp, ST_X(p.lonlat::geometry), ST_Y(p.lonlat::geometry)))
        """,
        [*set_aside(store, user.name), devices, starts.tolist(), ends.tolist(), user.dawarich_id],
    ).fetchone()
    assert row is not None
    return int(row[0])
