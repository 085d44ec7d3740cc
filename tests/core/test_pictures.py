"""Pictures of days: they fit, they are SVG, and they show where somebody went."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from trackgen_core.paths import encode_path
from trackgen_core.pictures import FRAME, SIZE, draw_days

ROOM = 900


class Drawn(NamedTuple):
    width: int
    lines: list[np.ndarray]
    """Their vertices, from the upper left corner."""


def read(url: str) -> Drawn:
    kind, comma, text = url.partition(",")
    assert (kind, comma) == ("data:image/svg+xml", ",")
    assert not set(url) & set(' <>"()'), "Markdown would end the link there"
    picture = ElementTree.fromstring(unquote(text))
    (path,) = picture
    lines = []
    for line in re.findall("M[^M]*", path.get("d")):
        x, y, way = re.fullmatch(r"M(\d+),(\d+)l((?:[+-]\d+[+-]\d+)+)", line).groups()
        steps = np.array(re.findall(r"[+-]\d+", way), int).reshape(-1, 2)
        lines.append(np.vstack([[int(x), int(y)], steps]).cumsum(axis=0))
    assert int(picture.get("height")) == SIZE
    return Drawn(int(picture.get("width")), lines)


def draw(*panels: list[list[tuple[float, float]]], room: int = ROOM) -> Drawn | None:
    rows = [(7, panel, encode_path(np.array(line))) for panel, lines in enumerate(panels) for line in lines]
    drawn = draw_days(pd.DataFrame(rows, columns=["day", "panel", "path"]), {7: room})
    assert all(len(url) <= room for url in drawn.values())
    return read(drawn[7]) if drawn else None


def walk(seed: int, size: int, step: float, lon: float, lat: float) -> list[tuple[float, float]]:
    steps = np.random.default_rng(seed).normal(0, step, (size, 2)).cumsum(axis=0)
    return [((lon + dx + 180) % 360 - 180, max(-90.0, min(90.0, lat + dy))) for dx, dy in steps.tolist()]


walks = st.builds(
    walk,
    seed=st.integers(0, 1000),
    size=st.integers(2, 400),
    step=st.sampled_from([0.0, 1e-5, 1e-3, 0.1, 5.0]),
    lon=st.sampled_from([8.0, 179.99, -180.0]),
    lat=st.sampled_from([0.0, 47.0, -89.9]),
)


@given(st.lists(st.lists(walks, min_size=1, max_size=20), min_size=1, max_size=3), st.integers(FRAME + 60, 2000))
def test_every_picture_fits_and_lies_in_its_panels(panels: list[list[list[tuple[float, float]]]], room: int) -> None:
    drawn = draw(*panels, room=room)
    if drawn is None:
        return
    assert drawn.width == SIZE * len(panels)
    assert len(drawn.lines) <= sum(2 * len(line) for lines in panels for line in lines)
    for line in drawn.lines:
        assert len(line) > 1
        assert len(set((line[:, 0] // SIZE).tolist())) == 1
        assert line.min() >= 0
        assert line[:, 1].max() <= SIZE


def test_north_is_up_and_both_axes_have_one_scale() -> None:
    (line,) = draw([[(8.0, 60.0), (8.0, 60.1), (8.2, 60.1)]]).lines
    start, corner, end = line
    assert corner[0] == start[0]
    assert corner[1] < start[1]
    assert end[1] == corner[1]
    # At 60 degrees north, a degree of longitude is half as long as one of latitude.
    assert abs((end[0] - corner[0]) - (start[1] - corner[1])) <= 1


def test_a_way_over_the_antimeridian_looks_like_any_other() -> None:
    there = draw([[(179.9, 10.0), (-179.9, 10.1), (-179.8, 10.0)]])
    here = draw([[(9.9, 10.0), (10.1, 10.1), (10.2, 10.0)]])
    assert np.abs(np.vstack([there.lines[0], there.lines[1][1:]])[[0, 2, 3]] - here.lines[0]).max() <= 1


def test_where_nobody_moved_there_is_no_picture() -> None:
    assert draw([[(8.0, 47.0), (8.0, 47.0)]]) is None
    assert draw_days(pd.DataFrame(columns=["day", "panel", "path"]), {}) == {}


def test_a_simple_way_is_drawn_as_it_is_and_a_long_one_as_well_as_there_is_room() -> None:
    simple = [(8.0, 47.0), (8.05, 47.02), (8.1, 47.0), (8.1, 47.1)]
    assert len(draw([simple]).lines[0]) == len(simple)
    angle = np.linspace(0, 20 * np.pi, 5_000)
    spiral = np.column_stack([8 + angle * np.cos(angle) / 1000, 47 + angle * np.sin(angle) / 1000])
    (line,) = draw([[tuple(place) for place in spiral.tolist()]]).lines
    assert 60 < len(line) < 200
    x, y = line.T
    assert x.max() - x.min() > SIZE / 2
    assert y.max() - y.min() > SIZE / 2


def test_of_too_many_the_first_are_drawn() -> None:
    lines = [[(8.0 + n / 100, 47.0), (8.0 + n / 100, 47.5)] for n in range(300)]
    drawn = draw(lines)
    assert 20 < len(drawn.lines) < 300
    assert [line[0, 0] for line in drawn.lines] == sorted(line[0, 0] for line in drawn.lines)
