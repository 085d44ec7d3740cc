"""Homes of the embedded default, and Dagster's instance in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from tests import world
from tests.scenarios import DAY, MINUTE, USER, at, fix
from trackgen_core.store import Store
from trackgen_dagster.instance import open_instance

DAYS = 3
FIRST = world.day(fix(at("10:00")))
REFUSED = "CREATE TRIGGER refused BEFORE INSERT ON segments WHEN NEW.day = {} BEGIN SELECT RAISE(FAIL, 'no room'); END"


@contextmanager
def embedded_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKGEN_HOME", str(folder))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        with open_instance() as instance:
            yield instance


def ride(store: Store, days: Iterable[int], user: str = USER) -> None:
    """Add five points, one track, to each of some days, counted from `FIRST`."""
    fixes = [fix(at("10:00") + day * DAY + i * MINUTE, 100.0 * i) for day in days for i in range(5)]
    world.add(store, [point._replace(user=user) for point in fixes])


def execute(store: Store, sql: str) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(sql)


def refuse(store: Store, day: int) -> None:
    """Make the segments of a day fail."""
    execute(store, REFUSED.format(day))


def allow(store: Store) -> None:
    """End what `refuse` did."""
    execute(store, "DROP TRIGGER refused")
