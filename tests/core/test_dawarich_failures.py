"""Dawarich beside Trackgen when something fails: with one user, with a connection, or because its jobs were quicker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests import dawarich, world
from tests.command_line import run, trackgen
from tests.core.test_dawarich import (
    ANNA,
    BOB,
    NAMES,
    add_triggers,
    assert_right,
    dumped,
    fill,
    mirrored,
    rolled_back,
    written,
)
from tests.dawarich import do
from trackgen_core.database import DatabaseError
from trackgen_core.dawarich import writing
from trackgen_core.dawarich.everyone import for_each
from trackgen_core.dawarich.mirror import mirror, mirrored_users, set_state
from trackgen_core.dawarich.planning import Plan
from trackgen_core.dawarich.source import Dawarich
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("postgresql")


# When something fails -------------------------------------------------------------------------------------------------

REFUSES = """
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.user_id = 1 THEN RAISE EXCEPTION 'not\ntoday'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refusing BEFORE INSERT OR UPDATE ON tracks FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def test_what_fails_with_one_user_stops_nobody_else(url: str, tmp_path: Path) -> None:
    fill(url, 2, 60)
    fill(url, 2, 60, email=BOB)
    before = dumped(url)
    env = {"TRACKGEN_DAWARICH_URL": url}
    trackgen(tmp_path, "dawarich", "mirror", env=env)
    store = world.open_store(tmp_path)
    world.generate(store)
    set_state(store, "on")
    do(url, REFUSES)
    try:
        done = run(tmp_path, "dawarich", "write", "--take-over", env=env)
        assert done.returncode == 1
        assert f"{BOB}: 0 tracks right already" in done.stdout
        assert f"{ANNA}: Dawarich's database" in done.stderr
        assert "not today" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert BOB not in done.stderr
        done = run(tmp_path, "dawarich", "write", "--take-over", "--json", env=env)
        assert [report["user"] for report in json.loads(done.stdout)] == [BOB]
    finally:
        do(url, "DROP TRIGGER refusing ON tracks")
    trackgen(tmp_path, "dawarich", "write", "--take-over", env=env)
    do(url, REFUSES)
    try:
        done = run(tmp_path, "dawarich", "rollback", "--user", ANNA, "--user", BOB, env=env)
        assert done.returncode == 1
        assert f"{BOB}: " in done.stdout
        assert f"{ANNA}: Dawarich's database" in done.stderr
    finally:
        do(url, "DROP TRIGGER refusing ON tracks")
    trackgen(tmp_path, "dawarich", "rollback", "--user", ANNA, env=env)
    assert dumped(url) == before
    store.database.close()


@pytest.mark.parametrize("with_triggers", [False, True])
def test_who_cannot_be_mirrored_stops_nobody_else(
    newest: str, store: Store, with_triggers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is read in full the next time, as the days that were listed are not any more."""
    fill(newest, 2, 60)
    fill(newest, 2, 60, email=BOB)
    if with_triggers:
        add_triggers(newest)
    mirror(store, url=newest)
    do(newest, "UPDATE points SET accuracy = 7")

    def read(dawarich: Dawarich, user_id: int, days: list[int]) -> pd.DataFrame:
        if user_id == 1:
            dawarich.connection.execute("SELECT nothing")
        return points(dawarich, user_id, days)

    points = Dawarich.points
    with monkeypatch.context() as patch:
        patch.setattr(Dawarich, "points", read)
        anna, bob = mirror(store, url=newest)
    assert (anna.user, anna.new, bob.user, bob.error) == (ANNA, 0, BOB, None)
    assert str(anna.error).startswith(f'{ANNA}: column "nothing" does not exist')
    assert bob.new > 0
    anna, bob = mirror(store, url=newest)
    assert (anna.error, anna.new > 0, bob.new) == (None, True, 0)


def test_a_connection_that_is_lost_is_opened_anew_for_the_next_user(newest: str, store: Store) -> None:
    fill(newest, 2, 60)
    fill(newest, 2, 60, email=BOB)
    mirrored(store, newest)

    def end(there: Any, user: Any) -> str:
        if user.name == ANNA:
            there.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return str(user.name)

    done, errors = for_each(mirrored_users(store), end, to="write", url=newest)
    assert done == [BOB]
    assert len(errors) == 1
    assert errors[0].startswith(f"{ANNA}: ")
    with pytest.raises(DatabaseError, match="does not exist"):
        for_each(mirrored_users(store), end, to="write", url=newest.replace("/trackgen_", "/nothing_"))


def test_columns_hold_long_tracks(newest: str, tmp_path: Path) -> None:
    fill(newest, 2, 60)
    do(newest, "UPDATE tracks SET distance = 10000000 WHERE id % 2 = 0")
    env = {"TRACKGEN_DAWARICH_URL": newest}
    trackgen(tmp_path, "dawarich", "mirror", env=env)
    store = world.open_store(tmp_path)
    world.generate(store)
    store.database.close()
    lines = [line for line in trackgen(tmp_path, "dawarich", "compare", env=env).splitlines() if " there," in line]
    assert any(" 10,000.00 km there," in line for line in lines)
    assert len({line.index(" there,") for line in lines}) == len({line.index(" here") for line in lines}) == 1


def test_what_its_jobs_write_meanwhile_is_looked_at_once_more(
    newest: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a track with the device and times of one that is about to be written."""
    fill(newest, 2, 200)
    do(newest, "UPDATE points SET track_id = NULL", "DELETE FROM track_segments", "DELETE FROM tracks")
    before = dumped(newest)
    mirrored(store, newest)
    make_plan, plans = writing.make_plan, []

    def plan(*args: Any) -> Plan:
        made = make_plan(*args)
        if not plans:
            with dawarich.connect(newest) as connection:
                connection.execute(
                    f"INSERT INTO tracks ({NAMES}, tracker_id) SELECT 77, to_timestamp(%s) AT TIME ZONE 'UTC', "
                    "to_timestamp(%s) AT TIME ZONE 'UTC', 1, 'LINESTRING(8 50, 8 51)', 7, now(), now(), 'phone'",
                    [int(made.ours["started_s"].iloc[2]), int(made.ours["ended_s"].iloc[2])],
                )
        plans.append(made)
        return made

    monkeypatch.setattr(writing, "make_plan", plan)
    report = written(store, newest, take_over=True)
    assert (len(plans), report.adopted) == (2, 1)
    assert_right(store, newest)
    do(newest, "UPDATE points SET track_id = NULL", "DELETE FROM track_segments", "DELETE FROM tracks WHERE id <> 77")
    rolled_back(store, newest)
    do(newest, "DELETE FROM tracks")
    assert dumped(newest) == before
