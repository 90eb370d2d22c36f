# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Requirements on results, such as ``abs_rel<0.08``, which gate an integration pipeline.

The left side is a path in results.json with two short cuts: a protocol's name stands for
``protocols.<name>``, a metric's for its mean over frames (``macro``). A metric alone is that of
the baselines' protocol: ``heldout`` where there were scans, else ``truth``, or ``oracle`` for
image data sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math
import operator
import re
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.choices import PROTOCOLS
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.settings import nearest_name

_COMPARE = {'<': operator.lt, '<=': operator.le, '>': operator.gt, '>=': operator.ge}
_GRAMMAR = re.compile(r'\s*([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*([-+.\w]+)\s*')
_PARTS = (
    *('frames', 'rate', 'protocols', 'baselines', 'latency_ms', 'temporal', 'surfaces', 'models'),
    *('baselines_paired', 'calibration', 'robustness', 'memory', 'alone', 'verdict'),
)
# Entries of a protocol beside metrics.
_OF_PROTOCOL = (
    *('macro', 'micro', 'median_abs_rel', 'n_frames', 'n_points', 'interval', 'sigma'),
    *('sigma_coverage', 'by_region', 'near_field', 'farthest', 'at_truth'),
)


@dataclass(frozen=True)
class Requirement:
    """One requirement: a path of names, ``<``, ``<=``, ``>`` or ``>=``, and the limit."""

    path: tuple[str, ...]
    sign: str
    limit: float

    def value(self, results: Mapping[str, Any]) -> float | None:
        """Return the figure of results that it is about; None where it was not measured."""
        value: Any = results
        for part in _full_path(self.path, results):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return None
        return value

    def outcome(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``text``, ``value`` (None: not measured) and ``met``; None does not meet it."""
        text, value = f'{".".join(self.path)} {self.sign} {self.limit:g}', self.value(results)
        met = value is not None and _COMPARE[self.sign](value, self.limit)
        return {'text': text, 'value': value, 'met': met}


def parse_requirement(text: str) -> Requirement:
    """
    Parse a requirement.

    Raises
    ------
    ConfigurationError
        If the text is not a requirement, or names an unknown figure.

    """
    match = _GRAMMAR.fullmatch(text)
    try:
        limit = float(match[3]) if match else math.nan
    except ValueError:
        limit = math.nan
    if match is None or not math.isfinite(limit):
        raise ConfigurationError(
            f"'{text}' is not a requirement; write NAME<NUMBER with <, <=, > or >=, such as "
            'abs_rel<0.08, heldout.micro.rmse<=4 or frames.metric>=100'
        )
    path = tuple(match[1].split('.'))
    _check_names(path)
    return Requirement(path, match[2], limit)


def _check_names(path: tuple[str, ...]) -> None:
    """Refuse misspelt names before a long run; deeper names depend on the run."""
    known: tuple[str, ...]
    inside = path[1:] if path[0] == 'protocols' else path
    if inside and inside[0] in PROTOCOLS:
        name, known = (inside[1] if len(inside) > 1 else ''), (*METRICS, *_OF_PROTOCOL)
        if name in ('macro', 'micro'):
            name, known = (inside[2] if len(inside) > 2 else ''), tuple(METRICS)
    elif len(path) == 1:
        name, known = path[0], (*METRICS, 'median_abs_rel', 'rate', 'fps')
    else:
        name, known = path[0], (*_PARTS, *PROTOCOLS)
    if name in known:
        return
    hint = nearest_name(name, list(known))
    raise ConfigurationError(f"'{'.'.join(path)}' is not a figure: '{name}' is unknown; {hint}")


def _full_path(path: tuple[str, ...], results: Mapping[str, Any]) -> tuple[str, ...]:
    """Resolve the short cuts."""
    inside = path[1:] if path[0] == 'protocols' else path
    if inside[0] in PROTOCOLS:
        return ('protocols', *_of_protocol(inside))
    if path[0] in results or len(path) > 1:
        return path
    protocol = results['provenance']['scoring']['baselines_protocol']
    return ('protocols', *_of_protocol((protocol, *path)))


def _of_protocol(path: tuple[str, ...]) -> tuple[str, ...]:
    if len(path) == 2 and path[1] not in _OF_PROTOCOL:
        return path[0], 'macro', path[1]
    return path
