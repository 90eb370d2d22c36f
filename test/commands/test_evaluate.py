# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Replay of bags, synthetic and real, with a ramp in place of the network."""

import argparse
import csv
from dataclasses import replace
import json
import os
import re
import shutil

from marigold_ros.__main__ import main
from marigold_ros.bags.frames import bag_frames, Excerpt
from marigold_ros.bags.reader import BagReader
from marigold_ros.commands import evaluate
from marigold_ros.commands.evaluate import corruptions
from marigold_ros.commands.terminal.output import summary
from marigold_ros.config import AlignmentConfig, LidarConfig, PipelineConfig
from marigold_ros.errors import BagError, UsageError
from marigold_ros.evaluation.choices import CORRUPTIONS
from marigold_ros.frame import Prediction
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import plan_replay, ReplayOptions
import numpy as np
import pytest


class KnowingModel:
    """Answers a known image with its map."""

    def __init__(self, known):
        self.description = {'name': 'knowing', 'path': '/nowhere', 'space': 'depth'}
        self._known = known

    def predict(self, rgb, **options):
        return next(
            Prediction(relative) for image, relative in self._known if np.array_equal(image, rgb)
        )


@pytest.fixture(scope='module')
def all_knowing(short_drive):
    """A model that knows the truth up to scale and shift; what is too far counts as 100 m."""
    known = []
    with BagReader(short_drive) as reader:
        for item in bag_frames(reader, reader.choose_topics(), LidarConfig()):
            depth = np.clip(np.nan_to_num(item.truth, nan=100.0, posinf=100.0), 0, 100)
            known.append((item.frame.rgb, (depth / 100).astype(np.float32)))
    return KnowingModel(known)


def test_a_model_that_knows_the_truth_beats_every_surface(short_drive, all_knowing, tmp_path):
    results = evaluate_bag(short_drive, all_knowing, out=tmp_path)
    assert results['frames'] == {
        'read': 3,
        'processed': 3,
        'metric': 3,
        'dropped': 0,
        'rejected': {},
    }
    assert results['calibration']['n_pictures'] <= 3
    protocols = results['protocols']
    assert protocols['oracle']['macro']['abs_rel'] < 1e-4
    assert protocols['truth']['macro']['abs_rel'] < 0.05
    assert protocols['heldout']['macro']['abs_rel'] < results['baselines']['quadric']['abs_rel']
    text = (tmp_path / 'results.json').read_text()
    assert json.loads(text)['schema'] == 1
    assert '/nowhere' not in text  # where the checkpoint is
    assert (tmp_path / 'report.html').is_file()
    assert len((tmp_path / 'per_frame.csv').read_text().splitlines()) == 4


@pytest.mark.slow  # two evaluations
def test_the_published_fit_does_not_depend_on_the_scoring(short_drive, ramp):
    config = PipelineConfig(alignment=AlignmentConfig(method='global'))
    options = [ReplayOptions(config, fit_every=every) for every in (4, 8)]
    scores = [evaluate_bag(short_drive, ramp, chosen)['protocols'] for chosen in options]
    assert scores[0]['truth']['macro'] == scores[1]['truth']['macro']


def test_two_bags_add_up_and_the_limit_is_of_each(short_drive, ramp, tmp_path):
    other = shutil.copytree(short_drive, tmp_path / 'other')
    options = ReplayOptions(lidar=LidarConfig(time_offset=-0.02), limit=2)
    calls = []
    results = evaluate_bag(
        [short_drive, other], ramp, options, progress=lambda *done: calls.append(done)
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert results['provenance']['scoring']['scan_dt_ms']['mean'] == pytest.approx(17)
    assert results['frames']['read'] == 4
    assert [bag['images'] for bag in results['provenance']['bags']] == [3, 3]
    assert 'frames: 4 of 6 read' in summary(results, 'out')
    assert results['calibration']['bag'] == 'other'  # as long as none of them has an error


@pytest.mark.parametrize(
    ('options', 'chosen'),
    [
        (['--every', '2', '--limit', '1'], [0]),
        (['--from', '0.05', '--to', '0.15'], [1]),
        pytest.param(['--every', '2'], [0, 2], marks=pytest.mark.slow),
        pytest.param(['--from', '0.05'], [1, 2], marks=pytest.mark.slow),
        pytest.param(['--to', '0.15'], [0, 1], marks=pytest.mark.slow),
    ],
)
def test_a_part_of_a_bag_is_scored(short_drive, tmp_path, loaded_ramp, options, chosen):
    with BagReader(short_drive) as reader:
        stamps = [
            item.stamp_ns for item in bag_frames(reader, reader.choose_topics(), LidarConfig())
        ]
    assert main(['evaluate', str(short_drive), '--out', str(tmp_path), *options]) == 0
    with (tmp_path / 'per_frame.csv').open() as file:
        assert [int(row['stamp_ns']) for row in csv.DictReader(file)] == [
            stamps[i] for i in chosen
        ]


def test_no_images_are_expected_outside_of_the_bag(short_drive, tmp_path, capsys):
    assert plan_replay([short_drive], ReplayOptions(excerpt=Excerpt(stop=60.0))).images == 3
    assert main(['evaluate', str(short_drive), '--out', str(tmp_path), '--from', '60']) == 1
    assert 'none of it is between --from 60' in capsys.readouterr().err


def test_a_part_without_images_names_it_and_leaves_nothing_to_go_on_with(
    short_drive, loaded_ramp, tmp_path, capsys
):
    command = ['evaluate', str(short_drive), '--out', str(tmp_path), '--to', '0.15']
    assert main([*command, '--from', '0.14']) == 1
    assert '(--from, --to)' in capsys.readouterr().err
    assert main(command) == 0


def test_extrinsics_can_be_given_where_the_bag_has_none(short_drive, drive_without, ramp):
    with BagReader(short_drive) as reader:
        T = next(iter(bag_frames(reader, reader.choose_topics(), LidarConfig()))).frame.T_cam_lidar
    path = drive_without('/tf_static')
    assert evaluate_bag(path, ramp)['frames']['metric'] == 0
    assert evaluate_bag(path, ramp, ReplayOptions(T_cam_lidar=T))['frames']['metric'] == 3


def test_a_missing_bag_and_a_wrong_topic_are_one_line_each_before_the_model_loads(
    short_drive, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr('marigold_ros.commands.evaluate.load_chosen_model', None)
    out = ['--out', str(tmp_path)]
    assert main(['evaluate', str(tmp_path / 'none'), *out]) == 1
    assert main(['evaluate', str(short_drive), '--image', '/other', *out]) == 1
    assert main(['evaluate', str(short_drive), '--set', 'alignment.metod=local', *out]) == 2
    assert main(['evaluate', str(short_drive), '--set', 'alignment.min_points=many', *out]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith('error: ') for line in lines)
    assert 'none does not exist' in lines[0]
    assert "did you mean 'alignment.method'" in lines[2]


def test_no_usable_image_at_all_is_an_error(ramp):
    with pytest.raises(BagError, match='no bag was given'):
        evaluate_bag([], ramp)


def test_the_command_prints_a_table_or_json(short_drive, loaded_ramp, capsys, tmp_path):
    call = ['evaluate', str(short_drive), '--out', str(tmp_path), '--limit', '2']
    assert main([*call, '--set', 'alignment.method=global', '--fit-every', '4']) == 0
    text = capsys.readouterr().out
    assert 'frames: 2 of 3 read, 2 processed' in text
    (line,) = (line for line in text.splitlines() if line.startswith('baseline quadric'))
    assert re.search(r' 2   difference [+-]\d\.\d{3}$', line)
    assert main([*call, '--json']) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads((tmp_path / 'results.json').read_text())


def test_images_without_any_metric_depth_end_with_1(short_drive, loaded_ramp, capsys, tmp_path):
    options = ['--out', str(tmp_path / 'out'), '--set', 'alignment.min_points=100000']
    assert main(['evaluate', str(short_drive), *options]) == 1
    printed = capsys.readouterr()
    assert 'none of 3 images has metric depth' in printed.err
    assert 'verdict' in printed.out


def test_the_real_drive_is_metric_and_split_by_scan_lines(shared_data, ramp, tmp_path):
    results = evaluate_bag(shared_data / 'kitti_drive', ramp, ReplayOptions(limit=2), tmp_path)
    assert results['frames']['metric'] == 2
    assert results['provenance']['scoring']['scan_lines_from'] == {'order': 2}
    assert results['provenance']['scoring']['scan_dt_ms']['max'] == pytest.approx(3.0)
    assert results['protocols']['heldout']['n_points'] > 20_000
    quality = [results['baselines'][name]['abs_rel'] for name in ('constant', 'plane', 'quadric')]
    assert quality == sorted(quality, reverse=True)
    assert results['baselines']['linear']['abs_rel'] < quality[2]
    assert results['baselines']['disparity']['abs_rel'] < quality[2]


def test_a_bag_whose_name_is_no_utf8_is_scored(short_drive, ramp, tmp_path):
    name = os.fsdecode(b'caf\xe9')
    try:
        shutil.copytree(short_drive, tmp_path / name)
    except OSError:
        pytest.skip('this file system takes UTF-8 names only')
    evaluate_bag(tmp_path / name, ramp, ReplayOptions(limit=1), tmp_path / 'out')
    results = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    assert results['provenance']['bags'][0]['name'] == name


@pytest.mark.slow  # 36 images are scored
def test_corrupted_images_are_scored_beside_the_clean_ones(short_drive, ramp, tmp_path):
    class Bright:
        """Believes that bright is far: any corruption changes its answer."""

        description = ramp.description

        def predict(self, rgb, **options):
            return Prediction(rgb.astype(np.float32).mean(-1) / 255)

    kinds = ('night', 'fog')
    results = evaluate_bag(short_drive, Bright(), ReplayOptions(corruptions=kinds), tmp_path)
    clean = evaluate_bag(short_drive, Bright())
    found = results['robustness']
    assert found['strengths'] == [0, 1, 2, 3, 4, 5]
    assert tuple(found['corruptions']) == kinds
    assert results['frames'] == clean['frames']
    for protocols in found['corruptions'].values():
        for protocol, curve in protocols.items():
            expected = clean['protocols'][protocol]['macro']['abs_rel']
            assert curve['abs_rel'][0] == results['protocols'][protocol]['macro']['abs_rel']
            assert curve['abs_rel'][0] == expected
            assert len(set(curve['abs_rel'])) == 6
            assert curve['n_frames'][0] == clean['protocols'][protocol]['n_frames']


def test_the_command_knows_the_corruptions_there_are(short_drive, capsys):
    assert corruptions('all') == CORRUPTIONS
    assert corruptions('fog,rain,fog') == ('fog', 'rain')
    with pytest.raises(SystemExit) as stop:
        main(['evaluate', str(short_drive), '--out', 'out', '--corrupt', 'snow'])
    assert stop.value.code == 2
    assert "'snow' is no corruption" in capsys.readouterr().err


def test_requirements_decide_the_exit_code_after_all_is_written(
    short_drive, loaded_ramp, capsys, tmp_path
):
    call = ['evaluate', str(short_drive), '--out', str(tmp_path), '--limit', '1']
    assert main([*call, '--require', 'frames.metric>=1', '--require', 'heldout.abs_rel<9']) == 0
    assert capsys.readouterr().err == ''
    for name in ('report.html', 'results.json'):
        (tmp_path / name).unlink()
    unmet = ['--require', 'abs_rel<0', '--require', 'raw.rmse<1', '--require', 'frames.read>0']
    assert main([*call, *unmet]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith('requirement not met: abs_rel < 0; it is 0.')
    assert lines[1:] == ['requirement not met: raw.rmse < 1; it was not measured']
    assert (tmp_path / 'report.html').is_file()


def test_a_malformed_requirement_is_refused_before_any_work(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(['evaluate', 'none', '--out', str(tmp_path / 'out'), '--require', 'abs_rle<0.1'])
    assert stop.value.code == 2
    assert "did you mean 'abs_rel'" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def given(*options):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args(['images', '--out', 'out', *options])


def test_a_protocol_settles_steps_members_size_and_seed():
    config = PipelineConfig()
    plain, marigold = (
        given('--dataset', 'nyu'),
        given('--dataset', 'nyu', '--protocol', 'marigold'),
    )
    assert evaluate.predicted_as_published(plain, config) is config
    assert not evaluate.chosen_images(plain).protocol
    found = evaluate.predicted_as_published(marigold, config)
    settled = found.denoising_steps, found.ensemble_size, found.engine.merge
    assert settled == (50, 10, 'reference')
    assert evaluate.chosen_images(marigold).protocol.startswith('marigold: steps 50, members 10')
    with pytest.raises(UsageError, match='seed is set, and --protocol marigold settles it'):
        evaluate.predicted_as_published(marigold, replace(config, seed=3))
    with pytest.raises(UsageError, match='needs a --dataset of publications'):
        evaluate.predicted_as_published(given('--protocol', 'marigold'), config)
