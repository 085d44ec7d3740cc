"""The page of the webserver that shows a map: what somebody may ask for, and the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import BinaryIO, Final

import dagster as dg
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from trackgen_core.database import DatabaseError
from trackgen_core.home import open_store
from trackgen_core.map import NothingToShow, write_map
from trackgen_core.store import UnknownUser
from trackgen_dagster.partitions import day_of
from trackgen_dagster.sessions import UnknownSession, find_session

PARAMETERS: Final = ("user", "start", "end", "session")
CHUNK_BYTES: Final = 1 << 16


class WrongRequest(ValueError):
    """The parameters are wrong."""


def answer(query: QueryParams, instance: dg.DagsterInstance, headers: dict[str, str]) -> StreamingResponse:
    """Return the page that `trackgen map` makes.

    Parameters
    ----------
    query : QueryParams
        `start`, and perhaps `end` and some `user`; or `session`.
    instance : DagsterInstance
        Which knows the session.
    headers : dict of str to str
        What every answer carries.

    Raises
    ------
    HTTPException
        400 if the parameters are wrong, 404 if there is nothing of that kind, 503 if the database cannot be used.
    """
    try:
        page = _render(*_asked_for(query, instance))
    except WrongRequest as error:
        raise HTTPException(400, str(error), headers) from error
    except (NothingToShow, UnknownUser, UnknownSession) as error:
        raise HTTPException(404, str(error), headers) from error
    except DatabaseError as error:
        raise HTTPException(503, str(error), headers) from error
    length = {"Content-Length": str(page.tell())}
    page.seek(0)
    return StreamingResponse(_chunks(page), headers=headers | length, media_type="text/html")


def _asked_for(query: QueryParams, instance: dg.DagsterInstance) -> tuple[list[str] | None, int, int]:
    """Return users (None for all), first and last day."""
    for name in query:
        if name not in PARAMETERS:
            raise WrongRequest(f"there is no parameter {name!r}: there are {', '.join(PARAMETERS)}")
        if name != "user" and len(query.getlist(name)) > 1:
            raise WrongRequest(f"{name} is there more than once")
    if "session" in query:
        if len(query) > 1:
            raise WrongRequest("session goes with no other parameter")
        return find_session(instance, query["session"]).work
    if "start" not in query:
        raise WrongRequest("say which days: start=YYYY-MM-DD, and end if there are more; or session=ID")
    lo_day = _day(query["start"])
    hi_day = _day(query["end"]) if "end" in query else lo_day
    if hi_day < lo_day:
        raise WrongRequest("end lies before start")
    return query.getlist("user") or None, lo_day, hi_day


def _day(text: str) -> int:
    try:
        return day_of(text)
    except ValueError:
        raise WrongRequest(f"{text!r} is no day: write it as YYYY-MM-DD") from None


def _render(names: list[str] | None, lo_day: int, hi_day: int) -> BinaryIO:
    store = open_store()
    with ExitStack() as opened:
        opened.callback(store.database.close)
        page = TemporaryFile()  # noqa: SIM115 - who sends it closes it
        write_map(store, page, names, lo_day, hi_day)
        return page


def _chunks(page: BinaryIO) -> Iterator[bytes]:
    with page:
        while chunk := page.read(CHUNK_BYTES):
            yield chunk
