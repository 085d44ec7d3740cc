"""Dagster's webserver, with a guard before it, and with one page more: the map of some days, or of a session.

It is started as `trackgen-webserver`, which takes all that `dagster-webserver` takes, and by `trackgen ui`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any, Final
from urllib.parse import urlsplit

import click
from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trackgen_dagster.environment import MAP_PATH, ui_url
from trackgen_dagster.guard import Guard

ALL_ADDRESSES: Final = {"0.0.0.0", "::"}
"""What a server listens at that listens at every address: no name of it."""


LOOK_S: Final = 5.0
"""How often it looks whether the history begins earlier than the partitions."""

LOADED: Final = """{
  assetNodes(assetKeys: [{path: ["segments"]}]) {
    repository { location { name } }
    partitionKeyConnection(limit: 1, ascending: true) { results }
  }
}"""
RELOAD: Final = """mutation Reload($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) { __typename }
}"""

logger = logging.getLogger(__name__)


class Webserver(DagsterWebserver):
    """The webserver, with maps, and partitions that follow the history."""

    def create_asgi_app(self, **kwargs: Any) -> Starlette:  # noqa: ANN401 - what Starlette takes
        """Return the application, and begin to look after the partitions."""
        threading.Thread(target=self._follow_history, name="partitions", daemon=True).start()
        return super().create_asgi_app(**kwargs)

    def _follow_history(self) -> None:
        """Have the definitions loaded again whenever points come that are older than the first partition."""
        known = ""
        while not os.environ.get("TRACKGEN_START_DATE"):
            try:
                from trackgen_dagster.partitions import first_partition  # as in `map_endpoint`

                first = first_partition().isoformat()
                if first != known:
                    self._reload_if_later_than(first)
                    known = first
            except Exception:  # the databases may be away, and the definitions may not load
                logger.exception("It could not be seen whether the partitions reach back to the first point")
            time.sleep(LOOK_S)

    def _reload_if_later_than(self, first: str) -> None:
        for node in self._ask(LOADED)["assetNodes"]:
            keys = node["partitionKeyConnection"]["results"]
            if keys and keys[0] > first:
                name = node["repository"]["location"]["name"]
                logger.info(f"Points from {first} on: {name} is loaded again")
                self._ask(RELOAD, name=name)

    def _ask(self, query: str, **variables: str) -> dict[str, Any]:
        context = self._process_context.create_request_context()
        answer = self._graphene_schema.execute(query, context_value=context, variable_values=variables)
        if answer.errors:
            raise RuntimeError("; ".join(str(error) for error in answer.errors))
        data: dict[str, Any] = answer.data
        return data

    def build_static_routes(self) -> list[BaseRoute]:
        """Return what lies below the path prefix, and before the pages of the UI, which take every other path."""
        return [Route(MAP_PATH, self.map_endpoint), *super().build_static_routes()]

    def build_middleware(self) -> list[Middleware]:
        """Return what a request goes through, the guard first."""
        return [Middleware(Guard, hosts=served_hosts()), *super().build_middleware()]

    def map_endpoint(self, request: Request) -> Response:
        """Answer with a map; as this is no coroutine, in a thread of its own."""
        # Only now, for this loads the assets: if the environment is wrong for them, the UI shall start and say so.
        from trackgen_dagster.map_page import answer

        return answer(request.query_params, self._process_context.instance, self.make_security_headers())


def served_hosts() -> list[str]:
    """Return the names that the webserver was told to answer for, beside the loopback ones.

    These are the address that it listens at, those of `--allow-host`, and that of `TRACKGEN_UI_URL`.
    """
    context = click.get_current_context(silent=True)
    options: dict[str, Any] = context.params if context else {}
    hosts = [options.get("host"), urlsplit(ui_url()).hostname, *(context.meta.get(ALLOWED, ()) if context else ())]
    return [host for host in hosts if host and host not in ALL_ADDRESSES]


ALLOWED: Final = "trackgen.allowed_hosts"


def _remember_hosts(context: click.Context, _param: click.Parameter, hosts: tuple[str, ...]) -> None:
    context.meta[ALLOWED] = hosts


def main() -> None:
    """Run `dagster-webserver`, but with our class and one option more."""
    app.DagsterWebserver = Webserver  # type: ignore[misc] # it can be told in no other way
    cli.cli.params.append(
        click.Option(
            ["--allow-host"],
            multiple=True,
            expose_value=False,
            callback=_remember_hosts,
            metavar="NAME",
            help="A host name under which people reach this server, beside localhost; repeatable.",
        )
    )
    cli.main()


if __name__ == "__main__":
    main()
