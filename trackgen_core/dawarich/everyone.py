"""The same thing done for many users of Dawarich: what fails with one of them stops nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.source import Dawarich, open_dawarich

Result = TypeVar("Result")


def for_each(
    users: Iterable[Mirrored],
    do: Callable[[Dawarich, Mirrored], Result],
    *,
    to: Literal["read", "write"],
    url: str | None = None,
) -> tuple[list[Result], list[str]]:
    """Do something with Dawarich's database for each user, over a connection of its own.

    Parameters
    ----------
    users : iterable of Mirrored
        Whom it is done for.
    do : callable
        Called with the open database and the user.
    to : {'read', 'write'}
        As for `open_dawarich`.
    url : str, optional
        Of Dawarich's database; by default `dawarich_url()`.

    Returns
    -------
    results : list
        What `do` returned for those with whom nothing failed.
    errors : list of str
        For each of the others, the name and the reason.

    Raises
    ------
    DatabaseError
        If the database cannot be opened: then it can be for nobody.
    """
    results, errors = [], []
    for user in users:
        is_open = False
        try:
            with open_dawarich(url, to=to) as dawarich:
                is_open = True
                results.append(do(dawarich, user))
        except Exception as error:
            if not is_open:
                raise
            errors.append(reason(user.name, error))
    return results, errors


def reason(name: str, error: Exception) -> str:
    """Return in one line what failed for whom."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if name in text else f"{name}: {text}"
