# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Image processors of transformers that need torchvision, by torch alone: same calls, same answers.

Letters: B images, H, W their size, PH, PW that of the network.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, ClassVar

from marigold_ros.errors import CheckpointError
import numpy as np
import torch
from torch.nn import functional
from transformers.modeling_outputs import DepthEstimatorOutput

_MODES = {2: 'bilinear', 3: 'bicubic'}  # by PIL's numbers, which the files hold
_NEAREST, _FARTHEST = 1e-4, 1e4  # of Depth Pro, metres
_PADDING = 3  # of ZoeDepth, times the root of half a side


class TorchProcessor:
    """
    Prepares images for a network, and brings its maps to their size.

    ``values`` of preprocessor_config.json take the place of :attr:`defaults`. Raises
    CheckpointError if images are not resized and rescaled, or resampled neither bilinear nor
    bicubic, or their size is no height and width.
    """

    # Those of transformers' own class.
    defaults: ClassVar[dict[str, Any]] = {
        'image_mean': [0.5, 0.5, 0.5],
        'image_std': [0.5, 0.5, 0.5],
        'do_normalize': True,
        'do_rescale': True,
        'do_resize': True,
        'resample': 2,
    }

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = {**TorchProcessor.defaults, **self.defaults, **values}
        known = (('do_resize', [True]), ('do_rescale', [True]), ('resample', [*_MODES]))
        for name, few in known:
            if self.values[name] not in few:
                raise self._wrong(name, ' or '.join(map(str, few)))
        self.mode = _MODES[self.values['resample']]
        size: Any = self.values['size']
        named = isinstance(size, Mapping) and {'height', 'width'} <= size.keys()
        sides = (size['height'], size['width']) if named else (0, 0)
        if not all(type(side) is int and side > 0 for side in sides):
            raise self._wrong('size', 'a height and a width in pixels')
        self.size = sides

    def _wrong(self, name: str, known: str) -> CheckpointError:
        value = self.values[name]
        return CheckpointError(
            f'preprocessor_config.json has {name} {value!r:.99}; known here is {known}: restore '
            'the file'
        )

    def __call__(
        self, images: Sequence[np.ndarray], return_tensors: str = 'pt'
    ) -> dict[str, torch.Tensor]:
        """Prepare images (H, W, 3) uint8 of one size."""
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return {'pixel_values': self.prepare(stacked)}

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """Prepare images (B, 3, H, W), uint8 or float in [0, 1], to (B, 3, PH, PW)."""
        raise NotImplementedError

    def post_process_depth_estimation(
        self, outputs: DepthEstimatorOutput, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Return ``predicted_depth`` (H, W) of each image, all of one size."""
        maps = self.resized(outputs.predicted_depth[:, None], sizes[0])
        return [{'predicted_depth': one} for one in maps[:, 0]]

    def resized(self, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Resize maps (B, 1, h, w) to (B, 1, H, W)."""
        return functional.interpolate(maps, size, mode=self.mode)

    def _normalised(self, image: torch.Tensor) -> torch.Tensor:
        if not self.values['do_normalize']:
            return image
        mean, deviation = (torch.tensor(self.values[name]) for name in ('image_mean', 'image_std'))
        return (image - mean[:, None, None]) / deviation[:, None, None]


class TipsProcessor(TorchProcessor):
    """Of TIPSv2's DPT: resized as bytes, not normalised."""

    defaults: ClassVar[dict[str, Any]] = {
        'size': {'height': 448, 'width': 448},
        'do_normalize': False,
    }

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        if tuple(image.shape[-2:]) != self.size:
            image = functional.interpolate(image, self.size, mode=self.mode, antialias=True)
        return self._normalised(_as_float(image))


class DepthProProcessor(TorchProcessor):
    """Of Depth Pro: one square size; depth from inverse depth by the field of view."""

    defaults: ClassVar[dict[str, Any]] = {'size': {'height': 1536, 'width': 1536}}

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        normalised = self._normalised(_as_float(image))
        return functional.interpolate(normalised, self.size, mode=self.mode)

    def post_process_depth_estimation(
        self, outputs: DepthEstimatorOutput, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """
        Return ``predicted_depth`` (H, W) in metres of each image, all of one size.

        ``focal_length`` in pixels is that for which it holds: of the network's field of view, or
        the image's width where it has none.
        """
        inverse, field_of_view = outputs.predicted_depth[:, None], outputs.get('field_of_view')
        width = sizes[0][1]
        focal = inverse.new_full((len(inverse),), float(width))
        if field_of_view is not None:
            focal = 0.5 * width / torch.tan(field_of_view * (math.pi / 360.0))
            inverse = inverse * (width / focal)[:, None, None, None]
        inverse = self.resized(inverse, sizes[0]).clamp(1.0 / _FARTHEST, 1.0 / _NEAREST)
        found = zip(1.0 / inverse[:, 0], focal, strict=True)
        return [{'predicted_depth': depth, 'focal_length': f} for depth, f in found]


class ZoeDepthProcessor(TorchProcessor):
    """Of ZoeDepth: padded by reflection, with corners aligned; padding is cut off again."""

    defaults: ClassVar[dict[str, Any]] = {
        'size': {'height': 384, 'width': 512},
        'keep_aspect_ratio': True,
        'ensure_multiple_of': 1 / 32,
        'do_pad': True,
    }

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        below, right = self._padding(tuple(image.shape[-2:]))
        image = functional.pad(_as_float(image), (right, right, below, below), mode='reflect')
        size = self._size_of(tuple(image.shape[-2:]))
        image = functional.interpolate(image, size, mode=self.mode, align_corners=True)
        return self._normalised(image)

    def resized(self, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Resize maps (B, 1, h, w) to (B, 1, H, W), without the padding."""
        below, right = self._padding(size)
        padded = size[0] + 2 * below, size[1] + 2 * right
        whole = functional.interpolate(maps, padded, mode='bicubic')
        return whole[..., below : below + size[0], right : right + size[1]]

    def _padding(self, size: tuple[int, ...]) -> tuple[int, int]:
        if not self.values['do_pad']:
            return 0, 0
        below, right = (int(math.sqrt(side / 2) * _PADDING) for side in size)
        return below, right

    def _size_of(self, padded: tuple[int, ...]) -> tuple[int, int]:
        """Return the size (PH, PW) for a padded image."""
        scales = [wanted / side for wanted, side in zip(self.size, padded, strict=True)]
        if self.values['keep_aspect_ratio']:  # by the scale that changes it least
            scales = [min(scales, key=lambda scale: abs(1.0 - scale))] * 2
        multiple = self.values['ensure_multiple_of']
        height, width = (
            int(np.round(scale * side / multiple) * multiple)
            for scale, side in zip(scales, padded, strict=True)
        )
        return height, width


PROCESSORS = {
    'depth_pro': DepthProProcessor,
    'tipsv2_dpt': TipsProcessor,
    'zoedepth': ZoeDepthProcessor,
}


def _as_float(image: torch.Tensor) -> torch.Tensor:
    return image if image.is_floating_point() else image.float() / 255.0
