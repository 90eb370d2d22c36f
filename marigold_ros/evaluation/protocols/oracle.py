# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The oracle: the model alone, fitted to the truth itself.

It is no bound of published depth, because points correct a poor model.

Published figures of affine-invariant models are made so: scale and shift by least squares over all
truth, the result clipped to the data set's range, scored within the data set's crop. The rules
are those of prs-eth/Marigold. Theirs show the model the cropped image; here an image is predicted
whole, and pixels outside the crop are neither fitted nor scored.
"""

from dataclasses import dataclass, replace
import math

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.choices import OWN
from marigold_ros.evaluation.protocols.truth import all_truth, DepthPairs
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.spaces import from_metres
import numpy as np

_LEAST_DISPARITY = 1e-3


@dataclass(frozen=True)
class PublishedRule:
    """The truth of a data set that counts, and how it is fitted."""

    low: float  # metres; truth counts strictly between low and high,
    high: float  # and predictions are clipped to both
    # (H, W) of the published image: the lowest rows and middle columns of a larger one.
    size: tuple[int, int] | None = None
    # Top, bottom, left, right of the scored part: shares of the sides, or pixels.
    window: tuple[float, float, float, float] | None = None
    # px; the fit sees all rows, and as many columns as if no side were longer: Marigold scales one
    # axis, where its code means both.
    fit_side: int | None = None
    larger: bool = True  # whether the image may be larger than ``size``
    masked: bool = False  # whether all known truth counts: the data set's mask has chosen it

    def valid(self, truth: np.ndarray) -> np.ndarray:
        """
        Select the pixels of a depth image that count, (H, W) bool.

        Raises
        ------
        ConfigurationError
            If the image is too small for the crop, or not of the window's size.

        """
        height, width = self.size or truth.shape
        rows, columns = truth.shape[0] - height, truth.shape[1] - width
        if min(rows, columns) < 0 or (max(rows, columns) > 0 and not self.larger):
            raise ConfigurationError(
                f'the image is {truth.shape[1]}x{truth.shape[0]}; the published crop is for '
                f'{width}x{height}{" or more" if self.larger else ""}: choose another --oracle'
            )
        top, left = rows, columns // 2
        window = self.window or (0.0, 1.0, 0.0, 1.0)
        sides = (height, height, width, width)
        edges = [
            int(edge * side) if edge <= 1 else int(edge)
            for edge, side in zip(window, sides, strict=True)
        ]
        chosen = np.zeros(truth.shape, bool)
        chosen[top + edges[0] : top + edges[1], left + edges[2] : left + edges[3]] = True
        with np.errstate(invalid='ignore'):
            if self.masked:
                return chosen & (truth > 0) & np.isfinite(truth)
            return chosen & (truth > self.low) & (truth < self.high)

    def text(self) -> str:
        """Describe the rule, for the results."""
        crop = ''
        if self.size and self.larger:
            crop = f'the lowest {self.size[0]} rows, {self.size[1]} middle columns; '
        window = f'scored within {self.window} of rows and columns; ' if self.window else ''
        side = f'fitted to all rows and every n-th column, as if of {self.fit_side} px a side; '
        limits = f'{self.low:g} and {self.high:g} m'
        truth = (
            "truth within the data set's mask"
            if self.masked
            else f'truth strictly between {limits}'
        )
        return (
            f'{truth}; {crop}{window}{side if self.fit_side else ""}least squares over all of it, '
            f'result clipped to {limits}, no outlier left out; the model saw the whole image'
        )


_KITTI = (352, 1216)
PUBLISHED = {
    'marigold-kitti': PublishedRule(
        1e-5, 80.0, _KITTI, (0.3324324, 0.91351351, 0.0359477, 0.96405229)
    ),
    'marigold-kitti-garg': PublishedRule(
        1e-5, 80.0, _KITTI, (0.40810811, 0.99189189, 0.03594771, 0.96405229)
    ),
    'marigold-nyu': PublishedRule(1e-3, 10.0, (480, 640), (45, 471, 41, 601), larger=False),
    'marigold-scannet': PublishedRule(1e-3, 10.0),
    'marigold-eth3d': PublishedRule(1e-5, math.inf, fit_side=1024),
    'marigold-diode': PublishedRule(0.6, 350.0, masked=True),
}


def describe_oracle(name: str, limits: tuple[float, float], space: str) -> dict[str, str]:
    """Describe the rule of a run, for the results."""
    own = (
        f'truth from {limits[0]:g} to {limits[1]:g} m, whole image; least squares over all '
        'of it, result clipped to that range'
    )
    text = own if name == OWN else PUBLISHED[name].text()
    where = f"in the space of the prediction, '{space}'"
    if space == 'log' and name != OWN:
        where += ', which no published rule knows'
    return {'rule': name, 'text': f'{text}; fitted {where}'}


def oracle_pairs(
    prediction: Prediction,
    truth: np.ndarray | None,
    lidar: SparseDepth,
    rule: str,
    config: AlignmentConfig,
) -> DepthPairs:
    """
    Return the fitted prediction and all truth that the named rule scores it against.

    Truth is dense (H, W), else every LiDAR point; ``config`` has the range of the rule ``own``.

    Raises
    ------
    ConfigurationError
        If a published crop is not for images of this size.

    """
    relative, space = prediction.relative, prediction.space
    if rule == OWN:
        limits = (config.min_depth, config.max_depth)
        pairs = all_truth(relative, truth, lidar, config)
        fitted = oracle_depth(pairs.predicted, pairs.truth, space, limits)
        return replace(pairs, predicted=fitted)
    if truth is None:
        truth = np.full(relative.shape, np.nan)
        truth[lidar.v, lidar.u] = lidar.z
    return published_pairs(relative, truth, space, PUBLISHED[rule])


def published_pairs(
    relative: np.ndarray, truth: np.ndarray, space: str, rule: PublishedRule
) -> DepthPairs:
    """Fit and crop a prediction (H, W) to truth (H, W) in metres as a publication does."""
    valid = rule.valid(truth)
    seen = np.s_[:, :] if rule.fit_side is None else _thinned(truth.shape, rule.fit_side)
    known = np.where(valid, truth, np.nan)[seen]
    predicted = oracle_depth(relative, known, space, (rule.low, rule.high), relative[seen])
    return DepthPairs(predicted, np.where(valid, np.asarray(truth, np.float64), np.nan))


def oracle_depth(
    relative: np.ndarray,
    truth: np.ndarray,
    space: str,
    limits: tuple[float, float],
    seen: np.ndarray | None = None,
) -> np.ndarray:
    """
    Fit scale and shift to the truth itself.

    Unweighted least squares over all pixels with truth in the prediction's own space, as Marigold
    is evaluated (disparity: positive ones are fitted to 1/truth, the result is at least 1e-3/m).

    Parameters
    ----------
    relative : (...) float
        Prediction.
    truth : (...) float, metres
        Pixels that are not finite or not positive are left out.
    space : {'depth', 'log', 'disparity', 'metric'}
        The prediction's space; ``metric`` is fitted like ``depth``.
    limits : (low, high), metres
        The result is clipped to these.
    seen : (...) float or None
        The part of the prediction that ``truth`` belongs to; None for all of it.

    Returns
    -------
    (...) float64, metres
        In the shape of ``relative``; all NaN if the fit is undetermined (a constant prediction).

    """
    relative = np.asarray(relative, dtype=np.float64)
    x = relative if seen is None else np.asarray(seen, dtype=np.float64)
    g = np.asarray(truth, dtype=np.float64)
    known = np.isfinite(x) & np.isfinite(g) & (g > 0)
    if space == 'disparity':
        known &= x > 0
    affine_fit = _least_squares(x[known], from_metres(g[known], space))
    if affine_fit is None:
        return np.full(relative.shape, np.nan)
    scale, shift = affine_fit
    fitted = scale * relative + shift
    if space == 'log':
        fitted = np.exp(np.clip(fitted, np.log(limits[0]), np.log(limits[1])))
    elif space == 'disparity':
        fitted = 1.0 / np.maximum(fitted, _LEAST_DISPARITY)
    return np.clip(fitted, *limits)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Fit scale and shift about the means, (n,) both; None where ``x`` is constant."""
    if len(x) < 2:
        return None
    x_mean, y_mean = float(x.mean()), float(y.mean())
    x, y = x - x_mean, y - y_mean
    spread = float((x * x).sum())
    if spread <= 1e-18 * len(x) * (1.0 + x_mean**2):
        return None
    scale = float((x * y).sum()) / spread
    return scale, y_mean - scale * x_mean


def _thinned(shape: tuple[int, ...], most: int) -> tuple[slice, np.ndarray | slice]:
    """Index all rows, and the columns that torch's nearest-neighbour scaling picks."""
    width, share = shape[1], min(most / side for side in shape)
    if share >= 1:
        return np.s_[:, :]
    step = np.float32(1.0 / share)
    places = np.floor(np.arange(int(width * share), dtype=np.float32) * step)
    return np.s_[:, places.astype(np.intp)]
