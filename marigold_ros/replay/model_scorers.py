# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The models of an evaluation, each with its own pipelines and scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from marigold_ros.bags.frames import BagFrame
from marigold_ros.evaluation.scoring.scorer import Finish, Scorer
from marigold_ros.frame import FrameResult
from marigold_ros.models.protocol import DepthModel
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.replay_plan import ReplayOptions


@dataclass(frozen=True)
class Models:
    """The evaluated model, and the compared models by name."""

    main: Any
    compared: Mapping[str, Any] = field(default_factory=dict)


def empty_scorer(
    options: ReplayOptions, baselines: bool = True, finish: Finish | None = None
) -> Scorer:
    """Return a scorer without frames; without ``finish`` it only adds up others."""
    split = options.fit_every, options.held_out
    return Scorer(
        options.pipeline.alignment, finish, *split, oracle=options.oracle, baselines=baselines
    )


class ModelScorer:
    """
    Scores one model on the frames of one bag.

    Parameters
    ----------
    model : object
        As ``load_model`` returns it.
    options : ReplayOptions
        Settings of pipeline and scores.
    baselines : bool
        Score baselines, which are the same for all models.

    """

    def __init__(self, model: DepthModel, options: ReplayOptions, baselines: bool = True) -> None:
        self.pipeline = FramePipeline(model, options.pipeline)
        # A pipeline of its own: fits to few lines must not be held over into the published depth.
        self._heldout = FramePipeline(model, options.pipeline)
        self.scorer = empty_scorer(options, baselines, self._heldout.finish)
        self.checkpoint = dict(model.description)

    def reset(self) -> None:
        """Forget the frames so far, as between images that are no sequence."""
        self.pipeline.reset()
        self._heldout.reset()

    def score(self, item: BagFrame) -> tuple[dict[str, Any], FrameResult]:
        """
        Process and score a frame.

        Returns
        -------
        row, result : dict, FrameResult
            The frame's scores, and the pipeline's result.

        Raises
        ------
        InputError, CalibrationError
            If the frame is unusable; it is not scored then.

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
