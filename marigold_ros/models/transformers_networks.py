# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Networks of transformers from a folder of somebody else, of which transformers sees no file.

Its loaders follow what a folder names: other repositories, kernels, adapters, code. Here they get
the numbers of config.json that describe the architecture, and the tensors of the safetensors, read
and checked before. A family loads its network by :func:`load_depth_network`, or one of another
class by :func:`load_network`, and its processor by :func:`load_processor`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
import json
from pathlib import Path
import re
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import brief, CheckpointError, MarigoldError
from marigold_ros.models.facts import check_values, CONFIG, refuse_elsewhere
from marigold_ros.models.locate import offline, read_json, require_weights
from marigold_ros.models.weights import (
    build_within,
    check_index,
    full_precision,
    quiet,
    read_weights,
    require_finite,
    require_same,
)
import torch
from torch import nn
import transformers
from transformers import AutoImageProcessor, CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_BACKBONE_MAPPING_NAMES,
    MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES,
)
from transformers.utils import logging

PROCESSOR = 'preprocessor_config.json'
# Features of a backbone that are used; no fields of its configuration.
_CHOICES = {'out_indices', 'out_features'}
# Of an image processor, pixels of a side.
_MOST_SIDE = 2048
# No forward pass reads them: published DPTs leave them out, Depth Anythings do not.
_UNREAD = re.compile(r'neck\.fusion_stage\.layers\.0\.residual_layer1\.')
REMEDY = 'give a folder in the layout of transformers (config.json, model.safetensors)'


def network_config(
    values: Mapping[str, Any], where: Path | str, kind: type[PretrainedConfig] | None = None
) -> PretrainedConfig:
    """
    Make a configuration of transformers of the values that describe its own architecture.

    ``kind`` is its class; without it ``model_type`` names a network for depth or a backbone. All
    other keys are left out, and those that name something elsewhere raise CheckpointError, as do
    values that are too large or that transformers refuses.
    """
    refuse_elsewhere(values, where)
    if kind is None:
        name = str(values.get('model_type'))
        known = {*MODEL_FOR_BACKBONE_MAPPING_NAMES, *MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES}
        if name not in known - {'timm_backbone'}:
            raise CheckpointError(
                f"{where} has model_type '{name[:100]}', which is no network of transformers for "
                'depth and no backbone of it; correct it'
            )
        kind = CONFIG_MAPPING[name]
    read = {item.name for item in fields(kind)} - {item.name for item in fields(PretrainedConfig)}
    kept = {key: value for key, value in values.items() if key in read | _CHOICES}
    nested = {
        key: network_config({'model_type': part.model_type, **inner}, where)
        for key, part in kind.sub_configs_defaults.items()
        if isinstance(inner := kept.pop(key, None), Mapping)
    }
    check_values(kept, where)
    try:
        return kind(**kept, **nested)
    except Exception as error:  # transformers checks its configurations
        raise CheckpointError(
            f'{where} is no configuration of {kind.__name__} ({brief(error)}); restore the file'
        ) from error


def load_depth_network(folder: Path) -> nn.Module:
    """Load the network of a folder that ``model_type`` names; errors as :func:`load_network`."""
    values = read_json(folder / CONFIG)
    name = MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES.get(str(values.get('model_type')))
    if name is None:
        raise CheckpointError(f'{folder / CONFIG} is of no network for depth; restore the file')
    return load_network(getattr(transformers, name), folder, REMEDY)


@offline()
def load_network(kind: Any, folder: Path, remedy: str) -> nn.Module:
    """
    Load a network of a class of transformers in float32 on the CPU, for inference.

    Raises CheckpointError if a file is missing or damaged, the configuration asks for what is
    somewhere else or for more than the weights hold, or a tensor is missing, unknown, of another
    shape or not finite; ``remedy`` says what to do without weights.
    """
    config = network_config(read_json(folder / CONFIG), folder / CONFIG, kind.config_class)
    names = {path.name: path for path in require_weights(folder, remedy)}
    whole = names.get('model.safetensors')
    files = [whole] if whole else full_precision(names.values())
    if not whole:
        check_index(folder, names.values())
    build_within(files, lambda: kind(deepcopy(config)))
    try:
        with quiet(logging):
            network, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=read_weights(files),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises many kinds
        raise CheckpointError(
            f'{folder} cannot be read by transformers ({brief(error)}); restore the files'
        ) from error
    missing, unknown = (
        [name for name in report[key] if not _UNREAD.match(name)]
        for key in ('missing_keys', 'unexpected_keys')
    )
    require_same(folder, missing, unknown, report['mismatched_keys'])
    require_finite(network.state_dict(), folder)
    return network.eval().requires_grad_(False)


def processor_values(folder: Path) -> dict[str, Any]:
    """Read and check ``preprocessor_config.json``; raises CheckpointError."""
    path = folder / PROCESSOR
    values = read_json(path)
    refuse_elsewhere(values, path)
    check_values(values, path, _MOST_SIDE)
    return values


@offline()
def load_processor(folder: Path) -> Any:
    """Load the image processor of a folder from values that are checked; CheckpointError."""
    # Else three rows of pixels would be taken for three channels.
    values = {PROCESSOR: {**processor_values(folder), 'input_data_format': 'channels_last'}}
    values[CONFIG] = {'model_type': read_json(folder / CONFIG).get('model_type')}
    try:
        with TemporaryDirectory() as checked:
            for name, content in values.items():
                (Path(checked) / name).write_text(json.dumps(content), encoding='utf-8')
            return AutoImageProcessor.from_pretrained(
                checked, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers raises many kinds
        raise CheckpointError(
            f'{folder / PROCESSOR} is no image processor of transformers ({brief(error)}); '
            'restore the file'
        ) from error


@contextmanager
def values_of(folder: Path) -> Iterator[None]:
    """Raise CheckpointError, naming the folder, where a pass fails by values that do not fit."""
    try:
        yield
    except (MarigoldError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers and torch raise many kinds
        raise CheckpointError(
            f'{folder} cannot predict this image ({type(error).__name__}: {brief(error)}); its '
            'files do not belong together: restore them'
        ) from error
