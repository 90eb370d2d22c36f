# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sizes and upsampling; edges are judged on synthetic scenes whose depth is exact."""

from marigold_ros.config import EngineConfig
from marigold_ros.models import load_model
from marigold_ros.models.resizing import upsample_bilateral, upsample_bilinear
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
import torch
from torch.nn import functional


def boundary_f1(depth: np.ndarray, truth: np.ndarray) -> float:
    """F1 of occlusion edges: neighbours whose depths differ by a ratio, at the exact pixel."""
    scores = []
    for ratio in (1.05, 1.15, 1.25):
        for axis in (0, 1):
            found, real = (
                np.abs(np.diff(np.log(value), axis=axis)) > np.log(ratio)
                for value in (depth, truth)
            )
            hits = np.sum(found & real)
            scores.append(2 * hits / max(np.sum(found) + np.sum(real), 1))
    return float(np.mean(scores))


def upsampled(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Truth at 2.5 times smaller size, brought back both ways; metres."""
    sample = make_sample(seed, 320, 240)
    truth = np.minimum(sample.depth.astype(np.float64), 100.0)
    logarithm = torch.from_numpy(np.log(truth).astype(np.float32))[None, None]
    rgb = torch.from_numpy(sample.rgb)[None].permute(0, 3, 1, 2).float() / 255.0
    low, small = (
        functional.interpolate(value, (96, 128), mode='bilinear', antialias=True)
        for value in (logarithm, rgb)
    )
    answers = {
        'bilinear': upsample_bilinear(low, (240, 320)),
        'bilateral': upsample_bilateral(low, small, rgb),
    }
    return {name: np.exp(value[0, 0].double().numpy()) for name, value in answers.items()}, truth


def test_bilateral_upsampling_finds_more_of_the_true_edges():
    f1 = {'bilinear': [], 'bilateral': []}
    error = {'bilinear': [], 'bilateral': []}
    for seed in range(6):
        answers, truth = upsampled(seed)
        for name, depth in answers.items():
            f1[name].append(boundary_f1(depth, truth))
            error[name].append(np.mean(np.abs(depth - truth) / truth))
    assert np.mean(f1['bilateral']) > 1.4 * np.mean(f1['bilinear'])
    assert np.mean(error['bilateral']) < 0.85 * np.mean(error['bilinear'])


def test_bilateral_upsampling_stays_within_its_cells():
    maps, small = torch.rand(1, 2, 9, 11), torch.rand(1, 3, 9, 11)
    answer = upsample_bilateral(maps, small, torch.rand(1, 3, 31, 40))
    assert answer.shape == (1, 2, 31, 40)
    assert (answer.amin((2, 3)) >= maps.amin((2, 3)) - 1e-6).all()
    assert (answer.amax((2, 3)) <= maps.amax((2, 3)) + 1e-6).all()


def test_without_colour_bilateral_upsampling_is_bilinear():
    maps, grey = torch.rand(1, 1, 12, 16), torch.full((1, 3, 12, 16), 0.5)
    answer = upsample_bilateral(maps, grey, torch.full((1, 3, 30, 41), 0.5))
    torch.testing.assert_close(answer, upsample_bilinear(maps, (30, 41)), atol=1e-4, rtol=0)


@pytest.mark.parametrize('size', [(200, 300), (97, 130), (40, 50), (96, 128)])
def test_the_engine_upsamples_either_way_to_every_size(small_checkpoint, image, size):
    model, rgb = load_model(str(small_checkpoint), device='cpu'), image(*size)
    answer = model.predict(rgb, 1, 2, engine=EngineConfig(upsampling='bilateral'))
    for value in (answer.relative, answer.spread):
        assert value.shape == size
        assert np.isfinite(value).all()
    assert answer.relative.min() >= 0.0
    assert answer.relative.max() <= 1.0
    whole, maps = model.upload([rgb]), torch.rand(1, 2, 37, 50)
    seen = model.preprocess(whole, (37, 50))
    found = model.enlarge(maps, whole, seen, 'bilateral')
    small = functional.interpolate(whole, (37, 50), mode='bilinear', antialias=True)
    torch.testing.assert_close(found, upsample_bilateral(maps, small, whole), atol=1e-4, rtol=0.0)
