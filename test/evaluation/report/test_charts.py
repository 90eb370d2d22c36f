# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bars and curves show their values, and stand beside their labels."""

import re

from marigold_ros.evaluation.report.charts import (
    Bar,
    chart,
    chart_figure,
    chart_specs,
    frame_chart,
    page_bars,
)
from marigold_ros.evaluation.report.html_page import make_page
import numpy as np
import pytest


def test_bars_of_a_page_share_one_scale_with_their_whiskers():
    html = page_bars([Bar('<a>', 1.0, '1', whisker=(0.5, 4.0)), Bar('b', 2.0, '2', own=False)])
    widths = re.findall(r'class="fill" width="([\d.]+)%"', html)
    assert widths == ['25.00', '50.00']
    ends = re.findall(r'x1="([\d.]+)%" x2="([\d.]+)%"', html)
    assert ends == [('12.50', '100.00'), ('12.50', '12.50'), ('100.00', '100.00')]
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


@pytest.fixture
def drawn(browser, tmp_path):
    """Return a function that opens a page of one chart on a desktop or a phone."""

    def open_page(spec, width=1200):
        size = {'width': width, 'height': 800, 'deviceScaleFactor': 1, 'mobile': False}
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
        path = tmp_path / 'page.html'
        body = chart_figure('planted', spec)
        path.write_text(make_page('page', body, {'charts': {'planted': spec}, 'cloud': None}))
        browser.get(path.as_uri())
        browser.execute_async_script(
            'const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))'
        )
        return browser

    return open_page


def labels(browser, anchor):
    """Return texts at the axis of that anchor, each with its place."""
    found = browser.find_elements('css selector', f'.plot text[text-anchor={anchor}]')
    return [(t.text, float(t.get_attribute('x')), float(t.get_attribute('y'))) for t in found]


def points(browser, number=0):
    path = browser.find_elements('css selector', '.plot .curve')[number].get_attribute('d')
    return [(kind, float(x), float(y)) for kind, x, y in re.findall(r'([ML])(\S+) ([\d.]+)', path)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('scale', 'offset', 'width'), [(1e-3, 0, 1200), (4.5, 0, 390), (4e4, 0, 1200), (1, 20, 390)]
)
def test_points_of_a_curve_are_where_the_labels_of_its_axes_say(drawn, scale, offset, width):
    values, frames = [1.0, None, -0.7, 1.2, 0.4, None], [10, 20, 40, 80, 90, 110]
    highest = 1.9 * scale + offset
    curves = {'a': [v and v * scale + offset for v in values], 'b': [highest]}
    browser = drawn(chart('planted', curves, x_label='seconds', x=frames, zero=not offset), width)
    (low, _, bottom), *_, (high, _, top) = levels = labels(browser, 'end')
    metres = [float(text) for text, *_ in levels]
    assert len(levels) in range(4, 9)
    assert np.diff(metres) == pytest.approx(metres[1] - metres[0], rel=1e-6)
    assert metres[0] <= -0.7 * scale + offset < metres[1]
    assert metres[-2] < highest <= metres[-1]
    assert top < bottom
    *ticks, name = labels(browser, 'middle')
    assert name[0] == 'seconds'
    assert len(ticks) > 3
    (first, left, _), *_, (last, right, _) = ticks
    assert left < right < width
    across = np.polyfit([float(first), float(last)], [left, right], 1)
    upwards = np.polyfit([float(low), float(high)], [bottom, top], 1)
    known = [(x, v) for x, v in zip(frames, curves['a'], strict=True) if v is not None]
    for (x, value), (_, u, v) in zip(known, points(browser), strict=True):
        assert u == pytest.approx(np.polyval(across, x), abs=0.1)
        assert v + 4 == pytest.approx(np.polyval(upwards, value), abs=0.1)
    # A line is not drawn over a gap, and a point between two gaps is a dash.
    assert [kind for kind, *_ in points(browser)] == ['M', 'M', 'L', 'L']
    curve = browser.find_element('css selector', '.plot .curve').get_attribute('d')
    assert curve.index('h3') < curve.rindex('M')
    assert curve.count('h3') == 1


@pytest.mark.slow
def test_an_axis_ends_where_it_is_told_to(drawn):
    browser = drawn(chart('planted', {'a': [0.2, 0.3]}, x_label='share', top=1.0))
    assert labels(browser, 'end')[-1][0] == '1.0'


@pytest.mark.slow
def test_keys_and_pointer_read_values_and_without_them_means_are_read(drawn):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    values = {'a': [float(i) if i else None for i in range(30)], 'b': [1234.5] * 30}
    spec = frame_chart('planted', range(100, 160, 2), values, unit='ms')
    ideal = {'values': [3.0] * 30, 'reference': True}
    spec['curves'] += [{'name': name, **ideal} for name in ('ideal', '')]
    browser = drawn(spec)
    plot = browser.find_element('css selector', '.plot')

    def read():
        return browser.find_element('css selector', 'output').text

    means = 'mean of one in 2 frames: a 15 ms · b 1235 ms'
    assert read() == means
    legend = browser.find_elements('css selector', '.legend > *')
    assert [found.text for found in legend] == ['a', 'b', 'ideal']
    for keys, place, value in (
        ([Keys.ARROW_LEFT], 158, '29 ms'),
        ([Keys.PAGE_DOWN], 152, '26 ms'),
        ([Keys.PAGE_UP, Keys.ARROW_RIGHT], 158, '29 ms'),
        ([Keys.ESCAPE, Keys.ARROW_RIGHT], 100, '–'),
        ([Keys.ARROW_LEFT], 100, '–'),
    ):
        plot.send_keys(*keys)
        assert read() == f'frame {place}: a {value} · b 1235 ms'
    assert len(browser.find_elements('css selector', '.plot .dot')) == 3  # none of a
    plot.send_keys(Keys.END)
    dots = browser.find_elements('css selector', '.plot .dot')
    assert [float(dot.get_attribute('cx')) for dot in dots] == [points(browser)[-1][1]] * 4
    assert float(dots[0].get_attribute('cy')) == pytest.approx(points(browser)[-1][2], abs=0.1)
    browser.execute_script('arguments[0].blur()', plot)
    assert read() == means
    pointer = ActionChains(browser, duration=20)
    pointer.move_to_element_with_offset(plot, 52 - plot.size['width'] // 2, 0).perform()
    assert read().startswith('frame 100: ')
    pointer.move_by_offset(0, 300).perform()
    assert read() == means
    assert [text for text, *_ in labels(browser, 'middle')][:2] == ['100', '110']
    reference = browser.find_elements('css selector', '.plot .curve')[2]
    assert 'kr' in reference.get_attribute('class')


@pytest.mark.slow
@pytest.mark.parametrize('width', [1200, 390])
def test_labels_never_overlap(drawn, width):
    values = {'a': list(range(40))}
    spec = chart('planted', values, x_label='metres', ticks=[f'{i}–{i + 1}' for i in range(40)])
    spec['marks'] = [(0, 'a bag'), (9, 'another bag'), (20, 'b' * 60), (21, 'short'), (30, 'last')]
    browser = drawn(spec, width)
    boxes = browser.execute_script(
        'return [...document.querySelectorAll(".plot text")].map((text) => {'
        '  const { left, right, top, bottom } = text.getBoundingClientRect();'
        '  return [left, right, top, bottom];'
        '})'
    )
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert left >= 0
        assert right <= width
        for a, b, c, d in boxes[:i]:
            assert left >= b or right <= a or top >= d - 3 or bottom <= c + 3
    places = [u for _, u, _ in points(browser)]
    for text, u, _ in labels(browser, 'middle')[:-1]:
        assert u == pytest.approx(places[int(text.partition('–')[0])], abs=0.1)
    marks = browser.find_elements('css selector', '.plot line.mark')
    assert [float(mark.get_attribute('x1')) for mark in marks] == pytest.approx(
        [places[first] for first, _ in spec['marks']], abs=0.1
    )
    shown = {found.text for found in browser.find_elements('css selector', '.plot text.mark')}
    assert {'a bag', 'last'} <= shown <= {'a bag', 'another bag', 'short', 'last'}
    browser.find_element('css selector', '.plot').send_keys('\ue010')  # End
    assert browser.find_element('css selector', 'output').text == '39–40: a 39'
