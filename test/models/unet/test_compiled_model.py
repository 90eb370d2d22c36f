# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A U-Net that was compiled before answers without torch, as the one with torch does."""

import json
import shutil
import subprocess
import sys

from marigold_ros.config import EngineConfig, ModelConfig, RuntimeConfig
from marigold_ros.models import count_threads, load_compiled, load_model, use_threads
from marigold_ros.models.metric_scale import MetricScale, write_metric_scale
from marigold_ros.models.unet import folder as unet_folder_module
import numpy as np
import pytest
import torch

openvino = pytest.importorskip('openvino', reason='needs the extra openvino')
SIZE, OTHER = (60, 80), (48, 96)


class Whole:
    """Loads the model with torch; ``loaded`` is how often."""

    def __init__(self, folder):
        self.folder, self.loaded = folder, 0

    def __call__(self):
        self.loaded += 1
        return load_model(str(self.folder), 'cpu', 'float32')


@pytest.fixture
def folder(unet_folder, tmp_path):
    return shutil.copytree(unet_folder, tmp_path / 'plain')


@pytest.fixture
def runtime(tmp_path):
    return RuntimeConfig(backend='auto', cache_dir=str(tmp_path / 'cache'))


@pytest.fixture
def plain(folder, runtime):
    """Return the model with torch, and leave its network for SIZE on disk."""
    threads = torch.get_num_threads()
    use_threads()
    own = RuntimeConfig(backend='openvino', cache_dir=runtime.cache_dir)
    model = load_model(str(folder), 'cpu', 'float32', runtime=own)
    model.predict(picture(SIZE))
    yield model
    torch.set_num_threads(threads)


@pytest.fixture
def whole(folder):
    return Whole(folder)


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def settings(folder, **other):
    return ModelConfig(**{'model': str(folder), 'device': 'cpu', 'dtype': 'float32', **other})


def test_it_answers_as_with_torch(plain, folder, runtime, whole):
    model = load_compiled(settings(folder), runtime, [SIZE], whole)
    for seed in range(3):
        rgb = picture(SIZE, seed)
        found, wanted = model.predict(rgb), plain.predict(rgb)
        assert found.relative.dtype == np.float32
        np.testing.assert_allclose(found.relative, wanted.relative, atol=1e-4)
        assert (found.space, found.censored) == (wanted.space, wanted.censored)
    assert model.answered_by == 'openvino'
    assert whole.loaded == 0


def test_it_says_of_itself_what_the_model_with_torch_says(plain, folder, runtime, whole):
    model = load_compiled(settings(folder), runtime, [SIZE], whole)
    assert model.description == plain.description
    assert model.processing_size(*OTHER, None) == plain.processing_size(*OTHER, None)
    assert model.threads == count_threads() == torch.get_num_threads()


@pytest.mark.usefixtures('plain')
def test_what_is_not_kept_is_answered_by_torch(folder, runtime, whole):
    model = load_compiled(settings(folder), runtime, [SIZE], whole)
    exact, sharp = whole(), EngineConfig(upsampling='bilateral')
    for rgb, more in (
        (picture(OTHER), {}),
        (picture(SIZE), {'processing_resolution': 40}),
        (picture(SIZE), {'engine': sharp}),
    ):
        found = model.predict(rgb, **more).relative
        np.testing.assert_array_equal(found, exact.predict(rgb, **more).relative)
        assert model.answered_by == 'torch'
    assert whole.loaded == 2  # here and there, once
    model.predict(picture(SIZE))
    assert model.answered_by == 'openvino'


def test_images_of_another_resolution_are_expected_if_it_is_said(plain, folder, runtime, whole):
    asked = settings(folder), runtime, [SIZE], whole
    assert load_compiled(*asked, 39) is None
    plain.predict(picture(SIZE), processing_resolution=39)
    found = load_compiled(*asked, 39).predict(picture(SIZE), processing_resolution=39).relative
    wanted = plain.predict(picture(SIZE), processing_resolution=39).relative
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert whole.loaded == 0


@pytest.mark.usefixtures('plain')
def test_a_scale_in_metres_is_kept(folder, runtime, whole):
    write_metric_scale(folder, MetricScale('depth', 2.0, 1.0, 0.8, 0.1, 80.0))
    model = load_compiled(settings(folder), runtime, [SIZE], whole)
    assert model.space == 'metric'


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures('plain')
@pytest.mark.parametrize(
    'changed', ['config.json', 'model.safetensors', 'network.py', 'openvino', '*.blob']
)
def test_what_has_changed_is_left_to_torch(changed, folder, runtime, whole, tmp_path, monkeypatch):
    blob, *others = (tmp_path / 'cache').glob('*.blob')
    assert not others
    if changed == 'openvino':
        monkeypatch.setattr(openvino, '__version__', 'of another release')
    elif changed == 'network.py':
        (tmp_path / changed).write_text('of another release')
        monkeypatch.setattr(unet_folder_module, '__file__', str(tmp_path / 'folder.py'))
    else:
        damage(blob if changed == '*.blob' else folder / changed)
    if changed == 'config.json':
        config = {'model_type': 'marigold_ros_unet', 'channels': [8, 16], 'blocks': [1]}
        (folder / changed).write_text(json.dumps(config))
    assert load_compiled(settings(folder), runtime, [SIZE], whole) is None


@pytest.mark.usefixtures('plain')
@pytest.mark.parametrize(
    'other',
    [
        {'device': 'cuda'},
        {'dtype': 'float16'},
        {'dtype': 'bfloat16'},
        {'vae': '/some/folder'},
        {'torch_threads': 7},
    ],
    ids=str,
)
def test_other_models_are_left_to_torch(other, folder, runtime, whole):
    assert load_compiled(settings(folder, **other), runtime, [SIZE], whole) is None


@pytest.mark.usefixtures('plain')
def test_other_runtimes_and_sizes_are_left_to_torch(folder, runtime, whole):
    config = settings(folder)
    average = settings(folder, model=f'{folder}+{folder}')
    asked = [
        (config, runtime, []),
        (config, runtime, [SIZE, OTHER]),
        (config, RuntimeConfig(backend='torch', cache_dir=runtime.cache_dir), [SIZE]),
        (average, runtime, [SIZE]),
        (settings(folder, model='tiny'), runtime, [SIZE]),
    ]
    assert [load_compiled(*one, whole) for one in asked] == [None] * len(asked)


@pytest.mark.usefixtures('plain')
def test_a_node_with_all_in_its_cache_imports_no_torch(folder, runtime):
    """A second process starts, and fuses, without what the first needed."""
    code = (
        'import sys\n'
        'import numpy as np\n'
        'from pathlib import Path\n'
        'from marigold_ros.config import ModelConfig, NodeConfig, RuntimeConfig\n'
        'from marigold_ros.fusion_channels import CHANNELS\n'
        'from marigold_ros.models.fusion.load import fusion_of\n'
        'from marigold_ros.models.runtime.disk_cache import remember_size\n'
        'from marigold_ros.node.loading import load\n'
        'folder, cache = sys.argv[1:]\n'
        f'remember_size(Path(cache), folder, {SIZE})\n'
        "model = ModelConfig(model=folder, device='cpu', dtype='float32')\n"
        "runtime = RuntimeConfig(backend='auto', cache_dir=cache)\n"
        'model = load(NodeConfig(model=model, runtime=runtime))\n'
        f'model.predict(np.zeros((*{SIZE}, 3), np.uint8))\n'
        "fusion_of(model, 'auto')(np.zeros((len(CHANNELS), 32, 48), np.float32))\n"
        "print(model.answered_by, 'torch' in sys.modules)\n"
    )
    command = [sys.executable, '-c', code, str(folder), runtime.cache_dir]
    said = []
    for _ in range(2):  # the fusion network is compiled by the first
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout.split()[-2:])
    assert said == [['openvino', 'True'], ['openvino', 'False']]
