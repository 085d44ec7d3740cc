"""What views have in common: times in the zone of each user, and what is said where there is nothing to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar
from zoneinfo import ZoneInfo

import click

from trackgen_core.words import counted

if TYPE_CHECKING:
    from trackgen_core.store import Store

T = TypeVar("T")

MINUTES: Final = "%Y-%m-%d %H:%M"
SECONDS: Final = "%Y-%m-%d %H:%M:%S"

utc_option = click.option("--utc", is_flag=True, help="Show times in UTC, and not in the time zone of each user.")


class Clock:
    """Times as a user reads them: in the zone of their settings, or in UTC if that is asked for."""

    def __init__(self, store: Store, utc: bool) -> None:
        self.zones: dict[str, tzinfo] = {}
        if not utc:
            with store.read() as connection:
                names = store.names_of(connection)
                settings = store.settings_of(connection, readable_only=True)
            self.zones = {names[user_id]: ZoneInfo(one.timezone) for user_id, one in settings.items()}

    @property
    def label(self) -> str:
        """What a column of times is headed with."""
        return "UTC" if all(str(zone) == "UTC" for zone in self.zones.values()) else "local"

    def zone(self, user: str) -> tzinfo:
        """Return the zone of a user."""
        return self.zones.get(user, UTC)

    def at(self, user: str, time: str | float) -> datetime:
        """Return an instant, in ISO 8601 or in milliseconds since the epoch, on the clock of a user."""
        if isinstance(time, str):
            return datetime.fromisoformat(time).astimezone(self.zone(user))
        return datetime.fromtimestamp(time / 1000, self.zone(user))

    def show(self, user: str, time: str | float, form: str = MINUTES) -> str:
        """Return an instant as text."""
        return self.at(user, time).strftime(form)

    def span(self, user: str, start: str | float, end: str | float) -> str:
        """Return a span of time as text, with the date of its end where that is another one."""
        one, other = self.at(user, start), self.at(user, end)
        same_day = one.date() == other.date()
        return f"{one.strftime(MINUTES)} to {other.strftime('%H:%M' if same_day else MINUTES)}"


def begun(items: Iterable[T]) -> Iterator[T]:
    """Return what yields the same, but has already looked for the first: what is wrong shows before a header does."""
    rest = iter(items)
    try:
        first = next(rest)
    except StopIteration:
        return iter(())
    return chain([first], rest)


def nothing(store: Store, what: str) -> str:
    """Return what to say where a list is empty: why, and what to do."""
    from trackgen_core.store import STAGES

    with store.read() as connection:
        has_points = not store.days_with_points(connection).empty
        work = {day for stage in STAGES for day in store.dirty(connection, stage)["day"].tolist()}
    if not has_points:
        return "There are no points yet: `trackgen import FILE_OR_FOLDER --user NAME`, or `trackgen demo` for a sample."
    if work:
        return f"No {what} here yet; {counted(len(work), 'day')} with work left: `trackgen generate` does it."
    return f"No {what} here."
