# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure a model: stage times, peak memory, arithmetic work, matmul peak; time two sides in turns.

Stages are timed where the engine calls them, so that only the engine knows their order. Work is
counted on networks without weights, as the plain maths of the frame, so that figures of several
runtimes compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.models.runtime.usage import milliseconds
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from marigold_ros.models.marigold.engine import MarigoldModel

STAGES = ('upload', 'preprocess', 'encode', 'start', 'denoise', 'decode', 'merge', 'postprocess')
PER_STEP = 'unet_step'  # denoise, divided by the number of steps
# Sides of the square matrices of the peak: large ones fill all cores, and small ones are done
# before another process gets its turn.
MATRIX_SIDES = {'cpu': (768, 2048), 'cuda': (4096, 8192)}
# ms of one side in one round, below which a round holds several frames.
ROUND_MS = 400.0
MOST_FRAMES = 20


@contextmanager
def stopwatch(model: MarigoldModel) -> Iterator[dict[str, float]]:
    """Time the stages of a model while the context lasts; yields ms by stage, summed up."""
    times = dict.fromkeys(STAGES, 0.0)

    def timed(name: str) -> Callable[..., Any]:
        stage = getattr(model, name)

        def call(*arguments: Any, **named: Any) -> Any:
            answers: list[Any] = []
            work = partial(stage, *arguments, **named)
            times[name] += milliseconds(lambda: answers.append(work()), model.device)
            return answers[0]

        return call

    for name in STAGES:
        setattr(model, name, timed(name))  # on the object: its class keeps the plain methods
    try:
        yield times
    finally:
        for name in STAGES:
            delattr(model, name)


def stage_times(
    model: MarigoldModel,
    predict: Callable[[], Any],
    steps: int,
    runs: int,
    tick: Callable[[], Any],
) -> dict[str, list[float]]:
    """
    Time the stages of ``runs`` frames of ``steps`` denoising steps that ``predict`` runs.

    ``tick`` is called after each frame. Returns ms of each run by stage, ``unet_step`` and
    ``frame``; on a GPU the frame is timed by itself, because waiting for each stage would slow it
    down.
    """
    times: dict[str, list[float]] = {name: [] for name in (*STAGES, PER_STEP, 'frame')}
    for _ in range(runs):
        with stopwatch(model) as stages:
            frame = milliseconds(predict, model.device)
        for name, value in stages.items():
            times[name].append(value)
        times[PER_STEP].append(stages['denoise'] / steps)
        if model.device.type == 'cuda':
            frame = milliseconds(predict, model.device)
        times['frame'].append(frame)
        tick()
    return times


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99, interpolated between neighbours."""
    return {f'p{cut}': float(np.percentile(values, cut)) for cut in (50, 95, 99)}


def work_of_frame(
    model: MarigoldModel, size: tuple[int, int], steps: int, members: int
) -> dict[str, float]:
    """
    Count the operations of the networks for one frame of ``size`` (PH, PW), without running it.

    Returns FLOP (two for each multiplication with addition) of ``encode``, ``unet_step`` and
    ``decode`` (of one member each), and ``frame``.
    """
    height, width = (side + -side % model.factor for side in size)
    with torch.device('meta'), torch.no_grad():
        unet, autoencoder = (
            kind.from_config(network.config).eval()
            for kind, network in zip(model.kinds, (model.unet, model.autoencoder), strict=True)
        )
        latent = torch.empty(
            1, autoencoder.config.latent_channels, height // model.factor, width // model.factor
        )
        text = torch.empty(model.text.shape)
        moment = torch.zeros((), dtype=torch.long)
        image = torch.empty(1, 3, height, width)
        encode = _flops(lambda: autoencoder.encode(image))
        step = _flops(lambda: unet(torch.cat([latent, latent], 1), moment, text))
        decode = _flops(lambda: autoencoder.decode(latent))
    frame = encode + members * (steps * step + decode)
    return {'encode': encode, PER_STEP: step, 'decode': decode, 'frame': frame}


def _flops(function: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the best FLOP/s of square matrix products on the device in an arithmetic."""
    sides = MATRIX_SIDES.get(device.type, MATRIX_SIDES['cpu'])
    return max(_matmul_rate(side, device, dtype, seconds / len(sides)) for side in sides)


def _matmul_rate(side: int, device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    left @ right  # the first product may set up kernels
    best, end = float('inf'), perf_counter() + seconds
    while best == float('inf') or perf_counter() < end:
        best = min(best, milliseconds(lambda: left @ right, device))
    return 2.0 * side**3 / (1e-3 * best)


def alternate(
    first: Callable[[], Any],
    second: Callable[[], Any],
    device: torch.device,
    rounds: int,
    tick: Callable[[], Any],
) -> tuple[list[float], list[float]]:
    """
    Time two functions in turns, so that a busy machine affects both alike; both are warm.

    A round takes the median of as many frames as fill 0.4 s, of the first, then of the second;
    ``tick`` is called after each. Returns the ms of each function by round.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, kept in zip((first, second), times, strict=True):
            kept.append(_typical(function, device))
        tick()
    return times


def _typical(function: Callable[[], Any], device: torch.device) -> float:
    frames = [milliseconds(function, device)]
    while sum(frames) < ROUND_MS and len(frames) < MOST_FRAMES:
        frames.append(milliseconds(function, device))
    return median(frames)


def difference(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return the largest and mean absolute difference of two maps of the same shape."""
    distance = np.abs(first.astype(np.float64) - second.astype(np.float64))
    return {'max': float(distance.max()), 'mean': float(distance.mean())}
