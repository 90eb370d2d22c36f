# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What the launch files make of their arguments; imports neither launch nor ROS.

``ros2 launch`` passes any name and any text on, so both are checked here before a process starts.
"""

from collections.abc import Iterable, Iterator, Mapping
import copy
import json
import os
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.settings import nearest_name
from marigold_ros.sparse_sources import SPARSE_SOURCES
import yaml

# Arguments that are parameters of the node, numbers and texts; its topics of sparse depth as name,
# default and description; and all that are its topics.
NUMBERS = ('max_rate', 'ground.height', 'ground.pitch')
PARAMETERS = ('model', 'profile', 'device', 'image_transport', 'sparse_source')
SPARSE_TOPICS = tuple(
    (source.topic, '', f'topic of the {source.text}, for sparse_source {name}')
    for name, source in SPARSE_SOURCES.items()
)
TOPICS = ('image', 'camera_info', *(name for name, _, _ in SPARSE_TOPICS))
_TRUE, _FALSE = ('true', '1', 'yes', 'on'), ('false', '0', 'no', 'off')
# Read by launch itself.
_LAUNCH = ('launch-prefix', 'launch-prefix-filter', 'emulate_tty')
_LAUNCH_TIMEOUTS = ('sigterm_timeout', 'sigkill_timeout')
# Where Fast DDS looks for a profile: from version 3 on, and before (to Jazzy).
DDS_PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
_COMPRESSED = 'sensor_msgs/msg/CompressedImage'


def refuse_unknown(
    file: str,
    argv: Iterable[str],
    configurations: Mapping[str, str],
    defaults: Mapping[str, str | None],
) -> None:
    """
    Raise ConfigurationError for an argument of the command line that a launch file lacks.

    ``defaults`` are the file's own arguments; ``argv`` and ``configurations`` those of the launch
    context. A file that another one includes sees that one's arguments too, and refuses none.
    """
    given = dict(word.split(':=', 1) for word in argv if ':=' in word)
    changed = {n: v for n, v in configurations.items() if n not in defaults or defaults[n] != v}
    if any(given.get(name) != value for name, value in changed.items()):
        return  # not all of it is from the command line: another file includes this one
    for name in given:
        if name not in (*defaults, *_LAUNCH, *_LAUNCH_TIMEOUTS):
            raise ConfigurationError(
                f"{file} has no argument '{name}'; {nearest_name(name, list(defaults))}"
            )


def truth(name: str, text: str) -> bool:
    """Return a boolean argument; raises ConfigurationError for anything but true and false."""
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ConfigurationError(f"{name} is '{text}'; give true or false")
    return text.lower() in _TRUE


def as_number(name: str, text: str) -> float:
    """Return a number; raises ConfigurationError for anything else."""
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{name} is '{text}'; give a number") from None


def existing_path(name: str, text: str, of_file: bool = False) -> str:
    """Return a path with ~ replaced; raises ConfigurationError if nothing is there, or no file."""
    path = Path(os.path.expanduser(text))  # that of Path raises for unknown users
    if not path.exists():
        raise ConfigurationError(f'{name} is {text}, which does not exist: check the path')
    if of_file and not path.is_file():
        raise ConfigurationError(f'{name} is {text}, which is no file: check the path')
    return str(path)


def new_path(name: str, text: str) -> str:
    """Return a path with ~ replaced; raises ConfigurationError if something is there."""
    path = Path(os.path.expanduser(text))  # that of Path raises for unknown users
    if path.exists():
        raise ConfigurationError(f'{name} is {text}, which exists already: give a new folder')
    return str(path)


def dds_environment(text: str, profile: str, environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the environment that gives a process a profile of Fast DDS, by ``fast_dds``.

    ``auto`` does so unless another implementation, or another profile, is chosen in
    ``environment``. Raises ConfigurationError for anything but auto, true and false.
    """
    wanted = text == 'auto' or truth('fast_dds', text)
    chosen = environment.get('RMW_IMPLEMENTATION', '')
    if text == 'auto':
        wanted = not chosen or 'fastrtps' in chosen
        wanted = wanted and not any(environment.get(name) for name in DDS_PROFILES)
    return dict.fromkeys(DDS_PROFILES, profile) if wanted else {}


def pose_of_lidar(text: str) -> dict[str, list[float]]:
    """Return the parameters ``extrinsics.*`` of ``x y z qx qy qz qw``; commas may separate too."""
    words = text.strip('[]').replace(',', ' ').split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != 7:
        raise ConfigurationError(
            f"extrinsics is '{text}'; give seven numbers, x y z in metres and the quaternion "
            'x y z w: the pose of the LiDAR in the optical frame'
        )
    return {'extrinsics.translation': values[:3], 'extrinsics.rotation_xyzw': values[3:]}


def camera_names(text: str) -> list[str]:
    """Return the names of ``cameras``, with commas between."""
    return [name for part in text.strip('[]').split(',') if (name := part.strip(' \'"'))]


def namespaces(namespace: str, cameras: Iterable[str]) -> dict[str, str]:
    """Return the namespace of each depth node ('': the root) by its camera ('': the only one)."""
    above = f'/{namespace.strip("/")}'.rstrip('/')
    return {name: f'{above}/{name}' for name in cameras} or {'': above}


def image_topic(namespace: str, image: str) -> str:
    """Return the full topic of a node's images; ``image`` is the launch argument."""
    return image if image.startswith('/') else f'{namespace}/{image or "image"}'


def parameter_file(values: Mapping[str, Any]) -> str:
    """
    Return the text of a parameter file for the depth node in every namespace.

    The files that launch writes are for the node without a camera, so that ``/**`` of a file, or
    the part of one camera, would win over them.
    """
    # JSON is YAML in which words are quoted, so that none becomes a number.
    return json.dumps({'/**/marigold_depth': {'ros__parameters': values}}, ensure_ascii=False)


def rviz_configuration(template: str, nodes: Mapping[str, str], images: Mapping[str, str]) -> str:
    """
    Return the text of an RViz configuration with the displays of each depth node.

    ``template`` is config/marigold.rviz, ``nodes`` and ``images`` are the namespaces of the nodes
    and the topics of their images by the names of the cameras.
    """
    view = yaml.safe_load(template)
    manager = view['Visualization Manager']
    shown = manager['Displays']
    manager['Displays'] = [
        *(
            _display(item, nodes[name], images[name], name)
            for name in nodes
            for item in shown
            if 'Topic' in item
        ),
        *(item for item in shown if 'Topic' not in item),
    ]
    return yaml.safe_dump(view, sort_keys=False)


def _display(template: Mapping[str, Any], namespace: str, image: str, camera: str) -> dict:
    display: dict = copy.deepcopy(dict(template))
    topic = display['Topic']['Value']
    own = topic.startswith('/marigold_depth/')
    display['Topic']['Value'] = f'{namespace}{topic}' if own else image
    if camera:
        display['Name'] = f'{camera}: {display["Name"]}'
    return display


def topics_of_bag(bag: str) -> dict[str, str]:
    """Return the topics of a bag and their types; empty where its metadata cannot be read."""
    path = Path(bag)
    metadata = (path if path.is_dir() else path.parent) / 'metadata.yaml'
    try:
        content = yaml.safe_load(metadata.read_text(encoding='utf-8'))
        topics = content['rosbag2_bagfile_information']['topics_with_message_count']
        return {item['topic_metadata']['name']: item['topic_metadata']['type'] for item in topics}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError):
        return {}


def transport_in_bag(topics: Mapping[str, str], images: Iterable[str]) -> str:
    """
    Return the transport of a bag's images: 'compressed' where one is there in that form only.

    Raises ConfigurationError if the bag lacks an image topic in either form.
    """
    transports = []
    for topic in images:
        compressed = topics.get(f'{topic}/compressed') == _COMPRESSED
        if topic not in topics and not compressed:
            known = ', '.join(_image_topics(topics)) or 'none'
            raise ConfigurationError(
                f'the bag has no images on {topic}; set image to one of its image topics: {known}'
            )
        transports.append('raw' if topic in topics else 'compressed')
    return max(transports, default='raw', key=('raw', 'compressed').index)


def _image_topics(topics: Mapping[str, str]) -> Iterator[str]:
    """Iterate over what the argument ``image`` may be for the topics of a bag."""
    for topic, msgtype in sorted(topics.items()):
        if msgtype == 'sensor_msgs/msg/Image':
            yield topic
        elif msgtype == _COMPRESSED and topic.endswith('/compressed'):
            yield topic.removesuffix('/compressed')
