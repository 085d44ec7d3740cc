"""Lengths of links by `link_lengths_mm` and by pyproj: they must be equal to the millimetre, wherever on Earth.

Random links of all sizes, and those where a series would go wrong: at the poles, over the antimeridian, along meridians
and the equator, near a half millimetre, nearly antipodal.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tests.core import test_geodesy
from trackgen_core.geodesy import GEOD, pair_lengths_mm, round_half_away


def main() -> None:
    """Print how many links differ, and how fast both are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=100_000_000)
    options = parser.parse_args()
    kinds = test_geodesy.KINDS
    rounds = max(1, options.links // (len(kinds) * test_geodesy.LINKS))
    rng = np.random.default_rng(1)
    seconds = dict.fromkeys(kinds, (0.0, 0.0))
    differ = 0
    for _ in range(rounds):
        for kind, make in kinds.items():
            ends = make(rng)
            started = time.perf_counter()
            ours = pair_lengths_mm(*ends)
            middle = time.perf_counter()
            theirs = np.asarray(GEOD.inv(*ends, return_back_azimuth=False)[2])
            ended = time.perf_counter()
            differ += np.count_nonzero(ours != round_half_away(theirs * 1_000))
            one, other = seconds[kind]
            seconds[kind] = one + middle - started, other + ended - middle
    links = rounds * len(kinds) * test_geodesy.LINKS
    print(f"{links:,} links, {differ:,} differ")
    for kind, (one, other) in seconds.items():
        print(f"{kind:28} {rounds * test_geodesy.LINKS / one:12,.0f} links/s, {other / one:5.1f} times pyproj")


if __name__ == "__main__":
    main()
