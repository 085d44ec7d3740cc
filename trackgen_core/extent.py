"""Where the history begins: the first month that holds points, or has work left."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from trackgen_core.database import TABLES_OF_POINTS
from trackgen_core.points import MS_PER_DAY
from trackgen_core.schema import devices, dirty_days, points


def first_day(connection: Connection) -> int | None:
    """Return the first day that holds points or has work left, None if there is none.

    Days are counted from 1970-01-01. In PostgreSQL, which keeps points by month, the month is that of the first point,
    and the day is some day with points in it. It costs a look-up for each device, or for each month.
    """
    listed = connection.scalar(select(func.min(dirty_days.c.day)))
    first_ms = _first_ms_by_month(connection) if connection.dialect.name == "postgresql" else _first_ms(connection)
    days = [listed, None if first_ms is None else first_ms // MS_PER_DAY]
    return min((day for day in days if day is not None), default=None)


def _first_ms(connection: Connection) -> int | None:
    of_device = select(func.min(points.c.time_ms)).where(points.c.device_id == devices.c.device_id).scalar_subquery()
    first_ms: int | None = connection.scalar(
        select(func.min(select(of_device.label("first_ms")).subquery().c.first_ms))
    )
    return first_ms


def _first_ms_by_month(connection: Connection) -> int | None:
    found = [connection.exec_driver_sql("SELECT min(time_ms) FROM points_other").scalar()]
    for month in connection.exec_driver_sql(TABLES_OF_POINTS).scalars().all():
        some_ms = connection.exec_driver_sql(f"SELECT time_ms FROM {month} LIMIT 1").scalar()
        if some_ms is not None:
            found.append(some_ms)
            break
    return min((ms for ms in found if ms is not None), default=None)
