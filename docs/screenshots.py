"""Take the pictures of the documentation: a demo home, the real UI, a backfill of 60 days, a headless browser.

Run it in the root of the repository as `python docs/screenshots.py`; it needs Debian's `chromium` and
`chromium-driver`, and `pip install -e .[dev]`. The demo history is moved so that it ends yesterday: the UI shows the
latest partitions first.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import pandas as pd
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from trackgen_core.demo import START_MS, demo_history
from trackgen_core.home import open_store
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY, day_date, now_ms
from trackgen_dagster.instance import open_instance
from trackgen_dagster.sessions import Session, list_sessions

IMAGES: Final = Path(__file__).parent / "images"
CHROMIUM: Final = Path("/usr/bin/chromium")
CHROMEDRIVER: Final = Path("/usr/bin/chromedriver")
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTH, HEIGHT, LOW = 1400, 800, 560
"""The viewport; the page of a backfill has little to show."""

DAYS: Final = 60
START_S: Final = 90.0
BACKFILL_S: Final = 240.0
"""The backfill daemon looks about every 30 s, and needs a look for each asset and one more to see that all is done."""

PAGE_S: Final = 30.0

LAUNCH: Final = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
STATUS: Final = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } runs(limit: 100) { runId status } }
    ... on PythonError { message }
  }
}"""

SHOWS_PICTURE: Final = "return [...document.images].some(image => image.alt == 'tracks' && image.naturalWidth)"
METADATA_HEADER: Final = "//*[normalize-space(text())='Metadata']"
CHECKS: Final = ("points_conserved", "no_overlap", "sample_recomputed", "days_add_up", "legs_tile")

T = TypeVar("T")


class Ui:
    """A running `trackgen ui`."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = process

    def is_up(self) -> bool:
        """Whether the webserver answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/server_info", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def graphql(self, query: str, **variables: Any) -> Any:  # noqa: ANN401 - whatever the query asks for
        """Send a query and return its data."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result = json.load(answer)
        if result.get("errors"):
            raise RuntimeError(f"GraphQL: {result['errors']}")
        return result["data"]

    def backfill(self, assets: Sequence[str], days: Collection[str]) -> str:
        """Start a backfill as the UI does, wait until it has succeeded, and return its id."""
        params = {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": list(days)}
        launched = self.graphql(LAUNCH, params=params)["launchPartitionBackfill"]
        if "backfillId" not in launched:
            raise RuntimeError(f"the backfill was not launched: {launched}")

        def status() -> str | None:
            found = self.graphql(STATUS, id=launched["backfillId"])["partitionBackfillOrError"]
            if found["status"] not in ("REQUESTED", "COMPLETED_SUCCESS"):
                raise RuntimeError(f"the backfill did not succeed: {found}")
            return found["status"] if found["status"] == "COMPLETED_SUCCESS" else None

        wait_for("the end of the backfill", status, BACKFILL_S)
        return str(launched["backfillId"])


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running_ui(home: Path, **environment: str) -> Iterator[Ui]:
    """Start `trackgen ui` on a home, and end it with everything that it has started."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKGEN_", "DAGSTER_"))}
    command = [sys.executable, "-m", "trackgen_dagster.cli", "ui", "--port", str(port)]
    with (home / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=clean | {"TRACKGEN_HOME": str(home)} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ui = Ui(port, process)

    def is_up() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"trackgen ui ended:\n{(home / 'ui.log').read_text()}")
        return ui.is_up()

    try:
        wait_for("the webserver", is_up, START_S)
        yield ui
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and what is left of the group after it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium with a profile of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(executable_path=str(CHROMEDRIVER)))
        try:
            resize(driver, HEIGHT)
            yield driver
        finally:
            driver.quit()


def resize(driver: webdriver.Chrome, height: int) -> None:
    """Make the viewport `WIDTH` x `height`: the window has a frame, even where nobody sees it."""
    script = "return window.outerHeight - window.innerHeight"
    driver.set_window_size(WIDTH, height + driver.execute_script(script))


def wait_for(what: str, look: Callable[[], T | None], seconds: float = PAGE_S, every_s: float = 0.3) -> T:
    """Look again and again until what comes back is true, and return it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(every_s)
    raise TimeoutError(f"waited {seconds:g} s for {what}")


def shown(driver: webdriver.Chrome, *texts: str) -> None:
    """Wait until the page shows all texts, has nothing that turns, and has come to rest."""

    def look() -> bool:
        try:
            body = driver.find_element(By.TAG_NAME, "body").text
            busy = driver.find_elements(By.CSS_SELECTOR, "[aria-busy=true], [class*=pinner]:not([class*=pinner] *)")
            return all(text in body for text in texts) and not any(element.is_displayed() for element in busy)
        except StaleElementReferenceException:
            return False

    try:
        wait_for(f"{texts} on {driver.current_url}", look)
        time.sleep(1.5)  # transitions, and the numbers that the page asks for last
        wait_for(f"{texts} on {driver.current_url}", look)
    except WebDriverException as error:
        raise RuntimeError(f"{driver.current_url}: {error.msg}") from error


def click(driver: webdriver.Chrome, text: str) -> None:
    """Click what has this very text."""
    wait_for(text, lambda: driver.find_elements(By.XPATH, f"//*[normalize-space(text())='{text}']"))[0].click()
    driver.execute_script("document.activeElement.blur()")


def demo_slice(days: int, *, last_day: int) -> pd.DataFrame:
    """Return the first days of the demo history, moved so that they end with `last_day`."""
    points = demo_history()
    points = points[points["time_ms"] < START_MS + days * MS_PER_DAY]
    return points.assign(time_ms=points["time_ms"] + (last_day + 1 - days) * MS_PER_DAY - START_MS)


def take_pictures(ui: Ui, backfill: str, day: str, folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as driver:

        def save(name: str) -> None:
            driver.save_screenshot(str(folder / f"{name}.png"))

        driver.get(f"{ui.url}/locations/trackgen/asset-groups/trackgen/lineage")
        shown(driver, "points", "segments", "tracks", "5 / 5 Passed")
        save("graph")

        driver.get(f"{ui.url}/assets/tracks?view=partitions&partition={day}")
        shown(driver, "Materialized", "leftover", "peak_memory_mb")
        wait_for("the picture of the day", lambda: driver.execute_script(SHOWS_PICTURE))
        save("partitions")

        driver.find_element(By.PARTIAL_LINK_TEXT, "/trackgen/map").click()
        page, opened = driver.window_handles
        driver.switch_to.window(opened)
        wait_for("the map", lambda: driver.title.endswith(f"{day} to {day}"))
        driver.close()
        driver.switch_to.window(page)

        driver.get(f"{ui.url}/assets/tracks?view=checks")
        shown(driver, *CHECKS, "Passed")
        save("checks")

        resize(driver, LOW)
        driver.get(f"{ui.url}/runs/b/{backfill}")
        shown(driver, "segments", "tracks", "Succeeded", "100% completed")
        save("backfill")

        resize(driver, HEIGHT)
        driver.get(f"{ui.url}/assets/tracks?view=overview")
        shown(driver, "Latest materialization", "break_reason")
        save("columns")

        click(driver, "Plots")
        shown(driver, "km", "leftover")
        driver.execute_script("arguments[0].scrollIntoView()", driver.find_element(By.XPATH, METADATA_HEADER))
        shown(driver, "km", "leftover")
        save("metadata")


def take_pictures_of_automation(ui: Ui, home: Path, day: int, folder: Path) -> None:
    """Let the sensor make all days but one, which fails, and write pictures of it, of its session and of that day."""
    refused = (
        f"CREATE TRIGGER refused BEFORE INSERT ON segments WHEN NEW.day = {day} "
        "BEGIN SELECT RAISE(FAIL, 'a fault that was planted for this picture'); END"
    )
    store = open_store(f"sqlite:///{home / 'trackgen.db'}")

    def ended(status: str) -> Session | None:
        with open_instance() as instance:
            return next((one for one in list_sessions(instance) if one.status == status), None)

    with store.write() as connection:
        connection.exec_driver_sql(refused)
    add_points(store, demo_slice(DAYS, last_day=now_ms() // MS_PER_DAY - 1))
    failed = wait_for("the sensor's session", lambda: ended("failed"), BACKFILL_S)
    with store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER refused")
    with browser() as driver:

        def save(name: str) -> None:
            driver.save_screenshot(str(folder / f"{name}.png"))

        driver.get(f"{ui.url}/locations/trackgen/sensors/incremental")
        shown(driver, "incremental", "All ticks", "requested")
        save("sensor")

        resize(driver, LOW)
        driver.get(f"{ui.url}/runs?q%5B0%5D=tag%3Atrackgen%2Fsession%3D{failed.session}")
        shown(driver, failed.runs[0][:8], "Failure")
        save("session")

        resize(driver, HEIGHT)
        driver.get(f"{ui.url}/assets/segments?view=partitions&partition={day_date(day).isoformat()}")
        shown(driver, "Failed")
        save("failed")
    store.database.close()


def main() -> None:
    """Make a home, fill it, and take the pictures."""
    yesterday = now_ms() // MS_PER_DAY - 1
    days = [day_date(day).isoformat() for day in range(yesterday + 1 - DAYS, yesterday + 1)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        os.environ |= {"TRACKGEN_HOME": str(home), "TRACKGEN_START_DATE": days[0]}
        with running_ui(home, TRACKGEN_START_DATE=days[0], TRACKGEN_DEBOUNCE_SECONDS="2") as ui:
            take_pictures_of_automation(ui, home, yesterday - 8, IMAGES)
            backfill = ui.backfill(["segments", "tracks"], days)
            take_pictures(ui, backfill, days[-9], IMAGES)
    for path in sorted(IMAGES.glob("*.png")):
        sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
