# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Affine fits of a map to points in its space, and the depth in metres that follows.

The fits ``y = scale * x + shift`` are closed form; up to 40 % of the points may be outliers.

Tukey's biweight locks onto a dense cluster (a wall at one depth) when the model is poor. So its
rounds start from the best of a set of point pairs, which is fixed to keep the fit from jittering.
"""

from dataclasses import dataclass

from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.median import median
from marigold_ros.spaces import from_metres, to_metres
import numpy as np

# Share of a normal distribution within one deviation.
ONE_SIGMA = 0.6827
# Tukey's constant for 95 % efficiency on normal residuals.
_TUKEY = 4.685
# Deviation of a normal distribution over its median absolute deviation.
_DEVIATION_OF_MEDIAN = 1.4826
# 40 % outliers corrupt 64 % of the pairs: of 128 pairs all are corrupted with probability 1e-25.
_PAIRS = 128
_SAMPLE = 512
# More points than these add time and no certainty; all of them are weighted in the end.
_ENOUGH = 4096
# Residual, in expected deviations (2 % of the depth each), beyond which the loss is constant.
_CAP = 25.0


@dataclass(frozen=True)
class RobustFit:
    """An affine fit ``y = scale * x + shift`` with its quality."""

    scale: float
    shift: float
    weight: np.ndarray  # (n,), of the last round, in [0, 1]; 0 marks an outlier
    condition: float  # number of the weighted normal equations
    scale_error: float  # standard error of ``scale``


def fit_target(
    z: np.ndarray, space: str, config: AlignmentConfig, sigma: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return measured depth in a prediction's space, and the sensor's noise there.

    ``sigma`` (n,) metres is added to the noise of the settings, None is none.
    """
    noise = config.noise_floor + config.noise_slope * z
    if sigma is not None:
        noise = np.hypot(noise, sigma)
    if space == 'log':
        noise = noise / z
    elif space == 'disparity':
        noise = noise / z**2
    return from_metres(z, space), noise


def fitted_depth(
    relative: np.ndarray, scale: float, shift: float, space: str, config: AlignmentConfig
) -> np.ndarray:
    """Convert ``scale * relative + shift`` to metres; the result may be invalid depth."""
    kind = relative.dtype.type
    value = relative * kind(scale)
    value += kind(shift)
    return to_metres(value, space, config.max_depth)


def log_ratio(z: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Return the log of measured over fitted depth; NaN where the fit has no valid depth."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.log(z / np.where(fitted > 0, fitted, np.nan))


def fit_by_method(
    x: np.ndarray, y: np.ndarray, sigma: np.ndarray, config: AlignmentConfig
) -> RobustFit:
    """
    Fit ``y`` (n,) on ``x`` with the method of the settings; arguments as :func:`fit_robustly`.

    Method ``median`` fits a scale alone, the median ratio; ``least_squares`` weights by the noise
    only; all others are robust. A shift beyond its limits is put at the nearest, and the scale to
    the minimum of the masked loss there.
    """
    if config.method == 'median':
        positive = np.abs(x) > 1e-6
        scale = float(np.median(y[positive] / x[positive])) if positive.any() else 0.0
        weight = tukey_weights((y - scale * x) / sigma)
        return _with_quality(x, y, sigma, (scale, 0.0), weight)
    rounds = 0 if config.method == 'least_squares' else config.robust_rounds
    fit = fit_robustly(x, y, sigma, rounds)
    limits = (config.shift_min, config.shift_max)
    if limits[0] <= fit.shift <= limits[1]:
        return fit
    affine = minimise_masked_loss(x, y, fit.weight / sigma**2, config.mean_weight, limits)
    return _with_quality(x, y, sigma, affine, fit.weight)


def fit_robustly(x: np.ndarray, y: np.ndarray, sigma: np.ndarray, rounds: int) -> RobustFit:
    """
    Fit scale and shift of at least 3 points (n,) float64 robustly.

    Smaller residuals than the expected deviation ``sigma`` of ``y`` are never outliers; 0 rounds
    of re-weighting is plain weighted least squares. The condition number is infinite where ``x``
    is constant.
    """
    if rounds == 0:
        affine = weighted_line(x, y, 1.0 / sigma**2)
        return _with_quality(x, y, sigma, affine, np.ones(len(x)))
    order = np.lexsort((y, x))
    few = order[np.linspace(0, len(x) - 1, min(len(x), _ENOUGH)).astype(np.intp)]
    some_x, some_y, some_sigma = x[few], y[few], sigma[few]
    affine = _best_pair(some_x, some_y, some_sigma)
    base = 1.0 / some_sigma**2
    for _ in range(rounds):
        weight = base * tukey_weights((some_y - affine[0] * some_x - affine[1]) / some_sigma)
        affine = weighted_line(some_x, some_y, weight)
    weight = tukey_weights((y - affine[0] * x - affine[1]) / sigma)
    return _with_quality(x, y, sigma, affine, weight)


def minimise_masked_loss(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    share: float,
    shift_limits: tuple[float, float],
) -> tuple[float, float]:
    """
    Minimise DiffusionDepth's masked pixel loss over scale and shift in closed form.

    ``sum(w d^2) / T + share * (sum(w d) / T)^2`` with ``d = scale * x + shift - y`` and
    ``T = sum(w)``, all (n,). With a free shift ``sum(w d) = 0`` at the minimum, so the second term
    matters only where the shift is at a limit. The scale is 0 where ``x`` is constant.
    """
    scale, free = weighted_line(x, y, weight)
    # The loss is convex, and so is its minimum over the scale: the nearest allowed shift is best.
    shift = float(np.clip(free, *shift_limits))
    if shift == free:
        return scale, shift
    weight = weight / weight.sum()
    x_mean, y_mean = float(weight @ x), float(weight @ y)
    power = float(weight @ x**2) + share * x_mean**2
    product = float(weight @ (x * (y - shift))) + share * x_mean * (y_mean - shift)
    return (product / power if power > 0 else 0.0), shift


def robust_deviation(residual: np.ndarray) -> float:
    """Return the standard deviation of residuals (n,) about zero by their median size."""
    return _DEVIATION_OF_MEDIAN * median(np.abs(residual))


def tukey_weights(residual: np.ndarray, floor: float = 1.0) -> np.ndarray:
    """Return Tukey's biweight of residuals about zero; their deviation is at least ``floor``."""
    # That is 1 in units of the expected noise: what the sensor explains is no outlier.
    scale = max(robust_deviation(residual), floor)
    return np.square(np.clip(1.0 - np.square(residual / (_TUKEY * scale)), 0.0, None))


def weighted_line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """
    Return scale and shift of ``y = scale * x + shift`` by weighted least squares.

    Of ``x``, ``y`` and ``weight``, all (n,) float. The sums are taken about the means, where the
    equations are best conditioned. Without spread of ``x``, or without any weight, the scale is 0.
    """
    total = weight.sum()
    if total <= 0:
        return 0.0, float(np.median(y))
    x_mean, y_mean = weight @ x / total, weight @ y / total
    spread = weight @ (x - x_mean) ** 2
    scale = float(weight @ ((x - x_mean) * (y - y_mean)) / spread) if spread > 0 else 0.0
    return scale, float(y_mean - scale * x_mean)


def _with_quality(
    x: np.ndarray,
    y: np.ndarray,
    sigma: np.ndarray,
    affine: tuple[float, float],
    weight: np.ndarray,
) -> RobustFit:
    """Add condition number and standard error to scale and shift."""
    total = weight / sigma**2
    normal = np.array([[total @ (x * x), total @ x], [total @ x, total.sum()]])
    low, high = np.linalg.eigvalsh(normal)
    condition = float(high / low) if low > 0 else float('inf')
    kept = max(float(weight.sum()) - 2.0, 1.0)
    noise = float(weight @ ((y - affine[0] * x - affine[1]) / sigma) ** 2) / kept
    information = float(total @ (x - normal[0, 1] / max(normal[1, 1], 1e-300)) ** 2)
    error = float(np.sqrt(noise / information)) if information > 0 else float('inf')
    return RobustFit(affine[0], affine[1], weight, condition, error)


def _best_pair(x: np.ndarray, y: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """Scale and shift through the best of fixed pairs of points, which are sorted by ``x``."""
    n = len(x)
    third = max(1, n // 3)
    draw = np.random.default_rng(0)
    # One end in the lower third and one in the upper: short pairs do not determine the slope.
    low, high = draw.integers(0, third, _PAIRS), draw.integers(n - third, n, _PAIRS)
    apart = x[high] - x[low] > 1e-9
    low, high = low[apart], high[apart]
    if len(low) == 0:
        return 0.0, float(np.median(y))
    slope = (y[high] - y[low]) / (x[high] - x[low])
    # Only growing fits can be right; data that fall regardless turn the slope in the rounds.
    if (slope > 0).any():
        low, slope = low[slope > 0], slope[slope > 0]
    shift = y[low] - slope * x[low]
    sample = np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.intp)
    residual = y[sample] - slope[:, None] * x[sample] - shift[:, None]
    score = np.minimum(np.abs(residual) / sigma[sample], _CAP).mean(axis=1)
    best = int(np.argmin(score))
    return float(slope[best]), float(shift[best])
