# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Checkpoints that mean harm: small sound ones of each family, and what is done to them.

:data:`SOUND` writes them by family, :data:`ATTACKS` changes one in place; :func:`mutate` changes
whatever its random numbers say, for the fuzz trial.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
import json
from pathlib import Path
import pickle
import shutil
import struct
from typing import Any

from marigold_ros.models import EMBEDDED
import numpy as np
from safetensors.torch import load_file, save_file
import torch

HUB = 'evil/evil'
TRANSFORMERS = ('depth_anything', 'dpt', 'glpn')


def write_diffusion_depth(folder: Path) -> None:
    """Write a DiffusionDepth with random weights."""
    from marigold_ros.models.diffusion_depth.checkpoint import MODEL_TYPE
    from marigold_ros.models.diffusion_depth.network import Architecture, DiffusionDepth

    backbone = {'channels': [8, 16], 'blocks': [1]}
    architecture = Architecture(backbone=backbone, features=8, hidden=8, latent=8, steps=2)
    save_file(DiffusionDepth(architecture).state_dict(), folder / 'model.safetensors')
    config = {'model_type': MODEL_TYPE, **asdict(architecture)}
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'marigold_ros.json').write_text(
        '{"space": "metric", "default_processing_pixels": 192}'
    )


def write_prime_depth(folder: Path) -> None:
    """Write a PrimeDepth with random weights on the U-Net of an embedded checkpoint."""
    from marigold_ros.models.prime_depth.checkpoint import config_of, load_base
    from marigold_ros.models.prime_depth.refiner import Refiner

    base = load_base('tiny')
    refiner = Refiner(base.unet.config, 2, [8, 16], 0)
    save_file(refiner.state_dict(), folder / 'model.safetensors')
    (folder / 'config.json').write_text(json.dumps(config_of(base, refiner)))
    (folder / 'marigold_ros.json').write_text(
        '{"space": "log", "default_processing_pixels": 3072}'
    )


def _estimator(kind: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import small_estimators  # of transformers, whose import takes seconds

        network, processor = getattr(small_estimators, f'small_{kind}')()
        small_estimators.write_estimator(folder, network, processor)

    return write


def _copied(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        shutil.copytree(EMBEDDED / name, folder, dirs_exist_ok=True)

    return write


SOUND: dict[str, Callable[[Path], None]] = {
    **{kind: _estimator(kind) for kind in TRANSFORMERS},
    'unet': _copied('unet'),
    'marigold': _copied('tiny'),
    'diffusion_depth': write_diffusion_depth,
    'prime_depth': write_prime_depth,
}


def edit(folder: Path, name: str, *keys: str, value: Any) -> None:
    """Set a value of a JSON file, by its keys."""
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    inner = content
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def setting(name: str, *keys: str, value: Any) -> Callable[[Path], None]:
    """Return what sets a value of a JSON file."""
    return lambda folder: edit(folder, name, *keys, value=value)


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return what replaces a file."""
    data = content if isinstance(content, bytes) else content.encode()

    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return write


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Callable:
    """Return what changes the tensors of a file."""

    def write(folder: Path) -> None:
        (folder / 'SHA256SUMS').unlink(missing_ok=True)
        weights = load_file(folder / name)
        change(weights)
        (folder / name).unlink()
        save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)

    return write


def _drop(weights: dict[str, torch.Tensor]) -> None:
    for key in sorted(weights)[3::7]:
        del weights[key]


def _add(weights: dict[str, torch.Tensor]) -> None:
    weights['evil.weight'] = torch.zeros(3)


def _misshape(weights: dict[str, torch.Tensor]) -> None:
    key = max(weights, key=lambda name: weights[name].numel())
    weights[key] = weights[key][..., :-1]


def _not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights[sorted(weights)[-1]].view(-1)[0] = float('nan')


def _huge_header(folder: Path) -> None:
    (folder / 'SHA256SUMS').unlink(missing_ok=True)
    entries = {
        f'w{i}': {'dtype': 'F32', 'shape': [0], 'data_offsets': [0, 0]} for i in range(400_000)
    }
    header = json.dumps(entries).encode()
    data = struct.pack('<Q', len(header)) + header
    (folder / 'model.safetensors').write_bytes(data)


class _Touch:
    """What opening the pickle would do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (Path(self.path),)


def _pickled(folder: Path) -> None:
    (folder / 'model.safetensors').unlink()
    weights = pickle.dumps(_Touch(f'{folder}.opened'))
    (folder / 'pytorch_model.bin').write_bytes(weights)
    edit(folder, 'config.json', 'transformers_weights', value='pytorch_model.bin')


def _distributed(folder: Path) -> None:
    name = 'shard-00001-model-00001-of-00001.safetensors'
    (folder / 'model.safetensors').rename(folder / name)
    (folder / '.metadata').write_bytes(pickle.dumps(_Touch(f'{folder}.opened')))


def _adapter(folder: Path) -> None:
    edit(folder, 'adapter_config.json', 'base_model_name_or_path', value=HUB)
    edit(folder, 'adapter_config.json', 'peft_type', value='LORA')


def _index_outside(folder: Path) -> None:
    (folder / 'model.safetensors').rename(folder.with_suffix('.safetensors'))
    weights = load_file(folder.with_suffix('.safetensors'))
    where = dict.fromkeys(weights, f'../{folder.name}.safetensors')
    edit(folder, 'model.safetensors.index.json', 'weight_map', value=where)
    edit(folder, 'model.safetensors.index.json', 'metadata', value={'total_size': 1})


DEEP, LONG = '[' * 100_000 + ']' * 100_000, '{"model_type": ' + '9' * 5000 + '}'
TIMM = {
    'model_type': 'timm_backbone',
    'backbone': f'hf-hub:{HUB}',
    'use_pretrained_backbone': True,
}
LAYERS, CHANNELS = 100_000, 40_000

# By name, for each family that it is for.
_OF_CONFIG: dict[str, dict[str, Callable[[Path], None]]] = {
    'names a backbone of the hub': {
        'depth_anything': setting('config.json', 'backbone', value=HUB),
        'dpt': setting('config.json', 'backbone', value=HUB),
        'glpn': setting('config.json', 'backbone', value=HUB),
        'diffusion_depth': setting(
            'config.json', 'backbone', value={'model_type': 'dpt', 'backbone': HUB}
        ),
    },
    'has a backbone of timm': {
        'depth_anything': setting('config.json', 'backbone_config', value=TIMM),
        'dpt': setting('config.json', 'backbone_config', value=TIMM),
        'diffusion_depth': setting('config.json', 'backbone', value=TIMM),
    },
    'names a kernel': {
        **{
            kind: setting('config.json', '_attn_implementation', value=HUB)
            for kind in TRANSFORMERS
        },
        'diffusion_depth': setting(
            'config.json', 'backbone', value={'model_type': 'dinov2', '_attn_implementation': HUB}
        ),
    },
    'has a list for its kind': {'glpn': setting('config.json', 'model_type', value=[10**6] * 4)},
    'counts images by a mapping': {
        'marigold': setting('training_features.json', 'images', value={})
    },
    'has an unknown spacing of timesteps': {
        'marigold': setting('scheduler/scheduler_config.json', 'timestep_spacing', value='a/b')
    },
    'scales latents by a mapping': {
        'marigold': setting('vae/config.json', 'scaling_factor', value={})
    },
    'says true for a number': {
        'marigold': setting('unet/config.json', 'norm_num_groups', value=True)
    },
    'has quantised weights': {
        **{
            kind: setting(
                'config.json', 'quantization_config', value={'quant_method': 'bitsandbytes_4bit'}
            )
            for kind in TRANSFORMERS
        },
        'marigold': setting(
            'unet/config.json', 'quantization_config', value={'quant_method': 'bitsandbytes'}
        ),
    },
    'has code': {
        kind: setting('config.json', 'auto_map', value={'AutoModel': f'{HUB}--a.b'})
        for kind in TRANSFORMERS
    },
    'has 100 000 layers': {
        'depth_anything': setting(
            'config.json', 'backbone_config', 'num_hidden_layers', value=LAYERS
        ),
        'dpt': setting('config.json', 'num_hidden_layers', value=LAYERS),
        'glpn': setting('config.json', 'depths', value=[LAYERS, 1, 1, 1]),
        'unet': setting('config.json', 'blocks', value=[LAYERS, 1, 2, 1]),
        'marigold': setting('unet/config.json', 'layers_per_block', value=LAYERS),
        'diffusion_depth': setting('config.json', 'backbone', 'blocks', value=[LAYERS]),
        'prime_depth': setting('config.json', 'layers', value=LAYERS),
    },
    'has 40 000 channels': {
        'depth_anything': setting('config.json', 'backbone_config', 'hidden_size', value=CHANNELS),
        'dpt': setting('config.json', 'hidden_size', value=CHANNELS),
        'glpn': setting('config.json', 'hidden_sizes', value=[8, 16, 24, CHANNELS]),
        'unet': setting('config.json', 'channels', value=[24, 48, 96, 192, CHANNELS]),
        'marigold': setting('unet/config.json', 'block_out_channels', value=[64, 128, CHANNELS]),
        'diffusion_depth': setting('config.json', 'backbone', 'channels', value=[8, CHANNELS]),
        'prime_depth': setting('config.json', 'decoder', value=[CHANNELS, CHANNELS]),
    },
    'has two million tokens': {
        'depth_anything': setting('config.json', 'backbone_config', 'image_size', value=20_000),
        'dpt': setting('config.json', 'image_size', value=23_000),
        'prime_depth': setting('config.json', 'tokens', value=2_000_000),
        'marigold': tensors(
            'empty_text_embedding.safetensors',
            lambda found: found.update(empty_text_embedding=torch.zeros(1, 2_000_000, 32)),
        ),
    },
    'asks for a trillion pixels': {
        **{
            kind: setting('marigold_ros.json', 'default_processing_pixels', value=10**12)
            for kind in ('unet', 'marigold', 'diffusion_depth', 'prime_depth')
        },
        'depth_anything': setting(
            'preprocessor_config.json', 'size', value={'height': 10**6, 'width': 10**6}
        ),
        'dpt': setting('preprocessor_config.json', 'ensure_multiple_of', value=10**6),
        'glpn': setting('preprocessor_config.json', 'size_divisor', value=10**6),
    },
    'has values that are not finite': {
        'marigold': setting('scheduler/scheduler_config.json', 'beta_start', value=float('nan')),
        'depth_anything': setting(
            'config.json', 'backbone_config', 'layer_norm_eps', value=float('nan')
        ),
        'dpt': setting('preprocessor_config.json', 'image_mean', value=[float('inf')] * 3),
        'glpn': setting('config.json', 'layer_norm_eps', value=float('inf')),
        'diffusion_depth': setting('marigold_ros.json', 'max_depth', value=float('inf')),
    },
    'has a schedule without an end': {
        'marigold': setting('scheduler/scheduler_config.json', 'num_train_timesteps', value=10**10)
    },
    'has a schedule of no noise': {
        'marigold': setting('scheduler/scheduler_config.json', 'beta_end', value=7.5)
    },
    'has a binary SHA256SUMS': {'marigold': text('SHA256SUMS', bytes(range(128, 256)))},
    'has a million steps': {
        'marigold': setting('marigold_ros.json', 'default_denoising_steps', value=10**6),
        'diffusion_depth': setting('config.json', 'steps', value=10**6),
    },
    'has an adapter of another network': dict.fromkeys(
        ('depth_anything', 'dpt', 'glpn'), _adapter
    ),
    'names its weights, a pickle': {'depth_anything': _pickled},
    'holds distributed weights': {'depth_anything': _distributed},
    'has weights outside of its folder': {'depth_anything': _index_outside},
    'has 400 000 tensors': {'depth_anything': _huge_header, 'unet': _huge_header},
}
_WEIGHTS = {'marigold': 'vae/diffusion_pytorch_model.safetensors'}
_CONFIG = {'marigold': 'model_index.json'}
_CHANGES = {
    'lacks every seventh tensor': _drop,
    'has a tensor too many': _add,
    'has a tensor of another shape': _misshape,
    'has a weight that is not finite': _not_finite,
}


def _all() -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    for name, found in _OF_CONFIG.items():
        for kind, attack in found.items():
            yield kind, name, attack
    for kind in SOUND:
        for name, change in _CHANGES.items():
            yield kind, name, tensors(_WEIGHTS.get(kind, 'model.safetensors'), change)
        config = _CONFIG.get(kind, 'config.json')
        yield kind, 'is nested 100 000 deep', text(config, DEEP)
        yield kind, 'has a number of 5000 digits', text(config, LONG)


# Family, what is wrong with the folder, and what makes it so.
ATTACKS = list(_all())
# What does no harm: such a folder may load, as the sound one.
HARMLESS = {'has an adapter of another network', 'holds distributed weights'}


def mutate(folder: Path, rng: np.random.Generator) -> None:
    """Flip, cut or repeat bytes of some file of a folder, or change a value of its JSON."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    path = files[rng.integers(len(files))]
    data = bytearray(path.read_bytes())
    if path.suffix == '.json' and rng.random() < 0.7:
        values = [0, -1, 10**9, 10**30, 1e308, '', 'a/b', None, [], {}, [10**6] * 4, True]
        content = json.loads(data)
        where = content
        while isinstance(where, dict) and where:
            key = sorted(where)[rng.integers(len(where))]
            if not isinstance(where[key], dict) or rng.random() < 0.3:
                where[key] = values[rng.integers(len(values))]
                break
            where = where[key]
        path.write_text(json.dumps(content))
        return
    place, count = int(rng.integers(len(data) + 1)), int(rng.integers(1, 64))
    kind = rng.integers(3)
    if kind == 0:
        data[place : place + count] = rng.bytes(count)
    elif kind == 1:
        del data[place:]
    else:
        data[place:place] = data[place : place + count]
    path.write_bytes(bytes(data))
