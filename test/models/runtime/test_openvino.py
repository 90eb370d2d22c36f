# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""OpenVINO keeps the answer, refuses what it cannot do, and leaves signals alone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
import gc
from importlib.metadata import version
import logging
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

from diffusers import UNet2DConditionModel
from marigold_ros.config import ModelConfig, NodeConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.marigold.checkpoint import load_networks
from marigold_ros.models.runtime import compiled_networks, openvino_networks
from marigold_ros.models.runtime.compiled_networks import (
    CompiledNetwork,
    CompiledUNet,
    compiling_beside,
)
from marigold_ros.models.runtime.devices import has_bfloat16
from marigold_ros.models.runtime.disk_cache import cache_folder, files_key, remember_size
from marigold_ros.models.runtime.kept_networks import ConvertedNetwork, KeptNetworks, versions
from marigold_ros.models.runtime.onnx_networks import OnnxCompiler
from marigold_ros.models.runtime.openvino_networks import OpenVinoCompiler, require_openvino
from marigold_ros.node.loading import load
import numpy as np
import pytest
import torch
from transformers import DepthAnythingForDepthEstimation

CPU = torch.device('cpu')
# Of the range of relative depth: the same sums in another order.
TOLERANCE = 1e-4


@pytest.mark.usefixtures('own_cache')
@pytest.mark.parametrize('dtype', ['float32', pytest.param('bfloat16', marks=pytest.mark.slow)])
def test_openvino_keeps_the_answer(small_checkpoint, plain, image, dtype):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    if dtype == 'bfloat16' and not has_bfloat16():
        pytest.skip('this CPU has no bfloat16')
    model = load_model(
        str(small_checkpoint), device='cpu', dtype=dtype, runtime=RuntimeConfig(backend='openvino')
    )
    rgb = image(75, 133)
    expected, got = (m.predict(rgb, 2, 2, seed=3).relative for m in (plain, model))
    difference = np.abs(got - expected)
    assert difference.max() < TOLERANCE if dtype == 'float32' else difference.mean() < 0.02
    assert model.description['dtype'] == dtype
    assert model.description['parameters'] == plain.description['parameters']
    assert model.description['autoencoder'] == 'AutoencoderKL'


@pytest.mark.usefixtures('own_cache')
@pytest.mark.parametrize(
    ('folder', 'kind', 'weights'),
    [
        ('small_checkpoint', UNet2DConditionModel, 'unet/diffusion_pytorch_model.safetensors'),
        ('relative_folder', DepthAnythingForDepthEstimation, 'model.safetensors'),
    ],
)
def test_a_large_network_is_freed_and_loaded_again_for_another_size(
    request, image, tmp_path, monkeypatch, caplog, folder, kind, weights
):
    caplog.set_level(logging.INFO)
    pytest.importorskip('openvino', reason='needs the extra openvino')
    monkeypatch.setattr(compiled_networks, 'LARGE', 1)
    folder = shutil.copytree(request.getfixturevalue(folder), tmp_path / 'large')

    def in_memory():
        gc.collect()
        return sum(type(one) is kind for one in gc.get_objects())

    plain = load_model(str(folder), 'cpu', 'float32')
    before = in_memory()
    with compiling_beside():
        model = load_model(str(folder), 'cpu', 'float32', runtime=RuntimeConfig('openvino'))
    assert in_memory() == before + 1
    for height in (75, 107):
        rgb = image(height, 133)
        got, expected = (m.predict(rgb).relative for m in (model, plain))
        assert np.abs(got - expected).max() < TOLERANCE
        assert in_memory() == before
        _join_compilers()
    assert 'compiling for inputs of 1x' in caplog.text
    os.utime(folder / weights, ns=(1, 1))
    with pytest.raises(CheckpointError, match='has changed since its model was loaded'):
        model.predict(image(139, 133))
    assert np.abs(model.predict(rgb).relative - expected).max() < TOLERANCE


def test_weights_are_kept_in_the_precision_of_the_sums(tmp_path):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    layer, example, shapes = torch.nn.Linear(300, 200), (torch.zeros(1, 300),), [(1, 300)]
    sizes = []
    for precision in ('float32', 'bfloat16'):
        kept = KeptNetworks(tmp_path, lambda facts: 'a', precision, 1)
        kept.load_or_convert(shapes, lambda: openvino_networks.convert(layer, example, shapes))
        sizes.append(kept.path(shapes).stat().st_size)
        kept.path(shapes).unlink()
    assert sizes[0] - sizes[1] == pytest.approx(2 * 300 * 200, rel=0.05)


@pytest.mark.parametrize(
    ('runtime', 'use'),
    [
        ('openvino', 'kept_networks import versions; versions()'),
        ('onnxruntime', 'onnx_networks import gpu_providers; gpu_providers()'),
    ],
)
def test_no_runtime_gets_a_number_to_report_its_use_with(tmp_path, runtime, use):
    pytest.importorskip(runtime, reason='an extra')
    # In CI it would be silent anyway.
    kept = {name: os.environ[name] for name in ('PATH', 'PYTHONPATH') if name in os.environ}
    line = f'from marigold_ros.models.runtime.{use}'
    subprocess.run([sys.executable, '-c', line], env={**kept, 'HOME': str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_openvino_in_bfloat16_distinguishes_all_timesteps(small_checkpoint, tmp_path):
    # bfloat16 has eight bits: 999 itself would become 1000.
    pytest.importorskip('openvino', reason='needs the extra openvino')
    if not has_bfloat16():
        pytest.skip('this CPU has no bfloat16')
    networks = load_networks(small_checkpoint)
    with torch.no_grad():
        networks.unet.time_embedding.linear_1.weight.mul_(20.0)
        sample, text = torch.randn(1, networks.unet.config.in_channels, 8, 12), networks.text
        here, next_ = (networks.unet(sample, t, text).sample for t in (999, 1000))
        compiler = OpenVinoCompiler(torch.bfloat16, tmp_path)
        unet = CompiledUNet(networks.unet, text, compiler)
        got = unet(sample, torch.tensor(999), text)[0]
    assert (got - here).abs().mean() < 0.2 * (next_ - here).abs().mean()


def test_the_least_recently_used_size_is_compiled_again():
    compiled = []

    class Compiler:
        def convert(self, module, examples):
            compiled.append(examples[0].shape[1])
            return lambda: lambda arguments: arguments[0]

    network = CompiledNetwork(torch.nn.Identity(), Compiler())
    for side in (1, 2, 3, 4, 1, 5, 3, 4, 1, 2):
        value = torch.rand(1, side)
        torch.testing.assert_close(network(value), value)
    assert compiled == [1, 2, 3, 4, 5, 2]


@pytest.mark.parametrize(
    ('device', 'dtype', 'words'),
    [
        ('cuda', torch.float32, "device is 'cuda'; it runs on the CPU"),
        ('cpu', torch.float16, r'dtype is float16, and on this CPU.*choose float32'),
    ],
)
def test_what_openvino_cannot_do_is_refused_at_the_start(device, dtype, words, monkeypatch):
    openvino = pytest.importorskip('openvino', reason='needs the extra openvino')
    monkeypatch.setattr(openvino.Core, 'get_property', lambda *_: ['FP32'])
    with pytest.raises(ConfigurationError, match=words):
        require_openvino(torch.device(device), dtype)


def test_openvino_and_torch_do_not_both_compile(small_checkpoint):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    both = RuntimeConfig(backend='openvino', compile='auto')
    with pytest.raises(ConfigurationError, match='compiles by itself'):
        load_model(str(small_checkpoint), device='cpu', runtime=both)


@pytest.mark.parametrize('runtimes', [('openvino',) * 2, ('openvino', 'onnxruntime')])
def test_threads_convert_one_after_the_other(monkeypatch, runtimes, tmp_path):
    for name in runtimes:
        pytest.importorskip(name, reason=f'needs the extra of {name}')
    together, met = threading.Barrier(2), []

    def alone(convert):
        def converted(*given, **more):
            with suppress(threading.BrokenBarrierError):
                met.append(together.wait(timeout=0.5))
            return convert(*given, **more)

        return converted

    monkeypatch.setattr(torch.jit, 'trace', alone(torch.jit.trace))
    monkeypatch.setattr(torch.onnx, 'export', alone(torch.onnx.export))
    compilers = {
        'openvino': OpenVinoCompiler(torch.float32, tmp_path),
        'onnxruntime': OnnxCompiler(CPU, torch.float32, tmp_path),
    }
    value, answers = torch.ones(1, 2), []

    def compile_by(name):
        compiled = compilers[name].convert(torch.nn.ReLU(), (value,))()
        answers.append(compiled([value.numpy()]))

    threads = [threading.Thread(target=compile_by, args=(name,)) for name in runtimes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 2
    assert met == []


def test_a_second_start_compiles_nothing(tmp_path, monkeypatch):
    openvino = pytest.importorskip('openvino', reason='needs the extra openvino')
    torch.manual_seed(0)
    layer, value = torch.nn.Linear(5, 3), torch.rand(2, 5)
    compiler = OpenVinoCompiler(torch.float32, tmp_path)
    first = CompiledNetwork(layer, compiler)(value)
    assert len(list(tmp_path.glob('*.blob'))) == 1

    def convert(*given):
        raise AssertionError('compiled again')

    monkeypatch.setattr(openvino_networks, 'convert', convert)
    assert torch.equal(CompiledNetwork(layer, compiler)(value), first)
    with monkeypatch.context() as patch:
        patch.setattr(openvino, '__version__', 'of another release')
        with pytest.raises(AssertionError, match='compiled again'):
            CompiledNetwork(layer, compiler)(value)
    libraries = map(version, ('torch', 'diffusers', 'transformers'))
    assert {*libraries, openvino.Core().get_property('CPU', 'FULL_DEVICE_NAME')} <= {*versions()}
    with torch.no_grad():
        layer.weight.add_(1.0)
    with pytest.raises(AssertionError, match='compiled again'):
        CompiledNetwork(layer, compiler)(value)


def test_a_converted_network_answers_for_every_size_of_its_argument(tmp_path):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    layer = torch.nn.Conv2d(3, 4, 3, padding=1).eval()
    example, any_size = (torch.zeros(1, 3, 8, 8),), [(1, 3, -1, -1)]

    def network(convert):
        kept = KeptNetworks(tmp_path, partial(files_key, [Path(__file__)]), 'float32', 1)
        return ConvertedNetwork(kept.load_or_convert(any_size, convert))

    made = network(lambda: openvino_networks.convert(layer, example, any_size))
    kept = network(None)
    values = [torch.rand(1, 3, 8 + size, 16) for size in range(14)]
    for value in [*values, values[0]]:  # more sizes than stay compiled
        answer = made([value.numpy()])
        with torch.inference_mode():
            np.testing.assert_allclose(answer, layer(value).numpy(), atol=1e-6)
        np.testing.assert_array_equal(kept([value.numpy()]), answer)
    assert made._compiled.cache_info().currsize == 12


@pytest.mark.usefixtures('own_cache')
def test_the_node_answers_by_torch_until_openvino_has_compiled(small_checkpoint, image):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    given = {'model': str(small_checkpoint), 'device': 'cpu', 'dtype': 'float32'}
    config = NodeConfig(model=ModelConfig(**given))
    model = load(config)
    assert model.description['runtime']['backend'] == 'openvino'
    rgb, settings = image(75, 133), {**config.pipeline.prediction, 'seed': 3}
    plain = load_model(str(small_checkpoint), device='cpu', dtype='float32')
    expected = plain.predict(rgb, **settings).relative
    first = model.predict(rgb, **settings).relative
    np.testing.assert_allclose(first, expected, atol=1e-5)
    assert model.answered_by == 'torch'
    _join_compilers()
    assert list(cache_folder('').glob('*.blob'))
    second = model.predict(rgb, **settings).relative
    assert model.answered_by == 'openvino'
    assert 0 < np.abs(second - expected).max() < TOLERANCE
    remember_size(cache_folder(''), str(small_checkpoint), (75, 133))
    again = load(config)  # warms up at this size
    _join_compilers()
    np.testing.assert_array_equal(again.predict(rgb, **settings).relative, second)
    guided = replace(config, pipeline=replace(config.pipeline, guidance='points'))
    assert load(guided).description['runtime']['backend'] == 'torch'


def _join_compilers():
    for thread in threading.enumerate():
        if thread.name.endswith('(_compile_beside)'):
            thread.join()


class Doubling:
    """Compiles, once a gate is open, to a function that answers twice what the module does."""

    def __init__(self):
        self.gate, self.compiled = threading.Event(), []

    def convert(self, module, examples):
        assert self.gate.wait(10)
        assert not threading.current_thread().daemon  # Python waits for it at its end
        self.compiled.append(examples[0].shape[1])
        if examples[0].shape[1] == 5:
            raise RuntimeError('not this one')
        return lambda: lambda arguments: 2 * arguments[0]


def test_no_call_waits_for_a_compilation_beside(caplog, monkeypatch):
    compiler = Doubling()
    with compiling_beside():
        network = CompiledNetwork(torch.nn.Identity(), compiler)
    small, failing = (torch.rand(1, side) for side in (3, 5))
    frames = threading.Thread(target=network, args=(small,), daemon=True)
    frames.start()
    frames.join()
    for _ in range(2):
        assert torch.equal(network(small), small)
        assert torch.equal(network(failing), failing)
    compiler.gate.set()
    _join_compilers()
    assert torch.equal(network(small), 2 * small)
    assert torch.equal(network(failing), failing)
    assert sorted(compiler.compiled) == [3, 5]
    assert 'PyTorch goes on' in caplog.text
    for side in (6, 7, 8, 9, 3):  # more than are kept
        for _ in range(2):
            answer = network(torch.ones(1, side))
            _join_compilers()
        assert torch.equal(answer, torch.full((1, side), 2.0))
    with compiling_beside():  # a large one waits, and PyTorch goes on if it cannot be compiled
        monkeypatch.setattr(compiled_networks, 'LARGE', 0)
        large = CompiledNetwork(torch.nn.Identity(), compiler)
    large.free_if_large(torch.nn.Identity)
    for _ in range(2):
        assert torch.equal(large(small), 2 * small)
        assert torch.equal(large(failing), failing)
    assert compiler.compiled.count(5) == 2
    made_afterwards = CompiledNetwork(torch.nn.Identity(), compiler)
    assert torch.equal(made_afterwards(small), 2 * small)


class Meeting(torch.nn.Module):
    """A U-Net that answers once two threads are in it: its sample plus the timestep."""

    def __init__(self):
        super().__init__()
        self.config, self.time_proj = None, torch.nn.Identity()
        self.both = threading.Barrier(2)

    def forward(self, sample, timestep, encoder_hidden_states, return_dict):
        self.both.wait(10)
        return (sample + self.time_proj(sample),)


def test_each_thread_has_the_timestep_that_it_gave():
    compiler = Doubling()  # whose gate opens at the end
    with compiling_beside():
        unet = CompiledUNet(Meeting(), torch.zeros(1, 2, 3), compiler)
    with ThreadPoolExecutor(2) as threads:
        answers = threads.map(lambda moment: unet(torch.ones(1, 1), moment, None)[0], (3, 7))
        assert [answer.item() for answer in answers] == [4.0, 8.0]
    compiler.gate.set()
    _join_compilers()


@pytest.mark.slow  # a process that imports torch and OpenVINO
def test_a_signal_is_handled_after_a_model_was_replaced(tmp_path):
    """OpenVINO frees a stack for signals with its last model, in whichever thread that ends."""
    pytest.importorskip('openvino', reason='needs the extra openvino')
    code = (
        'from pathlib import Path\n'
        'import signal, sys, threading\n'
        'import torch\n'
        'from marigold_ros.models.runtime.compiled_networks import CompiledNetwork\n'
        'from marigold_ros.models.runtime.openvino_networks import OpenVinoCompiler\n'
        'compiler = OpenVinoCompiler(torch.float32, Path(sys.argv[1]))\n'
        'networks = [CompiledNetwork(torch.nn.Linear(5, 3), compiler)]\n'
        'networks[0](torch.rand(2, 5))\n'
        'worker = threading.Thread(target=networks.clear)\n'
        'worker.start()\n'
        'worker.join()\n'
        'signal.signal(signal.SIGINT, lambda *_: print("handled"))\n'
        'signal.raise_signal(signal.SIGINT)\n'
    )
    command = [sys.executable, '-c', code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'handled\n'), done.stderr[-2000:]
