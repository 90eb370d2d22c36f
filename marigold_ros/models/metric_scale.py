# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The metric scale of a model that was adapted to one robot: depth in metres without LiDAR.

``metric_scale.json`` beside a checkpoint of any family holds it; imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
import json
import math
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.frame import Prediction, UNBOUNDED
from marigold_ros.models.locate import read_json
from marigold_ros.spaces import from_metres, RELATIVE_SPACES, to_metres
import numpy as np

FILE = 'metric_scale.json'
_STEP = 1e-4  # of a map's values, to carry deviations over


@dataclass(frozen=True)
class MetricScale:
    """
    Converts a relative map of one camera, on one mount, to metres.

    Parameters
    ----------
    space : {'depth', 'log', 'disparity'}
        Of the map.
    scale, shift : float
        Depth is ``inverse(scale * relative + shift)``, as for an alignment.
    focal_share : float
        Focal length of the camera over the root of its image's area, both in pixels: binned and
        resized images have the same.
    abs_rel : float
        Mean relative error on images that were not fitted, without LiDAR.
    max_depth : float, metres
        Limit of depth.

    """

    space: str
    scale: float
    shift: float
    focal_share: float
    abs_rel: float
    max_depth: float

    def metres(self, relative: np.ndarray) -> np.ndarray:
        """Convert relative values of any shape to metres, at most ``max_depth``."""
        value = self.scale * np.asarray(relative, np.float64) + self.shift
        # Limits the argument of the exponential too.
        limits = from_metres(np.array([1e-3, self.max_depth]), self.space)
        value = np.clip(value, *sorted(limits))
        return to_metres(value, self.space, self.max_depth).astype(np.float32)

    def apply(self, prediction: Prediction) -> Prediction:
        """Convert a prediction to space ``metric``; others than of the own space stay."""
        if prediction.space != self.space:
            return prediction
        metric, spread = self.metres(prediction.relative), prediction.spread
        if spread is not None:
            slope = np.abs(self.metres(prediction.relative + _STEP) - metric) / _STEP
            spread = (slope * spread).astype(np.float32)
        return replace(
            prediction,
            relative=metric,
            spread=spread,
            space='metric',
            censored=UNBOUNDED,
            relative_error=self.abs_rel,
            focal_share=self.focal_share,
        )

    def text(self) -> str:
        """Return how far it can be trusted, in words."""
        return (
            f'metric without LiDAR for the camera and mount that it was adapted to: mean relative '
            f'error {self.abs_rel:.1%} on images of the recording that were not trained on'
        )


def write_metric_scale(folder: Path, scale: MetricScale) -> None:
    """Write the scale into a checkpoint's folder."""
    (folder / FILE).write_text(json.dumps(asdict(scale), indent=2) + '\n', encoding='utf-8')


def read_metric_scale(folder: Path) -> MetricScale | None:
    """Read the scale of a checkpoint, None without; raises CheckpointError if a value is wrong."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        scale = MetricScale(**read_json(path))
        numbers = {name: value for name, value in asdict(scale).items() if name != 'space'}
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        positive = ('scale', 'focal_share', 'max_depth')
        wrong += [name for name in positive if not numbers[name] > 0]
        wrong += [] if scale.abs_rel >= 0 else ['abs_rel']
    except TypeError as error:
        raise CheckpointError(f'{path} has other values than it must ({error}); restore it') from (
            error
        )
    if scale.space not in RELATIVE_SPACES:
        wrong.append('space')
    if wrong:
        raise CheckpointError(
            f'{path} has {wrong[0]} {getattr(scale, wrong[0])!r}; restore the file, or remove it '
            'for a relative model'
        )
    return MetricScale(scale.space, *(float(value) for value in numbers.values()))


class MetricModel:
    """
    A relative depth model of any family with its metric scale: a model of space ``metric``.

    Other members are those of the relative model.
    """

    space = 'metric'
    device: Any
    reset: Callable[[], None]

    def __init__(self, model: Any, scale: MetricScale) -> None:
        self.model, self.scale = model, scale

    @property
    def description(self) -> dict[str, Any]:
        """Facts of the relative model, and the scale."""
        facts = dict(self.model.description)
        notes = [*facts.get('notes', ()), self.scale.text()]
        return {**facts, 'space': self.space, 'metric_scale': asdict(self.scale), 'notes': notes}

    def predict(self, *arguments: Any, **settings: Any) -> Prediction:
        """Predict metric depth of one image; see the relative model."""
        return self.scale.apply(self.model.predict(*arguments, **settings))

    def predict_together(
        self, rgbs: Sequence[np.ndarray], streams: Sequence[Any], *options: Any
    ) -> list[Prediction]:
        """Predict metric depth of several images of one size at once; see the relative model."""
        found = self.model.predict_together(rgbs, streams, *options)
        return [self.scale.apply(one) for one in found]

    def as_network(self, height: int, width: int) -> Any:
        """Refuse: the scale is no part of a network."""
        raise ConfigurationError(
            f'{self.description["name"]} has a metric scale, which its network does not hold; '
            f'export a copy of the folder without {FILE}'
        )

    def __getattr__(self, name: str) -> Any:
        """Return other members of the relative model."""
        return getattr(self.model, name)
