# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What points add to a model that takes them: its errors with them over those without."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.protocols.oracle import oracle_depth
from marigold_ros.frame import Frame, SparseDepth, SparseInput
from marigold_ros.pipeline import FramePipeline
from marigold_training.run.score import known_depth, LabelledPair, LIMITS, MIN_KNOWN
import numpy as np

# Points drawn at random, or scan lines over the lower 70 % of the image, every third pixel.
PATTERNS = {'50 points': (50, 0), '500 points': (500, 0), '16 rows': (0, 16)}
HORIZON, COLUMNS = 0.3, 3
Rows = dict[str, dict[str, float]]


def score_prompted(model: Any, pairs: Iterable[LabelledPair]) -> Rows:
    """
    Score a model with points and without, by mean AbsRel at the pixels beside them.

    Returns for each pattern, of the map alone (without points fitted to them by least squares) and
    of published depth: ``with``, ``without``, ``ratio``. Raises ConfigurationError if the model
    takes no points.
    """
    if not hasattr(model, 'predict_prompted'):
        raise ConfigurationError(
            '--points is for models that take points, a Prompt Depth Anything or a Marigold with '
            'prompt/; give one by --model'
        )
    plain = SimpleNamespace(predict=model.predict, description=model.description)
    found: dict[str, list[list[float]]] = {}
    for _, pair in pairs:
        truth, valid = known_depth(pair)
        if valid.sum() < MIN_KNOWN:
            continue
        alone = model.predict(pair.rgb)
        for name, pattern in PATTERNS.items():
            sparse, beside = draw(truth, valid, *pattern)
            seen = alone.relative[sparse.v, sparse.u]
            fitted = oracle_depth(alone.relative, sparse.z, alone.space, LIMITS, seen)
            prompted = model.predict_prompted(pair.rgb, sparse).relative
            frame = Frame(pair.rgb, inputs=[SparseInput('pointcloud', sparse=sparse)])
            published = [FramePipeline(one).process(frame).metric for one in (model, plain)]
            for kind, depths in (('map', (prompted, fitted)), ('published', published)):
                errors = [
                    np.nan if one is None else np.nanmean(np.abs(one / truth - 1.0)[beside])
                    for one in depths
                ]
                found.setdefault(f'{kind}, {name}', []).append(errors)
    return {name: _row(*np.mean(errors, axis=0)) for name, errors in found.items()}


def draw(
    truth: np.ndarray, valid: np.ndarray, count: int, rows: int
) -> tuple[SparseDepth, np.ndarray]:
    """Draw points of true depth (H, W), and return them with the known pixels beside them."""
    allowed = valid.copy()
    if rows:
        height = len(truth)
        lines = np.linspace(HORIZON * height, height - 1, rows).astype(int)
        allowed &= np.isin(np.arange(height), lines)[:, None]
        allowed[:, np.arange(truth.shape[1]) % COLUMNS > 0] = False
    v, u = np.nonzero(allowed)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(v), min(count or len(v), len(v)), replace=False)
    beside = valid.copy()
    beside[v[chosen], u[chosen]] = False
    z = truth[v[chosen], u[chosen]].astype(np.float32)
    return SparseDepth(u[chosen], v[chosen], z), beside


def _row(with_points: float, without: float) -> dict[str, float]:
    ratio = float(with_points / without)
    return {'with': float(with_points), 'without': float(without), 'ratio': ratio}
