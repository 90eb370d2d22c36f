# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run the real node over DDS on a synthetic drive or a bag, score its depth, and draw a report.

The node runs in its own process and receives the bag as from a robot; its outputs are recorded as
a bag and scored. With a topic of true depth, the node sees whole scans; without one it sees every
8th scan line, and its depth is scored at the scan lines between. Writes report.html, results.json,
per_frame.csv, cloud.ply, demo.webp, pictures/, recording/ and node.log to DIR.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
import functools
import os
from pathlib import Path
import sys
import time
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.evaluation_text import summary
from marigold_ros.commands.options import (
    add_model_options,
    add_setting_option,
    at_least,
    image_size,
    load_chosen_model,
    make_folder,
    model_settings,
    read_settings,
    speed,
)
from marigold_ros.commands.output import frame_bar
from marigold_ros.config import NodeConfig
from marigold_ros.settings import as_values

if TYPE_CHECKING:
    from marigold_ros.live_run.scoring import Scored
    from marigold_ros.live_run.source import PlayedBag

Say = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('--bag', metavar='BAG', help='play this bag (default: a synthetic drive)')
    parser.add_argument(
        '--out',
        default='out/demo',
        metavar='DIR',
        help='folder for all files (default: %(default)s)',
    )
    parser.add_argument(
        '--rate',
        type=speed,
        default=None,
        metavar='auto|R',
        help='auto measures the first frames and plays so fast that every frame is processed; a '
        'number is a multiple of real time, with dropped frames (default: auto)',
    )
    parser.add_argument(
        '--frames', type=at_least(1), metavar='N', help='images (default: 40, or the whole bag)'
    )
    parser.add_argument(
        '--size',
        type=image_size('WxH'),
        default=(640, 480),
        metavar='WxH',
        help='of the synthetic drive (default: 640x480)',
    )
    parser.add_argument('--json', action='store_true', help='print results.json on stdout')
    add_model_options(parser)
    add_setting_option(parser, NodeConfig)


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 1 if the node reported a fault."""
    from marigold_ros.live_run.scoring import clear_old
    from marigold_ros.live_run.source import prepare_bag, synthetic_drive

    started = time.monotonic()
    say = functools.partial(print, file=sys.stderr if args.json else sys.stdout, flush=True)
    chosen = {name: str(value) for name, value in as_values(model_settings(args)).items()}
    chosen.update({name: _plain_path(chosen[name]) for name in ('model', 'vae')})
    config = read_settings(NodeConfig, [*chosen.items(), *args.settings])
    folder = make_folder(args.out)
    clear_old(folder)
    bag = args.bag
    if bag is None:
        say(f'synthetic drive: {folder / "drive"}')
        bag = synthetic_drive(folder, args.frames or 40, *args.size)
    source = prepare_bag(bag, config, args.frames)
    live = live_runner()
    faults: list[str] = []
    if live is None:
        say('rclpy cannot be imported: the same pipeline runs offline, without the node')
        results = _offline(args, config, source, folder)
    else:
        faults, results = _live(live, args.rate, config, source, folder, say)
    if args.json:
        from marigold_ros.evaluation.results.results import to_json

        print(to_json(results))
    say(summary(results, str(folder)))
    say(f'total: {time.monotonic() - started:.0f} s')
    for fault in faults:
        print(f'error: {fault}', file=sys.stderr)
    return 1 if faults else 0


def _plain_path(text: str) -> str:
    """Make a folder's path absolute; names and hub ids stay."""
    return str(Path(text).resolve()) if text and Path(text).is_dir() else text


def live_runner() -> Any:
    """Return the module that runs the node, None without rclpy."""
    try:
        from marigold_ros.live_run import session
    except ImportError:
        return None
    return session


def _live(
    live: Any, rate: float | None, config: NodeConfig, source: PlayedBag, folder: Path, say: Say
) -> tuple[list[str], dict[str, Any]]:
    """Run the node, score its recording, write the report."""
    from marigold_ros.bags.reader import BagReader
    from marigold_ros.live_run.animation import animate_recording
    from marigold_ros.live_run.scoring import FIT_EVERY, score_recording
    from marigold_ros.live_run.source import (
        node_arguments,
        node_topics,
        node_values,
        played_messages,
    )
    from marigold_ros.settings import build

    values = node_values(source, config, every_frame=rate is None)
    config = build(NodeConfig, values)
    plan = live.LivePlan(
        topics=node_topics(source),
        node_arguments=node_arguments(source, values),
        latched=source.latched,
        rate=rate,
        period=source.period,
        recording=folder / 'recording',
        log=folder / 'node.log',
    )

    def announce(pace: float, seconds: float) -> None:
        say(f'rate auto: {pace:.2f} of real time (a frame takes {1e3 * seconds:.0f} ms)')

    say(f'node: starting; its log is {plan.log}')
    with BagReader(source.path) as reader, frame_bar(source.images, 'playing') as bar:
        messages = played_messages(reader, source, source.images, FIT_EVERY)
        outcome = live.run_live(plan, messages, bar, announce)
    with frame_bar(source.images, 'scoring') as bar:
        scored = score_recording(
            source,
            plan.recording,
            config,
            outcome.reports['model'].get('space', 'depth'),
            outcome.round_trip_ms,
            bar,
        )
    results = _results(outcome, scored, config, source, rate)
    _write(folder, results, scored, source)
    animate_recording(folder / 'demo.webp', source, plan.recording, config)
    faults = list(outcome.faults)
    if not results['frames']['processed']:
        faults.append(f'none of {outcome.played.sent} images was processed; see {plan.log}')
    return faults, results


def _results(
    outcome: Any, scored: Scored, config: NodeConfig, source: PlayedBag, rate: float | None
) -> dict[str, Any]:
    """Assemble results.json; the counters are the node's own."""
    from marigold_ros.evaluation.results.results import assemble, describe

    played, frames = outcome.played, outcome.reports['frames']
    prefix = 'frames.rejected.'
    rejected = {
        name[len(prefix) :]: int(n) for name, n in frames.items() if name.startswith(prefix)
    }
    served = int(frames.get('frames.served', 0))
    dropped = played.sent - served - sum(rejected.values())
    provenance = describe(
        [source.path],
        source.topics.by_role,
        outcome.reports['model'],
        config.pipeline,
        config.lidar,
        mode='live node over DDS, its recording scored',
        rate={
            'asked': 'auto' if rate is None else rate,
            'achieved': source.period * max(played.sent - 1, 1) / max(played.seconds, 1e-9),
        },
        scans='every 8th line' if source.thinned else 'whole',
        ros={
            'distribution': os.environ.get('ROS_DISTRO', 'wheels'),
            'domain': os.environ.get('ROS_DOMAIN_ID', ''),
        },
        node={**frames, **outcome.reports['infos'], **outcome.reports['scans']},
        recorded=outcome.recorded,
        warnings=scored.warnings,
    )
    results = assemble(
        scored.scorer,
        read=played.sent,
        dropped=dropped,
        rejected=rejected,
        rate=played.rate,
        provenance=provenance,
    )
    # Frames that were served but not recorded were processed too.
    results['frames']['processed'] = served
    results['latency_ms'].update(_stages(outcome.reports['timing']))
    results['calibration'] = {'text': outcome.reports['alignment'].get('calibration', '')}
    return results


def _stages(timing: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Group the node's percentiles, ``predict.p50_ms`` and so on, by stage."""
    stages: dict[str, dict[str, float]] = {}
    for name, value in timing.items():
        stage, _, key = name.rpartition('.')
        stages.setdefault(stage, {})[key.removesuffix('_ms')] = float(value)
    return stages


def _write(folder: Path, results: dict[str, Any], scored: Scored, source: PlayedBag) -> None:
    from marigold_ros.evaluation.report.report import write_all
    from marigold_ros.live_run.scoring import write_best_cloud

    seen = 'every 8th scan line' if source.thinned else 'whole scans'
    intro = (
        f'Checkpoint {results["provenance"]["checkpoint"].get("name", "model")}, run by the ROS 2 '
        f'node in its own process at {results["rate"]:.2f} of real time; it saw {seen}.'
    )
    title = f'Demo: depth on {source.path.resolve().name}'
    write_all(folder, results, scored.scorer, title, intro)
    write_best_cloud(folder / 'cloud.ply', scored)


def _offline(
    args: argparse.Namespace, config: NodeConfig, source: PlayedBag, folder: Path
) -> dict[str, Any]:
    """Evaluate the bag without a node, and write the cloud of its first metric frame."""
    from marigold_ros.bags.frames import frames
    from marigold_ros.bags.reader import BagReader
    from marigold_ros.live_run.scoring import FIT_EVERY, write_cloud
    from marigold_ros.pipeline import FramePipeline
    from marigold_ros.replay.evaluate_bags import evaluate_bag
    from marigold_ros.replay.replay_plan import ReplayOptions

    model = load_chosen_model(args, config.runtime)
    options = ReplayOptions(
        config.pipeline,
        config.lidar,
        T_cam_lidar=source.T_cam_lidar,
        fit_every=FIT_EVERY,
        limit=source.images,
    )
    with frame_bar(source.images, 'offline') as bar:
        results = evaluate_bag(
            source.path, model, options, folder, progress=lambda done, _: bar(done)
        )
    pipeline = FramePipeline(model, config.pipeline)
    with BagReader(source.path) as reader:
        for item in frames(reader, source.topics, config.lidar, source.T_cam_lidar):
            result = None if item.frame is None else pipeline.process(item.frame)
            if result is not None and result.metric is not None and result.camera is not None:
                path, K = folder / 'cloud.ply', result.camera.K
                write_cloud(path, result.metric, K, result.rgb, config.points)
                break
    return results
