"""Which of our tracks shall be in Dawarich, which of its own they take the place of, and which are to be removed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from trackgen_core.dawarich import transactions
from trackgen_core.dawarich.comparison import best_pairs, spans_of
from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.rows import ROW_DTYPES, SOURCE, digests, line, track_rows
from trackgen_core.dawarich.source import Dawarich
from trackgen_core.dawarich.tables import has_written, last_taken_over
from trackgen_core.dawarich.transactions import TRACKS_AT_ONCE, WriteReport
from trackgen_core.geodesy import Mask
from trackgen_core.merging import LEG_DTYPES
from trackgen_core.store import Store

COMPARED: Final = [*(name for name in ROW_DTYPES if name != "dominant_mode"), "md5"]
"""What of a row in Dawarich has to be as it is here; its mode is left out, for people may have changed it."""

EXISTING_DTYPES: Final = {
    "id": "int64",
    **{name: ROW_DTYPES.get(name, "object") for name in COMPARED},
    **dict.fromkeys(("tracker", "device"), "object"),
    "points": "int64",
    **dict.fromkeys(("protected", "sound"), "bool"),
}
"""A track in Dawarich. `tracker` is the device that its row names, and `device` that of its points; `sound` says that
its segments are ours, and complete."""

KEY: Final = ["device", "started_s", "ended_s"]
"""What no two tracks of a user have in common in Dawarich."""


@dataclass
class Plan:
    """What is to be done for a user."""

    ours: pd.DataFrame
    """Our tracks that shall be there: with `id`; with `own_s`, the first second that is theirs alone; with `write`,
    whether the row is to be written; with `is_same`, whether its points are those that were written last; and with
    `first_s` and `last_s`, the span of these, or NaN."""
    legs: pd.DataFrame
    taken: set[int]
    """Ids of tracks of Dawarich that are taken over: adopted, or removed."""
    saved: set[int]
    """Those of them that a rollback brings back."""
    gone: pd.DataFrame
    """Tracks that are to be removed: `id`, `started_s`, `ended_s`."""
    report: WriteReport = field(default_factory=lambda: WriteReport(""))


def make_plan(store: Store, dawarich: Dawarich, user: Mirrored, take_over: bool, replace_protected: bool) -> Plan:
    """Compare what is there with what shall be there.

    Once a user's tracks are taken over, what Dawarich's jobs make in their place later is replaced without being told;
    what they make where we have no track stays, for they would only make it again.
    """
    existing, known, (ours, legs) = _existing(dawarich, user), _known(dawarich, user), _our_rows(store, user)
    last_id = last_taken_over(dawarich, user)
    report = WriteReport(user.name)

    live = known[known["track_id"].notna()].set_index("track_id")
    former = ours["track_id"].map(live["id"]).astype("Int64")
    ours["former_id"], ours["id"] = former, former.where(former.isin(existing["id"]))
    is_ours = existing["id"].isin(live["id"])
    foreign = existing[~is_ours].reset_index(drop=True)
    is_kept = foreign["protected"].to_numpy(bool) & (not replace_protected)
    is_reached = ~is_kept if take_over else _younger_ones(ours, foreign, last_id) & ~is_kept
    if take_over:
        report.protected = int(is_kept.sum())
    left, foreign = foreign[~is_reached], foreign[is_reached]

    is_there = ours["id"].notna().to_numpy(bool)
    held = ours.index.isin(best_pairs(ours, left)["one"].unique()) & ~is_there
    # A row that is ours cannot get the device and the times of one that stays.
    clashes = is_there & pd.MultiIndex.from_frame(ours[KEY]).isin(pd.MultiIndex.from_frame(left[KEY]))
    clashes &= dawarich.tracks_have_devices
    report.held_back = int((held | clashes).sum())
    ours["is_held"] = clashes
    ours = ours[~held].reset_index(drop=True)

    _hand_on_ids(ours, pd.concat([existing[is_ours & ~existing["id"].isin(ours["id"])], foreign]))
    vanishing = pd.concat([existing[is_ours], foreign])
    ours["id"] = ours["id"].fillna(ours.pop("former_id"))  # what Dawarich has removed, and has nothing in its place
    gone = vanishing[~vanishing["id"].isin(ours["id"])].sort_values("started_s")
    ours["is_same"], is_right = _is_same(ours, existing, live, dawarich)
    spans = known.set_index("id")[["first_s", "last_s"]]
    ours[["first_s", "last_s"]] = spans.reindex(ours["id"].astype("Float64")).to_numpy()
    ours["write"], ours["own_s"] = ~is_right & ~ours.pop("is_held"), spans_of(ours)[1]
    adopted = ours["id"].isin(foreign["id"])
    report.equal, report.adopted, report.removed = int(is_right.sum()), int(adopted.sum()), len(gone)
    report.new = int((ours["write"] & ~ours["id"].isin(existing["id"])).sum())
    report.changed = int(ours["write"].sum()) - report.new - report.adopted
    taken = set(foreign["id"].tolist())
    saved = {id for id in taken if last_id is None or id <= last_id}
    return Plan(ours, legs, taken, saved, gone[["id", "started_s", "ended_s"]], report)


def _younger_ones(ours: pd.DataFrame, foreign: pd.DataFrame, last_id: int | None) -> Mask:
    """Tell which tracks of Dawarich lie over ours, if a user's tracks are taken over."""
    over = np.zeros(len(foreign), bool)
    if last_id is not None:
        over[best_pairs(ours, foreign)["other"].unique()] = True
    return over


def _hand_on_ids(ours: pd.DataFrame, vanishing: pd.DataFrame) -> None:
    """Give what has no id that of a vanishing track whose place it takes most of, so that links to it live on."""
    vanishing = vanishing.sort_values("points", ascending=False, kind="stable", ignore_index=True)
    heirs = np.flatnonzero(ours["id"].isna())
    pairs = best_pairs(ours.iloc[heirs], vanishing)
    used: tuple[set[int], set[int]] = set(), set()
    for one, other in zip(pairs["one"].tolist(), pairs["other"].tolist(), strict=True):
        if one not in used[0] and other not in used[1]:
            ours.loc[heirs[one], "id"] = vanishing["id"][other]
            used[0].add(one)
            used[1].add(other)


def _is_same(ours: pd.DataFrame, existing: pd.DataFrame, live: pd.DataFrame, dawarich: Dawarich) -> tuple[Mask, Mask]:
    """Tell which tracks have the points and legs that were written last, and of these, which rows are still right."""
    digest_of = live["digest"].to_dict()
    same = np.array(
        [digest_of.get(key) == one for key, one in zip(ours["track_id"], ours["digest"], strict=True)], bool
    )
    there = existing.set_index("id").reindex(ours["id"].astype("Float64").to_numpy("float64", na_value=np.nan))
    right = same & there["sound"].eq(other=True).to_numpy(bool)
    for name in COMPARED:
        right &= there[name].to_numpy() == ours[name].to_numpy()
    if dawarich.tracks_have_devices:
        right &= there["tracker"].to_numpy() == ours["device"].to_numpy()
    return same, right


def _existing(dawarich: Dawarich, user: Mirrored) -> pd.DataFrame:
    names = [name for name in COMPARED if not name.endswith("_s") and name != "md5"]
    tracker = "coalesce(t.tracker_id, '')" if dawarich.tracks_have_devices else "''"
    rows = dawarich.connection.execute(
        f"""
        SELECT t.id, floor(extract(epoch FROM t.start_at))::int8, floor(extract(epoch FROM t.end_at))::int8,
               {", ".join(f"coalesce(t.{name}, -1)" for name in names)},
               md5(ST_AsBinary(t.original_path, 'NDR')), {tracker}, n.device, n.points, {dawarich.protected},
               {_sound(dawarich)}
        FROM tracks AS t {dawarich.points_of_track} WHERE t.user_id = %s ORDER BY t.start_at, t.end_at, t.id
        """,
        [user.dawarich_id],
    ).fetchall()
    columns = ["id", "started_s", "ended_s", *names, "md5", "tracker", "device", "points", "protected", "sound"]
    return pd.DataFrame(rows, columns=columns).astype(EXISTING_DTYPES)


def _sound(dawarich: Dawarich) -> str:
    """Return the condition that `tracks AS t` has segments, all by us or by hand, as the leg view needs them."""
    if not dawarich.has("track_segments"):
        return "true"
    by_hand = "g.corrected_at IS NULL AND" if dawarich.has("track_segments", "corrected_at") else ""
    timeless = "OR g.start_at IS NULL" if dawarich.has("track_segments", "start_at") else ""
    return f"""
        (EXISTS (SELECT FROM track_segments AS g WHERE g.track_id = t.id) AND NOT EXISTS (
            SELECT FROM track_segments AS g WHERE g.track_id = t.id
            AND ({by_hand} coalesce(g.source, '') NOT IN ('{SOURCE}', 'user') {timeless})))
        """


def _known(dawarich: Dawarich, user: Mirrored) -> pd.DataFrame:
    """Return the ids that are or were ours, with our own name of each track that is."""
    rows: list[Any] = []
    if has_written(dawarich, user):
        # A dry run may meet tables of an older Trackgen, without the last two columns.
        query = (
            "SELECT id, track_id, digest, r ->> 'first_s', r ->> 'last_s' FROM trackgen.tracks AS t, to_jsonb(t) AS r"
        )
        rows = dawarich.connection.execute(f"{query} WHERE user_id = %s", [user.dawarich_id]).fetchall()
    frame = pd.DataFrame(rows, columns=["id", "track_id", "digest", "first_s", "last_s"])
    return frame.astype(
        {"id": "int64", "track_id": "object", "digest": "int64", **dict.fromkeys(frame.columns[3:], "float64")}
    )


def _our_rows(store: Store, user: Mirrored) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return our tracks as rows of Dawarich, without paths but with their `md5`, by start; and their legs."""
    no_legs = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in LEG_DTYPES.items()})
    legs = pd.concat([no_legs, *(batch[[*LEG_DTYPES]] for batch in store.read_legs([user.name]))], ignore_index=True)
    empty: dict[str, str] = dict.fromkeys(("track_id", "device", "md5"), "object")
    empty |= ROW_DTYPES | dict.fromkeys(("device_id", "points", "digest"), "int64")
    frames = [pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in empty.items()})]
    for batch in store.read_tracks([user.name]):
        of_batch = legs[legs["track_id"].isin(batch["track_id"])]
        frames.append(
            track_rows(batch).assign(
                track_id=batch["track_id"],
                device=batch["device"],
                device_id=batch["device_id"],
                points=batch["points"],
                digest=digests(batch, of_batch),
                md5=[hashlib.md5(line(path), usedforsecurity=False).hexdigest() for path in batch["path"]],
            )
        )
    return pd.concat(frames).sort_values(["started_s", "ended_s", "track_id"], ignore_index=True), legs


def windows(plan: Plan) -> Iterator[tuple[pd.DataFrame, list[int], tuple[int, int]]]:
    """Cut what is to be done into portions between which no track lies, with about `POINTS_AT_ONCE` points.

    Yields
    ------
    tracks : DataFrame
        Rows of `plan.ours` that are to be written.
    gone : list of int
        Ids that are to be removed.
    span : (int, int)
        First and last second of all of them.
    """
    written = plan.ours[plan.ours["write"]]
    extents = written[["id", "started_s", "ended_s", "points"]].assign(is_gone=False)
    every = pd.concat([extents, plan.gone.assign(points=0, is_gone=True)])
    every = every.sort_values(["started_s", "ended_s"], ignore_index=True)
    reached = every["ended_s"].cummax().shift(fill_value=-1)
    cluster = (every["started_s"] > reached).cumsum()
    sums = every.groupby(cluster).agg(points=("points", "sum"), tracks=("points", "size"))
    before = sums.cumsum() - sums
    window = before["points"] // transactions.POINTS_AT_ONCE + before["tracks"] // TRACKS_AT_ONCE
    for _, part in every.groupby(cluster.map(window)):
        gone = part.loc[part["is_gone"].astype(bool), "id"].tolist()
        span = int(part["started_s"].min()), int(part["ended_s"].max())
        yield written[written["id"].isin(part["id"]) & ~written["id"].isin(gone)], gone, span
