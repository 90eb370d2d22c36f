# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Replay bags through the pipeline, image by image and without ROS, and score the depth.

With a LiDAR, every n-th scan line (or degree of azimuth: --heldout azimuth) is used for the fit
and those between for the score; with a topic of true depth, the published depth is scored against
it as well. Planes, quadrics and interpolated LiDAR are scored in the same run. Writes
results.json, per_frame.csv, report.html and pictures/ to DIR.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
import math
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.options import (
    add_executor_options,
    add_model_options,
    add_option,
    add_setting_option,
    add_topic_options,
    chosen_executor,
    integer,
    lasting_options,
    load_chosen_model,
    number_type,
    own_folder,
    positive_number,
    read_settings,
    refuse_given,
    refuse_settings,
    replay_options,
    ReplayConfig,
    ROLES,
    shared_cores,
)
from marigold_ros.commands.terminal.output import note, summary, why_unscored
from marigold_ros.config import PipelineConfig, RuntimeConfig
from marigold_ros.errors import BagError, ConfigurationError, DamagedBagError, UsageError
from marigold_ros.evaluation.choices import (
    CORRUPTIONS,
    HELD_OUT,
    ORACLES,
    OWN,
    PUBLISHED_SEED,
    PUBLISHED_SIDES,
    STEPS_AND_MEMBERS,
    USABLE_ERROR,
)
from marigold_ros.image_sets.layouts import FOLDER, LAYOUTS

if TYPE_CHECKING:
    from marigold_ros.image_sets.image_set import ImageChoice
    from marigold_ros.replay.bag_part import PartStore
    from marigold_ros.replay.bag_replay import Models
    from marigold_ros.replay.replay_plan import ReplayPlan

seconds = number_type(float, lambda value: 0 <= value < math.inf, 'a number of seconds from 0 on')
# Options for folders of images alone, and for bags alone.
_OF_IMAGES = 'split', 'images', 'depths', 'depth_scale'
_OF_BAGS = (*ROLES, 'stamps', 'fit_every', 'heldout', 'every', 'start', 'stop', 'record')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'bags', nargs='+', metavar='BAG', help='folder or file of a bag; see also --dataset'
    )
    add_option(parser, '--out', str, 'DIR', 'folder for the results', required=True)
    parser.add_argument('--json', action='store_true', help='print results.json on stdout')
    add_topic_options(parser, *ROLES)
    add_model_options(parser)
    text = 'fit to every N-th scan line or degree'
    add_option(parser, '--fit-every', integer(2), 'N', text, 8)
    text = 'score between scan lines, or between degrees of azimuth'
    add_option(parser, '--heldout', str, None, text, HELD_OUT[0], choices=HELD_OUT)
    text = 'crop, depth range and fit of the oracle, as in publications '
    text += '(default: that of --dataset, else own: the whole image)'
    add_option(parser, '--oracle', str, None, text, choices=ORACLES)
    parser.add_argument(
        '--against',
        action='append',
        default=[],
        metavar='CHECKPOINT',
        help='score this checkpoint too, on the same frames and points (may be repeated)',
    )
    add_option(parser, '--limit', integer(1), 'N', 'stop after N images of each bag')
    add_option(parser, '--every', integer(1), 'N', 'take every N-th image only', 1)
    add_option(parser, '--from', seconds, 'S', 'begin at this second of each bag', dest='start')
    add_option(parser, '--to', seconds, 'S', 'end at this second of each bag', dest='stop')
    parser.set_defaults(start=0.0, stop=math.inf)
    text = 'BAG is a folder or tar of images with depth: of a benchmark, or any (folder)'
    add_option(parser, '--dataset', str, None, text, choices=(FOLDER, *LAYOUTS))
    text = 'predict as a publication does on --dataset: its steps, members, resolution and seed '
    text += "(marigold: the paper's 50 steps and 10 members)"
    add_option(parser, '--protocol', str, None, text, choices=tuple(STEPS_AND_MEMBERS))
    add_option(parser, '--split', str, 'FILE', 'list of the files to score', '')
    add_option(parser, '--images', str, 'PATTERN', 'images, without a list', '*/image.*')
    add_option(parser, '--depths', str, 'PATTERN', 'depth of the images', '*/depth_mm.png')
    text = 'of --dataset folder: integers per metre'
    add_option(parser, '--depth-scale', positive_number, 'N', text, 1000.0)
    parser.add_argument(
        '--corrupt',
        type=corruptions,
        default=(),
        metavar='KINDS',
        help='score corrupted images as well, at 5 strengths each: all, or some of '
        f'{",".join(CORRUPTIONS)}',
    )
    add_executor_options(parser)
    parser.add_argument(
        '--record',
        action='store_true',
        help='record what the node would publish to DIR/recording, an MCAP bag for RViz and '
        'Foxglove (--set points.stride=4 for a smaller cloud)',
    )
    text = 'also write images, depth, sigma, cloud and scores for the viewer of rerun '
    add_option(parser, '--rerun', Path, 'FILE.rrd', f'{text}(pip install rerun-sdk)')
    text = 'mean relative error up to which the verdict calls depth usable'
    add_option(parser, '--usable-error', positive_number, 'X', text, USABLE_ERROR)
    parser.add_argument(
        '--require',
        action='append',
        default=[],
        type=requirement,
        metavar='NAME<NUMBER',
        help="exit with 1 unless this holds, as 'abs_rel<0.08', 'truth.micro.rmse<=4' or "
        "'frames.metric>=100' (a path in results.json; may be repeated)",
    )
    add_setting_option(parser, ReplayConfig)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; return the exit code."""
    config = read_settings(ReplayConfig, args.settings)
    if not args.record:
        refuse_settings(args, 'points', 'is of the recorded clouds; give --record too')
    config = replace(config, pipeline=predicted_as_published(args, config.pipeline))
    from marigold_ros.bags.frames import Excerpt
    from marigold_ros.evaluation.results.results import RESULT_FILES, to_json
    from marigold_ros.replay.bag_replay import lost_part, replay
    from marigold_ros.replay.evaluate_bags import evaluate_plan
    from marigold_ros.replay.executor import BagWorker
    from marigold_ros.replay.inspection import check_scorable
    from marigold_ros.replay.replay_plan import plan_replay

    if args.rerun is not None:
        from marigold_ros.replay.rerun_file import require_rerun

        require_rerun()
    own_folder(args.out, *RESULT_FILES)
    published = f'marigold-{args.dataset}'
    options = replay_options(
        args,
        config,
        fit_every=args.fit_every,
        held_out=args.heldout,
        oracle=args.oracle or (published if published in ORACLES else OWN),
        corruptions=args.corrupt,
        images=chosen_images(args),
        limit=args.limit,
        excerpt=Excerpt(args.start, args.stop, args.every),
        record=config.points if args.record else None,
        rerun=args.rerun,
        usable_error=args.usable_error,
        requirements=args.require,
    )
    plan = plan_replay(args.bags, options)
    if options.images is None:
        check_scorable([job.path for job in plan.jobs if job.corruption is None], options)
    store = _open_store(args, plan)
    load = partial(_load, shared_cores(args), runtime=config.runtime)
    worker = BagWorker(replay, lost_part, load, options, store)
    damage: DamagedBagError | None = None
    with chosen_executor(args, worker, plan.images) as executor:
        try:
            results = evaluate_plan(plan, worker, args.out, executor)
        except DamagedBagError as error:
            damage, results = error, error.results
    stopped = results['provenance'].get('stopped')
    if not stopped:
        store.clear()
    shown = results if damage is None else _without(plan.named(str(damage)), results)
    print(to_json(results) if args.json else summary(shown, args.out))
    if stopped:
        images = f'{stopped["read"]} of {stopped["expected"]} images'
        note(f'stopped after {images}, which are in {args.out}; the same command goes on')
        return 130
    if damage is not None:
        raise damage
    if not results['protocols']:
        raise BagError(f'{why_unscored(results)}; see the counts in {args.out}')
    expected = options.images is None and options.pipeline.alignment.method != 'none'
    if expected and not results['frames']['metric']:
        raise BagError(
            f'none of {results["frames"]["processed"]} images has metric depth, so no score '
            f'is of published depth; see the warnings in {args.out}/report.html, or set '
            'alignment.method=none to score relative depth'
        )
    unmet = [item for item in results.get('requirements', ()) if not item['met']]
    for item in unmet:
        measured = 'was not measured' if item['value'] is None else f'is {item["value"]:.6g}'
        note(f'requirement not met: {item["text"]}; it {measured}')
    return 1 if unmet else 0


def _without(said: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return results without the warnings that an error message repeats."""
    provenance = results['provenance']
    others = {t: n for t, n in provenance['warnings'].items() if t not in said}
    return {**results, 'provenance': {**provenance, 'warnings': others}}


def chosen_images(args: argparse.Namespace) -> ImageChoice | None:
    """Return which images to take in place of bags; None for bags."""
    if args.dataset is None:
        refuse_given(args, add_arguments, _OF_IMAGES, 'needs a --dataset; name one')
        return None
    reason = f'is of bags, and --dataset {args.dataset} reads images; leave one of them out'
    refuse_given(args, add_arguments, _OF_BAGS, reason)
    if args.split:
        refuse_given(args, add_arguments, ('images', 'depths'), 'is for images without --split')
    if args.dataset != FOLDER:
        reason = f'is of --dataset folder; {args.dataset} has its own'
        refuse_given(args, add_arguments, ('depth_scale',), reason)
    from marigold_ros.image_sets.image_set import ImageChoice

    choice = ImageChoice(args.dataset, args.split, args.images, args.depths, args.depth_scale)
    if args.protocol is None:
        return choice
    steps, members = STEPS_AND_MEMBERS[args.protocol]
    side = PUBLISHED_SIDES[args.dataset] or 'native'
    text = f'steps {steps}, members {members}, longest side {side}, seed {PUBLISHED_SEED}'
    return replace(choice, protocol=f'{args.protocol}: {text}')


def predicted_as_published(args: argparse.Namespace, config: PipelineConfig) -> PipelineConfig:
    """Return the settings with those of --protocol; raises UsageError if it has no meaning."""
    if args.protocol is None:
        return config
    if args.dataset not in PUBLISHED_SIDES:
        raise UsageError(
            f'--protocol {args.protocol} needs a --dataset of publications: one of '
            f'{", ".join(PUBLISHED_SIDES)}'
        )
    steps, members = STEPS_AND_MEMBERS[args.protocol]
    merge = 'reference' if members > 1 else config.engine.merge
    settled: dict[str, Any] = {
        'denoising_steps': steps,
        'ensemble_size': members,
        'processing_resolution': PUBLISHED_SIDES[args.dataset],
        'seed': PUBLISHED_SEED,
        'engine': replace(config.engine, merge=merge),
    }
    plain = PipelineConfig()
    for name in ('profile', *settled):
        if getattr(config, name) != getattr(plain, name):
            raise UsageError(
                f'{name} is set, and --protocol {args.protocol} settles it; leave one of them out'
            )
    return replace(config, **settled)


def corruptions(text: str) -> tuple[str, ...]:
    """Parse kinds of corruption separated by commas, or ``all``."""
    kinds = CORRUPTIONS if text == 'all' else tuple(dict.fromkeys(text.split(',')))
    unknown = sorted(set(kinds) - set(CORRUPTIONS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"'{unknown[0]}' is no corruption; give all, or some of {','.join(CORRUPTIONS)}"
        )
    return kinds


def requirement(text: str) -> Any:
    """Parse a requirement on results, as abs_rel<0.08."""
    from marigold_ros.evaluation.results.requirements import parse_requirement

    try:
        return parse_requirement(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _load(args: argparse.Namespace, runtime: RuntimeConfig) -> Models:
    """Load the model and the compared models, under the names of their paths."""
    from marigold_ros.replay.bag_replay import Models

    compared: dict[str, Any] = {}
    for given in args.against:
        name = Path(given).name
        while name in compared:
            name += "'"
        compared[name] = load_chosen_model(args, runtime, model=given, vae='')
    return Models(load_chosen_model(args, runtime), compared)


def _open_store(args: argparse.Namespace, plan: ReplayPlan) -> PartStore:
    """Open the parts that an earlier run with these options left."""
    from marigold_ros.evaluation.results.results import versions
    from marigold_ros.replay.bag_part import PartStore

    store = PartStore(Path(args.out) / 'parts')
    store.open({**lasting_options(args, 'require'), 'versions': versions()})
    kept = [store.scored(job) for job in plan.jobs]
    read = sum(part.read for part in kept if part is not None)
    if read:
        note(f'going on after image {read} of {plan.images}')
    elif (Path(args.out) / 'results.json').is_file():
        note(f'the results of an earlier run in {args.out} stay until this run has its own')
    return store
