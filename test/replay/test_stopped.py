# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Evaluations that are stopped by a signal keep what they have, and the same command goes on."""

from dataclasses import replace
import json
import os
import signal

from marigold_ros.__main__ import main
from marigold_ros.replay.bag_part import read_part
from marigold_ros.replay.stored_values import write_values
import pytest

SIGNALS = pytest.mark.parametrize(
    'number', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)


class Stopping:
    """A model during whose n-th image a signal arrives."""

    def __init__(self, ramp, image, number=signal.SIGINT):
        self.description, self._ramp = ramp.description, ramp
        self.image, self.number, self.seen = image, number, 0

    def predict(self, rgb, **options):
        self.seen += 1
        if self.seen == self.image:
            os.kill(os.getpid(), self.number)
        return self._ramp.predict(rgb)


@pytest.fixture
def load(monkeypatch):
    """Let commands load a given model."""

    def choose(model):
        monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: model)
        return model

    return choose


# Images that are not timed are scored beside the next, which is finished then, too.
@pytest.mark.parametrize(('timed', 'image'), [(60, 2), (0, 1)])
@SIGNALS
def test_a_stopped_evaluation_has_results_and_goes_on_to_the_bit(
    number, timed, image, short_drive, load, ramp, figures, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr('marigold_ros.replay.bag_replay.TIMED', timed)
    call = ['evaluate', str(short_drive), '--out', str(tmp_path / 'stopped')]
    load(ramp)
    assert main(['evaluate', str(short_drive), '--out', str(tmp_path / 'whole')]) == 0
    load(Stopping(ramp, image, number))
    capsys.readouterr()
    assert main(call) == 130
    assert 'stopped after 2 of 3 images' in capsys.readouterr().err
    results = json.loads((tmp_path / 'stopped' / 'results.json').read_text(encoding='utf-8'))
    assert results['frames']['read'] == 2
    assert results['provenance']['stopped'] == {'read': 2, 'expected': 3}
    assert (tmp_path / 'stopped' / 'report.html').is_file()

    again = load(Stopping(ramp, 100))
    assert main(call) == 0
    assert 'going on after image 2 of 3' in capsys.readouterr().err
    assert again.seen == 1
    assert figures(tmp_path / 'stopped') == figures(tmp_path / 'whole')
    assert not (tmp_path / 'stopped' / 'parts').exists()
    assert main(call) == 0
    assert 'stay until this run has its own' in capsys.readouterr().err


def test_equal_images_and_time_are_counted_from_before_the_stop_on(
    frozen_drive, load, ramp, figures, monkeypatch, tmp_path
):
    monkeypatch.setattr('marigold_ros.geometry.blind_image._FROZEN', 2)
    call = ['evaluate', str(frozen_drive), '--out', str(tmp_path)]
    load(Stopping(ramp, 2))
    assert main(call) == 130
    (begun,) = tmp_path.glob('parts/*.begun.npz')
    write_values(begun, replace(read_part(begun), wall_s=1000.0))
    load(ramp)
    assert main(call) == 0
    warnings = figures(tmp_path)[0]['provenance']['warnings']
    assert warnings == {'the last 3 images are equal: has the camera stopped?': 1}
    rate = json.loads((tmp_path / 'results.json').read_text())['rate']
    assert rate == pytest.approx(3 * 0.1 / 1000.0, rel=0.1)  # each image stands for 0.1 s


@pytest.mark.slow  # 36 images, three times
@pytest.mark.parametrize('timed', [60, 1])
def test_compared_models_go_on_too(timed, short_drive, load, ramp, figures, monkeypatch, tmp_path):
    monkeypatch.setattr('marigold_ros.replay.bag_replay.TIMED', timed)
    call = ['evaluate', str(short_drive), '--against', 'other', '--corrupt', 'fog']
    load(ramp)
    assert main([*call, '--out', str(tmp_path / 'whole')]) == 0
    for image in (3, 15):  # in the bag, and in the runs on corrupted images
        load(Stopping(ramp, image))
        assert main([*call, '--out', str(tmp_path / 'stopped')]) == 130
    load(ramp)
    assert main([*call, '--out', str(tmp_path / 'stopped')]) == 0
    assert figures(tmp_path / 'stopped') == figures(tmp_path / 'whole')


@pytest.mark.slow  # two evaluations with recordings
def test_a_recording_is_made_anew(short_drive, load, ramp, tmp_path):
    call = ['evaluate', str(short_drive), '--out', str(tmp_path / 'out'), '--record']
    load(Stopping(ramp, 2))
    assert main(call) == 130
    assert not (tmp_path / 'out' / 'recording').exists()
    again = load(Stopping(ramp, 100))
    assert main(call) == 0
    assert again.seen == 3
    assert (tmp_path / 'out' / 'recording').is_dir()
