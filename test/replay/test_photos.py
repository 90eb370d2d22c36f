# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Photos and videos as they are read, and their depth as images and as meshes."""

from fractions import Fraction
import os

import cv2
from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction
from marigold_ros.replay.photos import (
    expand,
    FAR_TO_NEAR,
    mesh_note,
    open_video,
    photo_mesh,
    read_image,
    side_by_side,
    write_prediction,
)
import numpy as np
from PIL import ExifTags, features, Image
import pytest


def write_png(path, rgb):
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def test_metric_depth_is_stored_in_millimetres_as_ros_has_it(tmp_path):
    depth = np.linspace(0.5, 80, 240, dtype=np.float32).reshape(12, 20)
    rgb = np.zeros((12, 20, 3), np.uint8)
    write_prediction(tmp_path, 'view', rgb, Prediction(depth, space='metric'))
    np.testing.assert_array_equal(np.load(tmp_path / 'view_relative.npy'), depth)
    stored = cv2.imread(str(tmp_path / 'view_relative.png'), cv2.IMREAD_UNCHANGED)
    expected = np.where(depth * 1000 < 65535.5, depth * 1000, 0)  # farther is no value
    np.testing.assert_allclose(stored, expected, atol=0.51)
    colour = cv2.imread(str(tmp_path / 'view_color.png'))
    assert len(np.unique(colour.reshape(-1, 3), axis=0)) > 100


def test_an_image_of_12_bits_in_16_is_not_black_and_says_so(tmp_path):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    said = []
    rgb = read_image(write_png(tmp_path / 'x.png', np.dstack([values] * 3)), said.append)
    np.testing.assert_array_equal(rgb[..., 0], values >> 4)
    assert said == ['its 16-bit values end at 4095, so they are taken for 12-bit ones']
    rgb = read_image(write_png(tmp_path / 'x.png', np.dstack([values << 4] * 3)), said.append)
    np.testing.assert_array_equal(rgb[..., 0], values >> 4)
    assert len(said) == 1


@pytest.mark.parametrize('orientation', range(1, 9))
def test_an_avif_is_turned_upright_as_a_jpeg(tmp_path, orientation):
    if not (features.check('avif') and cv2.haveImageWriter('.avif')):
        pytest.skip('Pillow or OpenCV lacks AVIF')
    quarters = np.uint8([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 0]]])
    photo = Image.fromarray(quarters.repeat(20, axis=0).repeat(30, axis=1))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = []
    for name in ('a.jpg', 'a.avif'):
        photo.save(tmp_path / name, exif=exif)
        found.append(read_image(tmp_path / name).astype(int))
    assert found[0].shape == found[1].shape
    assert np.abs(found[0] - found[1]).mean() < 8


@pytest.mark.usefixtures('looks_in_a_child')
def test_an_image_that_opencv_fails_to_read_is_one_sentence(tmp_path, capfd):
    Image.fromarray(np.ones((20, 20), np.int32)).save(tmp_path / 'depth.tif')
    with pytest.raises(InputError, match='OpenCV cannot read the'):
        read_image(tmp_path / 'depth.tif')
    assert capfd.readouterr().err == ''


def test_a_recording_of_a_browser_has_a_clock_and_no_rate(tmp_path):
    av = pytest.importorskip('av', reason='the extra video is not installed')
    clock = Fraction(1, 1000)
    with av.open(str(tmp_path / 'recording.mkv'), 'w') as file:
        stream = file.add_stream('mpeg4', 30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.time_base = stream.codec_context.time_base = clock
        for stamp in np.random.default_rng(0).integers(20, 50, 30).cumsum():
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), 'rgb24')
            frame.pts, frame.time_base = int(stamp), clock
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    content = (tmp_path / 'recording.mkv').read_bytes()
    # The element of the rate (default duration) becomes one that is void.
    stated = content.index(b'\x23\xe3\x83\x84')
    content = content[:stated] + b'\xec\x86' + content[stated + 2 :]
    (tmp_path / 'recording.mkv').write_bytes(content)
    with open_video(tmp_path / 'recording.mkv') as video:
        assert video.rate == 30
        assert video.missing(len(list(video.images))) == ''


@pytest.mark.parametrize('name', [b'caf\xe9.avi', b'd\xe9/cafe.avi'])
def test_a_video_whose_path_is_not_utf8_is_named_as_such_and_read_by_a_link(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(tmp_path / 'a.avi'), codec, 5.0, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / 'a.avi').rename(path)
    with pytest.raises(InputError, match='is not UTF-8.*; rename it'), open_video(path):
        pass
    (tmp_path / 'link.avi').symlink_to(path)
    with open_video(tmp_path / 'link.avi') as video:
        assert len(list(video.images)) == 1


def test_a_photo_that_is_cut_off_is_named_as_such(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = cv2.imencode('.jpg', rgb)[1].tobytes()
    (tmp_path / 'a.jpg').write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match='cut off.*copy or save it again'):
        read_image(tmp_path / 'a.jpg')


def test_folders_and_patterns_name_files(tmp_path):
    for name in ('b.png', 'a.JPG', 'walk.mp4', '._b.png', '.trashed-1-c.jpg'):
        (tmp_path / name).touch()
    files, left_out = expand([str(tmp_path)])
    assert [p.name for p in files] == ['a.JPG', 'b.png', 'walk.mp4']
    assert left_out == []
    assert [p.name for p in expand([str(tmp_path / '*.png')])[0]] == ['b.png']
    with pytest.raises(InputError, match='no file fits'):
        expand([str(tmp_path / '*.gif')])
    with pytest.raises(InputError, match='is empty'):
        expand([''])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='holds no image and no video'):
        expand([str(tmp_path / 'empty')])


def test_a_name_with_a_bracket_is_a_file(tmp_path):
    path = tmp_path / 'photo [1].png'
    path.touch()
    assert expand([str(path)]) == ([path], [])


@pytest.mark.parametrize('space', ['depth', 'disparity', 'log', 'metric'])
def test_depth_stands_beside_its_image_with_a_scale(space):
    rgb = np.full((40, 200, 3), 7, np.uint8)
    ramp = np.linspace(0.1, 1.0, 200, dtype=np.float32)[None].repeat(40, 0)
    both = side_by_side(rgb, Prediction(ramp, space=space))
    assert both.shape[1] == 400
    assert both.shape[0] > 40
    left, right = both[20, 210].astype(int).sum(), both[20, 390].astype(int).sum()
    assert (left < right) == (space == 'disparity')  # near is bright


@pytest.mark.parametrize('space', ['depth', 'disparity', 'log'])
def test_a_mesh_of_relative_depth_lies_between_the_assumed_ends(space):
    rgb = np.zeros((10, 300, 3), np.uint8)
    ramp = np.linspace(0, 1, 300, dtype=np.float32)[None].repeat(10, 0)
    z = photo_mesh(rgb, Prediction(ramp, space=space)).points[:, 2]
    assert (z.min(), z.max()) == pytest.approx((1, FAR_TO_NEAR))
    assert (z[0] > z[-1]) == (space == 'disparity')


def test_a_mesh_of_metric_depth_is_in_metres():
    depth = np.full((10, 30), 7.5, np.float32)
    prediction = Prediction(depth, space='metric')
    z = photo_mesh(np.zeros((10, 30, 3), np.uint8), prediction).points[:, 2]
    assert (z == 7.5).all()
    assert 'in metres' in mesh_note(prediction)
