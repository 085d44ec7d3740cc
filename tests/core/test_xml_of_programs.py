"""GPX and KML as other programs write it, and XML that is made to do harm."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from tests.core.files import T0, places, rows_of, source_of
from trackgen_core.readers import NoFixes, UnreadableFile, columns, read, recognise, xml

HEAD = '<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1" xmlns:x="urn:x">'


def trkpt(second: int, more: str = "") -> str:
    return f'<trkpt lat="47.{second}" lon="8"><time>2024-05-01T10:00:0{second}Z</time>{more}</trkpt>'


def gpx(*points: str, head: str = HEAD, name: str = "") -> str:
    return f"{head}<trk><name>{name}</name><trkseg>{''.join(points)}</trkseg></trk></gpx>"


ONE, TWO = gpx(trkpt(1)), gpx(trkpt(2), trkpt(3))
FIRST, ALL = [(1000, 8, 47.1)], [(1000, 8, 47.1), (2000, 8, 47.2), (3000, 8, 47.3)]


def extensions(inside: str) -> str:
    return f"<extensions>{inside}</extensions>"


@pytest.mark.parametrize(
    ("more", "speed", "accuracy"),
    [
        (extensions("<speed>5.5</speed><course>1</course><hAcc>3.25</hAcc><vAcc>2</vAcc>"), 5.5, 3.25),
        (
            extensions(
                "<x:accuracy_horizontal>6.5</x:accuracy_horizontal><x:accuracy_vertical>3</x:accuracy_vertical>"
            ),
            None,
            6.5,
        ),
        (extensions("<x:e><x:speed>2</x:speed></x:e>"), 2, None),
        ("<speed>5.5</speed>" + extensions("<x:speed/>"), 5.5, None),
        ("<speed>5.5</speed>" + extensions("<x:speed> \n </x:speed>"), 5.5, None),
        (extensions("<x:speed/>") + "<speed>5.5</speed>", 5.5, None),
        (extensions("<x:accuracy>4</x:accuracy><y><hAcc></hAcc></y>"), None, 4),
    ],
)
def test_extensions(tmp_path: Path, more: str, speed: float | None, accuracy: float | None) -> None:
    rows = rows_of(source_of(tmp_path, gpx(trkpt(1, more)), "a.gpx"), "gpx")
    nan = float("nan")
    assert rows["speed"].tolist() == pytest.approx([nan if speed is None else speed], nan_ok=True)
    assert rows["accuracy"].tolist() == pytest.approx([nan if accuracy is None else accuracy], nan_ok=True)


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("GBK", "gbk"),
        ("gb2312", "gb2312"),
        ("GB18030", "gb18030"),
        ("Shift_JIS", "shift_jis"),
        ("shift-jis", "shift_jis"),
        ("EUC-JP", "euc_jp"),
        ("Big5", "big5"),
        ("EUC-KR", "euc_kr"),
        ("UTF-16", "utf-16"),
        ("UTF-16", "utf-8"),  # declared wrongly
        ("UTF-8", "utf-8-sig"),
        ("utf8", "utf-8"),
        ("windows-1252", "ascii"),
    ],
)
@pytest.mark.parametrize("before", ["", "\n", "\n \r\n"])
def test_encodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: str, codec: str, before: str) -> None:
    name = {"big5": "北京", "euc_kr": "서울", "ascii": "x"}.get(codec, "日本")
    text = f'{before}<?xml version="1.0" encoding="{declared}"?>\n{gpx(trkpt(1), trkpt(2), name=name)}'
    source = source_of(tmp_path, text.encode(codec), "a.gpx")
    for size in (1 << 16, 7):
        monkeypatch.setattr(xml, "CHUNK_BYTES", size)
        assert places(rows_of(source, "gpx")) == ALL[:2]


def test_an_encoding_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    for name in ("klingon", "rot13", "zlib", "idna"):
        source = source_of(tmp_path, f'<?xml version="1.0" encoding="{name}"?>{ONE}', "a.gpx")
        with pytest.raises(UnreadableFile):
            list(read(source, "gpx"))


@pytest.mark.parametrize("between", ["", "\n", "\0\0\n", "\ufeff"])
@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0" encoding="UTF-8"?>\n'])
def test_documents_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str, declaration: str
) -> None:
    text = declaration + ONE + between + declaration + TWO + "\n"
    source = source_of(tmp_path, text, "a.gpx")
    for size, batch in ((1 << 16, 50_000), (1, 2), (50, 1), (64, 3)):
        monkeypatch.setattr(xml, "CHUNK_BYTES", size)
        monkeypatch.setattr(columns, "BATCH_ROWS", batch)
        assert places(rows_of(source, "gpx")) == ALL
    assert source.notes == []


@pytest.mark.parametrize(("behind", "count"), [("\0" * 20, 20), ("\n" + "\0" * 5000, 5000), ("junk", 4), ("\0<", None)])
def test_what_is_behind_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: str, count: int | None
) -> None:
    for size in (1 << 16, 1, 100):
        monkeypatch.setattr(xml, "CHUNK_BYTES", size)
        source = source_of(tmp_path, ONE + behind, "a.gpx")
        if count is None:
            with pytest.raises(UnreadableFile, match="breaks off"):
                rows_of(source)
        else:
            assert places(rows_of(source)) == FIRST
            assert source.notes == [f"{count} bytes behind its end were passed over"]


def test_a_second_document_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="its root element is <html>"):
        rows_of(source_of(tmp_path, ONE + "<html></html>", "a.gpx"))


@pytest.mark.parametrize(("root", "inside"), [("gpx", "a"), ("gpx", "trkpt"), ("kml", "Folder"), ("kml", "Point")])
def test_elements_in_elements_have_a_limit(tmp_path: Path, root: str, inside: str) -> None:
    source = source_of(tmp_path, f"<{root}>" + f"<{inside}>" * 14_000, "a.xml")
    tracemalloc.start()
    assert recognise(source) == root
    with pytest.raises(UnreadableFile, match=r"line 1, column \d+: more than 200 elements in each other"):
        rows_of(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_the_root_is_told_without_parsing_what_follows(tmp_path: Path) -> None:
    assert xml.root_name(b"<gpx>" + b"<a>" * 10_000) == "gpx"
    assert xml.root_name(b"<gpx attribute='") is None
    assert recognise(source_of(tmp_path, "\ufeff\n <!-- c --><g:gpx xmlns:g='x'>", "a.xml")) == "gpx"


def test_what_comes_before_a_break_is_delivered(tmp_path: Path) -> None:
    whole = gpx(trkpt(1), trkpt(2), trkpt(3))
    for format, text in (("gpx", whole[: whole.rindex("<trkpt")]), ("kml", f"<kml><Placemark>{TRACK}</Placemark>")):
        rows = read(source_of(tmp_path, text, "a.xml"), format)
        assert places(next(rows)) == ALL[:2]
        with pytest.raises(UnreadableFile, match="breaks off"):
            next(rows)


TRACK = (
    "<gx:Track xmlns:gx='g'><when>2024-05-01T10:00:01Z</when><when>2024-05-01T10:00:02Z</when>"
    "<gx:coord>8 47.1 401</gx:coord><gx:coord>8 47.2 402</gx:coord></gx:Track>"
)


def kml(*placemarks: str) -> str:
    inside = "".join(f"<Placemark>{placemark}</Placemark>" for placemark in placemarks)
    return f'<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="urn:gx"><Document>{inside}</Document></kml>'


STAMP = "<TimeStamp><when>2024-05-01T10:00:01Z</when></TimeStamp>"
SPAN = "<TimeSpan><begin>2024-05-01T10:00:01Z</begin><end>2024-05-01T10:00:05Z</end></TimeSpan>"
POINT = "<Point><coordinates>8,47.1,401</coordinates></Point>"
LINE = "<LineString><coordinates>8,47.1 8,47.2</coordinates></LineString>"


@pytest.mark.parametrize(
    "placemark",
    [
        STAMP + POINT,
        SPAN + POINT,
        POINT + SPAN,
        f"{STAMP}<MultiGeometry>{POINT}</MultiGeometry>",
        f"{STAMP}<MultiGeometry>{LINE}<MultiGeometry>{POINT}</MultiGeometry></MultiGeometry>",
    ],
)
def test_points_of_placemarks(tmp_path: Path, placemark: str) -> None:
    # What comes after must not get the time of what came before.
    rows = rows_of(source_of(tmp_path, kml(placemark, POINT, LINE), "a.kml"), "kml")
    assert places(rows) == FIRST


def test_a_track_among_other_geometries(tmp_path: Path) -> None:
    text = kml(
        f"<MultiGeometry>{LINE}{TRACK}</MultiGeometry>", f"<gx:MultiTrack>{TRACK.replace('8 ', '9 ')}</gx:MultiTrack>"
    )
    assert places(rows_of(source_of(tmp_path, text, "a.kml"))) == [
        (1000, 8, 47.1),
        (2000, 8, 47.2),
        (1000, 9, 47.1),
        (2000, 9, 47.2),
    ]


@pytest.mark.parametrize(
    ("placemark", "why"),
    [
        (STAMP + LINE, "one TimeStamp is no time for each point of a line (1 LineString)"),
        (SPAN + LINE, "one TimeStamp is no time for each point of a line (1 LineString)"),
        (LINE, "none of its shapes has a TimeStamp (1 LineString)"),
        (
            "<TimeSpan><end>2024-05-01T10:00:05Z</end></TimeSpan>" + POINT,
            "none of its shapes has a TimeStamp (1 Point)",
        ),
        ("", "it holds no gx:Track and no Point with a TimeStamp"),
    ],
)
def test_lines_have_no_times(tmp_path: Path, placemark: str, why: str) -> None:
    with pytest.raises(NoFixes, match=re.escape(why)):
        rows_of(source_of(tmp_path, kml(placemark), "a.kml"))


def test_times_of_points_are_not_those_of_other_points(tmp_path: Path) -> None:
    later = STAMP.replace(":01Z", ":02Z") + POINT.replace("47.1", "47.2")
    rows = rows_of(source_of(tmp_path, kml(STAMP + POINT, later), "a.kml"))
    assert places(rows) == ALL[:2]
    assert rows["time_ms"].tolist() == [T0 + 1000, T0 + 2000]
