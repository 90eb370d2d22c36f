# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Loading of the model that the parameters name, and its description for diagnostics."""

from collections.abc import Callable
import traceback

from marigold_ros.config import NodeConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.models.protocol import DepthModel


def load(config: NodeConfig) -> DepthModel:
    """Load and warm up the checkpoint that the parameters name; raises MarigoldError."""
    from marigold_ros.models import load_model, use_threads

    use_threads(config.model.torch_threads)
    return load_model(*config.model.arguments, config.runtime)


class Loader:
    """Loads models one after the other, logs each, and describes the last one."""

    def __init__(self, load_model: Callable[[NodeConfig], DepthModel], logger) -> None:
        self._load_model, self._logger = load_model, logger
        self.description: dict[str, str] = {}

    def load(self, config: NodeConfig) -> DepthModel:
        """Load a model; raises what loading raises."""
        model = self._load_model(config)
        # Read once per load, since the description includes a hash of the weights.
        known = {'name': config.model.model, 'device': str(getattr(model, 'device', ''))}
        facts = getattr(model, 'description', {})
        self.description = {**known, **{key: str(value) for key, value in facts.items()}}
        self._logger.info(f'model {known["name"]} on {known["device"]}')
        return model

    def try_to_load(self, read_config: Callable[[], NodeConfig]) -> tuple[DepthModel | None, str]:
        """Load a model while another is in use; returns (None, reason) if that fails."""
        try:
            config = read_config()
            return self.load(config), f'{config.model.model} from the next frame on'
        except Exception as error:
            known = isinstance(error, MarigoldError)
            reason = str(error) if known else traceback.format_exc()
            self._logger.error(f'reload failed, the old model stays: {reason}')
            return None, str(error)
