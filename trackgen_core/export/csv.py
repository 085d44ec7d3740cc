"""CSV: RFC 4180, but with line feeds. A text that a spreadsheet would take for a formula gets an apostrophe before it.

The reader takes that off again, so that names survive being exported and imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import BinaryIO, Final

import pandas as pd

from trackgen_core.export.columns import Columns, texts

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
"""How a formula begins; and a text that would be taken for one that is escaped."""


def write(batches: Iterable[pd.DataFrame], out: BinaryIO, columns: Columns) -> None:
    """Write a header, and a row a line."""
    out.write((",".join(columns) + "\n").encode())
    for batch in batches:
        fields = (
            map(field, found) if columns[name].kind == "text" else found
            for name, found in texts(batch, columns).items()
        )
        out.write("".join(",".join(row) + "\n" for row in zip(*fields, strict=True)).encode())


def field(text: str) -> str:
    """Return `text` as a CSV field."""
    if _FORMULA.match(text):
        text = f"'{text}"
    # The csv module of Python 3.11 leaves a lone \r bare where lines end in \\n, and readers then see a new line.
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text
