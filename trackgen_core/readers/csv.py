"""CSV: a header, and one fix per row.

Rows without quotes that are all of one width are split by Arrow; all others by the csv module of Python, which takes
longer, but never shifts a column, and says where it is when a quote stays open. Values are parsed as whole columns.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Final

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
    make_frame,
    parse_numbers,
    parse_times,
    plain_name,
    require_columns,
    shown_names,
    to_activities,
    to_pauses,
    to_texts,
)
from trackgen_core.readers.sources import Source, UnreadableFile, open_text

DELIMITERS: Final = ",;\t|"

MAX_HEADER_CHARS: Final = 1 << 16

MAX_LINE_CHARS: Final = 1 << 20
"""A longer line is no row of fixes, and must not fill the memory: it is cut into pieces, which are bad rows."""

Cells = Callable[[int], pa.StringArray]
"""The texts in a column of some rows, without surrounding blanks."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def recognises(text: str, path: str) -> bool:
    """Tell whether a text that begins like this holds fixes as CSV, or is at least a CSV file by its name.

    A CSV file without the columns that are needed is worth an error that says so; any other text with commas
    is not.
    """
    header = next((line for line in re.split(r"\r\n?|\n", text) if line.strip()), "")
    if _CONTROL.search(header):
        return False
    if path.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        return True
    cells = _split(header)[1]
    if len(cells) < len(NEEDED):
        return False
    return len(find_columns(tuple(cells)).keys() & set(NEEDED)) >= 2 or _is_row(cells)


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the rows of a CSV file, in batches. A row with too many fields is a bad row."""
    with open_text(source) as text:
        lines = iter(partial(text.readline, MAX_LINE_CHARS), "")
        number, header = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
        if not header:
            raise UnreadableFile(f"{source.path}: the file is empty")
        if len(header) > MAX_HEADER_CHARS:
            raise UnreadableFile(f"{source.path}: line {number}: no CSV with a header: the line is too long for one")
        delimiter, names = _split(header)
        columns = _columns(names, source, number)
        frame = partial(_frame, columns=columns, decimal_comma=delimiter != ",")
        for block in batches(lines):
            cells = _cells_of_plain(block, delimiter, len(names))
            if cells is not None:
                yield frame(cells)
                number += len(block)
                continue
            # A quote may be closed behind the block.
            reader = csv.reader(chain(block, lines), delimiter=delimiter, strict=True)
            for rows in batches(_rows(reader, len(names), number, source)):
                yield frame(_cells_of(rows, len(names)))


def _split(line: str) -> tuple[str, list[str]]:
    """Return the delimiter that makes most sense of a header, and its cells."""
    splits = ((d, next(csv.reader([line], delimiter=d), [])) for d in DELIMITERS)
    return max(splits, key=lambda split: (len(find_columns(tuple(split[1]))), len(split[1])))


def _columns(names: list[str], source: Source, line: int) -> dict[str, int]:
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
    return columns


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
            yield from reader
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


def _frame(cells: Cells, columns: dict[str, int], decimal_comma: bool) -> pd.DataFrame:
    def texts(quantity: str) -> pa.StringArray:
        return cells(columns[quantity])

    def notation(quantity: str) -> pa.StringArray:
        return pc.replace_substring(texts(quantity), ",", ".") if decimal_comma else texts(quantity)

    optional = columns.keys() - {*NEEDED, "pause", "activity"}
    return make_frame(
        parse_times(notation("time")),
        parse_numbers(notation("lon")),
        parse_numbers(notation("lat")),
        **{name: texts(name) for name in optional & {"user", "device"}},
        **{name: parse_numbers(notation(name)) for name in optional - {"user", "device"}},
        pause=to_pauses(texts("pause")) if "pause" in columns else None,
        activity=to_activities(texts("activity").to_pylist()) if "activity" in columns else None,
    )


def _fitted(row: list[str], width: int) -> list[str]:
    return row + [""] * (width - len(row)) if len(row) <= width else [""] * width
