# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bags as a source: dense and sparse depth agree, broken bags are named and leave nothing."""

from __future__ import annotations

from dataclasses import asdict
import os
from pathlib import Path

from marigold_ros.bags.frames import BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_ros.frame import Camera, Frame
from marigold_ros.geometry.camera.rectification import rectify_image
from marigold_ros.message_codec import encode_depth, encode_image
from marigold_ros.synthetic.drive.drive import write_drive
from marigold_training.data.bag_pairs import pair_of
import numpy as np
import pytest

from test.training.data.test_sources import image, ramp, source


@pytest.fixture(scope='module')
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('drives')
    write_drive(folder / 'bags/street', frames=4, seed=3, width=96, height=64, lidar_beams=16)
    return folder


def test_a_bag_gives_its_images_with_dense_depth(drive, tmp_path):
    os.symlink(drive / 'bags', tmp_path / 'bags_in')
    dense = source('bag', tmp_path, folder='bags_in/street')
    assert len(dense) == 4
    pair = dense.read(0)
    assert pair.rgb.shape == (64, 96, 3)
    assert np.nanmax(pair.depth) < 100.0
    assert 0.5 < np.isfinite(pair.depth).mean() < 1.0  # there is a sky


def test_a_draft_that_a_killed_process_of_the_same_number_left_is_replaced(drive, tmp_path):
    os.symlink(drive / 'bags', tmp_path / 'bags_in')
    pairs = source('bag', tmp_path, folder='bags_in/street')
    pairs.prepare()
    (extracted,) = (tmp_path / 'bags').iterdir()
    extracted.rename(extracted.with_name(f'.{extracted.name}.{os.getpid()}'))
    assert len(source('bag', tmp_path, folder='bags_in/street')) == 4


def test_lidar_of_a_bag_agrees_with_its_true_depth(drive, tmp_path):
    os.symlink(drive / 'bags', tmp_path / 'bags_in')
    dense = source('bag', tmp_path, folder='bags_in')
    sparse = source('bag', tmp_path, folder='bags_in', lidar='/velodyne_points', every=2)
    assert (len(dense), len(sparse)) == (4, 2)
    for index in range(2):
        full, few = dense.read(2 * index), sparse.read(index)
        assert np.array_equal(full.rgb, few.rgb)
        known = np.isfinite(few.depth)
        assert 20 < known.sum() < 0.5 * known.size
        both = known & np.isfinite(full.depth)
        error = np.abs(few.depth[both] / full.depth[both] - 1.0)
        assert np.median(error) < 0.03


def test_scans_of_another_clock_are_paired_by_the_time_of_recording(drive, tmp_path):
    own = drive / 'bags/street'
    with BagReader(own) as reader, BagWriter(tmp_path / 'late') as bag:
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            raw = bytearray(data)
            if topic == '/velodyne_points':  # seconds of the header's stamp
                seconds = int.from_bytes(raw[4:8], 'little', signed=True) + 6
                raw[4:8] = seconds.to_bytes(4, 'little', signed=True)
            bag.write_raw(topic, msgtype, bytes(raw), log_ns)
    keys = {'folder': str(tmp_path / 'late'), 'lidar': '/velodyne_points'}
    with pytest.raises(InputError, match=r'\+6\.\d s away'):
        source('bag', tmp_path, **keys).prepare()
    found = source('bag', tmp_path, stamps='log', **keys)
    expected = source('bag', tmp_path, **{**keys, 'folder': str(own)})
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.read(1).depth, expected.read(1).depth)


def test_a_bag_is_read_once(drive, tmp_path, monkeypatch):
    os.symlink(drive / 'bags', tmp_path / 'bags_in')
    first = source('bag', tmp_path, folder='bags_in')
    first.prepare()
    monkeypatch.setattr(
        'marigold_training.data.bag_pairs._extract', lambda job: pytest.fail('read')
    )
    again = source('bag', tmp_path, folder='bags_in')
    again.prepare()
    assert len(again) == 4
    assert np.array_equal(again.read(3).rgb, first.read(3).rgb)


def test_another_version_of_the_package_reads_a_bag_again(drive, tmp_path, monkeypatch):
    os.symlink(drive / 'bags', tmp_path / 'bags_in')
    before = source('bag', tmp_path, folder='bags_in').fingerprint()
    name = 'marigold_training.data.bag_pairs.versions'
    monkeypatch.setattr(name, lambda: {'marigold_ros': '0.9'})
    assert source('bag', tmp_path, folder='bags_in').fingerprint() != before


def test_broken_bags_are_named_together_and_leave_nothing(drive, tmp_path):
    (tmp_path / 'some').mkdir()
    whole = next((drive / 'bags/street').glob('*.mcap')).read_bytes()
    (tmp_path / 'some/half.mcap').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'some/text.bag').write_text('no bag')
    with pytest.raises(InputError, match='2 problems') as caught:
        source('bag', tmp_path, folder='some').prepare()
    assert 'half.mcap' in str(caught.value)
    assert 'text.bag' in str(caught.value)
    assert list((tmp_path / 'bags').glob('*')) == []


def test_folders_without_bags_and_missing_topics_are_refused(drive, tmp_path):
    with pytest.raises(InputError, match='is no bag and contains none'):
        source('bag', tmp_path, folder='.')
    with pytest.raises(InputError, match='/nothing'):
        source('bag', drive, folder='bags', depth='/nothing').prepare()
    with pytest.raises(ConfigurationError, match='one of them'):
        source('bag', drive, folder='bags', depth='/a', lidar='/b')
    with pytest.raises(MarigoldError, match='determinant'):
        source('bag', drive, folder='bags', T_cam_lidar=np.diag([1.0, 1.0, -1.0, 1.0]).tolist())


def write_bag(path: Path, depths: list[np.ndarray]) -> None:
    """Images of 16x24 with these depth maps, and nothing else."""
    with BagWriter(path) as bag:
        for index, depth in enumerate(depths):
            stamp = 10**18 + index * 10**8
            header = {'frame_id': 'camera', 'stamp': stamp}
            for topic, fields in (
                ('/color', encode_image(image(16, 24, index), 'rgb8')),
                ('/depth', encode_depth(depth)),
            ):
                message = {'header': header, **asdict(fields)}
                bag.write(topic, 'sensor_msgs/msg/Image', message, stamp)


def test_images_of_a_bag_without_depth_are_skipped_and_counted(tmp_path, capsys):
    nothing = np.full((16, 24), np.nan, np.float32)
    write_bag(tmp_path / 'drive', [nothing, ramp(16, 24, 1, 9), nothing, ramp(16, 24, 2, 9)])
    pairs = source('bag', tmp_path, folder='drive', image='/color', depth='/depth')
    pairs.prepare()
    assert '2 images skipped' in capsys.readouterr().out
    assert len(pairs) == 2
    assert np.array_equal(pairs.read(0).rgb, image(16, 24, 1))
    np.testing.assert_array_equal(pairs.read(1).depth, ramp(16, 24, 2, 9))


@pytest.mark.parametrize('rectified', [True, False])
def test_an_image_is_rectified_for_depth_that_is(rectified):
    K = np.array([[20.0, 0, 11.5], [0, 20, 7.5], [0, 0, 1]])
    camera = Camera(K, 24, 16, (-0.3, 0, 0, 0))
    rgb, depth = image(16, 24), ramp(16, 24, 1, 9)
    item = BagFrame(Frame(rgb, camera), None, 0, depth, truth_is_rectified=rectified)
    pair = pair_of(item, AlignmentConfig())
    assert pair.depth is depth
    assert np.array_equal(pair.rgb, rectify_image(rgb, camera) if rectified else rgb)
    assert not np.array_equal(rectify_image(rgb, camera), rgb)


@pytest.mark.parametrize(
    ('depths', 'reason'),
    [
        ([np.full((16, 24), np.nan, np.float32)] * 2, 'no image with depth.*2 times'),
        ([ramp(8, 12, 1, 9)], 'no image with depth.*12x8 px'),
        ([ramp(16, 24, 1, 9), ramp(16, 24, 4e3, 9e3)], 'image 1 of /color.*check the unit'),
    ],
)
def test_a_bag_of_unusable_depth_is_named_with_its_reason(tmp_path, depths, reason):
    write_bag(tmp_path / 'drive', depths)
    with pytest.raises(InputError, match=f'1 problem;.*\n.*drive.*{reason}'):
        source('bag', tmp_path, folder='drive', image='/color', depth='/depth').prepare()
    assert list((tmp_path / 'bags').iterdir()) == []


def test_blocks_choose_images_by_their_number_over_all_bags(drive, tmp_path):
    street = str(drive / 'bags/street')
    every = source('bag', tmp_path, folder=[street, street], lidar='/velodyne_points')
    some = source(
        'bag', tmp_path, folder=[street, street], lidar='/velodyne_points', frames=[[1, 3], [6, 9]]
    )
    assert [shot.number for shot in every.shots] == list(range(8))
    assert [(shot.number, shot.bag) for shot in some.shots] == [(1, 0), (2, 0), (6, 1), (7, 1)]
    assert every.shots[1].stamp_ns == every.shots[5].stamp_ns
    for index, shot in enumerate(some.shots):
        assert np.array_equal(
            some.read(index).depth, every.read(shot.number).depth, equal_nan=True
        )
    assert some.fingerprint() != every.fingerprint()


def test_held_scan_lines_are_never_used_and_all_others_are(drive, tmp_path):
    street = str(drive / 'bags/street')
    full = source('bag', tmp_path, folder=street, lidar='/velodyne_points')
    held = source('bag', tmp_path, folder=street, lidar='/velodyne_points', hold_lines=4)
    whole, used = full.read_lidar(0), held.read_lidar(0)
    rest = whole.chosen(whole.line % 4 == 2)
    assert set(used.line) == {line for line in set(whole.line) if line % 4 != 2}
    assert len(used.points) + len(rest.points) == len(whole.points)
    known = [np.isfinite(pair.depth) for pair in (full.read(0), held.read(0), rest.pair())]
    assert np.array_equal(known[0], known[1] | known[2])
    assert not (known[1] & known[2]).any()


@pytest.mark.parametrize(
    ('keys', 'text'),
    [
        ({'hold_lines': 1}, 'hold_lines is 1'),
        ({'frames': [[3, 3]]}, 'first < end'),
        ({'frames': [[0.5, 3]]}, 'first < end'),
        ({'frames': [4]}, 'first < end'),
    ],
)
def test_wrong_blocks_and_lines_are_refused(drive, tmp_path, keys, text):
    with pytest.raises(ConfigurationError, match=text):
        source('bag', tmp_path, folder=str(drive / 'bags/street'), **keys)
