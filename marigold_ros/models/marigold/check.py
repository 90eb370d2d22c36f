# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Check a checkpoint before a robot relies on it: files, weights, hashes, schedule, round trip.

Whatever would stop it from loading raises. The round trip sends a planted depth image through the
autoencoder and back, which reveals a wrong scaling factor, mixed-up files and damaged weights.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
import re
from typing import Any

from diffusers import LCMScheduler
from marigold_ros.errors import brief, CheckpointError
from marigold_ros.models.marigold.checkpoint import load_networks, Networks
from marigold_ros.models.marigold.denoiser import check_consistency_steps
from marigold_ros.models.marigold.engine import MarigoldModel
from marigold_ros.models.marigold.schedule import choose_spacing, ddim_schedule
from marigold_ros.whole_files import sha256
from safetensors import safe_open
import torch

# Mean error of the planted image after the best scale and shift; the autoencoder of SD-2 stays
# well below 0.02, a random one is far above.
ROUND_TRIP_LIMIT = 0.1
SIZE = (96, 128)  # px, of the planted image


def check_checkpoint(
    folder: Path, vae: Path | None = None, round_trip_limit: float = ROUND_TRIP_LIMIT
) -> dict[str, Any]:
    """
    Check a checkpoint folder in diffusers layout on the CPU, with its own or another autoencoder.

    Returns ``files``: of each safetensors file ``path`` in the checkpoint, ``size`` in bytes,
    ``tensors``, ``parameters``, ``dtypes``, ``sha256``, and whether that is ``verified`` by
    SHA256SUMS or the hub's own name of the file; ``timesteps`` of the default number of steps and
    their ``timestep_spacing``; and ``round_trip_error``, the mean error of a planted image in
    [0, 1].

    Raises CheckpointError if a file is missing, damaged, pickled or changed, a weight has another
    shape, the schedule has no steps, or a planted image comes back with more than the limit as
    mean error.
    """
    networks = load_networks(folder, vae)
    roots = [path for path in networks.weight_files if path.is_dir()]
    files = [
        _inspect(path, root.parent, networks.sums)
        for root in roots
        for path in sorted(root.glob('*.safetensors'))
    ]
    spacing, timesteps = _schedule(networks)
    error = round_trip(networks)
    if not error <= round_trip_limit:
        raise CheckpointError(
            f'{networks.weight_files[1]}: a depth image comes back from the autoencoder with a '
            f'mean error of {error:.3f} of its range (at most {round_trip_limit:g}); its weights '
            'are damaged or not its own: restore them'
        )
    return {
        'files': files,
        'timesteps': timesteps,
        'timestep_spacing': spacing,
        'round_trip_error': error,
    }


def round_trip(networks: Networks) -> float:
    """Return the mean error of a planted image after the autoencoder, up to scale and shift."""
    planted = planted_depth(*SIZE)  # (1, 1, H, W)
    model = MarigoldModel(networks, torch.device('cpu'), torch.float32)
    with torch.inference_mode():
        latent = model.encode((planted * 2.0 - 1.0).expand(-1, 3, -1, -1))
        returned = model.decode(latent)
    design = torch.stack([returned.flatten(), torch.ones(returned.numel())], 1).double()
    target = planted.flatten().double()
    normal = design.T @ design + 1e-9 * torch.eye(2, dtype=torch.float64)
    fit = torch.linalg.solve(normal, design.T @ target)
    return float((design @ fit - target).abs().mean())


def planted_depth(height: int, width: int) -> torch.Tensor:
    """Draw a floor that rises to the horizon and three boxes on it: (1, 1, H, W) in [0, 1]."""
    depth = torch.linspace(1.0, 0.0, height)[:, None].repeat(1, width)
    for top, left, value in ((0.3, 0.1, 0.2), (0.4, 0.45, 0.5), (0.1, 0.7, 0.8)):
        y, x = int(top * height), int(left * width)
        depth[y : y + height // 3, x : x + width // 5] = value
    return depth[None, None]


def _inspect(path: Path, root: Path, sums: Mapping[Path, str]) -> dict[str, Any]:
    with safe_open(path, framework='pt') as file:
        parts = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118
        parameters = sum(prod(part.get_shape()) for part in parts)
        dtypes = {str(part.get_dtype()) for part in parts}
    found, name = sums.get(path) or sha256(path), path.relative_to(root).as_posix()
    # The hub's cache names the file behind a link by its hash.
    target = path.resolve().name
    named = re.fullmatch('[0-9a-f]{64}', target) is not None
    if named and target != found:
        raise CheckpointError(
            f'{path} has SHA-256 {found[:12]}…, the hub says {target[:12]}…; the cached file is '
            'damaged: delete it and fetch it again'
        )
    return {
        'path': name,
        'size': path.stat().st_size,
        'tensors': len(parts),
        'parameters': parameters,
        'dtypes': sorted(dtypes),
        'sha256': found,
        'verified': named or path in sums,
    }


def _schedule(networks: Networks) -> tuple[str, list[int]]:
    steps = networks.facts.denoising_steps
    scheduler = networks.scheduler
    try:
        if isinstance(scheduler, LCMScheduler):
            check_consistency_steps(scheduler, steps)
            return 'lcm', scheduler.timesteps.tolist()
        spacing = choose_spacing(scheduler, steps)
        return spacing, ddim_schedule(scheduler, steps, spacing).timesteps.tolist()
    except ValueError as error:  # of diffusers, or a ConfigurationError
        raise CheckpointError(
            f'{networks.facts.folder} has no schedule of {steps} steps ({brief(error)}); correct '
            'default_denoising_steps'
        ) from error
