"""The time line of devices: tracks, stays and gaps without a hole, and why each of them begins where it does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import pandas as pd

from trackgen_core.generation import Window, chains_of, compare_chains, user_by_device
from trackgen_core.geodesy import pair_lengths_mm
from trackgen_core.merging import MIDNIGHT, STAY, is_track
from trackgen_core.points import MS_PER_DAY
from trackgen_core.segmentation import BREAK_REASONS
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
    "reason": "object",
}
"""Columns of a time line. `kind` is track, stay, gap, or point (left over, alone between two breaks)."""


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
    chains = chains_of(heads)
    within = (chains["first_ms"] < (hi_day + 1) * MS_PER_DAY) & (chains["last_ms"] >= lo_day * MS_PER_DAY)
    lines = [
        _line(part, settings_of[user_of[int(part["device_id"].to_numpy()[0])]])
        for _, part in chains[within].groupby("device_id")
    ]
    frame = pd.concat(lines) if lines else pd.DataFrame(columns=["device_id", *LINE_DTYPES])
    frame[["user", "device"]] = devices.loc[frame["device_id"], ["user", "device"]].to_numpy()
    frame = frame[list(LINE_DTYPES)].astype(LINE_DTYPES)
    return frame.sort_values(["user", "device"], kind="stable", ignore_index=True)


def _line(chains: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the time line of chains of one device."""
    kind = np.where(chains["is_stay"] == 1, "stay", np.where(is_track(chains), "track", "point"))
    reason = chains["reason"].to_numpy()
    before, after = chains.iloc[:-1], chains.iloc[1:]
    ends = (before["last_lon"], before["last_lat"], after["first_lon"], after["first_lat"])
    hop_mm = pair_lengths_mm(*(end.to_numpy() for end in ends))
    hop_ms = after["first_ms"].to_numpy() - before["last_ms"].to_numpy()
    starts, lasts = chains["first_ms"].tolist(), chains["last_ms"].tolist()
    points, lengths = chains["points"].tolist(), chains["length_mm"].tolist()
    rows = [(kind[0], starts[0], lasts[0], points[0], lengths[0], "first of these days")]
    for n in range(1, len(chains)):
        hop = int(hop_ms[n - 1]), int(hop_mm[n - 1])
        why = explain(int(reason[n]), *hop, settings, is_stay=kind[n] == "stay")
        if reason[n] not in (STAY, MIDNIGHT):
            rows.append(("gap", lasts[n - 1], starts[n], 0, 0, why))
        rows.append((kind[n], starts[n], lasts[n], points[n], lengths[n], why))
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
            f"rest of {settings.stop_minutes} min or more within {settings.stop_radius_m} m"
            if is_stay
            else "left a stay"
        ),
        "midnight": f"midnight in {settings.timezone}",
    }[BREAK_REASONS[reason]]


def _minutes(ms: int) -> str:
    minutes = ms / 60_000
    return f"{minutes:,.0f} min" if minutes == round(minutes) or minutes > 100 else f"{minutes:,.1f} min"
