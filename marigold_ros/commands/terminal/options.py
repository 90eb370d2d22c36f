# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Options that commands share: types, the model, settings as ``--set name=value``, processes.

Imports of numpy, torch and ROS are inside functions, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
import math
import os
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.help_text import SettingsHelp
from marigold_ros.config import (
    check_guidance,
    ExtrinsicsConfig,
    GroundConfig,
    LidarConfig,
    ModelConfig,
    PipelineConfig,
    PointsConfig,
    RuntimeConfig,
)
from marigold_ros.errors import ConfigurationError, MarigoldError, UsageError
from marigold_ros.settings import build, group, Parameter, parameters, setting, Settings
from marigold_ros.sparse_sources import source_names

if TYPE_CHECKING:
    from marigold_ros.learning.parallel import Stop
    from marigold_ros.replay.bag_part import PartStore
    from marigold_ros.replay.executor import Executor

EXECUTOR_OPTIONS = ('jobs', 'ray')
ROLES = ('image', 'camera_info', 'lidar', 'truth')
BAG = 'bag'  # as sparse_source: the first kind of sparse depth that a bag has
_SWITCH = {'true': True, 'false': False}


@dataclass(frozen=True)
class ReplayConfig(Settings):
    """All settings of a replay of bags."""

    pipeline: PipelineConfig = group(PipelineConfig, flat=True)
    lidar: LidarConfig = group(LidarConfig)
    points: PointsConfig = group(PointsConfig)
    extrinsics: ExtrinsicsConfig = group(ExtrinsicsConfig)
    sparse_source: str = setting(
        BAG,
        "bag: the bag's sparse depth; or as the parameter of the node, such as radar,ground: the "
        "bag's LiDAR scores, and is part of the fit only if pointcloud is among them",
    )
    ground: GroundConfig = group(GroundConfig)
    runtime: RuntimeConfig = group(RuntimeConfig)

    def check(self) -> None:
        """Check the sources, and that guidance has gradients."""
        check_guidance(self.pipeline, self.runtime)
        if self.sparse_source != BAG:
            source_names(self.sparse_source)

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The names of the sources; None for the bag's own."""
        return None if self.sparse_source == BAG else source_names(self.sparse_source)


@dataclass(frozen=True)
class RuntimeSettings(Settings):
    """The settings of a benchmark of a model, by the same names as elsewhere."""

    runtime: RuntimeConfig = group(RuntimeConfig)


def at_least(lowest: int) -> Callable[[str], int]:
    """Return the type of an option that takes an integer of at least ``lowest``."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"'{text}' is not an integer of at least {lowest}")
        return value

    return whole_number


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def speed(text: str) -> float | None:
    """Parse a multiple of real time; None for auto."""
    if text == 'auto':
        return None
    try:
        return positive_number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f'{error}; give auto or a multiple of real time'
        ) from None


def image_size(order: str) -> Callable[[str], tuple[int, int]]:
    """Return the type of an option such as 640x480, with sides in the ``order`` WxH or HxW."""

    def two_sides(text: str) -> tuple[int, int]:
        first, _, second = text.partition('x')
        if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
            example = '640x480' if order == 'WxH' else '480x640'
            raise argparse.ArgumentTypeError(f"'{text}' is not of the form {order}, as {example}")
        return int(first), int(second)

    return two_sides


def requirement(text: str) -> Any:
    """Parse a requirement on results, as abs_rel<0.08."""
    from marigold_ros.evaluation.results.requirements import parse_requirement

    try:
        return parse_requirement(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_require_option(parser: argparse.ArgumentParser) -> None:
    """Add a repeatable --require."""
    parser.add_argument(
        '--require',
        action='append',
        default=[],
        type=requirement,
        metavar='NAME<NUMBER',
        help="exit with 1 unless this holds, as 'abs_rel<0.08', 'truth.micro.rmse<=4' or "
        "'frames.metric>=100' (a path in results.json; may be repeated)",
    )


def exit_code(requirements: Iterable[Any], results: Mapping[str, Any]) -> int:
    """Print unmet requirements on stderr; return the exit code."""
    from marigold_ros.evaluation.results.requirements import violations

    found = violations(requirements, results)
    for text in found:
        print(f'requirement not met: {text}', file=sys.stderr)
    return 1 if found else 0


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting of ModelConfig."""
    for parameter in parameters(ModelConfig):
        text = parameter.text.partition('; ~/')[0]  # what follows is about the node
        parser.add_argument(
            f'--{parameter.name.replace("_", "-")}',
            type=parameter.kind,
            default=parameter.default,
            choices=parameter.choices or None,
            help=f'{text} (default: {parameter.default})' if parameter.default != '' else text,
        )


def model_settings(args: argparse.Namespace) -> ModelConfig:
    """Return the values of the options of add_model_options."""
    return ModelConfig(**{item.name: getattr(args, item.name) for item in parameters(ModelConfig)})


def load_chosen_model(args: argparse.Namespace, runtime: RuntimeConfig | None = None) -> Any:
    """Load the model that the options of add_model_options name."""
    from marigold_ros.models import load_model, use_threads

    config = model_settings(args)
    use_threads(config.torch_threads)
    return load_model(*config.arguments, runtime)


@contextmanager
def needing_ros() -> Iterator[None]:
    """Turn the ImportError of an import that needs ROS into a MarigoldError with the remedy."""
    try:
        yield
    except ImportError as error:
        if (error.name or '').startswith('marigold_ros'):
            raise
        raise MarigoldError(
            f'the node needs rclpy and the ROS messages; importing them failed ({error}): '
            'source a ROS 2 distribution (source /opt/ros/<distribution>/setup.bash), or install '
            'the ROS 2 wheels: pip install -r requirements-ros.txt'
        ) from error


def make_folder(path: str | Path) -> Path:
    """Make the folder of the results before the work begins, or raise ConfigurationError."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f'--out {folder} cannot be created ({error.strerror}); give a writable folder'
        ) from error
    return folder


def add_setting_option(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add a repeatable --set for the settings of a class, and --help-settings to list them."""
    parser.add_argument(
        '--set',
        dest='settings',
        action='append',
        default=[],
        type=_assignment,
        metavar='NAME=VALUE',
        help='change a setting (may be repeated); --help-settings lists them',
    )
    parser.add_argument(
        '--help-settings',
        action=SettingsHelp,
        settings=parameters(kind),
        help='list the settings and exit',
    )


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    return name.strip(), value.strip()


def read_settings(kind: type, assignments: Iterable[tuple[str, str]]) -> Any:
    """
    Build a settings object from names and values as text.

    Raises
    ------
    UsageError
        If a name is unknown, or a value has the wrong type or is out of range.

    """
    known = {parameter.name: parameter for parameter in parameters(kind)}
    try:
        values = {
            name: _typed(known[name], text) if name in known else text
            for name, text in assignments
        }
        return build(kind, values)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error


def _typed(parameter: Parameter, text: str) -> Any:
    """Parse a value as its setting's type."""
    try:
        if parameter.kind is bool:
            return _SWITCH[text.lower()]
        if parameter.item:
            parts = text.strip('[]()').replace(',', ' ').split()
            return tuple(parameter.item(part) for part in parts)
        return parameter.kind(text)
    except (KeyError, ValueError):
        wanted = f'a value of type {parameter.kind.__name__}'
        wanted = 'true or false' if parameter.kind is bool else wanted
        wanted = 'numbers separated by commas' if parameter.item else wanted
        raise ConfigurationError(
            f"{parameter.name} is '{text}'; give {wanted} ({parameter.text})"
        ) from None


def add_topic_options(parser: argparse.ArgumentParser, *roles: str) -> None:
    """Add an option for the topic of each role, and --stamps."""
    for role in roles:
        kinds = 'cloud, planar scan or depth image; ' if role == 'lidar' else ''
        parser.add_argument(
            f'--{role.replace("_", "-")}', metavar='TOPIC', help=f'{kinds}default: found by type'
        )
    parser.add_argument(
        '--stamps',
        choices=('header', 'log'),
        default='header',
        help='pair images and scans by header stamp, or by time of recording (default: header)',
    )


def given_topics(args: argparse.Namespace) -> dict[str, str | None]:
    """Return the topic of each role from the options of add_topic_options; None without one."""
    return {role: getattr(args, role, None) for role in ROLES}


def extrinsics(config: ExtrinsicsConfig) -> Any:
    """Return the LiDAR's pose in the optical frame, (4, 4); None where /tf_static counts."""
    if not config.translation:
        return None
    from marigold_ros.bags.transforms import pose_matrix

    return pose_matrix(config.translation, config.rotation_xyzw)


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add --jobs and --ray."""
    parser.add_argument(
        '--jobs',
        type=at_least(1),
        default=1,
        metavar='N',
        help='bags at once, each in a process with its own model (default: 1)',
    )
    parser.add_argument(
        '--ray',
        nargs='?',
        const='local',
        metavar='ADDRESS',
        help='work on a Ray cluster, one task per bag (without ADDRESS: a local one of --jobs '
        'CPUs); give it after the bags',
    )


def make_executor(
    args: argparse.Namespace,
    play: Callable[..., Any],
    lost: Callable[..., Any],
    load: Callable[[argparse.Namespace], Any],
    store: PartStore | None,
    progress: Callable[[int], None],
    stop: Stop,
) -> Executor:
    """
    Return the executor that the options ask for.

    ``args`` has the options of add_executor_options and add_model_options; several processes share
    the cores, unless a number of threads was given. ``play`` processes a bag, and ``lost`` makes
    the result of one whose worker was lost; see BagWorker. ``load`` loads the model from ``args``
    in each process, ``store`` keeps parts, ``progress`` receives the images done, and ``stop``
    returns whether to stop.
    """
    from marigold_ros.replay.executor import Cluster, processes, ray_tasks

    if (args.jobs > 1 or args.ray) and not args.torch_threads:
        args = argparse.Namespace(**vars(args))
        args.torch_threads = 1 if args.ray else max((os.cpu_count() or 1) // args.jobs, 1)
    if not args.ray:
        return processes(play, partial(load, args), args.jobs, store, progress, stop)
    cluster = Cluster(args.ray, args.jobs, float(args.device.startswith('cuda')))
    return ray_tasks(play, partial(load, args), lost, cluster, store, progress, stop)
