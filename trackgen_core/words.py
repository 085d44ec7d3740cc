"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Return so many of a thing, as `1 day` or `2,000 days`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
