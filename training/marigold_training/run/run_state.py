# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The checkpoint that a run resumes from, and backups of its weights.

Both are written atomically and read without running pickles.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
import json
import os
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_training.objectives.trained_networks import TrainedModule
from marigold_training.run.stages import read_stages, Stage
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch

STATE, BACKUPS = 'state.pt', 'backups'  # in the folder of a run
LAST = 'last'  # names the weights of the last step
# Entries that every state has.
NEEDED = {'chain', 'average', 'optimizer', 'stage_index', 'step', 'skipped', 'provenance'}
# Of a stage: what its row of the card states, and what its optimizer's state depends on.
ON_CARD = ('name', 'objective', 'trains', 'steps', 'batch_size', 'accumulation')
IN_WORK = ('objective', 'trains')
SETTINGS = 'settings'  # of the networks, in the metadata of a backup
# Keys of a recipe that hold from its start to its export, and their values where left out.
LASTING = {'init': {}, 'seed': 0, 'noise': 'gaussian', 'noise_strength': 0.9, 'loss': {}}
REMEDY = 'use the recipe that began the run, or another --out'


def save_state(path: Path, state: dict[str, Any]) -> None:
    """
    Write a state beside the previous one, then replace it.

    Raises CheckpointError if it cannot be written, as on a full disk; the previous one stays.
    """
    _write(path, lambda draft: torch.save(state, draft))


def save_backup(
    path: Path, weights: Mapping[str, torch.Tensor], settings: Mapping[str, float]
) -> None:
    """Write weights and their settings to a safetensors file; raises as :func:`save_state`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    described = {SETTINGS: json.dumps(dict(settings))}
    _write(path, lambda draft: save_file(kept, draft, described))


def _write(path: Path, save: Callable[[Path], None]) -> None:
    draft = path.with_suffix('.tmp')
    try:
        save(draft)
        with draft.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise CheckpointError(
            f'{path} could not be written ({error}); the previous one is untouched: free some '
            'space and run the same command again'
        ) from error


def load_state(path: Path, networks: torch.nn.Module) -> dict[str, Any]:
    """
    Read a state into main memory.

    Raises CheckpointError if it is damaged, of another release, or does not fit the networks or
    their space.
    """
    try:
        state = torch.load(path, weights_only=True, map_location='cpu')
        missing = sorted(NEEDED - state.keys())
    except Exception as error:  # torch raises whatever the damage led to
        raise CheckpointError(
            f'{path} is damaged ({str(error).strip()[:120]}); restore it, or delete it to restart '
            'the run'
        ) from error
    if missing:
        raise CheckpointError(
            f'{path} has no {", ".join(missing)}: it is of another release or program; give '
            'another --out, or delete it to restart the run'
        )
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
    facts = json.loads(state['provenance']).get('recipe', {}).get('facts', {})
    if facts and facts['space'] != networks.space:
        raise CheckpointError(
            f"{path} was trained with facts.space '{facts['space']}', and the recipe has "
            f"'{networks.space}'; use the recipe that began the run, or another --out"
        )
    return state


def check_recipe(path: Path, state: Mapping[str, Any], stages: Sequence[Stage]) -> None:
    """
    Raise CheckpointError unless the stages that a run has begun are still those of its recipe.

    Stages to come may be others, and a stage in work may be longer.
    """
    begun, index, step = _begun_stages(state), state['stage_index'], state['step']
    if not begun:
        return
    if len(stages) < len(begun):
        raise CheckpointError(
            f'{path} has begun {len(begun)} stages and the recipe has {len(stages)}; {REMEDY}'
        )
    for number, (old, new) in enumerate(zip(begun, stages, strict=False)):
        for key in ON_CARD if number < index else IN_WORK:
            was, now = getattr(old, key), getattr(new, key)
            if was != now:
                raise CheckpointError(
                    f'{path} has trained stage {old.name} with {key} {was}, and the recipe has '
                    f'{now}; {REMEDY}'
                )
    if step and step > stages[index].steps:
        raise CheckpointError(
            f'{path} has done {step} steps of stage {begun[index].name}, and the recipe has '
            f'{stages[index].steps}; {REMEDY}'
        )


def _begun_stages(state: Mapping[str, Any]) -> list[Stage]:
    """Return the stages that a run has begun; none if its state has no recipe."""
    recipe = json.loads(state['provenance']).get('recipe')
    stages = read_stages(recipe['stages'], recipe.get('common', {})) if recipe else []
    return stages[: state['stage_index'] + bool(state['step'])]


def check_start(path: Path, state: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the keys LASTING are still as in the recipe of a run."""
    was, now = json.loads(state['provenance']).get('recipe'), json.loads(json.dumps(recipe))
    for key, usual in LASTING.items() if was and now else ():
        old, new = was.get(key, usual), now.get(key, usual)
        if old != new:
            raise CheckpointError(
                f'{path} was begun with {key} {old}, and the recipe has {new}; {REMEDY}'
            )


def check_best(path: Path, state: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Raise CheckpointError if the best weights so far were selected by another validation."""
    was = json.loads(state['provenance']).get('recipe', {}).get('validation')
    now = json.loads(json.dumps(recipe.get('validation')))
    if state.get('best') and was != now:
        raise CheckpointError(
            f'{path} has selected weights by validation {was}, and the recipe has {now}: figures '
            'of both cannot be compared; use the recipe that began the run, or another --out'
        )


def trained_stages(path: Path, stages: Sequence[Stage]) -> tuple[list[Stage], str]:
    """
    Return the stages that a run has trained, with the steps done so far, and where it stopped.

    The latter is as ``latent 25/60``, empty at the end of the recipe. ``path`` is that of a state.
    Raises CheckpointError as :func:`check_recipe`.
    """
    if not path.exists():
        return [], f'{stages[0].name} 0/{stages[0].steps}'
    state = torch.load(path, weights_only=True, map_location='cpu', mmap=True)
    check_recipe(path, state, stages)
    index, step = state['stage_index'], state['step']
    done = list(stages[:index])
    if index == len(stages):
        return done, ''
    if step:
        done.append(replace(stages[index], steps=step))
    return done, f'{stages[index].name} {step}/{stages[index].steps}'


def origin(path: Path, weights: str = '') -> str:
    """Return which weights :func:`load_averaged` loads, in words; empty for the last."""
    if weights not in ('', LAST):
        return f'the backup {Path(weights).stem}'
    state = torch.load(path, weights_only=True, map_location='cpu', mmap=True)
    at = '' if weights else state.get('best', {}).get('at')
    return f'{at}, which validation selected' if at else ''


def load_averaged(
    path: Path, chain: TrainedModule, weights: str = '', recipe: Mapping[str, Any] | None = None
) -> None:
    """
    Load the averaged weights of a run, and settings.

    ``weights`` is empty for those that its validation selected if it did, else the last, ``last``
    for the last, or a backup. Raises CheckpointError if there is no checkpoint, as
    :func:`load_state`, as :func:`check_start` of a recipe, or if the backup is not one of these
    networks or lacks trained ones.
    """
    if not path.exists():
        raise CheckpointError(
            f'{path.parent} holds no checkpoint yet; train first: the same command without '
            '--export-only'
        )
    state = load_state(path, chain)
    check_start(path, state, recipe or {})
    best = {} if weights == LAST else state.get('best', {})
    chain.load_state_dict(best.get('weights', state['average']))
    chain.restore(state)
    if weights in ('', LAST):
        return
    try:
        with safe_open(weights, 'pt') as file:
            backup = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings = json.loads((file.metadata() or {}).get(SETTINGS, '{}'))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'{weights} cannot be read ({error}); give a file of {path.parent / BACKUPS}, or last'
        ) from error
    own = chain.state_dict()
    for name, value in backup.items():
        if name not in own or own[name].shape != value.shape:
            raise CheckpointError(
                f'{weights} is of another architecture: {name}; give a backup of this run'
            )
    trained = tuple(f'{name}.' for stage in _begun_stages(state) for name in stage.trains)
    for name in own:
        if name not in backup and name.startswith(trained):
            raise CheckpointError(
                f'{weights} lacks {name}, which the run has trained, too: weights of two moments '
                'would be mixed; give a later backup, or last'
            )
    chain.load_state_dict({**own, **backup})
    chain.restore({**state, **settings})
