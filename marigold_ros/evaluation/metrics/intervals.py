# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Confidence intervals of a mean over frames, whose neighbours are correlated.

Frames are modelled as a slow part, whose correlation falls by a constant factor per frame, plus
noise of single frames. Few frames do not show how strong the correlation is, so the interval
averages over all correlations, each weighted by its likelihood (Zellner and Tiao 1964). The
likelihood is that of the spectrum (Whittle 1953), as for long memory in Müller and Watson 2016.
Where correlation cannot be excluded the interval is wide, and where it would say nothing there is
none. A slow part that lasts as long as the recording, under noise of its own size, is not seen.
"""

from functools import lru_cache
import math

import numpy as np

LEVEL = 0.95
# With fewer frames their correlation cannot be estimated.
FEWEST = 8
# Independent frames that nearly always have an interval, and what is said without one.
ENOUGH, TOO_FEW = 20, 'too few independent frames to tell'
# Correlations of neighbours from 0 to 0.99, or 1 - 1/n, evenly by the logarithm of their reach.
_REACHES = 48
# Shares of noise in the variance, and their prior weights. More weight on noise covers slow errors
# under noise more often, but widens intervals of 40 independent frames beyond 1.5 of Student's.
_NOISE, _WEIGHTS = (0.0, 0.25, 0.5, 0.75), (0.985, 0.005, 0.005, 0.005)
# Width of an interval, relative to that for one more frame, above which there is none. A lower
# limit selects recordings that look independent by chance: intervals given then cover less often.
_WIDEST = 2.25
# Depth errors are skewed, which Student's t does not expect: by so much intervals are wider.
_SKEWED = 1.05
# Of more frames means of neighbours count, so that memory does not grow with the recording.
_MOST = 2000


def mean_interval(values: np.ndarray, length: int | None = None) -> tuple[float, float]:
    """
    Estimate the interval that contains the true mean in 95 of 100 recordings.

    Parameters
    ----------
    values : (n,) float
        One value a frame, in order of time; values that are not finite are left out.
    length : int or None
        1 where frames are known to be independent, as images of different scenes are; more for
        correlation that reaches at least so far: the interval is then no narrower than that of
        the means of such blocks.

    Returns
    -------
    (float, float)
        NaN twice for fewer than 8 frames, and where too few of them are independent to tell;
        no width where all are equal.

    """
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if len(x) < FEWEST:
        return math.nan, math.nan
    centre, spread = float(x.mean()), float(np.ptp(x))
    if spread == 0.0:
        return centre, centre
    x = (x - centre) / spread
    half = 0.0 if length == 1 else _of_correlated(x)
    if length is not None:
        half = float(np.maximum(half, _of_blocks(x, length)))
    return centre - half * spread, centre + half * spread


def _of_blocks(x: np.ndarray, length: int) -> float:
    """Return half of Student's interval of the means of blocks; NaN without two blocks."""
    from scipy.special import stdtrit

    blocks = len(x) // length
    if blocks < 2:
        return math.nan
    factor = float(stdtrit(blocks - 1, 0.5 * (1.0 + LEVEL)))
    return factor * float(_block_means(x, blocks).std(ddof=1)) / math.sqrt(blocks)


def _block_means(x: np.ndarray, blocks: int) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(x, blocks)])


def _of_correlated(x: np.ndarray) -> float:
    """Return half of the interval of values (n,) with mean 0; NaN where it would say nothing."""
    from scipy.special import stdtr, stdtrit

    if len(x) > _MOST:
        x = _block_means(x, _MOST)
    free = len(x) - 1
    weight, deviation = _posterior(x)
    single = float(stdtrit(free, 0.5 * (1.0 + LEVEL)))
    low, high = 0.0, _WIDEST * single * float(x.std(ddof=1))

    def outside(half: float) -> float:
        return 2.0 * float(weight @ stdtr(free, -half / deviation))

    if outside(high) > 1.0 - LEVEL:
        return math.nan
    for _ in range(40):
        half = 0.5 * (low + high)
        low, high = (half, high) if outside(half) > 1.0 - LEVEL else (low, half)
    return _SKEWED * high


def _posterior(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by model its weight after values (n,), and the standard deviation of their mean."""
    from scipy.fft import dct

    free = len(x) - 1
    inverse, weight, variance = _models(len(x))
    # Cosines are nearly independent for any correlation, with the spectrum as their variances.
    power = inverse @ dct(x - x.mean(), norm='ortho')[1:] ** 2 / free
    weight = weight - 0.5 * free * np.log(power)
    weight = np.exp(weight - weight.max())
    return weight / weight.sum(), np.sqrt(variance * power)


def error_of_mean(values: np.ndarray) -> float:
    """
    Estimate the standard error of the mean of frames (n,) in order of time.

    The harmonic mean of the variances by all correlations, weighted by their likelihood: where
    :func:`mean_interval` has no interval it still says how many frames would have one. NaN for
    fewer than 8 frames.
    """
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if len(x) < FEWEST:
        return math.nan
    if np.ptp(x) == 0.0:
        return 0.0
    weight, deviation = _posterior(_block_means(x, _MOST) if len(x) > _MOST else x)
    return float((weight @ deviation**-2.0) ** -0.5)


@lru_cache(maxsize=16)
def _models(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by model one over its spectrum (m, n - 1), log weight and variance of the mean."""
    gap = np.geomspace(1.0, min(0.01, 1.0 / n), _REACHES)
    r = np.repeat(1.0 - gap, len(_NOISE))
    noise = np.tile(_NOISE, _REACHES)
    cosine = np.cos(np.pi * np.arange(1, n) / n)
    slow = (1 - r**2)[:, None] / ((1 + r**2)[:, None] - 2 * r[:, None] * cosine)
    inverse = 1.0 / (noise[:, None] + (1 - noise)[:, None] * slow)
    prior = np.log(np.tile(_WEIGHTS, _REACHES))
    frames = (1 + r) / (1 - r) - 2 * r * (1 - r**n) / (n * (1 - r) ** 2)
    variance = (noise + (1 - noise) * frames) / n
    return inverse, prior + 0.5 * np.log(inverse).sum(axis=1), variance
