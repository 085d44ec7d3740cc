"""Digests: hashes that are added, so that the digest of a whole is the sum of those of its parts."""

from __future__ import annotations

import numpy as np

from trackgen_core.geodesy import IntArray


def mixed(*words: IntArray) -> IntArray:
    """Return a hash of each row of some columns (the finaliser of SplitMix64, Steele et al. 2014, for each word).

    Parameters
    ----------
    words : (n,) int arrays
        The columns.

    Returns
    -------
    (n,) int array
    """
    mixed = np.zeros(len(words[0]), np.uint64)
    shifted = np.empty_like(mixed)
    for word in words:
        mixed ^= word.view(np.uint64)
        mixed += np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed ^= np.right_shift(mixed, np.uint64(shift), out=shifted)
            mixed *= np.uint64(factor)
        mixed ^= np.right_shift(mixed, np.uint64(31), out=shifted)
    return mixed.view(np.int64)


def bits(values: np.ndarray) -> IntArray:
    """Return the bits of floats, the same for every NaN."""
    floats = np.where(np.isnan(values), np.nan, values.astype(np.float64))
    bits: IntArray = floats.view(np.int64)
    return bits
