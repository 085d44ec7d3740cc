"""Trackgen's library: from raw GPS fixes to tracks.

`tracks` and `stays` take a frame of points and return a frame, without a database:

>>> import trackgen_core as tg
>>> tg.tracks(points, settings={"stay_minutes": 5})  # doctest: +SKIP

Read the modules in the order in which data flows: `points`, `readers`, `settings`, `geodesy`, `segmentation`,
`seams`, `merging`, `paths`; then where it is kept: `schema`, `database`, `store`; and what is done with it:
`importing`, `generation`, `export`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackgen_core.library import stays, tracks
    from trackgen_core.settings import Settings

__all__ = ["Settings", "stays", "tracks"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what is asked for, and not before: pandas takes longer to load than most programs run."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("trackgen_core.settings" if name == "Settings" else "trackgen_core.library"), name)
