"""Settings of a user: the numbers that decide what is noise, what is a stay, and where tracks begin and end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

DistanceRule = Literal["off", "strict", "implausible"]
Mode = Literal["walk", "run", "cycle", "drive", "train", "boat", "fly"]
GapRule = Literal["fixed", "adaptive"]

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "dawarich": {
        "distance_rule": "off",
        "gap_rule": "fixed",
        "noise_filter": False,
        "stay_minutes": 0,
        "climb_threshold_m": 0,
        "length_smoothing": "off",
    },
    "strict": {"distance_rule": "strict", "length_smoothing": "off"},
}
"""What `preset=NAME` stands for: these values, and the defaults for all other settings."""


OLD_NAMES: Final = {"stop_minutes": "stay_minutes", "stop_radius_m": "stay_radius_m"}
"""Names of settings in earlier releases, which are still understood."""


class SettingsError(ValueError):
    """A setting that does not exist or has a value outside its range."""


def _null(value: object) -> object:
    return None if isinstance(value, str) and value.lower() in ("null", "none", "") else value


def _names(value: object) -> object:
    if isinstance(value, str):
        return tuple(sorted({name.strip() for name in value.split(",")} - {""}))
    return tuple(sorted(set(value))) if isinstance(value, list | tuple) else value


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError("not a time zone of the IANA database, such as Europe/Berlin") from None
    return name


class Settings(BaseModel):
    """The settings of `docs/rules.md`. Every field has a default; a user stores only what differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes_between_routes: int = Field(
        default=30,
        ge=1,
        le=1440,
        description="A pause longer than this many minutes ends a track. At most a day, so that a seam only ever "
        "joins neighbouring days.",
    )
    gap_rule: GapRule = Field(
        default="adaptive",
        description="fixed: every gap longer than `minutes_between_routes` ends a track. adaptive: not one that is "
        "usual for a device that reports rarely (up to two and a half times its interval, and 3 hours), and not a "
        "flight of 100 km or more.",
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

    noise_filter: bool = Field(
        default=True,
        description="Set aside fixes that are no measurement: coarse ones near better ones, spikes, replayed and "
        "duplicate ones.",
    )
    gps_accuracy_threshold: Annotated[int | None, BeforeValidator(_null)] = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="A fix whose accuracy is worse than so many metres is coarse; null: none is.",
    )
    stay_minutes: int = Field(
        default=10,
        ge=0,
        le=30,
        description="A time of at least so many minutes at one place is a stay; 0: there are no stays. Longer than "
        "half an hour would need more context than the six hours that are read around a day.",
    )
    stay_radius_m: int = Field(default=75, ge=1, le=1000, description="How far from its middle a stay may reach, in m.")
    silent_stay_m: int = Field(
        default=500,
        ge=0,
        le=10_000,
        description="A device that is silent for half an hour to a day, and then found at most so many metres away, "
        "has stayed there; 0: there are no such stays.",
    )
    climb_threshold_m: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="Rises and falls smaller than so many metres are noise and no climb; 0: every centimetre counts.",
    )
    length_smoothing: Literal["on", "off"] = Field(
        default="on",
        description="on: jitter is no way, so it adds no length. off: the length is the plain sum of all links.",
    )
    unused_modes: Annotated[tuple[Mode, ...], BeforeValidator(_names)] = Field(
        default=(),
        description="Modes of transport that the user does not use, as `train,boat`: the next likeliest one is told "
        "instead.",
    )
    split_at_midnight: bool = Field(default=False, description="End tracks at midnight in the user's `timezone`.")
    timezone: Annotated[str, AfterValidator(_known_timezone)] = Field(
        default="UTC", description="The zone whose midnight ends a day in summaries, as `Europe/Berlin`."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_new_names(cls, values: Any) -> Any:  # noqa: ANN401 - whatever is to be validated
        if not isinstance(values, dict):
            return values
        return {OLD_NAMES.get(name, name): value for name, value in values.items()}

    @property
    def climb_threshold_cm(self) -> int:
        """The least rise or fall that is no noise, at least 1 cm."""
        return max(100 * self.climb_threshold_m, 1)

    @cached_property
    def settings_id(self) -> str:
        """A short digest of the settings, stored with every result they produced."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults."""
        return self.model_dump(exclude_defaults=True)


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Build settings from `values`, defaults for the rest; `preset` stands for the values of `PRESETS`.

    Raises
    ------
    SettingsError
        One line a fault: which setting, what was given, what is allowed.
    """
    rest = {name: value for name, value in values.items() if name != "preset"}
    preset = values.get("preset", "default")
    if preset not in PRESETS:
        raise SettingsError(f"preset={json.dumps(preset)}: there are {', '.join(PRESETS)}")
    try:
        return Settings.model_validate(PRESETS[preset] | rest)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(fault) for fault in error.errors())) from None


def change_settings(old: Settings | None, values: Mapping[str, Any]) -> Settings:
    """Return settings with some values changed; with a `preset`, the others become what it says.

    Raises
    ------
    SettingsError
        As by `make_settings`.
    """
    kept = old.changed() if old and "preset" not in values else {}
    return make_settings(kept | dict(values))


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
    return f"{name}={json.dumps(fault['input'])}: {_allowed(fault)}"


def _allowed(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    """Return what a setting may be, in our words."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in ("greater_than_equal", "less_than_equal"):
        relation, limit = ("least", context["ge"]) if "ge" in context else ("most", context["le"])
        return f"it must be at {relation} {limit:,}"
    if kind.startswith(("int_", "float_")):
        return "it must be a whole number" if kind.startswith("int_") else "it must be a number"
    if kind.startswith("bool_"):
        return "it must be true or false"
    if kind == "literal_error":
        return f"it must be {context['expected']}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
