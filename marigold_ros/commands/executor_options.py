# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Options of commands that work on many bags: how many at once, and where."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import os
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.options import at_least

if TYPE_CHECKING:
    from marigold_ros.replay.executor import Executor
    from marigold_ros.replay.part_store import PartStore

EXECUTOR_OPTIONS = ('jobs', 'ray')


@dataclass(frozen=True)
class Task:
    """What is done with a bag, and what stands for one whose worker was lost."""

    play: Callable[..., Any]
    lost: Callable[..., Any]


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Declare --jobs and --ray."""
    parser.add_argument(
        '--jobs',
        type=at_least(1),
        default=1,
        metavar='N',
        help='bags at once, each in a process with a model of its own (default: 1)',
    )
    parser.add_argument(
        '--ray',
        nargs='?',
        const='local',
        metavar='ADDRESS',
        help='work on a Ray cluster, a task a bag (without ADDRESS: one of --jobs CPUs started '
        'here); give it behind the bags',
    )


def make_executor(
    args: argparse.Namespace,
    task: Task,
    load: Callable[[argparse.Namespace], Any],
    store: PartStore | None,
    tell: Callable[[int], None],
) -> Executor:
    """
    Make the executor that the options ask for.

    Parameters
    ----------
    args : Namespace
        Those of `add_executor_options` and `add_model_options`. Several processes share the cores,
        unless a number of threads was given.
    task : Task
    load : function of args
        Loads the model, in each process.
    store : PartStore or None
        Keeps finished parts.
    tell : callable
        Told the images done.

    """
    from marigold_ros.replay.executor import processes
    from marigold_ros.replay.ray_executor import Cluster, ray_tasks

    if (args.jobs > 1 or args.ray) and not args.torch_threads:
        args = argparse.Namespace(**vars(args))
        args.torch_threads = 1 if args.ray else max((os.cpu_count() or 1) // args.jobs, 1)
    if not args.ray:
        return processes(task.play, partial(load, args), args.jobs, store, tell)
    cluster = Cluster(args.ray, args.jobs, float(args.device.startswith('cuda')))
    return ray_tasks(task.play, partial(load, args), task.lost, cluster, store, tell)


class ProgressBar:
    """A bar on stderr, silent where that is not a terminal."""

    def __init__(self, expected: int) -> None:
        self._expected = expected

    def __enter__(self) -> ProgressBar:
        from tqdm import tqdm

        self._bar = tqdm(unit='frame', total=self._expected, disable=None)
        return self

    def __call__(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def __exit__(self, *error: object) -> None:
        self._bar.close()
