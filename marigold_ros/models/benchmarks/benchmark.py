# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Benchmark one model: the cost of a frame, its runtime variants, and the reference beside it.

Speed is reported with the difference of the answers, measured in the same process on the same
weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
import importlib.util
from operator import truediv
import os
from statistics import median
from time import perf_counter
from typing import Any

from diffusers import MarigoldDepthPipeline
from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.benchmarks.measuring import (
    alternate,
    difference,
    matmul_peak,
    percentiles,
    stage_times,
    work_of_frame,
)
from marigold_ros.models.benchmarks.random_networks import require_memory
from marigold_ros.models.image_sizes import size_by_edge
from marigold_ros.models.marigold.checkpoint import Networks
from marigold_ros.models.marigold.denoiser import start_noise
from marigold_ros.models.marigold.engine import MarigoldModel
from marigold_ros.models.marigold.memory import autoencoder_bytes
from marigold_ros.models.runtime.devices import choose_backend, choose_device, choose_dtype, DTYPES
from marigold_ros.models.runtime.upsampling import exact_upsampling
from marigold_ros.models.runtime.usage import milliseconds, PeakMemory
import numpy as np
import torch

# Time of one measurement where the caller gives no number of frames, and its bounds in frames.
SECONDS = 15.0
FEWEST, MOST = 3, 50
# As diffusers would run them.
PLAIN = RuntimeConfig(backend='torch', channels_last=False)
# Runtime settings by the name of their variant.
NAMED: dict[str, dict[str, Any]] = {
    'channels_last': {'channels_last': True},
    'compile': {'compile': 'auto'},
    'openvino': {'backend': 'openvino'},
    'onnxruntime': {'backend': 'onnxruntime'},
}
ALL = 'all'
Progress = Callable[[int, str], Any]


@dataclass(frozen=True)
class Work:
    """One frame: size of the image and arguments of ``predict``; None is the checkpoint's own."""

    height: int = 480
    width: int = 640
    steps: int | None = None
    members: int | None = None
    resolution: int | None = None
    seed: int = 0


def benchmark_image(height: int, width: int) -> np.ndarray:
    """Draw an image (H, W, 3) uint8 with structure at all scales; always the same."""
    # One image in float64, one cell size of it, and that divided.
    require_memory(3 * 8 * 3 * height * width, f'images of {height}x{width}')
    rng = np.random.default_rng(0)
    image = np.zeros((height, width, 3))
    for cell in (4, 16, 64):
        coarse = rng.random((height // cell + 1, width // cell + 1, 3))
        image += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width] / 3.0
    return (255.0 * image).astype(np.uint8)


@dataclass(frozen=True)
class Variant:
    """A runtime variant: arithmetic and runtime settings, under names joined by «+»."""

    name: str
    dtype: str
    runtime: RuntimeConfig


def variant(name: str) -> Variant:
    """Parse a name such as ``bfloat16+channels_last``; an unknown part is a ConfigurationError."""
    dtype, runtime = 'float32', PLAIN
    for part in name.split('+'):
        if part in DTYPES:
            dtype = part
        elif part in NAMED:
            runtime = replace(runtime, **NAMED[part])
        else:
            known = ', '.join((*NAMED, *DTYPES))
            raise ConfigurationError(
                f"variant '{name}' has '{part}'; join any of {known} by +, or use {ALL}"
            )
    return Variant(name, dtype, runtime)


def variants(names: list[str], device: torch.device) -> list[Variant]:
    """Parse several names; ``all`` is each by itself, then what combines on the device."""
    half = 'float16' if device.type == 'cuda' else 'bfloat16'
    together = f'{half}+channels_last'
    everything = ['channels_last', half, 'compile', together, f'{together}+compile']
    if device.type == 'cpu' and importlib.util.find_spec('openvino'):
        everything += ['openvino', f'{half}+openvino']
    if device.type == 'cpu' and importlib.util.find_spec('onnxruntime'):
        everything += ['onnxruntime']
    chosen = [one for name in names for one in (everything if name == ALL else [name])]
    return [variant(name) for name in dict.fromkeys(chosen)]


class ReferencePipeline:
    """
    Diffusers' MarigoldDepthPipeline over a model's networks, with its own defaults.

    Networks, schedule, device and arithmetic are taken over unchanged.
    """

    def __init__(self, model: MarigoldModel) -> None:
        self.facts = model.facts
        self.device, self.dtype = model.device, model.dtype
        self._factor = model.factor
        self.pipe = MarigoldDepthPipeline(
            unet=model.unet,
            vae=model.autoencoder,
            scheduler=type(model.scheduler).from_config(model.scheduler.config),
            text_encoder=None,
            tokenizer=None,
            prediction_type='disparity' if self.facts.space == 'disparity' else 'depth',
            scale_invariant=True,
            shift_invariant=True,
            default_denoising_steps=1,
            default_processing_resolution=768,
        )
        self.pipe.empty_text_embedding = model.text
        self.pipe.set_progress_bar_config(disable=True)

    def predict(
        self, rgb: np.ndarray, steps: int, members: int, resolution: int, seed: int = 0
    ) -> np.ndarray:
        """Predict a relative map (H, W) of an image (H, W, 3) uint8, as its users do."""
        if resolution % self._factor:
            raise ConfigurationError(
                f'the processing resolution is {resolution}; diffusers takes multiples of '
                f'{self._factor}: choose one'
            )
        image: np.ndarray | torch.Tensor = rgb
        latents, generator = None, torch.Generator('cpu').manual_seed(seed)
        if self.facts.noise == 'zeros':
            size = size_by_edge(rgb.shape[0], rgb.shape[1], resolution)
            height, width = (-(-side // self._factor) for side in size)
            shape = (self.pipe.vae.config.latent_channels, height, width)
            # With latents given it reads the size of an array as (W, 3).
            image = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)  # (1, 3, H, W)
            latents = start_noise('zeros', members, shape, seed).to(self.device, self.dtype)
        with exact_upsampling(self.pipe.vae):
            output = self.pipe(
                image,
                num_inference_steps=steps,
                ensemble_size=members,
                processing_resolution=resolution,
                output_uncertainty=members > 1,
                latents=latents,
                generator=None if latents is not None else generator,
            )
        return output.prediction[0, :, :, 0]


class Benchmark:
    """
    Measurements of one frame of a checkpoint on one device.

    ``networks`` returns new networks, each time with the same weights; device, dtype and runtime
    are as in ``load_model``; ``tell`` is called with one line before each long step.
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
        runtime = RuntimeConfig() if runtime is None else runtime
        self.device = choose_device(device, runtime.backend)
        self._runtime = choose_backend(runtime, self.device, bool(runtime.warm_up))
        tell('loading')
        start = perf_counter()
        loaded = networks()
        backend = self._runtime.backend
        self.dtype = choose_dtype(dtype, self.device, loaded.parameters, backend)
        self.model = self._prepare(loaded, self.dtype, self._runtime)
        self.load_s = perf_counter() - start
        facts = self.model.facts
        self.steps = facts.denoising_steps if work.steps is None else work.steps
        self.members = facts.ensemble_size if work.members is None else work.members
        # The reference knows Marigold's rule of the longest edge only: both get the same.
        edge = facts.processing_resolution if work.resolution is None else work.resolution
        if work.resolution is None and facts.processing_pixels:
            edge = max(self.model.processing_size(work.height, work.width, None))
        self.edge = edge
        self.work = replace(work, steps=self.steps, members=self.members, resolution=edge)
        self.size = self.model.processing_size(work.height, work.width, edge)
        self.rgb = benchmark_image(work.height, work.width)

    def describe(self) -> dict[str, Any]:
        """Return what is measured, and on which machine."""
        cuda = self.device.type == 'cuda'
        return {
            'model': self.model.description,
            'work': {**asdict(self.work), 'processing_size': list(self.size)},
            'device': {
                'name': torch.cuda.get_device_name(self.device) if cuda else 'cpu',
                'threads': torch.get_num_threads(),
                'load_average': os.getloadavg()[0],
                'torch': torch.__version__,
            },
        }

    def measure(self, runs: int, progress: Progress) -> dict[str, Any]:
        """
        Measure the model by itself over a number of frames; 0 is as many as fit into 15 s.

        ``progress`` takes a number of frames and their name; it returns a bar with ``update()``.
        Returns ``stages_ms`` (percentiles of each), ``frame_ms``, ``fps``, ``runs``, ``first_ms``,
        ``load_s``, ``peak_memory_bytes``, ``tflop`` of each network and the frame,
        ``tflop_per_s``, ``matmul_peak_tflop_per_s``, ``share_of_peak``.
        """
        self._tell('first frame')
        memory = PeakMemory(self.device)
        first = milliseconds(self._predict, self.device)
        if not runs:
            frame_ms = milliseconds(self._predict, self.device)
            runs = int(min(MOST, max(FEWEST, 1e3 * SECONDS / frame_ms)))
        with progress(runs, 'frames') as bar:
            times = stage_times(self.model, self._predict, self.steps, runs, bar.update)
        peak_memory = memory.read()
        self._tell('matmul peak')
        peak = matmul_peak(self.device, self.dtype)
        work = work_of_frame(self.model, self.size, self.steps, self.members)
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

    def against_reference(self, rounds: int, progress: Progress) -> dict[str, Any]:
        """
        Run the model and diffusers' pipeline in float32 in turns, ``rounds`` times each.

        Returns ``ours_ms`` and ``reference_ms`` by round, ``ratios``, ``ratio`` (their median),
        and ``difference_exact`` and ``difference_default`` (max and mean) of the answers with and
        without ``reference_exact``.
        """
        plain = self._plain_model()
        reference = ReferencePipeline(plain)
        if self.device.type == 'cpu':
            needed = autoencoder_bytes(plain.autoencoder, self.size)
            require_memory(needed, "a frame of the reference's")

        def theirs() -> np.ndarray:
            seed = self.work.seed
            return reference.predict(self.rgb, self.steps, self.members, self.edge, seed)

        self._tell('first frame of the reference')
        expected = theirs()
        ours = self._predict()
        # Member by member, as the reference: its merge amplifies the last bits of a batch.
        one = EngineConfig(batch_limit=1)
        exact = self._predict(reference_exact=True, engine=one)
        with progress(rounds, 'rounds against diffusers') as bar:
            own_ms, their_ms = alternate(self._predict, theirs, self.device, rounds, bar.update)
        ratios = list(map(truediv, their_ms, own_ms))
        return {
            'reference': 'diffusers.MarigoldDepthPipeline',
            'reference_dtype': str(reference.dtype).removeprefix('torch.'),
            'ours_ms': own_ms,
            'reference_ms': their_ms,
            'ratios': ratios,
            'ratio': median(ratios),
            'difference_exact': difference(exact, expected),
            'difference_default': difference(ours, expected),
        }

    def measure_variants(
        self, chosen: Sequence[Variant], rounds: int, progress: Progress
    ) -> list[dict[str, Any]]:
        """
        Run each of several variants and the plain float32 model in turns, ``rounds`` times each.

        Returns for each ``variant``, ``ready_s`` (to load and to answer the first frame, compiling
        included), ``variant_ms`` and ``plain_ms`` by round, ``ratio``, and ``difference`` (max and
        mean) of the answers.
        """
        plain = self._plain_model()
        expected = self._predict(plain)
        rows = []
        with progress(len(chosen) * rounds, 'rounds of variants') as bar:
            for one in chosen:
                self._tell(f'variant {one.name}')
                start = perf_counter()
                model = self._load_again(choose_dtype(one.dtype, self.device), one.runtime)
                got = self._predict(model)
                ready_s = perf_counter() - start
                self._predict(model)  # CUDA graphs are recorded in the second frame
                sides = partial(self._predict, model), partial(self._predict, plain)
                own_ms, plain_ms = alternate(*sides, self.device, rounds, bar.update)
                rows.append(
                    {
                        'variant': one.name,
                        'ready_s': ready_s,
                        'variant_ms': own_ms,
                        'plain_ms': plain_ms,
                        'ratio': median(map(truediv, plain_ms, own_ms)),
                        'difference': difference(got, expected),
                    }
                )
        return rows

    def _plain_model(self) -> MarigoldModel:
        """Return the plain float32 model; loaded again if the model runs otherwise."""
        if self.dtype == torch.float32 and self._runtime == PLAIN:
            return self.model
        self._tell('loading the float32 model to compare with')
        return self._load_again(torch.float32, PLAIN)

    def _load_again(self, dtype: torch.dtype, runtime: RuntimeConfig) -> MarigoldModel:
        if self.device.type == 'cpu':
            require_memory(4 * self.model.parameters, 'a second copy of the weights')
        return self._prepare(self._networks(), dtype, runtime)

    def _prepare(
        self, networks: Networks, dtype: torch.dtype, runtime: RuntimeConfig
    ) -> MarigoldModel:
        model = MarigoldModel(networks, self.device, dtype, runtime)
        model.warm_up()
        return model

    def _predict(self, model: MarigoldModel | None = None, **more: Any) -> np.ndarray:
        model = self.model if model is None else model
        numbers = self.steps, self.members, self.edge, self.work.seed
        return model.predict(self.rgb, *numbers, **more).relative
