"""What a database of Dawarich is like: which tables it has, what of them is used, and who makes tracks there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from trackgen_core.dawarich.source import Dawarich

GENERATIONS: Final = (
    ("1.14.1", "has_foreign_key"),
    ("1.13.1", "has_sources"),
    ("1.12", "has_leg_times"),
    ("1.11", "has_imported_tracks"),
    ("1.7.8", "tracks_have_devices"),
)
"""Versions of Dawarich, the newest first, and what each brought to the tables of points and tracks."""
OLDEST: Final = "1.7"

OWNERS: Final = ("cron:daily_track_generation_job", "command:tracks.generate_range", "command:tracks.generate_realtime")
"""The jobs of Dawarich's rewrite that make tracks, as `phoenix.job_owners` calls them."""


@dataclass
class Findings:
    """What there is, and what can be done with it."""

    version: str
    """The oldest version of Dawarich that has such tables."""
    has_rewrite: bool
    """Whether the tables of the rewrite (Phoenix) are there, too."""
    device_from: str
    """Where the device of a point is read."""
    job_owners: dict[str, str]
    """Who runs those jobs of the rewrite that make tracks."""
    protected: dict[str, int]
    """Tracks that a take-over leaves alone, by reason."""
    legs: str
    """Which columns of segments are there to be written."""

    def lines(self) -> list[str]:
        """Return it in sentences."""
        kept = ", ".join(f"{count:,} {reason}" for reason, count in self.protected.items())
        found = [
            f"tables as of Dawarich {self.version} {'to 1.7.7' if self.version == OLDEST else 'or newer'}"
            + (", with those of its rewrite (Phoenix)" if self.has_rewrite else ""),
            f"the device of a point is read from {self.device_from}",
            f"left alone by a take-over: {kept or 'no tracks'}",
            f"written of each leg: {self.legs}",
        ]
        if self.job_owners:
            owners = ", ".join(f"{key} by {owner}" for key, owner in self.job_owners.items())
            found.append(f"jobs that make tracks there: {owners}")
        return found


def inspect(dawarich: Dawarich) -> Findings:
    """Look at the tables, and change nothing."""
    has = {
        "has_foreign_key": dawarich.has_foreign_key,
        "has_sources": dawarich.has_sources,
        "has_leg_times": dawarich.has("track_segments", "start_at"),
        "has_imported_tracks": dawarich.has("tracks", "import_id"),
        "tracks_have_devices": dawarich.tracks_have_devices,
    }
    devices = ["point_sources.tracker_id"] * has["has_sources"]
    devices += ["points.tracker_id"] * dawarich.has("points", "tracker_id")
    rows = dawarich.connection.execute("SELECT to_regnamespace('phoenix') IS NOT NULL").fetchone()
    return Findings(
        next((version for version, feature in GENERATIONS if has[feature]), OLDEST),
        rows == (True,),
        ", or of points without one, ".join(devices),
        _job_owners(dawarich.connection),
        _protected(dawarich),
        "mode, indices, distance, duration, speeds"
        + (", times, path and confidence" if has["has_leg_times"] else " and confidence")
        if dawarich.has("track_segments")
        else "nothing: there is no table track_segments",
    )


def _job_owners(connection: psycopg.Connection[Any]) -> dict[str, str]:
    query = "SELECT FROM information_schema.columns WHERE (table_schema, table_name) = ('phoenix', 'job_owners')"
    if connection.execute(query).fetchone() is None:
        return {}
    query = "SELECT key, owner::text FROM phoenix.job_owners WHERE key = ANY(%s) ORDER BY key"
    return dict(connection.execute(query, [[*OWNERS]]).fetchall())


def _protected(dawarich: Dawarich) -> dict[str, int]:
    """Count the tracks that are protected, each for the first reason that holds."""
    reasons = {"of imports": "t.import_id IS NOT NULL"} if dawarich.has("tracks", "import_id") else {}
    if dawarich.has("tracks", "demo"):
        reasons["of demo data"] = "t.demo"
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in reasons.items())
    corrected = "with legs that were imported or corrected by hand"
    rows = dawarich.connection.execute(
        f"SELECT CASE {cases} WHEN true THEN '{corrected}' END, count(*) FROM tracks AS t "
        f"WHERE {dawarich.protected} GROUP BY 1 ORDER BY 1 DESC"
    ).fetchall()
    return {str(reason): int(count) for reason, count in rows}
