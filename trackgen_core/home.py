"""Where things are kept: the embedded home, and the database."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from trackgen_core.database import Database
from trackgen_core.store import Store

CONTENTS: Final = frozenset(
    {"trackgen.db", "trackgen.db-wal", "trackgen.db-shm", "dagster", "inbox", "done", "failed", "demo"}
)
"""What Trackgen makes in its home."""

OF_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
"""Rights of anybody but the owner."""


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
    url = url or database_url()
    if url == f"sqlite:///{home() / 'trackgen.db'}":
        make_private(home())
    return Store(Database(url))


def make_private(folder: Path) -> None:
    """Make a folder for the home, or take the rights of others to one that is there and to what Trackgen made in it.

    Where somebody was and when is nobody else's business. A folder with other files in it keeps its own rights: it may
    be the home of everything else, too. What cannot be changed, in a home that may only be read, is left as it is.
    """
    if not folder.exists():
        with suppress(OSError):  # which shows when something is written
            folder.mkdir(mode=0o700, parents=True)
        return
    with suppress(OSError):
        entries = list(folder.iterdir())
        _close(entry for entry in entries if entry.name in CONTENTS)
        if entries and all(entry.name in CONTENTS for entry in entries):
            _close([folder])


def _close(paths: Iterable[Path]) -> None:
    """Take the rights of others to files and folders, and to all that is in a folder that was open."""
    for path in paths:
        with suppress(OSError):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) or not mode & OF_OTHERS:
                continue
            path.chmod(stat.S_IMODE(mode) & ~OF_OTHERS)
            if stat.S_ISDIR(mode):
                _close(path.iterdir())
