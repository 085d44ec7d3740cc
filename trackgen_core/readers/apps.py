"""JSON of several apps: Arc, Samsung Health, Polar, Runtastic, Suunto; and objects named as the columns of a CSV file.

Each app says where its fixes are. Files are read an element of the outermost array at a time.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

import pandas as pd

from trackgen_core.readers.columns import (
    NEEDED,
    SPEED_UNITS,
    Fix,
    find_columns,
    to_activity,
    to_decimal,
    to_name,
    to_time_text,
    units_per_ours,
)
from trackgen_core.readers.sources import NoFixes, Source, UnreadableFile
from trackgen_core.readers.speeds import SpeedCheck
from trackgen_core.readers.tables import UTC_ASSUMED
from trackgen_core.readers.values import Values, as_list, as_object, frames, opening

NESTED: Final = ("coords", "location", "position")
"""Members that may hold the place of an object, rather than the object itself."""


MAX_EXERCISE_MS: Final = 1e10
"""A longer exercise (of 115 days) is none."""


class App(NamedTuple):
    """An app: how its files are told by the text that they begin with, and how they are read."""

    recognises: Callable[[str], bool]
    fixes: Callable[[Source, Values], Iterator[Fix]]

    def read(self, source: Source) -> Iterator[pd.DataFrame]:
        """Read the fixes, in batches."""
        found = False
        for frame in frames(source, partial(self.fixes, source)):
            found = True
            yield frame
        if not found:
            raise NoFixes(source.path, "no fixes: nothing in it has a position")


def _is_arc(text: str) -> bool:
    depth, first = opening(text)
    if depth == 0:
        samples = "samples" in first and bool(first.keys() & {"itemId", "exportMode"})
        return "timelineItems" in first or samples
    states = {"timelineItemId", "movingState", "recordingState", "itemId"}
    return depth == 1 and bool(first.keys() & states) and bool(first.keys() & {"samples", "latitude", "location"})


def _arc(_source: Source, values: Values) -> Iterator[Fix]:
    if values.peek() == "[":
        for element in map(as_object, values.elements()):
            yield from _arc_samples(element.get("samples", [element]))
        return
    for key in values.members():
        if values.peek() != "[" or key not in ("samples", "timelineItems"):
            values.next()
            continue
        for element in map(as_object, values.elements()):
            yield from _arc_samples(element.get("samples") if key == "timelineItems" else [element])


def _arc_samples(samples: object) -> Iterator[Fix]:
    for sample in map(as_object, as_list(samples)):
        place = as_object(sample["location"]) if "location" in sample else sample
        if "latitude" in place:
            time = place.get("timestamp")
            yield _fix(
                sample.get("date") if time is None else time,
                place,
                accuracy=place.get("horizontalAccuracy"),
                speed=place.get("speed"),
            )


def _is_samsung(text: str) -> bool:
    depth, first = opening(text)
    return depth == 1 and first.keys() >= {"start_time", "latitude", "longitude"}


def _samsung(_source: Source, values: Values) -> Iterator[Fix]:
    for point in map(as_object, values.elements()):
        yield _fix(point.get("start_time"), point, accuracy=point.get("accuracy"), speed=point.get("speed"))


def _is_runtastic(text: str) -> bool:
    depth, first = opening(text)
    return (
        depth == 1
        and first.keys() >= {"timestamp", "latitude", "longitude"}
        and bool(first.keys() & {"accuracy_h", "accuracy_v", "elevation_gain"})
    )


def _runtastic(_source: Source, values: Values) -> Iterator[Fix]:
    for point in map(as_object, values.elements()):
        speed = to_decimal(point.get("speed")) / SPEED_UNITS["kmh"]
        accuracy = to_decimal(point.get("accuracy_h")) or math.nan  # 0 where the phone did not say
        yield _fix(point.get("timestamp"), point, accuracy=accuracy, speed=speed)


def _is_polar(text: str) -> bool:
    depth, first = opening(text)
    return depth == 0 and "exercises" in first and ("exportVersion" in first or '"samples"' in text)


def _polar(source: Source, values: Values) -> Iterator[Fix]:
    offset: object = None
    for key in values.members():
        if key == "exercises" and values.peek() == "[":
            for exercise in map(as_object, values.elements()):
                yield from _polar_route(source, exercise, offset)
        else:
            value = values.next()
            offset = value if key == "timezoneOffset" else offset


def _polar_route(source: Source, exercise: dict[str, Any], offset: object) -> Iterator[Fix]:
    route = as_list(as_object(exercise.get("samples")).get("recordedRoute")) or _polar_waypoints(exercise)
    minutes = to_decimal(exercise.get("timezoneOffset", offset))
    shift = timedelta(minutes=minutes) if math.isfinite(minutes) and abs(minutes) < 1440 else None
    first = _moment(as_object(route[0]).get("dateTime")) if route else None
    start = _moment(exercise.get("startTime"))
    if shift is None and first is not None:
        source.note(UTC_ASSUMED)
    # Start and route are in local time; if they are not in the same, the route is in UTC.
    if shift and first and start and abs(first - start) > abs(first - (start - shift)):
        shift = None
    for point in map(as_object, route):
        time = point.get("dateTime")
        if shift and (local := _moment(time)):
            time = (local - shift).isoformat()
        yield _fix(time, point)


def _polar_waypoints(exercise: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the points of an exercise as newer exports have them, with the time since the start of the route."""
    route = as_object(as_object(exercise.get("routes")).get("route"))
    start = _moment(route.get("startTime"))
    points = []
    for point in map(as_object, as_list(route.get("wayPoints"))):
        elapsed = to_decimal(point.get("elapsedMillis"))
        known = start is not None and 0 <= elapsed < MAX_EXERCISE_MS
        time = (start + timedelta(milliseconds=elapsed)).isoformat() if start and known else None
        points.append({**point, "dateTime": time})
    return points


def _is_suunto(text: str) -> bool:
    depth, first = opening(text)
    return depth == 0 and ("DeviceLog" in first or ("Samples" in first and "suunto/sml" in text))


def _suunto(_source: Source, values: Values) -> Iterator[Fix]:
    for key in values.members():
        if key == "DeviceLog" and values.peek() == "{":
            yield from _suunto(_source, values)
        elif key == "Samples" and values.peek() == "[":
            for element in map(as_object, values.elements()):
                yield from _suunto_sample(element)
        else:
            values.next()


def _suunto_sample(element: dict[str, Any]) -> Iterator[Fix]:
    """Yield the fix of a sample, whose angles are in radians."""
    attributes = element.get("Attributes")
    if isinstance(attributes, str):
        try:
            attributes = json.loads(attributes)
        except (ValueError, RecursionError):
            attributes = None
    nested = as_object(as_object(attributes).get("suunto/sml")).get("Sample")
    sample = element if nested is None else as_object(nested)
    if "Latitude" in sample:
        time = sample.get("UTC")
        lon, lat = (math.degrees(to_decimal(sample.get(name))) for name in ("Longitude", "Latitude"))
        place = {"longitude": lon, "latitude": lat, "altitude": sample.get("GPSAltitude")}
        time = element.get("TimeISO8601") if time is None else time
        yield _fix(time, place, accuracy=sample.get("EHPE"), speed=sample.get("Speed"))


def _is_plain(text: str) -> bool:
    """Tell whether a text begins with objects that have a time and a place, in an array or one a line."""
    values = Values("", io.StringIO(text))
    try:
        return _find_plain(values)
    except UnreadableFile:
        return False


def _find_plain(values: Values) -> bool:
    if values.peek() == "[":
        values.take("[")
    elif values.peek() == "{":
        first: dict[str, Any] = {}
        for key in values.members():
            if values.peek() == "[":
                values.take("[")
                return values.peek() == "{" and _is_fix(values.next())
            first[key] = values.next()
        return _is_fix(first)
    return values.peek() == "{" and _is_fix(values.next())


def _is_fix(element: object) -> bool:
    return find_columns(tuple(_flat(as_object(element)))).keys() >= set(NEEDED)


def _plain(_source: Source, values: Values) -> Iterator[Fix]:
    if values.peek() == "[":
        yield from map(_plain_fix, values.elements())
        return
    first: dict[str, Any] = {}
    for key in values.members():
        if values.peek() == "[":
            yield from map(_plain_fix, values.elements())
        else:
            first[key] = values.next()
    if _is_fix(first):
        yield _plain_fix(first)
        yield from map(_plain_fix, values.records())


def _plain_fix(element: object) -> Fix:
    flat = _flat(as_object(element))
    names, values = tuple(flat), list(flat.values())
    named = {quantity: (names[place], values[place]) for quantity, place in find_columns(names).items()}

    def number(quantity: str) -> float:
        name, value = named.get(quantity, ("", None))
        return to_decimal(value) / (units_per_ours(quantity, name) or 1.0)

    numbers = [number(quantity) for quantity in ("lon", "lat", "altitude", "accuracy", "speed")]
    time, user, device = (named.get(quantity, ("", None))[1] for quantity in ("time", "user", "device"))
    lon, lat, altitude, accuracy, speed = numbers
    activity = to_activity(named.get("activity", ("", None))[1])
    return to_time_text(time), lon, lat, altitude, accuracy, speed, to_name(user), to_name(device), activity, 0


def _flat(element: dict[str, Any]) -> dict[str, Any]:
    """Return the members of an object, and those of the one in it that holds its place."""
    for name in NESTED:
        if isinstance(nested := element.get(name), dict):
            return {**element, **nested}
    return element


def _fix(time: object, place: dict[str, Any], *, accuracy: object = None, speed: object = None) -> Fix:
    return (
        to_time_text(time),
        to_decimal(place.get("longitude")),
        to_decimal(place.get("latitude")),
        to_decimal(place.get("altitude")),
        to_decimal(accuracy),
        to_decimal(speed),
        None,
        None,
    )


def _moment(time: object) -> datetime | None:
    """Return a time without a zone; None for one with a zone, and for anything else."""
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo is None else None


class _Plain(App):
    """Objects that do not say the unit of their speed."""

    def read(self, source: Source) -> Iterator[pd.DataFrame]:
        """Read the fixes, in batches."""
        return map(SpeedCheck(source).checked, super().read(source))


APPS: Final = {
    "arc": App(_is_arc, _arc),
    "samsung-health": App(_is_samsung, _samsung),
    "runtastic": App(_is_runtastic, _runtastic),
    "polar": App(_is_polar, _polar),
    "suunto": App(_is_suunto, _suunto),
    "json": _Plain(_is_plain, _plain),
}
"""By the names of their formats; the last takes what no other does."""
