# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The benchmark's instruments: times, work, memory, comparisons."""

from contextlib import contextmanager
import subprocess
import sys
from types import SimpleNamespace

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.benchmarks.benchmark import (
    Benchmark,
    benchmark_image,
    FEWEST,
    MOST,
    variant,
    variants,
    Work,
)
from marigold_ros.models.benchmarks.measuring import (
    alternate,
    difference,
    matmul_peak,
    percentiles,
    STAGES,
    stopwatch,
    work_of_frame,
)
from marigold_ros.models.benchmarks.random_networks import random_networks, require_memory
from marigold_ros.models.marigold.checkpoint import load_networks
from marigold_ros.models.weights import count_parameters
import numpy as np
import pytest
import torch

CPU = torch.device('cpu')


@contextmanager
def no_progress(total, what):
    yield SimpleNamespace(update=lambda: None)


@pytest.fixture
def benchmark(small_checkpoint):
    work = Work(96, 128, steps=2, members=3)
    return Benchmark(lambda: load_networks(small_checkpoint), work, 'cpu')


def test_the_stages_of_a_frame_add_up_to_the_frame(benchmark):
    found = benchmark.measure(3, no_progress)
    stages = sum(found['stages_ms'][name]['p50'] for name in STAGES)
    assert 0.5 * found['frame_ms']['p50'] < stages < 1.1 * found['frame_ms']['p50']
    assert all(found['stages_ms'][name]['p50'] > 0.0 for name in STAGES)
    step = found['stages_ms']['unet_step']['p50']
    assert step == pytest.approx(found['stages_ms']['denoise']['p50'] / 2, rel=0.5)
    assert found['runs'] == 3
    assert found['fps'] == pytest.approx(1e3 / found['frame_ms']['p50'])
    assert found['peak_memory_bytes'] > 10e6
    assert 0.0 < found['share_of_peak'] < 1.5
    assert found['tflop_per_s'] == pytest.approx(found['tflop']['frame'] * found['fps'])
    peak = found['matmul_peak_tflop_per_s']
    assert found['share_of_peak'] == pytest.approx(found['tflop_per_s'] / peak)
    assert FEWEST <= benchmark.measure(0, no_progress)['runs'] <= MOST


def test_a_number_of_pixels_is_an_edge_that_the_reference_knows_too(copy, edit):
    edit(copy / 'marigold_ros.json', default_processing_pixels=48 * 88)
    benchmark = Benchmark(lambda: load_networks(copy), Work(75, 133), 'cpu')
    assert benchmark.edge == max(benchmark.model.processing_size(75, 133, None)) == 88


def test_timing_leaves_the_model_and_its_answer_as_they_were(benchmark):
    model, rgb = benchmark.model, benchmark_image(40, 50)
    before = model.predict(rgb).relative
    with stopwatch(model) as times:
        timed = model.predict(rgb).relative
    assert np.array_equal(timed, before)
    assert not set(STAGES) & set(vars(model))
    assert times['encode'] > 0.0


def test_the_stages_are_released_when_a_frame_fails(benchmark):
    with pytest.raises(ZeroDivisionError), stopwatch(benchmark.model):
        raise ZeroDivisionError
    assert not set(STAGES) & set(vars(benchmark.model))


@pytest.mark.parametrize('members', [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_exact_answer_is_the_references(small_checkpoint, members):
    # The reference's merge amplifies the last bit, more so with some seeds than with others.
    size = (75, 133) if members == 1 else (96, 128)
    work = Work(*size, steps=2, members=members, resolution=size[1] - size[1] % 8, seed=1)
    benchmark = Benchmark(lambda: load_networks(small_checkpoint), work, 'cpu')
    found = benchmark.against_reference(2, no_progress)
    assert found['difference_exact']['max'] < (2e-4 if members == 1 else 1e-3)
    assert found['difference_default']['max'] > found['difference_exact']['max']
    ratios = np.divide(found['reference_ms'], found['ours_ms'])
    assert len(ratios) == 2
    assert found['ratios'] == pytest.approx(ratios)
    assert found['ratio'] == pytest.approx(np.median(ratios))


def test_a_zeros_checkpoint_is_compared_from_zeros(small_checkpoint, copy, edit):
    edit(copy / 'marigold_ros.json', noise='zeros')
    benchmark = Benchmark(lambda: load_networks(copy), Work(75, 133, resolution=104), 'cpu')
    found = benchmark.against_reference(1, no_progress)
    assert found['difference_exact']['max'] < 2e-4


def test_a_resolution_that_the_reference_cannot_take_is_refused(small_checkpoint):
    benchmark = Benchmark(lambda: load_networks(small_checkpoint), Work(75, 133, resolution=100))
    with pytest.raises(ConfigurationError, match='100; diffusers takes multiples of 8'):
        benchmark.against_reference(1, no_progress)


@pytest.mark.slow  # a second precision
def test_half_precision_is_compared_with_the_reference_in_full(small_checkpoint):
    work = Work(64, 96, resolution=96)
    benchmark = Benchmark(lambda: load_networks(small_checkpoint), work, 'cpu', 'bfloat16')
    found = benchmark.against_reference(1, no_progress)
    assert found['reference_dtype'] == 'float32'
    assert 1e-5 < found['difference_exact']['mean'] < 0.02


def test_work_grows_with_steps_members_and_pixels(benchmark):
    one = work_of_frame(benchmark.model, (96, 128), 1, 1)
    assert one['frame'] == one['encode'] + one['unet_step'] + one['decode']
    more = work_of_frame(benchmark.model, (96, 128), 4, 3)
    assert more['frame'] == one['encode'] + 3 * (4 * one['unet_step'] + one['decode'])
    large = work_of_frame(benchmark.model, (192, 256), 1, 1)
    assert large['encode'] == pytest.approx(4 * one['encode'], rel=0.01)


def test_a_convolution_is_two_operations_a_weight_and_pixel(benchmark):
    # The encoder's first layer alone, by hand: 3x3 over 3 channels to 8.
    least = 2 * 9 * 3 * 8 * 96 * 128
    assert work_of_frame(benchmark.model, (96, 128), 1, 1)['encode'] > least


def test_percentiles_of_a_known_sample():
    found = percentiles(range(101))
    assert found == {'p50': 50.0, 'p95': 95.0, 'p99': 99.0}


PEAK = """
from marigold_ros.models.runtime.usage import PeakMemory
import torch
torch.ones(80_000_000)  # an earlier peak
memory = PeakMemory(torch.device('cpu'))
before = memory.read()
torch.ones(40_000_000)
print(memory.read() - before)
"""


def test_memory_that_a_process_took_is_seen():
    # One of its own: the peak of this one may lie far above what it holds now.
    run = subprocess.run([sys.executable, '-c', PEAK], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 0.8 * 4 * 40_000_000


def test_the_peak_of_a_product_is_one_of_a_processor():
    assert 1e8 < matmul_peak(CPU, torch.float32, 0.01) < 1e13


def test_two_sides_are_run_in_turns():
    order = []
    alternate(lambda: order.append('a'), lambda: order.append('b'), CPU, 2, lambda: None)
    runs = ''.join(order)
    # The same letter side by side is one round's turn.
    assert ''.join(a for a, b in zip(runs, f'{runs[1:]} ', strict=True) if a != b) == 'abab'


def test_a_difference_names_its_largest_and_its_mean():
    found = difference(np.zeros(4, np.float32), np.array([0, 0, 0, 2], np.float32))
    assert found == {'max': 2.0, 'mean': 0.5}


def test_an_image_has_its_size_and_is_always_the_same():
    assert benchmark_image(7, 90).shape == (7, 90, 3)
    assert np.array_equal(benchmark_image(64, 64), benchmark_image(64, 64))


def test_what_does_not_fit_into_memory_is_refused_with_figures():
    require_memory(1, 'one byte')
    with pytest.raises(ConfigurationError, match='planets need 1000000000.0 GB and .* are free'):
        require_memory(10**18, 'planets')


def test_the_published_shape_is_refused_where_memory_is_short(monkeypatch):
    monkeypatch.setattr(
        'marigold_ros.models.benchmarks.random_networks.free_memory', lambda device: 10**9
    )
    with pytest.raises(ConfigurationError, match='weights of sd2 need 3.8 GB and 1.0 GB'):
        random_networks()


@pytest.mark.slow  # 866 million random weights
def test_the_published_shape_has_the_published_size():
    networks = random_networks('tiny')
    assert count_parameters(networks.unet) == 865_922_244
    assert count_parameters(networks.autoencoder) == 2_445_063
    benchmark = Benchmark(lambda: networks, Work(64, 64), 'cpu')
    relative = benchmark.model.predict(benchmark.rgb).relative
    assert np.isfinite(relative).all()
    assert relative.std() > 0.01


@pytest.mark.slow  # two variants, in bfloat16
def test_a_variant_is_measured_with_the_difference_it_makes(benchmark):
    names = ['channels_last', 'bfloat16+channels_last']
    rows = benchmark.measure_variants(variants(names, CPU), 2, no_progress)
    assert [row['variant'] for row in rows] == names
    assert rows[0]['difference']['max'] < 1e-3
    assert 1e-5 < rows[1]['difference']['mean'] < 0.05
    for row in rows:
        ratios = np.divide(row['plain_ms'], row['variant_ms'])
        assert len(ratios) == 2
        assert row['ratio'] == pytest.approx(np.median(ratios))
    assert all(row['ready_s'] > 0.0 for row in rows)


@pytest.mark.slow  # a second runtime
def test_any_runtime_is_compared_with_the_plain_reference(small_checkpoint):
    runtime = RuntimeConfig(channels_last=True)
    benchmark = Benchmark(
        lambda: load_networks(small_checkpoint), Work(64, 96), 'cpu', runtime=runtime
    )
    found = benchmark.against_reference(1, no_progress)
    assert found['difference_exact']['max'] < 2e-4


def test_names_of_variants_are_joined_by_a_plus():
    one = variant('bfloat16+channels_last+compile')
    assert (one.dtype, one.runtime) == (
        'bfloat16',
        RuntimeConfig(backend='torch', channels_last=True, compile='auto'),
    )
    with pytest.raises(ConfigurationError, match=r"'warp\+compile' has 'warp'; join any of"):
        variant('warp+compile')


def test_all_variants_are_each_alone_and_some_together():
    names = [one.name for one in variants(['all', 'compile'], CPU)]
    assert {'channels_last', 'bfloat16', 'compile'} <= set(names)
    assert len(names) == len(set(names))
    assert 'float16' in [one.name for one in variants(['all'], torch.device('cuda'))]
