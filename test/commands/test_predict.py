# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images in, four files each out; videos in, videos out."""

import argparse
from contextlib import nullcontext
import json
from pathlib import Path
import re
import signal
from types import SimpleNamespace

import cv2
from marigold_ros.__main__ import main
from marigold_ros.commands.predict import add_arguments, unique_names
from marigold_ros.config import PipelineConfig
from marigold_ros.errors import WriteError
from marigold_ros.frame import Prediction
from marigold_ros.replay import video_writer
from marigold_ros.replay.photos import USUAL_FOV, Video
import numpy as np
import pytest


class RedChannelModel:
    description = {'name': 'ramp', 'path': '/nowhere'}

    def __init__(self):
        self.calls, self.loads = [], []

    def predict(self, rgb, **options):
        self.calls.append(options)
        return Prediction(rgb[..., 0].astype(np.float32) / 255)


@pytest.fixture
def model(monkeypatch):
    replacement = RedChannelModel()

    def load(*options):
        replacement.loads.append(options)
        return replacement

    monkeypatch.setattr('marigold_ros.models.load_model', load)
    return replacement


def write_png(path, rgb):
    path.write_bytes(cv2.imencode('.png', rgb[..., ::-1])[1].tobytes())
    return path


def read_png(path):
    """Read a file whose name OpenCV itself may not take, as it stands there, BGR."""
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def image(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    return write_png(tmp_path / 'street – ü.png', rgb), rgb


def test_the_files_hold_the_prediction(model, image, tmp_path, capsys):
    path, rgb = image
    out = tmp_path / 'out'
    assert main(['predict', str(path), '--out', str(out)]) == 0
    relative = np.load(out / f'{path.stem}_relative.npy')
    assert relative.dtype == np.float32
    assert (relative == rgb[..., 0].astype(np.float32) / 255).all()
    stored = read_png(out / f'{path.stem}_relative.png')
    assert stored.dtype == np.uint16
    assert np.abs(stored / 65535 - relative).max() <= 0.5 / 65535 + 1e-7
    colour = read_png(out / f'{path.stem}_color.png')
    assert colour.shape == rgb.shape
    near = colour[np.unravel_index(relative.argmin(), relative.shape)].astype(int)
    far = colour[np.unravel_index(relative.argmax(), relative.shape)].astype(int)
    assert near.sum() > far.sum()  # near is bright
    both = read_png(out / f'{path.stem}_side_by_side.png')
    assert (both[:12, :20, ::-1] == rgb).all()
    assert (both[:12, 20:] == colour).all()
    assert both.shape[0] > 12  # the scale of the colours
    assert 'ms' in capsys.readouterr().out


def test_unreadable_images_are_told_and_the_others_done(model, image, tmp_path, capsys):
    path, _ = image
    (tmp_path / 'text.jpg').write_text('no image')
    (tmp_path / 'empty.png').write_bytes(b'')
    bad = [str(tmp_path / name) for name in ('text.jpg', 'empty.png', 'missing.png')]
    out = tmp_path / 'out'
    assert main(['predict', *bad, str(path), '--out', str(out), '--json']) == 1
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith('error: ') for line in errors)
    report = json.loads(captured.out)
    assert [entry['input'] for entry in report['failed']] == bad
    assert len(report['pictures'][0]['files']) == 4
    assert len(list(out.iterdir())) == 4


def test_a_prediction_that_is_not_finite_is_an_error_and_writes_nothing(
    model, image, tmp_path, monkeypatch, capsys
):
    make_video(tmp_path / 'walk.mp4')
    out, bad = tmp_path / 'out', [str(image[0]), str(tmp_path / 'walk.mp4')]
    for pixels, space in ((np.s_[:1, :1], 'depth'), (np.s_[:], 'metric')):

        def predict(rgb, pixels=pixels, space=space, **_):
            relative = np.ones(rgb.shape[:2], np.float32)
            relative[pixels] = np.nan
            return Prediction(relative, space=space)

        monkeypatch.setattr(model, 'predict', predict)
        assert main(['predict', *bad, '--out', str(out)]) == 1
        errors = capsys.readouterr().err.splitlines()
        assert [line.split(';')[0] for line in errors] == [
            f'error: {name}: its prediction is not finite' for name in bad
        ]
        assert list(out.iterdir()) == []


def test_metric_depth_may_be_missing_at_some_pixels(model, image, tmp_path, monkeypatch):
    depth = np.full((12, 20), 2.0, np.float32)
    depth[0] = np.nan
    monkeypatch.setattr(model, 'predict', lambda *_, **__: Prediction(depth, space='metric'))
    assert main(['predict', str(image[0]), '--out', str(tmp_path / 'out')]) == 0


def test_settings_reach_the_model_and_unset_ones_stay_none(model, image, tmp_path):
    path, _ = image
    call = ['predict', str(path), '--out', str(tmp_path)]
    main(call)
    main([*call, '--set', 'denoising_steps=4', '--set', 'processing_resolution=0'])
    main([*call, '--set', 'profile=balanced', '--set', 'engine.merge=reference'])
    main([*call, '--set', 'runtime.backend=torch'])
    assert [options[-1].backend for options in model.loads] == ['auto'] * 3 + ['torch']
    first, second, third, _ = model.calls
    assert first == PipelineConfig().prediction
    assert (second['denoising_steps'], second['processing_resolution']) == (4, 0)
    assert (third['ensemble_size'], third['engine'].merge) == (3, 'reference')


def test_the_timing_is_of_one_image_in_milliseconds(model, image, tmp_path, monkeypatch, capsys):
    make_video(tmp_path / 'walk.mp4')
    clock, predict = [0.0], model.predict

    def predict_in_a_quarter(rgb, **options):
        clock[0] += 0.25
        return predict(rgb, **options)

    def load(*options):
        clock[0] += 9.0
        return model

    monkeypatch.setattr('marigold_ros.models.load_model', load)
    monkeypatch.setattr('marigold_ros.commands.predict.perf_counter', lambda: clock[0])
    monkeypatch.setattr(model, 'predict', predict_in_a_quarter)
    inputs = str(image[0]), str(tmp_path / 'walk.mp4')
    assert main(['predict', *inputs, '--out', str(tmp_path / 'out'), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    ((photo,), (video,)) = report['pictures'], report['videos']
    assert photo['predict_ms'] == video['predict_ms'] == 250.0
    assert (photo['width'], photo['height'], photo['space']) == (20, 12, 'depth')


def test_images_of_one_name_do_not_overwrite_each_other():
    names = ('a/x.png', 'b/x.jpg', 'b/x.png', 'a/b_x.png', 'y.png', '/x.png')
    paths = [Path(name) for name in names]
    assert unique_names(paths) == ['a_x', 'b_x', 'b_x_2', 'b_x_3', 'y', 'x']


def test_results_replace_no_input_and_say_what_they_replace(model, image, tmp_path, capsys):
    path, rgb = image
    link = tmp_path / 'link'
    link.symlink_to(tmp_path)
    taken = write_png(link / f'{path.stem}_color.png', rgb)
    command = ['predict', str(path), str(taken), '--out']
    for folder in (tmp_path, link):
        assert main([*command, str(folder)]) == 2
        assert f'would replace {taken}; give another --out' in capsys.readouterr().err
    assert np.array_equal(read_png(taken), rgb[..., ::-1])
    assert main([*command, str(tmp_path / 'out')]) == 0
    assert 'in place of earlier ones' not in capsys.readouterr().err
    (tmp_path / 'out' / 'notes.txt').touch()
    assert main([*command, str(tmp_path / 'out')]) == 0
    assert '8 of them in place of earlier ones' in capsys.readouterr().err


def test_an_image_without_a_surface_has_depth_and_says_why_no_mesh(model, tmp_path, capsys):
    path = write_png(tmp_path / 'dot.png', np.full((1, 1, 3), 90, np.uint8))
    out = tmp_path / 'out'
    assert main(['predict', str(path), '--glb', '--out', str(out), '--json']) == 0
    printed = capsys.readouterr()
    assert 'dot: no mesh, as no 2x2 pixels' in printed.err
    (photo,) = json.loads(printed.out)['pictures']
    assert photo['mesh'].startswith('no unit; assumes')
    assert np.load(out / 'dot_relative.npy').shape == (1, 1)
    assert sorted(photo['files']) == sorted(map(str, out.iterdir()))
    assert not list(out.glob('dot.*'))


def make_video(path, count=5, size=(20, 31)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 7.0, size[::-1])
    rng = np.random.default_rng(0)
    for _ in range(count):
        writer.write(rng.integers(0, 256, (*size, 3), np.uint8))
    writer.release()


@pytest.mark.parametrize(('has_av', 'codec'), [(True, 'h264'), (False, 'FMP4')])
def test_a_video_becomes_a_video_of_image_and_depth(
    model, tmp_path, capsys, monkeypatch, has_av, codec
):
    if not has_av:
        monkeypatch.setattr(video_writer, 'find_spec', lambda _name: None)
    make_video(tmp_path / 'walk.mp4', size=(20, 32))
    out = tmp_path / 'out'
    assert main(['predict', str(tmp_path / 'walk.mp4'), '--out', str(out), '--json']) == 0
    (video,) = json.loads(capsys.readouterr().out)['videos']
    assert video['images'] == len(model.calls) == 5
    written = cv2.VideoCapture(str(out / 'walk_depth.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(7.0)
    assert written.get(cv2.CAP_PROP_FRAME_WIDTH) == 64
    assert int(written.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little').decode() == codec
    model.calls.clear()
    assert main(['predict', str(tmp_path / 'walk.mp4'), '--out', str(out), '--limit', '2']) == 0
    assert len(model.calls) == 2
    said = capsys.readouterr().err
    assert ('browsers do not play' in said) == (not has_av)
    assert 'can be read' not in said


def test_of_a_damaged_video_the_readable_images_are_predicted(model, tmp_path, capsys):
    make_video(tmp_path / 'walk.avi')
    data = (tmp_path / 'walk.avi').read_bytes()
    images = data.index(b'movi') + 4
    (tmp_path / 'cut.avi').write_bytes(data[: (images + len(data)) // 2])
    (tmp_path / 'none.avi').write_bytes(data[:images] + bytes(len(data) - images))
    inputs = [str(tmp_path / name) for name in ('cut.avi', 'none.avi')]
    assert main(['predict', *inputs, '--out', str(tmp_path / 'out'), '--json']) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    ((video,), (failed,)) = report['videos'], report['failed']
    assert 0 < video['images'] == len(model.calls) < 5
    assert f'{inputs[0]}: {len(model.calls)} images can be read, where its header' in printed.err
    assert failed == {
        'input': inputs[1],
        'error': 'it has no image that OpenCV can read; check the file or camera',
    }
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['cut_depth.mp4']


def test_ctrl_c_ends_a_camera_and_its_video_is_whole(model, tmp_path, monkeypatch, capsys):
    def images():
        yield from np.zeros((3, 20, 32, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(
        'marigold_ros.replay.photos.open_video',
        lambda source: nullcontext(Video(images(), 10.0 + source, 0)),
    )
    assert main(['predict', '--camera', '0', '--out', str(tmp_path)]) == 0
    assert re.match('camera 0: .* ms, camera_0_depth.mp4\n', capsys.readouterr().out)
    written = cv2.VideoCapture(str(tmp_path / 'camera_0_depth.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)


def test_a_signal_that_the_user_ignores_stays_ignored(model, image, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert main(['predict', str(image[0]), '--out', str(tmp_path / 'out')]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_video_that_a_signal_ends_can_be_played(model, tmp_path, monkeypatch, number):
    make_video(tmp_path / 'walk.mp4')
    predict, before = model.predict, signal.signal(number, signal.SIG_DFL)

    def predict_and_end(rgb, **options):
        if len(model.calls) == 3:
            assert signal.getsignal(number) is not signal.SIG_DFL  # which would end this process
            signal.raise_signal(number)
        return predict(rgb, **options)

    monkeypatch.setattr(model, 'predict', predict_and_end)
    try:
        assert main(['predict', str(tmp_path / 'walk.mp4'), '--out', str(tmp_path)]) == 130
    finally:
        signal.signal(number, before)
    written = cv2.VideoCapture(str(tmp_path / 'walk_depth.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_video_that_cannot_be_written_is_one_line(model, tmp_path, capsys):
    make_video(tmp_path / 'walk.mp4')
    (tmp_path / 'out' / 'walk_depth.mp4').mkdir(parents=True)
    assert main(['predict', str(tmp_path / 'walk.mp4'), '--out', str(tmp_path / 'out')]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'cannot write' in line


@pytest.mark.parametrize('most', [0, 700])  # with room for the header of a video, or none
@pytest.mark.parametrize('name', ['walk.mp4', 'street – ü.png'])
def test_a_full_disk_is_one_line(model, image, tmp_path, capsys, name, full_disk, most):
    make_video(tmp_path / 'walk.mp4', 40, (200, 320))
    with full_disk(most):
        assert main(['predict', str(tmp_path / name), '--out', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: ')
    assert 'free some space' in error
    assert all(path.stat().st_size <= most for path in (tmp_path / 'out').iterdir())


@pytest.mark.parametrize('has_av', [True, False])
def test_a_full_disk_leaves_the_earlier_video(
    model, tmp_path, monkeypatch, capsys, has_av, full_disk
):
    if not has_av:
        monkeypatch.setattr(video_writer, 'find_spec', lambda _name: None)
    make_video(tmp_path / 'walk.mp4', 40, (200, 320))
    out = tmp_path / 'out'
    arguments = ['predict', str(tmp_path / 'walk.mp4'), '--out', str(out)]
    assert main([*arguments, '--limit', '2']) == 0
    earlier = (out / 'walk_depth.mp4').read_bytes()
    with full_disk(len(earlier)):
        assert main(arguments) == 1
    assert 'free some space' in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ['walk_depth.mp4']
    assert (out / 'walk_depth.mp4').read_bytes() == earlier


def test_a_disk_that_is_full_ends_a_video_of_opencv_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer, 'find_spec', lambda _name: None)
    full = SimpleNamespace(free=0)
    monkeypatch.setattr(video_writer.shutil, 'disk_usage', lambda _folder: full)
    writer = video_writer.VideoWriter(tmp_path / 'walk.mp4', 7.0)
    with pytest.raises(WriteError, match='free some space'), writer:
        writer.add(np.zeros((20, 32, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_an_image_too_wide_for_its_results_is_named_and_the_rest_goes_on(
    model, image, tmp_path, capfd
):
    wide = write_png(tmp_path / 'wide.png', np.zeros((1, 600_000, 3), np.uint8))
    out = tmp_path / 'out'
    assert main(['predict', str(wide), str(image[0]), '--out', str(out)]) == 1
    error = capfd.readouterr().err.splitlines()[0]
    assert error == (
        f'error: {wide}: a result has 1200000x41 px, and may have 1000000 on a side as a PNG; '
        'reduce the image'
    )
    assert len(list(out.iterdir())) == 4


@pytest.mark.parametrize(('length', 'code'), [(238, 0), (239, 1)])
def test_a_name_may_be_as_long_as_those_of_its_results_can_be(
    model, image, tmp_path, capsys, length, code
):
    short, rgb = image
    path = write_png(tmp_path / f'{"ü" * 119}{"a" * (length - 238)}.png', rgb)
    assert main(['predict', str(path), str(short), '--out', str(tmp_path / 'out')]) == code
    assert ('its name is too long' in capsys.readouterr().err) == bool(code)
    assert len(list((tmp_path / 'out').iterdir())) == 4 * (2 - code)


def test_what_a_folder_holds_beside_images_is_counted_by_kind(model, image, tmp_path, capsys):
    for name in ('IMG_1.HEIC', 'IMG_2.heic', 'notes.txt', 'README', '.hidden'):
        (tmp_path / name).touch()
    (tmp_path / 'more').mkdir()
    assert main(['predict', str(tmp_path), '--out', str(tmp_path / 'more' / 'out')]) == 0
    printed = capsys.readouterr().err.splitlines()[0]
    assert printed.startswith(
        f'left out of {tmp_path}: 2 .heic, 1 .txt, 1 folder(s), 1 no suffix (HEIC cannot be read;'
    )
    assert main(['predict', str(tmp_path / 'IMG_2.heic'), '--out', str(tmp_path / 'out')]) == 1
    assert 'IMG_2.heic: HEIC cannot be read; convert it' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'code', 'words'),
    [
        ([], 2, 'nothing to predict'),
        (['broken.mp4'], 1, 'broken.mp4: OpenCV cannot open it'),
        (['missing.mp4'], 1, 'missing.mp4: there is no such file'),
        (['missing.png'], 1, 'check the path'),
        (['~no_such_user/x.png'], 1, '~no_such_user/x.png: the file cannot be read'),
        (['loop.png'], 1, 'loop.png: the file cannot be read'),
        (['--camera', '99'], 1, 'camera 99: OpenCV cannot open it: there is no such camera'),
        (['x.png', '--set', 'alignment.method=local'], 2, 'alignment.method'),
    ],
)
def test_what_cannot_be_predicted_is_one_line(
    model, tmp_path, monkeypatch, capfd, arguments, code, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    (tmp_path / 'loop.png').symlink_to('loop.png')
    assert main(['predict', *arguments]) == code
    captured = capfd.readouterr()
    (error,) = captured.err.splitlines()
    assert error.startswith('error: ')
    assert words in error
    assert captured.out == ''


def test_the_demonstration_model_is_called_one(image, tmp_path, capsys):
    assert main(['predict', str(image[0]), '--out', str(tmp_path / 'out')]) == 0
    printed = capsys.readouterr().err
    assert 'unet, a small demonstration model; `python -m marigold_ros models get ' in printed
    assert 'get depth-anything-v2-small` fetches a full one (99 MB, Apache-2.0)' in printed


def test_cloud_and_mesh_of_a_photo_say_that_they_have_no_unit(model, image, tmp_path, capsys):
    path, rgb = image
    out = tmp_path / 'out'
    write_png(path, np.full_like(rgb, 90))
    assert main(['predict', str(path), '--out', str(out), '--ply', '--glb', '--fov', '90']) == 0
    captured = capsys.readouterr()
    assert f'{path.stem}.ply, {path.stem}.glb' in captured.out
    assert 'no unit; assumes that the farthest is 5 times the nearest' in captured.err
    assert 'a field of view of 90 degrees' in captured.err
    header, _, body = (out / f'{path.stem}.ply').read_bytes().partition(b'end_header\n')
    assert b'comment no unit; assumes' in header
    assert b'element vertex 240' in header
    points = np.frombuffer(body, '<f4,<f4,<f4,u1,u1,u1').copy()
    depth = 1 + 4 * 90 / 255
    np.testing.assert_allclose(points['f2'], -depth, rtol=1e-5)  # y up, z towards the viewer
    # 90 degrees across 20 pixels: half as wide as it is far.
    np.testing.assert_allclose(points['f0'].max(), depth * 9.5 / 10, rtol=1e-5)
    assert (out / f'{path.stem}.glb').read_bytes()[:4] == b'glTF'


def test_images_become_one_video(model, image, tmp_path, capsys):
    path, _ = image
    (tmp_path / 'second.png').write_bytes(path.read_bytes())
    out = tmp_path / 'out'
    call = ['predict', str(path), str(tmp_path / 'second.png'), '--out', str(out)]
    assert main([*call, '--video']) == 0
    assert '2 images: images_depth.mp4' in capsys.readouterr().out
    assert len(model.loads) == 1
    written = cv2.VideoCapture(str(out / 'images_depth.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert written.get(cv2.CAP_PROP_FRAME_WIDTH) == 40


def test_a_video_has_not_the_name_of_the_one_that_images_are_joined_to(
    model, image, tmp_path, capsys
):
    make_video(tmp_path / 'images.mp4')
    out = tmp_path / 'out'
    call = ['predict', '--video', '--out', str(out), str(tmp_path / 'images.mp4'), str(image[0])]
    assert main(call) == 0
    images = {
        path.name: cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
        for path in out.glob('*.mp4')
    }
    assert images == {'images_2_depth.mp4': 5, 'images_depth.mp4': 1}
    # Nor is the joined one written over an image or video that is read.
    assert main([*call, str(out / 'images_depth.mp4')]) == 2
    assert f'would replace {out}/images_depth.mp4' in capsys.readouterr().err


def test_images_of_several_sizes_make_no_video(model, image, tmp_path, capsys):
    path, _ = image
    other = write_png(tmp_path / 'zz.png', np.zeros((30, 40, 3), np.uint8))
    out = tmp_path / 'out'
    assert main(['predict', str(path), str(other), '--out', str(out), '--video']) == 1
    captured = capsys.readouterr()
    assert 'give images of one size; left out: 1' in captured.err
    assert 'zz_relative.npy' in captured.out


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['walk.mp4', '--video'], '--video joins images'),
        (['x.png', 'walk.mp4', '--glb'], '--ply and --glb are for images'),
        (['--camera', '0', '--ply'], '--ply and --glb are for images'),
        (['x.png', '--fov', '0'], 'not a number of degrees'),
        (['x.png', '--fov', '90'], '--fov is for --ply and --glb'),
        (['x.png', '--limit', '2'], '--limit is for videos and cameras'),
    ],
)
def test_options_that_change_nothing_are_refused(
    model, image, monkeypatch, tmp_path, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite('x.png', image[1])
    try:
        code = main(['predict', *arguments])
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_the_field_of_view_is_the_usual_one():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.get_default('fov') == USUAL_FOV


def test_no_model_is_loaded_where_there_is_nothing_to_predict(model, tmp_path, capsys):
    path, out = str(tmp_path / 'none.png'), str(tmp_path / 'out')
    assert main(['predict', path, '--out', out, '--json']) == 1
    assert json.loads(capsys.readouterr().out)['model'] is None
    assert model.loads == []
