# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Requirements: the figures they name, when they are met, and the message where they are not."""

import math
import operator

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.results.requirements import parse_requirement
import pytest

RESULTS = {
    'frames': {'read': 20, 'metric': 19, 'rejected': {}},
    'rate': None,
    'protocols': {
        'heldout': {
            'macro': {'abs_rel': 0.094, 'rmse': 5.0},
            'micro': {'abs_rel': 0.1, 'rmse': 6.0},
            'median_abs_rel': 0.033,
            'n_points': 1000,
            'interval': {'abs_rel': [0.09, 0.1]},
            'at_truth': {'macro': {'abs_rel': 0.07}},
        },
        'truth': {'macro': {'abs_rel': 0.05}, 'micro': {'abs_rel': math.nan}},
    },
    'baselines_paired': {'linear': {'abs_rel': {'difference': -0.03}}},
    'latency_ms': {'total': {'p95': 120.0}},
    'fps': 8.5,
    'alone': {'plane': {'difference': -0.02}},
    'verdict': {'speed': {'hertz': 7.5}, 'demonstration': True},
    'provenance': {'scoring': {'baselines_protocol': 'heldout'}},
}

SIGNS = {'<': operator.lt, '<=': operator.le, '>': operator.gt, '>=': operator.ge}


def outcome(text, results=RESULTS):
    return parse_requirement(text).outcome(results)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('abs_rel', 0.094),
        ('median_abs_rel', 0.033),
        ('heldout.abs_rel', 0.094),
        ('heldout.micro.rmse', 6.0),
        ('protocols.heldout.rmse', 5.0),
        ('protocols.heldout.micro.rmse', 6.0),
        ('truth.abs_rel', 0.05),
        ('heldout.n_points', 1000),
        ('frames.metric', 19),
        ('baselines_paired.linear.abs_rel.difference', -0.03),
        ('latency_ms.total.p95', 120.0),
        ('heldout.at_truth.macro.abs_rel', 0.07),
        ('fps', 8.5),
        ('alone.plane.difference', -0.02),
        ('verdict.speed.hertz', 7.5),
    ],
)
def test_a_name_is_that_figure_and_the_limit_separates(text, value):
    met = {sign: outcome(f'{text}{sign}{value}')['met'] for sign in SIGNS}
    assert met == {'<': False, '<=': True, '>': False, '>=': True}
    assert outcome(f'{text}<{value}')['value'] == value


@pytest.mark.parametrize(
    'text',
    ['truth.micro.abs_rel<1', 'truth.rmse<9', 'raw.abs_rel<1', 'rate>0', 'surfaces.planarity<1']
    + ['heldout.interval.abs_rel<1', 'heldout.abs_rel.x<1', 'frames.rejected<1']
    + ['verdict.demonstration>0'],
)
def test_what_was_not_measured_does_not_pass(text):
    found = outcome(text)
    assert (found['value'], found['met']) == (None, False)


def test_a_bare_metric_is_that_of_truth_without_scans():
    results = {**RESULTS, 'provenance': {'scoring': {'baselines_protocol': 'truth'}}}
    assert outcome('abs_rel<0.01', results)['value'] == 0.05


@pytest.mark.parametrize(
    'text',
    ['', 'abs_rel', 'abs_rel=0.1', 'abs_rel==0.1', '<0.1', 'abs_rel<', 'abs_rel<x', '0.1>abs_rel']
    + ['abs_rel<nan', 'abs_rel<inf', 'a b<1', 'abs_rel<1<2', 'heldout..rmse<1', 'abs_rel<<1'],
)
def test_what_is_no_requirement_is_refused(text):
    with pytest.raises(ConfigurationError):
        parse_requirement(text)


@pytest.mark.parametrize(
    ('text', 'near'),
    [
        ('abs_rle<1', 'abs_rel'),
        ('held_out.abs_rel<1', 'heldout'),
        ('heldout.abs_rle<1', 'abs_rel'),
        ('truth.micro.rsme<1', 'rmse'),
        ('protocols.truth.macro.delta_1>0', 'delta1'),
        ('frame.metric>1', 'frames'),
    ],
)
def test_a_misspelt_name_is_refused_with_the_near_one(text, near):
    with pytest.raises(ConfigurationError, match=f"did you mean '{near}'"):
        parse_requirement(text)


@given(st.sampled_from(sorted(SIGNS)), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_outcome_is_that_of_arithmetic(sign, value, limit):
    results = {'protocols': {'heldout': {'macro': {'abs_rel': value}}}}
    found = outcome(f' heldout.abs_rel{sign}{limit!r}', results)
    expected = {'text': f'heldout.abs_rel {sign} {limit:g}', 'value': value}
    assert found == {**expected, 'met': SIGNS[sign](value, limit)}
