"""CSV: a header, and one fix per row.

Rows without quotes that are all of one width are split by Arrow; all others by the csv module of Python, which takes
longer, but never shifts a column, and says where it is when a quote stays open. Values are parsed as whole columns.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from trackgen_core.points import NO_TIME
from trackgen_core.readers.columns import (
    NAMES,
    NEEDED,
    batches,
    find_columns,
    parse_numbers,
    parse_times,
    plain_name,
    require_columns,
    shown_names,
    to_texts,
)
from trackgen_core.readers.sources import NoFixes, Source, UnreadableFile, open_text
from trackgen_core.readers.tables import Cells, Table

DELIMITERS: Final = ",;\t|"

COMMENTS: Final = ("#", "//", "%")

MAX_HEADER_CHARS: Final = 1 << 16

MAX_LINE_CHARS: Final = 1 << 20
"""A longer line is no row of fixes, and must not fill the memory: it is cut into pieces, which are bad rows."""

MAX_PREAMBLE_LINES: Final = 50
"""A header stands among so many first lines: some programs put comments, or a title, above it."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SEPARATOR: Final = re.compile(r'^\ufeff?"?sep=([,;|:\t ])"?\s*$', re.IGNORECASE)
"""What Excel understands above a header: which delimiter the file has."""

_PACKED: Final = (".gz", ".bz2", ".xz")


class _Header(NamedTuple):
    """Where the header of a file is, and what it says."""

    line: int
    text: str
    delimiter: str
    names: list[str]


def recognises(text: str, path: str) -> bool:
    """Tell whether a text that begins like this holds fixes as CSV, or is at least a CSV file by its name.

    A CSV file without the columns that are needed is worth an error that says so; any other text with commas
    is not.
    """
    header = _find_header(islice(re.split(r"\r\n?|\n", text), MAX_PREAMBLE_LINES))
    if header and _CONTROL.search(header.text):
        return False
    name = path.lower()
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    if name.endswith((".csv", ".tsv")):
        return True
    if header is None or len(header.names) < len(NEEDED):
        return False
    return len(find_columns(tuple(header.names)).keys() & set(NEEDED)) >= 2 or _is_row(header.names)


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the rows of a CSV file, in batches. A row with too many fields is a bad row."""
    with open_text(source) as text:
        lines = iter(partial(text.readline, MAX_LINE_CHARS), "")
        if source.options.recover:
            lines = _whole_lines(lines, source)
        first = list(_first_lines(lines))
        header = _find_header(first)
        if header is None:
            raise NoFixes(source.path, "the file is empty")
        number, head, delimiter, names = header
        if len(head) > MAX_HEADER_CHARS:
            raise UnreadableFile(f"{source.path}: line {number}: no CSV with a header: the line is too long for one")
        _check_header(names, source, number)
        lines = chain(first[number:], lines)
        table = Table(names, source, decimal_comma=delimiter != ",")
        for block in batches(lines):
            rows = [line for line in block if line[:1] != "#" or not _is_comment(line, delimiter, len(names))]
            cells = _cells_of_plain(rows, delimiter, len(names)) if rows else None
            if cells is not None:
                yield table.frame(cells)
            elif rows:
                # A quote may be closed behind the block.
                reader = csv.reader(chain(block, lines), delimiter=delimiter, strict=True)
                for batch in batches(_rows(reader, len(names), number, source)):
                    yield table.frame(_cells_of(batch, len(names)))
            number += len(block)


def _first_lines(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines among which the header is; a long one is the last, so that they never fill the memory."""
    for line in islice(lines, MAX_PREAMBLE_LINES):
        yield line
        if len(line) > MAX_HEADER_CHARS:
            return


def _find_header(lines: Iterable[str]) -> _Header | None:
    """Find the header among the first lines of a file: the first that names all that is needed, or else the first."""
    delimiters, found = DELIMITERS, None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if separator := _SEPARATOR.match(line):
            delimiters = separator[1]
            continue
        is_comment = line.startswith(COMMENTS)
        if len(line) <= MAX_HEADER_CHARS:
            text = line.lstrip("#/% ") if is_comment else line
            delimiter, names = _split(text, delimiters)
            if find_columns(tuple(names)).keys() >= set(NEEDED):
                return _Header(number, text, delimiter, names)
        else:
            delimiter, names = delimiters[0], []
        if found is None and not is_comment:
            found = _Header(number, line, delimiter, names)
    return found


def _split(line: str, delimiters: str) -> tuple[str, list[str]]:
    """Return the delimiter that makes most sense of a header, and its cells."""
    splits = ((d, next(csv.reader([line.lstrip("\ufeff")], delimiter=d), [])) for d in delimiters)
    return max(splits, key=lambda split: (len(find_columns(tuple(split[1]))), len(split[1])))


def _is_comment(line: str, delimiter: str, width: int) -> bool:
    """Tell whether a line that begins with # is a comment, and no row whose first cell begins like one."""
    return line.count(delimiter) < width - 1


def _whole_lines(lines: Iterator[str], source: Source) -> Iterator[str]:
    """Yield lines, but not one that breaks off with the bytes of the source."""
    for line in lines:
        if source.broken is None or line.endswith(("\n", "\r")):
            yield line


def _check_header(names: list[str], source: Source, line: int) -> None:
    """Raise an error if a header does not say where time and place are."""
    where = f"{source.path}: line {line}"
    columns = find_columns(tuple(names))
    known = {alias for aliases in NAMES.values() for alias in aliases}
    twice = [name for name, count in Counter(map(plain_name, names)).items() if count > 1 and name in known]
    if twice:
        raise UnreadableFile(
            f"{where}: the header has {twice[0]!r} twice ({shown_names(names)}); rename or remove one of them"
        )
    if not columns and _has_value(names):
        raise UnreadableFile(f"{where}: no header, this line is data; put a line such as timestamp,lon,lat above it")
    require_columns(columns, names, source.path, f"line {line}: the header")


def _has_value(cells: list[str]) -> bool:
    texts = to_texts(cells)
    return bool((parse_times(texts) != NO_TIME).any() or np.isfinite(parse_numbers(texts)).any())


def _is_row(cells: list[str]) -> bool:
    """Tell whether cells are a fix rather than a header: a written time, and two numbers."""
    texts = to_texts(cells)
    numbers = np.isfinite(parse_numbers(texts))
    return bool(numbers.sum() >= 2 and ((parse_times(texts) != NO_TIME) & ~numbers).any())


def _rows(reader: Iterator[list[str]], width: int, header_line: int, source: Source) -> Iterator[list[str]]:
    """Yield the fields of every row; a row whose quotes cannot be understood has one too many."""
    while True:
        try:
            for row in reader:
                if not (len(row) < width and row and row[0].startswith("#")):
                    yield row
            return
        except csv.Error as error:
            where = f"{source.path}: line {header_line + reader.line_num}"  # type: ignore[attr-defined]
            if "end of data" in str(error):
                raise UnreadableFile(
                    f"{where}: the file breaks off inside quotes; copy it again, or close the quote"
                ) from error
            if "field limit" in str(error):
                raise UnreadableFile(
                    f"{where}: a field of more than {csv.field_size_limit()} characters; is a quote never closed?"
                ) from error
            yield [""] * (width + 1)


def _cells_of_plain(lines: list[str], delimiter: str, width: int) -> Cells | None:
    """Return the cells of lines without quotes that all have as many; None if they are not of that kind."""
    text = "".join(lines)
    if '"' in text or text.startswith("\ufeff") or max(map(len, lines)) >= csv.field_size_limit():
        return None
    names = [*map(str, range(width))]
    try:
        rows = arrow_csv.read_csv(
            pa.BufferReader(text.encode()),
            arrow_csv.ReadOptions(column_names=names, use_threads=False),
            arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), null_values=[]),
        )
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None
    return lambda column: pc.ascii_trim_whitespace(rows.column(column).combine_chunks())


def _cells_of(rows: list[list[str]], width: int) -> Cells:
    """Return the cells of rows as the csv module reads them."""
    widths = np.fromiter(map(len, rows), np.int64, len(rows))
    if (widths != width).any():
        rows = [_fitted(row, width) for row in rows if row]  # the csv module reads a blank line as []
    return lambda column: to_texts(map(itemgetter(column), rows))


def _fitted(row: list[str], width: int) -> list[str]:
    if len(row) > width and any(row[width:]):
        return [""] * width
    return row[:width] + [""] * (width - len(row))
