"""Noise, stays and daily summaries; what was made before stays readable until it is made again: all of it is listed."""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, PrimaryKeyConstraint, String

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for column in (
        Column("local_day", Integer, nullable=False, server_default="0", comment="in the user's time zone"),
        Column("is_stay", Integer, nullable=False, server_default="0"),
        Column(
            "continues", Integer, nullable=False, server_default="0", comment="1: the same rest as the segment before"
        ),
        *(
            Column(name, BigInteger, nullable=False, server_default="0")
            for name in (
                "moving_ms",
                "rest_points",
                *(f"{axis}_{what}" for what in ("sum", "min", "max") for axis in "xyz"),
            )
        ),
        Column("start_cm", BigInteger, comment="altitude of the first point"),
        Column("end_cm", BigInteger),
    ):
        op.add_column("segments", column)
    op.add_column("tracks", Column("moving_ms", BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "stays",
        Column("stay_id", String, primary_key=True),
        Column("device_id", Integer, ForeignKey("devices.device_id"), nullable=False),
        Column("started_ms", BigInteger, nullable=False),
        Column("ended_ms", BigInteger, nullable=False),
        Column("start_lon", Float(53), nullable=False),
        Column("start_lat", Float(53), nullable=False),
        Column("end_lon", Float(53), nullable=False),
        Column("end_lat", Float(53), nullable=False),
        Column("lon", Float(53), nullable=False),
        Column("lat", Float(53), nullable=False),
        Column("radius_cm", BigInteger, nullable=False),
        Column("points", Integer, nullable=False),
        Column("duration_ms", BigInteger, nullable=False),
        Column("break_reason", String, nullable=False),
        Column("settings_id", String, ForeignKey("settings_used.settings_id"), nullable=False),
        Column("digest", BigInteger, nullable=False),
        Index("stays_by_start", "device_id", "started_ms"),
    )
    op.create_table(
        "noise",
        Column("device_id", Integer, ForeignKey("devices.device_id"), nullable=False),
        Column("time_ms", BigInteger, nullable=False),
        Column("lon", Float(53), nullable=False),
        Column("lat", Float(53), nullable=False),
        Column("reason", String, nullable=False),
        PrimaryKeyConstraint("device_id", "time_ms", "lon", "lat"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "item_days",
        Column("item_id", String, nullable=False, comment="track_id or stay_id"),
        Column("local_day", Integer, nullable=False, comment="in the user's time zone"),
        Column("user_id", Integer, ForeignKey("users.user_id"), nullable=False),
        Column("is_stay", Integer, nullable=False),
        Column("points", Integer, nullable=False),
        *(
            Column(name, BigInteger, nullable=False)
            for name in ("length_mm", "moving_ms", "rest_ms", "gain_cm", "loss_cm")
        ),
        PrimaryKeyConstraint("item_id", "local_day"),
        Index("item_days_by_day", "local_day", "user_id"),
    )
    op.execute("UPDATE segments SET digest = 0")
    op.execute("UPDATE tracks SET digest = 0")
    now_ms = time.time_ns() // 1_000_000
    op.execute(f"""
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        SELECT DISTINCT 'segments', user_id, day, {now_ms << 20}, {now_ms}, 1
        FROM segments JOIN devices USING (device_id) WHERE true ON CONFLICT DO NOTHING
    """)
