# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Preparing Hypersim: planted planes come back planar, exposure as stated, resumed, refused."""

from __future__ import annotations

import csv
from pathlib import Path
import sys

import cv2
from marigold_ros.errors import ConfigurationError, InputError
from marigold_training.data.sources import open_source
from marigold_training.hypersim_frames import (
    FOCAL_PX,
    hdf5,
    to_millimetres,
    tone_map,
)
import numpy as np
import prepare_hypersim
import pytest

h5py = pytest.importorskip('h5py', reason='h5py is not installed')
HEIGHT, WIDTH = 48, 64
FOCAL = FOCAL_PX * WIDTH / 1024


def rays(height: int, width: int, focal: float) -> np.ndarray:
    """Directions (H, W, 3) of the pixels' rays with z = 1, by an explicit inverse of K."""
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    v, u = np.mgrid[:height, :width]
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).astype(float)
    return pixels @ np.linalg.inv(K).T


def plane(normal: tuple[float, float, float], offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth and distance (H, W) of the plane normal . X = offset."""
    directions = rays(HEIGHT, WIDTH, FOCAL)
    depth = offset / (directions @ np.array(normal))
    return depth, depth * np.linalg.norm(directions, axis=-1)


def put(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        file['dataset'] = array


def frame_files(raw: Path, scene: str, number: int, camera: str = 'cam_00') -> dict[str, Path]:
    images = raw / scene / 'images'
    geometry = images / f'scene_{camera}_geometry_hdf5'
    return {
        'light': images / f'scene_{camera}_final_hdf5' / f'frame.{number:04d}.color.hdf5',
        'distance': geometry / f'frame.{number:04d}.depth_meters.hdf5',
        'entity': geometry / f'frame.{number:04d}.render_entity_id.hdf5',
    }


DEPTH, DISTANCE = plane((0.1, -0.2, 1.0), 3.0)


def light_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).gamma(1.0, 2.0, (HEIGHT, WIDTH, 3)).astype(np.float16)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two training scenes with two frames each, one for testing, one frame that is not public."""
    folder = tmp_path / 'raw'
    rows = [
        ('ai_001_001', 'cam_00', 0, True, 'train'),
        ('ai_001_001', 'cam_00', 1, True, 'train'),
        ('ai_001_001', 'cam_00', 2, False, 'train'),
        ('ai_001_002', 'cam_00', 0, True, 'train'),
        ('ai_001_002', 'cam_01', 5, True, 'train'),
        ('ai_003_001', 'cam_00', 0, True, 'test'),
    ]
    entity = np.ones((HEIGHT, WIDTH), np.int32)
    entity[:4] = -1
    for scene, camera, number, public, _ in rows:
        if not public:
            continue
        files = frame_files(folder, scene, number, camera)
        put(files['light'], light_of(number))
        put(files['distance'], DISTANCE.astype(np.float32))
        put(files['entity'], entity)
    with (folder / prepare_hypersim.META).open('w', newline='') as file:
        writer = csv.writer(file)
        facts = ('included_in_public_release', 'exclude_reason', 'split_partition_name')
        writer.writerow(('scene_name', 'camera_name', 'frame_id', *facts))
        for scene, camera, number, public, split in rows:
            writer.writerow([scene, camera, number, public, '', split])
    return folder


def run(raw: Path, out: Path, *options: str) -> int:
    return prepare_hypersim.main([str(raw), str(out), '--splits', 'train', *options])


def test_the_90th_percentile_of_brightness_becomes_four_fifths():
    grey = np.random.default_rng(0).gamma(1.0, 40.0, (80, 100, 1)) * np.ones(3)
    valid = np.random.default_rng(1).random((80, 100)) < 0.5
    grey[~valid] *= 1000.0  # what shows no object does not decide the exposure
    shown = tone_map(grey, valid)[valid][:, 0]
    assert np.percentile(shown, 90) == pytest.approx(0.8 * 255, abs=1.0)


def test_exposure_ignores_light_level_and_applies_display_gamma():
    light = np.random.default_rng(0).uniform(0.01, 1.0, (40, 50, 3))
    valid = np.ones((40, 50), bool)
    assert np.abs(tone_map(light, valid).astype(int) - tone_map(2 * light, valid)).max() <= 1
    steps = np.tile(np.array([1.0, 0.5, 0.0])[None, :, None], (5, 30, 3))
    shown = tone_map(steps, np.ones((5, 90), bool))
    assert shown[0, 0, 0] == round(0.8 * 255)
    assert shown[0, 1, 0] == round(0.8 * 0.5 ** (1 / 2.2) * 255)
    assert shown[0, 2, 0] == 0


def test_black_images_stay_black_and_empty_ones_unscaled():
    assert not tone_map(np.zeros((4, 4, 3)), np.ones((4, 4), bool)).any()
    shown = tone_map(np.full((4, 4, 3), 0.5**2.2), np.zeros((4, 4), bool))
    assert (shown == 128).all()


def test_millimetres_are_rounded_and_never_wrap():
    depth = np.array([[1.2344, 1.2346, 65.535, 65.536, 70.0, np.nan, np.inf, 0.0, -1.0, 2.0]])
    valid = np.array([[True] * 9 + [False]])
    assert to_millimetres(depth, valid).tolist() == [[1234, 1235, 65535, 0, 0, 0, 0, 0, 0, 0]]


def test_prepared_frames_are_read_as_the_planted_plane(raw, tmp_path):
    out = tmp_path / 'out'
    assert run(raw, out) == 0
    assert not (out / 'test').exists()
    entry = {'kind': 'hypersim', 'size': [48, 64], 'folder': 'out/train'}
    listed = open_source({**entry, 'list': 'out/train/filename_list_train.txt'}, tmp_path)
    listed.prepare()
    assert listed.entries == open_source(entry, tmp_path).entries
    assert listed.entries[3] == (
        'ai_001_002/rgb_cam_01_fr0005.png',
        'ai_001_002/depth_plane_cam_01_fr0005.png',
    )
    pair = listed.read(3)
    assert np.isnan(pair.depth[:4]).all()
    np.testing.assert_allclose(pair.depth[4:], DEPTH[4:], atol=6e-4)
    bright = pair.rgb[4:] @ np.array([0.3, 0.59, 0.11])
    assert 190 < np.percentile(bright, 90) < 220


def test_the_table_has_a_row_per_frame(raw, tmp_path):
    run(raw, tmp_path / 'out')
    with (tmp_path / 'out/train/filename_meta_train.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert float(rows[0]['invalid_ratio']) == pytest.approx(4 / HEIGHT)
    path = tmp_path / 'out/train' / rows[0]['depth_path']
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 1000.0
    assert float(rows[0]['depth_mean']) == pytest.approx(depth.mean())
    assert float(rows[0]['depth_max']) == pytest.approx(depth.max())


def test_a_second_run_does_only_the_rest(raw, tmp_path, monkeypatch):
    assert run(raw, tmp_path / 'whole') == 0
    assert run(raw, tmp_path / 'out', '--scenes', 'ai_001_001') == 0
    asked = []
    prepare = prepare_hypersim.prepare_frame

    def noted(job, camera, number):
        asked.append((job.scene, camera, number))
        return prepare(job, camera, number)

    monkeypatch.setattr(prepare_hypersim, 'prepare_frame', noted)
    assert run(raw, tmp_path / 'out') == 0
    assert asked == [('ai_001_002', 'cam_00', 0), ('ai_001_002', 'cam_01', 5)]
    whole = {p.relative_to(tmp_path / 'whole'): p for p in (tmp_path / 'whole').rglob('*.*')}
    again = {p.relative_to(tmp_path / 'out'): p for p in (tmp_path / 'out').rglob('*.*')}
    assert set(whole) == set(again)
    for name, path in whole.items():
        assert path.is_dir() or path.read_bytes() == again[name].read_bytes(), name


def test_a_run_stopped_within_a_scene_says_so_and_resumes_cleanly(
    raw, tmp_path, monkeypatch, capsys
):
    prepare = prepare_hypersim.prepare_frame

    def stopped(job, camera, number):
        if (job.scene, camera) == ('ai_001_002', 'cam_01'):
            raise KeyboardInterrupt
        return prepare(job, camera, number)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_hypersim, 'prepare_frame', stopped)
        assert run(raw, tmp_path / 'out') == 130
    assert capsys.readouterr().err.endswith('\nstopped; the same command resumes\n')
    assert not (tmp_path / 'out/train/filename_list_train.txt').exists()
    assert run(raw, tmp_path / 'out') == 0
    lines = (tmp_path / 'out/train/filename_list_train.txt').read_text().splitlines()
    assert len(lines) == 4


BROKEN = {
    'missing': ('distance', lambda path: path.unlink(), 'is missing'),
    'truncated': (
        'light',
        lambda path: path.write_bytes(path.read_bytes()[:-4000]),
        'is cut off or damaged',
    ),
    'other data': ('entity', lambda path: put(path, np.ones((4, 4))), 'must have the same size'),
    'NaN': ('light', lambda path: put(path, np.full((HEIGHT, WIDTH, 3), np.nan)), 'holds NaN'),
    'wrong units': ('distance', lambda path: put(path, DISTANCE * 1000), 'check the unit'),
    'all zero': ('distance', lambda path: put(path, 0 * DISTANCE), 'has no depth'),
    'flat colour': ('light', lambda path: put(path, DISTANCE), 'must have 3 dimensions'),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_file_is_named_skipped_and_tried_again(raw, tmp_path, capsys, case):
    kind, corrupt, reason = BROKEN[case]
    path = frame_files(raw, 'ai_001_001', 1)[kind]
    whole = path.read_bytes()
    corrupt(path)
    for _ in range(2):
        assert run(raw, tmp_path / 'out') == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if 'broken:' in line]
        assert len(errors) == 1
        assert reason in errors[0]
        assert 'frame.0001' in errors[0]
        listed = (tmp_path / 'out/train/filename_list_train.txt').read_text().splitlines()
        assert len(listed) == 3
    path.write_bytes(whole)
    assert run(raw, tmp_path / 'out') == 0
    listed = (tmp_path / 'out/train/filename_list_train.txt').read_text().splitlines()
    assert len(listed) == 4


def test_a_frame_without_objects_is_in_the_table_only(raw, tmp_path):
    put(frame_files(raw, 'ai_001_001', 1)['entity'], np.full((HEIGHT, WIDTH), -1))
    assert run(raw, tmp_path / 'out') == 0
    folder = tmp_path / 'out/train'
    assert len((folder / 'filename_list_train.txt').read_text().splitlines()) == 3
    assert len((folder / 'filename_meta_train.csv').read_text().splitlines()) == 1 + 4


def test_a_scene_that_was_not_fetched_is_named_once(raw, tmp_path, capsys):
    (raw / 'ai_001_002').rename(raw / 'elsewhere')
    assert run(raw, tmp_path / 'out') == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if 'broken:' in line]
    assert len(errors) == 1
    assert 'ai_001_002 is missing with its 2 frames' in errors[0]


def test_two_processes_write_the_same_files(raw, tmp_path):
    assert run(raw, tmp_path / 'one') == 0
    jobs = prepare_hypersim.find_jobs(
        raw, tmp_path / 'two', raw / prepare_hypersim.META, ['train']
    )
    assert prepare_hypersim.prepare_split('train', jobs['train'], 2) == []
    names = ('filename_list_train.txt', 'filename_meta_train.csv')
    for name in names:
        one, two = (tmp_path / run / 'train' / name for run in ('one', 'two'))
        assert one.read_text() == two.read_text()


def test_splits_without_a_matching_scene_are_skipped(raw, tmp_path):
    table = raw / prepare_hypersim.META
    jobs = prepare_hypersim.find_jobs(raw, tmp_path, table, ['train', 'test'], 'ai_003_*')
    assert {split: [job.scene for job in found] for split, found in jobs.items()} == {
        'test': ['ai_003_001']
    }


def test_an_empty_split_and_an_invalid_table_are_refused(raw, tmp_path, capsys):
    assert run(raw, tmp_path / 'out', '--scenes', 'nothing*') == 1
    assert "split 'train' is empty" in capsys.readouterr().err
    with pytest.raises(InputError, match='cannot be read'):
        prepare_hypersim.find_jobs(raw, tmp_path, tmp_path / 'gone.csv')
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n')
    with pytest.raises(InputError, match='is not metadata_images'):
        prepare_hypersim.find_jobs(raw, tmp_path, tmp_path / 'other.csv')


def test_a_place_that_cannot_be_written_stops_with_the_reason(raw, tmp_path, capsys):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/train').write_text('a file in the way')
    assert run(raw, tmp_path / 'out') == 1
    assert 'could not be written' in capsys.readouterr().err


def test_without_h5py_the_remedy_is_named(raw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ConfigurationError, match='pip install h5py'):
        hdf5()
    jobs = prepare_hypersim.find_jobs(
        raw, tmp_path / 'out', raw / prepare_hypersim.META, ['train']
    )
    with pytest.raises(ConfigurationError, match='pip install h5py'):
        prepare_hypersim.prepare_split('train', jobs['train'])
    assert not (tmp_path / 'out').exists()
