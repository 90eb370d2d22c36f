# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Show what a bag holds for depth, what is missing, and the command to run next.

Topics by role with their rates, calibration, LiDAR points in view, clocks and transforms, from a
few images of the bag; no model is loaded. The exit code is 1 if a bag cannot be read, or if none
could be scored.
"""

import argparse
from pathlib import Path
import shlex
from typing import Any

from marigold_ros.commands.terminal.options import (
    add_setting_option,
    add_topic_options,
    given_topics,
    read_settings,
    replay_options,
    ReplayConfig,
    ROLES,
)
from marigold_ros.commands.terminal.output import note, page
from marigold_ros.errors import BagError, number, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('bags', nargs='+', metavar='BAG', help='folder or file of a bag')
    parser.add_argument('--json', action='store_true', help='print all of it as JSON')
    add_topic_options(parser, *ROLES)
    add_setting_option(parser, ReplayConfig)


def run(args: argparse.Namespace) -> int:
    """Inspect and print; return 1 if a bag cannot be read, or none could be scored."""
    config = read_settings(ReplayConfig, args.settings)
    from marigold_ros.replay.inspection import inspect_bag

    options = replay_options(args, config)
    found = []
    for bag in args.bags:
        try:
            facts = inspect_bag(bag, options)
        except BagError as error:
            note(f'error: {error}')
        else:
            found.append({**facts, 'next': _next_command(args, facts)})
    if args.json:
        from marigold_ros.evaluation.results.results import to_json

        print(to_json(found))
    elif found:
        print('\n\n'.join(_text(facts) for facts in found))
    all_read = len(found) == len(args.bags)
    return 0 if all_read and any(facts['scorable'] for facts in found) else 1


def _next_command(args: argparse.Namespace, facts: dict[str, Any]) -> str:
    """Return the command that fits the bag, with the options that were given."""
    from marigold_ros.replay.bag_label import label_name

    given = []
    for role, topic in given_topics(args).items():
        if topic:
            given += [f'--{role.replace("_", "-")}', topic]
    if args.stamps != 'header':
        given += ['--stamps', args.stamps]
    for name, value in args.settings:
        given += ['--set', f'{name}={value}']
    bag = Path(facts['bag'])
    if facts['scorable']:
        words = ['evaluate', str(bag), '--out', f'out/{label_name(bag)}', *given]
    elif facts['topics']['lidar'] is None and facts['camera']:
        ground = ['--set', 'sparse_source=ground', '--set', 'ground.height=METRES']
        words = ['demo', '--bag', str(bag), *ground]
    else:
        return ''
    return shlex.join(['python', '-m', 'marigold_ros', *words])


def _text(facts: dict[str, Any]) -> str:
    lines = [f'{facts["bag"]}: {number(facts["bytes"] / 1e6, 0)} MB, {facts["seconds"]:.1f} s']
    remarks = dict(facts['sources'])
    if image := facts['image']:
        remarks['image'] = f'{image["width"]}x{image["height"]} {image["encoding"]}'
    if camera := facts['camera']:
        wide = f'{camera["horizontal_fov_deg"]:.0f} degrees wide'
        remarks['camera_info'] = f'{camera["model"]}, fx {camera["fx"]:.0f} px, {wide}'
    names = {role: shown(t['topic'], 100) for role, t in facts['topics'].items() if t}
    width = max(map(len, names.values()))
    for role, topic in facts['topics'].items():
        if topic is None:
            lines.append(f'  {role:12}none')
            continue
        rate = '' if not topic['hertz'] else f'{number(topic["hertz"], 1)} Hz'
        words = remarks.get(role) or topic['type'].rpartition('/')[2]
        count = topic['count']
        lines.append(f'  {role:12}{names[role]:{width}}{count:8d} {rate:>8}  {words}')
    if lidar := facts['lidar']:
        first, last = lidar['rows']
        height = facts['image']['height']
        lines.append(
            f'points: {lidar["in_view"]:.0f} of {lidar["points"]:.0f} in view, in '
            f'{lidar["share"]:.0%} of the image (rows {first} to {last} of {height}), '
            f'{lidar["dt_ms"]:.0f} ms from their images'
        )
    sensor = facts['topics']['lidar']
    if sensor and not sensor['type'].endswith('Image') and facts['transform'] is not None:
        known = 'known' if facts['transform'] else 'missing'
        lines.append(f'transform from LiDAR to camera: {known}')
    for text, count in facts['problems'].items():
        lines.append(f'problem ({count} of {facts["images"]} images): {text}')
    if facts['other_cameras']:
        lines.append(f'other cameras (--image): {", ".join(facts["other_cameras"])}')
    if facts['other_topics'] != 'no topics':
        lines.append(f'other topics: {facts["other_topics"]}')
    if not facts['scorable']:
        lines.append(f'nothing to score against: {facts["reason"]}')
    if facts['next']:
        lines.append(f'next: {facts["next"]}')
    return page(lines)
