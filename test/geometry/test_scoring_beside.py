# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma of one frame in six is scored beside the next frame, which waits for nothing else."""

from threading import current_thread, Event

from marigold_ros.frame import Frame, SparseDepth, SparseInput
from marigold_ros.geometry.sigma.fused_sigma import score_sigma
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest

SHAPE = (96, 128)
RGB = np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
WAIT = 60.0


class Network:
    """A network that keeps the linear candidate; once watched, threads beside may not pass."""

    def __init__(self, failing=False):
        self.begun, self.may_pass, self.failing = Event(), Event(), failing
        self.watched = False

    def __call__(self, channels):
        if self.watched and current_thread().name.startswith('beside'):
            self.begun.set()
            assert self.may_pass.wait(WAIT)
            if self.failing:
                raise RuntimeError('planted')
        change = np.zeros_like(channels[0])
        return np.stack([change, np.full_like(change, np.log(0.1)), change])


def frame(number):
    rng = np.random.default_rng(number)
    v, u = np.divmod(rng.choice(SHAPE[0] * SHAPE[1], 400, replace=False), SHAPE[1])
    z = (4.0 + v / 10) * np.exp(0.05 * rng.normal(size=len(v)))
    sparse = SparseDepth(u, v, z.astype(np.float32))
    source = SparseInput('pointcloud', sparse=sparse)
    return Frame(RGB.copy(), stamp_ns=number * 100_000_000, inputs=[source])


@pytest.fixture
def scored_beside(ramp):
    """Return a function that makes a pipeline whose seventh frame is there and being scored."""

    def pipeline_with(network):
        pipeline = FramePipeline(ramp, fusion=network)
        for number in range(7):  # the first is scored before it is there
            network.watched = number == 6
            pipeline.process(frame(number))
        assert network.begun.wait(WAIT)
        return pipeline

    return pipeline_with


def test_a_frame_is_there_before_it_is_scored_and_the_next_one_has_its_score(scored_beside):
    network, waiting = Network(), Network()
    network.may_pass.set()
    pipeline, slower = scored_beside(network), scored_beside(waiting)
    before = pipeline.state.sigma.scale
    waiting.may_pass.set()
    here, there = pipeline.process(frame(7)), slower.process(frame(7))
    np.testing.assert_array_equal(here.sigma, there.sigma)
    after, same = pipeline.state.sigma.scale, slower.state.sigma.scale
    np.testing.assert_array_equal(after.counts, same.counts)
    assert (before.frames, after.frames, same.frames) == (7, 8, 8)


def test_the_state_of_a_stream_has_the_score_of_its_last_frame(scored_beside, ramp):
    network = Network()
    pipeline = scored_beside(network)
    network.may_pass.set()
    first = FramePipeline(ramp, fusion=network)
    first.process(frame(0))
    assert pipeline.state.sigma.scale.counts.sum() > first.state.sigma.scale.counts.sum()
    other = FramePipeline(ramp, fusion=network)
    other.state = pipeline.state
    np.testing.assert_array_equal(other.process(frame(7)).sigma, pipeline.process(frame(7)).sigma)


def test_a_frame_is_scored_as_it_was_whatever_becomes_of_its_arrays(ramp, monkeypatch):
    may_pass = Event()

    def score_late(*arguments):
        assert may_pass.wait(WAIT)
        return score_sigma(*arguments)

    monkeypatch.setattr('marigold_ros.pipeline.score_sigma', score_late)
    counts = []
    for overwritten in (False, True):
        pipeline = FramePipeline(ramp)
        may_pass.set()
        for number in range(6):
            pipeline.process(frame(number))
        may_pass.clear()
        last = frame(6)
        result = pipeline.process(last)
        if overwritten:
            last.rgb[:], result.sparse.z[:] = 0, 100.0
        may_pass.set()
        counts.append(pipeline.state.sigma.scale.counts)
    np.testing.assert_array_equal(*counts)


def test_a_reset_does_not_wait_for_a_score_nor_takes_it(scored_beside):
    network = Network()
    pipeline = scored_beside(network)
    pipeline.reset()
    assert pipeline.state.sigma.scale is None
    network.may_pass.set()
    assert pipeline.process(frame(7)).alignment.state == 'fitted'
    assert pipeline.state.sigma.scale.frames == 1


def test_a_score_that_fails_costs_one_frame(scored_beside):
    network = Network(failing=True)
    pipeline = scored_beside(network)
    network.may_pass.set()
    with pytest.raises(RuntimeError, match='planted'):
        pipeline.process(frame(7))
    network.failing = False
    assert pipeline.process(frame(8)).alignment.state == 'fitted'
    assert pipeline.state.sigma.scale.frames == 7
