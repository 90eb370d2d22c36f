# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images that are not timed are scored beside the next one, with the same results."""

import json
from threading import Event

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import PointsConfig
from marigold_ros.errors import BagError, InputError
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import pytest

WAIT = 60.0


@pytest.fixture
def timed(monkeypatch):
    """Return a function that sets how many images have nothing beside them."""
    return lambda count: monkeypatch.setattr('marigold_ros.replay.bag_replay.TIMED', count)


class Seen:
    """A model that counts the images it was given."""

    def __init__(self, ramp):
        self.description, self._ramp, self.images = ramp.description, ramp, []
        self.asked = [Event() for _ in range(4)]

    def predict(self, rgb, **options):
        self.asked[len(self.images)].set()
        self.images.append(rgb)
        return self._ramp.predict(rgb)


def test_the_next_image_is_predicted_while_one_is_scored(
    short_drive, ramp, timed, monkeypatch, tmp_path
):
    timed(1)
    model, add, seen = Seen(ramp), Scorer.add, []

    def waiting(scorer, item, *arguments):
        number = len(scorer.rows)
        seen.append((number, len(model.images)))
        if number == 1:
            assert model.asked[2].wait(WAIT)
        return add(scorer, item, *arguments)

    monkeypatch.setattr(Scorer, 'add', waiting)
    evaluate_bag(short_drive, model, out=tmp_path)
    assert seen[0] == (0, 1)


@pytest.mark.parametrize(('alone', 'expected'), [(60, '-++'), (2, '-+-'), (1, '---')])
def test_images_are_timed_that_are_alone_and_not_the_first(
    alone, expected, short_drive, ramp, timed, tmp_path, rows_of
):
    timed(alone)
    evaluate_bag(short_drive, ramp, out=tmp_path)
    times = [row['total_ms'] for row in rows_of(tmp_path)]
    assert ''.join('+' if time else '-' for time in times) == expected
    results = json.loads((tmp_path / 'results.json').read_text())
    counts = {stage['n'] for stage in results['latency_ms'].values()}
    assert counts == ({expected.count('+')} if '+' in expected else set())


def test_results_are_those_of_one_after_the_other(short_drive, ramp, timed, figures, tmp_path):
    for count in (60, 1):
        timed(count)
        options = ReplayOptions(fit_every=4)
        evaluate_bag(short_drive, ramp, options, tmp_path / str(count))
    assert figures(tmp_path / '60') == figures(tmp_path / '1')


@pytest.mark.parametrize('count', [60, 1])
def test_what_was_read_before_the_damage_is_scored(
    count, short_drive, ramp, timed, monkeypatch, tmp_path, rows_of
):
    def damaged(*arguments):
        frames = bag_frames(*arguments)
        yield from (next(frames), next(frames))
        raise BagError('cut off')

    timed(count)
    monkeypatch.setattr('marigold_ros.replay.sources.bag_frames', damaged)
    seen = []
    with pytest.raises(BagError, match='cut off; the readable part of the bag is scored in'):
        evaluate_bag(short_drive, ramp, out=tmp_path, progress=lambda *done: seen.append(done))
    assert len(rows_of(tmp_path)) == 2
    assert [done for done, _ in seen] == [1, 2]
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['provenance']['warnings'] == {'cut off': 1}


@pytest.mark.parametrize('count', [60, 1])
def test_an_image_that_cannot_be_scored_is_rejected_and_not_recorded(
    count, short_drive, ramp, timed, monkeypatch, tmp_path, rows_of
):
    add = Scorer.add

    def refusing(scorer, item, *arguments):
        if len(scorer.rows) == 1:
            monkeypatch.setattr(Scorer, 'add', add)
            raise InputError('planted', cause='shape')
        return add(scorer, item, *arguments)

    timed(count)
    monkeypatch.setattr(Scorer, 'add', refusing)
    evaluate_bag(short_drive, ramp, ReplayOptions(record=PointsConfig()), tmp_path)
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['frames']['rejected'] == {'shape': 1}
    assert len(rows_of(tmp_path)) == 2
    with BagReader(tmp_path / 'recording') as reader:
        assert reader.topics['/marigold_depth/relative/image'].count == 2
