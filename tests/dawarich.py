"""A database of Dawarich: its tables as its public `schema.rb` has them, users with points, and tracks with the faults
that its own generator leaves."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pandas as pd
import psycopg

from trackgen_core.copying import copy_in

NEWEST: Final = "20260925100100"
NEXT: Final = "next"
VERSION_1_7_5: Final = "20260503111800"
VERSION_1_7: Final = "20260424200000"
OLD: Final = "20260322000002"
"""Newest migrations: of 1.15, of a release to come, which drops columns that 1.15 writes twice, of 1.7.5, of 1.7.0,
which knows no corrections of segments, and of a version without `anomaly`."""

DAY_S: Final = 86_400
BUFFER_S: Final = 6 * 3600
START_S: Final = 19_800 * DAY_S
EARTH_M: Final = 6_371_000.0

SCHEMA: Final = """
CREATE EXTENSION postgis;
CREATE TABLE schema_migrations (version character varying PRIMARY KEY);
CREATE TABLE users (
    id bigserial PRIMARY KEY, email character varying NOT NULL DEFAULT '',
    encrypted_password character varying NOT NULL DEFAULT '', created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL, api_key character varying NOT NULL DEFAULT '',
    theme character varying NOT NULL DEFAULT 'dark', settings jsonb DEFAULT
    '{"fog_of_war_meters": "100", "meters_between_routes": "1000", "minutes_between_routes": "60"}',
    admin boolean DEFAULT false, status integer DEFAULT 0, points_count integer NOT NULL DEFAULT 0,
    deleted_at timestamp(6), plan integer NOT NULL DEFAULT 1);
CREATE UNIQUE INDEX index_users_on_email ON users (email);
CREATE TABLE points (
    id bigserial PRIMARY KEY, battery_status integer, ping character varying, battery integer,
    tracker_id character varying, topic character varying, altitude integer, longitude numeric(10,6),
    velocity character varying, trigger integer, bssid character varying, ssid character varying, connection integer,
    vertical_accuracy integer, accuracy integer, timestamp integer, latitude numeric(10,6), mode integer,
    inrids text[] DEFAULT '{}', in_regions text[] DEFAULT '{}', raw_data jsonb DEFAULT '{}', import_id bigint,
    city character varying, country character varying, created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL, user_id bigint REFERENCES users, geodata jsonb NOT NULL DEFAULT '{}',
    visit_id bigint, reverse_geocoded_at timestamp(6), course numeric(8,5), course_accuracy numeric(8,5),
    external_track_id character varying, lonlat geography(Point,4326), country_id bigint, track_id bigint,
    country_name character varying, raw_data_archived boolean NOT NULL DEFAULT false, raw_data_archive_id bigint,
    motion_data jsonb NOT NULL DEFAULT '{}' {more_of_points});
CREATE INDEX index_points_on_not_reverse_geocoded ON points (id) WHERE reverse_geocoded_at IS NULL;
CREATE INDEX index_points_on_import_id ON points (import_id);
CREATE UNIQUE INDEX index_points_on_lonlat_timestamp_user_id ON points (lonlat, timestamp, user_id);
CREATE INDEX index_points_on_lonlat ON points USING gist (lonlat);
CREATE INDEX index_points_on_raw_data_archive_id ON points (raw_data_archive_id);
CREATE INDEX idx_points_track_id_timestamp ON points (track_id, timestamp);
CREATE INDEX index_points_on_track_id ON points (track_id);
CREATE INDEX idx_points_user_country_name ON points (user_id, country_name);
CREATE INDEX index_points_on_user_id_and_empty_geodata ON points (user_id, geodata) WHERE geodata = '{}'::jsonb;
CREATE INDEX index_points_on_unarchived ON points (user_id, id)
    WHERE raw_data_archived = false AND raw_data <> '{}'::jsonb;
CREATE INDEX idx_points_track_generation ON points (user_id, timestamp, track_id);
CREATE INDEX idx_points_user_visit_null_timestamp ON points (user_id, timestamp) WHERE visit_id IS NULL;
CREATE INDEX index_points_on_user_id_and_timestamp ON points (user_id, timestamp DESC);
CREATE INDEX index_points_on_user_id ON points (user_id);
CREATE INDEX index_points_on_visit_id ON points (visit_id);
CREATE TABLE tracks (
    id bigserial PRIMARY KEY, start_at timestamp(6) NOT NULL, end_at timestamp(6) NOT NULL,
    user_id bigint NOT NULL REFERENCES users, original_path geometry(LineString,4326) NOT NULL, distance bigint,
    avg_speed double precision, duration integer, elevation_gain integer, elevation_loss integer,
    elevation_max integer, elevation_min integer, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL,
    dominant_mode integer DEFAULT 0);
CREATE INDEX index_tracks_on_dominant_mode ON tracks (dominant_mode);
CREATE INDEX idx_tracks_user_id_start_at ON tracks (user_id, start_at);
CREATE INDEX index_tracks_on_user_id ON tracks (user_id);
CREATE TABLE track_segments (
    id bigserial PRIMARY KEY, track_id bigint NOT NULL REFERENCES tracks,
    transportation_mode integer NOT NULL DEFAULT 0,
    start_index integer NOT NULL, end_index integer NOT NULL, distance integer, duration integer,
    avg_speed double precision, max_speed double precision, avg_acceleration double precision,
    confidence integer DEFAULT 0, source character varying, created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL {more_of_segments});
CREATE INDEX index_track_segments_on_track_and_indices ON track_segments (track_id, start_index, end_index);
CREATE INDEX index_track_segments_on_track_id_and_transportation_mode
    ON track_segments (track_id, transportation_mode);
"""
"""What Trackgen reads and writes of it, with all indexes that a write has to keep, but not what these tables
refer to besides."""

SCHEMA_1_15: Final = """
CREATE EXTENSION postgis;
CREATE TABLE schema_migrations (version character varying PRIMARY KEY);
CREATE TABLE users (
    id bigserial PRIMARY KEY, email character varying NOT NULL DEFAULT '',
    encrypted_password character varying NOT NULL DEFAULT '', api_key character varying NOT NULL DEFAULT '',
    theme character varying NOT NULL DEFAULT 'dark', settings jsonb DEFAULT
    '{"fog_of_war_meters": "100", "meters_between_routes": "500", "minutes_between_routes": "30"}',
    admin boolean DEFAULT false, active_until timestamp(6), status integer DEFAULT 0, plan integer NOT NULL DEFAULT 1,
    points_count integer NOT NULL DEFAULT 0, failed_attempts integer NOT NULL DEFAULT 0, deleted_at timestamp(6),
    visits_redetected_at timestamp(6) DEFAULT CURRENT_TIMESTAMP, created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL);
CREATE UNIQUE INDEX index_users_on_email ON users (email);
CREATE TABLE imports (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL, name character varying NOT NULL, source integer,
    status integer NOT NULL DEFAULT 0, raw_points integer DEFAULT 0, doubles integer DEFAULT 0,
    processed integer DEFAULT 0, points_count integer DEFAULT 0, raw_data jsonb, error_message text,
    processing_started_at timestamp(6), additional_data_extraction jsonb NOT NULL DEFAULT '{}',
    additional_data_extraction_status integer NOT NULL DEFAULT 0, demo boolean NOT NULL DEFAULT false,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE TABLE visits (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, area_id bigint, place_id bigint,
    import_id bigint, name character varying NOT NULL, started_at timestamp(6) NOT NULL,
    ended_at timestamp(6) NOT NULL, duration integer NOT NULL, status integer NOT NULL DEFAULT 0, confidence smallint,
    detection_version smallint, demo boolean NOT NULL DEFAULT false, deleted_at timestamp(6),
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE UNIQUE INDEX idx_visits_user_started_at_place_unique ON visits (user_id, started_at, place_id);
CREATE TABLE points_raw_data_archives (id bigserial PRIMARY KEY);
CREATE TABLE point_sources (
    id bigserial PRIMARY KEY, digest character varying(32) NOT NULL, tracker_id character varying,
    topic character varying, ssid character varying, bssid character varying, connection integer, trigger integer,
    battery_status integer, in_regions text[], inrids text[], created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL);
CREATE UNIQUE INDEX index_point_sources_on_digest ON point_sources (digest);
CREATE TABLE tracks (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, tracker_id character varying,
    start_at timestamp(6) NOT NULL, end_at timestamp(6) NOT NULL, original_path geometry(LineString,4326) NOT NULL,
    distance bigint, avg_speed double precision, duration integer, elevation_gain integer, elevation_loss integer,
    elevation_max integer, elevation_min integer, dominant_mode integer DEFAULT 0, import_id bigint,
    demo boolean NOT NULL DEFAULT false, lock_version integer NOT NULL DEFAULT 0, created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL);
CREATE UNIQUE INDEX index_tracks_on_user_tracker_start_end_unique
    ON tracks (user_id, COALESCE(tracker_id, ''::character varying), start_at, end_at);
CREATE INDEX index_tracks_on_demo_true ON tracks (demo) WHERE demo = true;
CREATE INDEX index_tracks_on_dominant_mode ON tracks (dominant_mode);
CREATE INDEX idx_tracks_import_id_extracted ON tracks (import_id) WHERE import_id IS NOT NULL;
CREATE INDEX index_tracks_on_original_path ON tracks USING gist (original_path);
CREATE INDEX idx_tracks_user_id_start_at ON tracks (user_id, start_at);
CREATE INDEX idx_tracks_user_tracker_end_at ON tracks (user_id, tracker_id, end_at);
CREATE INDEX index_tracks_on_user_id ON tracks (user_id);
CREATE TABLE points (
    id bigserial PRIMARY KEY, user_id bigint REFERENCES users, timestamp integer, lonlat geography(Point,4326),
    track_id bigint REFERENCES tracks, visit_id bigint REFERENCES visits, import_id bigint, source_id integer,
    tracker_id character varying, altitude integer, altitude_decimal numeric(10,2), accuracy integer,
    vertical_accuracy integer, velocity character varying, course numeric(8,5), course_accuracy numeric(8,5),
    anomaly boolean, battery integer, battery_status integer, connection integer, trigger integer, mode integer,
    ssid character varying, bssid character varying, topic character varying, ping character varying,
    inrids text[] DEFAULT '{}', in_regions text[] DEFAULT '{}', raw_data jsonb DEFAULT '{}',
    raw_data_archived boolean NOT NULL DEFAULT false,
    raw_data_archive_id bigint REFERENCES points_raw_data_archives ON DELETE RESTRICT,
    motion_data jsonb NOT NULL DEFAULT '{}', geodata jsonb NOT NULL DEFAULT '{}', city character varying,
    country character varying, country_id bigint, country_name character varying, external_track_id character varying,
    reverse_geocoded_at timestamp(6), lock_version integer NOT NULL DEFAULT 0, created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL);
CREATE INDEX index_points_on_not_reverse_geocoded ON points (id) WHERE reverse_geocoded_at IS NULL;
CREATE INDEX index_points_on_import_id ON points (import_id);
CREATE INDEX index_points_on_lonlat ON points USING gist (lonlat);
CREATE INDEX index_points_on_raw_data_archive_id ON points (raw_data_archive_id);
CREATE INDEX idx_points_track_id_timestamp ON points (track_id, timestamp);
CREATE INDEX index_points_on_user_id_and_created_at ON points (user_id, created_at);
CREATE INDEX index_points_on_unarchived ON points (user_id, id)
    WHERE raw_data_archived = false AND raw_data <> '{}'::jsonb;
CREATE UNIQUE INDEX index_points_on_user_id_timestamp_lonlat ON points (user_id, timestamp, lonlat);
CREATE INDEX idx_points_user_id_legacy_tracker ON points (user_id)
    WHERE tracker_id::text IN ('google-maps-timeline-export', 'google-maps-phone-timeline-export');
CREATE INDEX index_points_on_visit_id ON points (visit_id);
CREATE TABLE track_segments (
    id bigserial PRIMARY KEY, track_id bigint NOT NULL REFERENCES tracks, start_at timestamptz, end_at timestamptz,
    start_index integer, end_index integer, path geometry(LineString,4326),
    transportation_mode integer NOT NULL DEFAULT 0, distance integer, duration integer, avg_speed double precision,
    max_speed double precision, avg_acceleration double precision, confidence integer DEFAULT 0,
    confidence_score double precision, source character varying, corrected_at timestamp(6),
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE INDEX index_track_segments_on_corrected_at ON track_segments (corrected_at) WHERE corrected_at IS NOT NULL;
CREATE UNIQUE INDEX idx_track_segments_track_start_at_unique ON track_segments (track_id, start_at)
    WHERE start_at IS NOT NULL;
CREATE INDEX index_track_segments_on_track_and_indices ON track_segments (track_id, start_index, end_index);
CREATE UNIQUE INDEX idx_track_segments_track_start_index_unique ON track_segments (track_id, start_index);
CREATE INDEX index_track_segments_on_track_id_and_transportation_mode
    ON track_segments (track_id, transportation_mode);
"""
"""The same as of 1.15, with its foreign keys, none of which is deferrable."""
NEXT_DROPS: Final = "ALTER TABLE points DROP tracker_id, DROP altitude_decimal, DROP mode, DROP country_name"

NEWER: Final = {
    OLD: ("", ""),
    VERSION_1_7: (", altitude_decimal numeric(10,2), anomaly boolean", ""),
    VERSION_1_7_5: (", altitude_decimal numeric(10,2), anomaly boolean", ", corrected_at timestamp(6)"),
}
INDEX: Final = re.compile(r"CREATE (?:UNIQUE )?INDEX [^;]*;")
TABLES: Final = ("users", "points", "tracks", "track_segments")


def connect(url: str) -> psycopg.Connection[Any]:
    """Open it as Dawarich does; the user of the tests is called as the schema of Trackgen."""
    return psycopg.connect(url, options="-c search_path=public")


def do(url: str, *statements: str) -> None:
    """Run statements."""
    with connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


def fetch(url: str, query: str, *values: Any) -> list[Any]:
    """Return the rows of a query."""
    with connect(url) as connection:
        return connection.execute(query, values).fetchall()


def _script(version: str) -> str:
    if version not in NEWER:
        return SCHEMA_1_15
    more_of_points, more_of_segments = NEWER[version]
    return SCHEMA.replace("{more_of_points}", more_of_points).replace("{more_of_segments}", more_of_segments)


def create(url: str, version: str = VERSION_1_7_5, *, with_indexes: bool = True) -> None:
    """Make the tables of a version in an empty database."""
    with connect(url) as connection:
        connection.execute(re.sub(INDEX, "", _script(version)))
        connection.execute("INSERT INTO schema_migrations VALUES (%s)", [version])
        if version == NEXT:
            connection.execute(NEXT_DROPS)
    if with_indexes:
        add_indexes(url, version)


def add_indexes(url: str, version: str = VERSION_1_7_5) -> None:
    """Make the indexes; of many rows, that is quicker than to keep them."""
    with connect(url) as connection:
        for statement in re.findall(INDEX, _script(version)):
            if version != NEXT or "legacy_tracker" not in statement:
                connection.execute(statement)
        if version in (VERSION_1_7, VERSION_1_7_5):
            connection.execute("CREATE INDEX index_points_on_not_anomaly ON points (anomaly) WHERE anomaly IS NOT TRUE")


def empty(url: str) -> None:
    """Remove all that is in the tables, and what Trackgen keeps there."""
    with connect(url) as connection:
        connection.execute("DROP SCHEMA IF EXISTS trackgen CASCADE")
        tables = [*TABLES, *(["point_sources", "imports"] if has(connection, "point_sources") else [])]
        connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")


def has(connection: psycopg.Connection[Any], table: str, column: str = "id") -> bool:
    """Say whether a column is there."""
    query = "SELECT FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
    return connection.execute(f"{query} AND column_name = %s", [table, column]).fetchone() is not None


def device(connection: psycopg.Connection[Any], point: str = "points") -> str:
    """Return the SQL of the device of a point."""
    if not has(connection, "point_sources"):
        return f"{point}.tracker_id"
    named = f"(SELECT tracker_id FROM point_sources WHERE id = {point}.source_id)"
    if not has(connection, "points", "tracker_id"):
        return named
    return f"CASE WHEN {point}.source_id IS NULL THEN {point}.tracker_id ELSE {named} END"


def add_user(connection: psycopg.Connection[Any], email: str, settings: str | None = "{}") -> int:
    row = connection.execute(
        "INSERT INTO users (email, settings, created_at, updated_at) VALUES (%s, %s, now(), now()) RETURNING id",
        [email, settings],
    ).fetchone()
    assert row is not None
    return int(row[0])


def add_points(connection: psycopg.Connection[Any], user_id: int, points: pd.DataFrame) -> None:
    """Add points: `timestamp`, `lon`, `lat`, and optionally `tracker_id`, `altitude`, `accuracy`, `anomaly`..."""
    connection.execute("DROP TABLE IF EXISTS given")
    connection.execute(
        "CREATE TEMP TABLE given (timestamp int, lon float8, lat float8, tracker_id text, altitude float8, "
        "accuracy int)"
    )
    copy_in(connection, "given", {name: points[name] for name in points.columns})
    values = {"user_id": str(user_id), "timestamp": "timestamp", "altitude": "trunc(altitude)::int"}
    values |= {"lonlat": "ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography", "accuracy": "accuracy"}
    values |= dict.fromkeys(("created_at", "updated_at"), "now()")
    if has(connection, "points", "tracker_id"):
        values["tracker_id"] = "tracker_id"
    if has(connection, "points", "altitude_decimal"):
        values["altitude_decimal"] = "altitude"
    if has(connection, "point_sources"):
        connection.execute(
            "INSERT INTO point_sources (digest, tracker_id, created_at, updated_at) SELECT DISTINCT "
            "md5(coalesce(tracker_id, '-')), tracker_id, now(), now() FROM given "
            "WHERE md5(coalesce(tracker_id, '-')) NOT IN (SELECT digest FROM point_sources)"
        )
        values["source_id"] = "(SELECT id FROM point_sources WHERE digest = md5(coalesce(given.tracker_id, '-')))"
    connection.execute(
        f"INSERT INTO points ({', '.join(values)}) SELECT {', '.join(values.values())} FROM given ORDER BY timestamp"
    )


def history(days: int, fixes_a_day: int, seed: int) -> pd.DataFrame:
    """Days with a ride to work and back with half an hour's pause on the way, and a long way home that goes on into
    the next day on every third of them; 8 to 10 m/s."""
    rng = np.random.default_rng(seed)
    trips = [(8.0, 9.0), (9 + 20 / 60, 9 + 50 / 60), (12.0, 13.0)]
    starts, ends = [], []
    for day in range(days):
        for start, end in [*trips, ((16.0, 20.0)[day % 2], 27.0) if day % 3 == 0 else (17.0, 18.0)]:
            starts.append(day * 24 + start)
            ends.append(day * 24 + end)
    hours = np.array(ends) - np.array(starts)
    counts = np.maximum((fixes_a_day * days * hours / hours.sum()).astype(int), 2)
    trip = np.repeat(np.arange(len(starts)), counts)
    step = np.arange(len(trip)) - np.repeat(np.cumsum(counts) - counts, counts)
    seconds = np.array(starts)[trip] * 3600 + step * (hours * 3600 / (counts - 1))[trip]
    moved = np.cumsum(rng.uniform(8, 10, len(trip)) * np.where(step > 0, np.diff(seconds, prepend=0), 0))
    # To and fro, so that no one leaves the country.
    east = np.abs(moved % 200_000 - 100_000)
    points = pd.DataFrame(
        {
            "timestamp": START_S + np.floor(seconds).astype("int64"),
            "lon": 8 + east / 72_000 + seed / 10,
            "lat": 50 + 0.01 * np.sin(east / 1000),
            "tracker_id": "phone",
            "altitude": np.round(200 + 50 * np.sin(east / 3000), 2),
            "accuracy": 10,
        }
    )
    first = points.iloc[:1].assign(timestamp=START_S + 600)  # a fix in the night: from then on, chunks are days
    return pd.concat([first, points]).drop_duplicates(["timestamp"], ignore_index=True)


def generate_as_dawarich(connection: psycopg.Connection[Any], user_id: int, minutes: int, metres: int = 500) -> None:
    """Make the tracks of a user as Dawarich does: by chunks of a day, whose buffers of six hours are read and made into
    tracks as well, so that the next chunk takes their points away; and then what it takes for pieces is fused."""
    per_device = has(connection, "tracks", "tracker_id")
    rows = connection.execute(
        "SELECT id, timestamp, ST_X(lonlat::geometry), ST_Y(lonlat::geometry), altitude, "
        f"{device(connection) if per_device else 'NULL'} FROM points WHERE user_id = %s ORDER BY timestamp, id",
        [user_id],
    ).fetchall()
    names = sorted({row[-1] for row in rows}, key=str)
    parts = [
        _tracks_of(np.array([row[:-1] for row in rows if row[-1] == name], object), minutes, metres, per_device)
        for name in names
    ]
    shift = 0
    for name, (ids, columns, owner, kept) in zip(names, parts, strict=True):
        _write_tracks(connection, user_id, name, ids, columns, owner + shift * (owner >= 0), kept, shift)
        shift += 10_000
    connection.execute("SELECT setval('tracks_id_seq', (SELECT max(id) FROM tracks))")


def _tracks_of(rows: np.ndarray, minutes: int, metres: int, only_once: bool) -> tuple[Any, ...]:
    """Return the ids and columns of points, the number of the track of each, or -1, and the tracks; where an index
    forbids it, none of a device is there twice with the same first and last point."""
    ids, time, lon, lat, altitude = rows.T
    time = time.astype("int64")
    owner = np.full(len(time), -1)
    tracks: list[tuple[int, int]] = []
    for chunk in range(int(time[0]), int(time[-1]) + 1, DAY_S):
        lo, hi = np.searchsorted(time, chunk - BUFFER_S), np.searchsorted(time, chunk + DAY_S + BUFFER_S, "right")
        cuts = np.flatnonzero(np.diff(time[lo:hi]) > minutes * 60) + 1 + lo
        for start, end in zip([lo, *cuts], [*cuts, hi], strict=True):
            if end - start >= 2 and time[start] <= chunk + DAY_S and time[end - 1] >= chunk:
                owner[start:end] = len(tracks)
                tracks.append((int(start), int(end)))
    for number, (start, end) in enumerate(list(tracks)):  # its resolver has a floor of half an hour
        if end >= len(time) or (owner[start:end] != number).any() or owner[end] < 0:
            continue
        other = tracks[owner[end]]
        far = haversine_m(lon[[end - 1, end]], lat[[end - 1, end]])[0]
        if minutes * 60 < time[end] - time[end - 1] <= 1800 and far <= metres and other[0] == end:
            gone = owner[end]
            owner[start : other[1]] = len(tracks)
            tracks.append((start, other[1]))
            tracks[number] = tracks[gone] = (0, 0)
    kept = [(number, start, end) for number, (start, end) in enumerate(tracks) if end]
    if only_once:
        first = {(start, end): number for number, start, end in reversed(kept)}
        for number, start, end in kept:
            owner[owner == number] = first[start, end]
        kept = [(number, start, end) for number, start, end in kept if first[start, end] == number]
    return ids, (time, lon, lat, altitude), owner, kept


def _write_tracks(
    connection: psycopg.Connection[Any],
    user_id: int,
    name: str | None,
    ids: np.ndarray,
    columns: tuple[np.ndarray, ...],
    owner: np.ndarray,
    kept: list[tuple[int, int, int]],
    shift: int,
) -> None:
    time, lon, lat, altitude = columns
    named = has(connection, "tracks", "tracker_id")
    with connection.cursor().copy(
        "COPY tracks (user_id, start_at, end_at, original_path, distance, avg_speed, duration, elevation_gain, "
        "elevation_loss, elevation_max, elevation_min, created_at, updated_at, dominant_mode, id"
        f"{', tracker_id' if named else ''}) FROM STDIN"
    ) as copy:
        for number, start, end in kept:
            metres_long = round(haversine_m(lon[start:end], lat[start:end]).sum())
            seconds = int(time[end - 1] - time[start])
            path = ",".join(f"{x:.5f} {y:.5f}" for x, y in zip(lon[start:end], lat[start:end], strict=True))
            heights = altitude[start:end][altitude[start:end] != None].astype(float)  # noqa: E711
            rises = np.diff(heights)
            row = [
                *(user_id, *(pd.Timestamp(int(time[n]), unit="s").isoformat() for n in (start, end - 1))),
                f"SRID=4326;LINESTRING({path})",
                *(metres_long, round(metres_long / max(seconds, 1) * 3.6, 2), seconds),
                *(int(rises[rises > 0].sum()), int(-rises[rises < 0].sum())),
                *((int(heights.max()), int(heights.min())) if len(heights) else (0, 0)),
                *("2026-01-01", "2026-01-01", 5, user_id * 1_000_000 + shift + number),
                *([name] if named else []),
            ]
            copy.write_row(row)
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS owned (id int8, track_id int8)")
    connection.execute("TRUNCATE owned")
    is_owned = owner >= 0
    owned = {"id": pd.Series(ids[is_owned].astype("int64"))}
    owned["track_id"] = pd.Series(owner[is_owned] + user_id * 1_000_000)
    copy_in(connection, "owned", owned)
    connection.execute("UPDATE points SET track_id = owned.track_id FROM owned WHERE owned.id = points.id")
    more = has(connection, "track_segments", "start_at")
    connection.execute(
        "INSERT INTO track_segments (track_id, start_index, end_index, distance, duration, avg_speed, source, "
        f"transportation_mode, confidence, created_at, updated_at{', start_at, end_at, path' if more else ''}) "
        "SELECT id, 0, ST_NPoints(original_path) - 1, distance, duration, avg_speed, 'inferred', 5, 1, created_at, "
        f"updated_at{', start_at, end_at, original_path' if more else ''} FROM tracks "
        "WHERE user_id = %s AND id >= %s ORDER BY id",
        [user_id, user_id * 1_000_000 + shift],
    )


def haversine_m(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(lon.astype(float)), np.radians(lat.astype(float))
    a = np.sin(np.diff(lat) / 2) ** 2 + np.cos(lat[1:]) * np.cos(lat[:-1]) * np.sin(np.diff(lon) / 2) ** 2
    return 2 * EARTH_M * np.arcsin(np.sqrt(a))


def dump(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return every row of the tables, by id."""
    return {
        table: [row[0] for row in connection.execute(f"SELECT t::text FROM {table} AS t ORDER BY id").fetchall()]
        for table in TABLES
    }
