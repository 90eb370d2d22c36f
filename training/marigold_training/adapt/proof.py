# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the judged frames prove: differences, their certainty, and what is installed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
import math
from typing import Any

from marigold_ros.evaluation.metrics.intervals import FEWEST, mean_interval
from marigold_ros.models.metric_scale import MetricScale
from marigold_training.adapt.judge import DISPARITY, MEAN_MAP, Scores, Table
import numpy as np

BEFORE, AFTER = 'before', 'after'
# Shorter recordings have too few independent blocks for intervals: most frames must agree.
SHORT_S, AGREEING = 10.0, 5 / 6
BLOCK_S = 1.0
STRIPES = 0.1  # change of the ratio of gradients that is allowed


@dataclass(frozen=True)
class Difference:
    """
    A difference of AbsRel, ``a`` minus ``b``, means over frames: negative where ``a`` is better.

    ``interval`` is at 95 %, NaN for short recordings; ``better_frames`` of ``frames`` are better.
    """

    a: str
    b: str
    difference: float
    interval: tuple[float, float]
    better_frames: int
    frames: int
    better: bool

    @property
    def worse(self) -> bool:
        """Whether ``a`` is shown to be worse, by the interval or, without one, by most frames."""
        if math.isfinite(self.interval[0]):
            return self.interval[0] > 0
        return self.difference > 0 and self.better_frames <= (1 - AGREEING) * self.frames

    def text(self) -> str:
        """Return the difference in words."""
        shown = 'worse than' if self.worse else 'not shown to be better than'
        word = 'better than' if self.better else shown
        how = f'{self.better_frames} of {self.frames} frames better'
        if math.isfinite(self.interval[0]):
            low, high = self.interval
            how = f'95 % interval {low:+.4f} to {high:+.4f}'
        return f'{self.a} is {word} {self.b}: {self.difference:+.4f} ({how})'


def difference(table: Table, a: str, b: str, seconds: float) -> Difference:
    """Compare the AbsRel of two rows over a judged block of so many seconds."""
    errors_a, errors_b = (np.array(table.rows[row]['abs_rel']) for row in (a, b))
    return compare(errors_a, errors_b, a, b, seconds)


def compare(
    errors_a: np.ndarray, errors_b: np.ndarray, a: str, b: str, seconds: float
) -> Difference:
    """Compare two errors (n,), frame by frame in order of time."""
    change = np.asarray(errors_a, float) - np.asarray(errors_b, float)
    change = change[np.isfinite(change)]
    n, better = len(change), int((change < 0).sum())
    mean = float(change.mean()) if n else math.nan
    interval = (math.nan, math.nan)
    if seconds >= SHORT_S and n >= FEWEST:
        second = math.ceil(BLOCK_S * n / max(seconds, 1e-9))
        interval = mean_interval(change, length=min(max(block_length(change), second), n // 2))
        proven = interval[1] < 0
    else:
        proven = n > 0 and mean < 0 and better >= AGREEING * n - 1e-9
    return Difference(a, b, mean, interval, better, n, bool(proven))


def block_length(values: np.ndarray) -> int:
    """
    Choose the number of frames in a block: from the cube root of all frames to a third of them.

    For one value a frame, (n,), in order of time: twice the length of Politis and White (2004,
    corrected 2009), which has the best variance but covers less often.
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


@dataclass(frozen=True)
class MetricProof:
    """
    The judgement of a metric scale.

    ``scale`` is None where it is not shown to be of use, for the ``reasons``; ``table`` has the
    errors without any fit.
    """

    scale: MetricScale | None
    table: Table
    reasons: list[str]


@dataclass(frozen=True)
class Proof:
    """
    The judgement of an adaptation.

    ``maps`` and ``fused`` hold the figures by row; ``reasons`` say in words what is installed, and
    what is not and why.
    """

    model_installed: bool
    fusion_installed: bool
    maps: dict[str, Scores]
    fused: dict[str, dict[str, Scores]]
    differences: list[Difference]
    stripes: Scores
    seconds: float
    frames: int
    reasons: list[str] = field(default_factory=list)
    metric: MetricProof | None = None
    own_metres: bool = False  # of the models, which were judged without any fit

    @property
    def of_maps(self) -> str:
        """What the figures of the maps are, in words."""
        if self.own_metres:
            return 'Metric maps, without LiDAR and not fitted'
        return 'Relative maps, each fitted to all points of its frame'

    @property
    def unfitted(self) -> dict[str, Scores]:
        """Figures without any fit, by row; empty where they were not asked for."""
        return {} if self.metric is None else self.metric.table.means()

    @property
    def scope(self) -> str:
        """How far the figures reach, in words."""
        short = self.seconds < SHORT_S
        return 'one place, one moment' if short else 'one recording or more of one robot'

    def results(self) -> dict[str, Any]:
        """Return the figures for results.json."""
        return {
            'installed': {
                'model': self.model_installed,
                'fusion': self.fusion_installed,
                'metric': self.metric is not None and self.metric.scale is not None,
            },
            'reasons': self.reasons,
            'judged': {'frames': self.frames, 'seconds': self.seconds, 'scope': self.scope},
            'oracle': self.maps,
            'fused': self.fused,
            'unfitted': self.unfitted,
            'differences': [asdict(item) for item in self.differences],
            'stripes': self.stripes,
        }


def judge_model(table: Table, stripes: Scores, seconds: float) -> tuple[bool, list[Difference]]:
    """Decide whether the adapted relative model is better than its base and the mean map."""
    found = [difference(table, AFTER, row, seconds) for row in (BEFORE, MEAN_MAP)]
    striped = abs(stripes.get(AFTER, 1.0) - 1.0) > STRIPES
    return all(item.better for item in found) and not striped, found


def judge_fusion(table: Table, a: str, b: str, seconds: float) -> tuple[bool, list[Difference]]:
    """Decide whether depth with the adapted fusion network is better than with the initial one."""
    found = [difference(table, a, b, seconds), difference(table, a, DISPARITY, seconds)]
    return all(item.better for item in found), found


def reasons(
    installed: bool, network: str, found: Sequence[Difference], striped: float = 1.0
) -> list[str]:
    """Say in words whether a network is installed, and why."""
    if installed:
        head = f'{network}: the adapted one is installed'
    else:
        is_worse = any(item.worse for item in found)
        what = 'worse' if is_worse else 'not shown to be better'
        head = f'{network}: the base is kept, as the adapted one is {what}'
    lines = [f'{head}: ' + '; '.join(item.text() for item in found)]
    if abs(striped - 1.0) > STRIPES:
        lines.append(
            f'{network}: the gradient of its map on trained scan lines over that between them is '
            f"{striped:.2f} times the base's; {1 - STRIPES:g} to {1 + STRIPES:g} is allowed"
        )
    if found and found[0].difference < 0 and not all(item.better for item in found):
        lines.append(f'{network}: it did improve on {found[0].b}; {_advice(found)}')
    return lines


def _advice(found: Sequence[Difference]) -> str:
    """Say which recordings would help a network that improved on its base but is not kept."""
    if any(item.b == MEAN_MAP and not item.better for item in found):
        return (
            'the mean of the training images predicts these as well, because they are alike: '
            'record drives of other places, where the mean fails, and judge on one of them '
            '(adapt FIRST SECOND --judge …)'
        )
    return (
        'that may be chance: record more drives of the same camera, at other places and times, '
        'give all of them, and judge on a whole one (--judge …)'
    )
