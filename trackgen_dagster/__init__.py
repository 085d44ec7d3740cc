"""Trackgen's asset graph for Dagster, and its command line. The work itself is done by `trackgen_core`."""

import warnings

# Backfill policies and partition mappings that allow for missing neighbours are in beta; both are tested here.
warnings.filterwarnings("ignore", message=r"Parameter `(allow_nonexistent_upstream_partitions|backfill_policy)`")
