"""Users, devices, points, the work list, segments and tracks."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    name = String().with_variant(String(collation="C"), "postgresql")
    op.create_table(
        "users",
        Column("user_id", Integer, primary_key=True),
        Column("name", name, nullable=False, unique=True),
        Column("settings", String, nullable=False, server_default="{}", comment="JSON: what differs from the defaults"),
    )
    op.create_table(
        "devices",
        Column("device_id", Integer, primary_key=True),
        Column("user_id", Integer, ForeignKey("users.user_id"), nullable=False),
        Column("name", name, nullable=False),
        UniqueConstraint("user_id", "name"),
    )
    op.create_table(
        "points",
        Column("device_id", Integer, ForeignKey("devices.device_id"), nullable=False),
        Column("time_ms", BigInteger, nullable=False),
        Column("lon", Float(53), nullable=False),
        Column("lat", Float(53), nullable=False),
        Column("altitude", Float(53), comment="m"),
        Column("accuracy", Float(53), comment="m"),
        Column("speed", Float(53), comment="m/s"),
        PrimaryKeyConstraint("device_id", "time_ms", "lon", "lat"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dirty_days",
        Column("stage", String, nullable=False, comment="segments or tracks"),
        Column("user_id", Integer, ForeignKey("users.user_id"), nullable=False),
        Column("day", Integer, nullable=False),
        Column("version", BigInteger, nullable=False, comment="token of the transaction that touched the day last"),
        PrimaryKeyConstraint("stage", "user_id", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settings_used",
        Column("settings_id", String, primary_key=True),
        Column("settings", String, nullable=False, comment="JSON"),
    )
    op.create_table(
        "segments",
        Column("device_id", Integer, ForeignKey("devices.device_id"), nullable=False),
        Column("day", Integer, nullable=False),
        Column("number", Integer, nullable=False),
        Column("first_ms", BigInteger, nullable=False),
        Column("first_lon", Float(53), nullable=False),
        Column("first_lat", Float(53), nullable=False),
        Column("last_ms", BigInteger, nullable=False),
        Column("last_lon", Float(53), nullable=False),
        Column("last_lat", Float(53), nullable=False),
        Column("points", Integer, nullable=False),
        Column("length_mm", BigInteger, nullable=False),
        *(Column(f"{what}_cm", BigInteger) for what in ("gain", "loss", "min", "max", "first", "last")),
        Column("settings_id", String, ForeignKey("settings_used.settings_id"), nullable=False),
        Column("digest", BigInteger, nullable=False),
        Column("path", LargeBinary, nullable=False, comment="float64 pairs lon, lat"),
        PrimaryKeyConstraint("device_id", "day", "number"),
    )
    op.create_table(
        "tracks",
        Column("track_id", String, primary_key=True),
        Column("device_id", Integer, ForeignKey("devices.device_id"), nullable=False),
        Column("started_ms", BigInteger, nullable=False),
        Column("ended_ms", BigInteger, nullable=False),
        Column("start_lon", Float(53), nullable=False),
        Column("start_lat", Float(53), nullable=False),
        Column("end_lon", Float(53), nullable=False),
        Column("end_lat", Float(53), nullable=False),
        Column("points", Integer, nullable=False),
        Column("length_mm", BigInteger, nullable=False),
        Column("duration_ms", BigInteger, nullable=False),
        Column("avg_speed_kmh", Float(53), nullable=False),
        *(Column(f"elevation_{what}_cm", BigInteger) for what in ("gain", "loss", "min", "max")),
        Column("break_reason", String, nullable=False),
        Column("settings_id", String, ForeignKey("settings_used.settings_id"), nullable=False),
        Column("digest", BigInteger, nullable=False),
        Column("path", LargeBinary, nullable=False, comment="WKB, lon/lat"),
        Index("tracks_by_start", "device_id", "started_ms"),
    )
