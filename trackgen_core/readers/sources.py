"""Sources: where the bytes of a file come from. Compression ends here; a reader only ever sees one plain stream."""

from __future__ import annotations

import codecs
import io
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from bz2 import BZ2File
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import BadGzipFile, GzipFile
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_DECOMPRESSORS: Final[dict[bytes, Callable[[IO[bytes]], IO[bytes]]]] = {
    b"\x1f\x8b": lambda stream: cast(IO[bytes], GzipFile(fileobj=stream, mode="rb")),
    b"BZh": lambda stream: cast(IO[bytes], BZ2File(stream)),
    b"\xfd7zXZ\0": lambda stream: cast(IO[bytes], lzma.LZMAFile(stream)),  # noqa: SIM115
}
"""What unpacks compressed bytes, by how they begin."""

BUFFER_BYTES: Final = 1 << 17

SNIFFED_BYTES: Final = 64
"""So many first bytes tell the encoding of a text."""


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
class Options:
    """How files are to be read.

    Parameters
    ----------
    recover : bool
        Keep what is whole of a file that is damaged or breaks off.
    visits : bool
        Take places of visits and ends of activities of Google's Timeline, which Google has estimated, for points.
    add_weeks : int
        Take all times for so much later.
    """

    recover: bool = False
    visits: bool = False
    add_weeks: int = 0


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
    options : Options
        How it is to be read.
    notes : list of str
        What a reader noticed that is no reason to refuse the file, a sentence each.
    """

    path: str
    explicit: bool
    _open: Callable[[], IO[bytes]] = field(repr=False, compare=False)
    size: int = 0
    aside: str | None = None
    _length: int = 0
    options: Options = Options()
    notes: list[str] = field(default_factory=list, repr=False, compare=False)
    _state: _State = field(default_factory=lambda: _State(), repr=False, compare=False)

    @property
    def bytes_read(self) -> int:
        """How many of its bytes on disk have been read since it was last opened."""
        return round(self.size * self._state.share)

    @property
    def broken(self) -> UnreadableFile | None:
        """Why the bytes ended early, if they did and `options.recover` makes that their end."""
        return self._state.broken

    def note(self, text: str) -> None:
        """Add a note, unless it is there already."""
        if text not in self.notes:
            self.notes.append(text)

    def open(self) -> BinaryIO:
        """Open the decompressed bytes, from the start at each call.

        Raises
        ------
        UnreadableFile
            If the file cannot be opened; reading raises it where the bytes break off or are damaged.
        """
        with explained(self.path):
            stream = cast(io.BufferedReader, self._open())
            layers: list[IO[bytes]] = [stream]
            try:
                head = stream.peek(8)
                layers += [unpack(stream) for magic, unpack in _DECOMPRESSORS.items() if head.startswith(magic)]
            except BaseException:
                stream.close()
                raise
        self._state.share, self._state.broken = 0.0, None
        return io.BufferedReader(_Stream(self, layers), BUFFER_BYTES)


def open_text(source: Source) -> io.TextIOWrapper:
    """Open a source as text, with line ends as they are.

    UTF-16 is known by its byte order mark, or by a zero in every other byte. Everything else is UTF-8, in which bytes
    that are no UTF-8 stand for their Latin-1 characters: a name with an accent is no reason to refuse a file.
    """
    stream = cast(io.BufferedReader, source.open())
    return io.TextIOWrapper(stream, encoding_of(stream.peek(SNIFFED_BYTES)), errors=LATIN_1, newline="")


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
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    even, odd = head[:SNIFFED_BYTES:2], head[1:SNIFFED_BYTES:2]
    if len(odd) > 1 and any(even) != any(odd):
        return "utf-16-le" if any(even) else "utf-16-be"
    return "utf-8-sig"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


LATIN_1: Final = "trackgen-latin-1"
"""Name of the decoding error handler that reads undecodable bytes as Latin-1."""

codecs.register_error(LATIN_1, _as_latin_1)


@dataclass
class _State:
    """How much of a source has been read, and why its bytes ended early."""

    share: float = 0.0
    broken: UnreadableFile | None = None


class _Stream(io.RawIOBase):
    """The last of several layers of decompression, with errors that name the file and the place."""

    def __init__(self, source: Source, layers: list[IO[bytes]]) -> None:
        self._source = source
        self._layers = layers
        self._position = 0
        self._is_over = False
        """Whether damage was taken for the end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._is_over:
            return 0
        state = self._source._state
        try:
            with explained(self._source.path, f"byte {self._position}: "):
                count = self._readinto(buffer)
                if self._source._length:
                    state.share = min(1.0, self._layers[0].tell() / self._source._length)
        except UnreadableFile as error:
            if not (self._source.options.recover and self._position):
                raise
            state.broken, self._is_over = error, True
            return 0
        self._position += count
        return count

    def _readinto(self, buffer: WriteableBuffer) -> int:
        layer = cast(io.BufferedReader, self._layers[-1])
        if not self._source.options.recover:
            return layer.readinto(buffer)
        # All that comes before damage: `readinto` would lose what it has of its buffer by then.
        view = memoryview(buffer).cast("B")
        chunk = layer.read1(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

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
def explained(path: str, where: str = "") -> Iterator[None]:
    """Turn the many errors of files and archives into `UnreadableFile`."""
    again = "copy or download the file again"
    damaged = (BadGzipFile, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, ValueError)
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
    except damaged as error:
        raise UnreadableFile(f"{path}: {where}the compressed data are damaged ({error}); {again}") from error
    except OSError as error:
        # bz2 says with an OSError without a number that its data are damaged.
        what = error.strerror or f"the compressed data are damaged ({error}); {again}"
        raise UnreadableFile(f"{path}: {where}{what}") from error
