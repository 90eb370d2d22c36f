# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Arguments of the launch files are checked before a process starts; runs without ROS."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from marigold_ros.errors import ConfigurationError
from marigold_ros.node.interface.launch_arguments import (
    as_number,
    camera_names,
    dds_environment,
    existing_path,
    image_topic,
    namespaces,
    new_path,
    parameter_file,
    pose_of_lidar,
    refuse_unknown,
    rviz_configuration,
    topics_of_bag,
    transport_in_bag,
    truth,
)
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {'image': '', 'rviz': 'false', 'use_sim_time': '', 'bag': None}
RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def check(argv, more=()):
    """Check a command line as ``ros2 launch`` hands it over, with what other files added."""
    given = dict(word.split(':=', 1) for word in argv)
    defaults = {name: value for name, value in DEFAULTS.items() if value is not None}
    refuse_unknown('some.launch.py', argv, {**defaults, **given, **dict(more)}, DEFAULTS)


def test_known_arguments_and_those_of_launch_itself_pass():
    check(['image:=/cam', 'rviz:=false', 'launch-prefix:=gdb', 'sigterm_timeout:=9'])
    check([])


@pytest.mark.parametrize(
    ('given', 'words'), [('imgae', "did you mean 'image'"), ('xyz', 'known are image, rviz')]
)
def test_an_unknown_argument_is_refused_with_the_nearest(given, words):
    with pytest.raises(ConfigurationError, match=f"no argument '{given}'; {words}"):
        check([f'{given}:=/cam', 'image:=/x'])


def test_arguments_of_a_file_that_includes_this_one_are_not_refused():
    check(['robot:=r2'], more={'robot': 'r2', 'image': '/r2/cam'})
    check([], more={'robot': 'default'})


def test_a_profile_of_fast_dds_is_given_where_fast_dds_has_none():
    both = {'FASTDDS_DEFAULT_PROFILES_FILE': '/p.xml', 'FASTRTPS_DEFAULT_PROFILES_FILE': '/p.xml'}
    own = {'FASTRTPS_DEFAULT_PROFILES_FILE': '/own.xml'}
    cyclone = {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
    for environment in ({}, {'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}):
        assert dds_environment('auto', '/p.xml', environment) == both
    for environment in (own, cyclone):
        assert dds_environment('auto', '/p.xml', environment) == {}
        assert dds_environment('true', '/p.xml', environment) == both
    assert dds_environment('false', '/p.xml', {}) == {}
    with pytest.raises(ConfigurationError, match="fast_dds is 'fast'"):
        dds_environment('fast', '/p.xml', {})


@pytest.mark.parametrize(('text', 'value'), [('true', True), ('False', False), ('0', False)])
def test_booleans_are_read(text, value):
    assert truth('rviz', text) is value


@pytest.mark.parametrize(
    ('read', 'text', 'words'),
    [
        (truth, 'ture', "x is 'ture'; give true or false"),
        (truth, '', 'give true or false'),
        (as_number, 'fast', "x is 'fast'; give a number"),
        (existing_path, '/no/such/file', '/no/such/file, which does not exist'),
        (existing_path, '~nobody-here/x', 'x is ~nobody-here/x, which does not exist'),
        (partial(existing_path, of_file=True), '/tmp', 'x is /tmp, which is no file: check'),
    ],
)
def test_other_texts_are_refused(read, text, words):
    with pytest.raises(ConfigurationError, match=words):
        read('x', text)


def test_a_new_path_is_one_where_nothing_is(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert new_path('record', '~/drive 2') == str(tmp_path / 'drive 2')
    (tmp_path / 'drive 2').mkdir()
    with pytest.raises(ConfigurationError, match='record is ~/drive 2, which exists already'):
        new_path('record', '~/drive 2')
    assert new_path('record', '~nobody-here/x') == '~nobody-here/x'


@pytest.mark.parametrize(
    'text', ['0 -0.2 0.1 0.5 -0.5 0.5 -0.5', '[0,-0.2,0.1,0.5,-0.5,0.5,-0.5]']
)
def test_a_pose_becomes_both_parameters(text):
    assert pose_of_lidar(text) == {
        'extrinsics.translation': [0.0, -0.2, 0.1],
        'extrinsics.rotation_xyzw': [0.5, -0.5, 0.5, -0.5],
    }


@pytest.mark.parametrize('text', ['', '1 2 3', '0 0 0 0 0 0 one'])
def test_a_pose_has_seven_numbers(text):
    with pytest.raises(ConfigurationError, match='give seven numbers'):
        pose_of_lidar(text)


@pytest.mark.parametrize('text', ['front,left', ' front , left ', "['front', 'left']"])
def test_names_of_cameras_are_separated_by_commas(text):
    assert camera_names(text) == ['front', 'left']


def test_nodes_and_their_images_are_found_in_their_namespaces():
    assert namespaces('', []) == {'': ''}
    assert namespaces('/robot/', ['front']) == {'front': '/robot/front'}
    assert image_topic('/robot/front', 'image_raw') == '/robot/front/image_raw'
    assert image_topic('', '/cam/image') == '/cam/image'
    assert image_topic('', '') == '/image'


def test_values_for_the_node_keep_their_types():
    """A folder named 2024 stays a text; a bare string in launch's dictionaries would not."""
    values = {'model': '2024', 'max_rate': 5.0, 'device': 'größer 🚗', 'cameras': ['on']}
    (given,) = yaml.safe_load(parameter_file(values)).values()
    assert given == {'ros__parameters': values}


def topics_shown(text):
    displays = yaml.safe_load(text)['Visualization Manager']['Displays']
    return {item['Name']: item['Topic']['Value'] for item in displays if 'Topic' in item}


def test_rviz_shows_the_topics_of_every_camera():
    template = (ROOT / 'config' / 'marigold.rviz').read_text(encoding='utf-8')
    nodes = namespaces('robot', ['front', 'left'])
    images = {'front': '/robot/front/image_raw', 'left': '/usb_cam/image_raw'}
    shown = topics_shown(rviz_configuration(template, nodes, images))
    assert len(shown) == 2 * len(topics_shown(template))
    assert shown['left: Input'] == '/usb_cam/image_raw'
    assert shown['front: Points'] == '/robot/front/marigold_depth/points'
    assert shown['left: Depth'] == '/robot/left/marigold_depth/depth/color'
    one = rviz_configuration(template, {'': ''}, {'': '/camera/image_raw'})
    assert yaml.safe_load(one) == yaml.safe_load(template)


def test_the_topics_of_a_bag_are_read_from_its_metadata(short_drive, tmp_path):
    topics = topics_of_bag(str(short_drive))
    assert RAW in topics.values()
    (file,) = Path(short_drive).glob('*.mcap')
    assert topics_of_bag(str(file)) == topics
    (tmp_path / 'metadata.yaml').write_text('rosbag2_bagfile_information: [')
    assert topics_of_bag(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ('topics', 'transport'),
    [
        ({'/a': RAW}, 'raw'),
        ({'/a/compressed': COMPRESSED}, 'compressed'),
        ({'/a': RAW, '/a/compressed': COMPRESSED}, 'raw'),
    ],
)
def test_the_transport_is_that_of_the_bag(topics, transport):
    assert transport_in_bag(topics, ['/a']) == transport


def test_a_bag_without_these_images_is_refused_with_those_it_has():
    topics = {'/b': RAW, '/c/compressed': COMPRESSED, '/points': 'sensor_msgs/msg/PointCloud2'}
    with pytest.raises(ConfigurationError, match='no images on /a; .* topics: /b, /c$'):
        transport_in_bag(topics, ['/b', '/a'])
