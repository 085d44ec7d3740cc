"""Dagster's storage on PostgreSQL: how it comes there, and that it keeps what the embedded one keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from dagster_postgres import PostgresEventLogStorage

from tests import postgres
from tests.command_line import run, trackgen
from tests.dagster.homes import DAYS, FIRST, embedded_instance, ride
from tests.scenarios import USER
from trackgen_core.database import Database
from trackgen_core.store import Store
from trackgen_dagster.event_log import BATCHED, BatchedPostgresEventLogStorage
from trackgen_dagster.generate import generate
from trackgen_dagster.instance import DAGSTER_YAML, POSTGRES_VARIABLE
from trackgen_dagster.partitions import key_of
from trackgen_dagster.sessions import clean, list_sessions

pytestmark = pytest.mark.xdist_group("postgresql")

BOTH = [dg.AssetKey("segments"), dg.AssetKey("tracks")]


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.running_server() as server:
        yield postgres.Databases(server)


@pytest.fixture
def instance(databases: postgres.Databases, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    trackgen(tmp_path / "home", "init", "--postgres", databases.new())
    with embedded_instance(tmp_path / "home") as instance:
        yield instance


@pytest.fixture
def store(databases: postgres.Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store(Database(databases.new()))
    monkeypatch.setenv("TRACKGEN_DATABASE_URL", store.database.url)
    ride(store, range(DAYS))
    yield store
    store.database.close()


# trackgen init


def test_init_writes_the_settings_and_says_what_is_next(databases: postgres.Databases, tmp_path: Path) -> None:
    url = databases.new()
    said = trackgen(tmp_path, "init", "--postgres", url)
    assert "PostgreSQL 1" in said
    assert "TRACKGEN_DATABASE_URL" in said
    file = tmp_path / "dagster/dagster.yaml"
    config = yaml.safe_load(file.read_text())
    assert config.pop("storage")["custom"]["config"] == {"postgres_url": url}
    embedded = yaml.safe_load(DAGSTER_YAML)
    del embedded["event_log_storage"]
    assert config == embedded
    facts = json.loads(trackgen(tmp_path, "doctor", "--json"))["facts"]
    assert facts["Dagster's storage"].startswith("postgresql://trackgen@/trackgen_")
    trackgen(tmp_path, "init", "--postgres", url)  # nothing new
    assert [path.name for path in file.parent.glob("dagster.yaml*")] == [file.name]


def test_init_replaces_other_settings_only_if_told_to(databases: postgres.Databases, tmp_path: Path) -> None:
    trackgen(tmp_path, "sessions", "list")
    file = tmp_path / "dagster/dagster.yaml"
    assert file.read_text() == DAGSTER_YAML
    done = run(tmp_path, "init", "--postgres", databases.new())
    assert (done.returncode, done.stdout, file.read_text()) == (1, "", DAGSTER_YAML)
    assert "--force" in done.stderr
    trackgen(tmp_path, "init", "--postgres", databases.new(), "--force")
    (backup,) = file.parent.glob("dagster.yaml.*")
    assert backup.read_text() == DAGSTER_YAML
    assert file.read_text() != DAGSTER_YAML


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_password_is_never_written(databases: postgres.Databases, tmp_path: Path, by_variable: bool) -> None:
    url = databases.new().replace("trackgen@", "trackgen:secret@")
    variable = {POSTGRES_VARIABLE: url}
    said = trackgen(tmp_path, "init", env=variable) if by_variable else trackgen(tmp_path, "init", "--postgres", url)
    text = (tmp_path / "dagster/dagster.yaml").read_text()
    assert "secret" not in text + said
    assert f"{{env: {POSTGRES_VARIABLE}}}" in text
    assert POSTGRES_VARIABLE in said
    assert "secret" not in trackgen(tmp_path, "doctor", env=variable)
    done = run(tmp_path, "sessions", "list")
    assert done.returncode == 1
    assert POSTGRES_VARIABLE in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1:1/none", "cannot be reached"),
        ("sqlite:////tmp/dagster.db", "write it as postgresql://"),
        ("nonsense", "is no URL"),
    ],
)
def test_init_says_what_is_wrong_in_a_line(tmp_path: Path, url: str, reason: str) -> None:
    done = run(tmp_path, "init", "--postgres", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "dagster").exists()


def test_init_wants_a_user_who_may_make_tables(databases: postgres.Databases, tmp_path: Path) -> None:
    url = databases.new()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    done = run(tmp_path, "init", "--postgres", url.replace("trackgen@", "guest@"))
    assert done.returncode == 1
    assert "may not make tables" in done.stderr


# The event log


def test_batches_leave_the_same_event_log_as_the_stock_storage(
    instance: dg.DagsterInstance, store: Store, databases: postgres.Databases
) -> None:
    summary = generate(store, instance, workers=1)
    events = list(instance.all_logs(summary.runs[0]))
    found = []
    for kind in (PostgresEventLogStorage, BatchedPostgresEventLogStorage):
        log = kind(databases.new())
        for event_type, batch in groupby(events, key=lambda event: event.dagster_event_type):
            if kind is BatchedPostgresEventLogStorage and event_type in BATCHED:
                log.store_event_batch(list(batch))
            else:
                for event in batch:
                    log.store_event(event)
        found.append(
            (
                [record.event_log_entry for record in log.get_records_for_run(summary.runs[0]).records],
                [log.get_materialized_partitions(key) for key in BOTH],
                [log.get_event_tags_for_asset(key) for key in BOTH],
                log.get_latest_materialization_events(BOTH),
            )
        )
        log.dispose()
    assert found[0] == found[1]
    assert found[0][1] == [{key_of(FIRST + day) for day in range(DAYS)}] * 2


def test_forgetting_sessions_keeps_what_is_known_of_partitions(instance: dg.DagsterInstance, store: Store) -> None:
    first = generate(store, instance, workers=1)
    ride(store, [DAYS])
    second = generate(store, instance, workers=1)
    before = [instance.get_materialized_partitions(key) for key in BOTH]
    rows = count(instance, first.runs[0]), count(instance, second.runs[0])
    assert clean(instance, days=0).sessions == 2
    assert list_sessions(instance) == []
    assert [instance.get_materialized_partitions(key) for key in BOTH] == before
    assert 0 < count(instance, first.runs[0]) < rows[0]
    assert 0 < count(instance, second.runs[0]) < rows[1]
    assert generate(store, instance, workers=1).runs == []  # Dagster knows of every day


def count(instance: dg.DagsterInstance, run_id: str) -> int:
    storage: Any = instance.event_log_storage
    return len(storage.get_records_for_run(run_id).records)


def test_the_graph_says_what_the_database_is(store: Store) -> None:
    code = "from trackgen_dagster.assets import points; print(points.kinds)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "{'postgresql'}"


# When the server goes away


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


def test_connections_that_were_cut_meanwhile_are_opened_again(databases: postgres.Databases) -> None:
    store = Store(Database(databases.new()))
    ride(store, [0])
    with psycopg.connect(databases.server, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert store.user_names() == [USER]
    store.database.close()


def test_a_session_survives_a_restart_of_the_server_at_any_moment(server: postgres.Server, tmp_path: Path) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tracks")
    store = Store(Database(server.url.replace("/postgres?", "/tracks?")))
    ride(store, range(DAYS))
    restarts: list[str] = []

    def restart(_share: float, what: str) -> None:
        if what not in restarts:  # before segments are made, before tracks, and when all days are done
            restarts.append(what)
            server.restart()

    with pytest.MonkeyPatch.context() as patch, embedded_instance(tmp_path / "home") as instance:
        patch.setenv("TRACKGEN_DATABASE_URL", store.database.url)
        summary = generate(store, instance, workers=1, progress=restart)
    assert (summary.status, summary.errors, summary.tracks) == ("completed", [], DAYS)
    assert len(restarts) >= 2
    store.database.close()


def test_a_server_that_stays_away_is_said_in_one_line(server: postgres.Server, tmp_path: Path) -> None:
    Database(server.url).close()
    server.run("pg_ctl", "stop", "-m", "immediate", "-w")
    done = run(tmp_path, "tracks", "list", env={"TRACKGEN_DATABASE_URL": server.url})
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be used as Trackgen's database" in done.stderr
    server.run("pg_ctl", "start", "-w", "-l", server.folder / "log")
