# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Replay bags through the pipeline, image by image and without ROS, and score the depth.

With a LiDAR, every n-th scan line (or degree of azimuth: --heldout azimuth) is for the fit and
those between are for the score; with a topic of true depth, the published depth is scored against
it as well. Planes, quadrics and interpolated LiDAR are scored in the same run. Writes
results.json, per_frame.csv, report.html and pictures/ to DIR.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.evaluate_options import (
    add_input_options,
    chosen_images,
    ORACLES,
    published_oracle,
)
from marigold_ros.commands.evaluation_text import summary, why_unscored
from marigold_ros.commands.executor_options import (
    add_executor_options,
    EXECUTOR_OPTIONS,
    make_executor,
    ProgressBar,
    Task,
)
from marigold_ros.commands.options import (
    add_model_options,
    add_require_option,
    add_setting_option,
    at_least,
    exit_code,
    load_chosen_model,
    make_folder,
    read_settings,
)
from marigold_ros.config import (
    check_guidance,
    ExtrinsicsConfig,
    LidarConfig,
    PipelineConfig,
    PointsConfig,
    RuntimeConfig,
)
from marigold_ros.errors import BagError
from marigold_ros.settings import group, Settings

if TYPE_CHECKING:
    from marigold_ros.replay.model_scorers import Models
    from marigold_ros.replay.part_store import PartStore


@dataclass(frozen=True)
class ReplayConfig(Settings):
    """All settings of a replay."""

    pipeline: PipelineConfig = group(PipelineConfig, flat=True)
    lidar: LidarConfig = group(LidarConfig)
    points: PointsConfig = group(PointsConfig)
    extrinsics: ExtrinsicsConfig = group(ExtrinsicsConfig)
    runtime: RuntimeConfig = group(RuntimeConfig)

    def check(self) -> None:
        """Check that guidance has gradients."""
        check_guidance(self.pipeline, self.runtime)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'bags', nargs='+', metavar='BAG', help='folder or file of a bag; or see --dataset'
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='where the results go')
    parser.add_argument('--json', action='store_true', help='print results.json on stdout')
    for name in ('image', 'camera-info', 'lidar', 'truth'):
        parser.add_argument(f'--{name}', metavar='TOPIC', help='default: found by type')
    add_model_options(parser)
    parser.add_argument(
        '--fit-every',
        type=at_least(2),
        default=8,
        metavar='N',
        help='every N-th line or degree is for the fit (default: 8)',
    )
    parser.add_argument(
        '--heldout',
        choices=('rings', 'azimuth'),
        default='rings',
        help='score between scan lines, or between degrees of azimuth (default: rings)',
    )
    parser.add_argument(
        '--oracle',
        choices=ORACLES,
        help='crop, depth range and fit of the bound, as publications have them (default: that of '
        '--dataset, else own: the whole image)',
    )
    parser.add_argument(
        '--against',
        action='append',
        default=[],
        metavar='CHECKPOINT',
        help='score this one too, on the same frames and points (may be repeated)',
    )
    parser.add_argument(
        '--stamps',
        choices=('header', 'log'),
        default='header',
        help='pair images and scans by header, or by the time of recording (default: header)',
    )
    parser.add_argument(
        '--limit', type=at_least(1), metavar='N', help='stop after N images (default: all)'
    )
    add_input_options(parser)
    add_executor_options(parser)
    parser.add_argument(
        '--record',
        action='store_true',
        help='write what the node would publish to DIR/recording, an MCAP bag for RViz and '
        'Foxglove (--set points.stride=4 for a smaller cloud)',
    )
    add_require_option(parser)
    add_setting_option(parser, ReplayConfig)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; returns the exit code."""
    config = read_settings(ReplayConfig, args.settings)
    from marigold_ros.evaluation.results.results import to_json
    from marigold_ros.replay.bag_replay import lost_part, replay
    from marigold_ros.replay.evaluate_bags import evaluate_bag
    from marigold_ros.replay.replay_plan import plan_replay, ReplayOptions

    make_folder(args.out)
    options = ReplayOptions(
        config.pipeline,
        config.lidar,
        topics={role: getattr(args, role) for role in ('image', 'camera_info', 'lidar', 'truth')},
        T_cam_lidar=extrinsics(config.extrinsics),
        fit_every=args.fit_every,
        held_out=args.heldout,
        stamps=args.stamps,
        oracle=args.oracle or published_oracle(args.dataset),
        corruptions=args.corrupt,
        images=chosen_images(args),
        limit=args.limit,
        record=config.points if args.record else None,
    )
    plan = plan_replay(args.bags, options)
    store = _open_store(args)
    task, load = Task(replay, lost_part), partial(_load, runtime=config.runtime)
    with ProgressBar(plan.images) as bar:
        executor = make_executor(args, task, load, store, bar)
        results = evaluate_bag(args.bags, None, options, args.out, executor=executor, plan=plan)
    if store:
        store.clear()
    print(to_json(results) if args.json else summary(results, args.out))
    if not results['protocols']:
        raise BagError(f'{why_unscored(results)}; what was read is told in {args.out}')
    return exit_code(args.require, results)


def extrinsics(config: ExtrinsicsConfig) -> Any:
    """Pose of the LiDAR in the optical frame, None where the bag's /tf_static counts."""
    if not config.translation:
        return None
    from marigold_ros.bags.transforms import pose_matrix

    return pose_matrix(config.translation, config.rotation_xyzw)


def _load(args: argparse.Namespace, runtime: RuntimeConfig) -> Models:
    """Load the model and the compared models, which are named as they were given."""
    from marigold_ros.replay.model_scorers import Models

    compared: dict[str, Any] = {}
    for given in args.against:
        name = Path(given).name
        while name in compared:
            name += "'"
        chosen = argparse.Namespace(**{**vars(args), 'model': given, 'vae': ''})
        compared[name] = load_chosen_model(chosen, runtime)
    return Models(load_chosen_model(args, runtime), compared)


def _open_store(args: argparse.Namespace) -> PartStore | None:
    """Find what an earlier run with these options has finished; one bag alone is not kept."""
    from marigold_ros.evaluation.results.results import versions
    from marigold_ros.replay.part_store import PartStore

    if len(args.bags) == 1:
        return None
    store = PartStore(Path(args.out) / 'parts')
    apart = ('bags', 'out', 'json', 'require', *EXECUTOR_OPTIONS)
    options = {name: value for name, value in vars(args).items() if name not in apart}
    kept = store.open({**options, 'versions': versions()})
    if kept:
        print(f'going on: {kept} bags were finished before', file=sys.stderr)
    return store
