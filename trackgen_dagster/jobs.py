"""Jobs: what a run consists of."""

import dagster as dg

from trackgen_core.home import home
from trackgen_core.inbox import import_all
from trackgen_dagster.assets import segments, tracks
from trackgen_dagster.environment import number
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.sessions import clean

generate = dg.define_asset_job(
    "generate",
    selection=dg.AssetSelection.assets(segments, tracks),
    description="Segments and tracks of a range of days, with their checks, in one run. The sensor `incremental`, the "
    "schedule `daily` and `trackgen generate` start it.",
)


@dg.op(description="Import what lies in the inbox, and move it to `done` or `failed` with a report beside it.")
def import_inbox(context: dg.OpExecutionContext, database: TrackStore) -> None:
    """Import what lies in the inbox."""
    reports = import_all(database.store, home(), progress=lambda report: context.log.info(report.line))
    context.add_output_metadata({"files": len(reports), "failed": sum(report.failed for report in reports)})


@dg.job(description="Import the files of the drop folder. The sensor `drop_folder` starts it.")
def inbox() -> None:
    """Import the files of the drop folder."""
    import_inbox()


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
