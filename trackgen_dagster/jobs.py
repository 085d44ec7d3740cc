"""Jobs: what a run consists of."""

import logging
import sys

import dagster as dg

from trackgen_core.dawarich.comparison import listed_days
from trackgen_core.dawarich.everyone import for_each
from trackgen_core.dawarich.mirror import mirror, mirrored_users
from trackgen_core.dawarich.writing import write_user
from trackgen_core.home import home
from trackgen_core.inbox import import_all
from trackgen_dagster.assets import segments, tracks
from trackgen_dagster.environment import log_level, number
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.sessions import clean

generate = dg.define_asset_job(
    "generate",
    selection=dg.AssetSelection.assets(segments, tracks),
    description="Segments and tracks of a range of days, with their checks, in one run. The sensor `incremental`, the "
    "schedule `daily` and `trackgen generate` start it.",
)


@dg.logger(
    config_schema={"log_level": dg.Field(str, is_required=False, default_value="")},
    description="What a run writes to the console, from TRACKGEN_LOG_LEVEL on. Its event log has all of it.",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that writes to stderr from a level on."""
    level = context.logger_config["log_level"] or log_level("warning")
    logger = logging.Logger("dagster", level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger


@dg.op(description="Import what lies in the inbox, and move it to `done` or `failed` with a report beside it.")
def import_inbox(context: dg.OpExecutionContext, database: TrackStore) -> None:
    """Import what lies in the inbox."""
    reports = import_all(database.store, home(), progress=lambda report: context.log.info(report.line))
    context.add_output_metadata({"files": len(reports), "failed": sum(report.failed for report in reports)})


@dg.job(description="Import the files of the drop folder. The sensor `drop_folder` starts it.")
def inbox() -> None:
    """Import the files of the drop folder."""
    import_inbox()


@dg.op(description="Write tracks for the users that are on and have no work listed, then mirror points of all.")
def keep_up_with_dawarich(context: dg.OpExecutionContext, database: TrackStore) -> None:
    """Write tracks into Dawarich, then mirror its points: of who sends some all the time, work is listed then."""
    store = database.store
    enabled = [user for user in mirrored_users(store) if user.state == "on"]
    ready = [user for user in enabled if not listed_days(store, user)]
    done, errors = for_each(ready, lambda there, user: write_user(store, there, user), to="write")
    for report in done:
        context.log.info(f"{report.user}: {report.new} tracks new, {report.changed} changed, {report.removed} gone")
    reports = mirror(store)
    for one in reports:
        if one.error and one.state == "off":  # who is refused stays so, and is no reason to fail every five minutes
            context.log.warning(one.error)
        elif one.error:
            errors.append(one.error)
    context.add_output_metadata(
        {
            "tracks_written": sum(one.new + one.changed + one.adopted + one.removed for one in done),
            "users_with_work_left": len(enabled) - len(ready),
            "points_changed": sum(one.new + one.gone for one in reports),
            "users_refused": sum(one.error is not None for one in reports),
            "users_not_written": len(errors),
        }
    )
    if errors:
        raise dg.Failure("; ".join(errors))


@dg.job(
    description="Tracks into Dawarich's database, and its points out of it. The schedule `mirroring` starts it, where "
    "TRACKGEN_DAWARICH_URL is set; between two runs, the sensor `incremental` has tracks made."
)
def dawarich() -> None:
    """Keep up with Dawarich."""
    keep_up_with_dawarich()


@dg.op(description="Forget sessions that ended longer ago than the retention period; tracks stay.")
def forget_old_sessions(context: dg.OpExecutionContext) -> None:
    """Forget old sessions."""
    context.add_output_metadata(clean(context.instance, days=number("TRACKGEN_RETENTION_DAYS")).as_json())


@dg.job(
    description="Forget old sessions, so that Dagster's own storage does not grow for ever. The schedule `cleaning` "
    "starts it."
)
def cleanup() -> None:
    """Forget old sessions."""
    forget_old_sessions()
