# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The launch files: readable everywhere, and started where ROS is fully installed."""

from __future__ import annotations

import ast
import atexit
from functools import partial
import json
from pathlib import Path
import re
import runpy
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Alignment
from marigold_ros.geometry.fit_report import fit_report
from marigold_ros.geometry.postprocess import postprocess
from marigold_ros.node.interface.launch_arguments import SPARSE_TOPICS, TOPICS
from marigold_ros.reasons import as_reason
from marigold_ros.settings import build
from marigold_ros.sparse_sources import SPARSE_SOURCES
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))


def test_the_launch_files_are_there():
    names = [path.name.removesuffix('.launch.py') for path in FILES]
    assert names == ['depth', 'nav2', 'replay', 'rtabmap']


def nav2_settings():
    """The node's settings for Nav2."""
    file = yaml.safe_load((ROOT / 'config' / 'nav2_depth.yaml').read_text(encoding='utf-8'))
    groups = file['/**']['ros__parameters']
    values = {
        f'{group}.{name}': value for group in groups for name, value in groups[group].items()
    }
    return build(NodeConfig, values)


def nav2_layer():
    """The layer of the costmap, and its sources."""
    file = yaml.safe_load((ROOT / 'config' / 'nav2_costmap.yaml').read_text(encoding='utf-8'))
    layer = file['/**']['ros__parameters']['voxel_layer']
    return layer, [layer[name] for name in layer['observation_sources'].split()]


def test_nav2_gets_no_obstacle_before_the_lens_where_depth_is_unsure():
    depth, sigma = (np.array([values], np.float32) for values in ([20.0, 3.0], [9.0, 0.2]))
    config = nav2_settings().pipeline
    published = postprocess(Alignment(metric=depth), sigma, None, config).metric
    np.testing.assert_allclose(published, [[np.nan, 2.6]], rtol=1e-6)


def test_the_costmap_hears_the_topic_of_the_cloud():
    assert {source['topic'] for source in nav2_layer()[1]} == {'/marigold_depth/points'}


def hall(with_person):
    """Points (n, 3) of a hall from 0.6 m above its floor: x forward, y left, z up; 40 m deep."""
    down, right = np.mgrid[-0.48:0.48:0.016, -0.64:0.64:0.016] + 0.008
    x = np.minimum(0.6 / np.maximum(down, 1e-9), 40.0)
    person = (abs(3.0 * right) < 0.3) & (abs(0.85 - (0.6 - 3.0 * down)) < 0.85)
    x = np.where(person & with_person, 3.0, x)
    return np.stack([x, -right * x, 0.6 - down * x], axis=-1).reshape(-1, 3)


def test_the_costmap_is_cleared_of_a_person_who_has_left_a_hall():
    # By the rules of nav2_costmap_2d: points out of a source's heights neither mark nor clear, and
    # a ray clears voxels up to two cells before its point.
    layer, sources = nav2_layer()
    marked, cleared, eye = set(), set(), np.array([0.0, 0.0, 0.6])

    def voxels(points):
        cells = np.floor(points / [0.1, 0.1, layer['z_resolution']]).astype(int)
        return set(map(tuple, cells.tolist()))

    for source in sources:
        for points, person in ((hall(True), True), (hall(False), False)):
            seen = points[points[:, 0] < nav2_settings().points.max_depth]
            low, high = source['min_obstacle_height'], source['max_obstacle_height']
            seen = seen[(seen[:, 2] >= low) & (seen[:, 2] <= high)]
            away = np.linalg.norm(seen - eye, axis=1, keepdims=True)
            if person and source['marking']:
                marked |= voxels(seen[away[:, 0] < source['obstacle_max_range']])
            if not person and source['clearing']:
                for reach in np.arange(0.0, source['raytrace_max_range'], 0.05):
                    cleared |= voxels(
                        (eye + (seen - eye) / away * reach)[away[:, 0] > reach + 0.2]
                    )
    assert len(marked) > 40
    assert marked <= cleared


def test_rtabmap_hears_topics_that_the_node_publishes():
    inputs = constant('rtabmap.launch.py', 'INPUTS')
    topics = {text for name, text in inputs.items() if name.endswith('_topic')}
    text = (ROOT / 'marigold_ros' / 'node' / 'interface' / 'publishers.py').read_text()
    assert all(f"'{topic.removeprefix('/marigold_depth/')}': " in text for topic in topics)


def test_rtabmap_subscribes_reliably():
    # Its own default, 0, is that of DDS: best effort, which loses large images.
    inputs = constant('rtabmap.launch.py', 'INPUTS')
    assert inputs['qos_image'] == inputs['qos_camera_info'] == '1'


def test_depth_image_proc_is_given_the_camera_info_of_depth():
    # Up to Jazzy image_transport looks for it beside the name before it was remapped.
    text = (ROOT / 'docs' / 'integration.md').read_text(encoding='utf-8')
    command = text.partition('## depth_image_proc')[2].partition('## ')[0]
    for name in ('image_rect', 'camera_info'):
        assert f'-r {name}:=/marigold_depth/depth/{name}' in command


@pytest.fixture
def _without_launch(monkeypatch):
    """Let the launch files run where launch is not installed; their actions do nothing."""
    for name in ('ament_index_python', 'launch', 'launch_ros'):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    for name in ('ament_index_python.packages', 'launch_ros.utilities', 'launch_ros.actions'):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    for name in ('actions', 'launch_description_sources', 'substitutions'):
        monkeypatch.setitem(sys.modules, f'launch.{name}', MagicMock())


@pytest.mark.usefixtures('_without_launch')
@pytest.mark.parametrize(
    ('given', 'words'),
    [('imgae', "did you mean 'image'"), ('costmap_param', "did you mean 'costmap_params'")],
)
def test_a_misspelt_argument_of_the_costmap_is_refused(given, words):
    check = runpy.run_path(str(ROOT / 'launch' / 'nav2.launch.py'))['check_names']
    depth, own = str(ROOT / 'launch' / 'depth.launch.py'), {'costmap_params': 'file'}

    def start(name):
        configurations = {**own, name: '/x'}
        check(
            SimpleNamespace(argv=[f'{name}:=/x'], launch_configurations=configurations), depth, own
        )

    for name in ('image', 'costmap_params'):
        start(name)
    with pytest.raises(ConfigurationError, match=f"no argument '{given}'; {words}"):
        start(given)


@pytest.mark.usefixtures('_without_launch')
def test_the_files_that_a_launch_writes_end_with_it(monkeypatch):
    at_exit = []
    monkeypatch.setattr(
        atexit, 'register', lambda function, **given: at_exit.append(partial(function, **given))
    )
    write = runpy.run_path(str(ROOT / 'launch' / 'depth.launch.py'))['_written']
    path = Path(write('.yaml', 'a: 1'))
    assert path.read_text(encoding='utf-8') == 'a: 1'
    (end,) = at_exit
    end()
    assert not path.exists()


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_a_launch_file_compiles_and_offers_a_description(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    compile(tree, str(path), 'exec')
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert 'generate_launch_description' in functions


def assigned(file, name):
    """What a launch file assigns to a name, without importing it."""
    tree = ast.parse((ROOT / 'launch' / file).read_text(encoding='utf-8'))
    return next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )


def constant(file, name):
    """Value of a constant of a launch file."""
    return ast.literal_eval(assigned(file, name))


def arguments_of(file, name):
    """Names of the arguments in a list of a launch file, with those of sparse depth in place."""
    topics = [topic for topic, _, _ in SPARSE_TOPICS]
    rows = assigned(file, name).elts
    names = (topics if isinstance(row, ast.Starred) else [row.elts[0].value] for row in rows)
    return [name for group in names for name in group]


def test_the_node_can_be_launched_with_every_promised_argument():
    names = arguments_of('depth.launch.py', 'ARGUMENTS')
    promised = (
        'image camera_info lidar model profile params_file rviz use_sim_time log_level namespace '
        'cameras respawn image_transport device sparse_source landmarks radar scan sparse_depth '
        'extrinsics max_rate ground.height ground.pitch fast_dds'
    )
    assert set(promised.split()) <= set(names)


def test_every_kind_of_sparse_depth_is_an_argument_that_is_remapped():
    for name, source in SPARSE_SOURCES.items():
        text = f'topic of the {source.text}, for sparse_source {name}'
        assert (source.topic, '', text) in SPARSE_TOPICS
        assert source.topic in TOPICS


def test_replay_passes_on_what_the_node_launch_takes():
    taken = set(arguments_of('depth.launch.py', 'ARGUMENTS'))
    passed_on = set(arguments_of('replay.launch.py', 'PASSED_ON'))
    assert passed_on | {'use_sim_time'} == taken
    assert arguments_of('replay.launch.py', 'ARGUMENTS') == ['bag', 'rate', 'loop', 'record']


def test_rviz_shows_topics_of_the_node_as_what_they_are():
    interface = pytest.importorskip('marigold_ros.node.interface.publishers')
    kinds = {f'/marigold_depth/{name}': kind for name, kind in interface.TOPICS.items()}
    view = yaml.safe_load((ROOT / 'config' / 'marigold.rviz').read_text(encoding='utf-8'))
    manager = view['Visualization Manager']
    displays = {item['Name']: item for item in manager['Displays'] if 'Topic' in item}
    assert displays.pop('Input')['Topic']['Value'] == '/camera/image_raw'
    assert len(displays) == 5
    for item in displays.values():
        topic, kind = item['Topic'], kinds[item['Topic']['Value']]
        assert item['Class'] == f'rviz_default_plugins/{kind.__name__}'
        offered = interface.output_profile(kind)
        assert topic['Reliability Policy'] == offered.reliability.name.title()
        assert topic['Durability Policy'] == offered.durability.name.title()
        assert item['Enabled'] is item['Value']
    assert manager['Global Options']['Fixed Frame'] == 'camera_optical'


def test_a_replay_latches_static_transforms():
    overrides = yaml.safe_load((ROOT / 'config' / 'replay_qos.yaml').read_text(encoding='utf-8'))
    assert overrides['/tf_static']['durability'] == 'transient_local'


def foxglove():
    return json.loads((ROOT / 'config' / 'foxglove.json').read_text(encoding='utf-8'))


def panels_of(part):
    """Names of the panels in a part of a Foxglove layout."""
    return (
        [part] if isinstance(part, str) else panels_of(part['first']) + panels_of(part['second'])
    )


def test_foxglove_arranges_every_panel_once():
    layout = foxglove()
    assert sorted(panels_of(layout['layout'])) == sorted(layout['configById'])


def test_foxglove_shows_topics_of_the_node_as_what_they_are():
    interface = pytest.importorskip('marigold_ros.node.interface.publishers')
    published = {f'/marigold_depth/{name}': kind for name, kind in interface.TOPICS.items()}
    kinds = {name: kind.__name__ for name, kind in published.items()}
    kinds |= {'/camera/image_raw': 'Image', '/camera/camera_info': 'CameraInfo'}
    kinds |= {'/diagnostics': 'DiagnosticArray'}
    shown = []
    for name, panel in foxglove()['configById'].items():
        if name.startswith('Image!'):
            mode = panel['imageMode']
            shown += [(mode['imageTopic'], 'Image'), (mode['calibrationTopic'], 'CameraInfo')]
        shown += [(topic, 'PointCloud2') for topic in panel.get('topics', ())]
        series = [path['value'].split('.')[0] for path in panel.get('paths', ())]
        shown += [(topic, 'DiagnosticArray') for topic in series]
        if 'topicToRender' in panel:
            shown.append((panel['topicToRender'], 'DiagnosticArray'))
    assert len(shown) > 10
    assert [(topic, kind) for topic, kind in shown if kinds.get(topic) != kind] == []


def test_foxglove_plots_values_of_the_alignment():
    report = fit_report(Alignment('none', as_reason('no points')), 0, None, {})
    paths = [
        p['value'] for panel in foxglove()['configById'].values() for p in panel.get('paths', ())
    ]
    found = [
        re.fullmatch(r'\S+\.status\[:\]\.values\[:\]\{key=="(\w+)"\}\.value', path)
        for path in paths
    ]
    assert all(found)
    assert {match[1] for match in found} <= set(report.values)
