"""Settings of a user: the numbers that decide where one track ends and the next begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

DistanceRule = Literal["off", "strict", "implausible"]


class SettingsError(ValueError):
    """A setting that does not exist or has a value outside its range."""


class Settings(BaseModel):
    """The break rule's settings. Every field has a default; a user stores only what differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes_between_routes: int = Field(
        default=30,
        ge=1,
        le=1440,
        description="A pause longer than this many minutes ends a track. At most a day, so that a seam only ever "
        "joins neighbouring days.",
    )
    meters_between_routes: int = Field(
        default=500,
        ge=1,
        le=40_000_000,
        description="A hop longer than this many metres may end a track: see `distance_rule`.",
    )
    distance_rule: DistanceRule = Field(
        default="implausible",
        description="off: distance never ends a track. strict: every hop longer than `meters_between_routes` does. "
        "implausible: only a hop that would also need more than `max_speed_kmh`.",
    )
    max_speed_kmh: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="The speed beyond which the rule `implausible` does not believe a hop.",
    )

    @cached_property
    def settings_id(self) -> str:
        """A short digest of the settings, stored with every result they produced."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults."""
        return self.model_dump(exclude_defaults=True)


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Build settings from `values`, defaults for the rest.

    Raises
    ------
    SettingsError
        One line a fault: which setting, what was given, what is allowed.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(fault) for fault in error.errors())) from None


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Split `KEY=VALUE` texts.

    Raises
    ------
    SettingsError
        If a text is not of that form.
    """
    values = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{text!r} is not of the form KEY=VALUE")
        values[key.strip()] = value.strip()
    return values


def _explain(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"there is no setting {name!r}; there are: {', '.join(Settings.model_fields)}"
    return f"{name}={json.dumps(fault['input'])}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
