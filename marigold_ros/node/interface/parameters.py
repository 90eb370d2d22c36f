# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
ROS parameters from config.py and back; no parameter is declared anywhere else.

A change is validated as a whole and read again before the next frame, so that several values set
in one call take effect together.
"""

from __future__ import annotations

import math
from typing import Any

from marigold_ros.config import NodeConfig, refuse_former_name
from marigold_ros.errors import ConfigurationError
from marigold_ros.node.distro import parameter_overrides
from marigold_ros.node.interface.parameter_file import rule
from marigold_ros.settings import build, nearest_name, Parameter, parameters, within_edits
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
# Of lists, which have no default.
_TYPES = {
    float: rclpy.parameter.Parameter.Type.DOUBLE_ARRAY,
    str: rclpy.parameter.Parameter.Type.STRING_ARRAY,
}
_SLIP = 2  # letters by which a misspelt name differs


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """Describe a parameter: meaning, range, choices, and whether it is fixed at start."""
    result = ParameterDescriptor(
        name=parameter.name, description=parameter.text, read_only=parameter.read_only
    )
    low, high = parameter.low, parameter.high
    if low is None or high is None:
        result.additional_constraints = rule(parameter)
    elif parameter.kind is int:
        limits = IntegerRange(from_value=int(low), to_value=int(high), step=1)
        result.integer_range = [limits]
    elif math.isfinite(low) and math.isfinite(high):
        limits = FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        result.floating_point_range = [limits]
    else:
        result.additional_constraints = rule(parameter)
    return result


def declare(node) -> list[str]:
    """
    Declare all parameters; values given at start are taken over.

    Returns
    -------
    list of str
        Warnings about given parameters of others, as in files under ``/**``: rclpy ignores them
        without a word.

    Raises
    ------
    ConfigurationError
        If a given value has a wrong type or is out of its range, or a given name is one of ours
        misspelt.

    """
    for parameter in parameters(NodeConfig):
        default = _TYPES[parameter.item] if parameter.item else parameter.default
        try:
            node.declare_parameter(parameter.name, default, descriptor(parameter))
        except InvalidParameterTypeException:
            given: Any = parameter_overrides(node).get(parameter.name)
            remedy = f'; write {float(given)}' if _is_integer(given, parameter) else ''
            raise ConfigurationError(
                f'parameter {parameter.name} is {given!r}; give a value of type '
                f'{_type_name(parameter)} ({parameter.text}){remedy}'
            ) from None
        except InvalidParameterValueException as error:
            given = parameter_overrides(node).get(parameter.name)
            raise ConfigurationError(
                f'parameter {parameter.name} is {given!r}; choose {rule(parameter) or error} '
                f'({parameter.text})'
            ) from None
    return _unknown([name for name in parameter_overrides(node) if name not in NAMES])


def _unknown(names: list[str]) -> list[str]:
    """Refuse slips of the pen; one warning for all that other nodes may understand."""
    foreign = []
    for name in names:
        if name.startswith(_FOREIGN):
            continue
        kin = [other for other in NAMES if other.startswith(f'{name.split(".")[0]}.')]
        if kin or within_edits(name, NAMES, _SLIP):
            refuse_former_name(name)
            raise ConfigurationError(
                f"there is no parameter '{name}'; {nearest_name(name, kin or NAMES)}"
            )
        foreign.append(name)
    if not foreign:
        return []
    return [f'ignored, for this node has no such parameters: {", ".join(foreign)}']


def _is_integer(value: Any, parameter: Parameter) -> bool:
    return parameter.kind is float and isinstance(value, int) and not isinstance(value, bool)


def _type_name(parameter: Parameter) -> str:
    return f'list of {parameter.item.__name__}' if parameter.item else parameter.kind.__name__


def values_of(node) -> dict[str, Any]:
    """Read the current values of all parameters that have one."""
    unset = rclpy.parameter.Parameter.Type.NOT_SET
    current = {}
    for name in NAMES:
        parameter = node.get_parameter_or(name)
        if parameter.type_ != unset:
            value = parameter.value
            current[name] = value if isinstance(value, (str, int, float)) else tuple(value)
    return current


def config_of(node) -> NodeConfig:
    """Build the node's settings from its current parameters; raises ConfigurationError."""
    return build(NodeConfig, values_of(node))


def refuse_bad_values(node, changed) -> SetParametersResult:
    """Validate a change together with everything else; the callback of set_parameters."""
    values = values_of(node)
    for parameter in changed:
        if parameter.name not in NAMES:
            continue
        value = parameter.value
        values[parameter.name] = value if isinstance(value, (str, int, float)) else tuple(value)
    try:
        build(NodeConfig, values)
    except ConfigurationError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
