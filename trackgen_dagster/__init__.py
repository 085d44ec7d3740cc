"""Trackgen's asset graph for Dagster, and its command line. The work itself is done by `trackgen_core`."""
