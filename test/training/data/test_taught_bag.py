# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A teacher's depth between LiDAR points: planted truth comes back, by its certainty, once."""

from __future__ import annotations

from pathlib import Path
import pickle

from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.processes import Stopped
from marigold_ros.synthetic.drive.drive import write_drive
from marigold_training.data import teacher_pairs
from marigold_training.data.augment import Augmentation
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.mixture import BatchRule, Mixture, Part, resize
from marigold_training.data.pairs import Pair
from marigold_training.data.sources import open_source
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def drive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('taught')
    write_drive(folder / 'drive', frames=3, seed=3, width=192, height=96, lidar_beams=32)
    return folder


class Oracle:
    """Predicts the log of true depth, found by the image, with noise."""

    space = 'log'

    def __init__(self, truth: dict[bytes, np.ndarray], noise: float) -> None:
        self.truth, self.noise, self.calls = truth, noise, 0

    def predict(self, rgb: np.ndarray) -> Prediction:
        self.calls += 1
        depth = np.nan_to_num(self.truth[rgb.tobytes()], nan=80.0)
        value = (np.log(depth) - np.log(1.0)) / np.log(90.0)
        value += np.random.default_rng(0).normal(0.0, self.noise, value.shape)
        return Prediction(value.clip(0.0, 1.0).astype(np.float32), None, 'log')


@pytest.fixture
def truth(drive) -> list[Pair]:
    pairs = BagPairs(drive, 'drive', depth='/camera/depth_truth')
    return [pairs.read(index) for index in range(len(pairs))]


@pytest.fixture
def taught(drive, truth, tmp_path, monkeypatch):
    """Return a function that opens the drive with an oracle of some noise as its teacher."""

    def open_it(noise: float = 0.0):
        model = Oracle({pair.rgb.tobytes(): pair.depth for pair in truth}, noise)
        monkeypatch.setattr(teacher_pairs, 'load_model', lambda name: model)
        monkeypatch.setattr(teacher_pairs, '_identity', lambda name: f'{noise:016.3f}')
        entry = {'kind': 'taught_bag', 'folder': str(drive / 'drive'), 'teacher': 'oracle'}
        source = open_source(
            {**entry, 'lidar': '/velodyne_points', 'hold_lines': 4, 'size': [48, 96]}, tmp_path
        )
        return source, model

    return open_it


def test_a_misspelt_key_of_the_bag_is_named(tmp_path):
    entry = {'kind': 'taught_bag', 'folder': 'drive', 'teacher': 'tiny', 'size': [48, 96]}
    with pytest.raises(ConfigurationError, match="has 'lidr'; did you mean 'lidar'"):
        open_source({**entry, 'lidr': '/points'}, tmp_path)


@pytest.mark.parametrize('objective', ['latent', 'one_step'])
def test_an_objective_that_ignores_weights_is_refused(open_run, drive, objective):
    bag = {'kind': 'taught_bag', 'folder': str(drive / 'drive'), 'teacher': 'tiny'}
    sources = [{**bag, 'lidar': '/velodyne_points', 'size': [32, 48]}]
    open_run(sources=sources)
    with pytest.raises(ConfigurationError, match=f'objective {objective} ignores .*use pixel'):
        open_run({'objective': objective}, sources=sources)


def test_planted_depth_comes_back_where_no_point_is(taught, truth):
    source, _ = taught()
    source.prepare()
    for index, true in enumerate(truth):
        pair = source.read(index)
        depth, weight = pair.labels[..., 0], pair.labels[..., 1]
        known = np.isfinite(depth) & np.isfinite(true.depth)
        between = known & np.isnan(pair.depth)
        assert between.mean() > 0.3
        error = np.abs(np.log(depth[between] / true.depth[between]))
        assert np.average(error, weights=weight[between]) < 0.03
        assert np.nanmin(weight) > 0.0
        assert np.nanmax(weight) <= teacher_pairs.SURE_WEIGHT


def test_points_keep_their_depth_and_their_full_weight(taught):
    source, _ = taught(0.05)
    plain = source.bag.read(0)
    assert np.array_equal(source.read(0).depth, plain.depth, equal_nan=True)
    batch = Mixture([Part(source, 1.0, (48, 96))], BatchRule(2), 'log', Augmentation())[0]
    bare = Mixture([Part(source.bag, 1.0, (48, 96))], BatchRule(2), 'log', Augmentation())[0]
    assert bare.weight is None
    assert torch.equal(bare.counted, bare.valid.float())
    at = bare.valid
    assert torch.equal(batch.depth[at], bare.depth[at])
    assert (batch.counted[at] == 1.0).all()
    taught_only = batch.valid & ~at
    assert taught_only.sum() > at.sum() / 4
    assert (batch.counted[taught_only] <= teacher_pairs.SURE_WEIGHT).all()


def test_an_uncertain_teacher_counts_less(taught):
    weights = [np.nansum(taught(noise)[0].read(0).labels[..., 1]) for noise in (0.0, 0.05)]
    assert weights[1] < 0.7 * weights[0]


def test_a_map_that_cannot_be_fitted_labels_nothing(taught):
    source, model = taught()
    model.predict = lambda rgb: Prediction(np.full(rgb.shape[:2], 0.5, np.float32), None, 'log')
    assert np.isnan(source.read(0).labels[..., 0]).all()


def test_labels_are_predicted_once_also_after_a_stop(taught):
    source, model = taught()
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        # One question is the bag's, which it answers by reading.
        source.prepare(stop=lambda: next(asked))
    done = model.calls
    assert 0 < done < 3
    again, model = taught()
    again.prepare()
    assert model.calls == 3 - done
    again.prepare()
    pickled = pickle.loads(pickle.dumps(again))
    assert np.array_equal(pickled.read(2).labels, again.read(2).labels, equal_nan=True)
    assert model.calls == 3 - done
    assert again.fingerprint() != taught(0.1)[0].fingerprint()


def test_labels_follow_their_pixels():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (32, 48, 3), np.uint8)
    depth = rng.uniform(1, 9, (32, 48)).astype(np.float32)
    pair = Pair(rgb, depth, np.stack([depth, depth], axis=-1))
    for changed in (pair.cut(slice(4, 20), slice(8, 40)), resize(pair, (16, 24))):
        assert np.array_equal(changed.labels[..., 0], changed.depth)
