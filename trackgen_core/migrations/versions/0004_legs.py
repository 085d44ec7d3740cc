"""Legs, edits, and climb with a threshold; all days are listed."""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, PrimaryKeyConstraint, String

revision = "0004"
down_revision = "0003"

NOWHERE_CM = 10_000_000_000


def upgrade() -> None:
    for name in ("moving_ms", "first_cm", "last_cm"):
        op.drop_column("segments", name)
    for column in (
        Column("told_by", Integer, nullable=False, server_default="0", comment="pace, or mode by hand"),
        *(Column(f"band_{band}_ms", BigInteger, nullable=False, server_default="0") for band in range(8)),
        *(
            Column(name, BigInteger, server_default="0")
            for name in ("first_turn_cm", "last_turn_cm", "first_run", "last_run")
        ),
    ):
        op.add_column("segments", column)
    how = "how most of the time was spent"
    op.add_column("tracks", Column("mode", String, nullable=False, server_default="", comment=how))
    op.create_table(
        "legs",
        Column("track_id", String, nullable=False),
        Column("number", Integer, nullable=False),
        Column("mode", String, nullable=False),
        Column("confidence", Integer, nullable=False, comment="percent"),
        Column("by_hand", Integer, nullable=False, comment="1: somebody set the mode"),
        Column("started_ms", BigInteger, nullable=False),
        Column("ended_ms", BigInteger, nullable=False),
        Column("length_mm", BigInteger, nullable=False),
        Column("moving_ms", BigInteger, nullable=False),
        PrimaryKeyConstraint("track_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "edits",
        Column("edit_id", Integer, primary_key=True),
        Column("device_id", Integer, ForeignKey("devices.device_id"), nullable=False),
        Column("kind", String, nullable=False, comment="split, merge or mode"),
        Column("before_ms", BigInteger, nullable=False, comment="the instants on either side"),
        Column("after_ms", BigInteger, nullable=False),
        Column("mode", String),
        Column("made_ms", BigInteger, nullable=False, comment="when somebody said so"),
        sqlite_autoincrement=True,
    )
    op.execute(f"""
        UPDATE segments SET gain_cm = coalesce(gain_cm, 0), loss_cm = coalesce(loss_cm, 0),
                            min_cm = coalesce(min_cm, {NOWHERE_CM}), max_cm = coalesce(max_cm, -{NOWHERE_CM})
    """)
    now_ms = time.time_ns() // 1_000_000
    op.execute(f"""
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        SELECT DISTINCT 'segments', user_id, day, {now_ms << 20}, {now_ms}, 1
        FROM segments JOIN devices USING (device_id) WHERE true ON CONFLICT DO NOTHING
    """)
