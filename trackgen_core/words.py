"""Numbers in sentences, and texts that are safe to print."""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    # All but tabs and line feeds; and what makes a text run from right to left.
    for code in (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def counted(number: int, thing: str) -> str:
    """Return so many of a thing, as `1 day` or `2,000 days`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text with its control characters escaped: a name must not change the terminal that shows it."""
    return text.translate(_CONTROLS)
