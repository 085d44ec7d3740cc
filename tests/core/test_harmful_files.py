"""No file keeps others from being imported, whatever is in it: neither in the drop folder nor in a named one."""

from __future__ import annotations

import io
import json
import os
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import world
from tests.core.files import T0, bring
from trackgen_core import readers
from trackgen_core.importing import import_paths
from trackgen_core.inbox import SETTLE_S, import_all

GOOD = "ts,lat,lon\n1714557600,47.1,8.1\n"


def deep_parquet(levels: int = 200_000) -> bytes:
    table = pa.table({"time": pa.array([T0]), "geometry": pa.array([b"x"])})
    packed = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"geo": "[" * levels + "]" * levels}), packed)
    return packed.getvalue()


HARMFUL = {
    "deep.parquet": deep_parquet(),
    "deep.gpx": b"<gpx>" + b"<a>" * 14_000,
    "deep.kml": b"<kml>" + b"<Folder>" * 7000,
    "deep.json": b'{"type":"Feature","properties":' + b'{"a":' * 200_000,
    "deeper.json": b"[" * 200_000,
    "deep.geojson": b'{"type":"Feature","geometry":{"type":"GeometryCollection","geometries":[' * 300,
    "huge.json": b'{"locations":[{"latitudeE7":'
    + b"9" * 10_000
    + b',"longitudeE7":1,"timestamp":"2024-05-01T10:00:00Z"}]}',
    "separator.csv": b'sep="\nts"lat"lon\n1"2"3\n',
    "bomb.zip.csv": zipfile.ZIP_DEFLATED.to_bytes(1, "little") * 100,
}


def test_harmful_files_in_the_drop_folder_fail_with_a_report_and_the_others_are_imported(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    inbox = tmp_path / "inbox" / "anna"
    inbox.mkdir(parents=True)
    for name, content in {**HARMFUL, "a.csv": GOOD.encode(), "z.csv": GOOD.replace("47.1", "46.1").encode()}.items():
        (inbox / name).write_bytes(content)
        settled = time.time() - SETTLE_S - 1
        os.utime(inbox / name, (settled, settled))
    reports = import_all(store, tmp_path)
    assert len(reports) == len(HARMFUL) + 2
    assert sorted(path.name for path in (tmp_path / "done" / "anna").glob("*.csv")) == ["a.csv", "z.csv"]
    for name in HARMFUL:
        report = json.loads((tmp_path / "failed" / "anna" / f"{name}.report.json").read_text())
        assert report["outcome"] == "failed"
        assert report["files"][0]["error"]
    assert not [path for path in inbox.iterdir() if path.is_file()]


def test_harmful_files_in_a_folder_cost_only_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in {**HARMFUL, "a.csv": GOOD.encode(), "z.csv": GOOD.replace("47.1", "46.1").encode()}.items():
        (folder / name).write_bytes(content)
    reports, points = bring(tmp_path, folder)
    assert len(points) == 2
    assert {Path(report.path).name for report in reports if report.new} == {"a.csv", "z.csv"}
    assert all(report.error or report.skipped for report in reports if not report.new)


@pytest.mark.parametrize(
    "error", [RecursionError("deep"), MemoryError(), KeyError("x"), AssertionError(), OverflowError("y")]
)
def test_whatever_a_reader_raises_concerns_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(source: readers.Source) -> Iterator[pd.DataFrame]:
        if "bad" in source.path:
            raise error
        yield from readers.csv.read(source)

    formats = {**readers._FORMATS, "csv": readers._FORMATS["csv"]._replace(read=fail)}
    monkeypatch.setattr(readers, "_FORMATS", formats)
    paths = [tmp_path / "bad.csv", tmp_path / "good.csv"]
    for path in paths:
        path.write_text(GOOD)
    (bad, good), points = bring(tmp_path, *paths)
    assert f"bad.csv: the reader of csv failed ({type(error).__name__}: " in str(bad.error)
    assert (good.new, len(points)) == (1, 1)


def test_as_many_users_as_rows(tmp_path: Path) -> None:
    count = 40_000  # more than SQLite takes values in a statement
    path = tmp_path / "a.csv"
    path.write_text("user,ts,lat,lon\n" + "".join(f"u{i},{1714557600 + i},47.1,8.1\n" for i in range(count)))
    store = world.open_store(tmp_path)
    assert import_paths(store, [path], user=None, dry_run=True).total("new") == count
    assert import_paths(store, [path], user=None).total("new") == count
    assert import_paths(store, [path], user=None).total("duplicate") == count


def test_memory_does_not_follow_what_an_archive_unpacks_to(tmp_path: Path) -> None:
    peaks = []
    for rows in (50_000, 400_000):
        path = tmp_path / f"{rows}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as member:
            member.write(b"ts,lat,lon\n")
            for _ in range(rows // 1000):
                member.write(b"1714557600,47.1,8.1\n" * 1000)
        (source,) = readers.find_sources([path])
        tracemalloc.start()
        assert sum(map(len, readers.read(source, "csv"))) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
