"""What somebody did in a month: kilometres and hours by day and mode, and the tracks that stand out."""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from typing import Any, Final

import pandas as pd

from trackgen_core.export import TRACKS, objects
from trackgen_core.legs import MODES
from trackgen_core.points import day_date, day_number
from trackgen_core.segmentation import local_days
from trackgen_core.store import Store

BEST: Final = {"longest": "length_mm", "fastest": "moving_speed", "highest": "elevation_max_cm"}
"""Tracks that stand out, and by what."""


def report(store: Store, name: str, lo_day: int, hi_day: int) -> dict[str, Any]:
    """Sum up the tracks of a user that start on some days.

    Parameters
    ----------
    store : Store
        The store.
    name : str
        The user.
    lo_day, hi_day : int
        First and last day, in the time zone of the user.

    Returns
    -------
    dict
        A JSON object: `days` with tracks, and `modes` that occur, each with `distance_m` and `duration_s`, days also
        by mode; `totals`; and the tracks that are `longest`, `fastest` (while moving) and `highest`, None where there
        is none. A track counts with all its legs on the day on which it starts.

    Raises
    ------
    UnknownUser
        If there is no such user.
    """
    zone = store.settings(name).timezone
    # A day in any time zone lies within a day on either side of the same day in UTC.
    span = ([name], lo_day - 1, hi_day + 1)
    batches = [batch.drop(columns="path") for batch in store.read_tracks(*span)]
    tracks = _join(batches, ["track_id", "started_ms", "length_mm", "moving_ms", "elevation_gain_cm"])
    tracks = tracks.assign(day=local_days(tracks["started_ms"].to_numpy("int64"), zone))
    tracks = tracks[tracks["day"].between(lo_day, hi_day)]
    legs = _join([*store.read_legs(*span)], ["track_id", "mode", "started_ms", "ended_ms", "length_mm"])
    legs = legs.merge(tracks[["track_id", "day"]], on="track_id")
    legs["duration_ms"] = legs["ended_ms"] - legs["started_ms"]

    days = []
    for day in sorted(tracks["day"].unique().tolist()):
        of_day = legs[legs["day"] == day]
        count = int((tracks["day"] == day).sum())
        days.append({"day": day_date(day).isoformat(), "tracks": count, **_sums(of_day), "modes": _by_mode(of_day)})
    return {
        "user": name,
        "start": day_date(lo_day).isoformat(),
        "end": day_date(hi_day).isoformat(),
        "timezone": zone,
        "days": days,
        "modes": _by_mode(legs),
        "totals": {
            "days": len(days),
            "tracks": len(tracks),
            **_sums(legs),
            "moving_s": int(tracks["moving_ms"].sum()) / 1000,
            "elevation_gain_m": int(tracks["elevation_gain_cm"].fillna(0).sum()) / 100,
        },
        **{what: _best(tracks, by) for what, by in BEST.items()},
    }


def latest_month(store: Store, name: str) -> tuple[int, int] | None:
    """Return the first and the last day of the latest month in which a user has tracks; None if there are none.

    Raises
    ------
    UnknownUser
        If there is no such user.
    """
    store.settings(name)
    sums = store.day_sums([name])
    days = sums.loc[sums["tracks"] > 0, "local_day"]
    if days.empty:
        return None
    return month_of(day_date(int(days.max())))


def month_of(day: date) -> tuple[int, int]:
    """Return the first and the last day of the month of a day, counted from 1970-01-01."""
    last = monthrange(day.year, day.month)[1]
    return day_number(day.replace(day=1)), day_number(day.replace(day=last))


def _join(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _sums(legs: pd.DataFrame) -> dict[str, float]:
    return {"distance_m": int(legs["length_mm"].sum()) / 1000, "duration_s": int(legs["duration_ms"].sum()) / 1000}


def _by_mode(legs: pd.DataFrame) -> dict[str, dict[str, float]]:
    found = {str(mode): _sums(legs_of) for mode, legs_of in legs.groupby("mode")}
    return {mode: found[mode] for mode in MODES if mode in found}


def _best(tracks: pd.DataFrame, by: str) -> dict[str, Any] | None:
    """Return the first of the tracks of which something is the greatest."""
    if by == "moving_speed":
        tracks = tracks[tracks["moving_ms"] > 0]
        tracks = tracks.assign(moving_speed=tracks["length_mm"] / tracks["moving_ms"])
    known = tracks[tracks[by].notna()] if len(tracks) else tracks
    if known.empty:
        return None
    best = known.loc[[known[by].astype("float64").idxmax()]]
    (track,) = objects(best, TRACKS)
    return track
