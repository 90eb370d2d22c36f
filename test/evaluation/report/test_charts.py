# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bars are as long as their values, and stand beside their labels."""

import re
from xml.etree import ElementTree

from marigold_ros.evaluation.report.charts import Bar, bar_chart, page_bars, svg_document
import numpy as np
import pytest

SVG = '{http://www.w3.org/2000/svg}'


def elements(chart, name):
    """Elements of that name in the file of a chart."""
    return list(ElementTree.fromstring(svg_document([chart])).iter(SVG + name))


def lengths(chart, kind):
    """Lengths of the bars of a kind."""
    return [float(e.get('width')) for e in elements(chart, 'rect') if e.get('class') == kind]


def test_bars_are_in_proportion_to_their_values():
    long, half, short = lengths(
        bar_chart('t', [Bar('a', 10.0), Bar('b', 5.0), Bar('c', 1.0)]), 'fill'
    )
    assert half == pytest.approx(long / 2, abs=0.01)
    assert short == pytest.approx(long / 10, abs=0.01)
    assert 600 < long < 720


def test_labels_and_values_stand_beside_their_bars():
    chart = bar_chart('<t>', [Bar('long label', 4.0, '4 ms', 8.0), Bar('b', 8.0, '8 ms')])
    assert [e.text for e in elements(chart, 'text')] == ['<t>', 'long label', '4 ms', 'b', '8 ms']
    right = [float(e.get('x')) + float(e.get('width')) for e in elements(chart, 'rect')]
    beside = [float(e.get('x')) for e in elements(chart, 'text') if e.text.endswith('ms')]
    assert all(max(right) < x < 720 for x in beside)


def test_a_tail_reaches_beyond_its_bar():
    chart = bar_chart('t', [Bar('a', 4.0, '4 ms', 8.0)])
    assert lengths(chart, 'tail')[0] == pytest.approx(2 * lengths(chart, 'fill')[0], abs=0.02)


@pytest.mark.parametrize('value', [0.0, np.nan, np.inf, -1.0])
def test_a_value_without_length_has_no_bar(value):
    assert lengths(bar_chart('t', [Bar('a', value)]), 'fill') == []
    assert elements(bar_chart('t', []), 'rect') == []


def test_bars_of_a_page_share_one_scale_with_their_whiskers():
    html = page_bars([Bar('<a>', 1.0, '1', whisker=(0.5, 4.0)), Bar('b', 2.0, '2', own=False)])
    widths = re.findall(r'class="fill" width="([\d.]+)%"', html)
    assert widths == ['25.00', '50.00']
    assert 'x1="12.50%" x2="100.00%"' in html
    assert '&lt;a&gt;' in html
    assert html.count('class="name own"') == 1


def test_charts_of_a_file_are_below_one_another():
    charts = [bar_chart('t', [Bar('a', 1.0)] * rows) for rows in (1, 3)]
    root = ElementTree.fromstring(svg_document(charts))
    assert [child.get('y') for child in root] == ['0', str(charts[0].height)]
    assert root.get('viewBox') == f'0 0 720 {sum(chart.height for chart in charts)}'
