"""The drop folder: what is put into the home's `inbox/` is imported, then moved to `done/` or `failed/`.

`inbox/<user>/<file>` and `inbox/<user>/<device>/<file>` say whose points a file holds, where the file itself does not.
A file keeps its relative path when it is moved, and gets a report beside it: `<file>.report.json`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from trackgen_core.importing import FileReport, ImportReport, import_paths
from trackgen_core.readers.sources import LATIN_1
from trackgen_core.store import Store

SETTLE_S: Final = 10
"""A file is complete if nobody has written to it for so long."""

UNFINISHED: Final = (".part", ".filepart", ".tmp", ".crdownload", "~")
"""How the names of files end that are still being written, or are an editor's copy."""


class InboxError(RuntimeError):
    """Something in the inbox cannot be read or moved: what, where and why, a line each.

    Parameters
    ----------
    message : str
        The lines.
    reports : list of DroppedReport
        What was imported and moved in the same pass.
    """

    def __init__(self, message: str, reports: list[DroppedReport] | None = None) -> None:
        super().__init__(message)
        self.reports = reports or []


@dataclass(frozen=True)
class Dropped:
    """A file in the inbox, as it was when it was found.

    Parameters
    ----------
    path : Path
        The file.
    user : str or None
        The folder it is in; None for a file in the inbox itself.
    device : str
        The folder in the user's folder, '' if there is none.
    size, mtime_ns : int
        By these it is told whether the file has changed since.
    """

    path: Path
    user: str | None
    device: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class DroppedReport:
    """What became of a dropped file: what was imported of it, and where it is now."""

    dropped: Dropped
    imported: ImportReport
    imported_at: str
    target: Path

    @property
    def failed(self) -> bool:
        """Whether the file, or one in it, could not be read, or nothing in it is of a known format."""
        return _has_failed(self.imported)

    @property
    def problems(self) -> list[str]:
        """Why it failed, a line each; empty if it did not."""
        files = self.imported.files if self.failed else []
        errors = [file.error for file in files if file.error]
        return errors or [f"{file.path}: {file.skipped}" for file in files]

    @property
    def line(self) -> str:
        """The report in one line, as a log shows it."""
        numbers = ", ".join(f"{self.imported.total(name)} {name}" for name in ("read", "new", "duplicate", "rejected"))
        moved = f"{_shown(self.dropped.path)}: {numbers}; moved to {_shown(self.target)}"
        return " ".join("; ".join([moved, *self.problems]).split())

    def as_json(self) -> dict[str, Any]:
        """Return the report as it is written beside the file."""
        return {
            **asdict(self.dropped),
            "path": _shown(self.dropped.path),
            "imported_at": self.imported_at,
            "outcome": "failed" if self.failed else "done",
            **self.imported.as_json(),
        }


def waiting(home: Path, now: float | None = None) -> list[Dropped]:
    """Return the files in the inbox that are complete, sorted by path.

    Hidden files, files in hidden folders and those whose names end like `UNFINISHED` are passed over. So are symbolic
    links: what they lead to is either in the inbox as well, or none of its business.

    A writer that pauses for more than `SETTLE_S` is taken to be done, so who writes slowly should give a file such a
    name, and rename it at the end.

    Parameters
    ----------
    home : Path
        The folder that the inbox is in, see `home.home`.
    now : float, optional
        The time, in seconds since the epoch.
    """
    return _find(home, time.time() if now is None else now, lambda error: None)


def import_dropped(store: Store, home: Path, dropped: Dropped) -> DroppedReport | None:
    """Import a file, write its report and move it.

    If the process dies on the way, the file is still in the inbox: done again, all its points are duplicates.

    Parameters
    ----------
    store : Store
        Where the points go.
    home : Path
        The folder that the inbox is in.
    dropped : Dropped
        One of `waiting`.

    Returns
    -------
    DroppedReport or None
        None if the file was taken away or written to meanwhile; what is left is for the next time.

    Raises
    ------
    InboxError
        If the report cannot be written or the file cannot be moved. It stays in the inbox.
    """
    if not _is_unchanged(dropped):
        return None
    imported = import_paths(store, [dropped.path], user=dropped.user, device=dropped.device)
    if not imported.files:
        shown = _shown(dropped.path)
        imported.files.append(FileReport(shown, error=f"{shown}: there is no file in this archive"))
    if not _is_unchanged(dropped):
        return None
    place = home / ("failed" if _has_failed(imported) else "done")
    try:
        target = _find_target(home, place, dropped)
        report = DroppedReport(dropped, imported, _utc_now(), target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_report(report)
        try:
            _move(dropped.path, target)
        except OSError:
            _report_path(target).unlink(missing_ok=True)
            raise
    except OSError as error:
        if not os.path.lexists(dropped.path):
            return None
        what = f"{_shown(dropped.path)}: has been read, but cannot be moved to {place}: {error}"
        raise InboxError(f"{' '.join(what.split())}; it stays in the inbox and will be tried again") from error
    return report


def import_all(
    store: Store, home: Path, progress: Callable[[DroppedReport], None] = lambda report: None
) -> list[DroppedReport]:
    """Import what is waiting, unless another process is at it; make the inbox if there is none.

    Parameters
    ----------
    store : Store
        Where the points go.
    home : Path
        The folder that the inbox is in.
    progress : callable
        Called with the report of each file, when the file has been moved.

    Returns
    -------
    list of DroppedReport
        One per file; empty as well if another process is at it.

    Raises
    ------
    InboxError
        If the inbox cannot be used; or if a folder in it cannot be read or a file cannot be moved, after all others
        were done.
    """
    inbox = home / "inbox"
    try:
        inbox.mkdir(parents=True, exist_ok=True)
        lock = FileLock(inbox / ".lock").acquire(blocking=False)
    except Timeout:
        return []
    except OSError as error:
        raise InboxError(f"{_shown(inbox)}: cannot be used as the inbox: {error}") from error
    reports: list[DroppedReport] = []
    problems: list[str] = []
    with lock:
        for dropped in _find(home, time.time(), lambda error: problems.append(f"cannot be read: {error}")):
            try:
                report = import_dropped(store, home, dropped)
            except InboxError as error:
                problems.append(str(error))
                continue
            if report:
                reports.append(report)
                progress(report)
    if problems:
        raise InboxError("\n".join(problems), reports)
    return reports


def _find(home: Path, now: float, tell: Callable[[OSError], None]) -> list[Dropped]:
    def tell_unless_gone(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            tell(error)

    inbox, found = home / "inbox", []
    for folder, folders, names in os.walk(inbox, onerror=tell_unless_gone):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or name.lower().endswith(UNFINISHED):
                continue
            path = Path(folder, name)
            try:
                info = path.lstat()
            except OSError as error:
                tell_unless_gone(error)
                continue
            if stat.S_ISREG(info.st_mode) and _is_settled(info, now):
                owner = [_owner_name(part) for part in path.relative_to(inbox).parts[:-1]]
                user, device = owner[0] if owner else None, owner[1] if len(owner) > 1 else ""
                found.append(Dropped(path, user, device, info.st_size, info.st_mtime_ns))
    return sorted(found, key=lambda dropped: dropped.path)


def _is_settled(info: os.stat_result, now: float) -> bool:
    # Some tools copy a modification time that is still to come.
    changed = info.st_mtime if info.st_mtime <= now else info.st_ctime
    return now - changed >= SETTLE_S


def _is_unchanged(dropped: Dropped) -> bool:
    try:
        info = dropped.path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and (info.st_size, info.st_mtime_ns) == (dropped.size, dropped.mtime_ns)


def _has_failed(imported: ImportReport) -> bool:
    return bool(imported.failed) or all(file.skipped for file in imported.files)


def _find_target(home: Path, place: Path, dropped: Dropped) -> Path:
    """Return where the file goes: the same relative path, with a number where a name is taken."""
    *folders, name = dropped.path.relative_to(home / "inbox").parts
    for folder in folders:
        place = next(path for path in _numbered(place / folder) if path.is_dir() or not os.path.lexists(path))
    return next(
        path for path in _numbered(place / name) if not os.path.lexists(path) and _is_free(_report_path(path), dropped)
    )


def _numbered(path: Path) -> Iterator[Path]:
    """Yield `trip.gpx.gz`, `trip-2.gpx.gz`, `trip-3.gpx.gz`, ..."""
    yield path
    extension = "".join(path.suffixes[-2 if path.suffix.lower() == ".gz" else -1 :])
    stem = path.name.removesuffix(extension)
    for number in count(2):
        yield path.with_name(f"{stem}-{number}{extension}")


def _is_free(report: Path, dropped: Dropped) -> bool:
    """Tell whether a report may be written here: there is none, or a crash left it before this very file was moved."""
    if not os.path.lexists(report):
        return True
    try:
        stored_report = json.loads(report.read_bytes())
        known = (stored_report["path"], stored_report["size"], stored_report["mtime_ns"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # something of this name was dropped
        return False
    return known == (_shown(dropped.path), dropped.size, dropped.mtime_ns)


def _report_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.report.json")


def _write_report(report: DroppedReport) -> None:
    text = json.dumps(report.as_json(), ensure_ascii=False, indent=2)
    unfinished = report.target.with_name(".report.tmp")
    try:
        unfinished.write_bytes(f"{text}\n".encode("utf-8", "replace"))
        unfinished.replace(_report_path(report.target))
    finally:
        unfinished.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(path, target)


def _move_across(path: Path, target: Path) -> None:
    """Move a file to another file system. At any moment one of the two names holds it whole, and neither a part."""
    unfinished = target.with_name(".moving.tmp")
    try:
        shutil.copy2(path, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    try:
        path.unlink(missing_ok=True)
    except OSError:
        target.unlink()
        raise


def _owner_name(folder: str) -> str:
    """Return the name of a folder as a user's or device's, read like the names inside files."""
    return os.fsencode(folder).decode("utf-8", LATIN_1)


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
