# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
How sure a mean difference over the frames of a drive is.

Decision: a circular block bootstrap, because neighbouring frames see nearly the same and are not
independent draws. The blocks are as long as an AR(1) process of the series' own lag-one
correlation wants them (Carlstein 1986, with the factor for overlapping blocks of Künsch 1989).
"""

from __future__ import annotations

import math

import numpy as np

RESAMPLES = 4000
_FEWEST_BLOCKS = 4


def block_length(values: np.ndarray) -> int:
    """Give the frames a block for a series, (n,) finite: 1 to a quarter of the series."""
    n = len(values)
    centred = values - values.mean()
    power = float(centred @ centred)
    rho = float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0
    rho = min(max(rho, 0.0), 0.97)
    wanted = (1.5 * n) ** (1 / 3) * (2 * rho / (1 - rho**2)) ** (2 / 3)
    return max(1, min(math.ceil(wanted), n // _FEWEST_BLOCKS))


def mean_interval(
    values: np.ndarray, rng: np.random.Generator, share: float = 0.95
) -> tuple[float, float]:
    """
    Give the interval of a series' mean.

    Parameters
    ----------
    values : (n,) float, finite
        In order of time.
    rng : numpy Generator
        Draws the blocks.
    share : float
        Of resampled means inside.

    Returns
    -------
    (float, float)
        NaN for fewer than two values, from which nothing can be said.

    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    length = block_length(values)
    sums = np.cumsum(np.concatenate([[0.0], values, values[: length - 1]]))
    of_block = sums[length:] - sums[:n]  # of the block that begins at each frame, round the end
    n_blocks = -(-n // length)
    means = np.empty(RESAMPLES)
    for first in range(0, RESAMPLES, 500):  # bounds the memory for long drives
        starts = rng.integers(0, n, (500, n_blocks))
        means[first : first + 500] = of_block[starts].sum(axis=1) / (n_blocks * length)
    # A sum of few blocks scatters less than the truth: the variance of n_blocks draws around
    # their own mean is too small by 1 - 1/n_blocks.
    centre = float(values.mean())
    means = centre + (means - centre) * math.sqrt(n_blocks / (n_blocks - 1))
    tail = (1.0 - share) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
