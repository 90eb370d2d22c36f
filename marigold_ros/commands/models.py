# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
List checkpoints, fetch one from the Hugging Face hub, check or convert one.

  python -m marigold_ros models               lists the embedded and some published checkpoints
  python -m marigold_ros models get NAME      fetches a published one, or any owner/name
  python -m marigold_ros models check PATH    checks files and schedule, runs an image
  python -m marigold_ros models convert FILE --family NAME --out DIR
                                              makes a folder of weights released as a pickle

--model and the options below it are for check; the list takes --vae, --device and --dtype, too.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from pathlib import Path
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.options import (
    add_model_options,
    load_chosen_model,
    refuse_given,
)
from marigold_ros.commands.terminal.output import grid, page
from marigold_ros.errors import CheckpointError, MarigoldError, UsageError

if TYPE_CHECKING:
    from marigold_ros.models.protocol import DepthModel

_LOADING = 'model', 'vae', 'device', 'dtype', 'torch_threads'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'action', nargs='?', choices=('list', 'get', 'check', 'convert'), default='list'
    )
    parser.add_argument(
        'path',
        nargs='?',
        metavar='NAME',
        help='for get: published name or hub id, owner/name[@revision]; for check: also the name '
        'of an embedded checkpoint or a folder (default: unet); for convert: a released .pt or '
        '.ckpt',
    )
    text = 'for convert: prime_depth or diffusion_depth'
    parser.add_argument('--family', metavar='NAME', help=text)
    parser.add_argument('--out', metavar='DIR', help='for convert: a new folder')
    parser.add_argument('--json', action='store_true', help='print JSON')
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """List, fetch or check; return the exit code."""
    if args.action == 'list' and args.path is not None:
        raise UsageError(
            f"list takes no path, but got '{args.path}'; write: models check {args.path}"
        )
    if args.action != 'convert':
        reason = f'is for convert; leave it out of `models {args.action}`'
        refuse_given(args, add_arguments, ['family', 'out'], reason)
    if args.action != 'check':
        names = ('model', 'torch_threads') if args.action == 'list' else _LOADING
        reason = f'changes nothing of `models {args.action}`; leave it out'
        refuse_given(args, add_arguments, names, reason)
    actions = {'list': _list, 'get': _get, 'check': _check, 'convert': _convert}
    return actions[args.action](args)


def _get(args: argparse.Namespace) -> int:
    """Fetch a checkpoint; say before what it takes and under which licence."""
    from marigold_ros.models.hub import as_size, fetch, look_up

    if not args.path:
        raise UsageError('no checkpoint to get was named; `models` lists some, as owner/name')
    found = look_up(args.path)
    if not args.json:
        text = f'{as_size(found.size)} in {len(found.files)} files, licence {found.licence}'
        print(page([f'{found.name}: {text}, commit {found.commit[:12]}']), flush=True)
    folder = fetch(found)
    if args.json:
        facts = {'name': found.name, 'commit': found.commit, 'licence': found.licence}
        print(json.dumps({**facts, 'bytes': found.size, 'path': str(folder)}, indent=2))
    else:
        print(f'complete and as on the hub: --model {args.path} finds it')
    return 0


def _convert(args: argparse.Namespace) -> int:
    """Convert a released file to a folder; name the tensors that nothing reads."""
    from marigold_ros.models.convert.released import convert_file

    if not (args.path and args.family and args.out):
        raise UsageError(
            'convert needs a file, a family and a folder; write: models convert FILE '
            '--family NAME --out DIR'
        )
    if not args.json:
        print(page([f'reading {args.path} in a process of its own']), flush=True)
    found = convert_file(Path(args.path), args.family, Path(args.out))
    if args.json:
        facts = {'path': args.out, 'tensors': found.tensors, 'unused': found.unused}
        print(json.dumps(facts, indent=2))
    else:
        rows = [f'  not used: {name}' for name in found.unused]
        print(page([*rows, f'{found.tensors} tensors in {args.out}: --model {args.out} loads it']))
    return 0


def _list(args: argparse.Namespace) -> int:
    from marigold_ros.evaluation.results.results import to_json
    from marigold_ros.models import list_checkpoints, load_model
    from marigold_ros.models.hub import as_size, is_cached
    from marigold_ros.models.locate import PUBLISHED
    from marigold_ros.models.registry import NAMES

    entries: list[dict[str, Any]] = []
    for name in list_checkpoints():
        try:
            entries.append(_facts(load_model(name, args.device, args.dtype, args.vae or None)))
        except MarigoldError as error:
            entries.append({'name': name, 'error': str(error)})
    broken = any('error' in entry for entry in entries)
    published = [
        {'name': name, 'cached': is_cached(name), **asdict(item)}
        for name, item in PUBLISHED.items()
    ]
    if args.json:
        print(to_json({'families': NAMES, 'checkpoints': entries, 'published': published}))
    else:
        print('\n'.join(['embedded:', *(f'  {_line(entry)}' for entry in entries)]))
        print('on the Hugging Face hub, for `models get`:')
        rows = [
            (item['name'], as_size(item['size']), item['licence'], item['repository'])
            for item in published
        ]
        there = ['  here' if item['cached'] else '' for item in published]
        print('\n'.join(f'  {line}{mark}' for line, mark in zip(grid(rows), there, strict=True)))
    return 1 if broken else 0


def _facts(model: DepthModel) -> dict[str, Any]:
    """Return the description of a loaded model, with the size of its files in bytes."""
    files = Path(model.description['path']).rglob('*')
    return {**model.description, 'bytes': sum(p.stat().st_size for p in files if p.is_file())}


def _line(entry: dict[str, Any]) -> str:
    if 'error' in entry:
        return f'{entry["name"]}: {entry["error"]}'
    line = (
        f'{entry["name"]}: {entry["parameters"] / 1e6:.1f} M parameters, '
        f'{entry["bytes"] / 2**20:.1f} MiB, space {entry["space"]}'
    )
    if 'default_denoising_steps' not in entry:
        return f'{line}, {entry["kind"]}'
    pixels = entry.get('processing_pixels')
    edge = f'longest edge {entry["processing_resolution"] or "native"}'
    return (
        f'{line}, {entry["default_denoising_steps"]} denoising steps, '
        f'ensemble of {entry["default_ensemble_size"]}, {f"{pixels} pixels" if pixels else edge}'
    )


def _check(args: argparse.Namespace) -> int:
    """Check the files, load, predict one image and check the prediction."""
    from marigold_ros.evaluation.results.results import to_json
    import numpy as np

    if args.path is not None:
        refuse_given(args, add_arguments, ['model'], f'is beside {args.path}; give one of them')
        args.model = args.path
    report = _report(args)
    start = perf_counter()
    model = load_chosen_model(args)
    load_s = perf_counter() - start
    rgb = _test_image()
    start = perf_counter()
    prediction = model.predict(rgb)
    predict_s = perf_counter() - start
    relative = prediction.relative
    wrong = ''
    if relative.shape != rgb.shape[:2]:
        wrong = f'shape {relative.shape} for an image of {rgb.shape[:2]}'
    elif not np.isfinite(relative).all():
        wrong = f'{int((~np.isfinite(relative)).sum())} of {relative.size} values not finite'
    elif prediction.censored[0] > 0 and (relative.min() < 0 or relative.max() > 1):
        wrong = f'values from {relative.min():.3g} to {relative.max():.3g}, not in [0, 1]'
    elif relative.max() - relative.min() < 1e-3:
        wrong = f'the same value {relative.mean():.3g} everywhere'
    if wrong:
        raise CheckpointError(
            f"'{args.model}' loads, but its prediction of a test image is wrong: {wrong}; "
            'the weights are damaged, or of another architecture'
        )
    facts = {**report, **_facts(model), 'load_s': load_s, 'predict_s': predict_s}
    if args.json:
        print(to_json({'ok': True, **facts}))
    else:
        print(page([_line(facts), *_details(facts)]))
        print(f'ok: loaded in {load_s:.1f} s, one image in {predict_s:.2f} s')
    return 0


def _report(args: argparse.Namespace) -> dict[str, Any]:
    """Check the files on disk; a family other than Marigold's is checked by its loader alone."""
    from marigold_ros.models.average.model import is_average
    from marigold_ros.models.locate import find_autoencoder, find_folder, verify_sums
    from marigold_ros.models.registry import FAMILIES, find_family

    if is_average(args.model):
        return {}
    folder = find_folder(args.model)
    if find_family(folder) is not FAMILIES['marigold']:
        verify_sums(folder)
        return {}
    from marigold_ros.models.marigold.check import check_checkpoint

    vae = find_autoencoder(args.vae) if args.vae else None
    return check_checkpoint(folder, vae)


def _details(facts: dict[str, Any]) -> list[str]:
    """Return lines on the files, the schedule and the autoencoder."""
    lines = []
    for file in facts.get('files', ()):
        size = f'{file["parameters"] / 1e6:.1f} M in {"/".join(file["dtypes"])}'
        verdict = 'as recorded' if file['verified'] else '(no recorded hash)'
        lines.append(f'  {file["path"]}: {size}, SHA-256 {file["sha256"][:12]}… {verdict}')
    if 'timesteps' in facts:
        steps = ', '.join(str(step) for step in facts['timesteps'])
        lines.append(f'  schedule: {facts["timestep_spacing"]}, timesteps {steps}')
        lines.append(f'  autoencoder: mean error of a depth image {facts["round_trip_error"]:.3f}')
    return lines + [f'  note: {note}' for note in facts['notes']]


def _test_image() -> Any:
    """Return a floor, a wall and a ball, (96, 128, 3) uint8, which no model maps to a constant."""
    import numpy as np

    v, u = np.mgrid[0:96, 0:128]
    shade = np.where(v < 48, 150, 60 + v)
    shade = np.where((v - 56) ** 2 + (u - 64) ** 2 < 400, 230 - v, shade)
    return np.repeat(shade[..., None], 3, axis=2).astype(np.uint8)
