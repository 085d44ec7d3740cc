"""What people said about their tracks: places where one ends or goes on, and how somebody moved (`docs/rules.md`, 7).

An edit is about a device and kept by two instants, so that it stays true whatever is generated again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from trackgen_core.geodesy import IntArray, Mask
from trackgen_core.legs import MODES

EDIT_KINDS: Final = ("split", "merge", "mode")

EDIT_DTYPES: Final = {
    "edit_id": "int64",
    "device_id": "int64",
    "kind": "object",
    "before_ms": "int64",
    "after_ms": "int64",
    "mode": "object",
}
"""Columns of a frame of edits, in the order in which they were made. `mode` is missing unless the kind is mode."""


class Edit(NamedTuple):
    """What is said."""

    before_ms: int
    after_ms: int
    mode: str | None


_NO_EDITS: Final = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in EDIT_DTYPES.items()})


def no_edits() -> pd.DataFrame:
    """Return a frame of no edits."""
    return _NO_EDITS.copy()


def split_hops(edits: pd.DataFrame, device: IntArray, first_ms: IntArray, last_ms: IntArray) -> Mask:
    """Say between which of some fixes or segments somebody ended a track.

    Parameters
    ----------
    edits : DataFrame
        The columns of `EDIT_DTYPES`.
    device : (n,) int array
        The devices, ascending.
    first_ms, last_ms : (n,) int arrays
        When each begins and ends, ascending in each device.

    Returns
    -------
    (n - 1,) bool array
        Element i is about what lies between i and i + 1.
    """
    split = np.zeros(max(len(device) - 1, 0), bool)
    for edit, of_device in _of_devices(edits, "split", device):
        n = of_device.start + int(np.searchsorted(last_ms[of_device], edit.before_ms, "right")) - 1
        if of_device.start <= n < of_device.stop - 1 and first_ms[n + 1] > edit.before_ms:
            split[n] = True
    return split


def merged_hops(edits: pd.DataFrame, device: IntArray, first_ms: IntArray, last_ms: IntArray) -> Mask:
    """Say between which of some fixes or segments somebody joined tracks; parameters as of `split_hops`."""
    merged = np.zeros(max(len(device) - 1, 0), bool)
    for edit, of_device in _of_devices(edits, "merge", device):
        first = of_device.start + int(np.searchsorted(first_ms[of_device], edit.before_ms, "right")) - 1
        last = of_device.start + int(np.searchsorted(last_ms[of_device], edit.after_ms))
        merged[max(first, of_device.start) : min(last, of_device.stop - 1)] = True
    return merged


def merged_fixes(edits: pd.DataFrame, device: IntArray, time_ms: IntArray) -> Mask:
    """Say which fixes are inside a journey because somebody said so, and therefore in no stay.

    Parameters
    ----------
    edits : DataFrame
        The columns of `EDIT_DTYPES`.
    device, time_ms : (n,) int arrays
        The device of each fix, ascending, and its time, ascending in each device.
    """
    merged = np.zeros(len(device), bool)
    for edit, fixes in _of_devices(edits, "merge", device):
        first = fixes.start + int(np.searchsorted(time_ms[fixes], edit.before_ms))
        last = fixes.start + int(np.searchsorted(time_ms[fixes], edit.after_ms, "right"))
        merged[first:last] = True
    return merged


def modes_by_hand(edits: pd.DataFrame, device: IntArray, time_ms: IntArray) -> IntArray:
    """Return the mode of the hop to each fix, as an index into `MODES`, or -1; parameters as of `merged_fixes`."""
    mode = np.full(len(device), -1)
    for edit, fixes in _of_devices(edits, "mode", device):
        first, last = fixes.start + np.searchsorted(time_ms[fixes], [edit.before_ms, edit.after_ms], "right")
        mode[first:last] = MODES.index(str(edit.mode))
    return mode


def _of_devices(edits: pd.DataFrame, kind: str, device: IntArray) -> Iterator[tuple[Edit, slice]]:
    """Yield each edit of a kind with the slice of its device."""
    if edits.empty:
        return
    ids = edits["device_id"].to_numpy()
    first, last = np.searchsorted(device, ids), np.searchsorted(device, ids, "right")
    for n in np.flatnonzero((edits["kind"] == kind).to_numpy() & (first < last)):
        yield Edit(*edits.iloc[n][list(Edit._fields)]), slice(int(first[n]), int(last[n]))
