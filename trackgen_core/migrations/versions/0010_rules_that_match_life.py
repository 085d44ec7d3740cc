"""Segments know of pauses, of the order of points of one instant, and of intervals; all days are made again."""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import Column, Integer

revision = "0010"
down_revision = "0009"

COMMENTS = {
    "resumes": "1: the recording was paused before it",
    "first_late_ms": "later than its time by the clock of the rules",
    "first_interval_ms": "between points after the first; 0: unknown",
    "last_late_ms": "later than its time by the clock of the rules",
    "last_interval_ms": "between points before the last; 0: unknown",
}


def upgrade() -> None:
    for name, comment in COMMENTS.items():
        op.add_column("segments", Column(name, Integer, nullable=False, server_default="0", comment=comment))
    now_ms = time.time_ns() // 1_000_000
    op.execute(f"""
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        SELECT DISTINCT 'segments', user_id, time_ms / 86400000, {now_ms << 20}, {now_ms}, 1
        FROM points JOIN devices USING (device_id) WHERE true ON CONFLICT DO NOTHING
    """)
