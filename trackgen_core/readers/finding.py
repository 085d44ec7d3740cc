"""From paths to sources: the files in folders and in archives, also in archives that are in archives."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from trackgen_core.readers.sources import BUFFER_BYTES, Options, Source, UnreadableFile, explained

ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip archive begins: with a first member, or with the end of an archive that has none."""

TAR_MAGIC: Final = b"ustar"
TAR_MAGIC_AT: Final = 257
HEAD_BYTES: Final = 512

MAX_ARCHIVES: Final = 3
"""So many archives may lie in each other: those of Garmin are two, and a few more can hold more than any disk."""

_DAWARICH: Final = re.compile(rb'^\s*\{\s*"counts"')
"""How `data.json` of an old export of Dawarich begins."""

ORIGINAL: Final = "Dawarich once imported it; its points are in this archive as well"
LINK: Final = "a link that leads out of the folder; to import what it leads to, name that"
TOO_DEEP: Final = f"more than {MAX_ARCHIVES} archives in each other; unpack it, and import what is in it"


def find_sources(paths: Iterable[Path], options: Options | None = None) -> Iterator[Source]:
    """Find the files to read: those named, those in folders and those in archives (zip and tar).

    Parameters
    ----------
    paths : iterable of Path
        Files and folders. Folders are walked in sorted order; hidden files, hidden folders and symbolic links
        to folders are passed over. What a link leads to that is not in the folder is not read.
    options : Options, optional
        How the files are to be read.

    Yields
    ------
    Source
        One per file or member of an archive. What cannot be opened (a path that does not exist, a damaged
        archive) is a source as well, whose `open` says why: the other paths can still be read.
    """
    options = options or Options()
    for path in paths:
        for file, error in _files(path):
            yield from _sources(file, error, path, options)


def count_bytes(paths: Iterable[Path]) -> int:
    """Return how many bytes the files take that `find_sources` finds; what cannot be looked at counts as none."""
    total = 0
    for path in paths:
        for file, _ in _files(path):
            with suppress(OSError):
                total += file.stat().st_size
    return total


def _files(path: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Yield what is no folder, in sorted order; and a folder that cannot be looked into, with the reason."""
    try:
        if not path.is_dir():
            yield path, None
            return
        for child in sorted(path.iterdir()):
            # A link to a folder may lead back to where it is; a pipe or a device would never end.
            linked_folder = child.is_symlink() and child.is_dir()
            if not child.name.startswith(".") and not linked_folder and (child.is_dir() or child.is_file()):
                yield from _files(child)
    except OSError as error:
        yield path, error


def _sources(path: Path, error: OSError | None, named: Path, options: Options) -> Iterator[Source]:
    shown, explicit = os.fsencode(path).decode("utf-8", "replace"), path is named
    try:
        if error is not None:
            raise error
        if not path.exists():
            yield _failing(shown, explicit, "no such file or folder")
        elif not path.is_file():
            yield _failing(shown, explicit, "neither a file nor a folder; save it as a file first")
        elif path.is_symlink() and not explicit and not path.resolve().is_relative_to(named.resolve()):
            yield Source(shown, explicit, partial(_open, path), aside=LINK)
        else:
            size = path.stat().st_size
            whole = Source(shown, explicit, partial(_open, path), size, _length=size, options=options)
            yield from _unpacked(whole, 0, path)
    except OSError as cause:
        yield _failing(shown, explicit, cause.strerror or str(cause))


def _unpacked(source: Source, archives: int, path: Path | None = None) -> Iterator[Source]:
    """Yield a source; if it is an archive, its members.

    Parameters
    ----------
    source : Source
        The file.
    archives : int
        In how many archives it lies.
    path : Path, optional
        Where it is, if it is a file that lies in none.
    """
    try:
        with source.open() as stream:
            head = stream.read(HEAD_BYTES)
    except UnreadableFile:
        yield source  # which says so when it is read
        return
    zipped, tarred = head[:4] in ZIP_MAGICS, head[TAR_MAGIC_AT:].startswith(TAR_MAGIC)
    if not zipped and not tarred:
        yield source
    elif archives == MAX_ARCHIVES:
        yield replace(source, aside=TOO_DEEP)
    else:
        try:
            for member in _zip_members(source, path) if zipped else _tar_members(source, path):
                yield from _unpacked(member, archives + 1)
        except UnreadableFile as error:
            yield Source(source.path, True, partial(_raise, error))


def _zip_members(source: Source, path: Path | None) -> Iterator[Source]:
    with explained(source.path):
        # Not closed here: the members outlive this function, and reading the directory once for every
        # member would take quadratic time. The archive is closed with the last of its sources.
        file = path.open("rb") if path else _temporary_copy(source)
        try:
            archive = zipfile.ZipFile(file)
        except BaseException:
            file.close()
            raise
        weakref.finalize(archive, file.close)
    is_dawarich = _is_dawarich(archive)
    for member in sorted(archive.infolist(), key=lambda member: member.filename):
        if not member.is_dir() and not _is_hidden(member.filename):
            yield Source(
                f"{source.path}/{member.filename}",
                False,
                partial(archive.open, member),
                member.compress_size,
                ORIGINAL if is_dawarich and member.filename.startswith("files/") else None,
                member.file_size,
                source.options,
            )


def _tar_members(source: Source, path: Path | None) -> Iterator[Source]:
    """Yield the files of a tar archive. They are read in any order, so one that is compressed is unpacked before."""
    with explained(source.path):
        file = path.open("rb") if path and not _is_compressed(path) else _temporary_copy(source)
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
        except BaseException:
            file.close()
            raise
        weakref.finalize(archive, file.close)
        for member in archive:
            # Links and devices have no bytes of their own.
            if member.isreg() and not _is_hidden(member.name):
                yield Source(
                    f"{source.path}/{member.name}",
                    False,
                    partial(_open_tar_member, archive, member),
                    member.size,
                    None,
                    member.size,
                    source.options,
                )
        # What it cannot read, tarfile takes for the end.
        file.seek(archive.offset)
        if any(file.read(HEAD_BYTES)):
            raise tarfile.ReadError(f"no header at byte {archive.offset}")


def _open_tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None
    return stream


def _temporary_copy(source: Source) -> IO[bytes]:
    """Return the bytes of a source in a temporary file, for reading in any order."""
    copy = TemporaryFile()  # noqa: SIM115
    try:
        with source.open() as stream:
            shutil.copyfileobj(stream, copy, BUFFER_BYTES)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return not file.read(HEAD_BYTES)[TAR_MAGIC_AT:].startswith(TAR_MAGIC)


def _is_hidden(name: str) -> bool:
    return any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _is_dawarich(archive: zipfile.ZipFile) -> bool:
    """Tell whether an archive is an export of Dawarich: its points, and in `files/` what these were imported from."""
    names = archive.namelist()
    if "manifest.json" in names:
        return any(name.startswith("points/") and name.endswith(".jsonl") for name in names)
    if "data.json" not in names:
        return False
    try:
        with archive.open("data.json") as stream:
            return _DAWARICH.match(stream.read(BUFFER_BYTES)) is not None
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):  # told when it is read
        return False


def _failing(shown: str, explicit: bool, what: str) -> Source:
    return Source(shown, explicit, partial(_raise, UnreadableFile(f"{shown}: {what}")))


def _raise(error: UnreadableFile) -> IO[bytes]:
    raise error
