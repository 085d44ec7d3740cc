"""Google's location history: `Records.json`, `Timeline.json` of Android and of iOS, the monthly files of the Semantic
Location History, and `Timeline Edits.json`.

Fixes are what a device has measured: records, raw signals, and the points of simplified paths, which are a choice of
them. Places of visits and the ends of activities are what Google has made of these: they are refused, unless the
options of the source ask for them (each is a fix at its beginning and at its end). Points of `timelinePath` are fixes
whose times are cut to the minute. They are all that is left of old times, but within an hour that has raw signals they
would lie minutes beside these, and are refused as well.
"""  # noqa: D205

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

import pandas as pd

from trackgen_core.points import REFUSED
from trackgen_core.readers.columns import (
    Fix,
    Refusal,
    to_activity,
    to_decimal,
    to_name,
    to_number,
    to_time_text,
)
from trackgen_core.readers.sources import NoFixes, Source, UnreadableFile, open_text
from trackgen_core.readers.values import Values, as_list, as_object, frames, opening
from trackgen_core.words import counted

PLACE: Final = "Google's estimate of a visit, not a measured point"
END: Final = "Google's estimate of the start or end of an activity, not a measured point"
WAY: Final = "Google's estimate of a way, without times"
COVERED: Final = "a point of a path in an hour with raw signals"

PER_DEGREE: Final = 1e7
MOST_E7: Final = 1_800_000_000
WRAP_E7: Final = 1 << 32
"""An error of Google's export: negative coordinates were written as unsigned numbers of 32 bits."""

MM_PER_M: Final = 1000
MS_PER_HOUR: Final = 3_600_000
MS_PER_MINUTE: Final = 60_000

_PLACE: Final = re.compile(
    r"^\s*(?:geo:)?\s*([+-]?\d+(?:\.\d+)?)[^\d,;.+-]*,\s*([+-]?\d+(?:\.\d+)?)[^\d,;.+-]*(?:,([+-]?\d+(?:\.\d+)?))?(?:;.*)?$",
    re.ASCII,
)
"""`47.1°, 8.1°` or `geo:47.1,8.1`, latitude first; a third number is the altitude."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Found = Iterator[Fix | Refusal]


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this is a file of Google's location history."""
    depth, first = opening(text)
    if depth == 0:
        sections = first.keys() & _SECTIONS.keys()
        return bool(sections - {"locations"}) or (
            bool(sections) and ('"latitudeE7"' in text or first["locations"] == [])
        )
    return depth == 1 and "startTime" in first and bool(first.keys() & {"visit", "activity", "timelinePath"})


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes of a location history, in batches."""
    found = estimates = 0
    for frame in frames(source, partial(_fixes, source)):
        reasons = frame[REFUSED] if REFUSED in frame else pd.Series([""] * len(frame))
        estimates += int(reasons.isin((PLACE, END)).sum())
        found += int((reasons == "").sum())
        yield frame
    if estimates and not found:
        what = f"no points: it holds {counted(estimates, 'estimate')} of Google alone, of visits and activities"
        raise NoFixes(source.path, f"{what}; with --visits they are imported as points")


def _fixes(source: Source, values: Values) -> Found:
    visits = source.options.visits
    if values.peek() == "[":
        spans = _spans_of_activities(source)
        for segment in values.elements():
            yield from _segment(segment, frozenset(), spans, visits)
        return
    known = False
    for key in values.members():
        if key not in _SECTIONS or values.peek() != "[":
            values.next()
            continue
        known = True
        if key == "semanticSegments":
            hours, spans = _hours_of_signals(source), _spans_of_activities(source)
            for segment in values.elements():
                yield from _segment(segment, hours, spans, visits)
        else:
            section = _SECTIONS[key]
            for element in values.elements():
                yield from section(as_object(element), visits)
    if not known:
        raise values.error(f"no location history of Google: none of {', '.join(_SECTIONS)} is in it")


def _hours_of_signals(source: Source) -> frozenset[int]:
    """Return the hours, counted from the epoch, in which a Timeline has raw signals. They stand behind the paths."""
    with open_text(source) as text:
        values = Values(source.path, text)
        if not values.find('"rawSignals"'):
            return frozenset()
        values.take(":")
        if values.peek() != "[":
            return frozenset()
        hours = set()
        # Faults of the file are left for who reads the fixes.
        with suppress(UnreadableFile):
            for signal in values.elements():
                ms = _to_ms(as_object(as_object(signal).get("position")).get("timestamp"))
                if ms is not None:
                    hours.add(ms // MS_PER_HOUR)
        return frozenset(hours)


class _Spans(NamedTuple):
    """The activities of a Timeline, in the order of their starts."""

    starts: list[int]
    ends: list[int]
    codes: list[int]

    def code_at(self, time_ms: int) -> int:
        """Return the code of the activity that began last before an instant, 0 if it was over by then."""
        at = bisect_right(self.starts, time_ms) - 1
        return self.codes[at] if at >= 0 and time_ms <= self.ends[at] else 0


def _spans_of_activities(source: Source) -> _Spans:
    """Return when a Timeline says how somebody moved. Activities stand beside the paths, and before or behind them."""
    spans = []
    # Faults of the file are left for who reads the fixes.
    with suppress(UnreadableFile), open_text(source) as text:
        values = Values(source.path, text)
        if values.peek() == "{" and values.find('"semanticSegments"'):
            values.take(":")
        if values.peek() == "[":
            for segment in map(as_object, values.elements()):
                named = as_object(as_object(segment.get("activity")).get("topCandidate")).get("type")
                start, end = _to_ms(segment.get("startTime")), _to_ms(segment.get("endTime"))
                if (code := to_activity(named)) and start is not None and end is not None:
                    spans.append((start, end, code))
    starts, ends, codes = zip(*sorted(spans), strict=True) if spans else ((), (), ())
    return _Spans([*starts], [*ends], [*codes])


def _likeliest(found: object) -> int:
    """Return the code of the likeliest activity of the first list of candidates of a record."""
    first = as_object(next(iter(as_list(found)), None))
    candidates = [*map(as_object, as_list(first.get("activity")))]
    best = max(candidates, key=lambda one: -1.0 if math.isnan(c := to_number(one.get("confidence"))) else c, default={})
    return to_activity(best.get("type"))


def _record(record: dict[str, Any], _visits: bool) -> Found:
    """Yield the fix of an element of `Records.json`."""
    yield (
        _time(record),
        _degrees(record.get("longitudeE7")),
        _degrees(record.get("latitudeE7")),
        to_number(record.get("altitude")),
        to_number(record.get("accuracy")),
        to_number(record.get("velocity")),
        None,
        to_name(record.get("deviceTag")),
        _likeliest(record.get("activity")),
        0,
    )


def _signal(signal: dict[str, Any], _visits: bool) -> Found:
    """Yield the fix of a raw signal, if it is none of the other kinds: a scan for networks, or an activity."""
    if "position" not in signal:
        return
    position = as_object(signal["position"])
    lon, lat, altitude = _place(position.get("LatLng"))
    yield (
        to_time_text(position.get("timestamp")),
        lon,
        lat,
        to_number(position["altitudeMeters"]) if "altitudeMeters" in position else altitude,
        to_number(position.get("accuracyMeters")),
        to_number(position.get("speedMetersPerSecond")),
        None,
        None,
    )


def _segment(segment: object, hours: frozenset[int], spans: _Spans, visits: bool) -> Found:
    """Yield what a segment of a `Timeline.json` holds.

    Parameters
    ----------
    segment : object
        An element of `semanticSegments`, or of the array that iOS writes.
    hours : set of int
        The hours of which there are raw signals.
    spans : _Spans
        The activities.
    visits : bool
        Whether visits and activities are wanted.
    """
    segment = as_object(segment)
    start_ms = _to_ms(segment.get("startTime"))
    for point in map(as_object, as_list(segment.get("timelinePath"))):
        minutes = to_decimal(point.get("durationMinutesOffsetFromStartTime"))
        time: object = point.get("time")
        if time is None and start_ms is not None and math.isfinite(minutes):
            time = start_ms + round(minutes * MS_PER_MINUTE)
        ms = _to_ms(time)
        if ms is not None and ms // MS_PER_HOUR in hours:
            yield COVERED
        else:
            lon, lat, altitude = _place(point.get("point"))
            code = 0 if ms is None else spans.code_at(ms)
            yield to_time_text(time), lon, lat, altitude, math.nan, math.nan, None, None, code, 0
    activity = as_object(segment.get("activity"))
    if "visit" in segment:
        place = as_object(as_object(segment["visit"]).get("topCandidate")).get("placeLocation")
        yield from _estimates(PLACE, visits, [(segment.get("startTime"), place), (segment.get("endTime"), place)])
    for end in ("start", "end"):
        if activity.get(end):
            yield from _estimates(END, visits, [(segment.get(f"{end}Time"), activity[end])])


def _estimates(reason: str, visits: bool, moments: list[tuple[object, object]]) -> Found:
    """Yield estimates as fixes, each with its time, if visits are wanted; or else the reason why they are refused."""
    if not visits:
        yield reason
        return
    for time, place in moments:
        lon, lat, altitude = _place(place.get("latLng") if isinstance(place, dict) else place)
        yield to_time_text(time), lon, lat, altitude, math.nan, math.nan, None, None


def _timeline_object(element: dict[str, Any], visits: bool) -> Found:
    """Yield what an element of a monthly file holds."""
    activity, visit = as_object(element.get("activitySegment")), as_object(element.get("placeVisit"))
    yield from _simplified(activity, to_activity(activity.get("activityType")))
    for end in ("start", "end"):
        place = as_object(activity.get(f"{end}Location"))
        if "latitudeE7" in place:
            yield from _estimates(END, visits, [(_time_of(activity, end), _as_text(place))])
    for _ in as_list(as_object(activity.get("waypointPath")).get("waypoints")):
        yield WAY
    yield from _visit(visit, visits)


def _visit(visit: dict[str, Any], visits: bool) -> Found:
    yield from _simplified(visit, 0)
    place = as_object(visit.get("location"))
    if "latitudeE7" in place:
        yield from _estimates(PLACE, visits, [(_time_of(visit, end), _as_text(place)) for end in ("start", "end")])
    for child in as_list(visit.get("childVisits")):
        yield from _visit(as_object(child), visits)


def _time_of(element: dict[str, Any], end: str) -> object:
    """Return when a visit or an activity of a monthly file starts or ends."""
    duration = as_object(element.get("duration"))
    time = duration.get(f"{end}Timestamp")
    return duration.get(f"{end}TimestampMs") if time is None else time


def _as_text(place: dict[str, Any]) -> str:
    return f"{_degrees(place.get('latitudeE7')):.7f}, {_degrees(place.get('longitudeE7')):.7f}"


def _simplified(element: dict[str, Any], activity: int) -> Found:
    for point in map(as_object, as_list(as_object(element.get("simplifiedRawPath")).get("points"))):
        lon, lat = _degrees(point.get("lngE7")), _degrees(point.get("latE7"))
        yield (
            _time(point),
            lon,
            lat,
            math.nan,
            to_number(point.get("accuracyMeters")),
            math.nan,
            None,
            None,
            activity,
            0,
        )


def _edit(edit: dict[str, Any], _visits: bool) -> Found:
    """Yield the raw signal of an element of `Timeline Edits.json`, if it has one with a position."""
    signal = as_object(as_object(edit.get("rawSignal")).get("signal"))
    if "position" not in signal:
        return
    position = as_object(signal["position"])
    point = as_object(position.get("point"))
    yield (
        _time(position),
        _degrees(point.get("lngE7")),
        _degrees(point.get("latE7")),
        to_number(position.get("altitudeMeters")),
        to_number(position.get("accuracyMm")) / MM_PER_M,
        to_number(position.get("speedMetersPerSecond")),
        None,
        to_name(edit.get("deviceId")),
    )


_SECTIONS: Final[dict[str, Callable[[dict[str, Any], bool], Found]]] = {
    "locations": _record,
    "timelineObjects": _timeline_object,
    "semanticSegments": lambda segment, visits: _segment(segment, frozenset(), _Spans([], [], []), visits),
    "rawSignals": _signal,
    "timelineEdits": _edit,
}


def _time(element: dict[str, Any]) -> str | None:
    time = element.get("timestamp")
    return to_time_text(element.get("timestampMs") if time is None else time)


def _degrees(e7: object) -> float:
    number = to_number(e7)
    return (number - WRAP_E7 if number > MOST_E7 else number) / PER_DEGREE


def _place(text: object) -> tuple[float, float, float]:
    """Return lon, lat and altitude, NaN where they are missing."""
    match = _PLACE.match(text) if isinstance(text, str) else None
    if match is None:
        return math.nan, math.nan, math.nan
    lat, lon, altitude = match.groups()
    return float(lon), float(lat), math.nan if altitude is None else float(altitude)


def _to_ms(time: object) -> int | None:
    """Return a time of which another one follows; None if it is unreadable."""
    if isinstance(time, int):
        return time
    try:
        when = datetime.fromisoformat(time) if isinstance(time, str) else None
    except ValueError:
        return None
    if when is None:
        return None
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
