# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The share of initial weights that adapted networks keep, by recordings and by synthetic scenes.

Recordings alone would choose weights that have forgotten everything else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from marigold_ros.models.protocol import DepthModel
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.data.pairs import Pair
from marigold_training.fusion.run import FusionRun
from marigold_training.fusion.validation import mean_ratio, score, STOP
from marigold_training.objectives.fusion import TrainedFusion
from marigold_training.objectives.trained_networks import TrainedModel, TrainedModule
from marigold_training.run.average import blend
from marigold_training.run.recipe import Chain, Run, TrainingRun
from marigold_training.run.score import best_affine, is_scorable, known_depth, render_scenes
from marigold_training.run.validation import SELECTS
import numpy as np

SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7)
# On synthetic scenes the error may grow by this share.
FORGOTTEN = 0.09
SCENES, FIRST_SCENE = 24, 500  # held out, and none of those that validation scores


def choose_kept(on_stop: Mapping[float, float], on_scenes: Mapping[float, float]) -> float:
    """
    Return the share of initial weights with the least error on the images to stop on.

    Both map shares to errors and contain 1, the initial weights. The error on synthetic scenes may
    be larger than theirs by ``FORGOTTEN`` at most.
    """
    limit = (1 + FORGOTTEN) * on_scenes[1.0]
    allowed = [share for share in on_stop if on_scenes[share] <= limit]
    return min(allowed, key=lambda share: (on_stop[share], share))


def blended(trained: TrainedModule, start: TrainedModule) -> Iterator[float]:
    """Yield shares, 1 last, with the trained module's weights blended to each in turn."""
    own = {name: value.clone() for name, value in trained.state_dict().items()}
    first = start.state_dict()
    for share in (*SHARES, 1.0):
        trained.load_state_dict(blend(own, first, share))
        yield share
    trained.load_state_dict(own)


def choose_of_relative(run: TrainingRun) -> None:
    """Choose the share for a relative model, and set it for the export."""
    scenes = [pair for _, pair in render_scenes(make_sample, SCENES, FIRST_SCENE)]
    stop = [pair for _, pair in run.validation.sets[SELECTS]]

    def errors(chain: TrainedModel) -> tuple[float, float]:
        model = run.engine(chain)
        return mean_error(model, stop, model.space == 'metric'), mean_error(model, scenes)

    choose(run, errors)


def choose_of_fusion(run: FusionRun) -> None:
    """Choose the share for a fusion network, and set it for the export."""
    device, caches = run.accelerator.device, run.validation.caches
    scenes = next(key for key in caches if key != STOP)

    def errors(chain: TrainedFusion) -> tuple[float, float]:
        network = chain.fusion.eval()
        on_stop = mean_ratio(score(network, caches[STOP], device))
        return on_stop, mean_ratio(score(network, caches[scenes], device))

    choose(run, errors)


def choose(run: Run[Chain], errors: Callable[[Chain], tuple[float, float]]) -> None:
    """Choose the share by the errors of networks on the images to stop on, and on scenes."""
    chain = run.finished()
    found = {share: errors(chain) for share in blended(chain, run.first_chain())}
    on_stop, on_scenes = ({k: pair[i] for k, pair in found.items()} for i in (0, 1))
    run.kept = choose_kept(on_stop, on_scenes)


def mean_error(model: DepthModel, pairs: Iterable[Pair], own: bool = False) -> float:
    """
    Return the mean AbsRel of a model, each image's best fit or in its ``own`` metres.

    Images of too few known pixels do not count, as in validation: a few points fit any map.
    """
    errors = []
    for pair in filter(is_scorable, pairs):
        truth, valid = known_depth(pair)
        prediction = model.predict(pair.rgb)
        depth = prediction.relative
        if not own:
            depth = best_affine(depth, truth, valid, prediction.space)
        errors.append(np.mean(np.abs(depth[valid] - truth[valid]) / truth[valid]))
    return float(np.mean(errors))
