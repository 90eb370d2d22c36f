# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which fusion network a setting names, when it is read again, and that threads can share it."""

from concurrent.futures import ThreadPoolExecutor
import json
import os
import re
import shutil
from types import SimpleNamespace

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.frame import SparseDepth
from marigold_ros.fusion_channels import CANDIDATES, CHANNELS, OF_MAP, TYPICAL_LOG
from marigold_ros.geometry.fusion.held_out_scores import score_map, score_points
from marigold_ros.models import EMBEDDED
from marigold_ros.models.fusion import checkpoint, load
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_ros.models.fusion.load import fusion_of, load_fusion
from marigold_ros.models.fusion.mixing import LARGEST_CORRECTION, run_by_torch
from marigold_ros.models.locate import FUSION
from marigold_ros.models.runtime import openvino_networks
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
from scipy.special import softmax
import torch


def model_in(folder):
    return SimpleNamespace(description={'path': str(folder)})


@pytest.fixture
def model_folder(tmp_path):
    """A model's folder with a fusion network of its own."""
    shutil.copytree(EMBEDDED / FUSION, tmp_path / 'model' / FUSION)
    return tmp_path / 'model'


def test_none_is_no_network():
    assert fusion_of(None, 'none') is None


def test_auto_is_the_embedded_network_unless_the_model_has_its_own(model_folder, tmp_path):
    assert fusion_of(None, 'auto').folder == EMBEDDED / FUSION
    assert fusion_of(model_in(tmp_path), 'auto').folder == EMBEDDED / FUSION
    assert fusion_of(model_in(model_folder), 'auto').folder == model_folder / FUSION


def test_a_named_folder_wins(model_folder):
    named = fusion_of(model_in(model_folder), str(EMBEDDED / FUSION))
    assert named.folder == EMBEDDED / FUSION


def test_a_network_is_loaded_once_until_its_weights_change(model_folder):
    first = fusion_of(model_in(model_folder), 'auto')
    assert fusion_of(model_in(model_folder), 'auto') is first
    weights = model_folder / FUSION / 'model.safetensors'
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1_000_000))
    assert fusion_of(model_in(model_folder), 'auto') is not first


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('/no/such/folder', "no fusion network '/no/such/folder'; choose alignment.fusion auto"),
        ('', "no fusion network ''; choose alignment.fusion auto"),
        ('owner/network', "no fusion network '.*owner/network'"),
        ('~no-such-user/x', "no fusion network '.*~no-such-user/x'"),
        (str(EMBEDDED / 'tiny'), 'no model.safetensors'),
        (str(EMBEDDED / FUSION / 'model.safetensors'), 'a folder with config.json'),
    ],
)
def test_what_is_no_network_is_refused_with_a_remedy(name, words):
    with pytest.raises(CheckpointError, match=words):
        fusion_of(None, name)


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('kind', 'unet', "kind 'unet', needs 'fusion'; give the folder"),
        ('version', 1, 'version 1, needs 2; give the folder'),
        ('inputs', ['level'], 'other inputs than this version computes (red, '),
        ('candidates', ['linear'], 'other candidates than this version computes ('),
    ]
    + [
        ('inner', sizes, f'inner {sizes}; these must be lists of as many positive')
        for sizes in ([], 5, None, 'wide', [8.0, 8, 8, 8], [True, 8, 8, 8], [8, 8, 8])
    ],
)
def test_a_network_of_another_kind_or_size_is_refused_with_its_value(
    model_folder, key, value, words
):
    path = model_folder / FUSION / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=re.escape(words)):
        load_fusion_network(model_folder / FUSION)


@pytest.mark.parametrize('threads', [None, 1])
def test_a_folder_without_its_configuration_is_refused(model_folder, threads):
    (model_folder / FUSION / 'config.json').unlink()
    with pytest.raises(CheckpointError, match='no config.json; .*: copy that file into it'):
        load_fusion(model_folder / FUSION, threads=threads)


def test_a_compiled_network_is_kept_where_the_model_keeps_its_own(
    model_folder, monkeypatch, full_disk, caplog
):
    pytest.importorskip('openvino')
    model, cache = model_in(model_folder), model_folder / 'cache'
    model.runtime = RuntimeConfig(cache_dir=str(cache))
    channels = np.random.default_rng(0).normal(size=(len(CHANNELS), 32, 48)).astype(np.float32)
    with full_disk(1 << 15):
        not_kept = fusion_of(model, 'auto')(channels)
    assert 'cannot be written (perhaps it is full): each start converts' in caplog.text
    assert not list(cache.iterdir())
    weights = model_folder / FUSION / 'model.safetensors'
    os.utime(weights, ns=(0, 0))  # read again
    answer = fusion_of(model, 'auto')(channels)
    np.testing.assert_allclose(answer, not_kept, atol=1e-5)
    assert len(list(cache.glob('*.blob'))) == 1
    os.utime(weights, ns=(1, 1))
    monkeypatch.setattr(openvino_networks, 'convert', None)
    np.testing.assert_array_equal(fusion_of(model, 'auto')(channels), answer)


def channels_of_a_scene():
    sample = make_sample(3, 320, 240)
    place = np.random.default_rng(0).choice(sample.depth.size, 500, replace=False)
    v, u = np.divmod(place, 320)
    z = np.where(np.isfinite(sample.depth), sample.depth, 60.0)[v, u].astype(np.float32)
    points = score_points(SparseDepth(u, v, z), sample.rgb, (240, 320))
    return score_map(points, sample.rgb, None).channels


def exact_answer(channels):
    """Mix as the shares are defined, by a softmax of their logits."""
    with torch.inference_mode():
        packed = load_fusion_network(EMBEDDED / FUSION)(torch.from_numpy(channels)[None])
    *logits, residual, log_error = torch.nn.functional.pixel_shuffle(packed, 2)[0].numpy()
    logits[-1][channels[CHANNELS.index('has_map')] == 0] = -np.inf
    shares = softmax(logits, axis=0)
    others = channels[[CHANNELS.index(name) for name in CANDIDATES[1:]]]
    correction = LARGEST_CORRECTION * np.tanh(residual)
    return (shares[1:] * others).sum(0) + correction, log_error, shares[-1]


def test_openvino_says_what_pytorch_says():
    pytest.importorskip('openvino')
    channels = channels_of_a_scene()
    found, wanted = fusion_of(None, 'auto')(channels), exact_answer(channels)
    # bfloat16 has eight bits; shares are of numbers below 1.5.
    for answer, exact in zip(found[:2], wanted[:2], strict=True):
        off = np.abs(answer - exact)
        assert off.mean() < 0.01
        assert np.quantile(off, 0.99) < 0.05
    assert np.abs(found[0] - wanted[0]).mean() < 0.001


@pytest.mark.parametrize(('far', 'farther'), [(35.0, 1000.0), (0.25, 0.02)])
def test_depths_of_no_training_scene_are_mixed_as_the_nearest_of_one(far, farther):
    channels, answers = channels_of_a_scene(), []
    for metres in (far, farther):
        channels[CHANNELS.index('level')] = np.log(metres) - TYPICAL_LOG
        answers.append(fusion_of(None, 'auto')(channels))
    np.testing.assert_allclose(*answers, atol=1e-6)


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_pytorch_runs_it_on_the_device_of_the_model(device):
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs a GPU')
    network = load_fusion_network(EMBEDDED / FUSION)
    channels = channels_of_a_scene()
    rng = np.random.default_rng(0)
    in_places = rng.random(channels.shape[1:]) < 0.5  # a map that has a share there alone
    for name in OF_MAP:
        value = 1.0 if name == 'has_map' else rng.normal(size=channels.shape[1:])
        channels[CHANNELS.index(name)] = np.where(in_places, value, 0.0)
    found = run_by_torch(network, torch.device(device))([channels[None]])[0]
    wanted = exact_answer(channels)
    # A GPU's convolutions multiply in TF32, of eleven bits, by default.
    most = 1e-4 if device == 'cpu' else 5e-3
    for answer, exact in zip(found, wanted, strict=True):
        np.testing.assert_allclose(answer, exact, atol=most)


def test_without_openvino_pytorch_runs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(load, 'find_spec', lambda name: None)
    channels = channels_of_a_scene()
    found = load_fusion(EMBEDDED / FUSION, str(tmp_path))(channels)
    np.testing.assert_allclose(found[0], exact_answer(channels)[0], atol=1e-4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('cores', 'of_model', 'own'), [(1, 1, 1), (2, 1, 2), (8, 1, 2), (8, 7, 7)]
)
def test_the_second_thread_of_a_frame_helps_where_there_is_a_core(
    monkeypatch, cores, of_model, own
):
    monkeypatch.setattr(load, 'usable_cores', lambda: cores)
    assert load.own_threads(of_model) == own


@pytest.fixture
def own_threads():
    """Let a test change the number of threads of torch; return the number."""
    threads = torch.get_num_threads()
    yield threads
    torch.set_num_threads(threads)


def test_a_model_without_torch_gets_what_is_kept(model_folder, tmp_path, monkeypatch, own_threads):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    model = model_in(model_folder)
    model.runtime = RuntimeConfig(cache_dir=str(tmp_path / 'cache'))
    model.threads = own_threads + 1  # not those of torch, as after its import
    channels = np.random.default_rng(0).normal(size=(len(CHANNELS), 32, 48)).astype(np.float32)
    answer = fusion_of(model, 'auto')(channels)  # torch, since none is kept
    weights = model_folder / FUSION / 'model.safetensors'
    os.utime(weights, ns=(0, 0))  # read again
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, 'load_fusion_network', None)
        np.testing.assert_array_equal(fusion_of(model, 'auto')(channels), answer)
        model.threads += 1  # is another network
        with pytest.raises(TypeError):
            fusion_of(model, 'auto')
    (model_folder / FUSION / 'config.json').write_text('{}')
    with pytest.raises(CheckpointError, match='kind None'):
        fusion_of(model, 'auto')


def test_threads_of_several_cameras_share_a_network():
    network = fusion_of(None, 'auto')
    rng = np.random.default_rng(0)
    inputs = [
        rng.normal(size=(len(CHANNELS), 32, 16 * columns)).astype(np.float32)
        for columns in (2, 3, 2, 3)
    ]
    expected = [network(channels) for channels in inputs]
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: [network(channels) for channels in inputs], range(20)):
            for answer, wanted in zip(answers, expected, strict=True):
                np.testing.assert_allclose(answer, wanted, atol=1e-5)
