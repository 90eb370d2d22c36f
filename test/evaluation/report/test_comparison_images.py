# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One frame under each run: which one, on one scale, and what is said where there is none."""

import base64
from dataclasses import replace
import re

import cv2
from marigold_ros.errors import InputError
from marigold_ros.evaluation.report.comparison_images import images_section
from marigold_ros.evaluation.report.drawing import colourise_depth
from marigold_ros.evaluation.report.report import write_report
from marigold_ros.evaluation.results.shared_frames import EvaluationRun, SharedFrames
import numpy as np
import pytest


@pytest.fixture
def runs(tmp_path, some):
    """Two runs whose reports drew frames 0 and 2 of three; in 2 the second sees all too far."""
    found = {}
    for name, factor in (('near', 1.0), ('far', 2.0)):
        samples = [('', some.sample(0)), ('', some.sample(2))]
        (_, last) = samples[1]
        samples[1] = ('', replace(last, metric=factor * last.metric))
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, some.results(), some.rows(3), samples)
        errors = (0.1, 0.9 * factor, 0.1 * factor)
        rows = [{'index': f'{i}', 'heldout_abs_rel': f'{x}'} for i, x in enumerate(errors)]
        found[name] = EvaluationRun({}, rows, tmp_path / name)
    return found


def section_of(runs):
    rows = {name: run.rows for name, run in runs.items()}
    return images_section(SharedFrames(runs, rows, ['drive'] * 3, ['heldout'], []), 'heldout')


def test_the_frame_is_that_which_all_have_and_where_they_differ_most(runs, some):
    html = section_of(runs)
    assert '<h3>Frame 2 of drive</h3>' in html
    captions = re.findall('<figcaption>(.*?)</figcaption>', html)
    assert captions == ['image', 'LiDAR points in view', 'near, AbsRel 0.100', 'far, AbsRel 0.200']
    near, far = (decoded(data) for data in re.findall('base64,(.*?)"', html)[2:])
    depth = some.sample(2).metric
    low, high = scale_of(runs['near'], 'frame_0002')
    for drawn, metric in ((near, depth), (far, 2 * depth)):
        known = colourise_depth(metric, low, high).astype(int)
        assert np.abs(drawn - known).mean() < 6  # JPEG, and the rounded scale
    assert 'near, ' in html
    assert 'the runs differ most' in html


def decoded(data):
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return image[..., ::-1].astype(int)


def scale_of(run, frame):
    text = (run.folder / 'pictures' / 'depth_scales.json').read_text()
    return map(float, re.search(rf'"{frame}": \[(.*?), (.*?)\]', text).groups())


def test_a_frame_that_was_drawn_on_another_scale_is_not_shown(runs):
    scales = runs['far'].folder / 'pictures' / 'depth_scales.json'
    scales.write_text('{"frame_0000": [1.0, 2.0]}')
    assert section_of(runs).startswith('<p class="note">No frame is shown: the reports of all')
    scales.unlink()  # as of runs without images
    assert 'No frame is shown' in section_of(runs)


@pytest.mark.parametrize('text', ['{', '[]', '{"frame_0002": [2, 1]}', '{"frame_0002": "ab"}'])
def test_a_damaged_scale_is_named(runs, text):
    (runs['far'].folder / 'pictures' / 'depth_scales.json').write_text(text)
    with pytest.raises(InputError, match='depth_scales.json is damaged; run evaluate again'):
        section_of(runs)


def test_a_damaged_or_missing_image_is_named(runs):
    image = runs['far'].folder / 'pictures' / 'frame_0002_depth.png'
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(InputError, match='frame_0002_depth.png'):
        section_of(runs)
    (runs['near'].folder / 'pictures' / 'frame_0002_input.png').unlink()
    with pytest.raises(InputError, match='No such file or directory; run evaluate again'):
        section_of(runs)
