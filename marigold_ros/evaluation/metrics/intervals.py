# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Confidence intervals of a mean over frames, by a circular moving-block bootstrap.

Neighbouring frames of a drive are correlated, so whole blocks of frames are drawn, wrapped around
the end; their length follows from the data (Politis and White 2004, corrected 2009). Student's
factor for the number of blocks widens the interval, which few blocks would leave too narrow. A
correlation longer than the recording cannot be detected.
"""

import math

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
# With fewer frames their correlation cannot be estimated.
FEWEST = 8
_CHUNK = 1 << 22


def block_length(values: np.ndarray) -> int:
    """
    Choose the number of frames in a block: from the cube root of all frames to a third of them.

    Parameters
    ----------
    values : (n,) float
        One value a frame, in order of time.

    Notes
    -----
    Twice the length of Politis and White, which has the best variance but covers less often.

    """
    x = np.asarray(values, np.float64)
    n = len(x)
    x = x - x.mean()
    power = float(x @ x)
    least, most = math.ceil(n ** (1 / 3)), max(1, n // 3)
    if n < FEWEST or power <= 0.0:
        return min(least, most)
    lags = min(n - 1, math.ceil(math.sqrt(n)) + max(5, math.ceil(math.log10(n))))
    correlation = np.array([x[: n - k] @ x[k:] for k in range(lags + 1)]) / power
    # The flat-top window reaches twice as far as the last significant lag.
    clear = np.abs(correlation[1:]) > 2.0 * math.sqrt(math.log10(n) / n)
    reach = min(2 * (int(np.flatnonzero(clear)[-1]) + 1) if clear.any() else 1, lags)
    k = np.arange(1, reach + 1)
    window = np.clip(2.0 * (1.0 - k / reach), 0.0, 1.0) if reach > 1 else np.zeros(1)
    weighted = window * correlation[1 : reach + 1]
    slope, level = 2.0 * float(weighted @ k), 1.0 + 2.0 * float(weighted.sum())
    if level <= 0.0:
        return min(least, most)
    # 4/3 of the squared spectrum at 0: blocks that wrap around (Politis and White).
    length = 2.0 * (2.0 * slope**2 / (4.0 / 3.0 * level**2) * n) ** (1 / 3)
    return int(np.clip(round(length), least, most))


def block_means(
    values: np.ndarray, rng: np.random.Generator, length: int, resamples: int = RESAMPLES
) -> np.ndarray:
    """
    Draw means (resamples,) of n frames, in blocks of ``length`` neighbours.

    Parameters
    ----------
    values : (n,) float
        One value a frame, in order of time.
    rng : Generator
        Of the draws.

    """
    n = len(values)
    blocks, rest = divmod(n, length)
    # Sums of blocks are differences of one running sum over the frames, twice around.
    running = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values]))])
    whole = running[length : n + length] - running[:n]
    part = running[rest : n + rest] - running[:n]
    means = np.empty(resamples)
    step = max(1, _CHUNK // max(blocks, 1))
    for start in range(0, resamples, step):
        chosen = rng.integers(0, n, (min(step, resamples - start), blocks + 1))
        total = whole[chosen[:, :-1]].sum(axis=1) + part[chosen[:, -1]]
        means[start : start + len(chosen)] = total / n
    return means


def mean_interval(
    values: np.ndarray, seed: int = 0, length: int | None = None
) -> tuple[float, float]:
    """
    Estimate the interval that contains the true mean in 95 of 100 recordings.

    Parameters
    ----------
    values : (n,) float
        One value a frame, in order of time; values that are not finite are left out.
    seed, length : int, int or None
        Of the draws; frames in a block, None for :func:`block_length`.

    Returns
    -------
    (float, float)
        NaN twice for fewer than 8 frames.

    """
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if len(x) < FEWEST:
        return math.nan, math.nan
    from scipy.special import ndtri, stdtrit

    length = block_length(x) if length is None else length
    means = block_means(x, np.random.default_rng(seed), length)
    tails = 0.5 * (1.0 - LEVEL), 0.5 * (1.0 + LEVEL)
    centre, free = float(x.mean()), max(len(x) / length - 1.0, 1.0)
    # Student's factor over the normal one, for the mean of so many blocks.
    widening = float(stdtrit(free, tails[1]) / ndtri(tails[1]) * math.sqrt((free + 1.0) / free))
    low, high = (np.quantile(means, tails) - centre) * widening
    return centre + float(low), centre + float(high)
