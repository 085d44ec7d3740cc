"""Tracks and stays of a frame of points, without a database: what `import trackgen_core as tg` is for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from trackgen_core.export.columns import STAY_SCHEMA, STAYS, TRACK_SCHEMA, TRACKS, Columns, table
from trackgen_core.geodesy import IntArray
from trackgen_core.merging import find_chains, make_stays, make_tracks
from trackgen_core.points import ACTIVITIES, FILE_FACTS, MAX_SEQ, NO_TIME, TieCounter, in_order, validate
from trackgen_core.readers.columns import NAMES, find_columns, make_frame, parse_times, to_activities, to_texts
from trackgen_core.seams import Seams, connect
from trackgen_core.segmentation import segment
from trackgen_core.settings import Settings, make_settings

VALUES: Final = ("altitude", "accuracy", "speed")
KEY: Final = ["device_id", "time_ms", "lon", "lat"]
"""What tells a point from another one."""


class _Way(NamedTuple):
    """What points come to before it is said in the units of people."""

    segments: pd.DataFrame
    seams: Seams
    devices: pd.DataFrame


def tracks(points: pd.DataFrame, settings: Settings | Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return the tracks of points: those that `trackgen generate` would make of them, to the last bit.

    Parameters
    ----------
    points : DataFrame
        Fixes in any order: `timestamp`, `lon`, `lat` (degrees, WGS84), and optionally `user`, `device`, `altitude` and
        `accuracy` (m), `speed` (m/s), `activity` (a name), `pause` (1: the recording was stopped before the fix). The
        other names that a CSV file may use (`time`, `longitude` ...) will do, too. A time is a datetime (without a zone
        it is UTC), a number (s or ms since the epoch), or a text in ISO 8601; what is finer than a ms is cut off. Fixes
        of a device with the same time are in the order of the rows, or of a column `seq`.
    settings : Settings or mapping, optional
        The rules for all users, or those that differ from the defaults: `{"stay_minutes": 5}`, `{"preset": "strict"}`.

    Returns
    -------
    DataFrame
        A row a track, sorted by user, device and start, with the columns of the GeoParquet export: the CSV export's,
        with times as timestamps in UTC, and `moving_s`, `moving_speed_kmh`, `mode` and `geometry`, the path. It is a
        GeoDataFrame (EPSG:4326) if GeoPandas is installed; otherwise `geometry` is WKB.

    Raises
    ------
    ValueError
        If a column is missing, or a setting is not allowed (`SettingsError`).

    Warns
    -----
    UserWarning
        If rows are no fixes, or hold a value that is no measurement: how many, and why.

    Examples
    --------
    >>> import pandas as pd
    >>> import trackgen_core as tg
    >>> times = pd.date_range("2025-06-01 08:00", periods=5, freq="min")
    >>> ride = pd.DataFrame({"timestamp": times, "lon": [8.50, 8.51, 8.52, 8.53, 8.54], "lat": 47.0})
    >>> tg.tracks(ride)["distance_m"].tolist()
    [3042.24]
    """
    way = _way(points, settings)
    found, _ = make_tracks(way.segments, way.seams, way.devices)
    return _shown(_placed(found, way, "track_id"), TRACKS, TRACK_SCHEMA)


def stays(points: pd.DataFrame, settings: Settings | Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return the stays of points: parameters, errors and warnings as of `tracks`.

    Returns
    -------
    DataFrame
        A row a stay, sorted by user, device and start, with the columns of the CSV export, with times as timestamps in
        UTC, and `geometry`, its place, as of `tracks`. A stay is `ongoing` if nothing comes after it.
    """
    way = _way(points, settings)
    found = make_stays(find_chains(way.segments, way.seams), way.devices)
    return _shown(_placed(found, way, "stay_id"), STAYS, STAY_SCHEMA)


def _way(points: pd.DataFrame, settings: Settings | Mapping[str, Any] | None) -> _Way:
    rules = settings if isinstance(settings, Settings) else make_settings(settings or {})
    fixes, devices = _distinct(_fixes(points))
    segments = segment(fixes.assign(emit=True), rules).segments
    return _Way(*connect(segments, rules), devices)


def _fixes(points: pd.DataFrame) -> pd.DataFrame:
    """Return the fixes among the rows of a frame with any of the names that columns of files have."""
    columns = find_columns(tuple(map(str, points.columns)))
    if missing := [name for name in ("time", "lon", "lat") if name not in columns]:
        wanted = ", ".join(f"{name} ({', '.join(NAMES[name][:3])} ...)" for name in missing)
        raise ValueError(f"the points have no column for {wanted}; there are: {', '.join(map(str, points.columns))}")
    named = {name: points.iloc[:, place] for name, place in columns.items()}
    names = {
        name: to_texts([None if pd.isna(text) else str(text) for text in named[name].tolist()])
        for name in ("user", "device")
        if name in named
    }
    numbers = {
        name: pd.to_numeric(named[name], errors="coerce").to_numpy("float64", na_value=np.nan)
        for name in ("lon", "lat", *VALUES)
        if name in named
    }
    rows = make_frame(_times_ms(named["time"]), **numbers, **names, **_facts(named))
    fixes, rejected, ignored = validate(rows.assign(seq=_whole(points["seq"])) if "seq" in points else rows)
    if rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items()))
        warnings.warn(f"{rejected.total():,} of {len(points):,} rows are no fixes: {reasons}", stacklevel=4)
    if ignored:
        values = ", ".join(f"{count:,} of {column}" for column, count in sorted(ignored.items()))
        warnings.warn(f"values that are no measurement are taken for unknown: {values}", stacklevel=4)
    return fixes if "seq" in points else TieCounter().count(fixes)


def _facts(named: Mapping[str, pd.Series]) -> dict[str, Any]:
    """Return the pauses and activities of rows: an activity is a name, or a place in `ACTIVITIES`."""
    facts = {}
    if "pause" in named:
        facts["pause"] = np.minimum(_whole(named["pause"]), 1)
    if "activity" in named:
        is_code = pd.api.types.is_numeric_dtype(named["activity"].dtype)
        texts = (None if pd.isna(text) else str(text) for text in named["activity"].tolist())
        codes = _whole(named["activity"]) if is_code else to_activities(texts)
        facts["activity"] = np.where(codes < len(ACTIVITIES), codes, 0)
    return facts


def _whole(values: pd.Series) -> IntArray:
    """Return values as counts, 0 for what is none."""
    counts: IntArray = pd.to_numeric(values, errors="coerce").fillna(0).clip(0, MAX_SEQ).to_numpy("int64")
    return counts


def _times_ms(times: pd.Series) -> IntArray:
    """Return instants in ms since the epoch, `NO_TIME` where there is none."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        times = times.dt.tz_convert(None)
    if pd.api.types.is_datetime64_dtype(times.dtype):
        # NaT is the least integer, as NO_TIME is.
        instants: IntArray = times.to_numpy("datetime64[ns]").astype("datetime64[ms]").astype(np.int64)
        return np.where(times.isna(), NO_TIME, instants)
    whole = pd.api.types.is_numeric_dtype(times.dtype)
    return parse_times(
        to_texts([None if pd.isna(time) else repr(time) if whole else str(time) for time in times.tolist()])
    )


def _distinct(fixes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return fixes with `device_id`, each once and in their order, and the devices.

    Of the same point, a known value beats an unknown one, a larger one a smaller one, and the smallest `seq` stands, as
    in the database.
    """
    owner = fixes.groupby(["user", "device"])
    devices = owner.size().index.to_frame(index=False).rename_axis("device_id")
    fixes = fixes.assign(device_id=owner.ngroup()).drop(columns=["user", "device"])
    fixes = fixes.sort_values(KEY, ignore_index=True)
    if fixes.duplicated(KEY).any():
        folds = dict.fromkeys((*VALUES, *FILE_FACTS), "max") | {"seq": "min"}
        fixes = fixes.groupby(KEY, as_index=False).agg(folds)
    return in_order(fixes), devices


def _placed(items: pd.DataFrame, way: _Way, key: str) -> pd.DataFrame:
    """Return tracks or stays in order, with the names of their owners and what they are among those of their device."""
    by_device = way.segments.groupby("device_id")
    edges = {}
    for edge, fold, at in (
        ("first", by_device.first, ("started_ms", "start_lon", "start_lat")),
        ("last", by_device.last, ("ended_ms", "end_lon", "end_lat")),
    ):
        there = fold().loc[items["device_id"], [f"{edge}_{name}" for name in ("ms", "lon", "lat")]]
        edges[edge] = (there.to_numpy() == items[list(at)].to_numpy()).all(axis=1)
    owners = way.devices.loc[items["device_id"]]
    items = items.assign(
        user=owners["user"].to_numpy(),
        device=owners["device"].to_numpy(),
        break_reason=np.where(edges["first"], "start", items["break_reason"]),
        is_ongoing=edges["last"],
    )
    return items.sort_values(["device_id", "started_ms", "ended_ms", "start_lon", "start_lat", key], ignore_index=True)


def _shown(items: pd.DataFrame, columns: Columns, schema: pa.Schema) -> pd.DataFrame:
    """Return tracks or stays in the units of people."""
    frame: pd.DataFrame = table(items, columns, schema).to_pandas()
    try:
        import geopandas
    except ImportError:
        return frame
    paths = geopandas.GeoSeries.from_wkb(frame["geometry"])
    frame = geopandas.GeoDataFrame(frame, geometry=paths, crs="EPSG:4326")
    return frame
