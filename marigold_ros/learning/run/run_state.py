# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The checkpoint that a run resumes from: written atomically, read without running pickles."""

import os
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.learning.objectives.trained_networks import TrainedModule
import torch

STATE = 'state.pt'  # in the folder of a run


def save_state(path: Path, state: dict[str, Any]) -> None:
    """
    Write a state beside the previous one, then replace it.

    Raises CheckpointError if it cannot be written, as on a full disk; the previous one stays.
    """
    draft = path.with_suffix('.tmp')
    try:
        torch.save(state, draft)
        with draft.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        draft.unlink(missing_ok=True)
        raise CheckpointError(
            f'{path} could not be written ({error}); the previous one is untouched: free some '
            'space and run the same command again'
        ) from error


def load_state(path: Path, networks: torch.nn.Module) -> dict[str, Any]:
    """
    Read a state into main memory.

    Raises CheckpointError if it is damaged or does not fit the networks.
    """
    try:
        state = torch.load(path, weights_only=True, map_location='cpu')
    except Exception as error:  # torch raises whatever the damage led to
        raise CheckpointError(
            f'{path} is damaged ({str(error).strip()[:120]}); restore it, or delete it to restart '
            'the run'
        ) from error
    own = networks.state_dict()
    for name in sorted(set(own) ^ set(state['chain'])):
        where = 'the recipe' if name in own else 'the checkpoint'
        raise CheckpointError(
            f'{path} is of another architecture: {name} is only in {where}; use the recipe that '
            'began the run, or another --out'
        )
    for name, value in own.items():
        if value.shape != state['chain'][name].shape:
            shapes = tuple(state['chain'][name].shape), tuple(value.shape)
            raise CheckpointError(
                f'{path} is of another architecture: {name} is {shapes[0]} there, {shapes[1]} in '
                'the recipe; use the recipe that began the run'
            )
    return state


def load_averaged(path: Path, chain: TrainedModule) -> None:
    """
    Load the averaged weights of a run, those that its validation selected if it did, and settings.

    Raises CheckpointError if there is no checkpoint, or as :func:`load_state`.
    """
    if not path.exists():
        raise CheckpointError(
            f'{path.parent} holds no checkpoint yet; train first: the same command without '
            '--export-only'
        )
    state = load_state(path, chain)
    chain.load_state_dict(state.get('best', {}).get('weights', state['average']))
    chain.restore(state)
