# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The report as a file: self-contained, small, and never fooled by what a bag is called."""

import base64
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
import json
import math
import re

import cv2
from marigold_ros.evaluation.report.charts import chart_specs, MOST_PLACES
from marigold_ros.evaluation.report.cloud import cloud_data, MOST_POINTS
from marigold_ros.evaluation.report.drawing import depth_scale, depth_ticks
from marigold_ros.evaluation.report.frames import frame_panels, inline
from marigold_ros.evaluation.report.html_page import make_page
from marigold_ros.evaluation.report.report import write_report
from marigold_ros.evaluation.report.tables import bag_table, headline, stability_tables
from marigold_ros.evaluation.report.verdict_section import verdict_section
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry import unproject_depth
import numpy as np
import pytest

K = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])
EVIL = (
    '<script>alert("1")</script>',
    '"><img src=x onerror=alert(2)>',
    "'><svg onload=alert(3)>",
    '</script><script>alert(4)</script>',
    '<!-- <script>',
    '&lt;b&gt;${title}',
)


class Reader(HTMLParser):
    """Collects elements, attributes and shown text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.shown, self.scripts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        inside = self.tags[-1] if self.tags else ''
        (self.scripts if self.lasttag == 'script' and inside == 'script' else self.shown).append(
            data
        )


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def island(html):
    return json.loads(re.search(r'id="report-data">(.*?)</script>', html, re.S)[1])


@pytest.fixture(scope='module')
def page(tmp_path_factory, some):
    folder = tmp_path_factory.mktemp('report')
    samples = [('worst', some.sample(0)), ('best', some.sample(2, abs_rel=0.05))]
    return write_report(folder, some.results(), some.rows(3), samples, 'Depth').read_text()


def test_nothing_is_fetched_and_only_the_own_script_may_run(page):
    reader = read(page)
    links = [value for name, value in reader.attributes if name in ('src', 'href', 'srcset')]
    assert links
    assert all(link.startswith(('data:', '#')) for link in links)
    assert 'url(' not in page
    assert '@import' not in page
    assert not [name for name, _ in reader.attributes if name.startswith('on') or name == 'style']
    policy = next(v for n, v in reader.attributes if n == 'content' and 'default-src' in v)
    assert "default-src 'none'" in policy
    assert 'unsafe' not in policy
    assert reader.tags.count('script') == 2  # the data and the program


def test_all_that_was_measured_is_on_the_page(page):
    text = ' '.join(read(page).shown)
    for part in (
        '95 % interval 0.080 to 0.100',
        'ab' * 32,
        '1.23 %',
        '512 MB',
    ):
        assert part in text
    charts = island(page)['charts']
    assert {'error_heldout', 'scale', 'points', 'time', 'range_abs_rel', 'reliability'} <= set(
        charts
    )
    assert charts['robustness_heldout']['curves'][0]['values'] == [0.1, 0.2, None]
    assert page.count('class="chart panel"') == len(charts)
    for name in charts:
        assert f'data-chart="{name}"' in page


def test_the_maps_of_compared_models_are_fitted_beside_each_other(tmp_path, some):
    frame = some.sample(0)
    inverse = Prediction(1.0 / frame.metric / 2.0 + 0.1, space='disparity')
    frame = replace(frame, compared={'b<1>+c': inverse})
    html = write_report(tmp_path, some.results(), some.rows(1), [('', frame)], 'Depth').read_text()
    names = re.findall(r'figure data-name="(.*?)"', html)
    assert names[-2:] == ['oracle: this model', 'oracle: b&lt;1&gt;+c']
    # Both maps are exact up to scale and shift in their own spaces.
    files = [
        tmp_path / 'pictures' / f'frame_0000_oracle_{name}.png'
        for name in ('this_model', 'b_1_+c')
    ]
    own, other = (cv2.imread(str(path)).astype(int) for path in files)
    assert np.abs(own - other).max() <= 8


def test_robustness_of_compared_models_has_a_chart_for_each_corruption(some):
    results = some.results()
    curve = {'night': {'oracle': {'abs_rel': [0.1, 0.2, None]}}}
    results['robustness']['corruptions'] = curve
    results['models']['plain']['robustness'] = {'corruptions': curve, 'strengths': [0, 1, 2]}
    chart = chart_specs(results, [])['robustness_by_model_night']
    assert [found['name'] for found in chart['curves']] == ['this model', 'plain']
    assert chart['curves'][1]['values'] == [0.1, 0.2, None]


def test_stability_and_surfaces_are_named_in_words_with_direction():
    drift = {'ratio': math.nan, 'shift': 0.25, 'median_ratio': 0.01}  # in this order
    found = {
        'temporal': {'flicker': {'value': 0.0125}, 'scale_drift': drift},
        'surfaces': {'boundary_f1': 0.2, 'new_one': 3.0},
    }
    temporal, surfaces = stability_tables(found)
    assert 'mean (lower is better)</td><td>1.25 %<' in temporal
    assert 'frame to frame, mean (lower is better)</td><td>–<' in temporal
    assert 'change of depth over truth, median of the frames</td><td>1.00 %<' in temporal
    assert 'occlusion edges found, F1 (higher is better)</td><td>0.2' in surfaces
    assert 'new_one</td><td>3' in surfaces


def test_of_several_models_what_compares_them_leads(page):
    rows = re.findall(r'<tr class="own"><td>(.*?)</td>', page)
    assert [row for row in rows if row.startswith('plain')] == [
        'plain, alone: one scale and shift, fitted to the truth',
        'plain, one scale and shift',
        'plain, metric, fitted to every 8th scan line, scored at those between',
    ]


@pytest.mark.parametrize('text', EVIL)
def test_html_in_any_name_is_shown_as_text(text, tmp_path, page, some):
    samples = [(text, some.sample(0)), ('best', some.sample(2, metric=False))]
    results = some.results(name=text, text=text)
    html = write_report(tmp_path, results, some.rows(3, text), samples, text, text).read_text()
    reader, plain = read(html), read(page)
    assert set(reader.tags) == set(plain.tags)
    assert {name for name, _ in reader.attributes} <= {name for name, _ in plain.attributes}
    assert reader.tags.count('script') == 2
    shown = ''.join(reader.shown)
    # Title twice, intro, rejected, calibration, warnings, models, topics, checkpoint and more.
    assert shown.count(text) >= 12
    assert island(html)['charts']['error_heldout']['remarks'][0] == f'0.0 s, fitted, {text}'


@pytest.mark.slow  # a thousand frames
def test_a_page_of_thousand_frames_of_noise_is_below_10_mb(tmp_path, some):
    samples = [('', some.sample(i, size=(720, 1280), seed=i)) for i in range(8)]
    path = write_report(tmp_path, some.results(), some.rows(1000), samples)
    assert 1_000_000 < path.stat().st_size < 10_000_000


def test_results_without_any_score_make_a_page_too(tmp_path, some):
    results = some.results()
    results.update(protocols={}, baselines={}, models={}, latency_ms={}, robustness={})
    html = write_report(tmp_path, results, [], []).read_text()
    assert 'neither LiDAR in view nor dense truth' in html
    assert island(html) == {'charts': {}, 'cloud': None}


def test_long_runs_are_thinned_and_say_at_which_frames(page, some):
    specs = chart_specs(some.results(), some.rows(3 * MOST_PLACES + 1))
    error = specs['error_heldout']
    assert len(error['x']) <= MOST_PLACES
    assert error['x'][:3] == [0, 4, 8]
    assert error['means'] == 'mean of one in 4 frames'
    assert all(len(c['values']) == len(error['x']) for c in error['curves'])
    assert island(page)['charts']['error_heldout']['curves'][0]['values'][1] is None


def test_frames_of_several_bags_are_named_and_timed_by_bag_in_long_runs_too(some):
    results, rows = some.results(), some.rows(4 * MOST_PLACES)
    results['provenance']['bags'] = [{'name': 'one'}, {'name': 'two'}]
    for row in rows:
        row['bag'] = int(row['index'] >= 101)  # of which frame 104 is the first that is drawn
    remarks = chart_specs(results, rows)['scale']['remarks']
    assert remarks[:2] == ['one, 0.0 s, fitted', 'one, 0.4 s, fitted']
    assert remarks[26] == 'two, 0.3 s, fitted'


def test_a_mark_stands_where_a_bag_ends_and_each_bag_has_rows(some):
    results, rows = some.results(), some.rows(4)
    results['provenance']['bags'] = [{'name': 'one'}, {'name': 'two'}]
    for row, bag, error in zip(rows, (0, 0, 0, 1), (0.1, math.nan, 0.3, 0.4), strict=True):
        row.update(bag=bag, heldout_abs_rel=error, heldout_mae=10 * error)
    specs = chart_specs(results, rows)
    assert all(specs[name]['marks'] == [(3, 'two')] for name in ('scale', 'error_heldout'))
    cells = re.findall(r'<td>(.*?)</td>', bag_table(results, rows))
    assert cells[:6] == ['one, held-out LiDAR points', '0.200', '–', '2.00', '–', '2']
    assert 'two, held-out LiDAR points' in cells
    del results['provenance']['bags'][1]
    assert bag_table(results, rows) == ''
    assert chart_specs(results, some.rows(4))['scale']['marks'] == []


def test_bags_of_one_name_are_told_apart_by_their_hashes(some):
    results, rows = some.results(), some.rows(2)
    bags = [{'name': 'drive', 'sha256': digit * 64} for digit in 'ab']
    results['provenance']['bags'] = bags
    rows[1]['bag'] = 1
    assert chart_specs(results, rows)['scale']['marks'] == [(1, 'drive (bbbbbbbb)')]
    assert 'drive (aaaaaaaa), held-out LiDAR points' in bag_table(results, rows)


def luminance(colour):
    """Return the relative luminance of #rrggbb by WCAG 2."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize('grade', ['green', 'amber', 'red', 'unknown'])
def test_the_sign_of_every_grade_can_be_seen_on_any_paper(page, grade):
    name = re.search(rf'\.verdict\.{grade} {{ --grade: var\((--\w+)\)', page)[1]
    schemes = re.findall(r':root {(.*?)}', page, re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = dict(re.findall(r'(--\w+): (#\w{3,6})', scheme))
        paper = colours['--card'].replace('#fff', '#ffffff')[:7]
        light, dark = sorted(map(luminance, (colours[name], paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.0


def test_frames_a_second_are_those_of_results_json(some):
    assert '20.0 frames/s' in headline(some.results())
    assert '18.5 frames/s' in headline({**some.results(), 'fps': 18.52})


def test_requirements_are_shown_with_their_outcome(tmp_path, page, some):
    results = some.results()
    results['requirements'] = [
        {'text': 'abs_rel < 0.08', 'value': 0.09, 'met': False},
        {'text': 'rate > 1', 'value': None, 'met': False},
        {'text': 'rmse <= 4', 'value': 2.0, 'met': True},
    ]
    html = write_report(tmp_path, results, [], []).read_text()
    section = html.split('<h2>Requirements</h2>')[1].split('</section>')[0]
    text = unescape(re.sub(r'<.*?>', ' ', section))
    assert ' '.join(text.split()) == (
        'required measured outcome abs_rel < 0.08 0.09 ✕ not met rate > 1 not measured ✕ not met '
        'rmse <= 4 2 ✓ met'
    )
    assert 'Requirements' not in page


def test_every_image_of_depth_has_a_legend_from_near_to_far_with_its_unit(tmp_path, some):
    samples = [('', some.sample(0)), ('', some.sample(1, metric=False))]
    html = write_report(tmp_path, some.results(), some.rows(2), samples).read_text()
    first, second = html.split('id="frame-1"')
    assert re.search(r'black is without depth<span.*?>near, [\d.]+ m<.*?>far, [\d.]+ m<', first)
    assert re.search(r'relative depth, without unit<span.*?>near<.*?>far<', second)
    # A file has a strip below the image.
    for name in ('lidar', 'depth', 'error'):
        path = tmp_path / 'pictures' / f'frame_0000_{name}.png'
        assert cv2.imread(str(path)).shape[0] == 240 + 40
    assert cv2.imread(str(tmp_path / 'pictures' / 'frame_0001_relative.png')).shape[0] == 280


def test_compared_maps_fitted_to_the_truth_alone_have_its_scale_in_metres(tmp_path, some):
    sample, none = some.sample(metric=False), np.zeros(0, int)
    other = {'other': Prediction(sample.relative, space='depth')}
    sample = replace(sample, lidar=SparseDepth(none, none, none.astype(float)), compared=other)
    text = frame_panels([('', sample)], tmp_path)
    assert 'oracle: other' in text
    assert 'depth in metres' in text
    near, *_, far = depth_ticks(*depth_scale(sample.score.z))
    assert near in text
    assert far in text


OF_SURFACES = {'this model': '', 'best quadric': 'quadric_'}
OF_LIDAR = {**OF_SURFACES, 'LiDAR interpolated in disparity': 'disparity_'}
OF_BAGS = {
    'error_heldout': {name: f'heldout_{part}abs_rel' for name, part in OF_LIDAR.items()}
    | {'plain': 'plain:heldout_abs_rel'},  # a compared model
    'error_truth': {name: f'truth_{part}abs_rel' for name, part in OF_LIDAR.items()},
    'time': {'total': 'total_ms'},
    'scale': {'scale': 'scale', 'shift': 'shift'},
    'points': {'in view': 'n_points', 'inliers': 'n_inliers'},
    'coverage': {f'within {k} sigma': f'heldout_within_{k}_sigma' for k in (1, 2)},
}
OF_IMAGES = {
    'error_oracle': {name: f'oracle_{part}abs_rel' for name, part in OF_SURFACES.items()}
    | {'scaled mean of earlier images': 'oracle_mean_map_abs_rel'},
    'time': {'total': 'total_ms'},
}


@pytest.mark.parametrize(('expected', 'protocol'), [(OF_BAGS, 'heldout'), (OF_IMAGES, 'oracle')])
def test_every_curve_over_time_is_that_of_its_column(some, expected, protocol):
    results, rng = some.results(), np.random.default_rng(0)
    results['provenance']['scoring']['baselines_protocol'] = protocol
    if protocol == 'oracle':
        results['provenance']['topics']['dataset'] = 'folder'
    columns = [column for part in expected.values() for column in part.values()]
    rows = [
        {'index': i, 'stamp_ns': i * 100_000_000, 'state': 'fitted', 'scale': 1.0, 'n_points': 0}
        | {column: float(f'{rng.random():.6g}') for column in columns}
        for i in range(3)
    ]
    rows[0]['map_reason'] = 'a constant map'
    specs = chart_specs(results, rows)
    drawn = {
        name: {c['name']: c['values'] for c in spec['curves'] if 'reference' not in c}
        for name, spec in specs.items()
        if 'x' in spec and spec['x'] == [0, 1, 2]
    }
    assert drawn == {
        name: {label: [row[column] for row in rows] for label, column in part.items()}
        for name, part in expected.items()
    }
    time = specs['time']
    of_images = protocol == 'oracle'
    assert of_images or (specs['scale']['zero'], specs['coverage']['top']) == (False, 1.0)
    assert time['x_label'] == ('image' if of_images else 'frame')
    assert time.get('remarks', [''])[0] == ('' if of_images else '0.0 s, fitted, a constant map')


def test_a_column_that_no_frame_has_is_no_curve(some):
    rows = [{**row, 'heldout_quadric_abs_rel': math.nan} for row in some.rows(3)]
    curves = chart_specs(some.results(), rows)['error_heldout']['curves']
    assert [curve['name'] for curve in curves] == ['this model']


def test_errors_stand_over_their_own_distances_whatever_bins_others_lack(some):
    results = some.results()
    for name, errors in {
        'heldout': {0: 0.1, 30: 0.4},
        'truth': {0: 0.1, 10: 0.2, 50: 0.5},
    }.items():
        parts = [{'from': low, 'to': low + 10, 'abs_rel': e} for low, e in errors.items()]
        results['protocols'][name] = {'by_range': parts}
    spec = chart_specs(results, [])['range_abs_rel']
    assert spec['ticks'] == ['0–10', '10–20', '30–40', '50–60']
    values = {curve['name']: curve['values'] for curve in spec['curves']}
    assert values['held-out LiDAR points'] == [0.1, None, 0.4, None]
    assert values['dense truth'] == [0.1, 0.2, None, 0.5]


def test_the_reliability_curve_goes_through_its_points(some):
    spec = chart_specs(some.results(), [])['reliability']
    curve = next(c for c in spec['curves'] if c['name'] == 'held-out LiDAR points')
    through = dict(zip(spec['x'], curve['values'], strict=True))
    assert (through[0.0], through[0.5]) == (0.0, 0.6)
    assert curve['values'][spec['x'].index(1.0)] is None
    ideal = next(c for c in spec['curves'] if c.get('reference'))
    assert ideal['values'] == spec['x']


def test_the_cloud_holds_the_points_of_the_best_frame_in_metres(some):
    best = some.sample(4, abs_rel=0.01)
    others = (some.sample(3, abs_rel=math.nan), some.sample(1, abs_rel=0.2))
    data = cloud_data([*others, best, some.sample(2, metric=False, abs_rel=0.0)])
    assert data['index'] == 4
    xyz = np.frombuffer(base64.b64decode(data['xyz']), '<i2').reshape(-1, 3) * data['unit']
    rgb = np.frombuffer(base64.b64decode(data['rgb']), np.uint8).reshape(-1, 3)
    assert len(xyz) == len(rgb) == data['count'] <= MOST_POINTS
    step = data['stride']
    truth = unproject_depth(best.metric, best.K)[::step, ::step].reshape(-1, 3)
    # The planted surface is smooth, so nothing but its border is taken for flying pixels.
    assert len(xyz) > 0.9 * len(truth)
    distance = np.abs(xyz[:, None, :2] - truth[None, ::97, :2]).sum(axis=2).min(axis=0)
    assert np.median(distance) < 0.01
    back = xyz[:, :2] / xyz[:, 2:] * K[0, 0] + K[:2, 2]
    # To a pixel and back: each point lies on a pixel of the thinned image and has its colour.
    pixels = np.rint(back).astype(int)
    assert np.abs(back - pixels).max() < 0.1
    assert (best.rgb[pixels[:, 1], pixels[:, 0]] == rgb).all()


def test_no_cloud_without_published_metres_or_intrinsics(some):
    assert cloud_data([]) is None
    assert cloud_data([some.sample(metric=False)]) is None
    assert cloud_data([replace(some.sample(), K=None)]) is None
    fitted_to_truth = replace(some.sample(), truth=some.sample().metric)
    assert cloud_data([fitted_to_truth]) is None


def test_images_shrink_to_what_a_page_can_carry():
    noise = np.random.default_rng(0).integers(0, 255, (2160, 3840, 3), np.uint8)
    for image in (noise, noise[:10], noise[:, :3], noise[:1, :1]):
        assert len(inline(image)) < 250_000


def test_data_cannot_end_its_element():
    html = make_page('t', '', {'a': '</script><!--&\u2028'})
    assert island(html) == {'a': '</script><!--&\u2028'}
    assert html.count('</script>') == 2


def test_commands_in_the_verdict_are_code():
    verdict = {'grade': 'green', 'title': 'Good', 'text': {'model': 'get <it> by `models get x`'}}
    section = verdict_section(verdict)
    assert '<dd>get &lt;it&gt; by <code>models get x</code></dd>' in section


def test_a_unit_of_the_verdict_stays_in_the_line_of_its_number():
    texts = {'speed': '4 Hz, 95 % of 12 images below 9 ms', 'range': '2 models within 10 m'}
    section = verdict_section({'grade': 'green', 'title': 'Within 10 %', 'text': texts})
    assert '>4&nbsp;Hz, 95&nbsp;% of 12 images below 9&nbsp;ms<' in section
    assert '>2 models within 10&nbsp;m<' in section
    assert ' Within 10&nbsp;%</h2>' in section
