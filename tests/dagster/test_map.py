"""The map in a real browser: what is clicked, moved and switched, and that nobody is asked for anything."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from docs.screenshots import CHROMEDRIVER, CHROMIUM, browser, wait_for
from tests import world
from trackgen_core.demo import START_MS, demo_history
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY
from trackgen_core.store import Store
from trackgen_dagster.cli import main

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("map"),
    pytest.mark.skipif(
        not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason=f"{CHROMIUM} or {CHROMEDRIVER} is missing"
    ),
]
USER = "ada</script><script>window.broken = true</script><img src=x onerror=broken=1>"
DAYS = 40
INKS = """
const canvas = renderer._container;
const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const found = {};
for (let i = 0; i < bytes.length; i += 4) {
  if (bytes[i + 3] > 150) {
    const ink = [bytes[i], bytes[i + 1], bytes[i + 2]].map((value) => value >> 4).join();
    found[ink] = (found[ink] ?? 0) + 1;
  }
}
return found;
"""
"""The colours that are drawn, in coarse steps, with how many pixels each of them has."""


class Map:
    """A page in a browser, and the store that it was made from."""

    def __init__(self, driver: webdriver.Chrome, store: Store, home: Path) -> None:
        self.driver, self.store, self.home, self.url = driver, store, home, (home / "map.html").as_uri()
        self.tracks = pd.concat(store.read_tracks())
        self.stays = pd.concat(store.read_stays())

    def run(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    def one(self, element_id: str) -> Any:
        return self.driver.find_element(By.ID, element_id)

    def facts(self) -> dict[str, str]:
        terms = self.driver.find_elements(By.CSS_SELECTOR, "#facts dt")
        values = self.driver.find_elements(By.CSS_SELECTOR, "#facts dd")
        return {term.text: value.text for term, value in zip(terms, values, strict=True)}

    def drawn(self) -> tuple[int, int]:
        """How many tracks and stays the page says it shows, when it has drawn them."""
        self.driver.execute_async_script("const [done] = arguments; requestAnimationFrame(() => setTimeout(done, 50))")
        sums = self.one("sums")
        return int(sums.get_attribute("data-tracks")), int(sums.get_attribute("data-stays"))

    def click_at(self, lon: float, lat: float) -> None:
        x, y = self.run("const {x, y} = map.latLngToContainerPoint([...arguments]); return [x, y]", lat, lon)
        wide, high = self.run("return [innerWidth, innerHeight]")
        ActionChains(self.driver).move_to_element_with_offset(
            self.driver.find_element(By.TAG_NAME, "body"), round(x - wide / 2), round(y - high / 2)
        ).click().perform()

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Map]:
    home = tmp_path_factory.mktemp("home")
    points = demo_history()
    points = points[(points["user"] == "ada") & (points["time_ms"] < START_MS + DAYS * MS_PER_DAY)]
    store = world.open_store(home)
    add_points(store, points.assign(user=USER))
    world.generate(store)
    page = home / "map.html"
    command = ["map", "--user", USER, "-o", str(page)]
    printed = CliRunner().invoke(main, command, env={"TRACKGEN_HOME": str(home)}).output
    with browser() as driver:
        found = Map(driver, store, home)
        assert printed == f"{len(found.tracks)} tracks and {len(found.stays)} stays drawn on {page}\n"
        yield found
    store.database.close()


@pytest.fixture
def page(made: Map) -> Map:
    """The page as it is when it has just been opened."""
    made.scheme("light")
    made.driver.get(made.url)
    assert made.drawn() == (len(made.tracks), len(made.stays))
    return made


def test_the_command_says_what_is_wrong(made: Map, tmp_path: Path) -> None:
    def run(*args: str) -> tuple[int, str]:
        command = ["map", "-o", str(tmp_path / "map.html"), *args]
        done = CliRunner().invoke(main, command, env={"TRACKGEN_HOME": str(made.home)})
        return done.exit_code, done.stderr.splitlines()[-1]

    assert run("--user", USER, "--end", "2001-01-01") == (
        1,
        f"Error: no track or stay of {USER} starts in these days; there are some from 2025-03-01 to 2025-04-09",
    )
    assert run("--tiles", "https://example.org/{z}/{x}/{y}.png") == (2, "Error: --tiles and --attribution go together")
    assert run("--tiles", "https://example.org/", "--attribution", "them")[0] == 1
    assert not list(tmp_path.iterdir())


def test_nobody_is_asked_and_nothing_breaks_out(page: Map) -> None:
    assert page.run("return performance.getEntriesByType('resource').map(({name}) => name)") == []
    assert page.driver.get_log("browser") == []
    assert page.one("who").text == USER
    assert page.run("return [window.broken, document.images.length]") == [None, 0]
    # What would ask, or run, is stopped by the page's own policy.
    blocked = page.driver.execute_async_script("""
        const [done] = arguments, found = [];
        document.addEventListener("securitypolicyviolation", ({effectiveDirective}) => found.push(effectiveDirective));
        fetch("http://127.0.0.1:9/").catch(() => {});
        new Image().src = "http://127.0.0.1:9/1.png";
        const script = document.createElement("script");
        script.textContent = "window.broken = true";
        document.body.append(script);
        setTimeout(() => done(found.sort()), 300);
    """)
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert page.run("return window.broken") is None


def test_a_click_shows_what_is_stored(page: Map) -> None:
    track = page.tracks.loc[page.tracks["length_mm"].idxmax()]
    lat, lon = page.run(
        "const lines = tracks.find(({track_id}) => track_id === arguments[0]).lines.flatMap(({places}) => places);"
        "return lines[lines.length >> 1];",
        track["track_id"],
    )
    # Others went the same way on other days: of all that is under the point, this one.
    page.click_at(lon, lat)
    assert page.one("details").is_displayed()
    texts = [option.text for option in page.driver.find_elements(By.CSS_SELECTOR, "#choices option")]
    ids = page.run("return itemsAt(map.latLngToLayerPoint(arguments[0])).map((item) => item.track_id)", [lat, lon])
    assert len(texts) in (0, len(ids))
    if texts:
        page.driver.find_elements(By.CSS_SELECTOR, "#choices option")[ids.index(track["track_id"])].click()
    assert page.driver.find_element(By.CSS_SELECTOR, "#facts .id").text == track["track_id"]
    facts = page.facts()
    assert facts["Distance"] == f"{track['length_mm'] / 1e6:,.3f} km"
    assert facts["Average speed"] == f"{track['avg_speed_kmh']:,.1f} km/h"
    assert (
        facts["Climb"]
        == f"{track['elevation_gain_cm'] / 100:,.0f} m up, {track['elevation_loss_cm'] / 100:,.0f} m down"
    )
    assert facts["Fixes"] == f"{track['points']:,}"
    assert facts["Recorded by"] == f"{USER}, {track['device']}"
    assert (facts["Begins"], facts["Ends"]) == ("left a stay", "rest of 10 min or more within 75 m")
    with page.store.read() as connection:
        legs = page.store.legs(connection, [track["track_id"]])
    rows = page.driver.find_elements(By.CSS_SELECTOR, "#facts td.mode")
    assert [row.text for row in rows] == (legs["mode"].tolist() if len(legs) > 1 else [])

    page.click_at(lon + 0.02, lat)
    assert not page.one("details").is_displayed()


def test_the_slider_draws_what_lies_in_its_span(page: Map) -> None:
    before = page.run(INKS)
    page.one("from").send_keys(Keys.ARROW_RIGHT * 24)
    step, zero = page.run("return [step, zero]")
    seen = page.drawn()
    lo_ms = (zero + 24 * step) * 1000
    expected = tuple(int((items["ended_ms"] >= lo_ms).sum()) for items in (page.tracks, page.stays))
    assert seen == expected
    assert 0 < seen[0] < len(page.tracks)
    assert page.run("return shown.items.flatMap(({layers}) => layers).every((layer) => map.hasLayer(layer))")
    assert sum(page.run(INKS).values()) < sum(before.values())
    page.one("to").send_keys(Keys.HOME)  # no further than the other handle
    assert page.run("return [shown.from, shown.to]") == [24, 25]
    page.one("from").send_keys(Keys.HOME)
    page.one("to").send_keys(Keys.END)
    page.driver.find_element(By.CSS_SELECTOR, "label.stays").click()
    assert page.drawn() == (len(page.tracks), 0)
    page.one("play").click()
    wait_for("a later span", lambda: page.run("return shown.from > 2"))
    page.one("play").click()
    at = page.run("return shown.from")
    assert page.drawn()[0] < len(page.tracks)
    assert page.run("return shown.from") == at


def test_colours_are_those_of_days_or_modes_in_light_and_dark(page: Map) -> None:
    by_day = page.run(INKS)
    assert len({page.run("return tracks[arguments[0]].layers[0].options.color", n) for n in (0, 50, 90)}) == 3
    page.driver.find_element(By.XPATH, "//label[contains(., 'by mode')]").click()
    page.drawn()
    with page.store.read() as connection:
        modes = set(page.store.legs(connection, page.tracks["track_id"].tolist())["mode"])
    assert {row.text for row in page.driver.find_elements(By.CSS_SELECTOR, "#legend .swatch")} == modes
    of_layers = "return [...new Set(tracks.flatMap(({layers}) => layers.map(({options}) => options.color)))]"
    light = page.run(of_layers)
    assert len(light) == len(modes) > 3
    by_mode = page.run(INKS)
    assert max(by_mode, key=by_mode.get) != max(by_day, key=by_day.get)

    ground = "return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).reduce((a, b) => a + +b, 0)"
    assert page.run(ground) > 600
    page.scheme("dark")
    wait_for("the dark colours", lambda: page.run(ground) < 100)
    page.drawn()
    assert not set(page.run(of_layers)) & set(light)


def test_a_keyboard_is_enough(page: Map) -> None:
    page.one("later").send_keys(Keys.ENTER)
    first = page.one("what").text
    page.one("later").send_keys(Keys.ENTER, Keys.ENTER)
    assert page.one("what").text != first
    page.one("earlier").send_keys(Keys.ENTER, Keys.ENTER)
    assert page.one("what").text == first
    assert page.run("return shown.selected === shown.items[0]")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not page.one("details").is_displayed()


def test_a_phone_is_wide_enough(page: Map) -> None:
    size = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.driver.get(page.url)
        page.one("later").click()
        boxes = page.run("""return ["overview", "details", "time"].map((id) => {
            const {left, right, top, bottom} = one(id).getBoundingClientRect();
            return [left, right, top, bottom];
        })""")
        assert all(left >= 0 and right <= 360 for left, right, _, _ in boxes)
        for (*_, bottom), (_, _, top, _) in pairwise(boxes):
            assert bottom <= top
        assert boxes[-1][3] <= 640
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
