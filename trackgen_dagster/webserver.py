"""Dagster's webserver with one page more: the map of some days, or of a session.

It is started as `trackgen-webserver`, which takes all that `dagster-webserver` takes, and by `trackgen ui`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Route

from trackgen_core.database import DatabaseError
from trackgen_core.home import open_store
from trackgen_core.map import NothingToShow, write_map
from trackgen_core.store import UnknownUser
from trackgen_dagster.metadata import MAP_PATH
from trackgen_dagster.partitions import day_of
from trackgen_dagster.sessions import UnknownSession, find_session

PARAMETERS: Final = ("user", "start", "end", "session")
CHUNK_BYTES: Final = 1 << 16


class Webserver(DagsterWebserver):
    """The webserver, with maps."""

    def build_static_routes(self) -> list[BaseRoute]:
        """Return what lies below the path prefix, and before the pages of the UI, which take every other path."""
        return [Route(MAP_PATH, self.map_endpoint), *super().build_static_routes()]

    def map_endpoint(self, request: Request) -> StreamingResponse:
        """Answer with the page that `trackgen map` makes; as this is no coroutine, in a thread of its own."""
        headers = self.make_security_headers()
        try:
            page = self._render(*self._asked_for(request.query_params))
        except (NothingToShow, UnknownUser, UnknownSession) as error:
            raise HTTPException(404, str(error), headers) from error
        except DatabaseError as error:
            raise HTTPException(503, str(error), headers) from error
        headers["Content-Length"] = str(page.tell())
        page.seek(0)
        return StreamingResponse(_chunks(page), headers=headers, media_type="text/html")

    def _render(self, names: list[str] | None, lo_day: int, hi_day: int) -> BinaryIO:
        store = open_store()
        with ExitStack() as opened:
            opened.callback(store.database.close)
            page = TemporaryFile()  # noqa: SIM115 - the answer closes it
            write_map(store, page, names, lo_day, hi_day)
            return page

    def _asked_for(self, said: QueryParams) -> tuple[list[str] | None, int, int]:
        """Return users (None for all), first and last day."""
        for name in said:
            if name not in PARAMETERS:
                raise self._refusal(f"there is no parameter {name!r}: there are {', '.join(PARAMETERS)}")
            if name != "user" and len(said.getlist(name)) > 1:
                raise self._refusal(f"{name} is there more than once")
        if "session" in said:
            if len(said) > 1:
                raise self._refusal("session goes with no other parameter")
            session = find_session(self._process_context.instance, said["session"])
            return session.named_users, day_of(session.start), day_of(session.end)
        if "start" not in said:
            raise self._refusal("say which days: start=YYYY-MM-DD, and end if there are more; or session=ID")
        lo_day = self._day(said["start"])
        hi_day = self._day(said["end"]) if "end" in said else lo_day
        if hi_day < lo_day:
            raise self._refusal("end lies before start")
        return said.getlist("user") or None, lo_day, hi_day

    def _day(self, text: str) -> int:
        try:
            return day_of(text)
        except ValueError:
            raise self._refusal(f"{text!r} is no day: write it as YYYY-MM-DD") from None

    def _refusal(self, reason: str) -> HTTPException:
        return HTTPException(400, reason, self.make_security_headers())


def _chunks(page: BinaryIO) -> Iterator[bytes]:
    with page:
        while chunk := page.read(CHUNK_BYTES):
            yield chunk


def main() -> None:
    """Run `dagster-webserver`, but with our class."""
    app.DagsterWebserver = Webserver  # type: ignore[misc] # it can be told in no other way
    cli.main()


if __name__ == "__main__":
    main()
