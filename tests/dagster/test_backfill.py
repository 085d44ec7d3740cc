"""A real stack, `trackgen ui` with its daemon: backfills of many days, and what a browser is shown of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from docs.screenshots import CHROMEDRIVER, CHROMIUM, Ui, browser, demo_slice, running_ui, shown, take_pictures
from tests import world
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY, day_date, now_ms
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("backfill")  # its fixtures are dear: one process makes them once

DAYS = 62
"""Two more than are made: the days at either end of the backfill have neighbours."""

PARTITIONS = """
query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) {
    ... on AssetNode {
      assetPartitionStatuses {
        ... on TimePartitionStatuses { ranges { status startKey endKey } }
      }
    }
  }
}"""
RUNS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { runs(limit: 9) { status } } }
}"""
RESULT = "SELECT track_id, started_ms, ended_ms, points, length_mm, elevation_gain_cm, digest, path FROM tracks"

needs_browser = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason=f"{CHROMIUM} or {CHROMEDRIVER} is missing"
)


class Stack:
    """The UI, its database, and a history whose last day is yesterday."""

    def __init__(self, home: Path, ui: Ui, points: pd.DataFrame, first_day: int) -> None:
        self.home, self.ui, self.points = home, ui, points
        self.keys = [day_date(day).isoformat() for day in range(first_day, first_day + DAYS)]
        self.store = world.open_store(home)
        self.backfill = ""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    yesterday = now_ms() // MS_PER_DAY - 1
    points = demo_slice(DAYS, last_day=yesterday)
    store = world.open_store(home)
    add_points(store, points)
    store.database.close()
    # So long that no sensor makes what the backfill shall make.
    environment = {"TRACKGEN_START_DATE": day_date(yesterday - 99).isoformat(), "TRACKGEN_DEBOUNCE_SECONDS": "1e6"}
    with running_ui(home, **environment) as ui:
        stack = Stack(home, ui, points, yesterday + 1 - DAYS)
        stack.backfill = ui.backfill(["segments", "tracks"], stack.keys[1:-1])
        yield stack
        stack.store.database.close()


def made(ui: Ui, asset: str) -> list[tuple[str, str]]:
    """The ranges of days that the UI shows as materialised."""
    node = ui.graphql(PARTITIONS, path=[asset])["assetNodeOrError"]
    ranges = node["assetPartitionStatuses"]["ranges"]
    assert {part["status"] for part in ranges} == {"MATERIALIZED"}
    return [(part["startKey"], part["endKey"]) for part in ranges]


def clean_core_run(points: pd.DataFrame, folder: Path, lo_day: int, hi_day: int) -> Store:
    """The same points in a database of their own, and some days made by the library alone."""
    store = world.open_store(folder)
    add_points(store, points)
    world.generate(store, range(lo_day, hi_day + 1), ["segments"])
    world.generate(store, stages=["tracks"])
    return store


def test_a_backfill_of_60_days_makes_what_the_library_makes(stack: Stack, tmp_path: Path) -> None:
    lo, hi = stack.keys[1], stack.keys[-2]
    assert made(stack.ui, "segments") == [(lo, hi)]
    # The tracks of the days beside may have changed with their neighbours: Dagster makes them, too.
    assert made(stack.ui, "tracks") == [(stack.keys[0], stack.keys[-1])]
    runs = stack.ui.graphql(RUNS, id=stack.backfill)["partitionBackfillOrError"]["runs"]
    assert [run["status"] for run in runs] == ["SUCCESS"] * 2

    days = now_ms() // MS_PER_DAY - DAYS + 1, now_ms() // MS_PER_DAY - 2
    with clean_core_run(stack.points, tmp_path, *days).read() as connection:
        expected = {tuple(row) for row in connection.exec_driver_sql(RESULT)}
    with stack.store.read() as connection:
        found = {tuple(row) for row in connection.exec_driver_sql(RESULT)}
    assert len(found) > 300
    assert found == expected


def test_making_some_days_again_in_another_grouping_changes_nothing(stack: Stack) -> None:
    before = world.rows(stack.store, "tracks"), world.rows(stack.store, "segments")
    shown_before = made(stack.ui, "segments"), made(stack.ui, "tracks")
    stack.ui.backfill(["tracks"], stack.keys[20:27] + stack.keys[40:42])
    assert (world.rows(stack.store, "tracks"), world.rows(stack.store, "segments")) == before
    assert (made(stack.ui, "segments"), made(stack.ui, "tracks")) == shown_before


@pytest.mark.browser
@needs_browser
def test_the_graph_is_drawn(stack: Stack, tmp_path: Path) -> None:
    with browser() as driver:
        for page in ("/locations/trackgen/asset-groups/trackgen/lineage", "/asset-groups"):
            driver.get(stack.ui.url + page)
            shown(driver, "points", "segments", "tracks")
            driver.save_screenshot(str(tmp_path / "graph.png"))
            assert (tmp_path / "graph.png").stat().st_size > 20_000
        errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []


@pytest.mark.browser
@needs_browser
def test_partitions_metadata_and_backfill_are_shown(stack: Stack, tmp_path: Path) -> None:
    take_pictures(stack.ui, stack.backfill, stack.keys[30], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "graph.png",
        "partitions.png",
        "checks.png",
        "backfill.png",
        "columns.png",
        "metadata.png",
    }
