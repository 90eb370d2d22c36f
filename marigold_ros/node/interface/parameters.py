# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
ROS parameters from config.py and back; no parameter is declared anywhere else.

A change is validated as a whole and read before the next frame, so that several values set in one
call take effect together.
"""

from collections.abc import Iterable
from typing import Any

from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError, MarigoldError
from marigold_ros.node.distro import overrides
from marigold_ros.node.interface.parameter_file import allowed_values
from marigold_ros.settings import build, nearest, nearest_name, Parameter, parameters
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
import rclpy.parameter

NAMES = [parameter.name for parameter in parameters(NodeConfig)]
# Declared by rclpy itself or by the parts of ROS that the node uses.
_FOREIGN = ('use_sim_time', 'qos_overrides.', 'start_type_description_service', 'diagnostic_')
_MISSPELT = 0.8  # likeness of a misspelt name


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """Return the descriptor: meaning, range or choices, and whether it is fixed at start."""
    result = ParameterDescriptor(
        name=parameter.name, description=parameter.text, read_only=parameter.read_only
    )
    low, high = parameter.low, parameter.high
    if low is None or high is None:
        result.additional_constraints = allowed_values(parameter)
    elif parameter.kind is int:
        result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        limits = FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        result.floating_point_range = [limits]
    return result


def declare(node) -> str:
    """
    Declare all parameters; values given at start win over defaults.

    Returns a warning about given parameters that this node lacks, as in files with ``/**``, which
    rclpy ignores in silence; empty where there are none. Raises ConfigurationError if a given
    value has a wrong type or is out of range, or a given name is misspelt.
    """
    given = overrides(node)
    for parameter in parameters(NodeConfig):
        name, meaning = parameter.name, parameter.text
        # A list needs a value: rclpy answers nothing about a group with an undefined parameter.
        default = list(parameter.unset) if parameter.item else parameter.default
        value: Any = given[name].value if name in given else None
        if name in given and value is None and not parameter.item:
            value = []  # an empty list, which rclpy takes for nothing
            given[name] = rclpy.parameter.Parameter(name, value=value)
        if (word := _word(parameter, value)) is not None:
            given[name] = rclpy.parameter.Parameter(name, value=word)
        try:
            node.declare_parameter(name, default, descriptor(parameter))
        except InvalidParameterTypeException:
            item, kind = parameter.item, parameter.kind
            wanted = f'list of {item.__name__}' if item else kind.__name__
            remedy = f'; write {float(value)}' if kind is float and type(value) is int else ''
            raise ConfigurationError(
                f'parameter {name} is {value!r}; give a value of type {wanted} ({meaning}){remedy}'
            ) from None
        except InvalidParameterValueException as error:
            allowed = allowed_values(parameter) or error
            raise ConfigurationError(
                f'parameter {name} is {value!r}; choose {allowed} ({meaning})'
            ) from None
    foreign = _foreign_names(name for name in given if name not in NAMES)
    text = f'ignored, for this node has no such parameters: {", ".join(foreign)}'
    return text if foreign else ''


def _word(parameter: Parameter, given: Any) -> str | None:
    """Return the choice that ROS read as a number or a truth value, as nan, off or yes."""
    meant: tuple[str, ...] = (str(given),) if isinstance(given, float) else ()
    if isinstance(given, bool):
        meant = ('yes', 'on') if given else ('no', 'off')
    return next((word for word in meant if word in parameter.choices), None)


def _foreign_names(unknown: Iterable[str]) -> list[str]:
    """Return names that may be other nodes'; raises ConfigurationError for misspelt ones."""
    foreign = [name for name in unknown if not name.startswith(_FOREIGN)]
    for name in foreign:
        kin = [other for other in NAMES if other.startswith(f'{name.split(".")[0]}.')]
        if kin or nearest(name, NAMES, _MISSPELT):
            raise ConfigurationError(
                f"there is no parameter '{name}'; {nearest_name(name, kin or NAMES)}"
            )
    return foreign


def values_of(node) -> dict[str, Any]:
    """Return the current values of all parameters that are set."""
    return _set_values(item for item in map(node.get_parameter_or, NAMES) if item is not None)


def _set_values(items: Iterable[Any]) -> dict[str, Any]:
    """Return names and values of the ROS parameters that are set, arrays as tuples."""
    values: dict[str, Any] = {}
    for item in items:
        if isinstance(item.value, (str, int, float)):
            values[item.name] = item.value
        # A list of nothing but empty words or NaN is unset, too.
        elif item.value is not None and not all(x == '' or x != x for x in item.value):
            values[item.name] = tuple(item.value)
    return values


def config_of(node) -> NodeConfig:
    """Return the node's settings from its parameters; raises ConfigurationError."""
    return build(NodeConfig, values_of(node))


def refuse_bad_values(node, changed) -> SetParametersResult:
    """Validate a change with all other values and the model; the callback of set_parameters."""
    values = values_of(node)
    values.update(_set_values(item for item in changed if item.name in NAMES))
    try:
        node.check_with_model(build(NodeConfig, values))
    except MarigoldError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
