# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Memory that is kept, the steps of a thread, and the points of a frame beside the model."""

from concurrent.futures import Future
from dataclasses import replace
import multiprocessing
import os
import platform
import subprocess
import sys
import threading

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Camera, Frame, Prediction
from marigold_ros.geometry import unproject_depth
from marigold_ros.geometry.measured_points import measure_points
from marigold_ros.models import count_threads
from marigold_ros.models.fusion.load import own_threads
from marigold_ros.pipeline import FramePipeline
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_ros.threads import end_threads, run_beside, side_by_side, usable_cores
import numpy as np
import pytest


def test_steps_run_in_order_but_for_those_that_are_cancelled():
    gate, done = threading.Event(), []
    first, second, third = (Future() for _ in range(3))
    run_beside(
        {
            first: lambda: gate.wait(20),
            second: lambda: done.append('second'),
            third: lambda: done.append('third'),
        }
    )
    assert second.cancel()
    gate.set()
    third.result(20)
    assert done == ['third']
    assert not first.cancel()


def test_the_error_of_a_step_goes_to_who_asks_and_the_next_one_runs():
    wrong, right = Future(), Future()
    run_beside({wrong: lambda: [][0], right: lambda: 'right'})
    assert right.result(20) == 'right'
    with pytest.raises(IndexError):
        wrong.result(20)


def test_of_two_steps_one_runs_beside_the_other(monkeypatch):
    both = threading.Barrier(2, timeout=20)

    def step(name):
        both.wait()  # for the other step
        return name

    assert side_by_side([lambda: step('first'), lambda: step('second')]) == ['first', 'second']
    assert side_by_side([]) == []
    with monkeypatch.context() as patched:
        patched.setattr('marigold_ros.threads.run_beside', lambda steps: pytest.fail('a thread'))
        assert side_by_side([lambda: 'alone']) == ['alone']
    with pytest.raises(IndexError):
        side_by_side([lambda: 1, lambda: [][0]])


def test_steps_need_no_free_thread_to_go_on():
    gate, busy = threading.Event(), [Future() for _ in range(40)]  # more than there are threads
    for future in busy:
        run_beside({future: lambda: gate.wait(5)})
    assert side_by_side([lambda: 'first', lambda: 'second']) == ['first', 'second']
    gate.set()
    assert all(future.result(20) for future in busy)


def test_the_end_of_threads_is_the_end_of_their_work():
    gate, first, second = threading.Event(), Future(), Future()
    run_beside({first: lambda: gate.wait(20), second: lambda: 'done'})
    threading.Timer(0.05, gate.set).start()
    end_threads()
    assert second.done()
    again = Future()
    run_beside({again: lambda: 'again'})
    assert again.result(20) == 'again'


FAULTS = """
import resource, threading
from marigold_ros.threads import settle_memory
settle_memory()
import numpy as np

def frame():
    image = np.ones(2_000_000, np.float32)
    return image + image

def faults(frames):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(frames):
        frame()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // frames)

frame()
thread = threading.Thread(target=faults, args=[50])
thread.start()
thread.join()
"""


@pytest.mark.skipif('glibc' not in platform.libc_ver(), reason='of glibc')
@pytest.mark.parametrize('user', ['default', 'decides'])
def test_memory_of_a_frame_is_kept_for_the_next_unless_the_user_differs(user):
    environment = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
    if user == 'decides':
        environment['MALLOC_MMAP_THRESHOLD_'] = '100000'
    command = [sys.executable, '-c', FAULTS]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # Two arrays of 8 MB are 4000 pages.
    assert (int(run.stdout) < 10) == (user == 'default')


RESIDENT = """
from marigold_ros.threads import return_memory, settle_memory
settle_memory()

def resident_mb():
    pages = int(open('/proc/self/statm').read().split()[1])
    return pages * 4096 >> 20

blocks = [bytes(10_000) for _ in range(6000)]
last = blocks[-1]
del blocks
before = resident_mb()
return_memory()
print(before - resident_mb())
"""


@pytest.mark.skipif('glibc' not in platform.libc_ver(), reason='of glibc')
def test_what_is_kept_can_be_returned():
    command = [sys.executable, '-c', RESIDENT]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) > 40


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.filterwarnings('ignore:This process')  # has threads: so has a user's
def test_a_forked_process_has_threads_of_its_own():
    before = Future()
    run_beside({before: lambda: None})
    before.result(20)
    child = multiprocessing.get_context('fork').Process(target=in_child)
    child.start()
    child.join(30)
    assert child.exitcode == 7


def in_child():
    after = Future()
    run_beside({after: lambda: 7})
    sys.exit(after.result(20))


@pytest.mark.parametrize(
    ('cores', 'model', 'fusion'), [({5}, 1, 1), ({4, 5}, 1, 2), ({1, 4, 5}, 2, 2)]
)
def test_threads_share_the_cores_that_the_process_may_use(monkeypatch, cores, model, fusion):
    monkeypatch.setattr(os, 'cpu_count', lambda: 16)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: cores)
    assert count_threads() == model
    assert own_threads(1) == fusion
    assert own_threads(5) == 5


@pytest.mark.parametrize(
    ('quota', 'cores'), [('200000 100000', 2), ('50000 100000', 1), ('max 100000', 8), ('', 8)]
)
def test_threads_keep_to_the_quota_of_a_container(monkeypatch, tmp_path, quota, cores):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(8)))
    (tmp_path / 'cpu.max').write_text(quota)
    assert usable_cores(tmp_path / 'cpu.max') == cores
    assert usable_cores(tmp_path / 'none') == 8


class Oracle:
    """Answers with the depth of its scene."""

    def __init__(self, depth):
        self.prediction = Prediction((depth / depth.max()).astype(np.float32))

    def predict(self, _rgb, **_asked):
        return self.prediction


@pytest.fixture(scope='module')
def scene():
    """Return a frame with 500 points of a scan in the camera's frame, and its depth."""
    sample = make_sample(3, 160, 120, 'room')
    K = np.array([[130.0, 0, 80], [0, 130.0, 60], [0, 0, 1]])
    points = unproject_depth(sample.depth, K).reshape(-1, 3)
    points = points[np.random.default_rng(0).choice(len(points), 500, replace=False)]
    frame = Frame(sample.rgb, Camera(K, 160, 120), points_lidar=points, T_cam_lidar=np.eye(4))
    return frame, sample.depth


def test_points_that_are_known_are_measured_while_the_model_predicts(scene, monkeypatch):
    (frame, depth), measured = scene, threading.Event()

    def measure(*arguments):
        measured.set()
        return measure_points(*arguments)

    class Patient(Oracle):
        def predict(self, _rgb, **_asked):
            assert measured.wait(20)
            return self.prediction

    monkeypatch.setattr('marigold_ros.pipeline.measure_points', measure)
    result = FramePipeline(Patient(depth)).process(frame)
    assert np.median(np.abs(result.metric / depth - 1)) < 0.02


@pytest.mark.parametrize('change', ['scan', 'pose', 'settings'])
def test_points_that_were_begun_count_for_the_same_inputs_only(scene, change):
    (frame, depth), config = scene, PipelineConfig()
    pipeline = FramePipeline(Oracle(depth), config)
    prediction = pipeline.predict(frame)
    if change == 'settings':
        config = PipelineConfig(alignment=AlignmentConfig(max_depth=3.0))
        pipeline.config = config
    else:
        moved = np.eye(4)
        moved[0, 3] = 0.2
        half = frame.points_lidar[::2]
        other = {'scan': {'points_lidar': half}, 'pose': {'T_cam_lidar': moved}}[change]
        frame = replace(frame, inputs=[replace(frame.lidar, **other)])
    result = pipeline.finish(frame, prediction)
    fresh = FramePipeline(Oracle(depth), config)
    expected = fresh.finish(frame, fresh.predict(replace(frame, inputs=())))
    assert len(result.sparse) == len(expected.sparse)
    np.testing.assert_array_equal(result.metric, expected.metric)
