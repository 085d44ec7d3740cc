"""Which requests the webserver answers: Dagster's own takes orders from any web site that a browser has open."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names that are always served: no other machine can own them."""

HEALTH: Final = "/server_info"
"""Says which versions run, and nothing else. Probes ask for it by the address of a container."""

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY_VIOLATION: Final = 1008
"""The code with which a websocket is refused (RFC 6455)."""


class Guard:
    """An ASGI application that passes on only what may reach the one behind it.

    - `Host` is a name that the webserver was told to serve. Otherwise, a web site could let its own name point to this
      machine, and read everything (DNS rebinding).
    - What changes or streams something comes from a page of this very server: a browser names the page in `Origin`.
      Programs that are no browser send no `Origin`, and are let in.
    - GraphQL by GET only reads: a link or an image on any page is a GET.

    Parameters
    ----------
    app : ASGI application
        Dagster's webserver.
    hosts : collection of str
        Names and addresses beside the loopback ones under which it is reached.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts) - LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, _unframed(send) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal[1]})
        else:
            status, reason = refusal
            headers = {"Allow": "POST"} if status == 405 else None
            await PlainTextResponse(f"{reason}\n", status, headers)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the reason with which a request is refused, None if it is not."""
        headers = Headers(scope=scope)
        is_read = scope["type"] == "http" and scope["method"] in READS
        if is_read and scope["path"].endswith(HEALTH):
            return None
        hosts = headers.getlist("host")
        name = _split(f"//{hosts[0]}")[0] if len(hosts) == 1 else None
        if name is None or name not in LOOPBACK | self.hosts:
            return 403, (
                f"Refused: this server is not told to answer for {', '.join(hosts) or '(none)'}. Start it with "
                "--allow-host NAME, or set TRACKGEN_UI_URL to the address that people use."
            )
        if is_read:
            if scope["path"].endswith("/graphql") and _changes(QueryParams(scope["query_string"]).get("query")):
                return 405, "Refused: a mutation is sent by POST."
            return None
        if not self._is_own_page(headers, hosts[0]):
            return 403, (
                f"Refused: a page of {headers.get('origin', 'another site')} may not give orders here. Behind a proxy, "
                "set TRACKGEN_UI_URL to the address that people use, or start with --allow-host NAME."
            )
        return None

    def _is_own_page(self, headers: Headers, host: str) -> bool:
        """Return whether a request comes from a page of this server, or from no page at all."""
        origins = headers.getlist("origin")
        if not origins:
            return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if len(origins) > 1:
            return False
        name, port = _split(origins[0])
        if name is None:
            return False
        # Behind a proxy, `Host` may be the name of this machine. Another port of this machine is another site.
        return name in self.hosts or (name, port) == _split(f"{urlsplit(origins[0]).scheme}://{host}")


def _split(url: str) -> tuple[str | None, int | None]:
    """Return the name and the port of a URL, or nothing if it has none that can be read."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None, None


def _changes(query: str | None) -> bool:
    """Return whether a GraphQL document has an operation that does more than read."""
    try:
        document = parse(query or "")
    except (GraphQLError, RecursionError):
        return False  # the application refuses it
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return any(node.operation != OperationType.QUERY for node in operations)


def _unframed(send: Send) -> Send:
    """Forbid other sites to show the answer inside their pages, where they could lead clicks to it."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-frame-options", b"SAMEORIGIN")]
        await send(message)

    return answer
