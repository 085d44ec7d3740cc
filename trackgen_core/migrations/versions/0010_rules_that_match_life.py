"""Rules that match life: segments know more of their points, legs where their mode is from; all days are listed."""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String

revision = "0010"
down_revision = "0009"

COMMENTS = {
    "resumes": "1: the recording was paused before it",
    "first_late_ms": "later than its time by the clock of the rules",
    "first_interval_ms": "between points after the first; 0: unknown",
    "last_late_ms": "later than its time by the clock of the rules",
    "last_interval_ms": "between points before the last; 0: unknown",
    "link_band": "of the link to it",
    "link_straight": "of the link to it, permille",
    "link_traits": "of the link to it: 1 unsteady, 2 at sea",
}
LARGE = {
    "link_mm": "of the link to it, without jitter; -1: its ends tell",
    "unsteady_ms": "in which the speed changes as engines do",
    "straight_sum": "times of links by their straightness in permille",
    "sea_ms": "on the open sea",
}


def upgrade() -> None:
    for name, comment in COMMENTS.items():
        op.add_column("segments", Column(name, Integer, nullable=False, server_default="0", comment=comment))
    for name, comment in LARGE.items():
        op.add_column("segments", Column(name, BigInteger, nullable=False, server_default="0", comment=comment))
    with op.batch_alter_table("segments") as segments:
        segments.alter_column("told_by", comment="pace and activity, or mode by hand")
    op.add_column(
        "legs",
        Column("source", String, nullable=False, server_default="rule", comment="of the mode: rule, file or hand"),
    )
    op.execute("UPDATE legs SET source = 'hand' WHERE by_hand = 1")
    op.drop_column("legs", "by_hand")
    now_ms = time.time_ns() // 1_000_000
    op.execute(f"""
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        SELECT DISTINCT 'segments', user_id, time_ms / 86400000, {now_ms << 20}, {now_ms}, 1
        FROM points JOIN devices USING (device_id) WHERE true ON CONFLICT DO NOTHING
    """)
