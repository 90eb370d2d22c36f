# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Planted examples of the fusion network, and a small drive in a bag."""

from __future__ import annotations

from pathlib import Path

from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.synthetic.drive.drive import write_drive
import numpy as np
import pytest


class PlantedExamples:
    """Examples whose truth is the linear candidate plus the smooth one, at 2 to 10 m."""

    def __init__(self, count: int, name: str = 'planted') -> None:
        self.name, self.count, self.cells = name, count, (16, 32)
        self.drawn: list[int] = []

    def fingerprint(self) -> str:
        return self.name

    def prepare(self, workers: int = 1, stop: object = None) -> None:
        pass

    def draw(self, index: int) -> object:
        from marigold_training.fusion.examples import FusionExample

        self.drawn.append(index)
        rng = np.random.default_rng(index)
        inputs = rng.normal(0, 0.3, (len(CHANNELS), *self.cells)).astype(np.float32)
        part = dict(zip(CHANNELS, inputs, strict=True))
        level = rng.uniform(np.log(2), np.log(10))
        part['level'][...], part['has_map'][...] = level - 1.5, 1.0
        target = part['linear'] + part['smooth'] + np.float32(level)
        target[:2] = np.nan
        return FusionExample(inputs, target)


@pytest.fixture(scope='session')
def planted_examples():
    """Return the class PlantedExamples."""
    return PlantedExamples


@pytest.fixture(scope='session')
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `bags/street`: four images of 96x64 with a LiDAR of 32 lines."""
    folder = tmp_path_factory.mktemp('street')
    write_drive(folder / 'bags/street', frames=4, seed=3, width=96, height=64, lidar_beams=32)
    return folder
