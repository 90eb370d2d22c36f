# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write metric depth into copies of bags: all their topics, plus depth with its camera_info.

The copies are MCAP bags in DIR, under the names of the bags. A copy appears when it is complete;
an interrupted run resumes with the missing ones.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
import json
import os
from pathlib import Path
import shlex
import shutil
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.options import (
    add_executor_options,
    add_model_options,
    add_setting_option,
    add_topic_options,
    chosen_executor,
    lasting_options,
    load_chosen_model,
    own_folder,
    read_settings,
    refuse_settings,
    replay_options,
    ReplayConfig,
    shared_cores,
)
from marigold_ros.commands.terminal.output import note, page
from marigold_ros.errors import BagError, ConfigurationError, counted, InputError

if TYPE_CHECKING:
    from marigold_ros.replay.bag_label import LabelOptions
    from marigold_ros.replay.replay_plan import BagJob


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('bags', nargs='+', metavar='BAG', help='folder or file of a bag')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the copies')
    parser.add_argument('--json', action='store_true', help='print a report of the copies as JSON')
    parser.add_argument('--points', action='store_true', help='write point clouds too')
    parser.add_argument('--sigma', action='store_true', help='write uncertainty images too')
    add_topic_options(parser, 'image', 'camera_info', 'lidar')
    add_model_options(parser)
    add_executor_options(parser)
    add_setting_option(parser, ReplayConfig)


def run(args: argparse.Namespace) -> int:
    """Label and print; return the exit code."""
    config = read_settings(ReplayConfig, args.settings)
    from marigold_ros.bags.writer import remove_partial
    from marigold_ros.processes import Stopped
    from marigold_ros.replay.bag_label import check_copies, label_bag, LabelOptions, lost_bag
    from marigold_ros.replay.bag_part import keep_options
    from marigold_ros.replay.executor import BagWorker
    from marigold_ros.replay.inspection import check_metric
    from marigold_ros.replay.replay_plan import plan_replay

    if not args.points:
        refuse_settings(args, 'points', 'is of the point clouds; give --points too')
    _check_names(Path(os.path.realpath(args.out)), [Path(bag) for bag in args.bags])
    folder = own_folder(args.out).resolve()
    replay = replay_options(args, config)
    plan = plan_replay(args.bags, replay)
    method = config.pipeline.alignment.method
    load = partial(load_chosen_model, shared_cores(args), runtime=config.runtime)
    check_metric([job.path for job in plan.jobs], replay, load)
    # The method stands there even if it is the default, which may be another one some day.
    lasting = {**lasting_options(args), 'alignment.method': method}
    keep_options(folder / 'label.json', lasting, 'copies labelled', 'give another --out')
    outputs = ('depth', *['points'] * args.points, *['uncertainty'] * args.sigma)
    options = LabelOptions(replay, folder, config.points, outputs)
    check_copies(options, plan.jobs)
    remove_partial(folder)
    _check_room(folder, plan.jobs, options)
    labelled: list[dict[str, Any]] = []
    stopped = False
    worker = BagWorker(label_bag, lost_bag, load, options)
    with chosen_executor(args, worker, plan.images) as executor:
        try:
            with executor(worker, plan.jobs) as parts:
                for part in parts:
                    labelled.append(asdict(part))
        except Stopped:
            stopped = True
    failed = plan.failed | {part['bag']: part['failed'] for part in labelled if part['failed']}
    report = {'schema': 1, 'method': method, 'bags': labelled, 'failed': failed}
    print(json.dumps(report, indent=2) if args.json else _text(labelled))
    written = [Path(part['out']) for part in labelled if part['labelled']]
    if written:
        from marigold_ros.models.hub import as_size

        size = sum(file.stat().st_size for copy in written for file in copy.rglob('*'))
        note(f'{as_size(size)} in {folder}; next: ros2 bag play {shlex.quote(str(written[0]))}')
    if stopped:
        bags = f'{len(labelled)} of {len(plan.jobs)} bags'
        note(f'stopped after {bags}; the same command goes on with the others')
        return 130
    if failed:
        for reason in failed.values():
            note(f'error: {reason}')
        raise BagError(
            f'{len(failed)} of {counted(len(args.bags), "bag")} cannot be read to the end; what '
            f'can be read is labelled in {folder}'
        )
    _check_metric_depth(labelled)
    return 0


def _check_metric_depth(labelled: Sequence[Mapping[str, Any]]) -> None:
    """Raise BagError, with the most frequent warning, where no image of any bag has metres."""
    if not labelled or any(part['labelled'] or not part['read'] for part in labelled):
        return
    warnings = sum((Counter(part['warnings']) for part in labelled), Counter[str]())
    reason = warnings.most_common(1)[0][0] if warnings else 'no LiDAR'
    raise BagError(
        f'no image has metric depth ({reason}): metric depth needs a LiDAR in view; see the '
        'warnings'
    )


def _check_names(folder: Path, bags: list[Path]) -> None:
    """Refuse a folder within a bag, and bags of equal names, after which copies are named."""
    from marigold_ros.replay.bag_label import label_name

    name, count = Counter(label_name(bag) for bag in bags).most_common(1)[0]
    if count > 1:
        raise ConfigurationError(
            f"{count} of the bags are named '{name}', as their copies would be; label them into "
            'different folders'
        )
    # Path's own methods raise for links that lead to themselves, and for names that are too long.
    for bag in (Path(os.path.realpath(bag)) for bag in bags):
        is_part = os.path.isfile(bag) and (bag.parent / 'metadata.yaml').is_file()
        whole = bag.parent if is_part else bag
        if folder.is_relative_to(whole):
            raise ConfigurationError(f'--out {folder} is within the bag {whole}; give another')


def _check_room(folder: Path, jobs: Sequence[BagJob], options: LabelOptions) -> None:
    """Say how large the copies get, and refuse what the disk cannot hold."""
    from marigold_ros.models.hub import as_size
    from marigold_ros.replay.bag_label import copy_bytes

    needed = 0
    for job in jobs:
        if not options.target(job).exists():
            with suppress(BagError, InputError):  # reported with its bag
                needed += copy_bytes(job.path, options)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigurationError(
            f'the copies take about {as_size(needed)}, and {folder} has {as_size(free)} free; '
            'leave out --points, set points.stride, or give an --out on another disk'
        )
    if needed:
        note(f'writing about {as_size(needed)} to {folder}, where {as_size(free)} are free')


def _text(labelled: list[dict[str, Any]]) -> str:
    lines = []
    for part in labelled:
        if part['kept']:
            lines.append(f'{part["out"]}: exists already')
            continue
        rejected = ', '.join(f'{n} {cause}' for cause, n in part['rejected'].items()) or '0'
        lines.append(
            f'{part["out"]}: {part["read"]} images, {part["labelled"]} with metric depth, '
            f'rejected {rejected}'
        )
        counts = part['warnings'].items()
        lines += [f'  warning ({counted(n, "image")}): {text}' for text, n in counts]
        if part['left_out']:
            names = ', '.join(part['left_out'])
            lines.append(f'  left out (unknown types, or written anew): {names}')
    return page(lines)
