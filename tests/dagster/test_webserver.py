"""Maps from the real webserver, under a path prefix: what a request may ask for, and that it gets that and no more."""

from __future__ import annotations

import html
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import dagster as dg
import pytest
from click.testing import CliRunner

from docs.screenshots import free_port, wait_for
from tests import world
from tests.command_line import clean_environment
from tests.dagster.homes import FIRST, embedded_instance, ride
from tests.scenarios import USER
from trackgen_dagster.cli import main
from trackgen_dagster.generate import generate
from trackgen_dagster.partitions import key_of
from trackgen_dagster.sessions import find_session

pytestmark = pytest.mark.xdist_group("webserver")  # its fixture is dear: one process makes it once

PREFIX = "/gps"
STRANGE = "<b>&amp;"
DAY = key_of(FIRST)
START_S = 60.0


@dataclass
class Server:
    """A webserver, and a home with a session of one of its two users, each with a track a day."""

    home: Path
    host: str
    session: str
    link: str
    """What the UI shows of the first day."""

    def get(self, path: str) -> tuple[int, Message, bytes]:
        try:
            with urllib.request.urlopen(self.host + path, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def map(self, query: str) -> tuple[int, str]:
        status, headers, body = self.get(f"{PREFIX}/trackgen/map?{query}")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers.get_content_type() == ("text/html" if status == 200 else "text/plain")
        return status, body.decode()

    def trackgen_map(self, *args: str) -> str:
        """What the command line makes."""
        page = self.home / "map.html"
        done = CliRunner().invoke(main, ["map", *args, "-o", str(page)], env={"TRACKGEN_HOME": str(self.home)})
        assert done.exit_code == 0, done.output
        return page.read_text("utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    host = f"http://127.0.0.1:{free_port()}"
    store = world.open_store(home)
    ride(store, range(3))
    ride(store, range(1, 3), STRANGE)
    with pytest.MonkeyPatch.context() as patch, embedded_instance(home) as instance:
        patch.setenv("TRACKGEN_UI_URL", host + PREFIX)
        generate(store, instance, mode="incremental")
        session = generate(store, instance, mode="bulk", users=[STRANGE], lo_day=FIRST + 1, hi_day=FIRST + 1).session
        event = instance.get_latest_data_version_record(dg.AssetKey("tracks"), partition_key=DAY)
        assert event and event.asset_materialization
        link = str(event.asset_materialization.metadata["map"].value)
        assert find_session(instance, session).map == f"{host}{PREFIX}/trackgen/map?session={session}"
    store.database.close()
    port = str(urlsplit(host).port)
    command = ["-m", "trackgen_dagster.webserver", "-p", port, "--path-prefix", PREFIX, "--empty-workspace"]
    command += ["--allow-host", "maps.example.org"]
    environment = clean_environment(home) | {"DAGSTER_HOME": str(home / "dagster")}
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        made = Server(home, host, session, link)

        def is_up() -> bool:
            assert process.poll() is None, (home / "log").read_text()
            try:
                return made.get(f"{PREFIX}/server_info")[0] == 200
            except urllib.error.URLError:
                return False

        try:
            wait_for("the webserver", is_up, START_S)
            yield made
        finally:
            process.terminate()


def test_a_day_links_to_its_map(server: Server) -> None:
    assert server.link == f"{PREFIX}/trackgen/map?start={DAY}"
    status, headers, body = server.get(server.link)
    assert (status, headers.get_content_type(), headers["Cache-Control"]) == (200, "text/html", "no-store")
    assert int(headers["Content-Length"]) == len(body)
    assert body.decode() == server.trackgen_map("--start", DAY, "--end", DAY)


def test_the_map_of_a_session_shows_its_users_and_days(server: Server) -> None:
    expected = server.trackgen_map("--user", STRANGE, "--start", key_of(FIRST + 1), "--end", key_of(FIRST + 1))
    assert server.map(f"session={server.session}") == (200, expected)
    assert server.map(f"session={server.session[:6]}") == (200, expected)
    assert server.trackgen_map("--session", server.session) == expected
    assert f'"{USER}"' not in expected
    assert f"<title>{html.escape(STRANGE)}: " in expected


def test_the_command_takes_a_session_or_days(server: Server) -> None:
    environment = {"TRACKGEN_HOME": str(server.home)}
    for more in (["--user", "x"], ["--start", DAY], ["--end", DAY]):
        done = CliRunner().invoke(main, ["map", "--session", server.session, *more], env=environment)
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (
            2,
            "Error: --session says which users and days: it goes without --user, --start and --end",
        )
    shown = CliRunner().invoke(main, ["sessions", "show", server.session], env=environment).stdout
    assert f"trackgen map --session {server.session} -o map.html\n" in shown


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 400, "say which days: start=YYYY-MM-DD, and end if there are more; or session=ID"),
        ("end=2024-01-01", 400, "say which days: start=YYYY-MM-DD, and end if there are more; or session=ID"),
        ("user=nobody", 400, "say which days: start=YYYY-MM-DD, and end if there are more; or session=ID"),
        ("start=%3Cb%3E", 400, "'<b>' is no day: write it as YYYY-MM-DD"),
        ("start=2024-01-02&end=2024-01-01", 400, "end lies before start"),
        ("start=2024-01-02&start=2024-01-03", 400, "start is there more than once"),
        ("start=2024-01-02&days=9", 400, "there is no parameter 'days': there are user, start, end, session"),
        ("session=a&user=b", 400, "session goes with no other parameter"),
        ("session=%3Cb%3E", 404, "no session of the name '<b>': see `trackgen sessions list`"),
        ("start=2024-01-02&user=%3Cb%3E", 404, "no such user: <b> (users come with their first import)"),
        ("start=2001-01-01&end=2001-02-01", 404, "no track or stay of anybody starts in these days; there are some "),
    ],
)
def test_other_requests_are_told_what_is_wrong(server: Server, query: str, status: int, said: str) -> None:
    found, text = server.map(query)
    assert found == status
    assert text.startswith(said)


def test_a_database_that_cannot_be_used_is_said_so(server: Server) -> None:
    file = server.home / "trackgen.db"
    kept = file.rename(server.home / "kept")
    try:
        file.write_text("no database, but long enough to be taken for one" * 100)
        status, text = server.map(f"start={DAY}")
        assert status == 503
        assert "trackgen.db" in text
    finally:
        kept.replace(file)


def test_the_rest_is_dagsters(server: Server) -> None:
    status, headers, _ = server.get(f"{PREFIX}/assets")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert server.get("/trackgen/map")[0] == 404


# What must not reach Dagster ------------------------------------------------------------------------------------------

MUTATION = "mutation { reloadWorkspace { __typename } }"
QUERY = "{ version }"


def ask(server: Server, method: str, target: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    """Send a request with exactly these headers, as a browser or a proxy might, and return status and body."""
    address = urlsplit(server.host)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=60)
    connection.putrequest(method, f"{PREFIX}{target}", skip_host=True)
    for name, value in ({"Host": address.netloc} | headers).items():
        if value:
            connection.putheader(name.replace("_", "-"), value)
    data = (body or "").encode()
    if data:
        connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data or None)
    with closing(connection):
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def post(server: Server, **headers: str) -> tuple[int, str]:
    body = json.dumps({"query": MUTATION})
    return ask(server, "POST", "/graphql", body, Content_Type="application/json", **headers)


def test_mutations_by_get_are_refused(server: Server) -> None:
    assert ask(server, "GET", f"/graphql?{urlencode({'query': QUERY})}")[0] == 200
    for query in (MUTATION, f"query Q {QUERY} {MUTATION}", "subscription { locationStateChangeEvents { __typename } }"):
        status, text = ask(server, "GET", f"/graphql?{urlencode({'query': QUERY})}&{urlencode({'query': query})}")
        assert (status, text) == (405, "Refused: a mutation is sent by POST.\n")


def test_only_hosts_that_were_named_are_served(server: Server) -> None:
    port = urlsplit(server.host).port
    for host in (f"localhost:{port}", f"[::1]:{port}", f"LOCALHOST:{port}", "127.0.0.1", "maps.example.org"):
        assert ask(server, "GET", "/assets", Host=host)[0] == 200, host
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.", "other.example.org", "", "["):
        for target in ("/assets", f"/graphql?{urlencode({'query': QUERY})}", f"/trackgen/map?start={DAY}"):
            status, text = ask(server, "GET", target, Host=host)
            assert (status, text[:8]) in ((403, "Refused:"), (400, "Invalid ")), host  # the latter is uvicorn's
    assert ask(server, "GET", "/server_info", Host="10.1.2.3:80")[0] == 200


def test_only_pages_of_the_server_give_orders(server: Server) -> None:
    port = urlsplit(server.host).port
    assert post(server)[0] == 200  # a program
    assert post(server, Origin=server.host)[0] == 200
    assert post(server, Origin=f"http://localhost:{port}", Host=f"localhost:{port}")[0] == 200
    assert post(server, Origin="https://maps.example.org")[0] == 200  # a proxy that names this machine in `Host`
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"http://localhost:{port}", "http://[", "x"):
        assert post(server, Origin=origin)[0] == 403, origin
    assert post(server, Sec_Fetch_Site="cross-site")[0] == 403
    assert post(server, Host="evil.example")[0] == 403
    # As a form of another page sends it, which needs no leave of this server.
    target = f"/graphql?{urlencode({'query': MUTATION})}"
    assert ask(server, "POST", target, "a=b", Content_Type="text/plain", Origin="https://evil.example")[0] == 403
    assert ask(server, "POST", "/report_asset_materialization/tracks", "{}", Origin="https://evil.example")[0] == 403


def test_only_pages_of_the_server_open_websockets(server: Server) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Protocol": "graphql-ws",
    }

    def status(**headers: str) -> int:
        address = urlsplit(server.host)
        with socket.create_connection((address.hostname, address.port), timeout=60) as stream:
            lines = [f"GET {PREFIX}/graphql HTTP/1.1"]
            lines += [
                f"{name.replace('_', '-')}: {value}"
                for name, value in ({"Host": address.netloc} | handshake | headers).items()
            ]
            stream.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(stream.recv(64).split()[1])

    assert status(Origin=server.host) == 101
    assert status() == 101
    assert status(Origin="https://evil.example") == 403
    assert status(Host="evil.example", Origin="http://evil.example") == 403


def test_no_other_site_shows_the_ui_inside_its_pages(server: Server) -> None:
    _, headers, _ = server.get(f"{PREFIX}/assets")
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
