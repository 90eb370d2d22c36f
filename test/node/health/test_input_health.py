# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Rates, blind cameras and clock offsets are detected and described."""

import subprocess
import sys
from types import SimpleNamespace

from marigold_ros.node.health import health
from marigold_ros.node.health.health import explain_missing_scan, ImageHealth, Rate
import numpy as np
import pytest

SECOND = 1_000_000_000


@pytest.fixture
def clock(monkeypatch):
    """Return a function that advances a stopped clock."""
    now = [100.0]
    monkeypatch.setattr(health, 'time', SimpleNamespace(monotonic=lambda: now[0]))

    def move(seconds):
        now[0] += seconds

    return move


def test_a_rate_is_that_of_the_last_events(clock):
    rate = Rate()
    assert rate.hertz == 0.0
    for period in [1.0] * 5 + [0.1] * 40:
        clock(period)
        rate.tick()
    assert rate.hertz == pytest.approx(10.0)


def test_silence_makes_the_rate_zero(clock):
    rate = Rate()
    clock(7.0)
    assert rate.silence == pytest.approx(7.0)
    rate.tick()
    clock(0.5)
    rate.tick()
    assert rate.hertz == pytest.approx(2.0)
    clock(3.5)
    assert rate.hertz == 0.0
    assert rate.silence == pytest.approx(3.5)


@pytest.fixture
def rng():
    """Return a seeded random generator."""
    return np.random.default_rng(0)


def test_a_live_image_is_healthy(rng):
    watch = ImageHealth()
    image = rng.integers(20, 230, (48, 64, 3), dtype=np.uint8)
    for k in range(30):
        image[k, k] ^= 1  # one bit of noise is life
        assert watch.check(image) == ''


@pytest.mark.parametrize(('value', 'word'), [(0, 'black'), (4, 'black'), (255, 'white')])
@pytest.mark.parametrize('size', [(480, 640), (7, 5), (1, 1)])
def test_a_blind_camera_is_named(value, word, size):
    assert word in ImageHealth().check(np.full((*size, 3), value, np.uint8))


def test_a_strong_colour_is_neither_black_nor_white():
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    assert ImageHealth().check(red) == ''


def test_a_frozen_camera_is_named_until_it_goes_on(rng):
    watch = ImageHealth()
    image = rng.integers(20, 230, (480, 640, 3), dtype=np.uint8)
    said = [watch.check(image) for _ in range(12)]
    assert said[:10] == [''] * 10
    assert 'last 11 images are equal' in said[10]
    assert watch.check(rng.integers(20, 230, (480, 640, 3), dtype=np.uint8)) == ''


@pytest.mark.parametrize(
    ('newest', 'words'),
    [
        (None, 'no scan has arrived'),
        (137 * SECOND, '37 s ahead of the image: two clocks?'),
        (63 * SECOND, '37 s behind the image: two clocks?'),
        (100 * SECOND - SECOND // 5, '0.2 s behind the image, lidar.max_dt is 0.06 s'),
    ],
)
def test_a_missing_scan_is_explained_by_the_clocks(newest, words):
    assert words in explain_missing_scan(100 * SECOND, newest, 60_000_000)


def test_memory_grows_with_what_is_held():
    # In a process of its own: this one may have room left from other tests.
    code = (
        'import time\n'
        'from marigold_ros.node.health.health import memory_mb\n'
        'before = memory_mb()["resident_mb"]\n'
        'held = bytearray(b"1") * 50_000_000\n'
        'deadline = time.monotonic() + 10.0\n'
        # Some kernels bring this figure up to date once a second only.
        'while memory_mb()["resident_mb"] - before < 40.0:\n'
        '    assert time.monotonic() < deadline\n'
        '    time.sleep(0.05)\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
