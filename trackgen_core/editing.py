"""Edits as people make them: of tracks, by their ids, and of times."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from trackgen_core.breaks import LONGEST_LINK_MS
from trackgen_core.legs import MODES
from trackgen_core.points import iso_time
from trackgen_core.store import Store


class EditError(ValueError):
    """Something that cannot be edited so: what there is, and what to do."""


def split(store: Store, track_id: str, at_ms: int) -> int:
    """Let a track end at a time, and another one begin there.

    Parameters
    ----------
    store : Store
        The store.
    track_id : str
        The track, or the first characters of its id.
    at_ms : int
        When.

    Returns
    -------
    int
        The number of the edit.

    Raises
    ------
    EditError
        If there is no such track, or nothing of it on one side of that time.
    """
    with store.write() as connection:
        track = find_track(store, connection, track_id)
        times = store.fix_times(connection, track.device_id, track.started_ms, track.ended_ms)
        before, after = times[times <= at_ms], times[times > at_ms]
        if not len(before) or not len(after):
            raise EditError(f"{iso_time(at_ms)} is not inside the track {_told(track)}")
        return store.add_edit(connection, track.device_id, "split", int(before[-1]), int(after[0]))


def merge(store: Store, track_id: str, other_id: str) -> int:
    """Make one track of two, with all that is between them.

    Parameters
    ----------
    store : Store
        The store.
    track_id, other_id : str
        Tracks of one device, in any order; the first characters of their ids will do.

    Returns
    -------
    int
        The number of the edit.

    Raises
    ------
    EditError
        If there are no such tracks, or they cannot be joined.
    """
    with store.write() as connection:
        tracks = [find_track(store, connection, one) for one in (track_id, other_id)]
        one, other = sorted(tracks, key=lambda track: (track.started_ms, track.ended_ms))
        if one.device_id != other.device_id or one.track_id == other.track_id:
            raise EditError("two tracks of one device can be joined, and no others")
        before_ms, after_ms = one.ended_ms, other.started_ms
        if other.break_reason == "split" and after_ms <= before_ms:
            raise EditError("these tracks were split by hand: `trackgen edits undo` makes them one again")
        times = store.fix_times(connection, one.device_id, before_ms, other.ended_ms)
        if after_ms <= before_ms:  # split at midnight: the second begins with the last fix of the first
            after_ms = int(times[times > before_ms][0])
        longest_ms = max((times[1:] - times[:-1])[times[:-1] < after_ms], default=0)
        if longest_ms > LONGEST_LINK_MS:
            raise EditError(
                f"nothing was recorded for {longest_ms / 3.6e6:,.1f} h between {_told(one)} and {_told(other)}: "
                "tracks can be joined over 24 h at most"
            )
        return store.add_edit(connection, one.device_id, "merge", before_ms, after_ms)


def set_mode(store: Store, track_id: str, mode: str, at_ms: int | None = None) -> int:
    """Say how somebody moved on a track.

    Parameters
    ----------
    store : Store
        The store.
    track_id : str
        The track, or the first characters of its id.
    mode : str
        One of `legs.MODES`.
    at_ms : int, optional
        Only on the leg at this time.

    Returns
    -------
    int
        The number of the edit.

    Raises
    ------
    EditError
        If there is no such mode, track or leg.
    """
    if mode not in MODES:
        raise EditError(f"there is no mode {mode!r}; there are: {', '.join(MODES)}")
    with store.write() as connection:
        track = find_track(store, connection, track_id)
        before_ms, after_ms = track.started_ms, track.ended_ms
        if at_ms is not None:
            legs = store.legs(connection, [track.track_id])
            legs = legs[(legs["started_ms"] <= at_ms) & (legs["ended_ms"] >= at_ms)]
            if legs.empty:
                raise EditError(f"{iso_time(at_ms)} is not inside the track {_told(track)}")
            before_ms, after_ms = (int(legs[name].iloc[-1]) for name in ("started_ms", "ended_ms"))
        return store.add_edit(connection, track.device_id, "mode", before_ms, after_ms, mode)


def undo(store: Store, edit_id: int) -> None:
    """Forget an edit.

    Raises
    ------
    EditError
        If there is no such edit.
    """
    with store.write() as connection:
        if not store.remove_edit(connection, edit_id):
            raise EditError(f"there is no edit {edit_id}: `trackgen edits list` shows those there are")


def find_track(store: Store, connection: Connection, track_id: str) -> Any:  # noqa: ANN401 - a row, from itertuples
    """Return the track whose id begins so, as a row with the columns of `TRACK_DTYPES` without `path`.

    Raises
    ------
    EditError
        If there is none, or more than one.
    """
    found = store.find_tracks(connection, track_id)
    if len(found) != 1:
        there = f"{len(found):,} tracks begin" if len(found) else "no track begins"
        raise EditError(f"{there} with {track_id!r}: `trackgen tracks list` shows their ids")
    (track,) = found.itertuples()
    return track


def _told(track: Any) -> str:  # noqa: ANN401 - a row, from itertuples
    return f"{track.track_id[:8]} ({iso_time(track.started_ms)} to {iso_time(track.ended_ms)})"
