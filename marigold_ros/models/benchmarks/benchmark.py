# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The benchmark of one model: what a frame costs, and how that compares with the reference.

Claims of speed come with the difference of the answers, measured in the same process on the same
weights: a fast wrong answer is no result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.models.benchmarks.comparing import alternate, difference
from marigold_ros.models.benchmarks.measuring import (
    load_average,
    matmul_peak,
    milliseconds,
    PeakMemory,
    percentiles,
    stage_times,
    work_of_frame,
)
from marigold_ros.models.benchmarks.random_networks import require_memory, working_memory
from marigold_ros.models.benchmarks.reference_pipeline import ReferencePipeline
from marigold_ros.models.benchmarks.variants import PLAIN, Variant
from marigold_ros.models.benchmarks.workload import benchmark_image, runs_for, Work
from marigold_ros.models.marigold.checkpoint import Networks
from marigold_ros.models.marigold.engine import MarigoldModel
from marigold_ros.models.runtime.devices import choose_device, choose_dtype
import numpy as np
import torch


class Benchmark:
    """
    One checkpoint on one device.

    Parameters
    ----------
    networks : callable
        Gives the networks anew, each time with the same weights.
    work : Work
        The frame.
    device, dtype : str
        As in ``load_model``.
    tell : callable
        Takes one line before each thing that takes long.
    runtime : RuntimeConfig or None
        How the networks run.

    """

    def __init__(
        self,
        networks: Callable[[], Networks],
        work: Work,
        device: str = 'auto',
        dtype: str = 'auto',
        tell: Callable[[str], Any] = lambda text: None,
        runtime: RuntimeConfig | None = None,
    ) -> None:
        self._networks, self._tell = networks, tell
        self._runtime = RuntimeConfig() if runtime is None else runtime
        self.device = choose_device(device)
        tell('loading')
        start = perf_counter()
        loaded = networks()
        self.dtype = choose_dtype(dtype, self.device, loaded.parameters)
        self.model = self._prepare(loaded, self.dtype, self._runtime)
        self.load_s = perf_counter() - start
        facts = self.model.facts
        # The reference knows Marigold's rule of the longest edge only: both get the same.
        edge = facts.processing_resolution if work.resolution is None else work.resolution
        if work.resolution is None and facts.processing_pixels:
            edge = max(self.model.processing_size(work.height, work.width, None))
        self.work = replace(
            work,
            steps=facts.denoising_steps if work.steps is None else work.steps,
            members=facts.ensemble_size if work.members is None else work.members,
            resolution=edge,
        )
        self.size = self.model.processing_size(work.height, work.width, edge)
        self.rgb = benchmark_image(work.height, work.width)

    def describe(self) -> dict[str, Any]:
        """Tell what is measured, and on what."""
        processor = (
            torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else 'cpu'
        )
        return {
            'model': self.model.description,
            'work': {**asdict(self.work), 'processing_size': list(self.size)},
            'device': {
                'name': processor,
                'threads': torch.get_num_threads(),
                'load_average': load_average(),
                'torch': torch.__version__,
            },
        }

    def measure(self, runs: int, progress: Callable[[int, str], Any]) -> dict[str, Any]:
        """
        Measure our own model.

        Parameters
        ----------
        runs : int
            Frames; 0 is as many as fit into 15 s, at least 3.
        progress : callable
            Takes a number of frames and what they are; returns a bar with ``update()``.

        Returns
        -------
        dict
            ``stages_ms`` (percentiles of each), ``frame_ms``, ``fps``, ``runs``, ``first_ms``,
            ``load_s``, ``peak_memory_bytes``, ``tflop`` of each network and the frame,
            ``tflop_per_s``, ``matmul_peak_tflop_per_s``, ``share_of_peak``.

        """
        self._tell('first frame')
        memory = PeakMemory(self.device)
        first = milliseconds(self._predict, self.device)
        runs = runs or runs_for(milliseconds(self._predict, self.device))
        steps, members = self._numbers()
        with progress(runs, 'frames') as bar:
            times = stage_times(self.model, self._predict, steps, runs, bar.update)
        peak_memory = memory.read()
        self._tell('matmul peak')
        peak = matmul_peak(self.device, self.dtype)
        work = work_of_frame(self.model, self.size, steps, members)
        frame = percentiles(times.pop('frame'))
        rate = work['frame'] / (1e-3 * frame['p50'])
        return {
            'runs': runs,
            'load_s': self.load_s,
            'first_ms': first,
            'stages_ms': {name: percentiles(values) for name, values in times.items()},
            'frame_ms': frame,
            'fps': 1e3 / frame['p50'],
            'peak_memory_bytes': peak_memory,
            'peak_memory_is_of_the_whole_process': memory.whole_process,
            'tflop': {name: value / 1e12 for name, value in work.items()},
            'tflop_per_s': rate / 1e12,
            'matmul_peak_tflop_per_s': peak / 1e12,
            'share_of_peak': rate / peak,
        }

    def against_reference(
        self, rounds: int, progress: Callable[[int, str], Any]
    ) -> dict[str, Any]:
        """
        Run diffusers' pipeline in float32 and ours in turns.

        Parameters
        ----------
        rounds : int
            Each times ours, then the reference.
        progress : callable
            As in :meth:`measure`.

        Returns
        -------
        dict
            ``ours_ms`` and ``reference_ms`` by round, ``ratios``, ``ratio`` (their median), and
            ``difference_exact`` and ``difference_default`` (max and mean) of the answers with and
            without ``reference_exact``.

        """
        model = self._plain_model()
        reference = ReferencePipeline(model)
        if self.device.type == 'cpu':
            needed = working_memory(model.autoencoder, self.size)
            require_memory(needed, "a frame of the reference's")
        work = self.work
        steps, members = self._numbers()
        assert work.resolution is not None

        def theirs() -> np.ndarray:
            return reference.predict(self.rgb, steps, members, work.resolution or 0, work.seed)

        self._tell('first frame of the reference')
        expected = theirs()
        ours = self._predict()
        exact = self._exact()
        with progress(rounds, 'rounds against diffusers') as bar:
            compared = alternate(self._predict, theirs, self.device, rounds, bar.update)
        return {
            'reference': 'diffusers.MarigoldDepthPipeline',
            'reference_dtype': str(reference.dtype).removeprefix('torch.'),
            'ours_ms': compared.first_ms,
            'reference_ms': compared.second_ms,
            'ratios': compared.ratios,
            'ratio': compared.ratio,
            'difference_exact': difference(exact, expected),
            'difference_default': difference(ours, expected),
        }

    def measure_variants(
        self, chosen: Sequence[Variant], rounds: int, progress: Callable[[int, str], Any]
    ) -> list[dict[str, Any]]:
        """
        Run each of several variants and the plain float32 model in turns.

        Parameters
        ----------
        chosen : sequence of Variant
            What to measure.
        rounds : int
            Each times the variant, then the plain model.
        progress : callable
            As in :meth:`measure`.

        Returns
        -------
        list of dict
            ``variant``, ``ready_s`` (to load and to answer the first frame, compiling included),
            ``variant_ms`` and ``plain_ms`` by round, ``ratio``, and ``difference`` (max and mean)
            of the answers.

        """
        plain = self._plain_model()
        expected = self._run(plain)
        rows = []
        with progress(len(chosen) * rounds, 'rounds of variants') as bar:
            for one in chosen:
                self._tell(f'variant {one.name}')
                rows.append(self._measure_lever(one, plain, expected, rounds, bar.update))
        return rows

    def _measure_lever(
        self,
        one: Variant,
        plain: MarigoldModel,
        expected: np.ndarray,
        rounds: int,
        tick: Callable[[], Any],
    ) -> dict[str, Any]:
        self._require_second_copy()
        start = perf_counter()
        model = self._load(choose_dtype(one.dtype, self.device), one.runtime)
        got = self._run(model)
        ready_s = perf_counter() - start
        self._run(model)  # CUDA graphs are recorded in the second frame
        compared = alternate(
            lambda: self._run(model), lambda: self._run(plain), self.device, rounds, tick
        )
        return {
            'variant': one.name,
            'ready_s': ready_s,
            'variant_ms': compared.first_ms,
            'plain_ms': compared.second_ms,
            'ratio': compared.ratio,
            'difference': difference(got, expected),
        }

    def _plain_model(self) -> MarigoldModel:
        """Give the checkpoint in float32 as it is; loaded once more where ours runs otherwise."""
        if self.dtype == torch.float32 and self._runtime == PLAIN:
            return self.model
        self._tell('loading the float32 model to compare with')
        self._require_second_copy()
        return self._load(torch.float32, PLAIN)

    def _require_second_copy(self) -> None:
        if self.device.type == 'cpu':
            require_memory(4 * self.model.parameters, 'a second copy of the weights')

    def _load(self, dtype: torch.dtype, runtime: RuntimeConfig) -> MarigoldModel:
        return self._prepare(self._networks(), dtype, runtime)

    def _prepare(
        self, networks: Networks, dtype: torch.dtype, runtime: RuntimeConfig
    ) -> MarigoldModel:
        model = MarigoldModel(networks, self.device, dtype, runtime)
        model.warm_up()
        return model

    def _predict(self) -> np.ndarray:
        return self._run(self.model)

    def _run(self, model: MarigoldModel, **more: Any) -> np.ndarray:
        work = self.work
        return model.predict(
            self.rgb, work.steps, work.members, work.resolution, work.seed, **more
        ).relative

    def _exact(self) -> np.ndarray:
        """Our answer as the reference gives it: its merge amplifies the last bit of a batch."""
        one = EngineConfig(batch_limit=1)
        return self._run(self.model, reference_exact=True, options=one)

    def _numbers(self) -> tuple[int, int]:
        assert self.work.steps is not None
        assert self.work.members is not None
        return self.work.steps, self.work.members
