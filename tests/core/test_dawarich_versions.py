"""What newer versions of Dawarich bring: devices of tracks, protected tracks, legs with times, foreign keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import dawarich, postgres, world
from tests.command_line import trackgen
from tests.core.test_dawarich import (
    ANNA,
    add_triggers,
    assert_right,
    compared,
    dumped,
    fill,
    mirrored,
    rolled_back,
    written,
)
from tests.dawarich import do, fetch
from trackgen_core.dawarich.comparison import best_pairs, classify
from trackgen_core.dawarich.inspection import inspect
from trackgen_core.dawarich.source import TRACK_DTYPES, open_dawarich, read_settings
from trackgen_core.dawarich.time_zones import RAILS_ZONES
from trackgen_core.geodesy import link_lengths_mm
from trackgen_core.settings import Settings
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("postgresql")


# From a take-over to a rollback ---------------------------------------------------------------------------------------


def test_late_points_anomalies_and_two_devices_are_followed_and_a_rollback_restores_every_byte(
    url: str, store: Store
) -> None:
    user_id = fill(url, 4)
    with dawarich.connect(url) as connection:
        watch = dawarich.history(2, 200, user_id).assign(tracker_id="watch", lat=lambda rows: rows["lat"] + 1e-4)
        dawarich.add_points(connection, user_id, watch)
        connection.execute("UPDATE points SET track_id = NULL")
        connection.execute("TRUNCATE tracks, track_segments CASCADE" if is_old(url) else "DELETE FROM track_segments")
        connection.execute("DELETE FROM tracks")
        dawarich.generate_as_dawarich(connection, user_id, 10)
        # A piece of each track of an hour or so once more, as a resolver leaves them: more tracks than ours.
        names = "start_at, end_at, user_id, original_path, distance, created_at, updated_at"
        named = ", tracker_id" if not is_old(url) else ""
        connection.execute(
            f"INSERT INTO tracks ({names}{named}) SELECT start_at, start_at + interval '20 min', user_id, "
            f"original_path, 9, created_at, updated_at{named} FROM tracks"
        )
    before = dumped(url)
    mirrored(store, url)
    report = written(store, url, take_over=True)
    assert report.removed > len(before["tracks"]) / 3
    assert_right_by_device(store, url)
    assert {track.device for track in world.tracks(store)} == {"phone", "watch"}
    known = {track.started_ms for track in world.tracks(store)}
    with dawarich.connect(url) as connection:
        # The half hour between the first two rides of a day is filled, and some points turn out to be anomalies.
        day = dawarich.START_S + dawarich.DAY_S + 9 * 3600
        late = dawarich.history(4, 300, user_id).iloc[[0] * 5]
        dawarich.add_points(connection, user_id, late.assign(timestamp=day + 240 * np.arange(1, 6)))
        (last,) = connection.execute("SELECT max(id) FROM points").fetchone() or (0,)
        connection.execute("UPDATE points SET anomaly = true WHERE id % 17 = 0")
    mirrored(store, url)
    assert written(store, url).changed > 0
    assert len({track.started_ms for track in world.tracks(store)} & known) < len(known)
    assert_right_by_device(store, url)
    rolled_back(store, url)
    do(url, f"DELETE FROM points WHERE id > {last - 5}", "UPDATE points SET anomaly = NULL")
    assert dumped(url) == before


def is_old(url: str) -> bool:
    with dawarich.connect(url) as connection:
        return not dawarich.has(connection, "tracks", "tracker_id")


def test_two_devices_with_the_same_seconds_are_two_tracks(newest: str, store: Store) -> None:
    """And rows from before tracks named their device get ours."""
    with dawarich.connect(newest) as connection:
        user_id = dawarich.add_user(connection, ANNA, json.dumps({"minutes_between_routes": 10}))
        ride = dawarich.history(1, 200, 1)
        for number, name in enumerate(("phone", "watch", None)):
            dawarich.add_points(connection, user_id, ride.assign(tracker_id=name, lat=ride["lat"] + number))
        dawarich.generate_as_dawarich(connection, user_id, 10)
        connection.execute(
            "DELETE FROM track_segments USING tracks AS t WHERE t.id = track_id AND t.tracker_id IS NULL"
        )
        connection.execute(
            "UPDATE points SET track_id = NULL FROM tracks AS t WHERE t.id = track_id AND t.tracker_id IS NULL"
        )
        connection.execute("DELETE FROM tracks WHERE tracker_id IS NULL")
        connection.execute("UPDATE tracks SET tracker_id = NULL WHERE tracker_id = 'watch'")
    before = dumped(newest)
    mirrored(store, newest)
    # Not one track of a device is taken for one of another.
    found = compared(store, newest)
    of_none = [track for track in world.tracks(store) if track.device == ""]
    assert (found.counts["extra"], found.counts["lost"]) == (0, len(of_none))
    written(store, newest, take_over=True)
    assert_right_by_device(store, newest)
    rolled_back(store, newest)
    assert dumped(newest) == before


def assert_right_by_device(store: Store, url: str) -> None:
    """Each of our tracks is there, with its points, all of its device."""
    with dawarich.connect(url) as connection:
        device = f"coalesce({dawarich.device(connection, 'p')}, '')"
        named = "coalesce(t.tracker_id, '')" if not is_old(url) else f"min({device})"
        rows = connection.execute(
            f"SELECT min({device}), max({device}), {named}, extract(epoch FROM start_at)::int8 * 1000, "
            "extract(epoch FROM end_at)::int8 * 1000, count(*) FROM tracks AS t JOIN points AS p ON p.track_id = t.id "
            "GROUP BY t.id"
        ).fetchall()
        (count,) = connection.execute("SELECT count(*) FROM tracks").fetchone() or (0,)
    ours = [(*[track.device] * 3, track.started_ms, track.ended_ms, track.points) for track in world.tracks(store)]
    assert sorted(rows) == sorted(ours)
    assert count == len(ours)


def test_devices_are_compared_one_by_one() -> None:
    theirs = pd.DataFrame(
        [(1, 0, 100, 5, 9, "phone"), (2, 0, 100, 5, 9, "watch"), (3, 0, 100, 5, 9, "tablet"), (4, 0, 90, 5, 9, None)],
        columns=[*TRACK_DTYPES],
    ).astype(TRACK_DTYPES)
    ours = theirs.iloc[[1, 0]].assign(length_mm=5_000).reset_index(drop=True)
    rows = classify(theirs, ours)
    assert dict(zip(rows["id"], rows["kind"], strict=True)) == {1: "equal", 2: "equal", 3: "extra", 4: "duplicate"}
    assert best_pairs(ours, theirs)["any_device"].tolist() == [False, False, True, True]


def test_rows_that_have_each_others_place_are_put_right(newest: str, store: Store) -> None:
    """No two rows may have the same device and times, not even for a moment."""
    fill(newest, 2)
    mirrored(store, newest)
    written(store, newest, take_over=True)
    do(
        newest,
        "CREATE TEMP TABLE ends AS SELECT id, start_at, end_at, coalesce(lead(id) OVER (ORDER BY start_at), "
        "first_value(id) OVER (ORDER BY start_at)) AS other FROM tracks",
        "UPDATE tracks SET start_at = start_at - interval '100 years'",
        "UPDATE tracks SET start_at = ends.start_at, end_at = ends.end_at FROM ends WHERE ends.other = tracks.id",
    )
    written(store, newest)
    assert_right(store, newest)
    # And a younger one of Dawarich's that has taken the place of one of ours.
    do(
        newest,
        "UPDATE tracks SET end_at = end_at + interval '1 min' WHERE id = (SELECT min(id) FROM tracks)",
        "INSERT INTO tracks (tracker_id, start_at, end_at, user_id, original_path, created_at, updated_at) "
        "SELECT tracker_id, start_at, end_at - interval '1 min', user_id, original_path, now(), now() FROM tracks "
        "WHERE id = (SELECT min(id) FROM tracks)",
    )
    assert written(store, newest).removed == 1
    assert_right(store, newest)


def test_after_an_update_of_dawarich_a_rollback_still_works(databases: postgres.Databases, store: Store) -> None:
    """Its migration adds columns, an index and a foreign key to tables that were taken over before."""
    dawarich.create(url := databases.new(), dawarich.VERSION_1_7_5)
    fill(url, 2)
    before = dumped(url)
    mirrored(store, url)
    written(store, url, take_over=True)
    do(
        url,
        "ALTER TABLE tracks ADD tracker_id varchar, ADD import_id bigint, ADD demo boolean NOT NULL DEFAULT false, "
        "ADD lock_version integer NOT NULL DEFAULT 0",
        "CREATE UNIQUE INDEX ON tracks (user_id, COALESCE(tracker_id, ''::varchar), start_at, end_at)",
        "ALTER TABLE track_segments ADD start_at timestamptz, ADD end_at timestamptz, ADD confidence_score float8, "
        "ADD path geometry(LineString,4326)",
        "UPDATE points SET track_id = NULL WHERE NOT EXISTS (SELECT FROM tracks WHERE tracks.id = track_id)",
        "ALTER TABLE points ADD FOREIGN KEY (track_id) REFERENCES tracks",
    )
    # Of before there were spans and take-overs to remember.
    do(url, "ALTER TABLE trackgen.tracks DROP first_s, DROP last_s", "DROP TABLE trackgen.taken_over")
    report = written(store, url)
    assert (report.new, report.changed, report.adopted, report.removed) == (0, len(world.tracks(store)), 0, 0)
    assert_right(store, url)
    assert written(store, url).changed == 0
    assert fetch(url, "SELECT count(*) FROM track_segments WHERE start_at IS NULL OR path IS NULL") == [(0,)]
    rolled_back(store, url)
    do(url, "ALTER TABLE tracks DROP tracker_id, DROP import_id, DROP demo, DROP lock_version",
       "ALTER TABLE track_segments DROP start_at, DROP end_at, DROP confidence_score, DROP path")  # fmt: skip
    assert without_ghosts(dumped(url)) == without_ghosts(before)


def without_ghosts(tables: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return all but points: that migration takes the track of some away."""
    return {name: rows for name, rows in tables.items() if name != "points"}


# What Dawarich protects -----------------------------------------------------------------------------------------------


def protect(url: str) -> dict[str, int]:
    """Make one track that of an import, one of demo data, and correct a leg of another."""
    ids = [id for (id,) in fetch(url, "SELECT id FROM tracks ORDER BY start_at")]
    chosen = dict(zip(("import", "demo", "corrected"), ids[2::5], strict=False))
    do(
        url,
        f"UPDATE tracks SET import_id = 7 WHERE id = {chosen['import']}",
        f"UPDATE tracks SET demo = true WHERE id = {chosen['demo']}",
        "UPDATE track_segments SET corrected_at = now(), source = 'user', transportation_mode = 4 "
        f"WHERE track_id = {chosen['corrected']}",
    )
    return chosen


def rows_of(url: str, ids: list[int]) -> list[Any]:
    points = "SELECT track_id, array_agg(id ORDER BY id) FROM points WHERE track_id = ANY(%s) GROUP BY 1 ORDER BY 1"
    tracks = (
        "SELECT t::text, (SELECT array_agg(g::text) FROM track_segments AS g WHERE g.track_id = t.id) FROM tracks AS t"
    )
    return fetch(url, f"{tracks} WHERE id = ANY(%s) ORDER BY id", ids) + fetch(url, points, ids)


def test_what_dawarich_protects_is_left_alone_or_replaced_when_told_to(newest: str, store: Store) -> None:
    fill(newest, 5)
    chosen = [*protect(newest).values()]
    before, kept = dumped(newest), rows_of(newest, chosen)
    mirrored(store, newest)
    report = written(store, newest, take_over=True)
    assert report.protected == 3
    assert 3 <= report.held_back < len(world.tracks(store)) / 2
    assert rows_of(newest, chosen) == kept
    again = written(store, newest)
    assert (again.new, again.changed, again.removed, again.points) == (0, 0, 0, 0)
    with open_dawarich(newest) as there:
        assert sum(inspect(there).protected.values()) == 3
    report = written(store, newest, take_over=True, replace_protected=True)
    assert (report.protected, report.held_back) == (0, 0)
    assert_right(store, newest)
    rolled_back(store, newest)
    assert dumped(newest) == before


def test_legs_that_were_corrected_in_our_tracks_stay_corrected(newest: str, store: Store) -> None:
    fill(newest, 2)
    mirrored(store, newest)
    written(store, newest, take_over=True)
    (id, first), *_ = fetch(
        newest, "SELECT t.id, min(p.id) FROM tracks AS t JOIN points AS p ON p.track_id = t.id GROUP BY 1 ORDER BY 2"
    )
    do(
        newest,
        "UPDATE track_segments SET corrected_at = '2026-01-01', source = 'user', transportation_mode = 6 "
        f"WHERE track_id = {id}",
    )
    assert written(store, newest).changed == 0
    do(newest, f"UPDATE points SET timestamp = timestamp + 1 WHERE id = {first}")  # the track changes
    mirrored(store, newest)
    assert written(store, newest).changed == 1
    found = fetch(newest, "SELECT DISTINCT transportation_mode, source FROM track_segments WHERE track_id = %s", id)
    assert found == [(6, "user")]
    assert written(store, newest).changed == 0


# Legs -----------------------------------------------------------------------------------------------------------------


def test_legs_are_complete(newest: str, store: Store) -> None:
    """Their times, paths and speeds are those of their points; one without a time, and the leg view shows none."""
    fill(newest, 3)
    mirrored(store, newest)
    store.set_settings(ANNA, {"preset": "default"})
    world.generate(store)
    written(store, newest, take_over=True)
    rows = fetch(
        newest,
        """
        SELECT t.tracker_id, extract(epoch FROM g.start_at)::int8, extract(epoch FROM g.end_at)::int8, g.duration,
               g.start_index, g.end_index, g.max_speed, g.avg_speed, g.confidence, g.confidence_score,
               ST_NPoints(g.path), ST_SRID(g.path), ST_Length(g.path::geography), g.distance, g.source
        FROM track_segments AS g JOIN tracks AS t ON t.id = g.track_id ORDER BY g.start_at
        """,
    )
    assert len(rows) == sum(len(track.legs) for track in world.tracks(store)) > 0
    points = fetch(newest, "SELECT timestamp, ST_X(lonlat::geometry), ST_Y(lonlat::geometry) FROM points ORDER BY 1")
    time, lon, lat = (np.array(column) for column in zip(*points, strict=True))
    speeds = link_lengths_mm(lon, lat) / 1e6 / np.diff(time) * 3600
    for (
        _,
        start,
        end,
        duration,
        first,
        last,
        fastest,
        mean,
        level,
        score,
        vertices,
        srid,
        length,
        metres,
        source,
    ) in rows:
        inside = slice(*np.searchsorted(time, [start, end]))
        assert (duration, source, srid) == (end - start, "trackgen", 4326)
        assert fastest == pytest.approx(speeds[inside].max(), abs=0.006)
        assert fastest >= mean
        assert vertices == inside.stop - inside.start + 1 >= last - first + 1
        assert length == pytest.approx(metres, rel=0.01, abs=2)
        assert 0 <= score <= 1
        assert level == int(score >= 0.5) + int(score >= 0.8)
    # What its own jobs leave in their place is replaced.
    do(newest, "UPDATE track_segments SET start_at = NULL WHERE id % 3 = 0", "UPDATE track_segments SET source = 'gps' "
       "WHERE id % 3 = 1")  # fmt: skip
    assert written(store, newest).changed > 0
    assert written(store, newest).changed == 0
    assert fetch(newest, "SELECT DISTINCT source, start_at IS NULL FROM track_segments") == [("trackgen", False)]


# What is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [dawarich.NEWEST, dawarich.NEXT])
@pytest.mark.parametrize("with_triggers", [False, True])
def test_the_device_is_that_of_a_points_source(
    databases: postgres.Databases, store: Store, version: str, with_triggers: bool
) -> None:
    """And that of the point itself only if it has none."""
    dawarich.create(url := databases.new(), version)
    user_id = fill(url, 2, 60)
    if with_triggers:
        add_triggers(url)
    if version == dawarich.NEWEST:
        do(url, "UPDATE points SET tracker_id = 'old name'", "UPDATE points SET source_id = NULL WHERE id % 2 = 0")
    mirrored(store, url)
    names = {"phone"} | ({"old name"} if version == dawarich.NEWEST else set())
    assert {name for (name,) in world.rows(store, "(SELECT name FROM devices) AS d")} == names
    do(
        url,
        "INSERT INTO point_sources (digest, tracker_id, created_at, updated_at) VALUES ('1', 'tablet', now(), now())",
        "UPDATE points SET source_id = (SELECT id FROM point_sources WHERE digest = '1') WHERE id > 30",
    )
    (report,) = mirrored(store, url)
    assert report.new == report.gone > 0
    assert written(store, url, take_over=True).held_back == 0
    expected = {track.device for track in world.tracks(store)}
    assert {name for (name,) in fetch(url, "SELECT tracker_id FROM tracks")} == expected >= {"tablet"}
    assert compared(store, url).lost_points == 0
    assert user_id == 1


@pytest.mark.parametrize("label", ["Berlin", "Eastern Time (US & Canada)", "Chennai", "UTC", "Europe/Berlin"])
def test_names_of_time_zones_are_those_of_rails_or_iana(label: str) -> None:
    values, notes = read_settings({"timezone": label})
    assert values["timezone"] == RAILS_ZONES.get(label, label)
    assert notes == []
    assert Settings(timezone=values["timezone"]).timezone == values["timezone"]


def test_every_name_of_rails_stands_for_a_zone() -> None:
    assert len(RAILS_ZONES) > 140
    assert RAILS_ZONES["Berlin"] == "Europe/Berlin"
    for label in RAILS_ZONES:
        values, notes = read_settings({"timezone": label})
        assert (values["timezone"], notes) == (RAILS_ZONES[label], [])


FEATURES = {
    dawarich.OLD: ("1.7", "points.tracker_id"),
    dawarich.VERSION_1_7_5: ("1.7", "points.tracker_id"),
    dawarich.NEWEST: ("1.14.1", "point_sources.tracker_id, or of points without one, points.tracker_id"),
    dawarich.NEXT: ("1.14.1", "point_sources.tracker_id"),
}


@pytest.mark.parametrize("version", [*FEATURES])
def test_connect_says_what_it_found(databases: postgres.Databases, tmp_path: Path, version: str) -> None:
    dawarich.create(url := databases.new(), version)
    do(
        url,
        "CREATE SCHEMA phoenix",
        "CREATE TABLE phoenix.job_owners (key text PRIMARY KEY, owner text)",
        "INSERT INTO phoenix.job_owners VALUES ('cron:daily_track_generation_job', 'oban'), ('cron:other', 'oban')",
    )
    env = {"TRACKGEN_DAWARICH_URL": url}
    found = json.loads(trackgen(tmp_path, "dawarich", "connect", "--json", env=env))["found"]
    assert (found["version"], found["device_from"]) == FEATURES[version]
    assert found["job_owners"] == {"cron:daily_track_generation_job": "oban"}
    said = trackgen(tmp_path, "dawarich", "connect", env=env)
    assert f"tables as of Dawarich {found['version']} " in said
    assert "with those of its rewrite (Phoenix)" in said
