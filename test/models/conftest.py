# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Copies of the small checkpoint to edit, images, and diffusers' pipeline as the oracle."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil

from diffusers import MarigoldDepthPipeline
import numpy as np
import pytest


@pytest.fixture
def copy(small_checkpoint, tmp_path) -> Path:
    folder = tmp_path / 'copy'
    shutil.copytree(small_checkpoint, folder)
    return folder


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change keys of a JSON file; None removes one."""

    def change(path: Path, **changes) -> None:
        value = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))

    return change


@pytest.fixture
def oracle() -> Callable[..., MarigoldDepthPipeline]:
    """Diffusers' pipeline over the networks of a model."""

    def build(model) -> MarigoldDepthPipeline:
        pipe = MarigoldDepthPipeline(
            unet=model.unet,
            vae=model.autoencoder,
            scheduler=type(model.scheduler).from_config(model.scheduler.config),
            text_encoder=None,
            tokenizer=None,
            prediction_type='depth',
            scale_invariant=True,
            shift_invariant=True,
            default_denoising_steps=1,
            default_processing_resolution=128,
        )
        pipe.empty_text_embedding = model.text
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return build


@pytest.fixture
def image() -> Callable[..., np.ndarray]:
    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.random((height // 8 + 2, width // 8 + 2, 3))
        return (np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] * 255).astype(np.uint8)

    return make
