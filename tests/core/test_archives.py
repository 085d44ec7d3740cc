"""Archives and compression of all kinds, archives in archives, and folders with links."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.files import bring
from trackgen_core.readers import find_sources, recognise
from trackgen_core.readers.finding import LINK, MAX_ARCHIVES, TOO_DEEP

CSV = b"ts,lat,lon\n1714557600,47.1,8.1\n"


def other(place: float) -> bytes:
    return CSV.replace(b"47.1", str(place).encode())


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def names(path: Path) -> list[str]:
    return [source.path.removeprefix(f"{path}/") for source in find_sources([path])]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_known_by_their_content(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "points.dat"
    path.write_bytes(compress(CSV))
    (report,), points = bring(tmp_path, path)
    assert (report.format, report.new, len(points)) == ("csv", 1, 1)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_that_are_damaged_say_so(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    packed = compress(CSV + os.urandom(200_000).hex().encode())
    damaged = packed[:50_000] + b"\0" * 100 + packed[50_100:]
    for name, content, what in (("cut", packed[:-1000], "break off"), ("bent", damaged, "damaged")):
        path = tmp_path / name
        path.write_bytes(content)
        (report,), points = bring(tmp_path / f"{name} home", path, format="csv")
        assert what in str(report.error)
        assert "Errno" not in str(report.error)
        assert not points


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "backup.tar.any"
    path.write_bytes(
        tarred({"b/z.csv": CSV, "a.csv.gz": gzip.compress(other(46)), ".hidden.csv": CSV, "x.txt": b""}, mode)
    )
    assert names(path) == ["b/z.csv", "a.csv.gz", "x.txt"]
    reports, points = bring(tmp_path, path)
    assert [(report.new, report.skipped) for report in reports] == [(1, None), (1, None), (0, "the file is empty")]
    assert len(points) == 2


def test_tar_holds_no_links_and_writes_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CSV)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind in (
            ("soft.csv", tarfile.SYMTYPE),
            ("hard.csv", tarfile.LNKTYPE),
            ("pipe.csv", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        info = tarfile.TarInfo("../../out.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV))
    path = tmp_path / "in" / "evil.tar"
    path.parent.mkdir()
    path.write_bytes(packed.getvalue())
    assert names(path) == ["../../out.csv"]
    before = sorted(tmp_path.rglob("*"))
    assert [recognise(source) for source in find_sources([path])] == ["csv"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tar_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({"a.csv": CSV, "b.csv": other(46)})[:1300])
    reports, _ = bring(tmp_path, path)
    assert any(report.error for report in reports)


def test_archives_in_archives(tmp_path: Path) -> None:
    uploads = zipped({"1.csv": CSV, "2.csv.gz": gzip.compress(other(46))})
    path = tmp_path / "export.zip"
    path.write_bytes(
        zipped(
            {
                "DI_CONNECT/UploadedFiles_1.zip": uploads,
                "DI_CONNECT/old.tar.gz": tarred({"3.csv": other(45)}, "w:gz"),
                "DI_CONNECT/profile.json": b"{}",
                "DI_CONNECT/empty.zip": zipped({}),
                "DI_CONNECT/nothing.txt": b"",
            }
        )
    )
    reports, points = bring(tmp_path, path)
    assert not [report for report in reports if report.error]
    assert sorted(Path(report.path).name for report in reports if report.new) == ["1.csv", "2.csv.gz", "3.csv"]
    assert len(points) == 3


def test_archives_in_each_other_have_a_limit(tmp_path: Path) -> None:
    content = CSV
    for level in range(MAX_ARCHIVES + 1):
        (tmp_path / "a.zip").write_bytes(content := zipped({f"{level}.zip" if level else "a.csv": content}))
        reports, _ = bring(tmp_path / str(level), tmp_path / "a.zip")
        assert [report.skipped for report in reports] == [None if level < MAX_ARCHIVES else TOO_DEEP]


def test_a_damaged_archive_in_an_archive_costs_only_itself(tmp_path: Path) -> None:
    inner = zipped({"1.csv": CSV})
    path = tmp_path / "export.zip"
    path.write_bytes(zipped({"a.zip": inner[:-30], "b.csv": other(46)}))
    reports, points = bring(tmp_path, path)
    assert len(points) == 1
    (failed,) = [report for report in reports if report.error]
    assert failed.path == f"{path}/a.zip"
    assert "damaged" in str(failed.error)


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.csv").write_bytes(CSV)
    (tmp_path / "secret.csv").write_bytes(other(46))
    (folder / "out.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "sub" / "within.csv").symlink_to("../a.csv")
    reports, points = bring(tmp_path, folder)
    assert {Path(report.path).name: (report.new, report.duplicate, report.skipped) for report in reports} == {
        "a.csv": (1, 0, None),
        "out.csv": (0, 0, LINK),
        "within.csv": (0, 1, None),
    }
    assert len(points) == 1
    # A link that somebody names is meant.
    (named,), _ = bring(tmp_path / "named", folder / "out.csv")
    assert named.new == 1
    (tmp_path / "link").symlink_to(folder)
    reports, _ = bring(tmp_path / "linked", tmp_path / "link")
    assert sum(report.new for report in reports) == 1
