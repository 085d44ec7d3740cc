"""The statement of SQL with which the second engine makes tracks: `docs/rules.md`, 3 to 5, as window functions.

It reads `points`, `edits` and the settings of users (`:rules`); of users with a noise filter also `noise`, and of users
with stays also `stays` and, to say which of two stays that follow one another goes on, `segments`. Each part (CTE) is
named by what it holds; the last ones are the tracks. A link has the row of the point to which it leads.
"""

from __future__ import annotations

from typing import Any, Final

from trackgen_core.breaks import (
    FLIGHT_KMH,
    FLIGHT_MM,
    INTERVAL_MS,
    LONGEST_ADAPTED_MS,
    LONGEST_LINK_MS,
    MM_PER_M,
)
from trackgen_core.cells import SILENCE_MS
from trackgen_core.clock import SPREAD_MS
from trackgen_core.dwelling import LONGEST_SILENCE_MS
from trackgen_core.geodesy import BELOW_HALF, GEOD
from trackgen_core.points import MS_PER_DAY, MS_PER_MINUTE
from trackgen_core.settings import Settings

NEAR_HALF_MM: Final = 3e-5
"""PostGIS and pyproj may round the length of a link to different mm if it is so near to a half: PostGIS keeps degrees
as radians, which moves a point by some nanometres."""

SQL_TRACK_DTYPES: Final = {
    "user": "object",
    "device": "object",
    "device_id": "int64",
    "started_ms": "int64",
    "start_lon": "float64",
    "start_lat": "float64",
    "ended_ms": "int64",
    "end_lon": "float64",
    "end_lat": "float64",
    "points": "int64",
    "vertices": "int64",
    "length_mm": "int64",
    "near_half": "int64",
    "duration_ms": "int64",
    "break_reason": "object",
    "path": "object",
}
"""Columns of `TRACKS`. `points` counts as the first engine does, `vertices` also the ends that a track shares with
stays or other tracks; `length_mm` is the plain length; `near_half` are the links whose rounding may differ; `path` is
WKB of one line, not cut at the antimeridian."""

LINK_DTYPES: Final = {
    "device_id": "int64",
    "prev_ms": "int64",
    "prev_lon": "float64",
    "prev_lat": "float64",
    "lon": "float64",
    "lat": "float64",
    "link_mm": "int64",
}
"""Columns of `LINKS`."""

CONTEXT_MS: Final = INTERVAL_MS + 2 * SPREAD_MS
"""How far around the points that are wanted others are read: as far as intervals look, by the clock of the rules."""


def rule_of(user_id: int, settings: Settings) -> dict[str, Any]:
    """Return the settings of a user in the words of the statement: an element of `:rules`."""
    rule = settings.distance_rule
    gap_ms = settings.minutes_between_routes * MS_PER_MINUTE
    adapts = settings.gap_rule == "adaptive"
    return {
        "user_id": user_id,
        "gap_ms": gap_ms,
        # By time stamps, whatever the clock of the rules says: no track goes over a longer link.
        "sure_gap_ms": (max(gap_ms, LONGEST_LINK_MS) if adapts else gap_ms) + SPREAD_MS,
        "adapts": adapts,
        "far_mm": None if rule == "off" else settings.meters_between_routes * MM_PER_M,
        "kmh": settings.max_speed_kmh if rule == "implausible" else None,
        "filters": settings.noise_filter,
        "has_stays": settings.stay_minutes > 0,
        "silent_cm": settings.silent_stay_m * 100 or None,
        "radius_cm": settings.stay_radius_m * 100,
        "timezone": settings.timezone if settings.split_at_midnight else None,
    }


def _place_cm(lon: str, lat: str) -> tuple[str, str, str]:
    """Return the geocentric position of a point, in whole centimetres along three axes, in SQL."""
    # PostgreSQL refuses what is too small for a double. Less than 1e-100 degrees is nothing.
    lon, lat = (f"radians(CASE WHEN abs({degrees}) < 1e-100 THEN 0 ELSE {degrees} END)" for degrees in (lon, lat))
    curve = f"({GEOD.a!r} / sqrt(1 - {GEOD.es!r} * sin({lat}) ^ 2))"
    return (
        f"round({curve} * cos({lat}) * cos({lon}) * 100)",
        f"round({curve} * cos({lat}) * sin({lon}) * 100)",
        f"round({curve} * {1 - GEOD.es!r} * sin({lat}) * 100)",
    )


def _distance_cm(a: tuple[str, str], b: tuple[str, str]) -> str:
    """Return the straight distance of two places, given the names of their longitude and latitude, in SQL."""
    squares = (f"({one} - {other}) ^ 2" for one, other in zip(_place_cm(*a), _place_cm(*b), strict=True))
    return f"sqrt({' + '.join(squares)})"


_KEPT: Final = """NOT (scopes.filters AND EXISTS (
                SELECT FROM noise WHERE (noise.device_id, noise.time_ms, noise.lon, noise.lat)
                                      = (points.device_id, points.time_ms, points.lon, points.lat)))"""
"""Whether a point is not noise, for users whose settings have a noise filter."""

_MERGED: Final = """EXISTS (
                SELECT FROM merges WHERE merges.device_id = {0}.device_id
                AND {0}.prev_ms < merges.after_ms AND {0}.time_ms > merges.before_ms)"""
"""Whether somebody joined tracks over a link."""

_DAY: Final = "CAST((timestamptz 'epoch' + {} * interval '1 ms') AT TIME ZONE timezone AS date)"

_MEDIAN: Final = f"""(
                   SELECT nullif((array_agg(ms ORDER BY ms))[count(*) / 2 + 1], 0)
                   FROM (VALUES {{}}) AS link (ms, away_ms) WHERE away_ms <= {INTERVAL_MS})"""
"""The interval of a device: the median of some links (the larger one of two), as far as they are near."""

_LINKS_BEFORE: Final = ", ".join(f"(before_{n} - before_{n + 1}, before_0 - before_{n + 1})" for n in range(3))
_LINKS_AFTER: Final = ", ".join(f"(after_{n + 1} - after_{n}, after_{n + 1} - after_0)" for n in range(3))
"""The links before the first point of a link, and after its second one: how long they take, and how far they reach."""

_LINKS: Final = f"""
WITH
-- The settings of each user.
rules AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rules AS jsonb)) AS given (
        user_id integer, gap_ms bigint, sure_gap_ms bigint, adapts boolean, far_mm bigint, kmh bigint, filters boolean,
        has_stays boolean, silent_cm bigint, radius_cm bigint, timezone text)
),
merges AS (
    SELECT device_id, before_ms, after_ms FROM edits WHERE kind = 'merge'
),
splits AS (
    SELECT device_id, before_ms FROM edits WHERE kind = 'split'
),
-- The devices. If tracks are wanted that start on some days, points are read from a place before these days that no
-- track crosses, to one behind them: the nearest stay, or a gap that is nearer.
devices_of_rules AS (
    SELECT device_id, rules.* FROM devices JOIN rules USING (user_id)
),
scopes AS (
    SELECT scopes.*,
           CASE WHEN before.time_ms <= stay_before.ended_ms THEN stay_before.started_ms ELSE before.time_ms END
               AS from_ms,
           CASE WHEN behind.time_ms >= stay_behind.started_ms THEN stay_behind.ended_ms ELSE behind.time_ms END
               AS until_ms
    FROM devices_of_rules AS scopes
    LEFT JOIN LATERAL (
        SELECT started_ms, ended_ms FROM stays
        WHERE scopes.has_stays AND device_id = scopes.device_id AND started_ms < :lo_ms
        ORDER BY started_ms DESC, ended_ms DESC LIMIT 1
    ) AS stay_before ON true
    LEFT JOIN LATERAL (
        SELECT prev_ms AS time_ms FROM (
            SELECT device_id, time_ms, lead(time_ms) OVER (ORDER BY time_ms DESC) AS prev_ms
            FROM points WHERE device_id = scopes.device_id AND {_KEPT}
              AND time_ms <= coalesce((SELECT min(time_ms) FROM points
                                       WHERE device_id = scopes.device_id AND time_ms >= :lo_ms), :lo_ms)
        ) AS link
        WHERE time_ms - prev_ms > scopes.sure_gap_ms AND NOT {_MERGED.format("link")} OR prev_ms <= stay_before.ended_ms
        ORDER BY link.time_ms DESC LIMIT 1
    ) AS before ON true
    LEFT JOIN LATERAL (
        SELECT started_ms, ended_ms FROM stays
        WHERE scopes.has_stays AND device_id = scopes.device_id AND ended_ms >= :hi_ms
          AND started_ms >= coalesce((SELECT max(started_ms) FROM stays
                                      WHERE device_id = scopes.device_id AND started_ms < :hi_ms), :hi_ms)
        ORDER BY started_ms, ended_ms LIMIT 1
    ) AS stay_behind ON true
    LEFT JOIN LATERAL (
        SELECT prev_ms AS time_ms FROM (
            SELECT device_id, time_ms AS prev_ms, lead(time_ms) OVER (ORDER BY time_ms) AS time_ms
            FROM points WHERE device_id = scopes.device_id AND {_KEPT}
              AND time_ms >= coalesce((SELECT max(time_ms) FROM points
                                       WHERE device_id = scopes.device_id AND time_ms < :hi_ms), :hi_ms)
        ) AS link
        WHERE time_ms - prev_ms > scopes.sure_gap_ms AND NOT {_MERGED.format("link")}
           OR prev_ms >= stay_behind.started_ms
        ORDER BY link.prev_ms LIMIT 1
    ) AS behind ON true
),
-- What is read around that, so that intervals, the clock of the rules and the ends of stays come out as in the whole.
-- Tracks there may be wrong; none of them starts on the days that are wanted.
contexts AS (
    SELECT scopes.*,
           coalesce(least(from_ms - {CONTEXT_MS}, (
               SELECT max(time_ms) FROM points WHERE device_id = scopes.device_id AND time_ms < from_ms AND {_KEPT}
           )), 0) AS read_from_ms,
           coalesce(greatest(until_ms + {CONTEXT_MS}, (
               SELECT min(time_ms) FROM points WHERE device_id = scopes.device_id AND time_ms > until_ms AND {_KEPT}
           )), {2**62}) AS read_until_ms,
           EXISTS (SELECT FROM edits WHERE device_id = scopes.device_id) AS is_edited
    FROM scopes
),
-- The points at which stays begin and end.
ends_of_stays AS (
    SELECT device_id, time_ms, point.lon, point.lat, sum(opens) AS opens, sum(closes) AS closes
    FROM contexts JOIN stays USING (device_id)
    CROSS JOIN LATERAL (VALUES (started_ms, start_lon, start_lat, 1, 0), (ended_ms, end_lon, end_lat, 0, 1))
        AS point (time_ms, lon, lat, opens, closes)
    WHERE has_stays AND started_ms BETWEEN read_from_ms AND read_until_ms
    GROUP BY device_id, time_ms, point.lon, point.lat
),
-- The points that are no copies, with the clock of the rules: those of one time are spread over the time to the next.
points_with_clock AS (
    SELECT points.*, time_ms + number_there * (CASE WHEN next_ms - time_ms <= {SPREAD_MS} THEN next_ms - time_ms
                                                    WHEN time_ms - last_ms <= {SPREAD_MS} THEN time_ms - last_ms
                                                    ELSE 0 END) / count_there AS clock_ms
    FROM (
        SELECT contexts.*, time_ms, seq, lon, lat, pause, noise.reason IS NOT NULL AND filters AS is_noise,
               sum(pause) OVER (PARTITION BY device_id ORDER BY time_ms, seq, lon, lat ROWS UNBOUNDED PRECEDING)
                   AS pauses,
               row_number() OVER (there ORDER BY seq, lon, lat) - 1 AS number_there, count(*) OVER there AS count_there,
               first_value(time_ms) OVER (times GROUPS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS next_ms,
               first_value(time_ms) OVER (times GROUPS BETWEEN 1 PRECEDING AND 1 PRECEDING) AS last_ms
        FROM points JOIN contexts USING (device_id)
        LEFT JOIN noise USING (device_id, time_ms, lon, lat)
        WHERE time_ms BETWEEN read_from_ms AND read_until_ms
          AND NOT (filters AND noise.reason IS NOT DISTINCT FROM 'duplicate')
        WINDOW there AS (PARTITION BY device_id, time_ms), times AS (PARTITION BY device_id ORDER BY time_ms)
    ) AS points
),
-- Those that are no noise, in their order; each with the one before it, and with times around the two. Noise may have
-- followed a pause.
points_in_order AS (
    SELECT points.*, row_number() OVER device AS number, clock_ms - lag(clock_ms) OVER device AS link_ms,
           lag(time_ms) OVER device AS prev_ms, lag(lon) OVER device AS prev_lon, lag(lat) OVER device AS prev_lat,
           lag(clock_ms, 1) OVER device AS before_0, lag(clock_ms, 2) OVER device AS before_1,
           lag(clock_ms, 3) OVER device AS before_2, lag(clock_ms, 4) OVER device AS before_3,
           clock_ms AS after_0, lead(clock_ms, 1) OVER device AS after_1, lead(clock_ms, 2) OVER device AS after_2,
           lead(clock_ms, 3) OVER device AS after_3,
           pause = 1 OR pauses > lag(pauses) OVER device
               AND clock_ms - lag(clock_ms) OVER device <= {SILENCE_MS} AS resumes,
           sum(opens - closes) OVER device - (opens - closes) > 0 AS is_in_stay -- the link, not the point
    FROM (
        SELECT points.*, coalesce(opens, 0) AS opens, coalesce(closes, 0) AS closes
        FROM points_with_clock AS points LEFT JOIN ends_of_stays USING (device_id, time_ms, lon, lat)
        WHERE NOT is_noise
    ) AS points
    WINDOW device AS (PARTITION BY device_id ORDER BY time_ms, seq, lon, lat ROWS UNBOUNDED PRECEDING)
),
-- The links, measured once: the order is there already, but keeps the planner from doing so wherever a length is used.
measured AS (
    SELECT points.*,
           CASE WHEN NOT is_in_stay THEN 1000 * ST_DistanceSpheroid(
               ST_MakePoint(prev_lon, prev_lat), ST_MakePoint(lon, lat), 'SPHEROID["WGS 84",6378137,298.257223563]'
           ) END AS exact_mm,
           CASE WHEN link_ms > {SILENCE_MS} AND link_ms <= {LONGEST_SILENCE_MS} AND has_stays
               THEN {_distance_cm(("prev_lon", "prev_lat"), ("lon", "lat"))} END AS silence_cm,
           CASE WHEN adapts AND link_ms > gap_ms AND link_ms <= {LONGEST_ADAPTED_MS} AND NOT is_in_stay THEN least(
               {_MEDIAN.format(_LINKS_BEFORE)},
               {_MEDIAN.format(_LINKS_AFTER)}
           ) END AS interval_ms,
           is_edited AND link_ms <= {LONGEST_LINK_MS} AND {_MERGED.format("points")} AS is_freed,
           is_edited AND EXISTS (
               SELECT FROM splits WHERE device_id = points.device_id AND prev_ms <= before_ms AND before_ms < time_ms
           ) AS is_split,
           is_edited AND EXISTS (
               SELECT FROM merges WHERE device_id = points.device_id AND time_ms BETWEEN before_ms AND after_ms
           ) AS is_taken
    FROM points_in_order AS points ORDER BY device_id, time_ms, seq, lon, lat
),
links AS (
    -- To the nearest millimetre, halves away from zero.
    SELECT measured.*, CAST(floor(exact_mm + {float(BELOW_HALF)!r}) AS bigint) AS link_mm
    FROM measured ORDER BY device_id, time_ms, seq, lon, lat
)"""

LINKS: Final = f"""{_LINKS}
SELECT device_id, prev_ms, prev_lon, prev_lat, lon, lat, link_mm FROM links
WHERE link_mm IS NOT NULL AND prev_ms >= coalesce(from_ms, 0) AND time_ms <= coalesce(until_ms, {2**62})
"""
"""The links outside of stays, with their lengths."""

TRACKS: Final = f"""{_LINKS},
-- What each link is: a break (by which rule), a silent stay, or neither.
rated AS (
    SELECT links.*,
           CASE WHEN is_freed THEN NULL
               WHEN link_ms > gap_ms
                    AND (link_ms * 2 <= interval_ms * 5) IS NOT TRUE
                    AND NOT (adapts AND link_ms <= {LONGEST_LINK_MS} AND link_mm >= {FLIGHT_MM}
                             AND link_mm * 18 >= link_ms * 5 * {FLIGHT_KMH}) -- mm/ms is 3.6 km/h
                   THEN 'time_gap'
               WHEN link_mm > far_mm AND kmh IS NULL THEN 'distance'
               WHEN link_mm > far_mm AND link_mm * 18 > link_ms * 5 * kmh THEN 'implausible_speed'
           END AS break_reason,
           coalesce(NOT is_freed AND silence_cm <= silent_cm, false) AS is_silent
    FROM links ORDER BY device_id, time_ms, seq, lon, lat
),
points_between_links AS (
    SELECT rated.*, lead(is_silent) OVER device AS is_silent_after, lead(silence_cm) OVER device AS silence_after_cm,
           NOT is_taken AND (prev_ms IS NULL OR break_reason IS NOT NULL OR is_silent)
               AND coalesce(lead(break_reason IS NOT NULL OR is_silent) OVER device, true) AS is_alone
    FROM rated WINDOW device AS (PARTITION BY device_id ORDER BY number ROWS UNBOUNDED PRECEDING)
),
-- The stays, each with what is known of its two ends. Where it begins (ends) with a silent stay, the point there may
-- remain a track's: how many do is told by the number of its points. The segments say which ends are at rest, and where
-- two stays were one, had its place not crept away.
stays_with_ends AS (
    SELECT first.device_id, first.number AS first_number, last.number AS last_number,
           last.number - first.number + 1 - stays.points AS shared,
           first.is_silent_after AS begins_silent, last.is_silent AS ends_silent,
           first.is_alone OR coalesce(first_part.is_stay = 1 AND first.silence_after_cm <= first.radius_cm, false)
               AS begins_at_rest,
           last.is_alone OR coalesce(last_part.is_stay = 1 AND last.silence_cm <= last.radius_cm, false)
               AS ends_at_rest,
           first_part.continues = 1 OR first_part.is_stay = 0 AS begins_inside, last_part.is_stay = 0 AS ends_inside
    FROM stays
    JOIN points_between_links AS first ON (first.device_id, first.time_ms, first.lon, first.lat)
                                        = (stays.device_id, started_ms, start_lon, start_lat)
    JOIN points_between_links AS last ON (last.device_id, last.time_ms, last.lon, last.lat)
                                       = (stays.device_id, ended_ms, end_lon, end_lat)
    LEFT JOIN segments AS first_part
        ON (first_part.device_id, first_part.day, first_part.first_ms, first_part.first_lon, first_part.first_lat)
         = (stays.device_id, started_ms / {MS_PER_DAY}, started_ms, start_lon, start_lat)
    LEFT JOIN segments AS last_part
        ON (last_part.device_id, last_part.day, last_part.last_ms, last_part.last_lon, last_part.last_lat)
         = (stays.device_id, ended_ms / {MS_PER_DAY}, ended_ms, end_lon, end_lat)
    WHERE first.has_stays
),
-- The points of stays at which these begin and end.
own_ends AS (
    SELECT device_id, number, bool_or(begins) AS begins_stay, bool_or(ends) AS ends_stay,
           bool_or(begins AND begins_inside) AS begins_inside, bool_or(ends AND ends_inside) AS ends_inside
    FROM (
        SELECT stays.*,
               shared = 2 OR shared = 1 AND begins_silent AND (NOT ends_silent OR ends_at_rest OR NOT begins_at_rest)
                   AS shares_first,
               shared = 2 OR shared = 1 AND ends_silent AND (NOT begins_silent OR begins_at_rest AND NOT ends_at_rest)
                   AS shares_last
        FROM stays_with_ends AS stays
    ) AS stays
    CROSS JOIN LATERAL (
        VALUES (first_number, NOT shares_first, false), (last_number, false, NOT shares_last)
    ) AS point (number, begins, ends)
    WHERE begins OR ends
    GROUP BY device_id, number
),
-- The links once more, with why no track goes over them; nothing if one does. The link between two stays that were one
-- belongs to nothing.
ways AS (
    SELECT links.*, CASE
        WHEN prev_ms IS NULL THEN 'start'
        WHEN is_in_stay OR is_silent OR leaves_stay AND enters_stay AND (ends_inside OR begins_inside) THEN 'stay'
        ELSE break_reason
    END AS reason
    FROM (
        SELECT rated.*, coalesce(begins_stay, false) AS enters_stay, begins_inside,
               coalesce(lag(ends_stay) OVER device, false) AS leaves_stay, lag(ends_inside) OVER device AS ends_inside
        FROM rated LEFT JOIN own_ends USING (device_id, number)
        WINDOW device AS (PARTITION BY device_id ORDER BY number ROWS UNBOUNDED PRECEDING)
    ) AS links
),
-- Where a track ends at a point with which the next one begins, both points of the link being its own.
cuts AS (
    SELECT ways.*, lag(reason) OVER device AS reason_before, CASE
        WHEN reason IS NOT NULL OR leaves_stay OR enters_stay THEN NULL
        WHEN is_split THEN 'split'
        WHEN timezone IS NULL OR is_freed OR {_DAY.format("prev_ms")} = {_DAY.format("time_ms")} THEN NULL
        ELSE 'midnight'
    END AS cut
    FROM ways WINDOW device AS (PARTITION BY device_id ORDER BY number ROWS UNBOUNDED PRECEDING)
),
-- The links of tracks, with the number of the track. Over a pause, a link has no length.
links_of_tracks AS (
    SELECT link.*, count(*) FILTER (WHERE begins) OVER device AS track,
           CASE WHEN resumes AND NOT is_freed THEN 0 ELSE exact_mm END AS counted_mm
    FROM (
        SELECT cuts.*, cut IS NOT NULL OR reason_before IS NOT NULL OR leaves_stay AS begins FROM cuts
        WHERE reason IS NULL
    ) AS link
    WINDOW device AS (PARTITION BY device_id ORDER BY number ROWS UNBOUNDED PRECEDING)
),
-- The points of a track are the ends of its links, but for those that are a stay's or the track's before.
found AS (
    SELECT device_id, min(prev_ms) AS started_ms, max(time_ms) AS ended_ms,
           count(*) FILTER (WHERE NOT enters_stay)
               + count(*) FILTER (WHERE begins AND NOT leaves_stay AND cut IS NULL) AS points,
           count(*) + 1 AS vertices,
           CAST(coalesce(sum(link_mm) FILTER (WHERE counted_mm > 0), 0) AS bigint) AS length_mm,
           count(*) FILTER (WHERE abs(counted_mm - floor(counted_mm) - 0.5) < {NEAR_HALF_MM!r}) AS near_half,
           max(CASE WHEN reason_before = 'start' THEN 'start' WHEN leaves_stay THEN 'stay'
                    ELSE coalesce(cut, reason_before) END)
               FILTER (WHERE begins) AS break_reason,
           ST_MakeLine(
               array_agg(ST_MakePoint(prev_lon, prev_lat) ORDER BY number) FILTER (WHERE begins)
               || array_agg(ST_MakePoint(lon, lat) ORDER BY number)
           ) AS path
    FROM links_of_tracks GROUP BY device_id, track
    HAVING min(prev_ms) >= coalesce(:lo_ms, 0) AND min(prev_ms) < coalesce(:hi_ms, {2**62})
)
SELECT users.name, devices.name, device_id,
       started_ms, ST_X(ST_StartPoint(path)) AS start_lon, ST_Y(ST_StartPoint(path)) AS start_lat,
       ended_ms, ST_X(ST_EndPoint(path)) AS end_lon, ST_Y(ST_EndPoint(path)) AS end_lat,
       points, vertices, length_mm, near_half, ended_ms - started_ms, break_reason, ST_AsBinary(path, 'NDR')
FROM found JOIN devices USING (device_id) JOIN users USING (user_id)
ORDER BY users.name, devices.name, started_ms, ended_ms
"""
"""The tracks that start on some days, from `:lo_ms` to before `:hi_ms`, or all."""
