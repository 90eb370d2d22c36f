# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sources: official layouts made small, planted depth comes back, every broken file is named."""

from __future__ import annotations

from pathlib import Path
import pickle
import tarfile

import cv2
from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_training.data import file_pairs
from marigold_training.data.sources import check_folders, open_source
from marigold_training.run.recipe import read_recipe
import numpy as np
import pytest
import yaml

RECIPES = Path(__file__).resolve().parents[3] / 'training' / 'recipes'


def write(path: Path, image: np.ndarray) -> None:
    """Write an image (RGB) or depth by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, image)
        return
    stored = image[..., ::-1] if image.ndim == 3 else image
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(stored))[1].tobytes())


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(height: int, width: int, low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, height * width).reshape(height, width).astype(np.float32)


def source(kind: str, data: Path, **keys: object) -> object:
    return open_source({'kind': kind, 'size': [16, 24], **keys}, data)


@pytest.fixture
def hypersim(tmp_path: Path) -> Path:
    """Four frames of two scenes in the prepared layout; returns the folder of data."""
    folder = tmp_path / 'hypersim' / 'train'
    lines = []
    frames = [(scene, frame) for scene in ('ai_001_001', 'ai_002_001') for frame in (0, 7)]
    for index, (scene, frame) in enumerate(frames):
        names = [f'{scene}/{kind}_cam_00_fr{frame:04d}.png' for kind in ('rgb', 'depth_plane')]
        write(folder / names[0], image(24, 32, index))
        write(folder / names[1], np.rint(ramp(24, 32, 0.0, 65.5) * 1000).astype(np.uint16))
        lines.append(' '.join(names))
    (tmp_path / 'list.txt').write_text('\n'.join(lines))  # as the official lists: no last newline
    return tmp_path


def test_hypersim_is_read_in_metres_with_zero_and_far_unknown(hypersim):
    pairs = source('hypersim', hypersim, folder='hypersim/train', list='list.txt')
    assert len(pairs) == 4
    pair = pairs.read(2)
    assert np.array_equal(pair.rgb, image(24, 32, 2))
    true = ramp(24, 32, 0.0, 65.5)
    known = (np.rint(true * 1000) > 0) & (true < 65.0)
    assert np.array_equal(np.isfinite(pair.depth), known)
    assert pair.depth.dtype == np.float32
    np.testing.assert_allclose(pair.depth[known], true[known], atol=6e-4)


@pytest.mark.parametrize('prefix', ['./', ''])
def test_a_tar_reads_as_its_folder_does(hypersim, prefix):
    with tarfile.open(hypersim / 'train.tar', 'w') as archive:
        archive.add(hypersim / 'hypersim' / 'train', arcname=prefix or '.')
    entries = [{'folder': 'train.tar'}, {'folder': 'train.tar', 'list': 'list.txt'}]
    folder = source('hypersim', hypersim, folder='hypersim/train')
    for entry in entries:
        tar = pickle.loads(pickle.dumps(source('hypersim', hypersim, **entry)))
        assert len(tar) == len(folder)
        for index in range(len(tar)):
            a, b = folder.read(index), tar.read(index)
            assert np.array_equal(a.rgb, b.rgb)
            assert np.array_equal(a.depth, b.depth, equal_nan=True)
        tar.prepare()


def test_a_compressed_and_a_cut_off_tar_are_refused(hypersim):
    with tarfile.open(hypersim / 'train.tar', 'w') as archive:
        archive.add(hypersim / 'hypersim' / 'train', arcname='.')
    whole = (hypersim / 'train.tar').read_bytes()
    # In the data of the second member, within the last header, and at its beginning.
    with tarfile.open(hypersim / 'train.tar') as archive:
        files = [member for member in archive if member.isfile()]
    cuts = [files[1].offset_data + 100, files[-1].offset + 100, files[-1].offset]
    for number, cut in enumerate(cuts):
        (hypersim / f'cut{number}.tar').write_bytes(whole[:cut])
    with tarfile.open(hypersim / 'train.tar.gz', 'w:gz') as archive:
        archive.add(hypersim / 'hypersim' / 'train', arcname='.')
    for name in ('cut0.tar', 'cut1.tar', 'cut2.tar', 'train.tar.gz'):
        with pytest.raises(InputError, match=f'{name}.*uncompressed tar'):
            source('hypersim', hypersim, folder=name)


@pytest.fixture
def vkitti(tmp_path: Path) -> Path:
    """One frame at its official size: depth is the column's number in cm, above it the sky."""
    scene = 'Scene01/clone/frames'
    rgb = np.zeros((375, 1242, 3), np.uint8)
    rgb[375 - 352 :, 13 : 13 + 1216] = 200
    depth = np.tile(np.arange(1242, dtype=np.uint16) * 10, (375, 1))
    depth[:200] = 65535
    write(tmp_path / f'vkitti/rgb/{scene}/rgb/Camera_0/rgb_00000.jpg', rgb)
    write(tmp_path / f'vkitti/depth/{scene}/depth/Camera_0/depth_00000.png', depth)
    return tmp_path


def test_virtual_kitti_is_cut_to_the_benchmark_and_read_in_cm(vkitti):
    pairs = source('vkitti', vkitti, folder='vkitti')
    pairs.prepare()
    pair = pairs.read(0)
    assert pair.rgb.shape == (352, 1216, 3)
    assert pair.rgb.min() > 180  # JPEG rings a little at the border
    sky, road = pair.depth[: 200 - 23], pair.depth[200 - 23 :]
    assert np.isposinf(sky).all()
    metres = (np.arange(1216) + 13) / 10.0
    known = metres < 80.0
    np.testing.assert_allclose(road[:, known], np.tile(metres[known], (len(road), 1)), rtol=1e-6)
    assert np.isnan(road[:, ~known]).all()


def test_virtual_kitti_uncropped_follows_an_official_list(vkitti):
    scene = 'Scene01/clone/frames'
    line = f'rgb/{scene}/rgb/Camera_0/rgb_00000.jpg depth/{scene}/depth/Camera_0/depth_00000.png\n'
    (vkitti / 'train.txt').write_text(line)
    pairs = source('vkitti', vkitti, folder='vkitti', list='train.txt', crop=False)
    assert pairs.read(0).depth.shape == (375, 1242)


class Names:
    """A folder of which only the names exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        frames = {'Scene01': 447, 'Scene02': 233, 'Scene06': 270, 'Scene18': 339, 'Scene20': 837}
        weather = ('clone', 'fog', 'morning', 'overcast', 'rain', 'sunset')
        turns = [f'{angle}-deg-{side}' for angle in (15, 30) for side in ('left', 'right')]
        self.names = tuple(
            f'{kind}/{scene}/{condition}/frames/{kind}/Camera_{camera}/{kind}_{i:05d}.{ending}'
            for scene, count in frames.items()
            for condition in (*weather, *turns)
            for camera in (0, 1)
            for i in range(count)
            for kind, ending in (('rgb', 'jpg'), ('depth', 'png'))
        )


def published(recipe: str, kind: str) -> dict[str, object]:
    path = Path(__file__).parents[3] / 'training' / 'recipes' / recipe
    entries = yaml.safe_load(path.read_text())['sources']
    return next(dict(entry) for entry in entries if entry['kind'] == kind)


@pytest.mark.parametrize('recipe', ['marigold_v1_0.yaml', 'marigold_v1_1.yaml'])
def test_the_published_training_set_is_20148_of_all_frames(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr('marigold_training.data.file_pairs.open_storage', Names)
    entry = published(recipe, 'vkitti')
    pairs = open_source(entry, tmp_path)
    assert len(pairs) == entry['count'] == 20148
    assert not any('Scene01' in name or 'rain' in name for name, _ in pairs.entries)
    with pytest.raises(InputError, match='has 42520 pairs and count of the recipe is 20148'):
        open_source({**entry, 'scenes': None, 'conditions': None}, tmp_path)


def test_end_to_end_fine_tuning_uses_five_conditions_of_all_scenes(monkeypatch, tmp_path):
    monkeypatch.setattr('marigold_training.data.file_pairs.open_storage', Names)
    pairs = open_source(published('e2e.yaml', 'vkitti'), tmp_path)
    assert len(pairs) == 2 * 5 * (447 + 233 + 270 + 339 + 837)
    assert {name.split('/')[2] for name, _ in pairs.entries} == {
        'morning',
        'fog',
        'rain',
        'sunset',
        'overcast',
    }


@pytest.mark.parametrize('lines', [53885, 53884])
def test_a_list_that_is_short_by_a_line_is_refused(tmp_path, lines):
    entry = published('marigold_v1_0.yaml', 'hypersim')
    (tmp_path / 'hypersim' / 'train').mkdir(parents=True)
    text = '\n'.join(f'a/rgb_{i}.png a/depth_{i}.png' for i in range(lines))
    (tmp_path / entry['list']).write_text(text)
    if lines == entry['count']:
        assert len(open_source(entry, tmp_path)) == 53885
        return
    with pytest.raises(InputError, match='53884 pairs and count .* 53885; complete'):
        open_source(entry, tmp_path)


def test_a_list_and_scenes_are_one_too_many(vkitti):
    (vkitti / 'train.txt').write_text('a b\n')
    with pytest.raises(ConfigurationError, match='leave scenes and conditions out'):
        source('vkitti', vkitti, folder='vkitti', list='train.txt', scenes=['Scene01'])


def test_virtual_kitti_smaller_than_the_crop_is_named(tmp_path):
    scene = 'Scene01/clone/frames'
    write(tmp_path / f'rgb/{scene}/rgb/Camera_0/rgb_00000.jpg', image(100, 200))
    write(tmp_path / f'depth/{scene}/depth/Camera_0/depth_00000.png', mm(100, 200, 900))
    with pytest.raises(InputError, match=r'rgb_00000.jpg is 100x200, smaller than the 352x1216'):
        source('vkitti', tmp_path, folder='.').prepare()


@pytest.mark.parametrize('ending', ['.png', '.npy', '.tiff'])
def test_a_folder_gives_metres_from_each_format(tmp_path, ending):
    true = ramp(20, 30, 0.5, 9.0)
    stored = np.rint(true * 256).astype(np.uint16) if ending == '.png' else true
    write(tmp_path / 'set/images/a.jpg', image(20, 30))
    write(tmp_path / f'set/depths/a{ending}', stored)
    pairs = source('folder', tmp_path, folder='set', depth_scale=256, max_depth=8.0)
    pairs.prepare()
    depth = pairs.read(0).depth
    assert np.isnan(depth[true > 8.01]).all()
    near = true < 7.99
    np.testing.assert_allclose(depth[near], true[near], atol=0.5 / 256 + 1e-6)


def test_infinite_depth_is_sky_only_if_the_recipe_says_so(tmp_path):
    depth = ramp(8, 8, 1.0, 5.0)
    depth[0] = np.inf
    write(tmp_path / 'images/a.png', image(8, 8))
    write(tmp_path / 'depths/a.npy', depth)
    assert np.isnan(source('folder', tmp_path, folder='.').read(0).depth[0]).all()
    with_sky = source('folder', tmp_path, folder='.', sky_above=float('inf')).read(0).depth
    assert np.isposinf(with_sky[0]).all()
    assert np.array_equal(with_sky[1:], depth[1:])


def test_caches_of_another_rule_for_saturated_values_are_not_read(tmp_path, monkeypatch):
    write(tmp_path / 'images/a.png', image(8, 8))
    write(tmp_path / 'depths/a.npy', ramp(8, 8, 1.0, 5.0))
    pairs = source('folder', tmp_path, folder='.')
    before = pairs.fingerprint()
    monkeypatch.setattr(file_pairs, 'SATURATED', 65536)
    assert pairs.fingerprint() != before


@pytest.mark.parametrize(('sky_above', 'expected'), [(None, np.nan), (70, np.nan), (60, np.inf)])
def test_a_saturated_value_is_sky_if_the_recipe_says_so_and_else_unknown(
    tmp_path, sky_above, expected
):
    write(tmp_path / 'images/a.png', image(8, 8))
    write(tmp_path / 'depths/a.png', np.array([[65535, 50000] * 4] * 8, np.uint16))
    depth = source('folder', tmp_path, folder='.', sky_above=sky_above).read(0).depth
    np.testing.assert_array_equal(depth[:, :2], [[expected, 50.0]] * 8)


def test_images_in_folders_of_their_own_are_matched_by_folder(tmp_path):
    for index, name in enumerate(('desk', 'sofa')):
        write(tmp_path / name / ('image.png' if index else 'image.jpg'), image(16, 24, index))
        write(tmp_path / name / 'depth_mm.png', np.full((16, 24), 1000 + index, np.uint16))
        (tmp_path / name / 'camera.json').write_text('{}')
    pairs = source('folder', tmp_path, folder='.', images='*/image.*', depths='*/depth_mm.png')
    assert [entry[0] for entry in pairs.entries] == ['desk/image.jpg', 'sofa/image.png']
    assert pairs.read(1).depth[0, 0] == pytest.approx(1.001)


def test_the_real_samples_are_read_through_the_folder_kind(shared_data):
    keys = {'images': '*/image.png', 'depths': '*/depth_mm.png', 'max_depth': 40.0}
    pairs = source('folder', shared_data.parent, folder='data', **keys)
    found = {entry[0].split('/')[0] for entry in pairs.entries}
    assert found >= {'nyu_a', 'nyu_b', 'kinect_a', 'kinect_b'}
    assert 0.3 < np.nanmedian(pairs.read(0).depth) < 10.0
    assert all(pairs.check(index) == [] for index in range(len(pairs)))


BROKEN = {
    'missing image': ('rgb', lambda path: path.unlink(), 'is missing'),
    'missing depth': ('depth', lambda path: path.unlink(), 'is missing'),
    'empty image': ('rgb', lambda path: path.write_bytes(b''), 'cut off after 0 bytes'),
    'truncated image': ('rgb', lambda path: halve(path), 'is cut off after'),
    'truncated depth': ('depth', lambda path: halve(path), 'is cut off after'),
    'damaged depth': ('depth', lambda path: corrupt(path), 'is damaged'),
    'no image': ('rgb', lambda path: path.write_bytes(b'<html>' * 9), 'damaged or not an image'),
    'another size': ('depth', lambda path: write(path, mm(24, 30, 3000)), 'is 24x30 and its im'),
    '8 bit depth': ('depth', lambda path: write(path, image(24, 32)[..., 0]), 'holds uint8'),
    'colour depth': ('depth', lambda path: write(path, image(24, 32)), 'depth is \\(H, W\\)'),
    'all zero': ('depth', lambda path: write(path, mm(24, 32, 0)), 'has no depth'),
    'metres for mm': ('depth', lambda path: write(path, mm(24, 32, 3)), 'median of 0.003 m.*unit'),
}


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def mm(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width), value, np.uint16)


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_file_is_named_with_its_reason(hypersim, case):
    which, corrupted, reason = BROKEN[case]
    pairs = source('hypersim', hypersim, folder='hypersim/train', list='list.txt')
    path = hypersim / 'hypersim/train' / pairs.entries[1][which == 'depth']
    corrupted(path)
    with pytest.raises(InputError, match=f'1 problem;.*\n.*{reason}') as caught:
        pairs.prepare()
    assert path.name in str(caught.value)
    assert not (hypersim / 'verified').exists()


def test_depth_that_is_nan_only_or_in_mm_is_named(tmp_path):
    for name, depth in (
        ('good', ramp(8, 8, 1.0, 5.0)),
        ('nan', np.full((8, 8), np.nan, np.float32)),
        ('far', ramp(8, 8, 1e4, 2e4)),
        ('cut', ramp(8, 8, 1.0, 2.0)),
        ('near', ramp(8, 8, 0.2, 0.4)),
    ):
        write(tmp_path / f'images/{name}.png', image(8, 8))
        write(tmp_path / f'depths/{name}.npy', depth)
    halve(tmp_path / 'depths/cut.npy')
    with pytest.raises(InputError) as caught:
        source('folder', tmp_path, folder='.', min_depth=0.5).prepare()
    text = str(caught.value)
    assert '4 problems' in text
    assert 'near.npy has no depth between 0.5 and 100 m' in text
    assert 'nan.npy is NaN everywhere' in text
    assert 'far.npy has a median of 1.5e+04 m, beyond ten times' in text
    assert 'cut.npy is cut off' in text
    assert 'good' not in text


def test_all_broken_files_are_counted_and_twenty_named(tmp_path):
    for index in range(23):
        write(tmp_path / f'images/{index:02d}.png', image(4, 4))
        write(tmp_path / f'depths/{index:02d}.png', mm(4, 4, 0))
    write(tmp_path / 'images/lonely.png', image(4, 4))
    with pytest.raises(InputError, match='24 problems') as caught:
        source('folder', tmp_path, folder='.').prepare()
    assert str(caught.value).count('has no depth') == 20
    assert 'lonely.png has no depth' in str(caught.value)
    assert str(caught.value).endswith('and 4 more')


def test_verified_files_are_read_again_only_after_a_change(hypersim, monkeypatch):
    pairs = source('hypersim', hypersim, folder='hypersim/train', list='list.txt')
    pairs.prepare()
    again = source('hypersim', hypersim, folder='hypersim/train', list='list.txt')
    with monkeypatch.context() as patch:
        patch.setattr(again, 'check', lambda index: pytest.fail('read again'))
        again.prepare()
    path = hypersim / 'hypersim/train' / pairs.entries[3][1]
    write(path, mm(24, 32, 0))
    with pytest.raises(InputError, match=path.name):
        again.prepare()


def test_a_stamp_that_cannot_be_written_is_an_error(hypersim):
    (hypersim / 'verified').write_text('a file in the way')
    with pytest.raises(MarigoldError, match='could not be written'):
        source('hypersim', hypersim, folder='hypersim/train').prepare()


@pytest.mark.parametrize(
    ('text', 'reason'),
    [('', 'is empty'), ('\n \n', 'is empty'), ('a.png b.png\nc.png\n', "line 2 is 'c.png'")],
)
def test_a_list_without_pairs_is_refused(hypersim, text, reason):
    (hypersim / 'list.txt').write_text(text)
    with pytest.raises(InputError, match=reason):
        source('hypersim', hypersim, folder='hypersim/train', list='list.txt')


def test_an_empty_or_missing_folder_or_list_is_refused(tmp_path):
    with pytest.raises(InputError, match='neither a folder nor a .tar'):
        source('hypersim', tmp_path, folder='nowhere')
    with pytest.raises(InputError, match="no files like 'rgb/"):
        source('vkitti', tmp_path, folder='.')
    with pytest.raises(InputError, match='list .*gone.txt cannot be read'):
        source('hypersim', tmp_path, folder='.', list='gone.txt')
    write(tmp_path / 'depths' / '0.png', mm(24, 32, 2000))
    with pytest.raises(InputError, match='check the folder, images and depths'):
        source('folder', tmp_path, folder='.')  # a pattern that no image matches


@pytest.mark.parametrize(
    ('keys', 'reason'),
    [
        ({'depth_scale': 0}, 'depth_scale is 0'),
        ({'min_depth': 5.0, 'max_depth': 2.0}, 'min below max'),
        ({'sky_above': -1.0}, 'sky_above is -1'),
        ({'depth_scal': 256}, 'depth_scal'),
        ({'images': 'images/a.png'}, 'same number'),
        ({'images': ['*.png']}, 'a value of a wrong type in'),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(hypersim, keys, reason):
    with pytest.raises(ConfigurationError, match=reason):
        source('folder', hypersim, folder='hypersim/train', **keys)


def test_all_missing_folders_of_a_recipe_are_named_at_once_with_their_sites(tmp_path):
    recipe = read_recipe(RECIPES / 'marigold_v1_1.yaml')
    (tmp_path / 'there').mkdir()
    recipe['sources'].append({'kind': 'folder', 'folder': 'there', 'size': [8, 8]})
    with pytest.raises(ConfigurationError) as error:
        check_folders(recipe, tmp_path)
    for words in ('hypersim/train', 'prepare_hypersim.py', 'vkitti (Virtual KITTI 2'):
        assert words in str(error.value)
    assert 'there' not in str(error.value).replace('Put them there', '')


def test_a_list_may_begin_with_the_mark_that_windows_writes(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_text('./a/x.png b/x.png\r\n', encoding='utf-8-sig')
    assert file_pairs.read_list(path) == [('a/x.png', 'b/x.png')]
