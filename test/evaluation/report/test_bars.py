# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bars are as long as their values."""

from marigold_ros.evaluation.report.bars import _BAR, _TAIL, Bar, bar_chart
import numpy as np
import pytest


def lengths(chart, colour):
    """Pixels of a colour in the fullest line of each bar."""
    count = (chart == colour).all(axis=2).sum(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], count > 0, [0]])))
    return [count[a:b].max() for a, b in edges.reshape(-1, 2)]


def test_bars_are_in_proportion_to_their_values():
    chart = bar_chart('t', [Bar('a', 10.0), Bar('b', 5.0), Bar('c', 1.0)])
    long, half, short = lengths(chart, _BAR)
    assert half == pytest.approx(long / 2, abs=1)
    assert short == pytest.approx(long / 10, abs=1)
    assert chart.shape[1] == 720
    assert long > 600


def test_a_tail_reaches_beyond_its_bar():
    chart = bar_chart('t', [Bar('a', 4.0, 8.0, '4 ms')])
    assert lengths(chart, _TAIL)[0] == pytest.approx(lengths(chart, _BAR)[0], abs=2)


@pytest.mark.parametrize('value', [0.0, np.nan, np.inf, -1.0])
def test_what_has_no_length_has_no_bar(value):
    chart = bar_chart('t', [Bar('a', value)])
    assert lengths(chart, _BAR) == []
    assert bar_chart('t', []).ndim == 3
