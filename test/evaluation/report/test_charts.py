# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bars are as long as their values, and stand beside their labels."""

import re

from marigold_ros.evaluation.report.charts import Bar, chart_specs, page_bars


def test_bars_of_a_page_share_one_scale_with_their_whiskers():
    html = page_bars([Bar('<a>', 1.0, '1', whisker=(0.5, 4.0)), Bar('b', 2.0, '2', own=False)])
    widths = re.findall(r'class="fill" width="([\d.]+)%"', html)
    assert widths == ['25.00', '50.00']
    assert 'x1="12.50%" x2="100.00%"' in html
    assert '&lt;a&gt;' in html
    assert html.count('class="name own"') == 1


def test_a_tail_reaches_beyond_its_bar():
    html = page_bars([Bar('a', 4.0, '4 ms', 8.0), Bar('b', 2.0, '2 ms', 1.0)])
    assert re.findall(r'class="(\w+)" width="([\d.]+)%"', html) == [
        ('tail', '100.00'),
        ('fill', '50.00'),
        ('fill', '25.00'),
    ]


def test_one_frame_is_no_curve_over_time(some):
    groups = [
        {s['group'] for s in chart_specs(some.results(), some.rows(n)).values()} for n in (1, 2)
    ]
    assert groups[1] - groups[0] == {'time'}
