"""What a file says of its points: their order within a time stamp, pauses of the recording, and an activity."""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import Column, SmallInteger

revision = "0009"
down_revision = "0008"

COMMENTS = {
    "seq": "position among points of one time stamp in their file",
    "pause": "1: the recording was stopped before this point",
    "activity": "code of what the source says of how somebody moved, 0: unknown",
}

TIED_DAYS = """
    FROM (
        SELECT device_id, time_ms / 86400000 AS day FROM points GROUP BY device_id, time_ms HAVING count(*) > 1
    ) AS tied JOIN devices USING (device_id)
"""


def upgrade() -> None:
    for name, comment in COMMENTS.items():
        op.add_column("points", Column(name, SmallInteger, nullable=False, server_default="0", comment=comment))
    now_ms = time.time_ns() // 1_000_000  # the digest of points that share a time stamp is made in another way
    op.execute(f"""
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        SELECT DISTINCT 'segments', user_id, day, {now_ms << 20}, {now_ms}, 1 {TIED_DAYS}
        WHERE true ON CONFLICT DO NOTHING
    """)
    # The order within these is to be mirrored, too: so they are compared once more, whatever triggers tell.
    op.execute(f"UPDATE dawarich_users SET token = NULL WHERE user_id IN (SELECT user_id {TIED_DAYS})")
    op.execute(f"DELETE FROM dawarich_days WHERE (user_id, day) IN (SELECT user_id, day {TIED_DAYS})")
