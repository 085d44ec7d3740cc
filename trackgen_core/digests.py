"""Digests: hashes that are added, so that the digest of a whole is the sum of those of its parts."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

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


def text_words(texts: pd.Series) -> IntArray:
    """Return a number for each text, of which there are few: eight bytes of its SHA-256."""
    codes, distinct = pd.factorize(texts)
    words = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True) for text in distinct]
    return np.array(words, np.int64)[codes]
