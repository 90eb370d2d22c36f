# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run a depth estimator of transformers: its own image processor, one pass, no ensemble.

Prompt Depth Anything takes the points of the frame into its network. Relative networks state
disparity without bounds. It is divided by one constant of the checkpoint, never by the range of a
frame, so that a fit holds from frame to frame.
"""

from collections.abc import Mapping, Sequence
from functools import partial
import math
from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import brief, CheckpointError, ConfigurationError, InputError
from marigold_ros.frame import Prediction, SparseDepth, UNBOUNDED
from marigold_ros.models.depth_anything.kinds import CONFIG, OWN, PROMPTED, space_of
from marigold_ros.models.depth_anything.processors import PROCESSORS, TorchProcessor
from marigold_ros.models.depth_anything.prompt import prompt_depth
from marigold_ros.models.image_sizes import common_size, size_by_edge
from marigold_ros.models.last_answer import LastAnswer
from marigold_ros.models.locate import read_json, require_weights
from marigold_ros.models.one_pass import OnePassModel
from marigold_ros.models.onnx_export import ImageNetwork
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.runtime.compiled_networks import choose_compiler, CompiledNetwork
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import compile_network
from marigold_ros.models.transformers_networks import (
    load_depth_network,
    load_processor,
    processor_values,
    REMEDY,
    values_of,
)
from marigold_ros.models.weights import count_parameters, to_load_again
from marigold_ros.spaces import SPACES
import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import DepthEstimatorOutput

# The share of pixels of a test image whose disparity lies below 1.
_BELOW_ONE = 0.95
_TEST_SIZE = (384, 512)
# What processors call the size and its rules, where it may be chosen.
_SIZE_RULES = ('size', 'keep_aspect_ratio', 'ensure_multiple_of')


class DepthEstimator(OnePassModel):
    """
    A depth estimator of transformers on its device, ready to predict.

    ``folder`` holds config.json, preprocessor_config.json and safetensors, and perhaps
    marigold_ros.json with ``space`` and ``disparity_unit``; the rest is as in ``load_model``.
    Raises CheckpointError if a file is missing or damaged, needs code of its own, or has no
    weights, and ConfigurationError if the runtime cannot run it.
    """

    family = 'depth_anything'

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: str = 'auto',
        runtime: RuntimeConfig | None = None,
    ) -> None:
        super().__init__(folder, device, runtime)
        config, own = read_json(folder / CONFIG), _own_settings(folder)
        self._files = require_weights(folder, REMEDY)
        self.space = space_of(config, own)
        if self.space not in SPACES:
            raise CheckpointError(
                f"{folder / OWN} has space '{self.space}'; choose one of {', '.join(SPACES)}"
            )
        self.kind = config['model_type']
        # The node asks in every frame.
        self._sizes: dict[tuple[int, int, int | None], tuple[int, int]] = {}
        self.flip = _flips(folder, self.kind, own)
        kind = PROCESSORS.get(self.kind)
        self.processor: Any = kind(processor_values(folder)) if kind else load_processor(folder)
        self.processing_size(*_TEST_SIZE, None)  # a damaged one would fail at each frame
        self._load_again = to_load_again(folder, partial(load_depth_network, folder))
        network = load_depth_network(folder)
        self.parameters = count_parameters(network)
        # One choice for all images of a call, by numbers: no trace shows it.
        self._chooses_head = len(getattr(network.config, 'bin_configurations', ())) > 1
        # Without a backbone of its own transformers' DPT takes its tokens for a square.
        self._is_square = hasattr(network, 'dpt')
        if self._chooses_head and self.runtime.converted:
            raise ConfigurationError(
                f'runtime.backend is {self.runtime.backend}, and only torch runs {self.name}, '
                'which chooses one of its heads by the image; set it to torch'
            )
        unit = own.get('disparity_unit', None if self.space == 'disparity' else 1.0)
        self.unit = float(self._measured_unit(network) if unit is None else unit)
        self.arithmetic = choose_dtype(dtype, device, self.parameters, self.runtime.backend)
        self._network = self._prepared(network)

    def _weight_files(self) -> list[Path]:
        return self._files

    def _facts(self) -> dict[str, Any]:
        return {'disparity_unit': self.unit, 'unbounded': True}

    @torch.inference_mode()
    def _run(self, rgbs: Sequence[np.ndarray], options: PredictOptions) -> list[Prediction]:
        return [self._prediction(found, rgbs[0].shape) for found in self._found(rgbs, options)]

    def _found(
        self, rgbs: Sequence[np.ndarray], options: PredictOptions, *prompts: torch.Tensor
    ) -> list[dict[str, Any]]:
        """Return what the processor makes of the network's answer, for each image."""
        shape = padded = rgbs[0].shape[0], rgbs[0].shape[1]
        wanted = self._size_rules(shape, options.processing_resolution)
        if not getattr(self.processor, 'do_resize', True):  # padded at most
            padded = self.processing_size(*shape, None)
        above, left = ((new - side) // 2 for new, side in zip(padded, shape, strict=True))
        with values_of(self.folder):
            inputs = [
                one.to(self.device, self.arithmetic)
                for one in (self._pixels(rgbs, wanted), *prompts)
            ]
            count = 1 if self._chooses_head else len(rgbs)
            parts = zip(*(one.split(count) for one in inputs), strict=True)
            # Resizing would lose bits in half precision.
            outputs = _outputs(torch.cat([self._answer(*part) for part in parts]).float())
            finish = self.processor.post_process_depth_estimation
            found: list[dict[str, Any]] = finish(outputs, [padded] * len(rgbs))
        for one in found:  # transformers leaves the padding, and drops sides of one pixel
            depth = one['predicted_depth'].reshape(padded)
            one['predicted_depth'] = depth[above:, left:][: shape[0], : shape[1]]
        return found

    def _answer(self, pixels: torch.Tensor, *prompts: torch.Tensor) -> torch.Tensor:
        """Return planes (B, n, PH, PW), see :class:`_Estimator`."""
        # First, as `flip` copies: CUDA graphs write an answer over the last one.
        mirrored = self._network(pixels.flip(-1)).flip(-1) if self.flip else None
        answer: torch.Tensor = self._network(pixels, *prompts)
        return answer if mirrored is None else (answer + mirrored) / 2.0

    def _prediction(self, found: dict[str, Any], shape: tuple[int, ...]) -> Prediction:
        depth, focal = found['predicted_depth'].cpu().numpy(), found.get('focal_length', math.nan)
        share = float(focal) / math.sqrt(shape[0] * shape[1])
        relative = depth / np.float32(self.unit)
        return Prediction(relative, None, self.space, UNBOUNDED, focal_share=share)

    def as_network(self, height: int, width: int) -> ImageNetwork:
        """Return one module for images of a size, with the work of the processor."""
        if self._chooses_head:
            raise ConfigurationError(
                f'{self.name} chooses one of its heads by the image, which no exported '
                'network does; run it by torch'
            )
        size = self.processing_size(height, width, None)
        if isinstance(self.processor, TorchProcessor):
            return ImageNetwork(size, [self._network], self._whole)
        scale = 1.0 if self.processor.do_rescale else 255.0
        mean, deviation = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
        if getattr(self.processor, 'do_normalize', None):
            mean = torch.tensor(self.processor.image_mean)[:, None, None]
            deviation = torch.tensor(self.processor.image_std)[:, None, None]

        def run(image: torch.Tensor) -> torch.Tensor:
            return self._network((image * scale - mean) / deviation) / self.unit

        return ImageNetwork(size, [self._network], run)

    def _whole(self, image: torch.Tensor) -> torch.Tensor:
        """Predict (1, 1, H, W) of an image (1, 3, H, W) in [0, 1]."""
        size = int(image.shape[-2]), int(image.shape[-1])
        outputs = _outputs(self._answer(self.processor.prepare(image)))
        found = self.processor.post_process_depth_estimation(outputs, [size])
        return found[0]['predicted_depth'][None, None] / self.unit

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        asked = height, width, processing_resolution
        if asked not in self._sizes:
            wanted = self._size_rules((height, width), processing_resolution)
            with values_of(self.folder):
                pixels = self._pixels([np.zeros((height, width, 3), np.uint8)], wanted)
            self._sizes[asked] = int(pixels.shape[-2]), int(pixels.shape[-1])
        return self._sizes[asked]

    def _pixels(self, rgbs: Sequence[np.ndarray], wanted: Mapping[str, Any]) -> torch.Tensor:
        """Return images (B, 3, PH, PW) as the network sees them; InputError if too thin."""
        try:
            found = self.processor(images=list(rgbs), return_tensors='pt', **wanted)
        except Exception as error:  # transformers and torch raise many kinds
            if not self._sizes:  # it has never taken an image: damaged
                raise
            height, width = rgbs[0].shape[:2]
            raise InputError(
                f'an image of {width}x{height} has no size at the network of {self.name} '
                f'({brief(error)}); crop it to a less extreme shape',
                cause='shape',
            ) from error
        return found['pixel_values']

    def _prepared(self, network: nn.Module) -> Any:
        """Move the network to its device and prepare it as the runtime settings say."""
        estimator = _Estimator(network)
        if self.runtime.converted:
            precision, self.arithmetic = self.arithmetic, torch.float32
            compiler = choose_compiler(self.device, precision, self.runtime)
            compiled, load_again = CompiledNetwork(estimator, compiler), self._load_again
            compiled.free_if_large(lambda: _Estimator(load_again()).eval())
            return compiled
        estimator.to(self.device, self.arithmetic)
        compile_network(estimator, self.device, self.runtime)
        return estimator

    @torch.inference_mode()
    def _measured_unit(self, network: nn.Module) -> float:
        """Return the disparity that most of a test image stays below, in float32 on the CPU."""
        y, x = np.mgrid[0 : 1 : _TEST_SIZE[0] * 1j, 0 : 1 : _TEST_SIZE[1] * 1j]
        image = np.stack([255 * y, 127 + 100 * np.sin(9 * x), 255 * (1 - y)], axis=-1)
        with values_of(self.folder):
            pixels = self._pixels([image.astype(np.uint8)], {})
            unit = float(network(pixel_values=pixels).predicted_depth.quantile(_BELOW_ONE))
        if not unit > 0.0:
            raise CheckpointError(
                f'{self.folder} predicts disparity of {unit:g} on a test image, which must be '
                'positive; the weights are damaged, or of another architecture'
            )
        return unit

    def check_options(self, options: PredictOptions) -> None:
        """Refuse a size, too, where the processor has no choice of it; see the base."""
        super().check_options(options)
        self._check_size(options.processing_resolution)

    def _check_size(self, longest: int | None) -> None:
        resized = getattr(self.processor, 'do_resize', False) and not self._is_square
        sized = resized and all(hasattr(self.processor, name) for name in _SIZE_RULES)
        if longest is not None and not sized:
            raise ConfigurationError(
                f'processing_resolution is {longest}, and {self.name} has no choice of size; '
                'leave it at -1'
            )

    def _size_rules(self, shape: tuple[int, ...], longest: int | None) -> dict[str, Any]:
        """Return the processor's arguments for the longest side in pixels."""
        if longest is None:
            return {}
        size_by_edge(shape[0], shape[1], longest)  # refuses what is no resolution
        self._check_size(longest)
        multiple = self.processor.ensure_multiple_of or 1
        scale = longest / max(shape) if longest else 1.0
        height, width = (max(1, round(side * scale / multiple)) * multiple for side in shape)
        return {'size': {'height': height, 'width': width}, 'keep_aspect_ratio': False}


class PromptedEstimator(DepthEstimator):
    """Prompt Depth Anything: points of the frame, as a small depth image, enter the network."""

    def _prepared(self, network: Any) -> Any:
        if self.runtime.plain:
            network.backbone = _Backbone(network.backbone)
        return super()._prepared(network)

    def predict_prompted(
        self, rgb: np.ndarray, sparse: SparseDepth, *numbers: Any, **settings: Any
    ) -> Prediction:
        """Predict metric depth with points; see :class:`FullDepthModel`."""
        options = PredictOptions(*numbers, **settings)
        common_size([rgb])
        self.check_options(options)
        prompt = torch.from_numpy(prompt_depth(sparse, (rgb.shape[0], rgb.shape[1])))[None, None]
        # The network's own division by their range would lose bits in half precision.
        low, high = float(prompt.min()), float(prompt.max())
        with torch.inference_mode():
            found = self._found([rgb], options, (prompt - low) / (high - low))
        share = found[0]['predicted_depth'].cpu().numpy()
        return Prediction(low + (high - low) * share, None, 'metric', UNBOUNDED)


class _Backbone(nn.Module):
    """A backbone, which points do not enter, that runs once for all predictions of a frame."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self._last = LastAnswer()

    def forward_with_filtered_kwargs(self, pixel_values: torch.Tensor, **choices: Any) -> Any:
        run = partial(self.backbone.forward_with_filtered_kwargs, **choices)
        if torch.jit.is_tracing():  # an export, which must hold the network
            return run(pixel_values)
        return self._last(run, pixel_values)


class _Estimator(nn.Module):
    """
    A network that answers in one tensor, which can be traced.

    Its planes (B, n, PH, PW) are the depth and, where there is one, the field of view, everywhere
    the same.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, pixel_values: torch.Tensor, prompt: torch.Tensor | None = None
    ) -> torch.Tensor:
        inputs = {} if prompt is None else {'prompt_depth': prompt}
        outputs = self.network(pixel_values=pixel_values, **inputs)
        depth: torch.Tensor = outputs.predicted_depth[:, None]
        view = outputs.get('field_of_view')
        if view is None:
            return depth
        return torch.cat([depth, view[:, None, None, None].expand_as(depth)], 1)


def load(folder: Path, *settings: Any) -> DepthEstimator:
    """Load a checkpoint; arguments and errors as of :class:`DepthEstimator`."""
    prompted = read_json(folder / CONFIG)['model_type'] == PROMPTED
    return (PromptedEstimator if prompted else DepthEstimator)(folder, *settings)


def _outputs(answer: torch.Tensor) -> DepthEstimatorOutput:
    """Return planes (B, n, PH, PW) in the form that processors take."""
    outputs = DepthEstimatorOutput(predicted_depth=answer[:, 0])
    if answer.shape[1] > 1:
        outputs['field_of_view'] = answer[:, 1, 0, 0]
    return outputs


def _own_settings(folder: Path) -> dict[str, Any]:
    path = folder / OWN
    own = read_json(path) if path.is_file() else {}
    unit = own.get('disparity_unit', 1.0)
    if not isinstance(unit, (int, float)) or isinstance(unit, bool) or not unit > 0:
        raise CheckpointError(f'{path} has disparity_unit {unit!r}; give a positive number')
    return own


def _flips(folder: Path, kind: str, own: dict[str, Any]) -> bool:
    """Return whether maps are averaged with those of the mirrored image."""
    flip = own.get('flip', False)
    if flip is not False and (flip is not True or kind != 'zoedepth'):
        raise CheckpointError(
            f'{folder / OWN} has flip {flip!r}; only zoedepth takes true, remove it'
        )
    return bool(flip)
