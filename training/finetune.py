# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Train a checkpoint from a recipe; the same command again resumes from the last checkpoint.

    python training/finetune.py training/recipes/debug.yaml --out runs/debug
    python training/finetune.py training/recipes/tiny.yaml --out runs/tiny --minutes 30
    python training/finetune.py training/recipes/marigold_v1_1.yaml --plan
    python training/finetune.py training/recipes/marigold_v1_1.yaml --data-only
    python training/finetune.py training/recipes/tiny.yaml --out runs/tiny --export-only --score
    python training/finetune.py training/recipes/fusion.yaml --out runs/fusion
    python training/finetune.py training/recipes/distill.yaml --out runs/distill
    accelerate launch --num_processes 2 training/finetune.py RECIPE --out runs/mine --shard
    torchrun --nproc_per_node 2 training/finetune.py RECIPE --out runs/mine --device cpu

SIGTERM and Ctrl-C end it with a checkpoint after the current step, exit code 130 and no export;
what is no training ends at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import suppress
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys
from typing import Any, TYPE_CHECKING

from marigold_ros.threads import settle_threads

if TYPE_CHECKING:
    from accelerate import Accelerator

settle_threads()


def main() -> int:
    """Read the recipe, prepare the data, train, export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recipe', type=Path, help='YAML file, see training/recipes')
    parser.add_argument('--out', help='folder of the run')
    parser.add_argument(
        '--data', type=Path, default=Path('data'), help='where the data is (default: data)'
    )
    parser.add_argument(
        '--minutes', type=float, help='stop with a checkpoint after this time, and export it'
    )
    parser.add_argument('--workers', type=int, default=2, help='processes that load (default: 2)')
    parser.add_argument(
        '--device', choices=('auto', 'cpu'), default='auto', help='auto: a GPU if there is one'
    )
    parser.add_argument(
        '--precision', choices=('no', 'bf16', 'fp16'), help="default: the recipe's, else bf16"
    )
    parser.add_argument(
        '--shard', action='store_true', help='divide the weights among the processes (FSDP)'
    )
    parser.add_argument(
        '--plan', action='store_true', help='print FLOP, memory and hours of each stage and stop'
    )
    parser.add_argument('--data-only', action='store_true', help='prepare the data and stop')
    parser.add_argument('--export-only', action='store_true', help='export the last checkpoint')
    parser.add_argument(
        '--weights', default='', metavar='FILE', help='to export: a file of backups/, or last'
    )
    parser.add_argument(
        '--wandb', metavar='PROJECT', help='log to this project of Weights & Biases as well'
    )
    parser.add_argument(
        '--score', action='store_true', help='score on held-out scenes for the card (minutes)'
    )
    args = parser.parse_args()
    if not (args.out or args.plan or args.data_only):
        parser.error('--out is missing, the folder of the run')
    if args.minutes is not None and not args.minutes >= 0:
        parser.error(f'--minutes is {args.minutes:g}; give 0 or more')
    if args.plan + args.data_only + args.export_only > 1:
        parser.error('--plan, --data-only and --export-only exclude each other; give one of them')
    if args.workers < 0:
        parser.error(f'--workers is {args.workers}; give 0 or more')
    if args.weights and not args.export_only:
        parser.error('--weights is for --export-only')

    from marigold_ros.commands.terminal.options import make_folder, own_folder
    from marigold_ros.errors import MarigoldError
    from marigold_ros.models.light_imports import import_networks
    from marigold_ros.models.locate import FUSION
    from marigold_ros.processes import Stopped

    import_networks()  # before what follows imports all of diffusers
    from marigold_training.distillation import Distillation
    from marigold_training.fusion.run import FusionRun
    from marigold_training.held_out import GENERATORS
    from marigold_training.plan import format_plan, hours_of, plan_recipe
    from marigold_training.run.accelerator import end, in_any, new_accelerator, start_wandb
    from marigold_training.run.recipe import (
        network_of,
        precision_of,
        read_recipe,
        TrainingRun,
    )
    from marigold_training.run.run_state import STATE, trained_stages

    wanted: list[int] = []
    former = {}
    if not (args.plan or args.export_only):
        for number in (signal.SIGTERM, signal.SIGINT):
            former[number] = signal.signal(number, lambda received, _: wanted.append(received))
    try:
        recipe = read_recipe(args.recipe)
        precision = args.precision or precision_of(recipe)
        if args.plan:
            networks, plans = plan_recipe(args.recipe, precision != 'no')
            if plans:
                print(format_plan(networks, plans))
            print(hours_of(args.recipe, plans, new_accelerator(precision, args.device == 'cpu')))
            return 0
        args.out = make_folder(args.out) if args.out else None  # before data are prepared
        fusion, distils = network_of(recipe) == FUSION, 'student' in recipe
        kind = FusionRun if fusion else Distillation if distils else TrainingRun
        accelerator = new_accelerator(precision, args.device == 'cpu', bool(args.wandb))
        if warning := missing_processes(accelerator.num_processes, os.environ):
            print(f'{Path(sys.argv[0]).stem}: {warning}', file=sys.stderr)
        trains = not (args.data_only or args.export_only)
        if trains and accelerator.is_main_process:
            own_folder(args.out)  # a run that goes on elsewhere would mix with this one
        with accelerator.local_main_process_first():  # which creates the render cache
            run = kind(
                args.recipe,
                args.out,
                args.data,
                accelerator,
                args.workers,
                args.shard,
                GENERATORS,
                networks=not args.data_only,
            )
        if accelerator.is_local_main_process and not args.export_only:
            with suppress(Stopped):
                run.prepare(max(1, args.workers), lambda: bool(wanted))
        if in_any(bool(wanted)):  # once all are here
            return stopped(accelerator, 'while data were prepared')
        if args.data_only:
            for source in () if fusion else run.sources:
                print(f'{source.name}: {len(source)} pairs are complete')
            end(accelerator)
            return 0
        if not args.export_only:
            if args.wandb:
                start_wandb(accelerator, args.wandb, args.out, run.recipe)
            ended = run.train(args.minutes, lambda: bool(wanted), {'commit': commit()})
            if not ended and (wanted or args.minutes is None):
                where = trained_stages(args.out / STATE, run.stages)[1]
                return stopped(accelerator, f'at {where}')
        for number, handler in former.items():
            signal.signal(number, handler)
        if accelerator.is_main_process:
            target = run.export(args.score, args.weights)
            print(run.measured(), target, *next_steps(args.out, target, recipe), sep='\n')
        end(accelerator)
    except MarigoldError as error:
        print(f'{Path(sys.argv[0]).stem}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def stopped(accelerator: Accelerator, where: str) -> int:
    """Say where a signal has stopped the run and end it; return the exit code."""
    from marigold_training.run.accelerator import end

    if accelerator.is_main_process:
        print(f'stopped {where}; the same command resumes', file=sys.stderr)
    end(accelerator)
    return 130


def next_steps(out: Path, target: Path, recipe: Mapping[str, Any]) -> list[str]:
    """Return where losses and images of a run are, and the command that uses its result."""
    from marigold_training.run.run_log import CURVES

    use = ['predict', 'IMAGE', '--model', str(target), '--out', f'{out}/depth']
    if 'student' in recipe:
        use = ['benchmark', '--model', str(recipe['init']['path']), '--vae', str(target)]
    elif recipe.get('network') == 'fusion':
        use = ['evaluate', 'BAG', '--set', f'alignment.fusion={target}', '--out', f'{out}/scored']
    seen = f'losses: {out}/log.jsonl'
    if (out / CURVES).is_dir():
        seen += f' (curves: tensorboard --logdir {shlex.quote(str(out))})'
    images = f'; images: {out}/pictures' if (out / 'pictures').is_dir() else ''
    return [seen + images, f'next: python -m marigold_ros {shlex.join(use)}']


def missing_processes(processes: int, environment: Mapping[str, str]) -> str:
    """
    Return a warning if ``accelerate launch`` should have started several processes.

    On CPUs it needs MPI to start them and is silent without (accelerate 1.15); it only sets the
    address of their rendezvous.

    Parameters
    ----------
    processes : int
        Number of processes running.
    environment : mapping
        Environment variables.

    Returns
    -------
    str
        Empty if nothing is wrong.

    """
    meant = environment.get('ACCELERATE_USE_CPU') == 'True' and 'MASTER_PORT' in environment
    if processes > 1 or not meant or 'WORLD_SIZE' in environment:
        return ''
    return (
        'this is a single process: on CPUs accelerate launch needs MPI to start more; use '
        'torchrun --nproc_per_node 2 instead. The result will be the same, only later'
    )


def commit() -> Any:
    """Return the commit of this checkout, None outside of one."""
    answer = subprocess.run(
        ['git', 'rev-parse', 'HEAD'],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or None


if __name__ == '__main__':
    code = main()
    from marigold_training.run.accelerator import leave

    leave(code)
