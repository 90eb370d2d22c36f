# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Options that commands share: types, the model, settings as ``--set name=value``, processes.

Imports of numpy, torch and ROS are inside functions, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import fcntl
from functools import partial
import math
import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.help_text import SettingsHelp
from marigold_ros.commands.terminal.output import frame_bar
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
from marigold_ros.errors import ConfigurationError, UsageError
from marigold_ros.settings import build, group, Parameter, parameters, setting, Settings
from marigold_ros.sparse_sources import BAG, GROUND, source_names
from marigold_ros.threads import usable_cores

if TYPE_CHECKING:
    from marigold_ros.replay.executor import BagWorker, Executor
    from marigold_ros.replay.replay_plan import ReplayOptions

ROLES = ('image', 'camera_info', 'lidar', 'truth')
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
        if GROUND not in (self.sources or ()) and self.ground != GroundConfig():
            text = f'ground.* is set, and sparse_source is {self.sparse_source}, without ground'
            raise ConfigurationError(f'{text}; add it, as in sparse_source=ground')

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The names of the sources; None for the bag's own."""
        return None if self.sparse_source == BAG else source_names(self.sparse_source)


@dataclass(frozen=True)
class RuntimeSettings(Settings):
    """The settings of a benchmark of a model, by the same names as elsewhere."""

    runtime: RuntimeConfig = group(RuntimeConfig)


def add_option(
    parser: argparse.ArgumentParser,
    flag: str,
    kind: Callable[[str], Any],
    metavar: str | None,
    text: str,
    default: Any = None,
    **more: Any,
) -> None:
    """Add an option with a value; its help states the default, if there is one."""
    if default not in (None, ''):
        shown = format(default, 'g') if isinstance(default, float) else default
        shown = 'x'.join(map(str, default)) if isinstance(default, tuple) else shown
        text = f'{text} (default: {shown})'
    parser.add_argument(flag, type=kind, metavar=metavar, help=text, default=default, **more)


def number_type(kind: type, is_accepted: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    """Return the type of an option that takes a number; ``what`` describes the accepted ones."""

    def parse(text: str) -> Any:
        with suppress(ValueError):
            value = kind(text)
            if is_accepted(value):
                return value
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")

    return parse


def integer(lowest: int, highest: int = 2**31 - 1) -> Callable[[str], int]:
    """Return the type of an option that takes an integer in this range."""
    what = f'an integer from {lowest} to {highest}'
    return number_type(int, lambda value: lowest <= value <= highest, what)


positive_number = number_type(float, lambda value: 0 < value < math.inf, 'a number above 0')
_multiple = number_type(float, lambda value: 0 < value < math.inf, 'auto or a number above 0')


def speed(text: str) -> float | None:
    """Parse a multiple of real time; None for auto."""
    return None if text == 'auto' else _multiple(text)


def image_size(order: str) -> Callable[[str], tuple[int, int]]:
    """Return the type of an option such as 640x480, with sides in the ``order`` WxH or HxW."""

    def two_sides(text: str) -> tuple[int, int]:
        first, _, second = text.partition('x')
        if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
            example = '640x480' if order == 'WxH' else '480x640'
            raise argparse.ArgumentTypeError(f"'{text}' is not of the form {order}, as {example}")
        return int(first), int(second)

    return two_sides


def add_model_options(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add an option for each setting of ModelConfig; ``defaults`` replace those there."""
    for item in parameters(ModelConfig):
        flag, choices = f'--{item.name.replace("_", "-")}', item.choices or None
        text = item.text.partition('; ~/')[0]  # what follows is about the node
        default = defaults.get(item.name, item.default)
        kind = item.kind if item.high is None else integer(int(item.low or 0), int(item.high))
        add_option(parser, flag, kind, None, text, default, choices=choices)


def model_settings(args: argparse.Namespace, **changes: str) -> ModelConfig:
    """Return the values of the options of add_model_options, some of them changed."""
    values = {**vars(args), **changes}
    return ModelConfig(**{item.name: values[item.name] for item in parameters(ModelConfig)})


def load_chosen_model(
    args: argparse.Namespace, runtime: RuntimeConfig | None = None, **changes: str
) -> Any:
    """Load the model that the options of add_model_options name, some of them changed."""
    from marigold_ros.models import load_model, use_threads

    config = model_settings(args, **changes)
    use_threads(config.torch_threads)
    return load_model(*config.arguments, runtime)


def make_folder(path: str | Path, *files: str) -> Path:
    """Make the folder of results (``files``) before the work, or raise ConfigurationError."""
    folder = Path(path)
    if not path:
        raise UsageError('--out is empty; give a folder, . for this one')
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f'--out {folder} cannot be created ({error.strerror}); give a writable folder'
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f'--out {folder} cannot be written; give a writable folder')
    for file in files:
        check_file('in --out,', f'{folder / file}')
    return folder


def check_file(option: str, path: str) -> Path:
    """Return the path of a file, or raise ConfigurationError where it cannot be written."""
    file = Path(path)
    with suppress(OSError):  # of a name that is too long
        place = file if file.is_symlink() or file.exists() else file.parent
        if file.parent.is_dir() and not file.is_dir() and os.access(place, os.W_OK):
            return file
    text = 'remove what is there, or give a file in an existing, writable folder'
    raise ConfigurationError(f"{option} '{path}' cannot be written; {text}")


def own_folder(path: str | Path, *files: str) -> Path:
    """Make a folder, locked for other processes until this one, not its children, has ended."""
    folder = make_folder(path, *files)
    try:
        lock = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = f'another process is writing to {folder}; wait for its end, or give another --out'
        raise ConfigurationError(text) from None
    except OSError:
        pass  # no locks on this disk, or that of another user
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


def refuse_settings(args: argparse.Namespace, group: str, reason: str) -> None:
    """Refuse the settings of a group that a run does not use."""
    for name, _ in args.settings:
        if name.startswith(f'{group}.'):
            raise UsageError(f'--set {name} {reason}')


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    return name.strip(), value.strip()


def read_settings(kind: type, assignments: Iterable[tuple[str, str]]) -> Any:
    """Build settings from names and values as text; raises UsageError where one is wrong."""
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
    text = 'pair images and scans by header stamp, or by time of recording'
    add_option(parser, '--stamps', str, None, text, 'header', choices=('header', 'log'))


def refuse_given(
    args: argparse.Namespace,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    names: Sequence[str],
    reason: str,
) -> None:
    """Refuse those of these options of a command that are not at their defaults."""
    usual = argparse.ArgumentParser()
    add_arguments(usual)
    for name in names:
        if getattr(args, name) != usual.get_default(name):
            option = {'start': 'from', 'stop': 'to'}.get(name, name).replace('_', '-')
            raise UsageError(f'--{option} {reason}')


def given_topics(args: argparse.Namespace) -> dict[str, str | None]:
    """Return the topic of each role from the options of add_topic_options; None without one."""
    return {role: getattr(args, role, None) for role in ROLES}


def replay_options(args: argparse.Namespace, config: ReplayConfig, **more: Any) -> ReplayOptions:
    """Return how bags are replayed, by settings and the options of add_topic_options."""
    from marigold_ros.replay.replay_plan import ReplayOptions

    return ReplayOptions(
        config.pipeline,
        config.lidar,
        topics=given_topics(args),
        T_cam_lidar=extrinsics(config.extrinsics),
        stamps=args.stamps,
        sources=config.sources,
        ground=config.ground,
        **more,
    )


def extrinsics(config: ExtrinsicsConfig) -> Any:
    """Return the LiDAR's pose in the optical frame, (4, 4); None where /tf_static counts."""
    if not config.translation:
        return None
    from marigold_ros.bags.transforms import pose_matrix

    return pose_matrix(config.translation, config.rotation_xyzw)


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add --jobs and --ray."""
    text = 'bags at once, each in a process with its own model'
    add_option(parser, '--jobs', integer(1), 'N', text, 1)
    text = 'work on a Ray cluster, one task per bag '
    text += '(without ADDRESS: a local one of --jobs CPUs); give it after the bags'
    add_option(parser, '--ray', str, 'ADDRESS', text, nargs='?', const='local')


def lasting_options(args: argparse.Namespace, *apart: str) -> dict[str, Any]:
    """Return the options that a run shares with those that go on with its work."""
    own = {'bags', 'out', 'json', 'jobs', 'ray', 'torch_threads', *apart}
    return {name: value for name, value in vars(args).items() if name not in own}


def shared_cores(args: argparse.Namespace) -> argparse.Namespace:
    """Return the options with a number of threads by which several processes share the cores."""
    if args.torch_threads or not (args.jobs > 1 or args.ray):
        return args
    threads = 1 if args.ray else max(usable_cores() // args.jobs, 1)
    return argparse.Namespace(**{**vars(args), 'torch_threads': threads})


@contextmanager
def chosen_executor(
    args: argparse.Namespace, worker: BagWorker, images: int
) -> Iterator[Executor]:
    """
    Yield the executor that the options ask for.

    Meanwhile the worker shows a bar of all ``images``, and ends early when asked to. ``args`` has
    the options of add_executor_options and add_model_options.
    """
    from marigold_ros.processes import asked_to_stop
    from marigold_ros.replay.executor import Cluster, in_processes, on_ray

    with asked_to_stop() as worker.stop, frame_bar(images) as worker.progress:
        if args.ray:
            cluster = Cluster(args.ray, args.jobs, float(args.device.startswith('cuda')))
            yield partial(on_ray, cluster=cluster)
        else:
            yield partial(in_processes, processes=args.jobs)
