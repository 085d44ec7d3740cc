"""CSV: a header, and one fix per row.

The csv module of Python splits the rows: unlike the faster parsers it never shifts a column, and it says where it
is when a quote stays open. Values are then parsed as whole columns.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

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
    to_texts,
)
from trackgen_core.readers.sources import Source, UnreadableFile, open_text

DELIMITERS: Final = ",;\t|"

MAX_HEADER_CHARS: Final = 1 << 16

MAX_LINE_CHARS: Final = 1 << 20
"""A longer line is no row of fixes, and must not fill the memory: it is cut into pieces, which are bad rows."""

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
        for rows in batches(_rows(csv.reader(lines, delimiter=delimiter, strict=True), len(names), number, source)):
            yield _frame(rows, columns, len(names), decimal_comma=delimiter != ",")


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


def _frame(rows: list[list[str]], columns: dict[str, int], width: int, decimal_comma: bool) -> pd.DataFrame:
    widths = np.fromiter(map(len, rows), np.int64, len(rows))
    if (widths != width).any():
        rows = [_fitted(row, width) for row in rows if row]  # the csv module reads a blank line as []

    def texts(quantity: str) -> pa.StringArray:
        return to_texts(map(itemgetter(columns[quantity]), rows))

    def notation(quantity: str) -> pa.StringArray:
        return pc.replace_substring(texts(quantity), ",", ".") if decimal_comma else texts(quantity)

    optional = columns.keys() - NEEDED
    return make_frame(
        parse_times(notation("time")),
        parse_numbers(notation("lon")),
        parse_numbers(notation("lat")),
        **{name: texts(name) for name in optional & {"user", "device"}},
        **{name: parse_numbers(notation(name)) for name in optional - {"user", "device"}},
    )


def _fitted(row: list[str], width: int) -> list[str]:
    return row + [""] * (width - len(row)) if len(row) <= width else [""] * width
