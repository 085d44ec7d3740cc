"""Tags of runs and backfills: what makes them a session, and how far it is.

The UI does not show tags that begin with `.dagster/`: those are for machines.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Final

from trackgen_dagster.partitions import day_of, key_of

SESSION: Final = "trackgen/session"
"""Name of the session that a run or a backfill belongs to."""

MODE: Final = "trackgen/mode"
USERS: Final = "trackgen/users"
"""JSON list of names, or `all`."""

REQUEST: Final = ".dagster/trackgen.days"
"""First and last day that were asked for."""

SPAN: Final = ".dagster/trackgen.span"
"""First and last day that the session is about."""

RUNS: Final = ".dagster/trackgen.runs"
"""How many runs this attempt of the session has."""

ATTEMPT: Final = "trackgen/attempt"
"""Set on runs that do again what failed or was missing in the session: 2 for the first of them."""

KEY: Final = ".dagster/trackgen.key"
"""What a run of the sensor is about, work and all: the same work asked for again has the same key."""

CANCELLED: Final = "trackgen/cancelled"
"""Set on a run that somebody stopped; to Dagster, it failed."""

PROCESS: Final = ".dagster/trackgen.process"
"""Host, number and start of the process that executes the run."""

SETTINGS: Final = ".dagster/trackgen.settings"
"""Digest of the settings that the run worked with."""

POINTS: Final = ".dagster/trackgen.points"
"""Points of which the run has made segments so far."""

CREATED: Final = "trackgen/created"
"""Tracks that existed in the days of the run, of its users, when it ended."""

FAILED: Final = "trackgen/failed"
"""Chunks that could not be made."""

WAITED: Final = ".dagster/trackgen.waited_s"
"""Seconds between the request for the run and its start."""

REMINDED: Final = ".dagster/trackgen.reminded"
"""Set on a run that failed and that Dagster has been reminded to try again."""

BACKFILL: Final = "dagster/backfill"
PRIORITY: Final = "dagster/priority"
MAX_RETRIES: Final = "dagster/max_retries"
RETRY_NUMBER: Final = "dagster/retry_number"

PRIORITIES: Final = {"incremental": "20", "daily": "10", "bulk": "-10"}
"""What somebody waits for goes first; what the UI starts has priority 0."""

MOST_USERS: Final = 50
"""Users that are named in a tag; of more, runs are about all that is listed."""


def progress(stage: str) -> str:
    """Return the tag that holds `done/total` chunks of a stage."""
    return f"trackgen/{stage}"


def spell_span(lo_day: int, hi_day: int) -> str:
    """Return the value of `SPAN`."""
    return f"{key_of(lo_day)} to {key_of(hi_day)}"


def span_of(tags: Mapping[str, str]) -> tuple[int, int]:
    """Return the first and the last day of `SPAN`."""
    start, _, end = tags[SPAN].partition(" to ")
    return day_of(start), day_of(end)


def spell_users(users: Collection[str]) -> str:
    """Return the value of `USERS`."""
    return json.dumps(sorted(users)) if 0 < len(users) <= MOST_USERS else "all"


def users_of(tags: Mapping[str, str]) -> list[str] | None:
    """Return the users a run is about, by its tags; None for all."""
    names = tags.get(USERS, "all")
    return None if names == "all" else list(json.loads(names))
