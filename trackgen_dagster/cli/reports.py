"""One track, and a month of them, as a terminal shows them in 80 columns; and how a shell completes commands."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Final

import click

from trackgen_core.words import counted
from trackgen_dagster.cli.options import command, json_option
from trackgen_dagster.cli.results import tracks
from trackgen_dagster.cli.views import Clock, nothing, utc_option

WIDTH: Final = 80
LABEL: Final = 9
"""Characters for the numbers beside a profile."""
PROFILE_ROWS: Final = 4
OUTLINE_ROWS: Final = 14
SHELLS: Final = ("bash", "fish", "zsh")


class Month(click.ParamType[tuple[int, int]]):
    """A month as YYYY-MM, as the numbers of its first and last day since 1970-01-01."""

    name = "month"

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, int]:
        """Parse the month."""
        if isinstance(value, tuple):
            return value
        try:
            first = date.fromisoformat(f"{value}-01")
        except ValueError:
            self.fail(f"{value!r} is no month: write it as YYYY-MM", param, ctx)
        from trackgen_core.report import month_of

        return month_of(first)


@tracks.command("show")
@click.argument("track", metavar="TRACK")
@utc_option
@json_option
def tracks_show(track: str, utc: bool, as_json: bool) -> None:
    """Show a track: figures, legs, why it begins and ends, speed and elevation, and its outline.

    TRACK is its id, or the first characters of it.
    """
    from trackgen_core.editing import find_track
    from trackgen_core.export import LEGS, TRACKS, objects
    from trackgen_core.home import open_store
    from trackgen_core.timeline import FIRST_FIX, why

    store = open_store()
    with store.read() as connection:
        row = find_track(store, connection, track)
        owner = store.devices(connection).loc[row.device_id]
        settings = store.settings_of(connection, [int(owner["user_id"])])[int(owner["user_id"])]
        began, ended = why(store, connection, row, settings)
        legs = store.legs(connection, [row.track_id]).assign(user=owner["user"], device=owner["device"])
        found = store.find_tracks(connection, row.track_id).assign(user=owner["user"], device=owner["device"])
    (figures,) = objects(found, TRACKS)
    figures |= {"began": began, "ended": ended, "legs": list(objects(legs, LEGS))}
    if began == FIRST_FIX:
        figures["break_reason"] = "start"
    if as_json:
        click.echo(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    for line in _described(figures, Clock(store, utc)):
        click.echo(line)
    for line in _drawn(store.points_of(row)):
        click.echo(line)


def _described(track: dict[str, Any], clock: Clock) -> list[str]:
    """Return a track in words and figures."""

    def when(text: str) -> str:
        return f"{clock.at(track['user'], text):%Y-%m-%d %H:%M:%S %Z}"

    lines = [
        f"Track {track['track_id']}",
        f"  of       {track['user']} {track['device']}".rstrip(),
        f"  begins   {when(track['started_at'])}: {track['began']}",
        f"  ends     {when(track['ended_at'])}: {track['ended']}",
        f"  way      {track['distance_m'] / 1000:,.2f} km in {_clock(track['duration_s'])}, "
        f"{counted(track['points'], 'point')}",
        f"  speed    {track['avg_speed_kmh']:,.1f} km/h; moving {_clock(track['moving_s'])} "
        f"at {track['moving_speed_kmh']:,.1f} km/h",
    ]
    if track["elevation_gain_m"] is not None:
        lines.append(
            f"  climb    {track['elevation_gain_m']:,.0f} m up, {track['elevation_loss_m']:,.0f} m down, "
            f"from {track['elevation_min_m']:,.0f} to {track['elevation_max_m']:,.0f} m"
        )
    for number, leg in enumerate(track["legs"]):
        sure = f"{leg['confidence']}% sure" if leg["source"] == "rule" else f"by {leg['source']}"
        lines.append(
            f"  {'' if number else 'legs':<9}{clock.at(track['user'], leg['started_at']):%H:%M:%S} {leg['mode']:<11}"
            f"{leg['distance_m'] / 1000:>9,.2f} km {_clock(leg['duration_s']):>9}  {sure}"
        )
    return lines


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _drawn(points: Any) -> list[str]:  # noqa: ANN401 - a DataFrame
    """Return the speed and the elevation of a track over its time, and its outline."""
    import numpy as np

    from trackgen_core.geodesy import pair_lengths_mm
    from trackgen_core.terminal import outline

    if len(points) < 2:
        return []
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    time_s, altitude = points["time_ms"].to_numpy() / 1000, points["altitude"].to_numpy()
    lines = []
    if time_s[-1] > time_s[0]:
        edges = np.linspace(time_s[0], time_s[-1], WIDTH - LABEL + 1)
        way_m = np.append(0, np.cumsum(pair_lengths_mm(lon[:-1], lat[:-1], lon[1:], lat[1:]))) / 1000
        lines += _profile("speed", "km/h", np.diff(np.interp(edges, time_s, way_m)) / np.diff(edges) * 3.6)
        known = ~np.isnan(altitude)
        if known.any():
            middles = (edges[1:] + edges[:-1]) / 2
            lines += _profile("elevation", "m", np.interp(middles, time_s[known], altitude[known]))
    return [*lines, "", *outline(lon, lat, WIDTH, OUTLINE_ROWS)]


def _profile(what: str, unit: str, values: Any) -> list[str]:  # noqa: ANN401 - an array
    from trackgen_core.terminal import profile

    bars = profile(values, PROFILE_ROWS)
    labels = [f"{values.max():,.0f}", *[""] * (PROFILE_ROWS - 2), f"{values.min():,.0f}"]
    return [
        "",
        f"{what}, {unit}",
        *(f"{label:>{LABEL - 1}} {bar}".rstrip() for label, bar in zip(labels, bars, strict=True)),
    ]


@command()
@click.option("--user", "-u", required=True, metavar="U")
@click.option("--month", type=Month(), metavar="MONTH", help="As 2025-06; by default the latest with a track.")
@click.option("--year", type=click.IntRange(1970, 9999), metavar="YEAR", help="A year, month by month.")
@utc_option
@json_option
def report(user: str, month: tuple[int, int] | None, year: int | None, utc: bool, as_json: bool) -> None:
    """Sum up a month or a year: kilometres by day and mode, and the longest, fastest and highest track.

    A track counts on the day on which it starts, in the time zone of the user.
    """
    from trackgen_core.home import open_store
    from trackgen_core.points import day_number
    from trackgen_core.report import latest_month
    from trackgen_core.report import report as report_of

    if month and year:
        raise click.UsageError("--month and --year do not go together")
    store = open_store()
    if year:
        span: tuple[int, int] | None = (day_number(date(year, 1, 1)), day_number(date(year, 12, 31)))
    else:
        span = month or latest_month(store, user)
    if span is None:
        click.echo(json.dumps(None) if as_json else nothing(store, f"tracks of {user}"))
        return
    found = report_of(store, user, *span)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in _report_lines(found, Clock(store, utc), by_month=year is not None):
        click.echo(line)


def _by_month(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sums of months, in the place of those of their days."""
    months: dict[str, dict[str, Any]] = {}
    for day in days:
        month = months.setdefault(
            day["day"][:7], {"day": day["day"][:7], "modes": {}, "distance_m": 0, "duration_s": 0}
        )
        for name in ("distance_m", "duration_s"):
            month[name] += day[name]
        for mode, sums in day["modes"].items():
            of_mode = month["modes"].setdefault(mode, {"distance_m": 0, "duration_s": 0})
            for name in of_mode:
                of_mode[name] += sums[name]
    return list(months.values())


def _report_lines(found: dict[str, Any], clock: Clock, *, by_month: bool) -> list[str]:
    totals = found["totals"]
    lines = [f"{found['user']}, {found['start']} to {found['end']} ({found['timezone']})"]
    if not found["days"]:
        return [*lines, "no tracks"]
    # Who stands still makes no way worth a column; the time counts all the same.
    modes = [mode for mode in found["modes"] if mode != "stationary"]
    lines += ["", f"{'km':<6}" + "".join(f"{mode:>8}" for mode in modes) + f"{'all':>9}{'hours':>8}"]
    sums = {"distance_m": totals["distance_m"], "duration_s": totals["duration_s"], "modes": found["modes"]}
    rows = _by_month(found["days"]) if by_month else found["days"]
    for day in [*rows, {"day": "", **sums}]:
        ways = (day["modes"].get(mode, {}).get("distance_m") for mode in modes)
        lines.append(
            f"{day['day'][5:] or 'all':<6}"
            + "".join("       -" if way is None else f"{way / 1000:>8.1f}" for way in ways)
            + f"{day['distance_m'] / 1000:>9.1f}{day['duration_s'] / 3600:>8.2f}"
        )
    hours = "".join(f"{found['modes'][mode]['duration_s'] / 3600:>8.2f}" for mode in modes)
    lines.append(f"{'hours':<6}{hours}{'':>9}{totals['duration_s'] / 3600:>8.2f}")
    lines += [
        "",
        f"{counted(totals['tracks'], 'track')} on {counted(totals['days'], 'day')}, "
        f"{totals['distance_m'] / 1000:,.1f} km, {totals['moving_s'] / 3600:,.1f} h moving, "
        f"{totals['elevation_gain_m']:,.0f} m up",
    ]
    for what in ("longest", "fastest", "highest"):
        if (track := found[what]) is not None:
            amount = {
                "longest": f"{track['distance_m'] / 1000:,.1f} km",
                "fastest": f"{track['moving_speed_kmh']:,.1f} km/h",
                "highest": f"{track['elevation_max_m'] or 0:,.0f} m",
            }[what]
            started = clock.at(track["user"], track["started_at"])
            lines.append(
                f"{what:<9}{amount:>14}  {track['mode']:<11}{started:%Y-%m-%d %H:%M %Z}  {track['track_id'][:8]}"
            )
    return lines


@command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and options.

    bash: eval "$(trackgen completion bash)" in ~/.bashrc; zsh: likewise in ~/.zshrc; fish: trackgen completion fish >
    ~/.config/fish/completions/trackgen.fish
    """
    from click.shell_completion import get_completion_class

    from trackgen_dagster.cli import main

    completes = get_completion_class(shell)
    assert completes is not None, shell
    click.echo(completes(main, {}, "trackgen", "_TRACKGEN_COMPLETE").source())
