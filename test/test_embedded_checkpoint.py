# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the embedded checkpoints are good for: bounds that a broken or mixed-up file breaks."""

import re

from diffusers import MarigoldDepthPipeline
from marigold_ros.config import EngineConfig
from marigold_ros.models import EMBEDDED, load_model, use_threads
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
from safetensors.torch import load_file
import torch


@pytest.fixture(scope='module')
def tiny():
    use_threads()
    return load_model('tiny', device='cpu')


@pytest.mark.slow  # all frames of the real drive
def test_tiny_beats_the_best_quadric_on_the_real_drive(tiny, shared_data, tmp_path):
    results = evaluate_bag(shared_data / 'kitti_drive', tiny, out=tmp_path)
    assert results['frames']['processed'] == 20
    assert results['frames']['metric'] >= 18
    heldout = results['protocols']['heldout']
    assert heldout['macro']['abs_rel'] < results['baselines']['quadric']['abs_rel']
    assert heldout['median_abs_rel'] < 0.25


@pytest.mark.parametrize('name', ['tiny', 'tiny-diffusion'])
def test_it_opens_in_diffusers_as_its_card_shows(name):
    card = (EMBEDDED / name / 'README.md').read_text(encoding='utf-8')
    code = re.findall(r'```python\n(.*?)```', card, flags=re.S)[1]
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    names = {'folder': str(EMBEDDED / name), 'rgb': image}
    exec(code, names)
    assert isinstance(names['pipe'], MarigoldDepthPipeline)
    stored = load_file(EMBEDDED / name / 'empty_text_embedding.safetensors')
    assert torch.equal(names['pipe'].empty_text_embedding, stored['empty_text_embedding'])
    edge = names['pipe'].default_processing_resolution
    model = load_model(name, device='cpu')
    ours = model.predict(image, processing_resolution=edge, reference_exact=True)
    np.testing.assert_allclose(names['depth'].prediction[0, :, :, 0], ours.relative, atol=2e-3)


@pytest.mark.slow  # 24 predictions
def test_a_warm_start_steadies_a_still_scene(tiny):
    still, rng = make_sample(5).rgb.astype(np.float64), np.random.default_rng(0)
    images = [
        np.clip(still + rng.normal(0, 4, still.shape), 0, 255).astype(np.uint8) for _ in range(8)
    ]

    def change(warm_start):
        tiny.reset()
        engine = EngineConfig(noise='gaussian', warm_start=warm_start)
        answers = [
            tiny.predict(rgb, seed=i, engine=engine).relative for i, rgb in enumerate(images)
        ]
        return np.mean([np.abs(b - a).mean() for a, b in zip(answers, answers[1:], strict=False)])

    cold = change(0.0)
    assert change(0.1) < 0.97 * cold
    assert change(0.3) < 0.85 * cold


def test_no_file_is_too_large_for_a_repository():
    sizes = [path.stat().st_size for path in EMBEDDED.rglob('*') if path.is_file()]
    assert max(sizes) < 16 * 2**20
    assert sum(sizes) < 56 * 2**20
