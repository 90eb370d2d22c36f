# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""BLAS runs on one thread for the matrices of a frame, and the process keeps its own number."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
import json
import os
from pathlib import Path
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry import blas_threads
from marigold_ros.geometry.blas_threads import one_blas_thread
import pytest

# A script of a user's own, which imports numpy first. It runs in a process of its own because BLAS
# threads, once started, stay. It finds the libraries by their files, not by NumPy and SciPy.
SCRIPT = """
import numpy as np
import ctypes, json, scipy.linalg.lapack
from concurrent.futures import ThreadPoolExecutor
from marigold_ros import pipeline
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.errors import AlignmentError
from marigold_ros.frame import Camera, Frame, Prediction, SparseDepth
from marigold_ros.geometry import align, project_lidar
from marigold_ros.geometry.camera import lidar_projection

with open('/proc/self/maps') as maps:
    files = {line.split()[-1] for line in maps if 'openblas' in line and 'opencv' not in line}
getters = []
for library in map(ctypes.CDLL, files):
    for name in '{}', '{}64_', 'scipy_{}', 'scipy_{}64_':
        if hasattr(library, name.format('openblas_set_num_threads')):
            library[name.format('openblas_set_num_threads')](3)
            getters.append(library[name.format('openblas_get_num_threads')])
seen = {}

def record(place):
    seen.setdefault(place, []).extend(getter() for getter in getters)

def record_calls(module, name, place):
    function = getattr(module, name)
    setattr(module, name, lambda *given, **named: (record(place), function(*given, **named))[1])

record_calls(lidar_projection, 'nearest_per_pixel', 'project_lidar')
record_calls(scipy.linalg.lapack, 'spotrf', 'align')
record_calls(pipeline, 'state_sigma', 'finish')

relative = np.add.outer(np.linspace(0.1, 0.5, 60), np.linspace(0, 0.4, 80)).astype(np.float32)
v, u = (index.ravel() for index in np.mgrid[2:60:4, 2:80:4])
z = 2 + 10 * relative[v, u] * np.exp(0.1 * np.sin(u / 9))
prediction, config = Prediction(relative), AlignmentConfig(method='local')
assert align(prediction, SparseDepth(u, v, z), config).state == 'fitted'
record('after')

try:
    align(prediction, SparseDepth(u + 80, v, z), config)
except AlignmentError:
    record('after')

camera = Camera(np.array([[60.0, 0, 39.5], [0, 60.0, 29.5], [0, 0, 1]]), 80, 60)
points = np.stack([(u - 39.5) / 60 * z, (v - 29.5) / 60 * z, z], axis=1)
project_lidar(points, np.eye(4), camera, config)
record('after')

rgb = np.zeros((60, 80, 3), np.uint8)
frame = Frame(rgb, camera=camera, points_lidar=points, T_cam_lidar=np.eye(4))
# In another thread than the first that set a number.
finish = pipeline.FramePipeline(None, PipelineConfig(alignment=config)).finish
with ThreadPoolExecutor(1) as thread:
    thread.submit(finish, frame, prediction).result()
record('after')
print(json.dumps(seen))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='lists its libraries as Linux does')
def test_hot_paths_run_blas_on_one_thread_and_the_process_gets_its_number_back():
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, 'PYTHONPATH': str(root)}
    environment.pop('OPENBLAS_NUM_THREADS', None)
    command = [sys.executable, '-c', SCRIPT]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seen = json.loads(answer.stdout)
    if not seen['after']:
        pytest.skip('NumPy and SciPy use another BLAS than OpenBLAS')
    after = seen.pop('after')
    assert set(after) == {3}
    assert {place: set(numbers) for place, numbers in seen.items()} == {
        'project_lidar': {1},
        'align': {1},
        'finish': {1},
    }


class Library:
    """The number of threads of a library without threads."""

    def __init__(self, threads, filepath='shared'):
        self.threads, self.filepath = threads, filepath

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads


@pytest.fixture(scope='module')
def libraries():
    """Return what takes the place of the libraries of NumPy and SciPy: here one for both."""
    with pytest.MonkeyPatch.context() as patch:
        shared = Library(4)
        patch.setattr(blas_threads, '_libraries', lambda of_scipy: (shared, shared))
        yield shared


@given(order=st.permutations([0, 1, 2, 3] * 2))
def test_callers_may_enter_and_leave_in_any_order(libraries, order):
    inside = {}
    for caller in order:
        if caller in inside:
            inside.pop(caller).close()
        else:
            inside[caller] = ExitStack()
            inside[caller].enter_context(one_blas_thread())
        assert libraries.threads == (1 if inside else 4)


def test_a_caller_that_also_needs_scipy_gets_it_beside_one_that_does_not(monkeypatch):
    numpy_only, scipy = Library(4, 'numpy'), Library(3, 'scipy')
    every = {False: (numpy_only,), True: (numpy_only, scipy)}
    monkeypatch.setattr(blas_threads, '_libraries', every.get)
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_blas_thread(of_scipy=False))
    second.enter_context(one_blas_thread())
    assert (numpy_only.threads, scipy.threads) == (1, 1)
    first.close()
    assert (numpy_only.threads, scipy.threads) == (1, 1)
    second.close()
    assert (numpy_only.threads, scipy.threads) == (4, 3)


def test_callers_in_many_threads_leave_the_number_as_it_was(libraries):
    def call(_):
        with one_blas_thread():
            return libraries.threads

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(2000))) == {1}
    assert libraries.threads == 4


def test_a_number_that_was_set_in_between_is_kept(libraries):
    with one_blas_thread():
        libraries.threads = 2
    assert libraries.threads == 2
    libraries.threads = 4
