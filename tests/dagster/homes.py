"""Homes of the embedded default, and Dagster's instance in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from trackgen_dagster.instance import open_instance


@contextmanager
def embedded_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKGEN_HOME", str(folder))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        with open_instance() as instance:
            yield instance
