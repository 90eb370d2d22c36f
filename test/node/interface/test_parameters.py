# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Parameters come from config.py, with ranges; bad ones are refused with a reason."""

from pathlib import Path

from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.node.distro import overrides
from marigold_ros.node.interface import parameters as interface
from marigold_ros.node.interface.parameter_file import parameter_file
from marigold_ros.node.interface.parameters import config_of, declare, NAMES
from marigold_ros.settings import parameters
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters, ListParameters
import rclpy
from rclpy.parameter import Parameter, parameter_value_to_python
import yaml

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def plain_node():
    """Create plain nodes with given parameters."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(*arguments, **given):
        overrides = [Parameter(name.replace('__', '.'), value=v) for name, v in given.items()]
        nodes.append(
            rclpy.create_node(
                'plain', context=context, parameter_overrides=overrides, cli_args=list(arguments)
            )
        )
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def test_every_setting_is_declared_with_meaning_and_range(plain_node):
    node = plain_node()
    assert declare(node) == ''
    assert config_of(node) == NodeConfig()
    for parameter in parameters(NodeConfig):
        descriptor = node.describe_parameter(parameter.name)
        assert descriptor.description == parameter.text
        assert descriptor.read_only == parameter.read_only
        if parameter.kind in (int, float):
            limits = (descriptor.integer_range or descriptor.floating_point_range)[0]
            assert limits.from_value == parameter.low
            assert limits.to_value == parameter.high
        if parameter.choices:
            assert all(choice in descriptor.additional_constraints for choice in parameter.choices)


def test_the_shipped_parameter_file_is_up_to_date():
    shipped = (ROOT / 'config' / 'depth.yaml').read_text(encoding='utf-8')
    assert shipped == parameter_file(), (
        'write it anew: python -m marigold_ros.node.interface.parameter_file'
    )


def test_ros_reads_the_shipped_parameter_file_as_the_defaults(plain_node):
    node = plain_node('--ros-args', '--params-file', str(ROOT / 'config' / 'depth.yaml'))
    assert declare(node) == ''
    assert config_of(node) == NodeConfig()
    assert set(overrides(node)) == set(NAMES)


def test_parameter_tools_read_every_parameter_and_a_dump_starts_the_same_node(
    bench, plain_node, tmp_path
):
    """``ros2 param dump`` and rqt_reconfigure ask for all listed parameters in one call."""
    unset = dict.fromkeys(('extrinsics.translation', 'extrinsics.rotation_xyzw'))
    running = bench({**unset, 'alignment.min_points': 30}, autostart=False)
    listed = running.call(ListParameters, 'list_parameters').result.names
    assert set(NAMES) <= set(listed)
    values = running.call(GetParameters, 'get_parameters', names=listed).values
    assert len(values) == len(listed)
    read = {
        name: parameter_value_to_python(item) for name, item in zip(listed, values, strict=True)
    }
    assert read['cameras'] == ['']
    assert np.isnan(read['extrinsics.translation']).tolist() == [True] * 3
    dump = tmp_path / 'dump.yaml'
    plain = {name: value if np.isscalar(value) else list(value) for name, value in read.items()}
    dump.write_text(yaml.safe_dump({'/**': {'ros__parameters': plain}}))
    again = plain_node('--ros-args', '--params-file', str(dump))
    assert declare(again) == ''
    assert config_of(again) == running.node.current_config()
    assert config_of(again).pipeline.alignment.min_points == 30


@pytest.mark.parametrize(
    ('name', 'word'),
    [('sky', 'nan'), ('sky', 'inf'), ('runtime.compile', 'off'), ('image_rectified', 'no')],
)
def test_a_choice_that_yaml_takes_for_something_else_is_understood(plain_node, name, word):
    node = plain_node('--ros-args', '-p', f'{name}:={word}')
    declare(node)
    assert node.get_parameter(name).value == word


@pytest.mark.parametrize(
    ('z', 'words'), [(float('nan'), 'give finite numbers'), (3.0, 'give 3 and 4')]
)
def test_half_of_the_extrinsics_is_refused(plain_node, z, words):
    node = plain_node(extrinsics__translation=[1.0, 2.0, z])
    declare(node)
    with pytest.raises(ConfigurationError, match=words):
        config_of(node)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'extrinsics__translation': [1, 2, 3]}, 'give a value of type list of float'),
        ({'denoising_steps': 99}, 'denoising_steps is 99; choose 0 to 50'),
        ({'seed': None}, r'seed is \[\]; give a value of type int'),  # as `seed: []` of a file
        ({'depth_max': 80}, 'depth_max is 80.*write 80.0'),
        ({'model': 3}, 'model is 3; give a value of type str'),
        ({'alignment__min_depth': -1.0}, 'alignment.min_depth is -1.0; choose 0.001 to 100'),
    ],
)
def test_a_bad_value_at_start_is_one_error_with_remedy(plain_node, given, message):
    with pytest.raises(ConfigurationError, match=message):
        declare(plain_node(**given))


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ('alignment.min_pionts', "did you mean 'alignment.min_points'"),
        ('lidar.somethingelse', 'known are lidar.max_dt, '),
        ('denoising_stps', "did you mean 'denoising_steps'"),
        ('modle', "did you mean 'model'"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_nearest(plain_node, given, message):
    with pytest.raises(ConfigurationError, match=f"no parameter '{given}'; {message}"):
        declare(plain_node(**{given.replace('.', '__'): 3}))


def test_parameters_of_others_are_one_warning(plain_node):
    given = {'robot_base_frame': 'base', 'costmap__resolution': 0.1, 'use_sim_time': False}
    warning = declare(plain_node(**given))
    assert 'robot_base_frame, costmap.resolution' in warning
    assert 'use_sim_time' not in warning


def test_changes_are_validated_as_a_whole(bench):
    node = bench().node

    def try_to(**changes):
        return node.set_parameters_atomically(
            [Parameter(name.replace('__', '.'), value=value) for name, value in changes.items()]
        )

    assert not try_to(denoising_steps=99).successful
    refused = try_to(alignment__method='magic')
    assert not refused.successful
    assert 'choose one of none, fixed, median, least_squares, global, local' in refused.reason
    refused = try_to(color_min_depth=90.0)
    assert 'the first must be below the second' in refused.reason
    assert try_to(color_min_depth=90.0, color_max_depth=200.0).successful
    assert not try_to(image_transport='compressed').successful  # fixed at start
    assert not try_to(alignment__scale=0.0).successful  # a map of no depth
    assert node.current_config().color_min_depth == 90.0


def test_a_change_that_the_model_in_use_refuses_is_refused(bench):
    def check_options(options):
        if options.ensemble_size not in (None, 1):
            raise ConfigurationError('one member is all there is')

    running = bench()
    running.model.check_options = check_options
    (answer,) = running.node.set_parameters([Parameter('profile', value='quality')])
    assert (answer.successful, answer.reason) == (False, 'one member is all there is')
    # Settings for a model that ~/reload will load.
    assert running.configure(model='other', profile='quality')


def test_a_change_amid_reading_the_settings_leaves_no_old_ones(bench, monkeypatch):
    node, read, changes = bench().node, interface.values_of, []

    def set_seed(seed):
        assert node.set_parameters([Parameter('seed', value=seed)])[0].successful

    def read_and_change(node):
        values = read(node)
        if changes:  # by another thread, after the first reading
            set_seed(changes.pop())
        return values

    set_seed(1)
    changes[:] = [2]
    with monkeypatch.context() as patch:
        patch.setattr(interface, 'values_of', read_and_change)
        node.current_config()
    set_seed(1)
    assert node.current_config().pipeline.seed == 1
