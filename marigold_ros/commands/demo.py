# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run the real node over DDS on a synthetic drive or a bag, score its depth, and draw a report.

The node runs in its own process and receives the bag as from a robot; its outputs are recorded as
a bag and scored. With a topic of true depth, the node sees whole scans; without one it sees every
8th scan line, and its depth is scored at the scan lines between. Writes report.html, results.json,
per_frame.csv, cloud.ply, demo.webp, pictures/, recording/ and node.log to DIR.
"""

import argparse
import functools
import sys
import time
from typing import Any

from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_option,
    add_setting_option,
    image_size,
    integer,
    load_chosen_model,
    model_settings,
    own_folder,
    read_settings,
    refuse_given,
    refuse_settings,
    speed,
)
from marigold_ros.commands.terminal.output import frame_bar, note, summary
from marigold_ros.config import NodeConfig
from marigold_ros.settings import as_values
from marigold_ros.sparse_sources import GROUND, source_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_option(parser, '--bag', str, 'BAG', 'play this bag (default: a synthetic drive)')
    add_option(parser, '--out', str, 'DIR', 'folder for all files', 'out/demo')
    text = 'auto measures the first frames and plays so fast that every frame is processed; a '
    text += 'number is a multiple of real time, with dropped frames (default: auto)'
    add_option(parser, '--rate', speed, 'auto|R', text)
    add_option(parser, '--frames', integer(1), 'N', 'images (default: 40, or the whole bag)')
    size = (640, 480)
    add_option(parser, '--size', image_size('WxH'), 'WxH', 'of the synthetic drive', size)
    parser.add_argument('--json', action='store_true', help='print results.json on stdout')
    parser.add_argument(
        '--rerun',
        action='store_true',
        help='also write DIR/demo.rrd for the viewer of rerun (pip install rerun-sdk)',
    )
    add_model_options(parser)
    add_setting_option(parser, NodeConfig)


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 1 if the node reported a fault, or without any metric depth."""
    from marigold_ros.live_run.played_bag import DemoJob, prepare_bag, synthetic_drive
    from marigold_ros.live_run.scoring import clear_old, evaluate_offline, FILES
    from marigold_ros.models import families_of
    from marigold_ros.replay.inspection import check_metric
    from marigold_ros.replay.replay_plan import ReplayOptions
    from marigold_ros.replay.rerun_file import require_rerun

    started = time.monotonic()
    say = functools.partial(print, file=sys.stderr if args.json else sys.stdout, flush=True)
    chosen = {name: str(value) for name, value in as_values(model_settings(args)).items()}
    chosen.update(args.settings)  # which may name a model too
    config = read_settings(NodeConfig, chosen.items())
    if GROUND not in source_names(config.sparse_source):
        refuse_settings(args, 'ground', 'is of the source ground; name it in sparse_source too')
    if args.rerun:
        require_rerun()
    path = args.bag
    if path is not None:
        reason = 'is of the synthetic drive; leave it out, or leave out --bag'
        refuse_given(args, add_arguments, ['size'], reason)
    folder = own_folder(args.out, *FILES, 'drive.json', 'fast_dds.xml')
    if path is None:
        say(f'synthetic drive: {folder / "drive"}')
        path = synthetic_drive(folder, args.frames or 40, *args.size)
    bag = prepare_bag(path, config, args.frames)
    families_of(config.model.model)  # a model that is missing replaces no earlier results
    model = argparse.Namespace(**vars(config.model))
    load = functools.partial(load_chosen_model, model, config.runtime)
    if args.bag is not None and set(bag.sources) <= {bag.lidar_kind}:
        options = ReplayOptions(config.pipeline, config.lidar, T_cam_lidar=bag.T_cam_lidar)
        check_metric([bag.path], options, load)
    clear_old(folder)
    rerun = folder / 'demo.rrd' if args.rerun else None
    job = DemoJob(bag, config, folder, args.rate, rerun)
    live = live_runner()
    faults: list[str] = []
    if live is None:
        say('rclpy cannot be imported: the same pipeline runs offline, without the node')
        with frame_bar(bag.images, 'offline') as progress:
            results = evaluate_offline(job, load(), progress)
    else:
        faults, results = live.run_demo(job, say, frame_bar)
    frames = results['frames']
    if frames['processed'] and not frames['metric']:
        reason = results['provenance']['scoring']['first_not_metric']
        faults.append(f'none of {frames["processed"]} images has metric depth: {reason}')
    if args.json:
        from marigold_ros.evaluation.results.results import to_json

        print(to_json(results))
    say(summary(results, str(folder)))
    say(f'total: {time.monotonic() - started:.0f} s')
    for fault in faults:
        note(f'error: {fault}')
    return 1 if faults else 0


def live_runner() -> Any:
    """Return the module that runs the node, None without rclpy."""
    try:
        from marigold_ros.live_run import session
    except ImportError:
        return None
    return session
