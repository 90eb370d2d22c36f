# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The models of an evaluation, each with its own pipelines and scores, on the same frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from marigold_ros.bags.frames import BagFrame
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.evaluation.scoring.scorer import Finish, Scorer
from marigold_ros.frame import FrameResult, Prediction
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.bag_part import BagPart, ReplayOptions
import numpy as np

_SHARED = ('heldout_abs_rel', 'truth_abs_rel', 'oracle_abs_rel', 'raw_abs_rel', 'total_ms')


@dataclass(frozen=True)
class Models:
    """The model that is evaluated, and those that it is compared with, by name."""

    main: Any
    against: Mapping[str, Any] = field(default_factory=dict)


def empty_scores(
    options: ReplayOptions, main: bool = True, finish: Finish | None = None
) -> Scorer:
    """Scores without frames; without ``finish`` to add those of bags to."""
    split = options.fit_every, options.held_out
    return Scorer(options.config.alignment, finish, *split, oracle=options.oracle, baselines=main)


class Player:
    """
    One model on the frames of one bag.

    Baselines, which are the same for all models, belong to the ``main`` one.
    """

    def __init__(self, model: Any, options: ReplayOptions, main: bool = True) -> None:
        self.pipeline = FramePipeline(model, options.config)
        # A pipeline of its own: fits to few lines must not be held over into the published depth.
        self._heldout = FramePipeline(model, options.config)
        self.scorer = empty_scores(options, main, self._heldout.finish)
        self.checkpoint = dict(model.description)

    def reset(self) -> None:
        """Forget the frames so far."""
        self.pipeline.reset()
        self._heldout.reset()

    def predict_image(self, rgb: np.ndarray) -> Prediction:
        """Run the model on an image that is not scored."""
        found: Prediction = self.pipeline.model.predict(rgb, **self.pipeline.config.prediction)
        return found

    def play(self, item: BagFrame) -> tuple[dict[str, Any], FrameResult]:
        """
        Predict and score a frame; gives its row and what the pipeline made of it.

        Raises
        ------
        InputError, CalibrationError
            If the frame is unusable; nothing is scored then.

        """
        assert item.frame is not None
        prediction = self.pipeline.predict(item.frame)
        result = self.pipeline.finish(item.frame, prediction)
        start = perf_counter()
        row = self.scorer.add(
            item.frame,
            prediction,
            result.metric,
            truth=item.truth,
            ring=item.ring,
            alignment=result.alignment,
            scan_stamp_ns=item.scan_stamp_ns,
            timings_ms=result.timings_ms,
            sparse=result.sparse,
        )
        self.scorer.time('score', 1e3 * (perf_counter() - start))
        return row, result


class Players:
    """
    The main model and its rivals on the frames of one bag.

    Baselines do not see the image: where images are ``corrupted`` they are left out.
    """

    def __init__(self, models: Models, options: ReplayOptions, corrupted: bool = False) -> None:
        self.main = Player(models.main, options, main=not corrupted)
        self.rivals = {
            name: Player(model, options, main=False) for name, model in models.against.items()
        }

    def part(self) -> BagPart:
        """Make what will hold the scores."""
        return BagPart(
            self.main.scorer,
            checkpoint=self.main.checkpoint,
            rivals={name: player.scorer for name, player in self.rivals.items()},
            rival_checkpoints={name: player.checkpoint for name, player in self.rivals.items()},
        )

    def reset(self) -> None:
        """Forget the frames so far, as between images that are no sequence."""
        for player in (self.main, *self.rivals.values()):
            player.reset()

    def play(self, item: BagFrame, read_ms: float) -> FrameResult:
        """Run all models on a frame; gives and raises as :meth:`Player.play` of the main one."""
        row, result = self.main.play(item)
        self.main.scorer.time('read', read_ms)
        for name, player in self.rivals.items():
            try:
                other, _ = player.play(item)
            except (InputError, CalibrationError) as error:
                row[f'{name}:reason'] = str(error)
                continue
            row.update({f'{name}:{key}': other[key] for key in _SHARED if key in other})
        return result


def rival_results(total: BagPart) -> dict[str, Any]:
    """Give ``models`` of results.json: each rival's figures, and which checkpoint it is."""
    found = {}
    for name, scorer in total.rivals.items():
        checkpoint = {k: v for k, v in total.rival_checkpoints[name].items() if k != 'path'}
        found[name] = {**scorer.results(), 'checkpoint': checkpoint}
        del found[name]['baselines']
    return found
