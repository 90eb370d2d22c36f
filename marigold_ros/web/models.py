# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The models that the page offers; the last ones used stay loaded."""

from collections.abc import Callable, Mapping
from typing import Any

from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.evaluation.results.verdict import demonstration
from marigold_ros.models import list_checkpoints
from marigold_ros.models.average.model import is_average
from marigold_ros.models.hub import is_cached
from marigold_ros.models.locate import find_folder, is_embedded, PUBLISHED
from marigold_ros.models.protocol import DepthModel
from marigold_ros.models.registry import FAMILIES, find_family
import numpy as np

_MOST_LOADED = 2


class ModelStore:
    """
    Models by name, loaded when first needed; used by one thread at a time.

    Offered are the model that the server was started with, the embedded ones, and what
    ``models get`` has fetched, so that no page can make the server fetch or open something else.
    ``description`` is that of the first, and None until it is loaded.
    """

    def __init__(self, load: Callable[[str], DepthModel], first: str) -> None:
        self._load = load
        self._loaded: dict[str, DepthModel] = {}
        fetched = [name for name in PUBLISHED if is_cached(name)]
        self.names = tuple(dict.fromkeys([first, *list_checkpoints(), *fetched]))
        self.description: Mapping[str, Any] | None = None
        self._steps = {name: _has_steps(name) for name in self.names}

    def prepare(self) -> None:
        """Load the first model and warm up: the first image of a process takes long."""
        model = self.get(self.names[0])
        model.predict(np.zeros((96, 128, 3), np.uint8))
        self.description = model.description

    def check(self, name: str) -> None:
        """Raise ConfigurationError for a name that is not offered."""
        if name not in self.names:
            raise ConfigurationError(
                f"the page has no model '{name[:80]}'; choose one of {', '.join(self.names)}, or "
                'start the server with --model'
            )

    def get(self, name: str) -> DepthModel:
        """Return a loaded model."""
        self.check(name)
        model = self._loaded.pop(name, None) or self._load(name)
        self._loaded[name] = model
        while len(self._loaded) > _MOST_LOADED:
            del self._loaded[next(iter(self._loaded))]
        return model

    def remark(self, name: str) -> str:
        """Return what a user should know of a model; '' where there is nothing."""
        return demonstration(self.description or {}) if is_embedded(name) else ''

    def describe(self) -> list[dict[str, Any]]:
        """Return name, remark and whether the number of steps can be chosen, for each model."""
        return [
            {'name': name, 'remark': self.remark(name), 'steps': steps}
            for name, steps in self._steps.items()
        ]


def _has_steps(name: str) -> bool:
    try:
        return not is_average(name) and find_family(find_folder(name)) is FAMILIES['marigold']
    except CheckpointError:  # of a damaged one, which is reported when it is used
        return False
