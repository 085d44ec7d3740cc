"""Dawarich: five users with the faults that its own generator leaves; mirror, compare, take over, and put back."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests import dawarich, postgres, world
from trackgen_core.database import Database
from trackgen_core.dawarich import changes
from trackgen_core.dawarich.comparison import compare_user
from trackgen_core.dawarich.mirror import mirror, mirrored_users
from trackgen_core.dawarich.rollback import rollback_user
from trackgen_core.dawarich.source import Dawarich, open_dawarich
from trackgen_core.dawarich.transactions import WriteReport, in_transaction
from trackgen_core.dawarich.writing import write_user
from trackgen_core.store import Store


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what:<40}{time.perf_counter() - started:>8.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--version", choices=[dawarich.VERSION_1_7_5, dawarich.NEWEST], default=dawarich.NEWEST)
    wanted = parser.parse_args()
    with postgres.running_server() as server:
        databases = postgres.Databases(server)
        dawarich.create(url := databases.new(), wanted.version, with_indexes=False)
        with timed("a Dawarich is made"):
            for number in range(wanted.users):
                with dawarich.connect(url) as connection:
                    user_id = dawarich.add_user(connection, f"{number}@example.org", '{"minutes_between_routes": "10"}')
                    a_day = wanted.points // wanted.users // wanted.days
                    dawarich.add_points(connection, user_id, dawarich.history(wanted.days, a_day, user_id))
                    dawarich.generate_as_dawarich(connection, user_id, 10)
            dawarich.add_indexes(url, wanted.version)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        with dawarich.connect(url) as connection:
            before = dawarich.dump(connection)
        print(f"  {len(before['points']):,} points, {len(before['tracks']):,} tracks")
        store = Store(Database(databases.new()))
        with timed("mirror"):
            mirror(store, url=url)
        with timed("mirror again: nothing is new"):
            mirror(store, url=url)
        change(url, 7)
        with timed("mirror again: 100 points changed"):
            mirror(store, url=url)
        in_dawarich(url, changes.install)
        with timed("mirror, for the first time with triggers"):
            mirror(store, url=url)
        change(url, 8)
        with timed("mirror with triggers: 100 points changed"):
            mirror(store, url=url)
        with timed("mirror with triggers: nothing is new"):
            mirror(store, url=url)
        in_dawarich(url, changes.remove)
        change(url, 10)
        mirror(store, url=url)
        with timed("generate, one process"):
            world.generate(store)
        users = mirrored_users(store)
        compare(store, url)
        reports = []
        with timed("take over"), open_dawarich(url, to="write") as there:
            reports = [write_user(store, there, user, take_over=True) for user in users]
        print(f"  {sum(report.points for report in reports):,} points have another track")
        print(f"  locks were held for {max(report.longest_s for report in reports):.2f} s at most")
        compare(store, url)
        with timed("write again: nothing is new"), open_dawarich(url, to="write") as there:
            assert all(write_user(store, there, user).points == 0 for user in users)
        with timed("roll back"), open_dawarich(url, to="write") as there:
            longest = max(rollback_user(there, user).longest_s for user in users)
        print(f"  locks were held for {longest:.2f} s at most")
        with dawarich.connect(url) as connection:
            assert dawarich.dump(connection) == before
        store.database.close()


def change(url: str, accuracy: int) -> None:
    """Change a hundred points of one day."""
    with dawarich.connect(url) as connection:
        connection.execute(
            "UPDATE points SET accuracy = %s WHERE id IN ("
            "SELECT id FROM points WHERE user_id = 1 AND timestamp > %s ORDER BY timestamp LIMIT 100)",
            [accuracy, dawarich.START_S + 50 * dawarich.DAY_S],
        )


def in_dawarich(url: str, do: Callable[[Dawarich], None]) -> None:
    with open_dawarich(url, to="write") as there:
        in_transaction(there, WriteReport(""), do)


def compare(store: Store, url: str) -> None:
    counts: Counter[str] = Counter()
    with timed("compare"), open_dawarich(url) as there:
        for user in mirrored_users(store):
            found = compare_user(store, there, user)
            counts += Counter(found.counts) + Counter({"lost points": found.lost_points})
    print("  " + ", ".join(f"{count:,} {kind}" for kind, count in counts.items()))


if __name__ == "__main__":
    main()
