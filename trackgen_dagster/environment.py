"""What the environment may set."""

from __future__ import annotations

import os
from typing import Final

DEFAULTS: Final = {
    "TRACKGEN_DEBOUNCE_SECONDS": 45.0,
    "TRACKGEN_STUCK_MINUTES": 30.0,
    "TRACKGEN_RETENTION_DAYS": 90.0,
    "TRACKGEN_ATTEMPTS": 4.0,
    "TRACKGEN_RETRY_SECONDS": 1.0,
}

UI_URL: Final = "http://127.0.0.1:3000"
MAP_PATH: Final = "/trackgen/map"
"""Where the webserver answers with maps."""


def ui_url() -> str:
    """Return where people find the UI, with the path prefix of the webserver, if it has one."""
    return (os.environ.get("TRACKGEN_UI_URL") or UI_URL).rstrip("/")


def number(name: str) -> float:
    """Return a number from the environment, or its default.

    Raises
    ------
    ValueError
        If it is no positive number.
    """
    text = os.environ.get(name) or str(DEFAULTS[name])
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError(f"{name}={text}: write a number above 0, as in {DEFAULTS[name]:g}")
    return value


LEVELS: Final = ("debug", "info", "warning", "error")


def log_level(default: str) -> str:
    """Return from which level on processes write to the console: `TRACKGEN_LOG_LEVEL`.

    Raises
    ------
    ValueError
        If it is no level.
    """
    level = (os.environ.get("TRACKGEN_LOG_LEVEL") or default).lower()
    if level not in LEVELS:
        raise ValueError(f"TRACKGEN_LOG_LEVEL={level}: write one of {', '.join(LEVELS)}")
    return level.upper()


def owners() -> list[str]:
    """Return who owns the assets: addresses and teams in `TRACKGEN_OWNERS`, by default nobody.

    Raises
    ------
    ValueError
        If one of them is neither.
    """
    from trackgen_dagster.internals import is_valid_owner  # commands that ask for no owners need not load Dagster

    named = [name.strip() for name in os.environ.get("TRACKGEN_OWNERS", "").split(",")]
    found = [name for name in dict.fromkeys(named) if name]
    for name in found:
        if not is_valid_owner(name):
            raise ValueError(f"TRACKGEN_OWNERS: {name!r} is no owner: write me@example.org or team:name, with commas")
    return found
