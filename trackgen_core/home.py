"""Where things are kept: the embedded home, and the database."""

from __future__ import annotations

import os
from pathlib import Path

from trackgen_core.database import Database
from trackgen_core.store import Store


def home() -> Path:
    """Return the folder of the embedded default: `TRACKGEN_HOME`, by default `~/.trackgen`.

    Raises
    ------
    ValueError
        If its name has a character that ends a path inside a URL.
    """
    folder = Path(os.environ.get("TRACKGEN_HOME") or "~/.trackgen").expanduser().absolute()
    if set(str(folder)) & {"#", "?", "%"}:
        raise ValueError(f"TRACKGEN_HOME={folder}: the folder's name must not hold #, ? or %, which URLs cannot carry")
    return folder


def database_url() -> str:
    """Return the database's URL: `TRACKGEN_DATABASE_URL`, by default a SQLite file in the home."""
    return os.environ.get("TRACKGEN_DATABASE_URL") or f"sqlite:///{home() / 'trackgen.db'}"


def open_store(url: str | None = None) -> Store:
    """Open the database at `url`, by default `database_url()`, and make it if it is not there.

    Raises
    ------
    DatabaseError
        If it cannot be used.
    """
    return Store(Database(url or database_url()))
