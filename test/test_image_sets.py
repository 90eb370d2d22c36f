# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Benchmarks in their official layouts, very small, and folders of images with depth."""

from dataclasses import replace
import hashlib
from html import unescape
from io import BytesIO
import json
import re
import tarfile

import cv2
from marigold_ros.__main__ import main
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction
from marigold_ros.image_sets import image_set
from marigold_ros.image_sets.decode import decode_depth_file, decode_image_file
from marigold_ros.image_sets.image_set import ImageChoice, ImageSet
from marigold_ros.image_sets.layouts import FOLDER, LAYOUTS
from marigold_ros.image_sets.listing import match
from marigold_ros.image_sets.storage import Tar
from marigold_ros.whole_files import sha256
import numpy as np
from PIL import Image
import pytest

RGB = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
DEPTH = np.linspace(1.0, 9.0, 48, dtype=np.float32).reshape(6, 8)
NAMES = {
    'nyu': ('test/a/rgb_0001.png', 'test/a/depth_0001.png', 'test/a/filled_0001.png'),
    'kitti': ('day/drive/image_02/data/7.png', 'drive/groundtruth/7.png', '721.5377'),
    'eth3d': ('rgb/office/images/1.png', 'depth/office/ground_truth_depth/1.JPG'),
    'scannet': ('scene_0/color/000300.jpg', 'scene_0/depth/000300.png'),
    'diode': ('indoors/s/1.png', 'indoors/s/1_depth.npy', 'indoors/s/1_depth_mask.npy'),
}


def save(path, array, scale=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, array)
    elif array.ndim == 3:
        assert cv2.imwrite(str(path), array[..., ::-1])
    else:
        assert cv2.imwrite(str(path), np.round(array * scale).astype(np.uint16))


def official(folder, name, depth=DEPTH, rgb=RGB):
    """Write one image as the benchmark does, and its list."""
    data = folder / name
    files = NAMES[name]
    save(data / files[0], rgb)
    if name == 'eth3d':
        path = data / files[1]
        path.parent.mkdir(parents=True)
        path.write_bytes(np.where(np.isnan(depth), np.inf, depth).astype('<f4').tobytes())
    elif name == 'diode':
        save(data / files[1], depth[..., None])
        save(data / files[2], np.isfinite(depth).astype(np.float32))
    else:
        save(data / files[1], np.nan_to_num(depth), 256 if name == 'kitti' else 1000)
    split = folder / f'{name}.txt'
    split.write_text(' '.join(files) + '\n')
    return data, str(split)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.fixture(autouse=True)
def small_layouts(monkeypatch):
    """The sizes that layouts fix are too large for a test."""
    small = {
        'eth3d': replace(LAYOUTS['eth3d'], raw_size=(6, 8)),
        'kitti': replace(LAYOUTS['kitti'], crop=(4, 6)),
    }
    monkeypatch.setattr(image_set, 'LAYOUTS', {**LAYOUTS, **small})


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('tar', [False, True])
def test_each_benchmark_is_decoded_to_metres(tmp_path, name, tar):
    depth = DEPTH.copy()
    depth[3, 3] = np.nan
    data, split = official(tmp_path, name, depth)
    if tar:
        with tarfile.open(tmp_path / 'set.tar', 'w') as archive:
            archive.add(data, '.')
        data = tmp_path / 'set.tar'
    images = ImageSet(data, ImageChoice(name, split))
    (item,) = images.frames()
    cut = np.s_[2:6, 1:7] if name == 'kitti' else np.s_[:, :]
    assert item.error is None
    assert item.frame.camera is None
    assert item.frame.points_lidar is None
    if name != 'scannet':  # whose images are JPEG
        np.testing.assert_array_equal(item.frame.rgb, RGB[cut])
    np.testing.assert_allclose(item.truth, depth[cut], atol=1 / 512)
    assert item.truth.dtype == np.float32
    assert images.by_role['dataset'] == name


def test_arrays_of_either_byte_order_are_depth_and_signed_ones_are_not():
    found = {}
    for kind in ('<u2', '>u2', '>f4', '<i2'):
        file = BytesIO()
        np.save(file, np.array([[7, 300]], kind))
        found[kind] = file.getvalue()
    signed = found.pop('<i2')
    for data in found.values():
        for name in ('a.npy', 'A.NPY'):
            assert decode_depth_file(data, name).tolist() == [[7, 300]]
    with pytest.raises(InputError, match='holds int16; depth must be unsigned'):
        decode_depth_file(signed, 'a.npy')


def test_an_exr_that_cannot_be_read_is_led_to_formats_that_can():
    with pytest.raises(InputError, match=r'convert it to .npy or float TIFF'):
        decode_depth_file(b'no exr', 'a.EXR')


def test_a_jpeg_that_is_cut_off_is_not_whole_by_the_end_of_its_thumbnail():
    photo = cv2.imencode('.jpg', RGB.repeat(8, 0).repeat(8, 1))[1].tobytes()
    head = b'\xff\xe1' + (2 + len(photo)).to_bytes(2, 'big') + photo
    whole = photo[:2] + head + photo[2:]
    assert decode_image_file(whole + b'more', 'a.jpg').shape == (48, 64, 3)
    with pytest.raises(InputError, match='a.jpg is cut off after'):
        decode_image_file(whole[:-99], 'a.jpg')


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_and_depth_stay_as_they_are_stored(form, orientation):
    steps = np.repeat(np.arange(0, 240, 40, dtype=np.uint8), 8)
    rgb = steps[:, None, None] + np.zeros((48, 64, 3), np.uint8) + RGB[0, :, 0].repeat(8)[:, None]
    exif, file = Image.Exif(), BytesIO()
    exif[274] = orientation
    Image.fromarray(rgb).save(file, form, exif=exif)
    decoded = decode_image_file(file.getvalue(), 'a').astype(int)
    assert np.abs(decoded - rgb).max() < 12  # JPEG and WebP lose some
    if form in ('PNG', 'TIFF'):
        depth, file = (DEPTH * 1000).astype(np.uint16), BytesIO()
        Image.fromarray(depth).save(file, form, exif=exif)
        np.testing.assert_array_equal(decode_depth_file(file.getvalue(), 'a'), depth)


@pytest.mark.parametrize('bits', [7, 8, 12, 16])
def test_of_16_bit_colours_those_count_that_the_image_uses(bits):
    rgb = np.kron(RGB, np.ones((2, 2, 1), np.uint8)) | 0x80
    if bits == 7:  # a dark image is not made brighter
        rgb, bits = rgb & 0x7F, 8
    data = cv2.imencode('.png', rgb[..., ::-1].astype(np.uint16) << (bits - 8))[1].tobytes()
    np.testing.assert_array_equal(decode_image_file(data, 'a.png'), rgb)


def test_colours_of_floating_point_are_refused():
    data = cv2.imencode('.pfm', RGB.astype(np.float32) / 255)[1].tobytes()
    with pytest.raises(InputError, match=r'a.pfm holds float32 values, and a photo has 8 or 16'):
        decode_image_file(data, 'a.pfm')


def test_a_list_may_begin_with_the_mark_that_windows_writes(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_text('a/x.png b/x.png\r\n', encoding='utf-8-sig')
    found = ImageSet(tmp_path, ImageChoice('nyu', str(path)))
    assert found.entries == [('a/x.png', 'b/x.png')]


@pytest.mark.parametrize(
    'shape', ['(10**12, 2)', '(1000000000000, 2)', f'({"9" * 40},)', '(2,\n(3,']
)
def test_an_array_whose_header_is_false_is_refused(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    data = b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header
    with pytest.raises(InputError, match='is cut off or not an .npy file'):
        decode_depth_file(data, 'a.npy')


@pytest.mark.parametrize('states', ['1099511627776', '9' * 18, '9' * 30])
def test_a_tar_whose_member_states_more_than_there_is_is_refused(tmp_path, states):
    member = tarfile.TarInfo('a.png')
    member.size = 512
    sparse = {'size': states, 'numblocks': '1', 'map': '0,512'}
    member.pax_headers = {f'GNU.sparse.{name}': text for name, text in sparse.items()}
    with tarfile.open(tmp_path / 'set.tar', 'w', format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, BytesIO(bytes(512)))
    with pytest.raises(InputError, match='cannot be read as an uncompressed tar'):
        Tar(tmp_path / 'set.tar')


def test_a_tar_that_is_cut_off_at_a_header_is_refused(tmp_path):
    with tarfile.open(tmp_path / 'set.tar', 'w') as archive:
        for name in ('a.png', 'b.png'):
            member = tarfile.TarInfo(name)
            member.size = 512
            archive.addfile(member, BytesIO(bytes(512)))
    whole = (tmp_path / 'set.tar').read_bytes()
    for end in (1024, 2 * 1024):  # after the first member, and without the end mark
        (tmp_path / 'cut.tar').write_bytes(whole[:end])
        with pytest.raises(InputError, match=f'no end mark at byte {end}'):
            Tar(tmp_path / 'cut.tar')


@pytest.mark.parametrize(
    ('name', 'low', 'high'),
    [('nyu', 1e-3, 10), ('kitti', 1e-5, 80), ('scannet', 1e-3, 10), ('eth3d', 1e-5, np.inf)],
)
def test_depth_counts_within_the_range_of_the_data_set(tmp_path, name, low, high):
    depth = DEPTH.copy()
    depth[4, 2:6] = [0.0, 9.9, 10.0, 85.0]
    data, split = official(tmp_path, name, depth)
    (item,) = ImageSet(data, ImageChoice(name, split)).frames()
    row = item.truth[2, 1:5] if name == 'kitti' else item.truth[4, 2:6]
    expected = [low < metres < high for metres in (0.0, 9.9, 10.0, 85.0)]
    assert np.isfinite(row).tolist() == expected


def test_a_saturated_value_is_unknown(tmp_path):
    save(tmp_path / 'one' / 'image.png', RGB)
    depth = np.where(DEPTH > 5, 65.535, 65.534)
    save(tmp_path / 'one' / 'depth_mm.png', depth, 1000)
    (item,) = ImageSet(tmp_path, ImageChoice(FOLDER)).frames()
    np.testing.assert_array_equal(np.isnan(item.truth), DEPTH > 5)


def test_files_of_floating_point_hold_metres_whatever_the_scale(tmp_path):
    save(tmp_path / 'a.png', RGB)
    save(tmp_path / 'a.npy', DEPTH)
    (item,) = ImageSet(tmp_path, ImageChoice(FOLDER, '', '*.png', '*.npy', 256.0)).frames()
    np.testing.assert_array_equal(item.truth, DEPTH)


def test_diode_goes_by_its_mask_alone(tmp_path):
    depth = np.full((6, 8), 0.1, np.float32)
    depth[0] = np.nan
    data, split = official(tmp_path, 'diode', depth)
    (item,) = ImageSet(data, ImageChoice('diode', split)).frames()
    assert np.isnan(item.truth[0]).all()
    assert (item.truth[1:] == np.float32(0.1)).all()


def test_kitti_images_without_depth_are_passed_over(tmp_path):
    data, split = official(tmp_path, 'kitti')
    with open(split, 'a') as file:
        file.write('\nsome/image.png None 721.5377\n')
    assert len(ImageSet(data, ImageChoice('kitti', split))) == 1


@pytest.mark.parametrize('cut', [np.s_[:3], np.s_[:, :5]])
def test_an_image_smaller_than_the_crop_is_refused(tmp_path, cut):
    data, split = official(tmp_path, 'kitti', DEPTH[cut], RGB[cut])
    (item,) = ImageSet(data, ImageChoice('kitti', split)).frames()
    assert 'smaller than the crop of 6x4 px' in str(item.error)


def test_the_layouts_of_the_benchmarks_have_their_sizes():
    assert LAYOUTS['kitti'].crop == (352, 1216)
    assert LAYOUTS['eth3d'].raw_size == (4032, 6048)


@pytest.mark.parametrize(
    ('name', 'damage', 'sentence'),
    [
        ('nyu', lambda data: (data / NAMES['nyu'][1]).unlink(), 'is missing'),
        ('eth3d', lambda data: (data / NAMES['eth3d'][1]).write_bytes(b'12'), 'has 2 bytes'),
        ('nyu', lambda data: cut_off(data / NAMES['nyu'][0]), 'cut off'),
        ('kitti', lambda data: save(data / NAMES['kitti'][0], RGB[:3]), 'registered'),
        ('kitti', lambda data: save(data / NAMES['kitti'][0], RGB[:, :7]), 'registered'),
        ('diode', lambda data: save(data / NAMES['diode'][2], DEPTH[:2]), 'a mask has a value'),
        ('scannet', lambda data: save(data / NAMES['scannet'][1], RGB), 'depth is (H, W)'),
    ],
)
def test_a_broken_file_is_one_error_of_its_image(tmp_path, name, damage, sentence):
    data, split = official(tmp_path, name)
    damage(data)
    (item,) = ImageSet(data, ImageChoice(name, split)).frames()
    assert item.frame is None
    assert sentence in str(item.error)


class Knowing:
    """Answers with the ramp that is the truth, up to scale and shift."""

    description = {'name': 'knowing', 'path': '/nowhere', 'space': 'depth'}

    def predict(self, rgb, **options):
        return Prediction(np.linspace(0, 1, rgb[..., 0].size).reshape(rgb.shape[:2]))


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: Knowing())

    def run(*arguments):
        code = main(['evaluate', *map(str, arguments), '--out', str(tmp_path / 'out')])
        return code, capsys.readouterr()

    return run


def test_a_benchmark_is_scored_by_the_command(evaluate, tmp_path):
    data, split = official(tmp_path, 'scannet')
    code, printed = evaluate(data, '--dataset', 'scannet', '--split', split)
    assert code == 0, printed.err
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert list(results['protocols']) == ['oracle']
    assert results['protocols']['oracle']['macro']['abs_rel'] < 1e-3
    assert results['provenance']['topics'] == {'dataset': 'scannet', 'list': 'scannet.txt'}
    (described,) = results['provenance']['bags']
    assert described['name'] == 'scannet'
    assert len(described['sha256']) == 64


@pytest.mark.parametrize(('name', 'size'), [('nyu', (480, 640)), ('kitti', (375, 1242))])
def test_the_rule_of_publications_goes_with_the_data_set(
    evaluate, monkeypatch, tmp_path, name, size
):
    monkeypatch.setattr(image_set, 'LAYOUTS', LAYOUTS)
    ramp = np.linspace(1.0, 9.0, size[0] * size[1], dtype=np.float32).reshape(size)
    data, split = official(tmp_path, name, ramp, np.zeros((*size, 3), np.uint8))
    code, printed = evaluate(data, '--dataset', name, '--split', split)
    assert code == 0, printed.err
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['provenance']['scoring']['oracle']['rule'] == f'marigold-{name}'
    rows = {'nyu': range(45, 471), 'kitti': range(int(0.3324324 * 352), int(0.91351351 * 352))}
    columns = {'nyu': 560, 'kitti': int(0.96405229 * 1216) - int(0.0359477 * 1216)}
    scored = results['protocols']['oracle']['n_points']
    assert scored == len(rows[name]) * columns[name]


def test_a_folder_of_images_is_scored_by_patterns(evaluate, tmp_path):
    for name in ('one', 'two'):
        save(tmp_path / 'set' / name / 'image.png', RGB)
        save(tmp_path / 'set' / name / 'depth_mm.png', DEPTH, 1000)
    save(tmp_path / 'set' / 'three' / 'image.png', RGB)  # has no depth
    code, _ = evaluate(tmp_path / 'set', '--dataset', 'folder')
    assert code == 0
    frames = json.loads((tmp_path / 'out' / 'results.json').read_text())['frames']
    assert (frames['read'], frames['processed'], frames['rejected']) == (3, 2, {'missing': 1})
    for name in ('one', 'two'):
        save(tmp_path / 'other' / f'{name}.png', RGB)
        save(tmp_path / 'other' / f'{name}-d.png', DEPTH, 256)
    patterns = ['--images', '*.png', '--depths', '*-d.png', '--depth-scale', '256']
    code, printed = evaluate(tmp_path / 'other', '--dataset', 'folder', *patterns)
    assert code == 0, printed.err
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['frames']['processed'] == 2


def test_the_hash_of_a_set_is_that_of_what_its_files_hold(tmp_path):
    data, split = official(tmp_path, 'diode')
    images, files = ImageSet(data, ImageChoice('diode', split)), NAMES['diode']
    lines = ''.join(f'{sha256(data / name)}  {name}\n' for name in files)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    size = sum((data / name).stat().st_size for name in files)
    assert images.describe() == {'name': 'diode', 'sha256': digest, 'bytes': size}
    save(data / files[1], DEPTH[..., None] + 1)
    changed = images.describe()
    assert (changed['bytes'], changed['sha256'] == digest) == (size, False)
    (data / files[2]).unlink()
    assert images.describe()['bytes'] < size


def red_images(folder):
    """Write forty images whose red channel is their depth, to 3 %."""
    rng = np.random.default_rng(0)
    for number in range(40):
        red = np.kron(rng.integers(0, 255, (3, 4)), np.ones((16, 16))).astype(np.uint8)
        depth = (2 + 8 * (red / 255)) * rng.uniform(0.97, 1.03, red.shape)
        save(folder / str(number) / 'image.png', np.dstack([red] * 3))
        save(folder / str(number) / 'depth_mm.png', depth, 1000)


def shown_text(page):
    """Return the text of a page that is shown."""
    body = page.read_text().split('<main>')[1].split('</main>')[0]
    return unescape(re.sub(r'<.*?>', ' ', body, flags=re.S))


class Seeing(Knowing):
    """Answers with the red channel, which is the truth of the images below, nearly."""

    def predict(self, rgb, **options):
        return Prediction(rgb[..., 0] / np.float32(255))


def test_the_report_of_images_has_verdict_baselines_and_images_and_no_lidar(
    evaluate, monkeypatch, tmp_path
):
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: Seeing())
    red_images(tmp_path / 'set')
    code, printed = evaluate(tmp_path / 'set', '--dataset', 'folder', '--require', 'oracle.rmse<1')
    assert code == 0, printed.err
    assert printed.out.startswith('verdict: Good: better than the best baseline (')
    out = tmp_path / 'out'
    results = json.loads((out / 'results.json').read_text())
    assert set(results['baselines']) == {'constant', 'plane', 'quadric', 'mean_map'}
    (required,) = results['requirements']
    assert (required['text'], required['met']) == ('oracle.rmse < 1', True)
    compared = results['verdict']['against_baselines']
    assert {found['outcome'] for found in compared.values()} == {'better'}
    assert compared['abs_rel']['own'] == pytest.approx(0.015, abs=0.005)
    assert 'a score of the relative depth, not of metric depth' in printed.out
    html = (out / 'report.html').read_text()
    body = html.split('<main>')[1].split('</main>')[0]
    shown = shown_text(out / 'report.html')
    for text in (shown, printed.out):
        assert not re.search('lidar|scan|velodyne', text, re.I)
    assert 'mean relative error (AbsRel)' in shown
    assert '40 of 40' in shown
    assert 'Worst and best images' in shown
    assert 'best quadric over the image' in shown
    names = re.findall(r'figure data-name="(.*?)"', body)
    assert names[:4] == ['image', 'truth', 'fitted', 'error']
    assert 'near, ' in body
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', html, re.S)[1])
    assert data['charts']['error_oracle']['x_label'] == 'image'
    curves = {curve['name']: curve['values'] for curve in data['charts']['error_oracle']['curves']}
    assert np.mean(curves['this model']) == pytest.approx(compared['abs_rel']['own'], abs=1e-5)
    assert curves['scaled mean of earlier images'][0] is None
    assert data['cloud'] is None
    for name in ('input', 'truth', 'fitted', 'error'):
        assert (out / 'pictures' / f'frame_0000_{name}.png').is_file()


def test_depth_out_of_range_is_named_without_a_word_about_scans(evaluate, tmp_path):
    save(tmp_path / 'set' / 'one' / 'image.png', RGB)
    save(tmp_path / 'set' / 'one' / 'depth_mm.png', DEPTH, 1)
    code, printed = evaluate(tmp_path / 'set', '--dataset', 'folder')
    assert code == 1
    assert 'none of 1 images could be scored' in printed.err
    assert 'check --depths and --depth-scale' in printed.err
    assert not re.search('lidar|scan|camera_info', printed.out + printed.err, re.I)
    shown = shown_text(tmp_path / 'out' / 'report.html')
    assert 'No image could be scored' in shown
    assert not re.search('lidar|scan', shown, re.I)


class Measuring(Knowing):
    """Answers in metres with the red channel."""

    description = {**Knowing.description, 'space': 'metric'}

    def predict(self, rgb, **options):
        return Prediction(2 + 8 * (rgb[..., 0] / np.float32(255)), space='metric')


def test_a_metric_model_is_judged_by_its_own_metres(evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: Measuring())
    red_images(tmp_path / 'set')
    code, printed = evaluate(tmp_path / 'set', '--dataset', 'folder')
    assert code == 0, printed.err
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['protocols']['raw']['macro']['abs_rel'] == pytest.approx(0.015, abs=0.005)
    assert not results['verdict']['fitted_to_truth']
    assert results['verdict']['usable_range']['to'] == 10.0
    assert not re.search('lidar|scan', shown_text(tmp_path / 'out' / 'report.html'), re.I)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--dataset', 'nyu'], '--dataset nyu needs its list of files: give --split FILE'),
        (['--split', 'some.txt'], 'needs a --dataset'),
        (['--dataset', 'folder'], "has no files like '*/image.*' with '*/depth_mm.png'"),
        (['--dataset', 'kitti', '--split', 'none.txt'], 'the list none.txt cannot be read'),
        (['--dataset', 'nyu', '--depth-scale', '256'], '--depth-scale is of --dataset folder'),
        (['--dataset', 'nyu', '--split', 'x', '--images', '*'], '--images is for images without'),
        (['--depth-scale', '256'], '--depth-scale needs a --dataset; name one'),
        (['--images', '*.png'], '--images needs a --dataset; name one'),
        (['--dataset', 'folder', '--every', '2'], '--every is of bags'),
        (['--dataset', 'folder', '--from', '1'], '--from is of bags'),
        (['--dataset', 'folder', '--record'], '--record is of bags'),
        (['--dataset', 'folder', '--truth', '/depth'], '--truth is of bags'),
    ],
)
def test_wrong_choices_are_one_sentence(evaluate, tmp_path, options, sentence):
    (tmp_path / 'empty').mkdir()
    code, printed = evaluate(tmp_path / 'empty', *options)
    wrong_use = 'needs a --dataset', ' is of ', 'is for images'
    assert code == (2 if any(words in sentence for words in wrong_use) else 1)
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'\nalone.png', "line 2 is 'alone.png'"),
        (b'', 'is empty'),
        (b'\xff.png a.npy b.npy', 'cannot be read'),
    ],
)
def test_a_list_that_lacks_names_says_which_line(tmp_path, content, words):
    (tmp_path / 'list.txt').write_bytes(content)
    with pytest.raises(InputError, match=words):
        ImageSet(tmp_path, ImageChoice('diode', str(tmp_path / 'list.txt')))


@pytest.mark.parametrize(
    ('images', 'depths', 'pairs', 'problems'),
    [
        ('rgb/*.*', 'depth/*.png', [('rgb/b.1.jpg', 'depth/b.1.png')], ['rgb/a.jpg has no depth']),
        (
            '**/x*_c.jpg',
            '**/x*_d.png',
            [('x_c.jpg', 'x_d.png'), ('s/t/x_c.jpg', 's/t/x_d.png')],
            [],
        ),
        ('*/*_c.jpg', '*/*_d.png', [('s/z_c.jpg', 's/z_d.png')], ['s/y_d.png has no image']),
        ('two/*.*', 'depth/*.png', [], ['two/x.png and two/x.jpg match the same pattern']),
    ],
)
def test_files_are_pairs_where_the_stars_match_the_same_texts(images, depths, pairs, problems):
    names = (
        'x_d.png s/t/x_c.jpg depth/b.1.png x_c.jpg s/t/x_d.png rgb/b.1.jpg rgb/a.jpg depth/a_png'
    )
    names += ' s/z_c.jpg s/z_d.png s/y_d.png two/x.png two/x.jpg'
    found, said = match(names.split(), images, depths)
    assert found == pairs
    assert set(problems) <= set(said)


@pytest.mark.parametrize(('images', 'depths'), [('*/*.jpg', '*.png'), ('a.jpg', 'b.png')])
def test_patterns_that_pair_nothing_by_their_stars_are_refused(images, depths):
    with pytest.raises(ConfigurationError, match='use the same number, at least one, in both'):
        match([], images, depths)


def test_an_image_without_depth_is_named_where_nothing_has_depth(tmp_path):
    save(tmp_path / 'one' / 'image.png', RGB)
    with pytest.raises(InputError, match=r'no files like .*\(one/image.png has no depth\)'):
        ImageSet(tmp_path, ImageChoice(FOLDER))


def test_an_image_is_not_scored_against_itself(tmp_path):
    with pytest.raises(ConfigurationError, match='a/x.png is both image and depth'):
        match(['a/x.png', 'b/x.png'], 'a/*.png', 'a/*.*')
    (tmp_path / 'list.txt').write_text('a/x.png b/x.png\na/y.png a/y.png\n')
    with pytest.raises(ConfigurationError, match='a/y.png is both image and depth'):
        ImageSet(tmp_path, ImageChoice('nyu', split=str(tmp_path / 'list.txt')))


@pytest.mark.parametrize(
    ('protocol', 'name', 'asked'),
    [
        ('marigold', 'scannet', (50, 10, 0)),
        ('marigold-v1-1', 'diode', (1, 10, 640)),
        ('e2e', 'scannet', (1, 1, 0)),
    ],
)
def test_a_published_protocol_sets_steps_members_and_resolution(
    monkeypatch, capsys, tmp_path, protocol, name, asked
):
    seen = []

    class Asked(Knowing):
        def predict(self, rgb, **options):
            seen.append(options)
            return super().predict(rgb)

    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: Asked())
    data, split = official(tmp_path, name)
    where = ['--dataset', name, '--split', str(split), '--out', str(tmp_path / 'out')]
    assert main(['evaluate', str(data), *where, '--protocol', protocol]) == 0
    names = ('denoising_steps', 'ensemble_size', 'processing_resolution')
    assert {tuple(options[key] for key in names) for options in seen} == {asked}
    assert {options['seed'] for options in seen} == {1234}
    assert seen[0]['engine'].merge == ('fitted' if protocol == 'e2e' else 'reference')
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['provenance']['topics']['protocol'].startswith(f'{protocol}: steps {asked[0]}')
    assert f'members {asked[1]}' in (tmp_path / 'out' / 'report.html').read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ([], 'needs a --dataset of publications'),
        (['--dataset', 'folder'], 'one of nyu, kitti'),
        (['--dataset', 'nyu', '--set', 'ensemble_size=3'], 'ensemble_size is set, and'),
        (['--dataset', 'nyu', '--set', 'profile=fast'], 'profile is set, and'),
    ],
)
def test_a_protocol_that_has_no_meaning_is_refused(evaluate, tmp_path, options, words):
    code, printed = evaluate(tmp_path, *options, '--protocol', 'e2e')
    assert code == 2
    assert words in printed.err
