# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run a depth estimator of transformers: its own image processor, one pass, no ensemble.

Relative networks state disparity without bounds. It is divided by one constant of the checkpoint,
never by the range of a frame, so that a fit holds from frame to frame.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.frame import Prediction, UNBOUNDED
from marigold_ros.models.depth_anything.kinds import CONFIG, OWN, PROCESSOR, space_of
from marigold_ros.models.locate import read_json, require_file, require_weights
from marigold_ros.models.one_pass import OnePassModel
from marigold_ros.models.onnx_export import ImageNetwork
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.runtime.compiled_networks import compiled_network, CompiledNetwork
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import compile_network
from marigold_ros.models.weights import count_parameters
from marigold_ros.spaces import SPACES
import numpy as np
import torch
from torch import nn
from transformers import AutoImageProcessor, AutoModelForDepthEstimation
from transformers.modeling_outputs import DepthEstimatorOutput

# The share of pixels of a test image whose disparity lies below 1.
_BELOW_ONE = 0.95
_TEST_SIZE = (384, 512)
# What processors call the size and its rules, where it may be chosen.
_SIZE_RULES = ('size', 'keep_aspect_ratio', 'ensure_multiple_of')
_REMEDY = 'give a folder in the layout of transformers (config.json, model.safetensors)'


class DepthEstimator(OnePassModel):
    """
    A depth estimator of transformers on its device, ready to predict.

    Parameters
    ----------
    folder : Path
        Holds config.json, preprocessor_config.json and safetensors, and perhaps marigold_ros.json
        with ``space`` and ``disparity_unit``.
    device, dtype, runtime
        As in ``load_model``.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, needs code of its own, or has no weights.
    ConfigurationError
        If the runtime cannot run it.

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
        self._files = require_weights(folder, _REMEDY)
        self.space = space_of(config, own)
        if self.space not in SPACES:
            raise CheckpointError(
                f"{folder / OWN} has space '{self.space}'; choose one of {', '.join(SPACES)}"
            )
        self.kind = config['model_type']
        # The node asks in every frame.
        self._sizes: dict[tuple[int, int, int | None], tuple[int, int]] = {}
        self.processor = _read(AutoImageProcessor, folder, PROCESSOR)
        network = _read(AutoModelForDepthEstimation, folder, CONFIG, use_safetensors=True)
        network.eval().requires_grad_(False)
        self.parameters = count_parameters(network)
        unit = own.get('disparity_unit', 1.0 if self.space == 'metric' else None)
        self.unit = float(self._measured_unit(network) if unit is None else unit)
        self.arithmetic = choose_dtype(dtype, device, self.parameters, self.runtime.backend)
        self._network = self._prepared(network)

    def _weight_files(self) -> list[Path]:
        return self._files

    def _facts(self) -> dict[str, Any]:
        return {'disparity_unit': self.unit, 'unbounded': True}

    def _run(self, rgbs: Sequence[np.ndarray], options: PredictOptions) -> list[Prediction]:
        shape = rgbs[0].shape[:2]
        wanted = self._size_rules(shape, options.processing_resolution)
        pixels = self.processor(images=list(rgbs), return_tensors='pt', **wanted)['pixel_values']
        outputs = self._network(pixel_values=pixels.to(self.device, self.arithmetic))
        # Half precision would lose bits in the interpolation.
        outputs.predicted_depth = outputs.predicted_depth.float()
        depths = self.processor.post_process_depth_estimation(outputs, [shape] * len(rgbs))
        maps = [found['predicted_depth'].cpu().numpy() for found in depths]
        return [
            Prediction(one / np.float32(self.unit), None, self.space, UNBOUNDED) for one in maps
        ]

    def as_network(self, height: int, width: int) -> ImageNetwork:
        """Return one module for images of a size, with the normalisation of the processor."""
        mean, deviation = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
        if getattr(self.processor, 'do_normalize', None):
            mean = torch.tensor(self.processor.image_mean)[:, None, None]
            deviation = torch.tensor(self.processor.image_std)[:, None, None]

        def run(image: torch.Tensor) -> torch.Tensor:
            pixels = (image - mean) / deviation
            return self._network(pixel_values=pixels).predicted_depth[:, None] / self.unit

        return ImageNetwork(self.processing_size(height, width, None), [self._network], run)

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size at which the network sees an image; None as in predict."""
        asked = height, width, processing_resolution
        if asked not in self._sizes:
            self._sizes[asked] = self._measured_size(*asked)
        return self._sizes[asked]

    def _measured_size(self, height: int, width: int, longest: int | None) -> tuple[int, int]:
        """Return the size of what the processor makes of an empty image."""
        wanted = self._size_rules((height, width), longest)
        image = np.zeros((height, width, 3), np.uint8)
        pixels = self.processor(images=[image], return_tensors='pt', **wanted)['pixel_values']
        return int(pixels.shape[-2]), int(pixels.shape[-1])

    def _prepared(self, network: nn.Module) -> Any:
        """Move the network to its device and prepare it as the runtime settings say."""
        if self.runtime.converted:
            precision, self.arithmetic = self.arithmetic, torch.float32
            return _CompiledEstimator(
                compiled_network(_DepthAlone(network), self.device, precision, self.runtime)
            )
        network.to(self.device, self.arithmetic)
        compile_network(network, self.device, self.runtime)
        return network

    @torch.inference_mode()
    def _measured_unit(self, network: nn.Module) -> float:
        """Return the disparity that most of a test image stays below, in float32 on the CPU."""
        y, x = np.mgrid[0 : 1 : _TEST_SIZE[0] * 1j, 0 : 1 : _TEST_SIZE[1] * 1j]
        image = np.stack([255 * y, 127 + 100 * np.sin(9 * x), 255 * (1 - y)], axis=-1)
        pixels = self.processor(images=[image.astype(np.uint8)], return_tensors='pt')
        unit = float(network(**pixels).predicted_depth.quantile(_BELOW_ONE))
        if not unit > 0.0:
            raise CheckpointError(
                f'{self.folder} predicts disparity of {unit:g} on a test image, which must be '
                'positive; the weights are damaged, or of another architecture'
            )
        return unit

    def _size_rules(self, shape: tuple[int, ...], longest: int | None) -> dict[str, Any]:
        """Return the processor's arguments for the longest side in pixels."""
        if longest is None:
            return {}
        if not all(hasattr(self.processor, name) for name in _SIZE_RULES):
            raise ConfigurationError(
                f'processing_resolution is {longest}, and the image processor of '
                f'{self.folder.name} has no choice of size; leave it at -1'
            )
        multiple = self.processor.ensure_multiple_of or 1
        scale = longest / max(shape) if longest else 1.0
        height, width = (max(1, round(side * scale / multiple)) * multiple for side in shape)
        return {'size': {'height': height, 'width': width}, 'keep_aspect_ratio': False}


class _DepthAlone(nn.Module):
    """A network that returns its depth as a tensor, which can be traced."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=pixel_values).predicted_depth


class _CompiledEstimator:
    """A compiled network with the answer of transformers' own."""

    def __init__(self, network: CompiledNetwork) -> None:
        self._network = network

    def __call__(self, pixel_values: torch.Tensor) -> Any:
        return DepthEstimatorOutput(predicted_depth=self._network(pixel_values))


def _own_settings(folder: Path) -> dict[str, Any]:
    path = folder / OWN
    own = read_json(path) if path.is_file() else {}
    unit = own.get('disparity_unit', 1.0)
    if not isinstance(unit, (int, float)) or isinstance(unit, bool) or not unit > 0:
        raise CheckpointError(f'{path} has disparity_unit {unit!r}; give a positive number')
    return own


def _read(kind: Any, folder: Path, name: str, **more: Any) -> Any:
    """Read a part by transformers, from these files alone and without code of theirs."""
    config = read_json(require_file(folder, name))
    if 'auto_map' in config:
        raise CheckpointError(
            f'{folder / name} asks to run code of the checkpoint (auto_map), which is refused; '
            'give a checkpoint that transformers knows by itself'
        )
    try:
        return kind.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **more
        )
    except Exception as error:  # transformers raises many kinds
        raise CheckpointError(
            f'{folder} cannot be read by transformers ({error}); restore the files'
        ) from error
