"""The time line of devices: tracks, stays and gaps without a hole, and why each of them begins where it does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from trackgen_core.breaks import BREAK_REASONS
from trackgen_core.generation import Window, chains_of, compare_chains, seams_of, user_by_device
from trackgen_core.geodesy import pair_lengths_mm
from trackgen_core.legs import main_modes
from trackgen_core.merging import find_chains, find_legs, is_track
from trackgen_core.points import MS_PER_DAY
from trackgen_core.seams import TOUCHING, Seams, connect
from trackgen_core.segmentation import empty_segments, segment
from trackgen_core.settings import Settings
from trackgen_core.store import Store

LINE_DTYPES: Final = {
    "user": "object",
    "device": "object",
    "kind": "object",
    "started_ms": "int64",
    "ended_ms": "int64",
    "points": "int64",
    "length_mm": "int64",
    "mode": "object",
    "reason": "object",
}
"""Columns of a time line. `kind` is track, stay, gap, or point (left over, alone between two breaks); `mode` is how
most of a track was done, and missing of the others."""


FIRST_FIX: Final = "first fix of this device"
"""Why a track begins whose break reason is `start`."""


def timeline(store: Store, names: Collection[str] | None, lo_day: int, hi_day: int) -> pd.DataFrame:
    """Return the time line of some days, by segments as they are stored.

    Parameters
    ----------
    store : Store
        The store.
    names : collection of str, optional
        Users; by default all.
    lo_day, hi_day : int
        First and last day; what reaches into them is shown whole.

    Returns
    -------
    DataFrame
        The columns of `LINE_DTYPES`, by device: each row begins where the one before it ends.

    Raises
    ------
    UnknownUser
        If one of the users is not in the database.
    """
    with store.read() as connection:
        devices = store.devices(connection, None if names is None else store.user_ids(names))
        settings_of = store.settings_of(connection, readable_only=True)
        user_of = user_by_device(devices)
        user_ids = tuple(sorted(set(user_of.values()) & set(settings_of)))
        heads = compare_chains(store, connection, Window(lo_day, hi_day, user_ids)).heads
    chains = with_modes(chains_of(heads), heads, seams_of(heads))
    within = (chains["first_ms"] < (hi_day + 1) * MS_PER_DAY) & (chains["last_ms"] >= lo_day * MS_PER_DAY)
    lines = [
        _line(part, settings_of[user_of[int(part["device_id"].to_numpy()[0])]])
        for _, part in chains[within].groupby("device_id")
    ]
    return _together(lines, devices)


def preview(store: Store, name: str, lo_day: int, hi_day: int, settings: Settings) -> tuple[pd.DataFrame, int]:
    """Return the time line that a user's points would give by some settings; nothing is written.

    Parameters
    ----------
    store : Store
        The store.
    name : str
        The user.
    lo_day, hi_day : int
        First and last day; nothing is seen beyond them but what the labels of their fixes need.
    settings : Settings
        The rules.

    Returns
    -------
    line : DataFrame
        The columns of `LINE_DTYPES`.
    noise : int
        How many points would be set aside.

    Raises
    ------
    UnknownUser
        If there is no such user.
    """
    user_ids = store.user_ids([name])
    with store.read() as connection:
        devices = store.devices(connection, user_ids)
        edits = store.edits(connection, user_ids)
        made = [segment(batch, settings, edits) for batch in store.read_points(connection, lo_day, hi_day, user_ids)]
    segments = pd.concat([one.segments for one in made], ignore_index=True) if made else empty_segments()
    heads, seams = connect(segments.drop(columns="path"), settings, edits)
    chains = with_modes(find_chains(heads, seams), heads, seams)
    lines = [_line(part, settings) for _, part in chains.groupby("device_id")]
    return _together(lines, devices), sum(len(one.noise) for one in made)


def compare(line: pd.DataFrame, other: pd.DataFrame) -> tuple[dict[str, tuple[float, float]], pd.DataFrame]:
    """Compare two time lines.

    Returns
    -------
    sums : dict
        Some figures of both.
    changes : DataFrame
        The rows that are only in one of them, in the order of time, with `sign`: "-" or "+".
    """
    key = ["user", "device", "kind", "started_ms", "ended_ms"]
    both = line.merge(other[key], on=key)[key].assign(in_both=True)
    changes = [
        one.merge(both, on=key, how="left").assign(sign=sign).query("in_both.isna()")
        for sign, one in (("-", line), ("+", other))
    ]
    ordered = pd.concat(changes).sort_values(["device", "started_ms", "sign"], kind="stable", ignore_index=True)
    return {name: (figure(line), figure(other)) for name, figure in FIGURES.items()}, ordered


def _hours(line: pd.DataFrame) -> pd.Series:
    return (line["ended_ms"] - line["started_ms"]) / 3.6e6


FIGURES: Final[dict[str, Callable[[pd.DataFrame], float]]] = {
    "tracks": lambda line: int((line["kind"] == "track").sum()),
    "km": lambda line: round(float(line["length_mm"].sum()) / 1e6, 2),
    "hours in tracks": lambda line: round(float(_hours(line[line["kind"] == "track"]).sum()), 2),
    "longest track, h": lambda line: round(float(_hours(line[line["kind"] == "track"]).max() or 0), 2),
    "stays": lambda line: int((line["kind"] == "stay").sum()),
    "hours in stays": lambda line: round(float(_hours(line[line["kind"] == "stay"]).sum()), 2),
    "hours in gaps": lambda line: round(float(_hours(line[line["kind"] == "gap"]).sum()), 2),
    "left over": lambda line: int((line["kind"] == "point").sum()),
}
"""What is compared of two time lines."""


def _together(lines: list[pd.DataFrame], devices: pd.DataFrame) -> pd.DataFrame:
    frame = pd.concat(lines) if lines else pd.DataFrame(columns=["device_id", *LINE_DTYPES])
    frame[["user", "device"]] = devices.loc[frame["device_id"], ["user", "device"]].to_numpy()
    frame = frame[list(LINE_DTYPES)].astype(LINE_DTYPES)
    return frame.sort_values(["user", "device"], kind="stable", ignore_index=True)


def with_modes(chains: pd.DataFrame, heads: pd.DataFrame, seams: Seams) -> pd.DataFrame:
    """Return chains of segments with the `mode` of those that are tracks."""
    tracks = np.flatnonzero(is_track(chains).to_numpy())
    mode = np.full(len(chains), None, object)
    if len(tracks):
        mode[tracks] = main_modes(find_legs(heads, seams, tracks.tolist())).loc[tracks.tolist()].to_numpy()
    return chains.assign(mode=mode)


def _line(chains: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the time line of chains of one device."""
    kind = np.where(chains["is_stay"] == 1, "stay", np.where(is_track(chains), "track", "point"))
    reason = chains["reason"].to_numpy()
    before, after = chains.iloc[:-1], chains.iloc[1:]
    ends = (before["last_lon"], before["last_lat"], after["first_lon"], after["first_lat"])
    hop_mm = pair_lengths_mm(*(end.to_numpy() for end in ends))
    hop_ms = after["first_ms"].to_numpy() - before["last_ms"].to_numpy()
    starts, lasts = chains["first_ms"].tolist(), chains["last_ms"].tolist()
    points, lengths, modes = (chains[name].tolist() for name in ("points", "length_mm", "mode"))
    rows = [(kind[0], starts[0], lasts[0], points[0], lengths[0], modes[0], "first of these days")]
    for n in range(1, len(chains)):
        hop = int(hop_ms[n - 1]), int(hop_mm[n - 1])
        why = explain(int(reason[n]), *hop, settings, is_stay=kind[n] == "stay")
        if reason[n] not in TOUCHING or starts[n] > lasts[n - 1]:  # stays that are apart, or whose place has crept
            rows.append(("gap", lasts[n - 1], starts[n], 0, 0, None, why))
        rows.append((kind[n], starts[n], lasts[n], points[n], lengths[n], modes[n], why))
    line = pd.DataFrame(rows, columns=[name for name in LINE_DTYPES if name not in ("user", "device")])
    return line.assign(device_id=int(chains["device_id"].to_numpy()[0]))


def explain(reason: int, hop_ms: int, hop_mm: int, settings: Settings, *, is_stay: bool) -> str:
    """Say in words why something does not continue what was before it.

    Parameters
    ----------
    reason : int
        An index into `BREAK_REASONS`.
    hop_ms, hop_mm : int
        Time and distance from the last point before.
    settings : Settings
        What they are compared with.
    is_stay : bool
        Whether it is a stay that begins.
    """
    kmh = hop_mm * 3.6 / hop_ms if hop_ms else float("inf")
    return {
        "": "goes on",
        "time_gap": f"gap of {_minutes(hop_ms)} > {settings.minutes_between_routes} min",
        "distance": f"hop of {hop_mm / 1000:,.0f} m > {settings.meters_between_routes:,} m",
        "implausible_speed": f"hop of {hop_mm / 1e6:,.1f} km at {kmh:,.0f} km/h > {settings.max_speed_kmh:,} km/h",
        "stay": (
            f"rest of {settings.stay_minutes} min or more within {settings.stay_radius_m} m"
            if is_stay
            else "left a stay"
        ),
        "midnight": f"midnight in {settings.timezone}",
        "split": "split by hand",
    }[BREAK_REASONS[reason]]


def why(store: Store, connection: Connection, track: Any, settings: Settings) -> tuple[str, str]:  # noqa: ANN401
    """Say in words why a track begins and ends where it does.

    Parameters
    ----------
    store : Store
        The store.
    connection : Connection
        A transaction that reads.
    track : row
        A track as `Store.find_tracks` returns it, from `itertuples`.
    settings : Settings
        Those of its user.
    """
    before, after = store.fixes_beside(connection, track)
    began, ended = FIRST_FIX, "nothing was recorded after it"
    if len(before):
        hop = _hop(before.to_numpy()[0], (track.started_ms, track.start_lon, track.start_lat))
        began = explain(BREAK_REASONS.index(track.break_reason), *hop, settings, is_stay=False)
    if len(after):
        hop_ms, hop_mm = _hop((track.ended_ms, track.end_lon, track.end_lat), after.to_numpy()[0])
        reason, is_stay = _following(store, connection, track, int(after["time_ms"].iloc[0]))
        ended = explain(reason, hop_ms, hop_mm, settings, is_stay=is_stay)
    return began, ended


def _following(store: Store, connection: Connection, track: Any, next_ms: int) -> tuple[int, bool]:  # noqa: ANN401
    """Return why what comes after a track on its device begins anew, and whether it is a stay."""
    user_id = user_by_device(store.devices(connection))[track.device_id]
    # Over more than two days, it is a gap, and what is behind it need not be read.
    days = track.ended_ms // MS_PER_DAY, min(next_ms, track.ended_ms + 2 * MS_PER_DAY) // MS_PER_DAY
    chains = chains_of(compare_chains(store, connection, Window(*days, (user_id,))).heads)
    chains = chains[chains["device_id"] == track.device_id]
    own = (chains["first_ms"] == track.started_ms) & (chains["last_ms"] == track.ended_ms) & is_track(chains)
    behind = chains[own.shift(fill_value=False)]
    if behind.empty:
        return BREAK_REASONS.index("time_gap"), False
    return int(behind["reason"].iloc[0]), bool(behind["is_stay"].iloc[0])


def _hop(one: Sequence[float], other: Sequence[float]) -> tuple[int, int]:
    """Return ms and mm from one fix to another, given time, lon and lat of each."""
    (length_mm,) = pair_lengths_mm(*(np.array([degrees], np.float64) for degrees in (*one[1:], *other[1:])))
    return int(other[0] - one[0]), int(length_mm)


def _minutes(ms: int) -> str:
    minutes = ms / 60_000
    return f"{minutes:,.0f} min" if minutes == round(minutes) or minutes > 100 else f"{minutes:,.1f} min"
