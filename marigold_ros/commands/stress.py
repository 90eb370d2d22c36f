# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Try the node over DDS as a robot's worst night would: broken messages, restarts, jumping clocks.

  python -m marigold_ros stress faults                 10 000 messages, every second one broken
  python -m marigold_ros stress soak --minutes 20      changes and restarts while frames come
  python -m marigold_ros stress timing                 start, age of depth at 30 Hz, CPU time
Exit code 1 if something was lost, wrong, not counted, if memory or threads grew, or late.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from marigold_ros.commands.benchmarks.report import grid
from marigold_ros.commands.options import at_least, needing_ros


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('trial', choices=('faults', 'soak', 'timing'))
    parser.add_argument(
        '--messages',
        type=at_least(4),
        default=10000,
        metavar='N',
        help='of faults (default: 10000)',
    )
    parser.add_argument(
        '--minutes', type=float, default=20.0, metavar='M', help='of soak (default: 20)'
    )
    parser.add_argument(
        '--seconds', type=float, default=30.0, metavar='S', help='of timing (default: 30, twice)'
    )
    parser.add_argument(
        '--seed', type=at_least(0), default=0, metavar='N', help='of the order (default: 0)'
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')


def run(args: argparse.Namespace) -> int:
    """Run a trial and print what came of it."""
    with needing_ros():
        import fault_campaign
        import soak
        import timing_trial
    from tqdm import tqdm

    if args.trial == 'faults':
        with tqdm(total=args.messages, desc='messages', leave=None) as bar:
            outcome: Any = fault_campaign.run_campaign(args.messages, args.seed, bar.update)
        text = _fault_table(outcome)
    elif args.trial == 'soak':
        with tqdm(total=round(60 * args.minutes), desc='seconds', leave=None) as bar:
            outcome = soak.run_soak(60.0 * args.minutes, args.seed, bar.update)
        text = _soak_table(outcome)
    else:
        with tqdm(total=round(2 * args.seconds), desc='seconds', leave=None) as bar:
            outcome = timing_trial.run_trial(args.seconds, args.seed, bar.update)
        text = _timing_table(outcome)
    figures = {**vars(outcome), 'clean': outcome.clean}
    print(json.dumps(figures, default=vars) if args.json else text)
    return 0 if outcome.clean else 1


def _fault_table(outcome: Any) -> str:
    rows = [(name, str(sent), str(outcome.counted[name])) for name, sent in outcome.sent.items()]
    lines = [
        *grid([('fault', 'sent', 'counted'), *rows]),
        f'{outcome.good} good frames: {len(outcome.lost)} without depth, '
        f'{len(outcome.wrong)} with other depth than without ROS; '
        f'depth of broken messages: {len(outcome.unwanted)}',
    ]
    return '\n'.join([*lines, *outcome.lost[:5], *outcome.wrong[:5], *outcome.unwanted[:5]])


def _timing_table(outcome: Any) -> str:
    rows = [('figure', 'measured', 'limit', '')]
    for figure in outcome.figures:
        limit = '' if figure.limit is None else f'{figure.limit:.1f}'
        text = f'{figure.value:.2f} {figure.unit}'
        rows.append((figure.name, text, limit, '' if figure.good else 'MISSED'))
    return '\n'.join(grid(rows))


def _soak_table(outcome: Any) -> str:
    rows = [(name, str(count)) for name, count in outcome.events.items()]
    lines = [
        *grid(rows),
        f'frames: {outcome.received} received, {outcome.served} served, '
        f'{outcome.unaccounted} unaccounted for',
        f'memory: {outcome.memory_mb[0]:.0f} MB, then {outcome.memory_mb[1]:.0f} MB '
        f'({100 * outcome.growth:+.1f} %)',
        f'threads: {outcome.threads[0]}, then {outcome.threads[1]}',
    ]
    return '\n'.join(lines)
