# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A small drive adapts small networks: a whole folder or none, resumed to the byte, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
import shutil

from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig
from marigold_ros.errors import CalibrationError, ConfigurationError, InputError, MarigoldError
from marigold_ros.geometry.calibration.monitor import Calibration
from marigold_ros.models import load_model
from marigold_ros.models.fusion.load import fusion_of
from marigold_ros.models.locate import verify_sums, write_sums
from marigold_ros.models.metric_scale import MetricScale, write_metric_scale
from marigold_ros.synthetic.drive.drive import write_drive
from marigold_training.adapt import adaptation, judge, keep, recipes
from marigold_training.adapt.adaptation import Adaptation, AdaptOptions
from marigold_training.adapt.command import HOLD_LINES, MINUTES, run, span
from marigold_training.adapt.recipes import Budget
from marigold_training.data import bag_pairs
from marigold_training.families.registry import trained_family
from marigold_training.fusion import validation
from marigold_training.networks.export import write_checkpoint
from marigold_training.networks.initialise import initialise
import numpy as np
import pytest

FACTS = {'space': 'log', 'noise': 'zeros', 'default_processing_pixels': 32 * 48}
INIT = {
    'kind': 'small',
    'autoencoder': {'channels': [8, 8, 16, 16], 'latent_channels': 4},
    'unet': {'channels': [16, 32]},
}


@pytest.fixture(scope='module')
def precision():
    return 'bf16'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Folder with a drive of ten images and a base of the smallest networks."""
    folder = tmp_path_factory.mktemp('adapt')
    write_drive(folder / 'drive', frames=10, seed=3, width=96, height=64, rate=2.0)
    chain = initialise(INIT, 5, 'log')
    write_checkpoint(
        folder / 'base', chain.autoencoder, chain.unet, FACTS, scheduler=chain.scheduler
    )
    write_sums(folder / 'base')
    return folder


@pytest.fixture(autouse=True)
def _little_data(monkeypatch):
    few = {'SCENES': 2, 'LINE_EXAMPLES': 4, 'SCENE_EXAMPLES': 1, 'STOP_SCENES': 1}
    for name, count in {**few, 'ROWS': 2, 'VALIDATIONS': 1}.items():
        monkeypatch.setattr(recipes, name, count)
    # Compiling fusion networks takes longer than all the rest.
    monkeypatch.setattr(adaptation, 'load_fusion', lambda folder: None)
    monkeypatch.setattr(validation, 'SIZE', (64, 96))
    monkeypatch.setattr(keep, 'SCENES', 1)
    monkeypatch.setattr(keep, 'SHARES', (0.0, 0.5))


@pytest.fixture
def options(folder, tmp_path) -> AdaptOptions:
    bags = (str(folder / 'drive'),)
    return AdaptOptions(bags, str(folder / 'base'), tmp_path / 'robot', {}, steps=Budget(2, 1, 2))


@pytest.fixture
def _all_trained(monkeypatch):
    """Keep nothing of the initial weights: after a step or two either may be the better ones."""
    monkeypatch.setattr(keep, 'choose_kept', lambda *errors: 0.0)


@pytest.fixture
def new(accelerator) -> Callable[..., Adaptation]:
    return lambda options: Adaptation(options, accelerator, say=lambda line: None)


IMAGE = np.zeros((64, 96, 3), np.uint8)


def test_the_first_line_says_what_comes_beside_the_minutes(options, accelerator, tmp_path):
    lines: list[str] = []
    missing = replace(options, bags=(str(tmp_path / 'none'),), steps=None, minutes=3.0)
    with pytest.raises(MarigoldError, match='none'):
        Adaptation(missing, accelerator, say=lines.append).run(never)
    assert lines[0].startswith(
        'training is to take 3 min; reading the bags, rendering and drawing '
    )
    assert lines[0].endswith('come beside it, together often more than that')


def never() -> bool:
    return False


def after(calls: int) -> Callable[[], bool]:
    counted = iter(range(10**6))
    return lambda: next(counted) >= calls


@pytest.mark.parametrize('calls', [0, 1, 8])
def test_a_stop_before_training_is_obeyed_at_once(new, options, tmp_path, monkeypatch, calls):
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) >= calls)
        return asked[-1]

    assert new(replace(options, steps=None)).run(stop) is None
    assert asked.count(True) == 1
    assert not (tmp_path / 'robot.work/plan.json').exists()
    assert not options.out.exists()


def test_an_adaptation_that_still_runs_is_not_resumed_beside_itself(
    new, options, held_by_another, tmp_path
):
    held_by_another(tmp_path / 'robot.work')
    with pytest.raises(ConfigurationError, match='another process is writing to .*robot.work'):
        new(options).run(never)
    assert not (tmp_path / 'robot.work/plan.json').exists()


def test_a_stopped_adaptation_is_resumed_with_the_same_options_only(new, options, monkeypatch):
    assert new(options).run(after(3)) is None
    assert not options.out.exists()
    with pytest.raises(ConfigurationError, match='with other minutes'):
        new(replace(options, minutes=3.0)).run(never)
    monkeypatch.setattr(adaptation, 'fingerprint', lambda folders: 'changed')
    with pytest.raises(ConfigurationError, match='with other weights of the base'):
        new(options).run(never)


@pytest.mark.slow  # trains and judges
def test_the_result_is_a_model_with_its_fusion_network_and_what_is_not_better_is_not_in_it(
    new, options, folder
):
    proof = new(options).run(never)
    # Random networks, two steps: no better than the mean depth map.
    assert not proof.model_installed
    assert (options.out / 'proof.html').read_text().count('<img') == 9
    card = (options.out / 'README.md').read_text()
    assert 'the base is kept' in card
    assert 'one place, one moment' in card
    results = json.loads((options.out / 'results.json').read_text())
    assert results['installed']['model'] is False
    assert set(results['oracle']) == {'before', 'after', 'mean depth map'}
    assert set(results['fused']) == set(judge.SPLITS)
    for name in ('unet/diffusion_pytorch_model.safetensors', 'marigold_ros.json'):
        assert (options.out / name).read_bytes() == (folder / 'base' / name).read_bytes()
    model = load_model(str(options.out), 'cpu')
    assert fusion_of(model, 'auto').folder == (options.out / 'fusion').resolve()
    assert 'fusion/model.safetensors' in verify_sums(options.out)
    # An adapted model may be replaced by a new one.
    assert Adaptation(options, new(options).accelerator).base.folder == folder / 'base'


def test_a_folder_that_is_no_adapted_model_is_never_replaced(new, options):
    options.out.mkdir()
    (options.out / 'notes.txt').write_text('mine')
    with pytest.raises(ConfigurationError, match='is no adapted model'):
        new(options)


def test_a_bag_that_is_refused_leaves_no_folder_of_work(new, options, tmp_path):
    for topics, bag in (({'lidar': '/nope'}, options.bags[0]), ({}, str(tmp_path / 'nope'))):
        with pytest.raises(MarigoldError, match='nope'):
            new(replace(options, bags=(bag,), topics=topics)).run(never)
        assert not (tmp_path / 'robot.work').exists()


def test_bags_without_lidar_and_without_transforms_are_refused(new, options, folder, tmp_path):
    with BagWriter(tmp_path / 'empty') as bag:
        header = {'frame_id': 'camera', 'stamp': 10**18}
        image = {'height': 8, 'width': 8, 'encoding': 'mono8', 'is_bigendian': 0, 'step': 8}
        message = {'header': header, **image, 'data': bytes(64)}
        bag.write('/image', 'sensor_msgs/msg/Image', message, 10**18)
    with pytest.raises(InputError, match='no topic of LiDAR points'):
        new(replace(options, bags=(str(tmp_path / 'empty'),))).run(never)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('marigold_ros.bags.reader.BagReader.static_transforms', _no_transforms)
        with pytest.raises(InputError, match='has no image with depth .*transform'):
            new(replace(options, out=tmp_path / 'other')).run(never)


def test_bags_of_several_cameras_are_refused_before_anything_is_trained(
    new, options, folder, tmp_path
):
    write_drive(tmp_path / 'wide', frames=2, seed=3, width=128, height=64, rate=2.0)
    both = replace(options, bags=(*options.bags, str(tmp_path / 'wide')))
    with pytest.raises(InputError, match='images of several sizes; adapt to bags of one camera'):
        new(both).run(never)
    assert not (options.out.with_name('robot.work') / 'relative').exists()


def _no_transforms(reader: object) -> object:
    from marigold_ros.bags.transforms import TransformTree

    return TransformTree()


def test_a_miscalibrated_lidar_is_refused_with_its_error(new, options, monkeypatch):
    seen = []

    def found(images, config):
        seen.extend(K.shape for _, _, _, K in images)
        return Calibration({'yaw_deg': (1.4, 0.1), 'pitch_deg': (0.1, 0.1)}, 'turned')

    monkeypatch.setattr(judge, 'calibration_of_recording', found)
    with pytest.raises(CalibrationError, match=r'1\.4° to the right.*correct the transform'):
        new(options).run(never)
    assert seen == [(3, 3)] * 10


def test_scans_with_a_clock_of_their_own_are_refused_with_the_difference(
    new, options, monkeypatch
):
    monkeypatch.setattr(bag_pairs, 'LidarConfig', lambda: LidarConfig(time_offset=6.0))
    with pytest.raises(InputError, match=r'no image with depth .*\+6\.\d s away, at most'):
        new(options).run(never)


def test_a_full_disk_is_named_and_no_result_is_left(new, options, full_disk):
    words = 'could not be written .*free some space'
    with full_disk(2000), pytest.raises(MarigoldError, match=words):
        new(options).run(never)
    assert not options.out.exists()


@pytest.mark.slow  # trains and judges another family
@pytest.mark.usefixtures('_all_trained')
def test_a_base_of_any_family_that_can_be_trained_is_adapted(
    new, options, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(adaptation, 'judge_model', lambda *args: (True, []))
    family, facts = trained_family('unet'), {'space': 'log', 'default_processing_pixels': 32 * 48}
    init = {'kind': 'small', 'channels': [8, 16], 'blocks': [1]}
    chain = family.initialise({'init': init, 'facts': facts}, 0)
    family.export(tmp_path / 'plain', chain, facts, '')
    teacher = str(folder / 'base')
    taught = replace(options, base=str(tmp_path / 'plain'), metric=True, teacher=teacher)
    assert new(taught).run(never) is not None
    assert len([*tmp_path.glob('robot.work/data/labels/*/*.npy')]) == 5  # images to train on
    assert f'teacher: {teacher}' in (options.out / 'README.md').read_text()
    results = json.loads((options.out / 'results.json').read_text())
    assert set(results['unfitted']) == {'without LiDAR', 'mean depth map'}
    assert 'metric scale' in results['reasons'][-1]
    assert (options.out / 'metric_scale.json').is_file() == results['installed']['metric']
    model = load_model(str(options.out), 'cpu')
    assert model.description['family'] == 'unet'
    before = load_model(str(tmp_path / 'plain'), 'cpu').predict(IMAGE).relative
    assert np.ptp(before - model.predict(IMAGE).relative) > 0


@pytest.mark.slow  # trains and judges
@pytest.mark.usefixtures('_all_trained')
def test_a_base_with_a_metric_scale_is_judged_for_a_new_one(
    new, options, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(adaptation, 'judge_model', lambda *args: (True, []))
    shutil.copytree(folder / 'base', tmp_path / 'scaled')
    write_metric_scale(tmp_path / 'scaled', MetricScale('log', 3.0, 0.5, 1.0, 0.1, 80.0))
    proof = new(replace(options, base=str(tmp_path / 'scaled'))).run(never)
    assert proof.metric is not None
    assert proof.reasons[-1].startswith('metric scale: ')
    assert (options.out / 'metric_scale.json').is_file() == (proof.metric.scale is not None)


@pytest.fixture
def diffusion_depth(tmp_path) -> Path:
    """Return a small DiffusionDepth of random weights."""
    family = trained_family('diffusion_depth')
    facts = {'space': 'metric', 'max_depth': 80.0, 'default_processing_pixels': 32 * 48}
    width = {'features': 8, 'hidden': 8, 'latent': 8, 'steps': 2}
    init = {'kind': 'small', 'backbone': {'channels': [8, 16], 'blocks': [1]}, **width}
    chain = family.initialise({'init': init, 'facts': facts}, 0)
    family.export(tmp_path / 'refined', chain, facts, '')
    return tmp_path / 'refined'


@pytest.mark.slow  # trains and judges
@pytest.mark.usefixtures('_all_trained')
@pytest.mark.parametrize(
    ('family', 'better'),
    [
        ('diffusion_depth', True),
        ('depth_anything', True),
        ('metric depth_anything', True),
        ('depth_anything', False),
    ],
)
def test_metric_models_and_depth_anything_are_adapted_if_that_is_better(
    new, options, tmp_path, monkeypatch, request, family, better
):
    monkeypatch.setattr(adaptation, 'judge_model', lambda *args: (better, []))
    *metric, name = family.split()
    if name == 'diffusion_depth':
        base = request.getfixturevalue(name)
    else:
        kind = {'depth_estimation_type': 'metric', 'max_depth': 80} if metric else {}
        base = request.getfixturevalue(name)(**kind)
    proof = new(replace(options, base=str(base))).run(never)
    assert proof.own_metres == (family != 'depth_anything')
    assert {'model.safetensors', 'fusion/model.safetensors'} <= set(verify_sums(options.out))
    before = load_model(str(base), 'cpu').predict(IMAGE)
    after = load_model(str(options.out), 'cpu').predict(IMAGE)
    assert after.space == before.space
    assert (np.abs(after.relative - before.relative).max() > 0) == better


def test_a_base_that_cannot_be_trained_is_refused(new, options, folder, tmp_path):
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/config.json').write_text(json.dumps({'model_type': 'zoedepth'}))
    with pytest.raises(ConfigurationError, match='family zoedepth, which cannot be trained'):
        new(replace(options, base=str(tmp_path / 'other')))
    with pytest.raises(ConfigurationError, match='average of several models; adapt one of them'):
        new(replace(options, base=f'{folder / "base"}+tiny'))


def test_bases_that_do_not_predict_in_one_step_are_refused(new, options):
    with pytest.raises(ConfigurationError, match='one step from zeros'):
        new(replace(options, base='tiny-diffusion')).run(never)


def test_copies_of_defaults_agree():
    assert (HOLD_LINES, MINUTES) == (recipes.HOLD_LINES, recipes.MINUTES)
    assert span('0:14') == (0, 14)
    assert callable(run)
