"""`python -m trackgen_dagster.cli` is `trackgen`."""

from trackgen_dagster.cli import main

if __name__ == "__main__":
    main(prog_name="trackgen")
