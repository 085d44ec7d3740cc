"""How hard the laws are tried: with TEST_EFFORT=5, five times as many examples as in the gate."""

from __future__ import annotations

import os
from typing import Final

EFFORT: Final = int(os.environ.get("TEST_EFFORT", "1"))


def examples(count: int) -> int:
    """Return how many examples to try, given how many the gate has time for."""
    return count * EFFORT
