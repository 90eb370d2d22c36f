# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Every variant of the runtime leaves the answer as it was."""

import os
import shutil
import subprocess
import sys

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.image_sizes import warm_up_sizes
from marigold_ros.models.runtime import devices
from marigold_ros.models.runtime.devices import choose_backend, choose_device, choose_dtype
from marigold_ros.models.runtime.prepare import compile_arguments
import numpy as np
import pytest
import torch

CPU = torch.device('cpu')
COMPILES = pytest.mark.skipif(not shutil.which('g++'), reason='needs g++, a C++ compiler')
# Of the range of relative depth: the same sums in another order.
TOLERANCE = 1e-4


@pytest.mark.parametrize('exact', [False, True], ids=['own', 'reference_exact'])
def test_channels_last_keeps_the_answer(small_checkpoint, plain, image, exact):
    model = load_model(str(small_checkpoint), device='cpu', runtime=RuntimeConfig())
    for size in ((75, 133), (96, 128)):
        rgb = image(*size)
        expected = plain.predict(rgb, 2, 1, seed=3, reference_exact=exact).relative
        got = model.predict(rgb, 2, 1, seed=3, reference_exact=exact).relative
        np.testing.assert_allclose(got, expected, atol=TOLERANCE)
    assert expected.std() > 10 * TOLERANCE
    assert model.description['parameters'] == plain.description['parameters']


@pytest.mark.parametrize('name', ['cuda', 'cuda:1', 'mps', 'abacus'])
def test_a_device_that_is_not_there_is_refused_by_its_name(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: int(name == 'cuda:1'))
    words = 'choose auto, cpu, cuda or cuda:N' if name == 'abacus' else 'offers torch [01] CUDA'
    with pytest.raises(ConfigurationError, match=f"device is '{name}'.*{words}"):
        choose_device(name)


def test_large_networks_and_openvino_are_bfloat16_where_the_cpu_has_it_unless_named(monkeypatch):
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(devices, 'has_bfloat16', lambda has=has: has)
        assert choose_dtype('auto', CPU, 100_000_000) == expected
        assert choose_dtype('auto', CPU, 12_000_000, 'openvino') == expected
        assert choose_dtype('auto', CPU, 99_999_999) == torch.float32
        assert choose_dtype('auto', torch.device('cuda'), 12_000_000) == torch.float16
    for name in ('float32', 'bfloat16', 'float16'):
        assert choose_dtype(name, CPU) == getattr(torch, name)
    with pytest.raises(ConfigurationError, match="dtype is 'half'; choose auto, float32"):
        choose_dtype('half', CPU)


@pytest.mark.parametrize(
    ('given', 'device', 'sizes_known', 'installed', 'chosen'),
    [
        ({}, 'cpu', True, True, 'openvino'),
        ({}, 'cpu', False, True, 'torch'),
        ({}, 'cpu', True, False, 'torch'),
        ({}, 'cuda', True, True, 'torch'),
        ({'compile': 'auto'}, 'cpu', True, True, 'torch'),
        ({'backend': 'torch'}, 'cpu', True, True, 'torch'),
        ({'backend': 'openvino'}, 'cpu', False, True, 'openvino'),
    ],
)
def test_auto_is_openvino_only_where_no_image_waits_for_it(
    monkeypatch, given, device, sizes_known, installed, chosen
):
    monkeypatch.setattr(devices, 'find_spec', lambda name: object() if installed else None)
    runtime = choose_backend(RuntimeConfig(**given), torch.device(device), sizes_known)
    assert runtime.backend == chosen


def test_the_sizes_that_are_named_run_when_a_model_is_loaded(small_checkpoint, monkeypatch):
    from marigold_ros.models.marigold.engine import MarigoldModel

    seen = []
    predict = MarigoldModel.predict

    def spy(self, rgb, *arguments, **named):
        seen.append(rgb.shape)
        return predict(self, rgb, *arguments, **named)

    monkeypatch.setattr(MarigoldModel, 'predict', spy)
    runtime = RuntimeConfig(warm_up='48x64, 40x56')
    load_model(str(small_checkpoint), device='cpu', runtime=runtime)
    assert seen == [(48, 64, 3), (40, 56, 3)]


@pytest.mark.parametrize(
    'text', ['480', '480x', '0x4', '480x640;2x2', 'x', '-1x4', '1x999999', '99999x99999']
)
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ConfigurationError, match='runtime.warm_up has .*HxW'):
        warm_up_sizes(text)


def test_no_sizes_are_no_sizes():
    assert warm_up_sizes('') == []
    assert warm_up_sizes(' 4x5 6x7,') == [(4, 5), (6, 7)]


def test_compiled_code_is_frozen_on_a_cpu_and_graphed_on_a_gpu():
    assert compile_arguments('auto', CPU)['options']['freezing'] is True
    assert compile_arguments('max-autotune', CPU)['options']['max_autotune'] is True
    cuda = torch.device('cuda')
    assert compile_arguments('auto', cuda) == {'dynamic': False, 'mode': 'reduce-overhead'}
    assert compile_arguments('max-autotune', cuda)['mode'] == 'max-autotune'


def test_a_missing_compiler_is_an_error_at_load_time(small_checkpoint, monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, 'get_cpp_compiler', missing)
    with pytest.raises(ConfigurationError, match=r'needs a C\+\+ compiler'):
        load_model(str(small_checkpoint), device='cpu', runtime=RuntimeConfig(compile='auto'))


LOAD = """
import os
from marigold_ros.config import RuntimeConfig
from marigold_ros.models import load_model

load_model('unet', 'cpu', runtime=RuntimeConfig(compile='auto'))
print(os.environ['TORCHINDUCTOR_CACHE_DIR'])
"""
COMPILE = """
from marigold_ros.models.runtime.prepare import compile_arguments
import torch

torch._inductor.config.cpp_cache_precompile_headers = False
torch.manual_seed(0)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 8)

    def forward(self, image):
        return torch.nn.functional.silu(self.norm(self.convolution(image)))


network = Small().eval().requires_grad_(False)
image = torch.rand(1, 3, 16, 16)
with torch.inference_mode():
    expected = network(image)
    network.compile(**compile_arguments('auto', torch.device('cpu')))
    print(float((network(image) - expected).abs().max()))
"""


@pytest.mark.slow
@COMPILES
def test_compiled_networks_keep_the_answer(tmp_path):
    # One small network in place of three: compiling is what takes the time. In a process of its
    # own, because the compiler leaves threads and code behind.
    environment = {**os.environ, 'TORCHINDUCTOR_CACHE_DIR': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < TOLERANCE
    assert any(tmp_path.rglob('*'))


@pytest.mark.slow
@COMPILES
def test_compiled_code_outlasts_a_restart_of_the_machine(tmp_path):
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
    environment.pop('TORCHINDUCTOR_CACHE_DIR', None)
    done = subprocess.run([sys.executable, '-c', LOAD], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == str(tmp_path / 'marigold_ros' / 'compiled')
