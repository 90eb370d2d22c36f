# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The report on a fit: what is good, and what is said of what is not."""

from marigold_ros.frame import Alignment
from marigold_ros.geometry.fit_report import fit_report
from marigold_ros.reasons import as_reason
import pytest

FITTED = Alignment('fitted', scale=2.0, shift=0.5, n_points=40, n_inliers=30, shares={'map': 0.7})


def test_a_fit_without_a_warning_is_good_and_has_its_values():
    report = fit_report(FITTED, 7, 5, {'caution': '', 'calibration': '', 'nearest': 1.5})
    assert (report.is_good, report.text) == (True, 'fitted')
    wanted = {'scale': 2.0, 'inliers': 30, 'points': 40, 'map_share': 0.7, 'nearest': 1.5}
    assert report.values.items() >= {**wanted, 'image_stamp': 7, 'scan_stamp': 5}.items()


@pytest.mark.parametrize('detail', ['caution', 'calibration'])
def test_a_warning_is_said_and_is_not_good(detail):
    report = fit_report(FITTED, 0, None, {detail: 'look here'})
    assert (report.is_good, report.text) == (False, 'fitted; look here')
    assert report.values['scan_stamp'] == ''


def test_a_map_without_a_share_and_a_held_fit_say_why():
    useless = Alignment('fitted', map_refusal=as_reason('it gains nothing'))
    report = fit_report(useless, 0, None, {})
    assert report.text == 'fitted; the map has no share: it gains nothing'
    assert not report.is_good
    held = fit_report(Alignment('held', as_reason('no points'), age_ns=2_500_000_000), 0, None, {})
    assert (held.is_good, held.text, held.values['age']) == (False, 'held: no points', 2.5)
