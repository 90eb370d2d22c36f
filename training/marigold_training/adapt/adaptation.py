# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adapt a relative model and the fusion network to bags, judge them, and write a model folder.

Everything unfinished lies in a folder of work beside the result, from which a killed run resumes;
the result appears once it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
import json
import os
from pathlib import Path
import shutil
import tempfile
from time import monotonic
from typing import Any, TYPE_CHECKING, TypeVar

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.storage import check_given_once
from marigold_ros.commands.terminal.options import own_folder
from marigold_ros.config import PipelineConfig
from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_ros.evaluation.results.results import describe_bag, machine, to_json, versions
from marigold_ros.models import load_model
from marigold_ros.models.facts import CONFIG
from marigold_ros.models.fusion.load import load_fusion
from marigold_ros.models.locate import EMBEDDED, fingerprint, FUSION, write_sums
from marigold_ros.models.metric_scale import MetricModel, MetricScale, write_metric_scale
from marigold_ros.models.weights import whole_folder
from marigold_ros.processes import Stop, Stopped
from marigold_ros.whole_files import write_whole
from marigold_training.adapt.blocks import check_motion, plan_blocks, Span
from marigold_training.adapt.judge import (
    all_metric,
    check_mounting,
    judge_fused,
    judge_maps,
    Judged,
    judged_frames,
    mean_table,
    stripes,
    training_mean_map,
)
from marigold_training.adapt.keep import choose_of_fusion, choose_of_relative
from marigold_training.adapt.metric import judge_metric, JudgedBlock
from marigold_training.adapt.page import adaptation_card, proof_page
from marigold_training.adapt.proof import AFTER, BEFORE, judge_fusion, judge_model, Proof, reasons
from marigold_training.adapt.recipes import (
    Budget,
    budget_for,
    fusion_recipe,
    HOLD_LINES,
    LINE_EXAMPLES,
    MINUTES,
    open_base,
    Recordings,
    relative_recipe,
    SCENE_EXAMPLES,
    SCENES,
)
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.fusion.run import FusionRun
from marigold_training.run.accelerator import in_any, of_first
from marigold_training.run.recipe import Run, TrainingRun
import yaml

if TYPE_CHECKING:
    from accelerate import Accelerator

PLAN = 'plan.json'
RESULTS, PAGE, CARD = 'results.json', 'proof.html', 'README.md'
NEW_MAP, METRIC = 'adapted model, initial fusion', 'metric'
Kind = TypeVar('Kind', bound=Run[Any])
# To measure the time of a step; the first ones, of images and of scenes, prepare kernels.
TRIED_STEPS, UNTIMED = 9, 4


@dataclass(frozen=True)
class AdaptOptions:
    """
    What to adapt to what.

    ``topics`` may have ``image``, ``camera_info``, ``lidar`` and ``stamps``; ``minutes`` are those
    of training, ``steps`` replaces them; ``metric`` asks for a scale without LiDAR;
    ``teacher`` is a model that labels the pixels between the points.
    """

    bags: tuple[str, ...]
    base: str
    out: Path
    topics: Mapping[str, Any]
    train: Span | None = None
    judge: Span | None = None
    minutes: float = MINUTES
    steps: Budget | None = None
    hold_lines: int = HOLD_LINES
    metric: bool = False
    teacher: str | None = None


class Adaptation:
    """
    One adaptation, in ``OUT.work`` until it is complete.

    Parameters
    ----------
    options : AdaptOptions
    accelerator : Accelerator
        Device, precision and processes of training; the first process judges and writes.
    workers : int
        Processes that read, render and draw.
    say : callable
        Receives lines on progress.

    """

    def __init__(
        self,
        options: AdaptOptions,
        accelerator: Accelerator,
        workers: int = 1,
        say: Callable[[str], None] = print,
    ) -> None:
        self.options, self.accelerator, self.workers = options, accelerator, workers
        self.say = say if accelerator.is_main_process else lambda line: None
        _check_target(options.out)
        self.work = options.out.with_name(f'{options.out.name}.work')
        self.data = self.work / 'data'
        self.base = open_base(options.base)
        self.initial_fusion = EMBEDDED / FUSION
        if (self.base.folder / FUSION / CONFIG).is_file():
            self.initial_fusion = self.base.folder / FUSION

    def run(self, stop: Stop) -> Proof | None:
        """
        Adapt, judge and write the folder; None if it was stopped, to be resumed.

        None too in all processes but the first.
        """
        if self.accelerator.is_main_process:
            own_folder(self.work)
        try:
            return self._run(stop)
        except Stopped:
            return None
        except MarigoldError:
            # What was read of the bags serves the corrected command.
            if not any(path.is_file() for path in self.data.rglob('*')):
                shutil.rmtree(self.work, ignore_errors=True)
            raise
        except OSError as error:
            raise MarigoldError(
                f'{self.work} could not be written ({error}); free some space and give the same '
                'command again, which resumes'
            ) from error

    def _run(self, stop: Stop) -> Proof | None:
        begun, minutes = monotonic(), f'{self.options.minutes:g} min'
        if self.options.steps is None:
            self.say(
                f'training is to take {minutes}; reading the bags, rendering and drawing '
                f'{SCENES + LINE_EXAMPLES + SCENE_EXAMPLES} images and examples, validation and '
                'judging come beside it, together often more than that'
            )
        recordings = self._recordings(stop)
        budget = self._plan(recordings, stop)
        self.say(f'{(monotonic() - begun) / 60:.0f} min so far; training begins')
        relative = self._open(TrainingRun, relative_recipe(self.base, recordings, budget))
        fusion = self._open(FusionRun, fusion_recipe(self.initial_fusion, recordings, budget))
        for run in (relative, fusion):
            self._make_ready(run, stop)
            if not run.train(stop=stop):
                return None
        if in_any(stop()) or not self.accelerator.is_main_process:
            return None
        shares = self._export(relative, fusion)
        proof, judged = self._judge(recordings)
        self._write(proof, judged, recordings, budget, shares)
        return proof

    def _make_ready(self, data: BagPairs | Run[Any], stop: Stop) -> None:
        """Prepare data, first in the first process; raises Stopped, then in all of them."""
        stopped = False
        with self.accelerator.main_process_first():
            try:
                data.prepare(self.workers, stop)
            except Stopped:
                stopped = True
        if in_any(stopped):
            raise Stopped('stopped while data were prepared')

    def _recordings(self, stop: Stop) -> Recordings:
        """Open the bags, check them, and divide their images into blocks."""
        options = self.options
        check_given_once(options.bags)
        bags = tuple(str(Path(bag).resolve()) for bag in options.bags)
        topics = {name: value for name, value in options.topics.items() if value is not None}
        if 'lidar' not in topics:
            topics['lidar'] = _lidar_of(bags[0], topics)
        pairs = BagPairs(self.data, bags, **topics)
        self._make_ready(pairs, stop)
        blocks = plan_blocks(pairs.shots, options.train, options.judge)
        size = _size_of_all(pairs)
        check_motion(pairs, blocks)
        if not (self.work / PLAN).is_file():
            numbers = [shot.number for shot in pairs.shots]
            base = load_model(str(self.base.folder), str(self.accelerator.device))
            check_mounting(bags, numbers, topics, base, PipelineConfig())
        self.say(
            f'{len(pairs)} images with LiDAR points: {len(blocks.train)} to train on, '
            f'{len(blocks.stop)} to stop on, {len(blocks.judge)} to judge'
        )
        return Recordings(bags, topics, size, blocks, options.hold_lines, options.teacher)

    def _plan(self, recordings: Recordings, stop: Stop) -> Budget:
        """Return the budget that the first run of this command chose; print it."""
        asked = {
            'base': self.options.base,
            'weights of the base': fingerprint([*self.base.weight_files, self.initial_fusion]),
            'recordings': json.loads(json.dumps(asdict(recordings))),
            'minutes': self.options.minutes,
            'steps': None if self.options.steps is None else asdict(self.options.steps),
        }
        path = self.work / PLAN
        if in_any(path.is_file()):
            plan = json.loads(path.read_text(encoding='utf-8'))
            if plan['asked'] != asked:
                changed = [key for key in asked if plan['asked'].get(key) != asked[key]]
                raise ConfigurationError(
                    f'{self.work} holds an adaptation with other {", ".join(changed)}; give the '
                    'same options to resume it, delete it, or choose another --out'
                )
            budget = Budget(**plan['budget'])
            self.say(f'resuming: {_steps(budget)}')
            return budget
        budget = of_first(self.options.steps or self._measured(recordings, stop))
        if self.accelerator.is_main_process:
            write_whole(path, json.dumps({'asked': asked, 'budget': asdict(budget)}).encode())
        return budget

    def _measured(self, recordings: Recordings, stop: Stop) -> Budget:
        """Measure a step of each stage, and print the budget."""
        few = Budget(TRIED_STEPS, TRIED_STEPS, TRIED_STEPS)
        relative = relative_recipe(self.base, recordings, few)
        fusion = fusion_recipe(self.initial_fusion, recordings, few)
        seconds = [
            *(self._step_seconds(TrainingRun, relative, stage, stop) for stage in (0, 1)),
            self._step_seconds(FusionRun, fusion, 0, stop),
        ]
        budget = budget_for(self.options.minutes, *seconds)
        parts = zip(asdict(budget).items(), seconds, strict=True)
        self.say(
            'budget: '
            + ', '.join(
                f'{name} {steps} steps of {each:.2f} s = {steps * each:.0f} s'
                for (name, steps), each in parts
            )
        )
        return budget

    def _step_seconds(
        self, kind: type[Kind], recipe: Mapping[str, Any], stage: int, stop: Stop
    ) -> float:
        """Measure a step of a stage; raises Stopped."""
        tried = {**recipe, 'stages': [{**recipe['stages'][stage], 'validate_every': 0}]}
        begun: list[float] = []

        def note() -> bool:
            begun.append(monotonic())
            return stop()

        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            run = self._open(kind, tried, Path(folder))
            self._make_ready(run, stop)
            if not run.train(stop=note):
                raise Stopped('stopped while a step was timed')
        return (begun[-1] - begun[UNTIMED]) / (len(begun) - 1 - UNTIMED)

    def _open(
        self, kind: type[Kind], recipe: Mapping[str, Any], folder: Path | None = None
    ) -> Kind:
        """Open a run of a recipe, at its last checkpoint if there is one."""
        folder = self.work / recipe['name'] if folder is None else folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / 'recipe.yaml'
        write_whole(path, yaml.safe_dump(dict(recipe), sort_keys=False).encode())
        return kind(path, folder, self.data, self.accelerator)

    def _export(self, relative: TrainingRun, fusion: FusionRun) -> dict[str, float]:
        """Choose the shares of initial weights and export both networks into the work."""
        choose_of_relative(relative)
        choose_of_fusion(fusion)
        chain = relative.finished()
        facts, features = relative.recipe['facts'], relative.training_features(chain)
        relative.family.export(self.work / 'model', chain, facts, '', features)
        shares = {'model': relative.kept, 'fusion': fusion.kept}
        fusion.export()
        words = ', '.join(f'{share:.0%} of {name}' for name, share in shares.items())
        self.say(f'initial weights kept: {words}')
        return shares

    def _judge(self, recordings: Recordings) -> tuple[Proof, list[Any]]:
        """Judge both networks on the judged block."""
        config, blocks = PipelineConfig(), recordings.blocks
        device = str(self.accelerator.device)
        models = {
            BEFORE: load_model(str(self.base.folder), device),
            AFTER: load_model(str(self.work / 'model'), device),
        }
        judged = list(
            judged_frames(recordings.bags, blocks.judge, recordings.topics, models, config)
        )
        pairs = {
            name: BagPairs(
                self.data, recordings.bags, **recordings.topics, frames=blocks.entries(name)
            )
            for name in ('train', 'stop')
        }
        mean_map = training_mean_map(pairs.values())
        limits = (config.alignment.min_depth, config.alignment.max_depth)
        maps = judge_maps(judged, mean_map, limits)
        held = recordings.hold_lines
        striped = stripes(judged, (BEFORE, AFTER), held) if held else {}
        model_installed, of_maps = judge_model(maps, striped, blocks.seconds)
        folders = self.initial_fusion, self.work / 'fusion/fusion'
        initial, adapted = (load_fusion(folder) for folder in folders)
        chosen = AFTER if model_installed else BEFORE
        metric = None
        # A base that is kept has its own scale; an adapted one needs another.
        wanted = self.options.metric or models[BEFORE].space == 'metric'
        if wanted and models[chosen].space != 'metric':
            block = JudgedBlock(judged, blocks.seconds, mean_map)
            metric = judge_metric(models[chosen], pairs, block, chosen, config.alignment)
        if metric is not None and metric.scale is not None:
            models[METRIC] = MetricModel(models[chosen], metric.scale)
            judged = [_converted(one, chosen, metric.scale) for one in judged]
            chosen = METRIC
        rows = {
            BEFORE: (BEFORE, models[BEFORE], initial),
            NEW_MAP: (chosen, models[chosen], initial),
            AFTER: (chosen, models[chosen], adapted),
        }
        if chosen == BEFORE:
            del rows[NEW_MAP]
        fused = judge_fused(judged, rows, config)
        versus = BEFORE if chosen == BEFORE else NEW_MAP
        # Robots have scanners of all kinds: the mean over the patterns decides.
        every = mean_table(fused.values())
        fusion_installed, of_fused = judge_fusion(every, AFTER, versus, blocks.seconds)
        if not fusion_installed:  # then the folder publishes what it did with the initial network
            for table in fused.values():
                table.rows['adapted fusion'] = table.rows[AFTER]
                table.rows[AFTER] = table.rows[versus]
        own = all(map(all_metric, judged))
        kind = 'metric model' if own else 'relative model'
        lines = reasons(model_installed, kind, of_maps, striped.get(AFTER, 1.0))
        lines += reasons(fusion_installed, 'fusion network', of_fused)
        lines += [] if metric is None else metric.reasons
        proof = Proof(
            model_installed,
            fusion_installed,
            maps.means(),
            {split: table.means() for split, table in fused.items()},
            [*of_maps, *of_fused],
            striped,
            blocks.seconds,
            len(judged),
            lines,
            metric,
            own,
        )
        return proof, judged

    def _write(
        self,
        proof: Proof,
        judged: list[Any],
        recordings: Recordings,
        budget: Budget,
        shares: Mapping[str, float],
    ) -> None:
        """Write the result's folder as a whole."""
        described = [describe_bag(bag) for bag in recordings.bags]
        blocks = recordings.blocks
        facts = {
            'base': self.options.base,
            'bags': ', '.join(f'{bag["name"]} ({bag["sha256"][:12]})' for bag in described),
            'trained on images': _span(blocks.train),
            'stopped on images': _span(blocks.stop),
            'judged on images': _span(blocks.judge),
            'scan lines never trained on': f'every {recordings.hold_lines}th'
            if recordings.hold_lines
            else 'none',
            'teacher': self.options.teacher or 'none',
            'steps': _steps(budget),
            'initial weights kept': ', '.join(f'{n} {share:.0%}' for n, share in shares.items()),
        }
        provenance = {
            'bags': described,
            'base': self.options.base,
            'blocks': asdict(blocks),
            'topics': recordings.topics,
            'hold_lines': recordings.hold_lines,
            'teacher': recordings.teacher,
            'steps': asdict(budget),
            'kept': dict(shares),
            'versions': versions(),
            'machine': machine(),
        }
        model = self.work / 'model' if proof.model_installed else self.base.folder
        fusion = self.work / 'fusion/fusion' if proof.fusion_installed else self.initial_fusion
        results = {'schema': 1, **proof.results(), 'provenance': provenance}
        with whole_folder(self.options.out) as draft:
            shutil.copytree(model, draft, dirs_exist_ok=True)
            shutil.rmtree(draft / FUSION, ignore_errors=True)
            shutil.copytree(fusion, draft / FUSION)
            if proof.metric is not None and proof.metric.scale is not None:
                write_metric_scale(draft, proof.metric.scale)
            (draft / RESULTS).write_text(to_json(results) + '\n', encoding='utf-8')
            (draft / PAGE).write_text(proof_page(proof, judged, facts), encoding='utf-8')
            card = adaptation_card(self.options.out.name, proof, facts)
            (draft / CARD).write_text(card, encoding='utf-8')
            write_sums(draft)


def _converted(one: Judged, name: str, scale: MetricScale) -> Judged:
    """Return a judged frame with the metric map of the predictions of a name."""
    metric = scale.apply(one.predictions[name])
    return replace(one, predictions={**one.predictions, METRIC: metric})


def _check_target(out: Path) -> None:
    """Refuse to replace a folder that is no adapted model, and a path without a name."""
    if not out.name:
        raise ConfigurationError(f'--out is {out}; give the name of a folder for the result')
    if not os.path.exists(out):  # Path's raises for a name that is too long
        return
    with suppress(OSError, ValueError, KeyError, TypeError):
        json.loads((out / RESULTS).read_text(encoding='utf-8'))['installed']['model']
        return
    raise ConfigurationError(
        f'--out {out} exists and is no adapted model, which alone would be replaced; choose '
        'another folder'
    )


def _size_of_all(pairs: BagPairs) -> tuple[int, int]:
    """Return the size (H, W) of the images; raises InputError if bags have different ones."""
    firsts = {shot.bag: index for index, shot in reversed([*enumerate(pairs.shots)])}
    sizes = {pairs.read(index).rgb.shape[:2] for index in firsts.values()}
    if len(sizes) > 1:
        raise InputError(
            f'{pairs.name} has images of several sizes; adapt to bags of one camera', 'shape'
        )
    height, width = sizes.pop()
    return height, width


def _lidar_of(bag: str, topics: Mapping[str, Any]) -> str:
    with BagReader(Path(bag)) as reader:
        found = reader.choose_topics(topics.get('image'), topics.get('camera_info'), None, None)
    if found.lidar is None:
        notes = f' ({"; ".join(found.notes)})' if found.notes else ''
        raise InputError(
            f'{bag} has no topic of LiDAR points{notes}, which teach the models; name one with '
            '--lidar, or record one',
            cause='missing',
        )
    return found.lidar


def _steps(budget: Budget) -> str:
    return ', '.join(f'{name} {steps}' for name, steps in asdict(budget).items())


def _span(numbers: tuple[int, ...]) -> str:
    return f'{numbers[0]} to {numbers[-1]} ({len(numbers)})'
