# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""ONNX Runtime keeps the answer of every family, and refuses what it cannot do."""

import sys
from types import SimpleNamespace

from marigold_ros.config import ModelConfig, NodeConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.runtime.compiled_networks import CompiledNetwork
from marigold_ros.models.runtime.devices import choose_device, choose_dtype
from marigold_ros.models.runtime.disk_cache import cache_folder, remember_size
from marigold_ros.models.runtime.onnx_networks import (
    export_network,
    onnx_session,
    OnnxCompiler,
    require_onnxruntime,
)
from marigold_ros.node.loading import load
import numpy as np
import pytest
import torch

CPU, GPU = torch.device('cpu'), torch.device('cuda')
CUDA, TENSORRT = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
RUNTIME = RuntimeConfig(backend='onnxruntime')
# Of the range of relative depth: the same sums in another order.
TOLERANCE = 1e-4

pytest.importorskip('onnx', reason='needs the extra onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra onnx')


# Of PrimeDepth also the frozen U-Net is exported.
EXPORTED = [
    *('unet_folder', 'relative_folder'),
    *(pytest.param(x, marks=pytest.mark.slow) for x in ('small_checkpoint', 'prime_depth_folder')),
]


@pytest.mark.parametrize('folder', EXPORTED)
def test_depth_is_that_of_torch(request, folder, image):
    path = str(request.getfixturevalue(folder))
    plain, converted = (
        load_model(path, 'cpu', 'float32', runtime=runtime)
        for runtime in (RuntimeConfig(backend='torch'), RUNTIME)
    )
    rgb = image(75, 133)
    expected, got = (model.predict(rgb, seed=3).relative for model in (plain, converted))
    spread = np.ptp(expected)
    assert spread > 100 * TOLERANCE
    np.testing.assert_allclose(got, expected, atol=TOLERANCE * max(1.0, spread))
    assert converted.description['runtime']['backend'] == 'onnxruntime'
    assert not converted.takes_any_batch


def test_members_and_steps_of_an_ensemble_are_those_of_torch(small_checkpoint, image):
    rgb = image(96, 128)
    expected, got = (
        load_model(str(small_checkpoint), 'cpu', runtime=runtime).predict(rgb, 2, 2, seed=3)
        for runtime in (RuntimeConfig(backend='torch'), RUNTIME)
    )
    np.testing.assert_allclose(got.relative, expected.relative, atol=TOLERANCE)


def test_the_node_compiles_for_the_size_that_it_knows_before_images_come(unet_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(OnnxCompiler, 'convert', spy(OnnxCompiler.convert, compiled))
    given = {'model': str(unet_folder), 'device': 'cpu'}
    config = NodeConfig(model=ModelConfig(**given), runtime=RUNTIME)
    load(config)
    assert compiled == []
    remember_size(cache_folder(''), str(unet_folder), (75, 133))
    load(config)
    assert len(compiled) == 1


def spy(function, calls):
    def called(*given):
        calls.append(given)
        return function(*given)

    return called


def test_float16_rounds_and_no_more(tmp_path):
    torch.manual_seed(0)
    layer, value = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    expected = layer(value).detach()
    got = CompiledNetwork(layer, OnnxCompiler(CPU, torch.float16, tmp_path))(value)
    assert got.dtype == torch.float32
    assert 1e-5 < (got - expected).abs().max() < 1e-2


@pytest.mark.parametrize(
    ('device', 'dtype', 'words'),
    [
        (CPU, torch.bfloat16, 'dtype is bfloat16.*on cpu; choose float32'),
        (CPU, torch.float16, 'dtype is float16.*choose float32'),
        (GPU, torch.float16, r"device is 'cuda'.*CPUExecutionProvider.*onnxruntime-gpu"),
    ],
)
def test_what_it_cannot_do_is_refused_at_the_start(device, dtype, words, monkeypatch):
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(ConfigurationError, match=words):
        require_onnxruntime(device, dtype)


@pytest.mark.parametrize('missing', ['onnx', 'onnxruntime', 'openvino'])
def test_without_it_its_backend_is_refused(small_checkpoint, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    runtime = RuntimeConfig(backend='openvino') if missing == 'openvino' else RUNTIME
    with pytest.raises(ConfigurationError, match=f'{missing}(, and it)? is not installed; pip'):
        load_model(str(small_checkpoint), 'cpu', runtime=runtime)


def test_it_takes_the_gpu_that_it_offers(monkeypatch):
    offered = ['CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: offered)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert choose_device('auto', 'torch').type == 'cuda'
    assert choose_device('auto', 'onnxruntime').type == 'cpu'
    offered[:0] = [CUDA, TENSORRT]
    assert choose_device('auto', 'onnxruntime').type == 'cuda'
    assert choose_dtype('auto', GPU, 0, 'onnxruntime') == torch.float16
    assert choose_dtype('auto', CPU, 900_000_000, 'onnxruntime') == torch.float32
    require_onnxruntime(GPU, torch.float16)
    with pytest.raises(ConfigurationError, match='dtype is bfloat16.*on cuda; choose float32'):
        require_onnxruntime(GPU, torch.bfloat16)


def test_a_gpu_is_asked_for_by_its_index_in_the_precision_that_was_chosen(tmp_path, monkeypatch):
    asked, session = [], SimpleNamespace(get_inputs=list, get_providers=lambda: [CUDA])

    def start(path, options, providers):
        assert options.intra_op_num_threads == torch.get_num_threads()
        asked.append(providers)
        return session

    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [CUDA, TENSORRT])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', start)
    second = torch.device('cuda:1')
    for place in ((second, torch.float32), (second, torch.float16), (CPU, torch.float32)):
        OnnxCompiler(*place, tmp_path).convert(torch.nn.ReLU(), (torch.rand(2),))()
    *on_gpu, on_cpu = asked
    assert on_cpu == [('CPUExecutionProvider', {})]
    engines = {'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(tmp_path)}
    for half, (first, *others) in enumerate(on_gpu):
        assert first == (TENSORRT, {'device_id': 1, 'trt_fp16_enable': bool(half), **engines})
        assert others == [(CUDA, {'device_id': 1}), *on_cpu]


def test_the_cpu_never_takes_the_place_of_a_gpu_that_fails(tmp_path):
    """ONNX Runtime itself falls back without an error."""
    path = tmp_path / 'network.onnx'
    export_network(torch.nn.ReLU(), (torch.rand(2),), path)
    with (
        pytest.warns(UserWarning, match='CUDAExecutionProvider'),
        pytest.raises(ConfigurationError, match='cannot start CUDA.*choose device cpu'),
    ):
        onnx_session(path, [(CUDA, {})])


def test_what_onnx_lacks_is_named(tmp_path):
    class Eigenvalues(torch.nn.Module):
        def forward(self, matrix):
            return torch.linalg.eigh(matrix)[0]

    class Wordless(torch.nn.Module):
        def forward(self, matrix):
            raise RuntimeError

    for network, reason in ((Eigenvalues(), '.*eigh.*'), (Wordless(), 'RuntimeError')):
        words = rf'cannot be written as ONNX \({reason}\); run it by torch'
        with pytest.raises(ConfigurationError, match=words):
            export_network(network, (torch.eye(3),), tmp_path / 'network.onnx')
