# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a plain U-Net that an earlier start converted for OpenVINO; imports no torch."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.frame import Prediction
from marigold_ros.models.facts import weight_shapes
from marigold_ros.models.image_sizes import up_to_multiple
from marigold_ros.models.maps.array_resizing import fit_image, upsample_bilinear
from marigold_ros.models.maps.map_model import MapModel
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.runtime.disk_cache import cache_folder, files_key
from marigold_ros.models.runtime.kept_networks import KeptNetworks
from marigold_ros.models.unet.folder import deciding_files, read_facts, SIDE
import numpy as np


class CompiledUNetModel(MapModel):
    """
    A plain U-Net for the sizes of images that are kept; the model with torch for all others.

    OpenVINO runs in ``dtype``, float32 or bfloat16, on so many ``threads``; ``load_by_torch`` is
    called once an image needs it. Raises CheckpointError if the folder is damaged, OSError if one
    of its files is missing.
    """

    family, kind = 'unet', 'plain U-Net'
    side = SIDE

    def __init__(
        self,
        folder: Path,
        dtype: str,
        runtime: RuntimeConfig,
        threads: int,
        load_by_torch: Callable[[], Any],
    ) -> None:
        super().__init__(folder, read_facts(folder), 'cpu', runtime)
        self.parameters = sum(map(prod, weight_shapes(self._weight_files()).values()))
        self.arithmetic, self.threads = dtype, threads
        cache, files = cache_folder(runtime.cache_dir), deciding_files(folder)
        self._kept = KeptNetworks(cache, partial(files_key, files), dtype, threads)
        self._networks: dict[tuple[int, int], Callable | None] = {}
        self._load_by_torch = load_by_torch
        self._torch_model: Any = None
        self._answered_by_torch = False  # the last image

    @property
    def answered_by(self) -> str:
        of_torch = self._answered_by_torch
        return str(self._torch_model.answered_by) if of_torch else super().answered_by

    def holds(self, size: tuple[int, int], processing_resolution: int | None) -> bool:
        """Load the network for images of a size (H, W); False if it is not kept."""
        return self._network_for(self.processing_size(*size, processing_resolution)) is not None

    def _network_for(self, size: tuple[int, int]) -> Callable | None:
        padded = up_to_multiple(size, self.side)
        if padded not in self._networks:
            kept = self._kept.load([(1, 3, *padded)])
            self._networks[padded] = None if kept is None else kept.compile()
        return self._networks[padded]

    def _run(self, rgbs: Sequence[np.ndarray], options: PredictOptions) -> list[Prediction]:
        shape = rgbs[0].shape[0], rgbs[0].shape[1]
        size = self.processing_size(*shape, options.processing_resolution)
        bilateral = options.engine.upsampling == 'bilateral' and size != shape
        network = None if bilateral else self._network_for(size)
        if network is None:
            return self._run_by_torch(rgbs, options)
        self._answered_by_torch = False
        maps = (network([fit_image(rgb, size, self.side)])[0, 0] for rgb in rgbs)
        inside = [np.clip(one[: size[0], : size[1]], 0.0, 1.0) for one in maps]
        return [
            Prediction(upsample_bilinear(one, shape), None, self.space, self.censored)
            for one in inside
        ]

    def _run_by_torch(
        self, rgbs: Sequence[np.ndarray], options: PredictOptions
    ) -> list[Prediction]:
        if self._torch_model is None:
            self._torch_model = self._load_by_torch()
        model = self._torch_model
        found = [model.predict_together([one], [model.stream], options)[0] for one in rgbs]
        self._answered_by_torch = True
        return found
