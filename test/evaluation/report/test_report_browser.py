# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The report in a real browser: Debian's Chromium, headless, driven by selenium."""

from __future__ import annotations

import base64
import csv
import importlib.resources
import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.report.cloud import cloud_section, pack_points
from marigold_ros.evaluation.report.comparison_page import comparison_page
from marigold_ros.evaluation.report.html_page import make_page
from marigold_ros.evaluation.report.report import write_report
from marigold_ros.evaluation.results.comparison import compare_runs
from marigold_ros.evaluation.results.shared_frames import EvaluationRun, share_frames
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # drives a browser
DESKTOP, PHONE, PAPER = (1440, 900), (390, 844), (690, 1000)
READY_MS = 1000
LOADS = 3  # of which the best counts: others measure a busy machine
EVIL = '"><img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture(scope='module')
def page(tmp_path_factory, some) -> Path:
    """A report of a thousand frames with everything in it, and with evil names."""
    rows = some.rows(1000, EVIL)
    for row in rows:
        row['heldout_abs_rel'] = (
            np.nan if row['index'] == 5 else 0.09 + row['heldout_abs_rel'] / 20
        )
        row['index'] += 100  # its first images had no scan yet
    samples = [
        ('first', some.sample(100, abs_rel=0.1)),
        ('worst', some.sample(500, abs_rel=0.2)),
        (EVIL, some.sample(800, abs_rel=0.15, metric=False)),
        ('best', some.sample(1000, abs_rel=0.05)),
    ]
    folder = tmp_path_factory.mktemp('page')
    return write_report(folder, some.results(EVIL, EVIL), rows, samples, EVIL, EVIL)


def resize(browser, width, height, mobile=False):
    size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': mobile}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)


@pytest.fixture(params=[DESKTOP, PHONE], ids=['desktop', 'phone'])
def opened(request, browser, page):
    """The page at a width, its console read out at the end."""
    resize(browser, *request.param, request.param == PHONE)
    browser.get(page.as_uri())
    yield browser
    assert [entry for entry in browser.get_log('browser') if entry['level'] != 'INFO'] == []


def find(browser, selector):
    return browser.find_element('css selector', selector)


def press(element, *names):
    from selenium.webdriver.common.keys import Keys

    element.send_keys(*[getattr(Keys, name, name) for name in names])


def painted(browser):
    """Wait for two frames, so that what was asked for is drawn."""
    browser.execute_async_script(
        'const done = arguments[0];'
        'requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0)))'
    )


def show(browser, element):
    browser.execute_script('arguments[0].scrollIntoView({block: "center"})', element)
    painted(browser)


def click(browser, element):
    show(browser, element)
    element.click()


def test_it_fits_the_width_and_shows_evil_names_as_text(opened):
    widths = 'return [document.documentElement.scrollWidth, window.innerWidth]'
    needed, given = opened.execute_script(widths)
    assert needed <= given
    assert opened.title == EVIL
    assert find(opened, 'h1').text == EVIL
    assert opened.execute_script('return document.querySelectorAll("img[onerror]").length') == 0
    assert f'/{EVIL}' in find(opened, '.facts + h3 + .facts').text


def test_nothing_but_the_file_is_asked_for(opened, page):
    painted(opened)
    asked = opened.execute_script(
        'return performance.getEntriesByType("resource").map((entry) => entry.name)'
    )
    assert [name for name in asked if not name.startswith('data:')] == []
    events = [json.loads(e['message'])['message'] for e in opened.get_log('performance')]
    sent = [e['params'] for e in events if e['method'] == 'Network.requestWillBeSent']
    # The browser's own start page asks for much.
    own = [event for event in sent if event['documentURL'] == page.as_uri()]
    urls = {event['request']['url'] for event in own}
    assert page.as_uri() in urls
    assert [url for url in urls - {page.as_uri()} if not url.startswith('data:')] == []
    assert page.stat().st_size < 10_000_000


def test_the_page_and_its_script_are_ready_within_a_second(opened, page):
    ready = 'return performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd'
    times = []
    while len(times) < LOADS and min(times, default=READY_MS) >= READY_MS:
        opened.get(page.as_uri())
        times.append(opened.execute_script(ready))
    assert min(times) < READY_MS


def test_pointing_at_a_curve_shows_values_in_linked_charts(opened):
    from selenium.webdriver import ActionChains

    chart = find(opened, '[data-chart="error_heldout"]')
    plot, readout = find(chart, '.plot'), find(chart, 'output')
    show(opened, plot)
    assert readout.text.startswith('mean: this model 0.09')
    ActionChains(opened, duration=20).move_to_element(plot).perform()
    assert 'this model' in readout.text
    assert EVIL in readout.text  # the reason of the row, as text
    frame = int(readout.text.split(':')[0].removeprefix('frame '))
    assert 500 < frame < 700
    assert find(opened, '[data-chart="scale"] output').text.startswith(f'frame {frame}:')
    assert find(opened, '[data-chart="reliability"] output').text.startswith('Point at')


def test_keys_move_the_cursor_and_enter_shows_the_nearest_frame(opened):
    from selenium.webdriver import ActionChains

    chart = find(opened, '[data-chart="error_heldout"]')
    plot, readout = find(chart, '.plot'), find(chart, 'output')
    press(plot, 'HOME', 'ARROW_RIGHT')
    assert readout.text.startswith('frame 101:')
    assert find(opened, '[data-chart="reliability"] output').text.startswith('Point at')
    press(plot, 'ARROW_RIGHT', 'ARROW_RIGHT', 'ARROW_RIGHT', 'ARROW_RIGHT')
    assert 'this model –' in readout.text  # frame 105 has no score
    press(plot, 'END', 'PAGE_DOWN', 'CONTROL', 'ARROW_LEFT')
    assert readout.text.startswith('frame 999:')  # the browser's own keys are left to it
    press(plot, 'ENTER')
    shown = [f for f in opened.find_elements('css selector', '.frame') if f.is_displayed()]
    assert [frame.get_attribute('data-index') for frame in shown] == ['1000']
    button = opened.switch_to.active_element
    assert (button.text, button.get_attribute('aria-pressed')) == ('1000 · best', 'true')
    assert 0 <= button.rect['y'] - opened.execute_script('return window.scrollY') < 844
    show(opened, plot)
    ActionChains(opened).double_click(plot).perform()
    assert find(opened, '.choices button[aria-pressed="true"]').text == '500 · worst'
    press(plot, 'ESCAPE')
    assert readout.text.startswith('mean:')


def test_the_slider_wipes_between_images_by_keys_buttons_and_pointer(opened):
    from selenium.webdriver import ActionChains

    frame = next(f for f in opened.find_elements('css selector', '.frame') if f.is_displayed())
    assert frame.get_attribute('data-index') == '500'  # the worst
    slider = find(frame, 'input[type=range]')

    def state():
        return slider.get_attribute('aria-valuetext')

    assert state() == 'depth'
    assert slider.accessible_name.startswith('Slide from image to LiDAR to depth to error')
    press(slider, 'ARROW_RIGHT')
    assert state() == '5 % error, the rest depth'
    clip = 'return getComputedStyle(arguments[0].parentElement).clipPath'
    error = find(frame, 'img[alt^="relative error"]')
    assert opened.execute_script(clip, error) == 'inset(0px 95% 0px 0px)'
    press(slider, 'END')
    assert state() == 'error'
    press(slider, 'HOME')
    assert state() == 'image'
    click(opened, find(frame, '.stops button:nth-child(2)'))
    assert state() == 'LiDAR'
    stops = frame.find_elements('css selector', '.stops button')
    pressed = [button.get_attribute('aria-pressed') for button in stops]
    assert pressed == ['false', 'true', 'false', 'false']
    assert not find(frame, '.divider').is_displayed()
    assert not find(frame, '.tag.right').is_displayed()
    visible = [i for i in frame.find_elements('css selector', 'img') if i.is_displayed()]
    assert len(visible) == 1
    assert opened.execute_script('return arguments[0].naturalWidth', visible[0]) == 320
    stage, tags = find(frame, '.stage'), frame.find_elements('css selector', '.tag')
    limit, ratio = stage.value_of_css_property('max-width'), 320 / 240
    assert float(limit.removesuffix('px')) == pytest.approx(34 * 16 * ratio, abs=1)
    width, pointer = stage.size['width'], ActionChains(opened, duration=20)
    pointer.move_to_element_with_offset(stage, width // 4, 0).click_and_hold().perform()
    assert [tag.text for tag in tags] == ['depth', 'LiDAR']
    assert state() in ('74 % depth, the rest LiDAR', '75 % depth, the rest LiDAR')
    assert int(slider.get_attribute('value')) == 175
    divider = find(frame, '.divider').rect
    assert divider['x'] - stage.rect['x'] == pytest.approx(0.75 * width, abs=5)
    pointer.move_to_element(stage).perform()
    assert state() == '50 % depth, the rest LiDAR'
    pointer.move_by_offset(0, 0).release().perform()
    press(slider, 'END')
    pointer.move_to_element(stage).click().perform()
    assert state() == '50 % error, the rest depth'
    pointer.click_and_hold().move_by_offset(-width // 2 - 20, 0).perform()
    assert state() == 'depth'  # no further than to the edge
    pointer.release().move_to_element(stage).perform()
    assert state() == 'depth'  # let go
    other = find(opened, '.choices button:first-child')
    click(opened, other)
    assert not frame.is_displayed()
    assert other.get_attribute('aria-pressed') == 'true'


def test_the_cloud_of_a_report_turns_by_key_and_the_page_stays(opened):
    canvas, readout = find(opened, '.cloud canvas'), find(opened, '.cloud output')
    show(opened, canvas)

    def image():
        painted(opened)
        return opened.execute_script('return arguments[0].toDataURL()', canvas), readout.text

    before, scrolled = image(), opened.execute_script('return window.scrollY')
    press(canvas, 'ARROW_UP')
    assert {*before}.isdisjoint(image())
    assert opened.execute_script('return window.scrollY') == scrolled
    press(canvas, '0')
    assert image() == before
    colours = opened.execute_script(
        'const { width, height } = arguments[0];'
        'const { data } = arguments[0].getContext("2d").getImageData(0, 0, width, height);'
        'return new Set(new Uint32Array(data.buffer)).size',
        canvas,
    )
    assert colours > 1000  # the points, not an empty canvas


def test_the_cloud_is_seen_from_where_its_buttons_say(browser, tmp_path):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    # Red is right, green is above, and blue is before grey, which it hides. White lines go from
    # edge to edge.
    lines = [[x, y, 10] for x in np.linspace(-12, 12, 1500) for y in (-3, 3)]
    xyz = np.array([[0, 0, 8.02], [0, 0, 8], [0, 0, 8.02], [2, 0, 10], [0, -2, 10], *lines])
    grey, white = [99, 99, 99], [255, 255, 255]
    rgb = np.array([grey, [0, 0, 255], grey, [255, 0, 0], [0, 255, 0], *[white] * 3000], np.uint8)
    cloud = {'index': 0, 'stride': 1, **pack_points(xyz, rgb, 0.03)}
    path = tmp_path / 'page.html'
    path.write_text(make_page('cloud', cloud_section(cloud), {'charts': {}, 'cloud': cloud}))
    resize(browser, *DESKTOP)
    browser.get(path.as_uri())
    canvas = find(browser, '.cloud canvas')

    def image():
        painted(browser)
        url = browser.execute_script('return arguments[0].toDataURL()', canvas)
        return cv2.imdecode(np.frombuffer(base64.b64decode(url.split(',')[1]), np.uint8), 1)

    def seen():
        """Return centres of what is red, green and blue, right and above the middle."""
        drawn, centres = image(), []
        height, width, _ = drawn.shape
        for bgr in ([0, 0, 255], [0, 255, 0], [255, 0, 0]):
            v, u = np.nonzero((drawn == bgr).all(axis=2))
            assert len(u) == (np.ptp(u) + 1) * (np.ptp(v) + 1) <= 12**2
            centres.append((u.mean() - width / 2, height / 2 - v.mean()))
        return np.array(centres)

    def click_on(meaning):
        find(browser, f'.cloud button[aria-label="{meaning}"]').click()

    home = seen()
    (right, _), (_, above), _ = home
    assert right > 100
    assert above > 100
    for column in (0, -1):  # each line ends there once, and does not begin again at the other side
        (ends,) = np.nonzero((image()[:, column] == 255).all(axis=1))
        assert np.count_nonzero(np.diff(ends) > 1) == 1
    # Parts in front of the middle go with the hand that turns it, those behind against it.
    for meaning, axis, sign in (
        ('turn left', 0, -1),
        ('turn right', 0, 1),
        ('from above', 1, -1),
        ('from below', 1, 1),
    ):
        click_on('reset')
        click_on(meaning)
        assert sign * (seen() - home)[2, axis] > 10, meaning
    click_on('reset')
    for meaning, sign in (('closer', 1), ('farther', -1)):
        click_on(meaning)
        assert sign * (seen()[0, 0] - right) > 10
        click_on('reset')

    def wheel(pinch='false'):
        event = f'new WheelEvent("wheel", {{deltaY: 100, cancelable: true, ctrlKey: {pinch}}})'
        return browser.execute_script(f'return arguments[0].dispatchEvent({event})', canvas)

    assert wheel()  # scrolls the page, until somebody works with the cloud
    assert np.array_equal(seen(), home)
    assert not wheel('true')  # as browsers report a pinch on a touchpad
    assert seen()[0, 0] < right - 10
    click_on('reset')
    canvas.click()
    assert not wheel()
    assert seen()[0, 0] < right - 10
    click_on('reset')
    drag = ActionChains(browser, duration=20)
    drag.move_to_element(canvas).click_and_hold().move_by_offset(60, 0).release().perform()
    turned = seen()
    assert (turned - home)[2, 0] > 10
    drag.move_by_offset(60, 0).perform()  # let go
    assert np.array_equal(seen(), turned)
    click_on('reset')
    apart = ActionBuilder(browser, duration=20)
    for name, sign in (('thumb', -1), ('finger', 1)):
        touch = apart.add_pointer_input('touch', name)
        touch.create_pointer_move(0, sign * 20, 0, origin=canvas)
        touch.create_pointer_down(button=0)
        touch.create_pointer_move(20, sign * 40, 0, origin=canvas)
        touch.create_pointer_up(0)
    apart.perform()
    painted(browser)
    assert 'tilted by 9°, zoom 2.0' in find(browser, '.cloud output').text
    press(canvas, '0', *['ARROW_RIGHT'] * 31)  # half a turn
    red = (image() == [0, 0, 255]).all(axis=2).nonzero()[1]
    assert 0 < red.mean() < canvas.size['width'] / 2 - 100
    press(canvas, '0', *['ARROW_UP'] * 40)
    painted(browser)
    assert 'tilted by 86°' in find(browser, '.cloud output').text
    press(canvas, '0', *'+' * 20, 'ARROW_RIGHT', 'ARROW_DOWN', 'CONTROL', '0')
    painted(browser)
    assert 'zoom 10.0' in find(browser, '.cloud output').text
    assert not (image() == [255, 0, 0]).all(axis=2).any()  # it is behind the eye now


_LINES_OF_NUMBERS = """
const lines = new Set();
for (const cell of document.querySelectorAll("td")) {
  if (!/^-?[0-9.]+$/.test(cell.textContent)) continue;
  const range = document.createRange();
  range.selectNodeContents(cell);
  if (range.getClientRects().length) lines.add(range.getClientRects().length);
}
return [...lines];
"""


def test_on_paper_all_fits_the_width_in_light_colours_without_controls(opened):
    dark = {'name': 'prefers-color-scheme', 'value': 'dark'}
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print', 'features': [dark]})
    resize(opened, *PAPER)
    try:
        painted(opened)
        assert opened.execute_script('return document.documentElement.scrollWidth') <= 690
        hidden = opened.find_elements('css selector', '.choices, .wipe, .chart output')
        assert hidden
        assert not any(element.is_displayed() for element in hidden)
        colour = 'return getComputedStyle(document.body).backgroundColor'
        assert opened.execute_script(colour) == 'rgb(255, 255, 255)'
        wide = 'return [...document.querySelectorAll(".wide > table")].map((t) => t.offsetWidth)'
        assert max(opened.execute_script(wide)) <= 690
        names = 'return [...document.querySelectorAll(".pair td:first-child")]'
        widths = opened.execute_script(f'{names}.map((cell) => cell.offsetWidth)')
        assert min(widths) >= 50  # «bottom» in one piece
        shown = [f for f in opened.find_elements('css selector', '.frame') if f.is_displayed()]
        images = [i.is_displayed() for f in shown for i in f.find_elements('css selector', 'img')]
        assert images == [True] * 4  # beside each other, not one above the others
        assert opened.execute_script(_LINES_OF_NUMBERS) == [1]
        pdf = opened.execute_cdp_cmd('Page.printToPDF', {'printBackground': True})['data']
        assert base64.b64decode(pdf).startswith(b'%PDF')
    finally:
        opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': '', 'features': []})


def looks(browser, parent):
    """Return kind, text and look of all that is drawn in an element, the cursor apart."""
    return browser.execute_script(
        'const names = ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-size"];'
        'const drawn = document.querySelector(arguments[0]).querySelectorAll(":scope > :not(g)");'
        'return [...drawn].map((node) => [node.tagName, node.textContent, node.getAttribute("d"),'
        '  ...names.map((name) => getComputedStyle(node).getPropertyValue(name))]);',
        parent,
    )


def texts_of(browser, selector):
    return [found.text for found in browser.find_elements('css selector', selector)]


def test_charts_and_tables_are_saved_as_files(opened, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    behaviour = {'behavior': 'allow', 'downloadPath': str(tmp_path)}
    opened.execute_cdp_cmd('Browser.setDownloadBehavior', behaviour)
    assert not opened.find_elements('css selector', '.save:has(+ .facts)')
    chart = find(opened, '[data-chart="error_heldout"]')
    press(find(chart, '.plot'), 'HOME')  # what is read there is not saved
    drawn_on_page = looks(opened, '[data-chart="error_heldout"] .plot')
    title = find(chart, 'figcaption').text
    assert find(chart, '.save').accessible_name == f'Save «{title}» as SVG'
    click(opened, find(chart, '.save'))
    click(opened, find(opened, '.wide ~ .save, .save:has(+ .wide)'))
    WebDriverWait(opened, 10).until(lambda _: len([*tmp_path.glob('*.[sc][vs][gv]')]) == 2)
    drawn = tmp_path / 'absrel_at_held_out_lidar_points_lower_is_better.svg'
    listed = tmp_path / 'accuracy.csv'
    paper = 'return getComputedStyle(document.querySelector(".chart")).backgroundColor'
    paper = opened.execute_script(paper)
    opened.get(drawn.as_uri())
    assert looks(opened, 'svg > g') == drawn_on_page
    assert not opened.find_elements('css selector', 'svg > g > g')
    assert find(opened, 'svg > text').text == title
    assert find(opened, 'svg > rect').value_of_css_property('fill') == paper
    assert 'this model' in texts_of(opened, 'svg > text')
    rows = list(csv.reader(listed.read_text('utf-8').splitlines()))
    assert rows[0][:3] == ['method', 'median', 'AbsRel']
    assert len({len(row) for row in rows}) == 1


def test_twenty_curves_look_different_and_have_a_whole_legend_when_saved(browser, tmp_path, some):
    from selenium.webdriver.support.ui import WebDriverWait

    results, rows = some.results(), some.rows(3)
    results['models'] = {f'model {i}': results for i in range(19)}
    for row in rows:
        row |= {f'model {i}:heldout_abs_rel': 0.1 + 0.01 * i for i in range(19)}
    resize(browser, *DESKTOP)
    browser.get(write_report(tmp_path, results, rows, []).as_uri())
    paths = browser.find_elements('css selector', '[data-chart="error_heldout"] .legend path')
    styles = {(p.get_attribute('class'), p.get_attribute('stroke-dasharray')) for p in paths}
    assert len(styles) == len(paths) >= 20
    behaviour = {'behavior': 'allow', 'downloadPath': str(tmp_path)}
    browser.execute_cdp_cmd('Browser.setDownloadBehavior', behaviour)
    click(browser, find(browser, '[data-chart="error_heldout"] .save'))
    WebDriverWait(browser, 10).until(lambda _: [*tmp_path.glob('*.svg')])
    root = ElementTree.parse(next(tmp_path.glob('*.svg'))).getroot()
    names = [node for node in root if node.tag.endswith('text')][1:]  # after the title
    assert {'this model', 'model 18'} <= {node.text for node in names}
    assert max(float(node.get('x')) + 6 * len(node.text) for node in names) < float(
        root.get('width')
    )
    lines = root.findall('./{*}g/{*}path[1]/..')[1:]  # the first is the plot
    assert [len(line) for line in lines] == [1] * len(names)
    # The plot begins below them, and ends where the drawing does.
    (plot,) = (node for node in root if len(node) > 5)
    top = float(plot.get('transform').partition(' ')[2].rstrip(')'))
    assert max(float(node.get('y')) for node in names) < top
    last = max(float(node.get('y')) for node in plot if node.tag.endswith('text'))
    assert top + last < float(root.get('height'))


@pytest.fixture(scope='module')
def comparison(tmp_path_factory) -> Path:
    """A page of four runs of two bags, with everything in it, and with evil names."""
    rng = np.random.default_rng(1)
    runs = {}
    for name in ('one', EVIL, 'a/very/' + 'long_name_' * 26, 'four'):
        rows = [
            {
                'stamp_ns': i * 10**8,
                'bag': i // 30,
                'total_ms': rng.uniform(90, 110),
                **{f'heldout_{m}': rng.uniform(0.1, 0.3) for m in METRICS},
                **{f'heldout_plane_{m}': 0.3 + 0.01 * i for m in COMPARED},
            }
            for i in range(60)
        ]
        for row in rows:
            row.update(heldout_n=1000, heldout_coverage=1.0)
        bags = [{'name': f'{EVIL}{i}', 'sha256': f'{i}' * 64} for i in range(2)]
        provenance = {'bags': bags, 'topics': {}, 'checkpoint': {'name': name}}
        provenance['options'] = {f'option_{i}': f'{name} {i}' for i in range(8)}
        runs[name] = EvaluationRun({'schema': 1, 'provenance': provenance}, rows)
    path = tmp_path_factory.mktemp('comparison') / 'page.html'
    shared = share_frames(runs)
    path.write_text(comparison_page(compare_runs(shared), shared), encoding='utf-8')
    return path


def violations(browser, path: Path) -> list[str]:
    """Return what axe finds on a page, in light and dark colours, at both widths."""
    axe = importlib.resources.files('axe_core_python').joinpath('axe.min.js').read_text('utf-8')
    found = []
    for scheme in ('light', 'dark'):
        feature = {'name': 'prefers-color-scheme', 'value': scheme}
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [feature]})
        for width, height in (DESKTOP, PHONE):
            resize(browser, width, height)
            browser.get(path.as_uri())
            browser.execute_cdp_cmd('Runtime.evaluate', {'expression': axe})
            script = 'const done = arguments[0]; axe.run().then(done)'
            for item in browser.execute_async_script(script)['violations']:
                where = item['nodes'][0]['html'][:80]
                found.append(f'{item["id"]}, {scheme}, {width} px: {where}')
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
    return found


@pytest.mark.parametrize('kind', ['report', 'comparison'])
def test_axe_finds_no_violation(browser, page, comparison, kind):
    pytest.importorskip('axe_core_python', reason='axe-core-python is not installed')
    assert violations(browser, page if kind == 'report' else comparison) == []


@pytest.mark.parametrize('size', [DESKTOP, PHONE], ids=['desktop', 'phone'])
def test_long_names_without_spaces_fit_the_width(browser, tmp_path, some, size):
    name, (width, _) = 'drive_' * 33, size
    samples = [(name, some.sample())]
    page = write_report(
        tmp_path, some.results(name, name), some.rows(3, name), samples, name, name
    )
    resize(browser, *size, size == PHONE)
    browser.get(page.as_uri())
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width


def test_an_axis_of_nothing_but_zeros_does_not_go_below(browser, some, tmp_path):
    rows = [{**row, 'n_points': 0, 'n_inliers': 0} for row in some.rows(3)]
    browser.get(write_report(tmp_path, some.results(), rows, []).as_uri())
    painted(browser)
    texts = browser.find_elements('css selector', '[data-chart="points"] .plot text')
    assert texts[0].text == '0.0'


@pytest.mark.parametrize('size', [DESKTOP, PHONE, PAPER], ids=['desktop', 'phone', 'paper'])
def test_a_comparison_fits_the_width_and_begins_with_what_is_best(browser, comparison, size):
    width, _ = size
    resize(browser, *size, size == PHONE)
    media = 'print' if size == PAPER else ''
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': media})
    browser.get(comparison.as_uri())
    unfold = 'document.querySelectorAll("details").forEach((one) => { one.open = true; })'
    browser.execute_script(unfold)
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width
    wider = '(cell) => cell.scrollWidth > cell.clientWidth + 1'
    cells = 'return [...document.querySelectorAll(".board td")]'
    assert browser.execute_script(f'{cells}.filter({wider}).length') == 0
    assert 'has the smallest AbsRel' in find(browser, '.lead').text
    assert find(browser, 'h2').text == 'What differs'
    board = find(browser, '#heldout .board')
    assert board.size['width'] > 0.8 * width if width < 500 else board.size['width'] > 600
    assert [entry for entry in browser.get_log('browser') if entry['level'] != 'INFO'] == []
    assert browser.execute_script('return document.querySelectorAll("img").length') == 0
