"""Dagster's webserver with one page more: the map of some days, or of a session.

It is started as `trackgen-webserver`, which takes all that `dagster-webserver` takes, and by `trackgen ui`.
"""

from __future__ import annotations

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trackgen_dagster.environment import MAP_PATH


class Webserver(DagsterWebserver):
    """The webserver, with maps."""

    def build_static_routes(self) -> list[BaseRoute]:
        """Return what lies below the path prefix, and before the pages of the UI, which take every other path."""
        return [Route(MAP_PATH, self.map_endpoint), *super().build_static_routes()]

    def map_endpoint(self, request: Request) -> Response:
        """Answer with a map; as this is no coroutine, in a thread of its own."""
        # Only now, for this loads the assets: if the environment is wrong for them, the UI shall start and say so.
        from trackgen_dagster.map_page import answer

        return answer(request.query_params, self._process_context.instance, self.make_security_headers())


def main() -> None:
    """Run `dagster-webserver`, but with our class."""
    app.DagsterWebserver = Webserver  # type: ignore[misc] # it can be told in no other way
    cli.main()


if __name__ == "__main__":
    main()
