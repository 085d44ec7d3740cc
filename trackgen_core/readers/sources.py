"""Sources: where the bytes come from. Folders, gzip and zip end here; a reader only ever sees one plain stream."""

from __future__ import annotations

import codecs
import io
import lzma
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP_MAGIC: Final = b"\x1f\x8b"
ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip archive begins: with a first member, or with the end of an archive that has none."""

BUFFER_BYTES: Final = 1 << 17

_DAWARICH: Final = re.compile(rb'^\s*\{\s*"counts"')
"""How `data.json` of an old export of Dawarich begins."""

ORIGINAL: Final = "Dawarich once imported it; its points are in this archive as well"


class UnreadableFile(ValueError):
    """A file that cannot be read to its end. Its text is one line: which file, where, what is wrong, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class NoFixes(UnreadableFile):
    """A whole file without a single fix. In a folder or an archive such files are passed over, with the reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = " ".join(reason.split())


@dataclass(frozen=True)
class Source:
    """One file, or one member of an archive.

    Parameters
    ----------
    path : str
        How to show it: `trip.gpx.gz`, `backup.zip/2024/a.gpx`.
    explicit : bool
        Whether the user named it, rather than a folder or an archive that contains it.
    size : int
        How many bytes it takes on disk, compressed as it is.
    aside : str, optional
        Why it is not to be read, although it may hold points.
    """

    path: str
    explicit: bool
    _open: Callable[[], IO[bytes]] = field(repr=False, compare=False)
    size: int = 0
    aside: str | None = None
    _length: int = 0
    _meter: _Meter = field(default_factory=lambda: _Meter(), repr=False, compare=False)

    @property
    def bytes_read(self) -> int:
        """How many of its bytes on disk have been read since it was last opened."""
        return round(self.size * self._meter.share)

    def open(self) -> BinaryIO:
        """Open the decompressed bytes, from the start at each call.

        Raises
        ------
        UnreadableFile
            If the file cannot be opened; reading raises it where the bytes break off or are damaged.
        """
        with _explained(self.path):
            stream = cast(io.BufferedReader, self._open())
            layers: list[IO[bytes]] = [stream]
            try:
                if stream.peek(2)[:2] == GZIP_MAGIC:
                    layers.append(cast(IO[bytes], GzipFile(fileobj=stream, mode="rb")))
            except BaseException:
                stream.close()
                raise
        self._meter.share = 0.0
        return io.BufferedReader(_Stream(self.path, layers, self._length, self._meter), BUFFER_BYTES)


def find_sources(paths: Iterable[Path]) -> Iterator[Source]:
    """Find the files to read: those named, those in folders and those in zip archives.

    Parameters
    ----------
    paths : iterable of Path
        Files and folders. Folders are walked in sorted order; hidden files, hidden folders and symbolic links
        to folders are passed over.

    Yields
    ------
    Source
        One per file or member of an archive. What cannot be opened (a path that does not exist, a damaged
        archive) is a source as well, whose `open` says why: the other paths can still be read.
    """
    for path in paths:
        for file, error in _files(path):
            yield from _sources(file, error, explicit=file is path)


def count_bytes(paths: Iterable[Path]) -> int:
    """Return how many bytes the files take that `find_sources` finds; what cannot be looked at counts as none."""
    total = 0
    for path in paths:
        for file, _ in _files(path):
            with suppress(OSError):
                total += file.stat().st_size
    return total


def open_text(source: Source) -> io.TextIOWrapper:
    """Open a source as text, with line ends as they are.

    UTF-16 is known by its byte order mark. Everything else is UTF-8, in which bytes that are no UTF-8 stand for
    their Latin-1 characters: a name with an accent is no reason to refuse a file.
    """
    stream = cast(io.BufferedReader, source.open())
    return io.TextIOWrapper(stream, encoding_of(stream.peek(2)), errors=LATIN_1, newline="")


@contextmanager
def open_seekable(source: Source) -> Iterator[BinaryIO]:
    """Open a source for reading in any order. What is packed is unpacked to a temporary file before."""
    with source.open() as stream:
        if stream.seekable():
            yield stream
        else:
            with TemporaryFile() as unpacked:
                shutil.copyfileobj(stream, unpacked, BUFFER_BYTES)
                unpacked.seek(0)
                yield cast(BinaryIO, unpacked)


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text that begins with `head`."""
    return "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


LATIN_1: Final = "trackgen-latin-1"
"""Name of the decoding error handler that reads undecodable bytes as Latin-1."""

codecs.register_error(LATIN_1, _as_latin_1)


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


def _sources(path: Path, error: OSError | None, explicit: bool) -> Iterator[Source]:
    shown = os.fsencode(path).decode("utf-8", "replace")
    try:
        if error is not None:
            raise error
        if not path.exists():
            yield _failing(shown, explicit, "no such file or folder")
        elif not path.is_file():
            yield _failing(shown, explicit, "neither a file nor a folder; save it as a file first")
        else:
            size = path.stat().st_size
            with path.open("rb") as file:
                zipped = file.read(4) in ZIP_MAGICS
            if zipped:
                yield from _members(path, shown)
            else:
                yield Source(shown, explicit, lambda: path.open("rb"), size, _length=size)
    except OSError as cause:
        yield _failing(shown, explicit, cause.strerror or str(cause))


def _members(path: Path, shown: str) -> Iterator[Source]:
    try:
        with _explained(shown):
            # Not closed here: the members outlive this function, and reading the directory once for every
            # member would take quadratic time. The archive is closed with the last of its sources.
            archive = zipfile.ZipFile(path)
    except UnreadableFile as error:
        yield Source(shown, True, partial(_raise, error))
        return
    is_dawarich = _is_dawarich(archive)
    for member in sorted(archive.infolist(), key=lambda member: member.filename):
        parts = member.filename.split("/")
        hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in parts)
        if not member.is_dir() and not hidden:
            yield Source(
                f"{shown}/{member.filename}",
                False,
                partial(archive.open, member),
                member.compress_size,
                ORIGINAL if is_dawarich and parts[0] == "files" else None,
                member.file_size,
            )


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
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error):  # which is told when it is read
        return False


def _failing(shown: str, explicit: bool, what: str) -> Source:
    return Source(shown, explicit, partial(_raise, UnreadableFile(f"{shown}: {what}")))


def _raise(error: UnreadableFile) -> IO[bytes]:
    raise error


@dataclass
class _Meter:
    """How much of a source has been read."""

    share: float = 0.0


class _Stream(io.RawIOBase):
    """The last of several layers of decompression, with errors that name the file and the place."""

    def __init__(self, path: str, layers: list[IO[bytes]], length: int, meter: _Meter) -> None:
        self._path = path
        self._layers = layers
        self._length = length
        self._meter = meter
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        with _explained(self._path, f"byte {self._position}: "):
            count = cast(io.BufferedReader, self._layers[-1]).readinto(buffer)
            if self._length:
                self._meter.share = min(1.0, self._layers[0].tell() / self._length)
        self._position += count
        return count

    def seekable(self) -> bool:
        return isinstance(self._layers[-1], io.BufferedReader)  # a plain file, nothing to unpack

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        self._position = self._layers[-1].seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        for layer in reversed(self._layers):
            layer.close()
        super().close()


@contextmanager
def _explained(path: str, where: str = "") -> Iterator[None]:
    """Turn the many errors of files and archives into `UnreadableFile`."""
    again = "copy or download the file again"
    try:
        yield
    except UnreadableFile:
        raise
    except NotImplementedError as error:
        what = f"a compression that is not supported ({error}); unpack it and import the files"
        raise UnreadableFile(f"{path}: {where}{what}") from error
    except RuntimeError as error:
        what = f"cannot be unpacked ({error}); unpack it with its password and import the files"
        raise UnreadableFile(f"{path}: {where}{what}") from error
    except EOFError as error:
        raise UnreadableFile(f"{path}: {where}the compressed data break off; {again}") from error
    except (BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ValueError) as error:
        raise UnreadableFile(f"{path}: {where}the compressed data are damaged ({error}); {again}") from error
    except OSError as error:
        raise UnreadableFile(f"{path}: {where}{error.strerror or error}") from error
