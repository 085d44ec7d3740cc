"""Trackgen's asset graph for Dagster, and its command line. The work itself is done by `trackgen_core`."""

import os

# Read by Dagster whenever events are stored, in each process that loads our storage or definitions and in those that it
# starts; without it, a partition costs a transaction.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")
