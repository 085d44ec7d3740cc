"""The drop folder: every complete file is imported once, then moved with a report, and nothing is ever overwritten."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sqlalchemy.exc import OperationalError

from tests import world
from trackgen_core import inbox
from trackgen_core.inbox import SETTLE_S, DroppedReport, InboxError, import_all, import_dropped, waiting
from trackgen_core.store import Store

T0 = 1714557600  # 2024-05-01T10:00:00Z
HEADER = "timestamp,lon,lat"
MEMORY = Path("/dev/shm")


def csv(lat: float = 47.1, rows: int = 3, header: str = HEADER, prefix: str = "") -> str:
    return f"{header}\n" + "".join(f"{prefix}{T0 + 60 * i},8.5,{lat}\n" for i in range(rows))


BAD = csv() + '1714558600,8.5,"47.1'
NAMED = csv(header=f"user,{HEADER}", prefix="bob,")


def zipped(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return packed.getvalue()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return world.open_store(tmp_path)


def drop(home: Path, name: str, content: str | bytes = "", age: float = SETTLE_S + 1) -> Path:
    """Put a file into the inbox that was written `age` seconds ago."""
    path = home / "inbox" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def files(folder: Path) -> list[str]:
    """Return all files below a folder, but the lock and the reports."""
    paths = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != ".lock" and not path.endswith(".report.json"))


def report_of(target: Path) -> dict[str, Any]:
    return json.loads(target.with_name(f"{target.name}.report.json").read_text(encoding="utf-8"))


def counts(told: dict[str, Any]) -> tuple[int, int, int, int]:
    return told["read"], told["new"], told["duplicate"], told["rejected"]


def owners(store: Store) -> list[tuple[str, str]]:
    with store.read() as connection:
        return sorted(store.devices(connection)[["user", "device"]].itertuples(index=False, name=None))


def names(home: Path, **options: float) -> list[str]:
    return [str(dropped.path.relative_to(home / "inbox")) for dropped in waiting(home, **options)]


def assert_filed(home: Path, **expected: list[str]) -> None:
    """Assert which files are where, each with its report, and that nothing unfinished lies about."""
    for folder in ("inbox", "done", "failed"):
        assert files(home / folder) == sorted(expected.get(folder, []))
    for outcome in ("done", "failed"):
        reports = {
            str(path.relative_to(home / outcome)) for path in (home / outcome).rglob("*.report.json") if path.is_file()
        }
        assert reports == {f"{name}.report.json" for name in expected.get(outcome, [])}
        for name in expected.get(outcome, []):
            assert report_of(home / outcome / name)["outcome"] == outcome


# Which files are complete


def test_files_are_found_with_their_owners_in_order(home: Path) -> None:
    for name in ("b.csv", "bob/phone/x/y/z.csv", "bob/phone/a.csv", "anna/a.csv", "Zoë/日本/🚲.csv"):
        drop(home, name, csv())
    found = [(str(dropped.path.relative_to(home / "inbox")), dropped.user, dropped.device) for dropped in waiting(home)]
    assert found == [
        ("Zoë/日本/🚲.csv", "Zoë", "日本"),
        ("anna/a.csv", "anna", ""),
        ("b.csv", None, ""),
        ("bob/phone/a.csv", "bob", "phone"),
        ("bob/phone/x/y/z.csv", "bob", "phone"),
    ]


def test_without_an_inbox_nothing_is_waiting_and_an_inbox_is_made(home: Path, store: Store) -> None:
    assert waiting(home) == []
    assert import_all(store, home) == []
    assert (home / "inbox").is_dir()


def test_hidden_and_unfinished_files_are_left_alone(home: Path, store: Store) -> None:
    left = [
        ".hidden.csv",
        "anna/.a.csv.Xy12Zz",
        "anna/.stfolder/a.csv",
        ".git/anna/a.csv",
        "anna/phone/.syncthing.a.csv.tmp",
        "anna/~syncthing~a.csv.tmp",
        "anna/a.csv.part",
        "anna/a.csv.filepart",
        "anna/a.csv.crdownload",
        "anna/a.csv.TMP",
        "anna/a.csv~",
    ]
    for name in left:
        drop(home, name, csv())
    assert import_all(store, home) == []
    assert_filed(home, inbox=left)
    drop(home, "anna/party.csv", csv())  # names that only look like it
    drop(home, "anna.tmp/~a.part.csv", csv())
    assert names(home) == ["anna/party.csv", "anna.tmp/~a.part.csv"]


@pytest.mark.parametrize(
    ("age", "later", "complete"),
    [(0, 0, False), (SETTLE_S - 1, 0, False), (SETTLE_S, 0, True), (0, SETTLE_S - 1, False), (0, SETTLE_S + 1, True)],
)
def test_a_file_is_complete_when_it_has_not_been_written_to_for_a_while(
    home: Path, age: float, later: float, complete: bool
) -> None:
    drop(home, "anna/a.csv", csv(), age=age)
    assert bool(names(home, now=time.time() + later)) == complete


def test_a_time_that_is_still_to_come_does_not_keep_a_file_waiting(home: Path) -> None:
    drop(home, "anna/a.csv", csv(), age=-1e6)
    assert names(home) == []
    assert names(home, now=time.time() + SETTLE_S + 1) == ["anna/a.csv"]


def test_a_half_written_file_waits_until_it_is_complete(home: Path, store: Store) -> None:
    half, whole = csv()[:-20], csv()
    path = drop(home, "anna/a.csv", half, age=SETTLE_S - 5)
    drop(home, "anna/b.csv", csv(lat=46))
    assert [report.dropped.path.name for report in import_all(store, home)] == ["b.csv"]
    assert_filed(home, inbox=["anna/a.csv"], done=["anna/b.csv"])
    assert path.read_text() == half
    drop(home, "anna/a.csv", whole)
    assert [report.imported.total("new") for report in import_all(store, home)] == [3]


def test_links_are_not_followed(home: Path, tmp_path: Path, store: Store) -> None:
    secret = tmp_path / "secret" / "a.csv"
    secret.parent.mkdir()
    secret.write_text(csv())
    os.utime(secret, (0, 0))
    (home / "inbox/anna").mkdir(parents=True)
    (home / "inbox/anna/link.csv").symlink_to(secret)
    (home / "inbox/anna/dangling.csv").symlink_to(tmp_path / "nowhere")
    (home / "inbox/anna/folder").symlink_to(secret.parent)
    (home / "inbox/bob").symlink_to(secret.parent)
    (home / "inbox/anna/loop").symlink_to(home / "inbox")
    os.mkfifo(home / "inbox/anna/pipe.csv")
    for path in (home / "inbox").rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    assert waiting(home) == []
    assert import_all(store, home) == []
    assert secret.exists()


def test_a_file_that_becomes_a_link_is_not_followed(home: Path, tmp_path: Path, store: Store) -> None:
    secret = tmp_path / "a.csv"
    secret.write_text(csv())
    path = drop(home, "anna/a.csv", "x" * len(str(secret)))
    (dropped,) = waiting(home)
    path.unlink()
    path.symlink_to(secret)
    os.utime(path, ns=(0, dropped.mtime_ns), follow_symlinks=False)
    assert path.lstat().st_size == dropped.size
    assert import_dropped(store, home, dropped) is None
    assert owners(store) == []


# What becomes of them


def test_files_are_imported_for_their_owners_and_moved(home: Path, store: Store) -> None:
    placed = ["anna/a.csv", "anna/phone/b.csv.gz", "anna/phone/2024/05/c.csv", "Zoë/日本/🚲.csv", "zip/d.zip", "e.csv"]
    drop(home, placed[0], csv(47.1))
    drop(home, placed[1], gzip.compress(csv(47.2).encode()))
    drop(home, placed[2], csv(47.3))
    drop(home, placed[3], csv(47.4))
    drop(home, placed[4], zipped(a_csv=csv(47.5), b_csv=csv(47.6), README="read me"))
    drop(home, placed[5], NAMED)
    told: list[DroppedReport] = []
    reports = import_all(store, home, told.append)
    assert reports == told
    assert sorted(str(report.target.relative_to(home / "done")) for report in reports) == sorted(placed)
    assert not any(report.failed or report.problems for report in reports)
    assert_filed(home, done=placed)
    assert owners(store) == [("Zoë", "日本"), ("anna", ""), ("anna", "phone"), ("bob", ""), ("zip", "")]
    assert len(world.rows(store, "points")) == 21
    assert (home / "inbox/anna/phone/2024/05").is_dir()
    assert import_all(store, home) == []


def test_the_file_overrides_its_folders(home: Path, store: Store) -> None:
    drop(home, "anna/phone/a.csv", csv(header=f"user,device,{HEADER}", prefix="bob,watch,"))
    drop(home, "anna/phone/b.csv", NAMED)
    import_all(store, home)
    assert owners(store) == [("bob", "phone"), ("bob", "watch")]


def test_a_report_says_what_became_of_the_file(home: Path, store: Store) -> None:
    text = f"{HEADER},speed\n{T0},8.5,47.1,-1\n{T0},8.5,47.1,\nsoon,8.5,47.1,\n"
    path = drop(home, "Zoë/phone/2024/a.csv", text)
    started = time.time()
    (report,) = import_all(store, home)
    target = home / "done/Zoë/phone/2024/a.csv"
    assert report.target == target
    assert report.line == f"{path}: 3 read, 1 new, 1 duplicate, 1 rejected; moved to {target}"
    told = report_of(target)
    assert told == report.as_json()
    assert told["path"] == str(path)
    assert (told["user"], told["device"], told["outcome"], told["size"]) == ("Zoë", "phone", "done", len(text))
    assert counts(told) == (3, 1, 1, 1)
    assert (told["reasons"], told["ignored"]) == ({"no readable time": 1}, {"speed": 1})
    assert [(file["path"], file["format"]) for file in told["files"]] == [(str(path), "csv")]
    assert told["imported_at"].endswith("Z")
    assert started - 1 <= datetime.fromisoformat(told["imported_at"]).timestamp() <= time.time()
    assert "Zoë" in target.with_name("a.csv.report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("anna/broken.csv", BAD, "quotes"),
        ("anna/empty.csv", "", "empty"),
        ("anna/phone/photo.jpg", b"\xff\xd8\xff\xe0\0\0", "not a format"),
        ("anna/cut.csv.gz", gzip.compress(csv().encode())[:-9], "break off"),
        ("anna/cut.zip", zipped(a_csv=csv())[:-9], "damaged"),
        ("anna/nothing.zip", zipped(), "no file in this archive"),
        ("anna/photos.zip", zipped(photo_jpg="\0", README="read me"), "not a format"),
        ("nobody.csv", csv(), "whose points"),
        (" /nobody.csv", csv(), "whose points"),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
)
def test_what_cannot_be_read_goes_to_failed_with_the_reason(
    home: Path, store: Store, name: str, content: str | bytes, why: str
) -> None:
    path = drop(home, name, content)
    drop(home, "anna/a.csv", csv(46.1))
    drop(home, "zoe/z.csv", csv(46.2))
    reports = import_all(store, home)
    (failed,) = (report for report in reports if report.failed)
    assert_filed(home, done=["anna/a.csv", "zoe/z.csv"], failed=[name])
    assert len(failed.problems) == len(failed.imported.files) > 0
    for problem in failed.problems:
        assert problem.startswith(str(path))
        assert problem in failed.line
        assert why in problem
    assert {
        file.get("error") or f"{file['path']}: {file['skipped']}" for file in report_of(failed.target)["files"]
    } == {*failed.problems}
    assert owners(store) == [("anna", ""), ("zoe", "")]
    content = content.encode() if isinstance(content, str) else content
    assert failed.target.read_bytes() == content


def test_an_archive_with_a_bad_member_has_failed_and_its_good_members_are_imported(home: Path, store: Store) -> None:
    drop(home, "anna/backup.zip", zipped(a_csv=csv(), b_csv=BAD, c_csv=csv(46), README="read me"))
    (report,) = import_all(store, home)
    assert_filed(home, failed=["anna/backup.zip"])
    (problem,) = report.problems
    assert problem.startswith(f"{home}/inbox/anna/backup.zip/b.csv: ")
    told = report_of(report.target)
    assert counts(told) == (6, 6, 0, 0)
    assert [sorted({"error", "skipped"} & set(file)) for file in told["files"]] == [["skipped"], [], ["error"], []]


def test_rows_that_are_refused_make_a_file_fail_only_if_nothing_is_left(home: Path, store: Store) -> None:
    drop(home, "anna/a.csv", csv() + "soon,8.5,47.1\n")
    drop(home, "anna/b.csv", f"{HEADER}\nsoon,8.5,47.1\n")
    drop(home, "anna/header.csv", HEADER)
    reports = import_all(store, home)
    assert_filed(home, done=["anna/a.csv"], failed=["anna/b.csv", "anna/header.csv"])
    assert [report.problems[0].partition(": ")[2] for report in reports if report.failed] == [
        "no fixes: its row was rejected (1 no readable time)",
        "no fixes: it has no rows",
    ]


def test_names_that_are_not_utf_8_are_read_as_inside_files(home: Path, store: Store) -> None:
    name = os.fsdecode("zoë/phone/a.csv".encode("latin-1"))
    drop(home, name, csv())
    (report,) = import_all(store, home)
    assert owners(store) == [("zoë", "phone")]
    assert report.target == home / "done" / name
    assert report.target.exists()
    assert report_of(report.target)["user"] == "zoë"


# Names that are taken


def test_a_name_that_is_taken_gets_a_number(home: Path, store: Store) -> None:
    for lat in (45, 46, 47):
        for name in ("anna/a.csv", "anna/trip.csv.gz", "anna/plain", "anna/v1.2 final.csv"):
            text = csv(lat) if name != "anna/plain" else f"no points {lat}"
            drop(home, name, gzip.compress(text.encode(), mtime=0) if name.endswith(".gz") else text)
        import_all(store, home)
    stems = [("a", ".csv"), ("trip", ".csv.gz"), ("v1.2 final", ".csv")]
    done = [f"anna/{stem}{number}{end}" for stem, end in stems for number in ("", "-2", "-3")]
    assert_filed(home, done=done, failed=["anna/plain", "anna/plain-2", "anna/plain-3"])
    for number, lat in (("", 45), ("-2", 46), ("-3", 47)):
        assert (home / f"done/anna/a{number}.csv").read_text() == csv(lat)
        assert (home / f"failed/anna/plain{number}").read_text() == f"no points {lat}"
        assert counts(report_of(home / f"done/anna/a{number}.csv"))[0] == 3


def test_a_file_that_is_named_like_a_report_is_not_overwritten_by_one(home: Path, store: Store) -> None:
    other = '{"path": "elsewhere", "size": 1, "mtime_ns": 1}'
    for content in ("not a report", "[]", other, '{"path": "x"}', "[" * 100_000, "\xff\0"):
        drop(home, "anna/a.csv.report.json", content)
        import_all(store, home)
        drop(home, "anna/a.csv", BAD)
        import_all(store, home)
        failed = home / "failed/anna"
        assert (failed / "a.csv.report.json").read_text() == content
        assert (failed / "a-2.csv").read_text() == BAD
        assert not (failed / "a.csv").exists()
        shutil.rmtree(failed)


def test_a_folder_and_a_file_of_one_name_do_not_get_into_each_others_way(home: Path, store: Store) -> None:
    drop(home, "anna", NAMED)
    import_all(store, home)
    (home / "inbox/anna").mkdir()
    drop(home, "anna/phone", csv(46))
    import_all(store, home)
    (home / "inbox/anna/phone").mkdir()
    drop(home, "anna/phone/a.csv", csv(47))
    drop(home, "anna/phone/b.csv", csv(48))
    import_all(store, home)
    assert_filed(home, done=["anna", "anna-2/phone", "anna-2/phone-2/a.csv", "anna-2/phone-2/b.csv"])
    shutil.rmtree(home / "inbox/anna")
    drop(home, "anna-2", NAMED)
    import_all(store, home)
    assert (home / "done/anna-2-2").is_file()


def test_a_folder_that_is_named_like_a_report_is_in_nobodys_way(home: Path, store: Store) -> None:
    drop(home, "anna/a.csv.report.json/b.csv", csv(46))
    import_all(store, home)
    drop(home, "anna/a.csv", csv(47))
    import_all(store, home)
    assert_filed(home, done=["anna/a-2.csv", "anna/a.csv.report.json/b.csv"])


# Interruptions

CRASH = """
import os, sys
from pathlib import Path
from tests import world
from trackgen_core.inbox import import_all

replace, left = Path.replace, [int(sys.argv[3])]

def replace_or_die(self, target):
    left[0] -= 1
    return os._exit(9) if left[0] < 0 else replace(self, target)

Path.replace = replace_or_die
import_all(world.open_store(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("content", [csv(), BAD], ids=["done", "failed"])
@pytest.mark.parametrize("steps", [0, 1], ids=["before the report", "before the move"])
def test_after_a_crash_the_file_is_imported_again_with_only_duplicates(
    tmp_path: Path, home: Path, store: Store, steps: int, content: str
) -> None:
    drop(home, "anna/a.csv", content)
    outcome = "failed" if content == BAD else "done"
    target = home / outcome / "anna/a.csv"
    command = [sys.executable, "-c", CRASH, str(tmp_path), str(home), str(steps)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == 9
    assert files(home / "inbox") == ["anna/a.csv"]
    assert target.with_name("a.csv.report.json").exists() == bool(steps)
    before = world.rows(store, "points")
    assert len(before) == (3 if outcome == "done" else 0)
    import_all(store, home)
    assert list(target.parent.glob(".*")) == []
    assert_filed(home, **{outcome: ["anna/a.csv"]})
    assert counts(report_of(target)) == ((3, 0, 3, 0) if outcome == "done" else (0, 0, 0, 0))
    assert world.rows(store, "points") == before


def test_another_file_of_the_name_does_not_take_the_report_that_a_crash_left(home: Path, store: Store) -> None:
    drop(home, "anna/a.csv", csv())
    (report,) = import_all(store, home)
    report.target.unlink()
    told = report_of(report.target)
    drop(home, "anna/a.csv", csv(46))
    (other,) = import_all(store, home)
    assert other.target.name == "a-2.csv"
    assert report_of(report.target) == told


def test_a_file_that_vanishes_or_grows_meanwhile_is_no_error(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, grown = drop(home, "anna/gone.csv", csv(45)), drop(home, "anna/grown.csv", csv(46))
    found = waiting(home)
    gone.unlink()
    drop(home, "anna/grown.csv", csv(46, rows=5))
    assert [import_dropped(store, home, dropped) for dropped in found] == [None, None]
    assert owners(store) == []

    def vanish(path: Path, target: Path) -> None:
        path.unlink()
        move(path, target)

    move = inbox._move
    monkeypatch.setattr(inbox, "_move", vanish)
    assert import_all(store, home) == []
    assert_filed(home)

    def import_slowly(*args: Any, **options: Any) -> Any:
        report = import_paths(*args, **options)
        drop(home, "anna/grown.csv", csv(46, rows=7), age=0)
        return report

    import_paths = inbox.import_paths
    monkeypatch.setattr(inbox, "import_paths", import_slowly)
    drop(home, "anna/grown.csv", csv(46, rows=6))
    assert import_all(store, home) == []
    assert_filed(home, inbox=["anna/grown.csv"])
    assert grown.read_text() == csv(46, rows=7)


def test_a_file_that_vanishes_while_folders_are_listed_is_no_error(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, walk = drop(home, "anna/a.csv", csv()), os.walk

    def walk_slowly(*args: Any, **options: Any) -> Iterator[Any]:
        for entry in walk(*args, **options):
            if "a.csv" in entry[2]:
                path.unlink()
            yield entry

    monkeypatch.setattr(os, "walk", walk_slowly)
    assert import_all(store, home) == []
    assert not path.exists()


def test_an_error_of_the_database_leaves_the_file_in_the_inbox(home: Path, store: Store) -> None:
    drop(home, "anna/a.csv", csv())
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE points RENAME TO away")
    with pytest.raises(OperationalError, match="points"):
        import_all(store, home)
    assert_filed(home, inbox=["anna/a.csv"])
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO points")
    assert [report.imported.total("new") for report in import_all(store, home)] == [3]
    assert_filed(home, done=["anna/a.csv"])


def test_only_one_process_is_at_it(home: Path, store: Store) -> None:
    drop(home, "anna/a.csv", csv())
    with FileLock(home / "inbox/.lock"):
        assert import_all(store, home) == []
        assert_filed(home, inbox=["anna/a.csv"])
    assert len(import_all(store, home)) == 1


# Folders that cannot be used


@contextmanager
def unprivileged_home() -> Iterator[tuple[Store, Path]]:
    """Work as somebody whom permissions keep out, also where the tests run as root."""
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp())
    try:
        if user == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield world.open_store(folder), folder / "home"
    finally:
        os.seteuid(user)
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder, and folders in it that may not be written to."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("locked", ["done", "done/anna", "inbox/anna"])
def test_a_file_that_cannot_be_moved_stays_and_costs_only_itself(locked: str) -> None:
    with unprivileged_home() as (store, home):
        drop(home, "anna/a.csv", csv(45))
        drop(home, "anna/b.csv", csv(46))
        drop(home, "zoe/bad.csv", BAD)
        (home / locked).mkdir(parents=True, exist_ok=True)
        (home / locked).chmod(0o555)
        for _ in range(2):
            with pytest.raises(InboxError) as caught:
                import_all(store, home)
            lines = str(caught.value).splitlines()
            assert len(lines) == 2
            for line, name in zip(lines, ("a.csv", "b.csv"), strict=True):
                for words in (f"{home}/inbox/anna/{name}", "Permission denied", f"{home}/done", "stays in the inbox"):
                    assert words in line
            assert_filed(home, inbox=["anna/a.csv", "anna/b.csv"], failed=["zoe/bad.csv"])
        (home / locked).chmod(0o755)
        reports = import_all(store, home)
        assert [(report.imported.total("new"), report.imported.total("duplicate")) for report in reports] == [
            (0, 3)
        ] * 2
        assert_filed(home, done=["anna/a.csv", "anna/b.csv"], failed=["zoe/bad.csv"])


def test_what_was_done_before_an_error_is_told_with_it() -> None:
    with unprivileged_home() as (store, home):
        drop(home, "anna/a.csv", csv(45))
        drop(home, "bob/b.csv", csv(46))
        (home / "inbox/anna").chmod(0)
        assert names(home) == ["bob/b.csv"]
        with pytest.raises(InboxError, match=rf"cannot be read: .*Permission denied: '{home}/inbox/anna'") as caught:
            import_all(store, home)
        assert [report.target for report in caught.value.reports] == [home / "done/bob/b.csv"]


def test_a_file_that_cannot_be_opened_has_failed() -> None:
    with unprivileged_home() as (store, home):
        drop(home, "anna/a.csv", csv()).chmod(0)
        (report,) = import_all(store, home)
        assert report.problems == [f"{home}/inbox/anna/a.csv: Permission denied"]
        assert_filed(home, failed=["anna/a.csv"])


def test_a_name_that_has_no_room_for_a_report_is_told(home: Path, store: Store) -> None:
    name = f"anna/{'a' * 246}.csv"
    drop(home, name, csv())
    with pytest.raises(InboxError, match=r"File name too long: .*stays in the inbox"):
        import_all(store, home)
    assert_filed(home, inbox=[name])


def test_an_inbox_that_cannot_be_used_is_named() -> None:
    with unprivileged_home() as (store, home):
        drop(home, "anna/a.csv", csv())
        (home / "inbox").chmod(0o555)
        with pytest.raises(InboxError, match=f"{home}/inbox: cannot be used as the inbox: .*Permission denied"):
            import_all(store, home)
        assert_filed(home, inbox=["anna/a.csv"])


def test_a_file_in_place_of_a_folder_is_named(home: Path, store: Store) -> None:
    path = drop(home, "anna/a.csv", csv())
    (home / "done").write_text("in the way")
    with pytest.raises(InboxError, match=f"{path}: .*{home}/done"):
        import_all(store, home)
    assert path.exists()
    assert (home / "done").read_text() == "in the way"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    yield folder
    remove(folder)


def test_an_inbox_on_another_file_system(home: Path, store: Store, elsewhere: Path) -> None:
    home.mkdir()
    (home / "inbox").symlink_to(elsewhere)
    path = drop(home, "anna/a.csv", csv())
    changed = path.stat().st_mtime_ns
    drop(home, "anna/bad.csv", BAD)
    import_all(store, home)
    assert_filed(home, done=["anna/a.csv"], failed=["anna/bad.csv"])
    assert files(elsewhere) == []
    assert (home / "done/anna/a.csv").read_text() == csv()
    assert (home / "done/anna/a.csv").stat().st_mtime_ns == changed


def test_a_file_that_cannot_be_taken_from_another_file_system_is_not_copied_again_and_again(elsewhere: Path) -> None:
    elsewhere.chmod(0o777)
    with unprivileged_home() as (store, home):
        home.mkdir()
        (home / "inbox").symlink_to(elsewhere)
        drop(home, "anna/a.csv", csv())
        (elsewhere / "anna").chmod(0o555)
        for _ in range(2):
            with pytest.raises(InboxError, match="Permission denied"):
                import_all(store, home)
            assert_filed(home, inbox=["anna/a.csv"])
