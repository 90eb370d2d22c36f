# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What commands share: types of options, the model, any setting as ``--set name=value``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
import math
from pathlib import Path
import sys
from typing import Any

from marigold_ros.config import ModelConfig, refuse_former_name, RuntimeConfig
from marigold_ros.errors import ConfigurationError, MarigoldError
from marigold_ros.settings import build, Parameter, parameters

_SWITCH = {'true': True, 'false': False}


def at_least(lowest: int) -> Callable[[str], int]:
    """Make the type of an option that takes a whole number from ``lowest`` on."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {lowest} on")
        return value

    return whole_number


def speed(text: str) -> float | None:
    """Read a multiple of real time; None for auto."""
    if text == 'auto':
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0; give auto or a multiple")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form WIDTHxHEIGHT, as 640x480")
    return int(width), int(height)


def requirement(text: str) -> Any:
    """Read a requirement on results, as abs_rel<0.08."""
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
        help="exit with 1 unless it holds, as 'abs_rel<0.08', 'truth.micro.rmse<=4' or "
        "'frames.metric>=100' (a path in results.json; may be repeated)",
    )


def exit_code(requirements: Iterable[Any], results: Mapping[str, Any]) -> int:
    """Tell on stderr which requirements are not met; gives the exit code."""
    from marigold_ros.evaluation.results.requirements import violations

    found = violations(requirements, results)
    for text in found:
        print(f'requirement not met: {text}', file=sys.stderr)
    return 1 if found else 0


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting of ModelConfig."""
    for parameter in parameters(ModelConfig):
        parser.add_argument(
            f'--{parameter.name.replace("_", "-")}',
            type=parameter.kind,
            default=parameter.default,
            choices=parameter.choices or None,
            help=f'{parameter.text} (default: {parameter.default})',
        )


def model_settings(args: argparse.Namespace) -> ModelConfig:
    """Read the options of add_model_options."""
    return ModelConfig(**{item.name: getattr(args, item.name) for item in parameters(ModelConfig)})


def load_chosen_model(args: argparse.Namespace, runtime: RuntimeConfig | None = None) -> Any:
    """Load the model that the options of add_model_options name."""
    from marigold_ros.models import load_model, use_threads

    config = model_settings(args)
    use_threads(config.torch_threads)
    return load_model(config.model, config.device, config.dtype, config.vae or None, runtime)


@contextmanager
def needing_ros() -> Iterator[None]:
    """Import what needs ROS; raises MarigoldError with the remedy where that is missing."""
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
    """Make the folder of the results before the work begins; raises ConfigurationError."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f'--out {folder} cannot be made ({error.strerror}); give a folder that can be written'
        ) from error
    return folder


def add_setting_option(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add a repeatable --set for the settings of a class, and list them below the help text."""
    parser.add_argument(
        '--set',
        dest='settings',
        action='append',
        default=[],
        type=_assignment,
        metavar='NAME=VALUE',
        help='change a setting (may be repeated); the names are listed below',
    )
    listing = '\n'.join(f'  {_line(parameter)}' for parameter in parameters(kind))
    parser.epilog = f'settings for --set, with their defaults:\n{listing}'


def _line(parameter: Parameter) -> str:
    default = 'unset' if parameter.default == () else str(parameter.default)
    return f'{parameter.name}={default}\n      {parameter.text}'


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
    ConfigurationError
        If a name is unknown, or a value has the wrong type or is out of range.

    """
    assignments = list(assignments)
    for name, _ in assignments:
        refuse_former_name(name)
    known = {parameter.name: parameter for parameter in parameters(kind)}
    values = {
        name: _typed(known[name], text) if name in known else text for name, text in assignments
    }
    return build(kind, values)


def _typed(parameter: Parameter, text: str) -> Any:
    """Read a value as its setting's type."""
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
        wanted = 'numbers with commas between' if parameter.item else wanted
        raise ConfigurationError(
            f"{parameter.name} is '{text}'; give {wanted} ({parameter.text})"
        ) from None
