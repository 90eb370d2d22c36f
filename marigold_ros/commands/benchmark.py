# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Time a Marigold stage by stage, the reference beside it, or whole frames with any model.

  python -m marigold_ros benchmark
  python -m marigold_ros benchmark --model tiny --against diffusers
  python -m marigold_ros benchmark --model tiny --variants all
  python -m marigold_ros benchmark --arch sd2
  python -m marigold_ros benchmark frame
The figures depend on what else the machine does: the load is printed with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
import json
from statistics import median
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_option,
    add_setting_option,
    check_file,
    image_size,
    integer,
    load_chosen_model,
    make_folder,
    model_settings,
    read_settings,
    refuse_given,
    RuntimeSettings,
)
from marigold_ros.commands.terminal.output import grid, note, step_bar
from marigold_ros.config import ModelConfig
from marigold_ros.errors import counted, number, UsageError
from marigold_ros.whole_files import write_whole

if TYPE_CHECKING:
    from marigold_ros.models.marigold.checkpoint import Networks
    import numpy as np


_FILE = 'benchmark.json'
_FRAMES = 20  # of each case of `benchmark frame`
# Options that `benchmark frame` lacks.
_OF_MODEL = 'arch', 'against', 'size', 'resolution', 'steps', 'members', 'seed', 'variants'
# Readable names of some stages.
_STAGES = {
    'start': 'start noise',
    'denoise': 'U-Net, all steps',
    'unet_step': 'U-Net per step',
    'merge': 'ensemble',
    'postprocess': 'postprocess, download',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    text = 'a Marigold (default: tiny), or whole frames from message to message with any model '
    text += f'(default: {ModelConfig().model}; --model, --runs, --set, --trace)'
    parser.add_argument('what', nargs='?', choices=('model', 'frame'), default='model', help=text)
    add_model_options(parser, model=None)
    text = 'random weights of this shape in place of --model; --vae tiny: a small autoencoder'
    add_option(parser, '--arch', str, None, text, choices=('sd2',))
    parser.add_argument('--against', choices=('diffusers',), help='the reference to compare with')
    add_option(parser, '--size', image_size('HxW'), 'HxW', 'of the image', (480, 640))
    add_option(parser, '--resolution', int, 'N', "processing resolution (checkpoint's)")
    add_option(parser, '--steps', int, 'N', "denoising steps (checkpoint's)")
    add_option(parser, '--members', int, 'E', "ensemble size (checkpoint's)")
    add_option(parser, '--seed', int, 'N', 'of the noise', 0)
    text = f'frames (default: as many as fit in 15 s, with `frame` {_FRAMES})'
    add_option(parser, '--runs', integer(1), 'N', text)
    add_option(parser, '--rounds', integer(1), 'N', 'of a comparison', 3)
    text = 'runtime variants to compare with the plain float32 model: all, or names as '
    text += 'bfloat16+channels_last of channels_last, compile, openvino, onnxruntime, bfloat16, '
    text += 'float16'
    add_option(parser, '--variants', str, 'VARIANT', text, nargs='+')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    text = 'frame: also write the calls of one frame of each case, by thread, for Perfetto'
    add_option(parser, '--trace', str, 'FILE', text)
    add_option(parser, '--out', str, 'DIR', 'write the figures to DIR as benchmark.json')
    add_setting_option(parser, RuntimeSettings)


def run(args: argparse.Namespace) -> int:
    """Measure and print; return the exit code."""
    from marigold_ros.evaluation.results.results import machine, to_json

    folder = None if args.out is None else make_folder(args.out, _FILE)
    of_frame = args.what == 'frame'
    if args.model is not None and args.arch:
        raise UsageError(f"--arch {args.arch} takes the place of --model '{args.model}'; give one")
    if args.model is None:
        args.model = ModelConfig().model if of_frame else 'tiny'
    if args.trace and not of_frame:
        raise UsageError('--trace is of whole frames; write `benchmark frame --trace FILE`')
    trace_file = check_file('--trace', args.trace) if args.trace is not None else None
    if of_frame:
        reason = (
            'is of a model alone, and whole frames have cases of their own: leave it out, or '
            'leave out `frame`'
        )
        refuse_given(args, add_arguments, _OF_MODEL, reason)
    if not (args.against or args.variants):
        refuse_given(args, add_arguments, ['rounds'], 'is for --against or --variants; add one')
    measured = _measure_frames(args) if of_frame else _measure(args)
    trace = measured.pop('trace', None)
    results = {'schema': 1, 'machine': machine(), **measured}
    text = to_json(results)
    table = _frame_table if of_frame else _table
    print(text if args.json else table(results))
    if folder is not None:
        path = folder / _FILE
        write_whole(path, f'{text}\n'.encode())
        note(str(path))
    if trace_file is not None:
        write_whole(trace_file, json.dumps(trace).encode())
        note(args.trace)
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time the chosen model, and what it is to be compared with."""
    from marigold_ros.evaluation.results.results import versions
    from marigold_ros.models import use_threads
    from marigold_ros.models.benchmarks.benchmark import Benchmark, variants, Work
    from marigold_ros.models.runtime.devices import choose_device

    config = model_settings(args)
    use_threads(config.torch_threads)
    runtime = read_settings(RuntimeSettings, args.settings).runtime
    chosen = variants(args.variants or [], choose_device(config.device))
    height, width = args.size
    work = Work(height, width, args.steps, args.members, args.resolution, args.seed)
    benchmark = Benchmark(_source(args), work, config.device, config.dtype, note, runtime)
    results: dict[str, Any] = {
        'versions': versions(),
        **benchmark.describe(),
        'own': benchmark.measure(args.runs or 0, step_bar),
    }
    if args.against:
        results['against'] = benchmark.against_reference(args.rounds, step_bar)
    if chosen:
        results['variants'] = benchmark.measure_variants(chosen, args.rounds, step_bar)
    return results


def _measure_frames(args: argparse.Namespace) -> dict[str, Any]:
    from marigold_ros.evaluation.results.results import versions
    from marigold_ros.models import count_threads
    from marigold_ros.replay.frame_budget import CASES, measure_frames
    from marigold_ros.synthetic.scenes.scene import make_sample

    model = load_chosen_model(args, read_settings(RuntimeSettings, args.settings).runtime)

    def render(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        sample = make_sample(0, width, height, 'street')
        return sample.rgb, sample.depth

    with step_bar(3 * len(CASES), 'measure') as bar:
        frames = measure_frames(model, render, args.runs or _FRAMES, bar.update)
    calls = [{**call, 'pid': i} for i, frame in enumerate(frames) for call in frame.pop('calls')]
    names = [
        {'ph': 'M', 'name': 'process_name', 'pid': i, 'args': {'name': frame['name']}}
        for i, frame in enumerate(frames)
    ]
    facts = model.description
    return {
        'versions': versions(),
        'threads': count_threads(args.torch_threads),
        'model': {'name': facts['name'], 'dtype': facts['dtype']},
        'backend': facts['runtime']['backend'],
        'frames': frames,
        'trace': names + calls,
    }


def _frame_table(results: Mapping[str, Any]) -> str:
    """Return the budgets as text for a terminal."""
    frames, model = results['frames'], results['model']
    rows = [['milliseconds', *(frame['name'] for frame in frames)]]
    for name in frames[0]['stages_ms']:
        rows.append([name, *(_p50_p95(frame['stages_ms'][name]) for frame in frames)])
    for name, key in (('frame', 'wall_ms'), ('CPU time', 'core_ms')):
        rows.append([name, *(_p50_p95(frame[key]) for frame in frames)])
    rows.append(['allocated MB', *(f'{frame["allocated_mb"]:.1f}' for frame in frames)])
    rows.append(['after the model', *(f'{frame["after_model_ms"]:.1f}' for frame in frames)])
    shares = (frame['after_model_core_ms'] / frame['interpolation_core_ms'] for frame in frames)
    rows.append(['its CPU time / SciPy', *(f'{share:.2f}' for share in shares)])
    rows.append(['beside two processes', *(f'{frame["beside_busy"]:.1f}x' for frame in frames)])
    head = (
        f'{model["name"]} by {results["backend"]} in {model["dtype"]}, '
        f'{counted(results["threads"], "thread")}, {results["machine"]["processor"]}: '
        'median (95 %)'
    )
    return '\n'.join([head, '', *grid(rows)])


def _p50_p95(value: Mapping[str, float]) -> str:
    return f'{value["p50"]:.1f} ({value["p95"]:.1f})'


def _source(args: argparse.Namespace) -> Callable[[], Networks]:
    """Return a function that loads the chosen networks, each time with the same weights."""
    if args.arch:
        from marigold_ros.models.benchmarks.random_networks import random_networks

        if args.vae not in ('', 'tiny'):
            raise UsageError(f"--vae is '{args.vae}'; with --arch it is tiny, or leave it out")
        return lambda: random_networks(args.vae or 'kl')
    from marigold_ros.models import families_of
    from marigold_ros.models.locate import find_autoencoder, find_folder
    from marigold_ros.models.marigold.checkpoint import load_networks
    from marigold_ros.models.registry import FAMILIES

    if families_of(args.model) != [FAMILIES['marigold']]:
        raise UsageError(
            f"'{args.model}' is no Marigold, which alone has stages to time; write --model tiny, "
            'or time whole frames with any model: `benchmark frame`'
        )
    folder = find_folder(args.model)
    vae = find_autoencoder(args.vae) if args.vae else None
    return lambda: load_networks(folder, vae)


def _table(results: Mapping[str, Any]) -> str:
    own, work, model = results['own'], results['work'], results['model']
    machine, device = results['machine'], results['device']
    name = machine['processor'] if device['name'] == 'cpu' else device['name']
    lines = [
        f'{model["name"]}: {model["parameters"] / 1e6:.1f} M parameters, {model["dtype"]}, '
        f'{model["autoencoder"]}',
        f'{name}, {counted(device["threads"], "thread")}, torch {device["torch"]}, load average '
        f'{device["load_average"]:.1f}',
        f'image {work["height"]}x{work["width"]}, networks '
        f'{"x".join(map(str, work["processing_size"]))}, '
        f'{counted(work["steps"], "step")}, {counted(work["members"], "member")}, '
        f'{counted(own["runs"], "run")}',
        '',
        *grid(_stage_rows(own)),
        '',
        f'{number(own["fps"], 2)} frames per second; loaded in {own["load_s"]:.1f} s, '
        f'first frame {own["first_ms"]:.0f} ms',
        f'peak memory {own["peak_memory_bytes"] / 1e9:.2f} GB'
        + (' (of the whole process)' if own['peak_memory_is_of_the_whole_process'] else ''),
        f'{own["tflop"]["frame"]:.3f} TFLOP per frame, {own["tflop_per_s"]:.3f} TFLOP/s: '
        f'{100 * own["share_of_peak"]:.0f} % of the measured matmul peak '
        f'({own["matmul_peak_tflop_per_s"]:.3f})',
    ]
    if 'against' in results:
        lines += ['', *_against(results['against'])]
    if 'variants' in results:
        lines += ['', *_variants(results['variants'])]
    return '\n'.join(lines)


def _stage_rows(own: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [('stage', 'p50 ms', 'p95', 'p99', 'share')]
    frame = own['frame_ms']['p50']
    for name, value in {**own['stages_ms'], 'frame': own['frame_ms']}.items():
        share = '' if name == 'unet_step' else f'{100 * value["p50"] / frame:.0f} %'
        cells = (f'{value[cut]:.2f}' for cut in ('p50', 'p95', 'p99'))
        rows.append((_STAGES.get(name, name), *cells, share))
    return rows


def _against(against: Mapping[str, Any]) -> list[str]:
    rounds = zip(against['ours_ms'], against['reference_ms'], against['ratios'], strict=True)
    rows: list[tuple[str, ...]] = [('round', 'ours ms', 'diffusers ms', 'ratio')]
    rows += [(str(i), f'{a:.1f}', f'{b:.1f}', f'{r:.2f}') for i, (a, b, r) in enumerate(rounds, 1)]
    exact, usual = against['difference_exact'], against['difference_default']
    return [
        *grid(rows),
        f'{against["ratio"]:.2f} times as fast as diffusers in {against["reference_dtype"]} '
        '(median of the rounds)',
        f'difference of the predictions: max {exact["max"]:.2g}, mean {exact["mean"]:.2g} with '
        f'reference_exact; max {usual["max"]:.2g}, mean {usual["mean"]:.2g} with our last step '
        'and merge',
    ]


def _variants(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells: list[tuple[str, ...]] = [
        ('variant', 'ms', 'plain ms', 'ratio', 'max diff', 'mean diff', 'ready in s')
    ]
    for row in rows:
        times = (f'{median(row[key]):.1f}' for key in ('variant_ms', 'plain_ms'))
        differences = (f'{row["difference"][key]:.2g}' for key in ('max', 'mean'))
        ratio, ready = f'{row["ratio"]:.2f}', f'{row["ready_s"]:.1f}'
        cells.append((row['variant'], *times, ratio, *differences, ready))
    return grid(cells)
