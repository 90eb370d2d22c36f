# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Planted results, rows and frames of reports, with any text in place of every name."""

import math
from types import SimpleNamespace

from marigold_ros.evaluation.scoring.report_frames import ReportFrame
from marigold_ros.frame import SparseDepth
import numpy as np
import pytest

K = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])


@pytest.fixture(scope='session')
def some():
    """Functions that return some ``results``, ``rows`` and a ``sample`` for the page."""
    return SimpleNamespace(results=_results, rows=_rows, sample=_sample)


def _sample(index=0, size=(240, 320), abs_rel=0.1, metric=True, seed=0):
    rng = np.random.default_rng(seed)
    height, width = size
    v, u = np.mgrid[0:height, 0:width]
    depth = (3 + 30 * (1 - v / height) + np.sin(u / 30)).astype(np.float32)
    some = rng.integers(0, height, 900), rng.integers(0, width, 900)
    points = SparseDepth(some[1], some[0], depth[some])
    return ReportFrame(
        index,
        rng.integers(0, 255, (height, width, 3), np.uint8),
        (depth / depth.max()).astype(np.float32),
        'depth',
        depth if metric else None,
        points,
        points,
        rng.uniform(0, 0.4, 900),
        abs_rel,
        0.3,
        K,
    )


def _results(name='drive', text='plain'):
    macro = {
        'abs_rel': 0.09,
        'rmse': 2.0,
        'mae': 1.0,
        'delta1': 0.9,
        'silog': 20.0,
        'coverage': 1.0,
    }
    paired = {'difference': -0.0312, 'interval': [-0.05, -0.0124], 'n_frames': 40}
    few = {'difference': 0.02, 'interval': [math.nan, math.nan], 'n_frames': 3}
    scores = {
        'macro': {**macro, 'bias': -0.1},
        'micro': macro,
        'median_abs_rel': 0.03,
        'n_frames': 3,
        'n_points': 1000,
        'sigma_coverage': {'1': 0.7, '2': 0.9},
        'interval': {'abs_rel': [0.08, 0.1]},
        'by_range': [
            {'from': 0, 'to': 10, 'n': 5, 'abs_rel': 0.05, 'rmse': 0.5, 'bias': 0.1},
            {'from': 10, 'to': 20, 'n': 5, 'abs_rel': 0.15, 'rmse': 2.5, 'bias': -0.2},
        ],
        'by_region': {'left': {'abs_rel': 0.11, 'n': 7}, text: {'abs_rel': 0.12, 'n': 7}},
        'sigma': {'reliability': [{'expected': 0.5, 'observed': 0.6}]},
    }
    return {
        'schema': 1,
        'frames': {'read': 4, 'processed': 3, 'metric': 3, 'dropped': 0, 'rejected': {text: 1}},
        'rate': 1.0,
        'protocols': {'heldout': scores, text: scores},
        'baselines': {'linear': macro, text: macro},
        'baselines_paired': {'linear': {'abs_rel': paired}, text: {'abs_rel': few}},
        'models': {
            text: {
                'protocols': {'heldout': scores, 'oracle': scores},
                'baselines': {'global': macro},
                'baselines_paired': {'global': {'abs_rel': paired}},
            }
        },
        'latency_ms': {'total': {'p50': 50.0, 'p95': 60.0, 'p99': 70.0, 'max': 80.0}, text: {}},
        'temporal': {'flicker': {'value': 0.012345}},
        'surfaces': {text: 0.5},
        'robustness': {
            'strengths': [0, 1, 2],
            'corruptions': {text: {'heldout': {'abs_rel': [0.1, 0.2, None]}}},
        },
        'memory': {'peak_mb': 512.0},
        'calibration': {'text': text},
        'verdict': {
            'grade': 'amber',
            'title': 'Mixed: planted',
            'against_baselines': {
                'abs_rel': {'outcome': 'better', 'baseline': text, 'theirs': 0.12}
            },
            'text': {'range': text, text: 'plain'},
        },
        'provenance': {
            'bags': [{'name': name, 'sha256': 'ab' * 32, 'bytes': 123}],
            'topics': {'image': f'/{text}', text: None},
            'checkpoint': {'name': text, 'notes': [text]},
            'options': {'lidar.fixed_frame': text},
            'versions': {'python': '3'},
            'machine': {'processor': text, 'cores': 2},
            'extrinsics': text,
            'warnings': {text: 2},
            'scoring': {
                'baselines_protocol': 'heldout',
                'fit_every': 8,
                'held_out': 'rings',
                'first_not_metric': text,
            },
        },
    }


def _rows(count, text=''):
    rng = np.random.default_rng(1)
    return [
        {
            'index': i,
            'stamp_ns': i * 100_000_000,
            'state': 'fitted',
            'reason': text,
            'n_points': 2000,
            'n_inliers': 1900,
            'scale': rng.uniform(1, 2),
            'shift': rng.uniform(1, 2),
            'total_ms': rng.uniform(90, 120),
            'heldout_abs_rel': math.nan if i == 1 else rng.uniform(0, 0.2),
            'heldout_quadric_abs_rel': rng.uniform(0, 0.2),
            'heldout_linear_abs_rel': rng.uniform(0, 0.2),
            'heldout_within_1_sigma': 0.7,
        }
        for i in range(count)
    ]
