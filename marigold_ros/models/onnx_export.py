# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Export a model as one ONNX network of one size, and check that its depth is the model's.

The network takes ``image`` (1, 3, H, W) float32 RGB in [0, 1] and returns ``relative``
(1, 1, H, W) in the space that its metadata name.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import ConfigurationError, MarigoldError, WriteError
from marigold_ros.models.runtime.onnx_networks import (
    export_network,
    onnx_session,
    require_onnxruntime,
)
import numpy as np
import torch
from torch import nn

# Largest difference from the model's depth, of the largest depth.
TOLERANCE = 1e-4


class ImageNetwork(nn.Module):
    """
    A whole model as one module, from an image (1, 3, H, W) in [0, 1] to its map (1, 1, H, W).

    ``size`` (H, W) is the only one that it takes, ``parts`` hold the weights that ``run`` uses.
    """

    def __init__(
        self,
        size: tuple[int, int],
        parts: Iterable[nn.Module],
        run: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self.size, self.parts, self._run = size, nn.ModuleList(parts), run

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the map that the model predicts for an image of its own size."""
        return self._run(image)


def export_model(model: Any, path: Path, height: int, width: int) -> dict[str, Any]:
    """
    Write a model for images of (height, width) as ONNX, once its depth is that of the model.

    The model is a DepthModel on the CPU in float32, run by PyTorch; the caller resizes images to
    the size of the network. Larger networks than 2 GB have further files beside ``path``. Returns
    ``size`` (H, W) of the network and ``difference`` (largest, of the largest depth). Raises
    ConfigurationError if the model is not one network, or draws noise at each step, and
    MarigoldError if the depth differs by more than :data:`TOLERANCE` or the file cannot be
    written; then nothing is.
    """
    require_onnxruntime(torch.device('cpu'), torch.float32)
    facts = model.description
    if not hasattr(model, 'as_network'):
        raise ConfigurationError(
            f'{facts["name"]} is no single network ({facts.get("kind", "of several parts")}); '
            'export one relative model'
        )
    network = model.as_network(height, width)
    rgb = np.random.default_rng(0).integers(0, 256, (*network.size, 3), np.uint8)
    rgb[: network.size[0] // 2] //= 2
    image = np.moveaxis(rgb[None].astype(np.float32) / np.float32(255.0), -1, 1)
    # Some image processors have no choice of size.
    own = model.processing_size(*network.size, None) == network.size
    resolution = None if own else 0
    wanted = model.predict(rgb, ensemble_size=1, processing_resolution=resolution).relative
    try:
        with TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / path.name
            export_network(network, (torch.from_numpy(image),), draft, ['image'], 'relative')
            _describe(draft, facts)
            got = onnx_session(draft)([image])[0, 0]
            difference = float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-6))
            if not difference <= TOLERANCE:
                raise MarigoldError(
                    f"the ONNX network's depth differs from PyTorch's by {difference:.2g} of the "
                    f'largest, more than {TOLERANCE:g}; {path} was not written: try other '
                    'versions of torch or onnxruntime'
                )
            for file in Path(folder).iterdir():
                file.replace(path.parent / file.name)
    except OSError as error:
        raise WriteError(
            f'{path} could not be written ({error.strerror}); free some space, or choose another '
            'file'
        ) from error
    return {'size': list(network.size), 'difference': difference}


def _describe(path: Path, facts: dict[str, Any]) -> None:
    """Write what the numbers mean into the metadata of a file."""
    import onnx

    network = onnx.load(path, load_external_data=False)
    given = {key: str(facts[key]) for key in ('name', 'space', 'sha256')}
    onnx.helper.set_model_props(network, given)
    onnx.save(network, path)
