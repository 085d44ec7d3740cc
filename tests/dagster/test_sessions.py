"""Sessions are what run storage knows: whoever started the runs, and however they ended."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.tags import RETRY_ON_ASSET_OR_OP_FAILURE_TAG

from tests import world
from tests.dagster.homes import DAYS, FIRST, allow, execute, refuse
from tests.scenarios import MINUTE, at, fix
from trackgen_core.store import Store
from trackgen_dagster import tags
from trackgen_dagster.definitions import defs
from trackgen_dagster.generate import create, generate, retry
from trackgen_dagster.partitions import RANGE_TAGS, key_of
from trackgen_dagster.sessions import (
    Session,
    UnknownSession,
    cancel,
    clean,
    errors_of,
    find_session,
    list_sessions,
    watch,
)


def materialized(instance: dg.DagsterInstance, asset: str) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey(asset))


def test_a_session_from_the_command_line(instance: dg.DagsterInstance, store: Store) -> None:
    summary = generate(store, instance, mode="bulk", workers=1)
    (session,) = list_sessions(instance)
    assert session.session == summary.session
    assert (session.status, session.mode, session.users, session.percent) == ("completed", "bulk", "all", 100.0)
    assert (session.start, session.end) == (summary.start, summary.end)
    assert session.completed_chunks == session.total_chunks == 2 * DAYS  # segments and tracks
    assert (session.tracks_created, session.points, session.failed_chunks, session.attempts) == (DAYS, 5 * DAYS, 0, 1)
    assert session.settings == store.settings_digest()
    assert session.started and session.completed and session.duration_s and session.points_per_s
    assert session.runs == summary.runs
    assert session.links == [f"http://127.0.0.1:3000/runs/{summary.runs[0]}"]
    assert find_session(instance, summary.session[:4]) == session
    assert errors_of(instance, session.session) == []
    assert json.loads(json.dumps(session.as_json()))["percent"] == 100.0


def test_a_run_from_the_ui_is_a_session_too(instance: dg.DagsterInstance, store: Store) -> None:
    said = {RANGE_TAGS[0]: "2024-03-01", RANGE_TAGS[1]: "2024-03-02"}
    result = defs.resolve_job_def("generate").execute_in_process(instance=instance, tags=said)
    (session,) = list_sessions(instance)
    assert (session.session, session.status, session.mode) == (result.run_id, "completed", "run")
    assert (session.start, session.end, session.tracks_created) == ("2024-03-01", "2024-03-02", 2)


def test_the_middle_chunk_fails_and_is_retried(instance: dg.DagsterInstance, store: Store) -> None:
    """Three chunks, the middle one fails for good: the others are done, and a retry does it alone."""
    bad = FIRST + 1
    refuse(store, bad)
    summary = generate(store, instance, mode="bulk", workers=1)
    session = find_session(instance, summary.session)
    assert session.status == summary.status == "failed"
    assert (session.failed_chunks, session.completed_chunks, session.total_chunks) == (1, 2 * DAYS - 1, 2 * DAYS)
    (error,) = errors_of(instance, session.session)
    assert (error.stage, error.start, error.end, error.kind, error.attempts) == (
        "segments",
        key_of(bad),
        key_of(bad),
        "data",
        4,
    )
    assert "no room" in error.error
    # The others are there, for users and for Dagster.
    assert len(world.tracks(store)) == session.tracks_created == DAYS - 1
    assert materialized(instance, "segments") == {key_of(day) for day in range(FIRST, FIRST + DAYS)} - {key_of(bad)}
    with store.read() as connection:
        (letter,) = store.dead_letters(connection).to_dict("records")
    assert (letter["day"], letter["stage"], letter["attempts"]) == (bad, "segments", 4)

    # It is still broken: the attempts add up, and nothing else is done.
    again = retry(store, instance, summary.session, workers=1)
    assert again and again.status == "failed" and len(again.runs) == 1
    session = find_session(instance, summary.session)
    assert (session.status, session.attempts, session.failed_chunks) == ("failed", 2, 1)
    assert [error.attempts for error in errors_of(instance, session.session)] == [8]
    run = instance.get_run_by_id(session.runs[-1])
    assert run and {run.tags[tag] for tag in RANGE_TAGS} == {key_of(bad)}

    # It is mended: the session is complete.
    allow(store)
    again = retry(store, instance, summary.session, workers=1)
    assert again and again.status == "completed"
    session = find_session(instance, summary.session)
    assert (session.status, session.attempts, session.failed_chunks, session.percent) == ("completed", 3, 0, 100.0)
    assert session.tracks_created == len(world.tracks(store)) == DAYS
    assert errors_of(instance, session.session) == []
    assert materialized(instance, "segments") == {key_of(day) for day in range(FIRST, FIRST + DAYS)}
    assert world.dirty(store) == 0
    assert retry(store, instance, summary.session) is None


def test_a_chunk_that_fails_twice_is_done_within_the_run(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(store, FIRST + 1)
    refused = 0
    note = Store.replace_segments

    def mend_after_two(self: Store, *args: object) -> None:
        nonlocal refused
        try:
            note(self, *args)  # type: ignore[arg-type]
        except Exception:
            refused += 1
            if refused == 3:  # the window as a whole, then the day alone, twice
                threading.Thread(target=allow, args=(store,)).start()
            raise

    monkeypatch.setattr(Store, "replace_segments", mend_after_two)
    monkeypatch.setenv("TRACKGEN_RETRY_SECONDS", "0.3")
    summary = generate(store, instance, workers=1)
    session = find_session(instance, summary.session)
    assert refused >= 3
    assert (session.status, session.failed_chunks, session.tracks_created) == ("completed", 0, DAYS)
    assert errors_of(instance, session.session) == []
    with store.read() as connection:
        assert store.dead_letters(connection).empty


def test_one_users_bad_settings_fail_nobody_else(instance: dg.DagsterInstance, store: Store) -> None:
    world.add(store, [fix(at("12:00") + i * MINUTE, 100.0 * i)._replace(user="bob") for i in range(5)])
    execute(store, "UPDATE users SET settings = '{\"no_such\": 1}' WHERE name = 'bob'")
    summary = generate(store, instance, workers=1)
    assert summary.status == "failed"
    assert {track.user for track in world.tracks(store)} == {fix(0, 0.0).user}
    (error,) = errors_of(instance, summary.session)
    assert (error.users, error.kind) == (("bob",), "data")
    assert "bob" in error.error

    store.set_settings("bob", {"minutes_between_routes": 30})
    generate(store, instance, workers=1)
    assert {track.user for track in world.tracks(store)} == {fix(0, 0.0).user, "bob"}


def test_a_failed_session_and_the_next_one_completes(instance: dg.DagsterInstance, store: Store) -> None:
    refuse(store, FIRST + 1)
    assert generate(store, instance, workers=1).status == "failed"
    allow(store)
    again = generate(store, instance, workers=1)  # somebody typed it, so dead letters are tried again
    assert [session.status for session in list_sessions(instance)] == ["completed", "failed"]
    assert find_session(instance, again.session).status == "completed"
    assert len(world.tracks(store)) == DAYS


def test_a_bulk_session_for_the_daemon_is_a_backfill(instance: dg.DagsterInstance, store: Store) -> None:
    name = create(store, instance, mode="bulk", users=[fix(0, 0.0).user])
    assert name
    (session,) = list_sessions(instance)
    assert (session.session, session.status, session.mode, session.runs) == (name, "pending", "bulk", [])
    assert (session.start, session.end) == (key_of(FIRST), key_of(FIRST + DAYS - 1))
    assert (session.total_chunks, session.percent) == (2 * DAYS, 0.0)
    assert session.links == [f"http://127.0.0.1:3000/runs/b/{session.backfill}"]

    with pytest.raises(ValueError, match="trackgen sessions cancel"):
        create(store, instance, mode="bulk")
    with pytest.raises(ValueError, match="is pending"):
        retry(store, instance, name)

    session = cancel(instance, name)
    assert session.status == "cancelled"
    assert session.backfill
    backfill = instance.get_backfill(session.backfill)
    assert backfill and backfill.status == BulkActionStatus.CANCELED
    with pytest.raises(ValueError, match="over already"):
        cancel(instance, name)

    # What it did not come to can be done here.
    again = retry(store, instance, name, workers=1)
    assert again and again.status == "completed"
    session = find_session(instance, name)
    assert (session.status, session.percent, session.tracks_created) == ("completed", 100.0, DAYS)


def test_queued_sessions_wait_for_the_daemon_and_can_be_cancelled(instance: dg.DagsterInstance, store: Store) -> None:
    name = create(store, instance, mode="incremental")
    assert name
    session = find_session(instance, name)
    assert (session.status, session.mode) == ("pending", "incremental")
    (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.QUEUED
    assert run.tags[tags.PRIORITY] > "0"
    assert cancel(instance, name).status == "cancelled"
    assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]
    # The work is still listed: nothing is lost.
    assert world.dirty(store) > 0
    assert generate(store, instance, workers=1).tracks == DAYS
    assert create(store, instance, mode="incremental") is None


def test_cancelling_a_session_at_work_leaves_the_old_tracks(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(store, instance, workers=1)
    before = world.tracks(store)
    # A writer that waits for its turn: the session is stopped in the middle of a day.
    begun = threading.Event()
    replace = Store.replace_segments

    def slow(self: Store, *args: object) -> None:
        begun.set()
        time.sleep(20)
        replace(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "replace_segments", slow)

    def stop() -> None:
        begun.wait(30)
        (session,) = list_sessions(instance, unfinished=True)
        cancel(instance, session.session)

    stopper = threading.Thread(target=stop)
    stopper.start()
    started = time.monotonic()
    summary = generate(store, instance, mode="bulk", workers=1)
    stopper.join()
    assert time.monotonic() - started < 15
    assert summary.status == find_session(instance, summary.session).status == "cancelled"
    assert world.tracks(store) == before

    monkeypatch.setattr(Store, "replace_segments", replace)
    again = retry(store, instance, summary.session, workers=1)
    assert again and again.status == "completed"
    assert find_session(instance, summary.session).status == "completed"
    assert world.tracks(store) == before
    assert world.dirty(store) == 0


def test_watching_a_session_until_it_ends(instance: dg.DagsterInstance, store: Store) -> None:
    summary = generate(store, instance, workers=1)
    seen: list[Session] = []
    assert watch(instance, summary.session, seen.append).status == "completed"
    assert [session.percent for session in seen] == [100.0]


def test_old_sessions_are_forgotten_and_partitions_are_not(instance: dg.DagsterInstance, store: Store) -> None:
    first = generate(store, instance, mode="bulk", workers=1)
    world.add(store, [fix(at("10:30"), 0.0)])  # only the first day changes
    second = generate(store, instance, workers=1)
    name = create(store, instance, mode="bulk")
    assert name
    cancel(instance, name)
    assert clean(instance, days=1).sessions == 0
    before = {asset: materialized(instance, asset) for asset in ("segments", "tracks")}
    tracks = world.tracks(store)

    cleaned = clean(instance, days=0)
    assert (cleaned.sessions, cleaned.runs, cleaned.backfills) == (3, 2, 1)
    assert list_sessions(instance) == []
    assert {asset: materialized(instance, asset) for asset in ("segments", "tracks")} == before
    assert world.tracks(store) == tracks
    events = instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION))
    of_assets = Counter(record.asset_key.path[-1] for record in events if record.asset_key)
    assert of_assets == dict.fromkeys(["points", "segments", "tracks", "daily_summaries"], DAYS)
    assert len({(record.asset_key, record.partition_key) for record in events}) == len(events)
    # Nothing of it is done again, and no file of the runs is left.
    assert generate(store, instance, workers=1).runs == []
    home = Path(os.environ["DAGSTER_HOME"])
    assert [*home.rglob(f"*{first.runs[0]}*"), *home.rglob(f"*{second.runs[0]}*")] == []


def test_sessions_under_way_are_never_forgotten(instance: dg.DagsterInstance, store: Store) -> None:
    create(store, instance, mode="incremental")
    create(store, instance, mode="bulk")
    assert clean(instance, days=0).sessions == 0
    assert len(list_sessions(instance)) == 2


def test_a_session_that_is_not_there(instance: dg.DagsterInstance) -> None:
    assert list_sessions(instance) == []
    with pytest.raises(UnknownSession, match="trackgen sessions list"):
        find_session(instance, "nobody")


def test_what_the_database_alone_is_to_blame_for_is_started_again(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_ATTEMPTS", "2")
    execute(store, "CREATE TRIGGER refused BEFORE INSERT ON segments BEGIN SELECT no_such_function(); END")
    away = generate(store, instance, workers=1)
    allow(store)
    refuse(store, FIRST + 1)
    data = generate(store, instance, workers=1)
    said = [instance.get_run_by_id(summary.runs[0]).tags for summary in (away, data)]
    assert [RETRY_ON_ASSET_OR_OP_FAILURE_TAG in one for one in said] == [True, False]
