"""A made-up history of fixes, as large as a benchmark wants it and the same in every run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from trackgen_core.points import FILE_FACTS, completed

DEVICES: Final = ("bike", "phone", "watch")
START_MS: Final = 1_546_300_800_000
"""2019-01-01T00:00Z: ten million points end before today."""

MEAN_PAUSE_S: Final = 3_000
SECONDS_BETWEEN_FIXES: Final = (15, 55)
"""With three devices and 2 % pauses, a million points make a year."""

GAP_SHARE: Final = 0.02
UNKNOWN_ALTITUDE_SHARE: Final = 0.3
METERS_PER_DEGREE: Final = 111_320


def make_points(n: int, seed: int = 20_240_229) -> pd.DataFrame:
    """Return n points of one user: columns of `POINT_DTYPES`, sorted by device, time, lon, lat.

    About 2 % of the points follow a pause of more than 30 minutes, 30 % have no altitude, and the devices record
    side by side. Times have milliseconds and coordinates 7 decimals, as devices write them.
    """
    rng = np.random.default_rng(seed)
    counts = [len(part) for part in np.array_split(np.arange(n), len(DEVICES))]
    parts = [_make_device(count, device, rng) for device, count in zip(DEVICES, counts, strict=True)]
    points = pd.concat(parts, ignore_index=True).assign(user="ada")
    return completed(points)


def as_stored(points: pd.DataFrame) -> pd.DataFrame:
    """Return points as `Store.read_points` delivers them: numbers instead of names, in the order of the key."""
    device_id = points["device"].map({device: number for number, device in enumerate(DEVICES, 1)})
    stored = points.assign(device_id=device_id.astype("int64"))
    return stored[["device_id", "time_ms", "lon", "lat", "altitude", "accuracy", *FILE_FACTS]]


def write_csv(points: pd.DataFrame, path: Path) -> None:
    """Write points as a CSV that `trackgen import` reads."""
    times = pd.to_datetime(points["time_ms"], unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str[:-3] + "Z"
    points.assign(timestamp=times).drop(columns=["time_ms", "user", *FILE_FACTS]).to_csv(path, index=False)


def _make_device(n: int, device: str, rng: np.random.Generator) -> pd.DataFrame:
    seconds = rng.uniform(*SECONDS_BETWEEN_FIXES, n)
    pauses = rng.random(n) < GAP_SHARE
    seconds[pauses] = rng.exponential(MEAN_PAUSE_S - 1_801, np.count_nonzero(pauses)) + 1_801
    metres = np.minimum(seconds, 60)[:, None] * rng.normal(0, 6, (n, 2))  # a walk of some m/s, slower on the whole
    lat = 48 + np.cumsum(metres[:, 1]) / METERS_PER_DEGREE
    lon = 11 + np.cumsum(metres[:, 0] / (METERS_PER_DEGREE * np.cos(np.radians(lat))))
    altitude = 500 + np.cumsum(rng.normal(0, 0.3, n))
    altitude[rng.random(n) < UNKNOWN_ALTITUDE_SHARE] = np.nan
    return pd.DataFrame(
        {
            "device": device,
            "time_ms": START_MS + np.cumsum(np.round(seconds * 1000)).astype(np.int64),
            "lon": np.round(lon, 7),
            "lat": np.round(lat, 7),
            "altitude": np.round(altitude, 1),
            "accuracy": np.round(rng.uniform(3, 30, n), 1),
            "speed": np.round(np.hypot(*metres.T) / seconds, 2),
        }
    )
