# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The kinds of sparse depth: one list for the node's inputs and for the topics of a bag.

A new kind is a function that reads its message and a line in ``SPARSE_SOURCES``. The codec is
imported inside functions, because the settings name the kinds and ``--help`` loads no numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TYPE_CHECKING

from marigold_ros.errors import CalibrationError, ConfigurationError, InputError
from marigold_ros.point_kinds import PointKind

if TYPE_CHECKING:
    from marigold_ros.frame import SparseInput
    import numpy as np

# Spread of landmarks across their main direction, as a share of that along it, below which they
# are one line.
_ON_LINE = 0.02
# Deviation of what lies at a radar point's pixel from its range, as a share of that: on synthetic
# streets with elevations that are wrong by up to 10 degrees, 0.26 to 0.53 from 3 to 25 m.
_RADAR_NOISE = 0.3
_LIDAR_WORDS = ('lidar', 'velodyne', 'ouster', 'hesai', 'livox', 'rslidar', 'laser')


@dataclass(frozen=True)
class SparseReading:
    """Sparse depth of one message: points of a sensor, or a depth image."""

    frame_id: str  # of the sensor
    input: SparseInput  # points in that frame, or a depth image, without their pose
    ring: np.ndarray | None = None  # (N,) int32, scan lines, if asked for and in the message

    def with_camera(
        self, image_frame: str, shape: tuple[int, ...], info: Any, info_topic: str, rectified: bool
    ) -> SparseInput:
        """
        Return the input, a depth image with its own camera unless it is registered to the image.

        It is registered if it has the frame and the size (H, W) of the image. ``info`` is the last
        message of ``info_topic``, beside the depth image, or None; its P counts if the depth is
        ``rectified``. Raises InputError (cause 'camera_info') where it is needed and missing,
        invalid or of another size.
        """
        found = replace(self.input, is_rectified=rectified)
        depth = found.sparse_image
        if depth is None or (depth.shape == shape[:2] and self.frame_id in ('', image_frame)):
            return found
        height, width = depth.shape
        text = (
            f"the depth image is {width}x{height} px in frame '{self.frame_id}', the image "
            f"{shape[1]}x{shape[0]} in '{image_frame}'"
        )
        if info is None:
            raise InputError(
                f'{text}: unless it is registered to the image it needs a camera_info of its own '
                f'on {info_topic}: publish it, or choose a registered topic',
                cause='camera_info',
            )
        from marigold_ros.message_codec import to_camera

        try:
            camera = to_camera(info, rectified=rectified)
        except CalibrationError as error:
            raise InputError(f'{text}; {info_topic}: {error}', 'camera_info') from error
        known = camera.width, camera.height, info.header.frame_id
        if known != (width, height, self.frame_id):
            raise InputError(
                f"{text}, and {info_topic} is for {known[0]}x{known[1]} px in frame '{known[2]}': "
                'publish that of the depth image',
                cause='camera_info',
            )
        return replace(found, sparse_camera=camera)


@dataclass(frozen=True)
class SparseSource:
    """
    A kind of sparse depth.

    ``read(message, ring=False)`` raises InputError, and so does ``check(message)`` where the
    header alone shows a useless message. ``rank(topic, first_message)`` returns a key by which
    topics of a bag are preferred, smallest first; raises InputError for content that does not fit.
    Without it the names decide, and nothing is decoded.
    """

    topic: str  # name of the node's input, to be remapped
    text: str  # what it carries
    msgtype: str  # as 'sensor_msgs/msg/PointCloud2'
    read: Callable[..., SparseReading]
    check: Callable[[Any], None] = lambda message: None
    rank: Callable[[str, Any], tuple[bool, ...]] | None = None
    word: str = ''  # part of a topic's name without which it is only read where the user names it
    needs_extrinsics: bool = True  # of a depth image only where it is not registered

    @property
    def message_name(self) -> str:
        """The message type without its package, as 'PointCloud2'."""
        return self.msgtype.rpartition('/')[2]


def _read_cloud(message: Any, ring: bool = False) -> SparseReading:
    from marigold_ros.frame import SparseInput
    from marigold_ros.message_codec import has_field, returned, to_points
    import numpy as np

    with_ring = ring and has_field(message, 'ring')
    columns = to_points(message, ('x', 'y', 'z', *(('ring',) if with_ring else ())))
    kept = returned(columns[:, :3])
    columns = columns if kept.all() else columns[kept]
    points = np.ascontiguousarray(columns[:, :3])
    rings = columns[:, 3].astype(np.int32) if with_ring else None
    return SparseReading(message.header.frame_id, SparseInput('pointcloud', points), rings)


def _check_cloud(message: Any) -> None:
    names = [field.name for field in message.fields]
    # AirSim leaves fields out where nothing was hit.
    missing = [axis for axis in 'xyz' if axis not in names and message.width]
    if missing:
        raise InputError(
            f'cloud has no field {", ".join(missing)}; it has {", ".join(names) or "none"}: '
            'choose another topic',
            cause='fields',
        )


def _rank_cloud(topic: str, message: Any) -> tuple[bool, ...]:
    """Prefer clouds without colour, which cameras have, and then those of LiDARs."""
    _check_cloud(message)
    names = {field.name for field in message.fields}
    is_lidar = 'ring' in names or any(word in topic.lower() for word in _LIDAR_WORDS)
    return not names.isdisjoint(('rgb', 'rgba')), not is_lidar


def _read_landmarks(message: Any, ring: bool = False) -> SparseReading:
    from marigold_ros.frame import SparseInput
    from marigold_ros.message_codec import has_field, to_organised, to_points
    import numpy as np

    points, sigma = to_points(message), None
    _check_spread(points)
    if has_field(message, 'sigma'):  # which is NaN where it is not known
        columns = to_organised(message, ('x', 'y', 'z', 'sigma')).reshape(-1, 4)
        sigma = columns[np.isfinite(columns[:, :3]).all(axis=1), 3]
    found = SparseInput('landmarks', points, points_sigma=sigma)
    return SparseReading(message.header.frame_id, found)


def _read_radar(message: Any, ring: bool = False) -> SparseReading:
    from marigold_ros.frame import SparseInput
    from marigold_ros.message_codec import to_points
    import numpy as np

    points = to_points(message)
    sigma = _RADAR_NOISE * np.linalg.norm(points, axis=1)
    found = SparseInput('radar', points, points_sigma=sigma, kind=PointKind.RADAR)
    return SparseReading(message.header.frame_id, found)


def _check_spread(points: np.ndarray) -> None:
    """Refuse landmarks on one line: they may all be one wrong track, and show no scene."""
    import numpy as np

    if len(points) < 3:
        return  # too few for any fit
    known = points.astype(np.float64)
    along, across, _ = np.linalg.svd(known - np.median(known, axis=0), compute_uv=False)
    if across < _ON_LINE * along:
        raise InputError(
            f'the {len(known)} landmarks lie on one line (spread across it {across / along:.1%} '
            f'of that along it, needs {_ON_LINE:.0%}); check the odometry that publishes them',
            cause='line',
        )


def _read_scan(message: Any, ring: bool = False) -> SparseReading:
    from marigold_ros.frame import SparseInput
    from marigold_ros.message_codec import scan_to_points

    return SparseReading(message.header.frame_id, SparseInput('scan', scan_to_points(message)))


def _read_depth_image(message: Any, ring: bool = False) -> SparseReading:
    from marigold_ros.frame import SparseInput
    from marigold_ros.message_codec import to_depth

    found = SparseInput('depth_image', sparse_image=to_depth(message))
    return SparseReading(message.header.frame_id, found)


def _rank_depth_image(topic: str, message: Any) -> tuple[bool, ...]:
    _read_depth_image(message)
    return ()


_of_clouds = partial(
    SparseSource, msgtype='sensor_msgs/msg/PointCloud2', check=_check_cloud, rank=_rank_cloud
)
# By the value of the node's parameter sparse_source; of a bag, the first kind there is counts.
SPARSE_SOURCES = {
    'pointcloud': _of_clouds('lidar', 'point clouds', read=_read_cloud),
    # As visual-inertial odometry and SLAM publish them: few, noisy, of any frame.
    'landmarks': _of_clouds(
        'landmarks', 'landmarks of odometry or SLAM', read=_read_landmarks, word='landmarks'
    ),
    # As automotive radars publish them: few, with elevations that are wrong by degrees.
    'radar': _of_clouds('radar', 'radar points', read=_read_radar, word='radar'),
    'scan': SparseSource('scan', 'laser scans', 'sensor_msgs/msg/LaserScan', _read_scan),
    # By name too: relative depth and uncertainty look like depth by their content.
    'depth_image': SparseSource(
        'sparse_depth',
        'depth images',
        'sensor_msgs/msg/Image',
        _read_depth_image,
        rank=_rank_depth_image,
        word='sparse_depth',
        needs_extrinsics=False,
    ),
}

# The source without a sensor: the plane of the ground, which the prediction shows.
GROUND = 'ground'
NONE = 'none'
BAG = 'bag'  # in commands on bags: the first kind of sparse depth that a bag has
SOURCE_NAMES = (NONE, *SPARSE_SOURCES, GROUND)


def source_names(text: str) -> tuple[str, ...]:
    """
    Return the names in a value of the setting ``sparse_source``, with commas between.

    Empty for none. Raises ConfigurationError for an unknown name, one given twice, or none beside
    others.
    """
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in SOURCE_NAMES:
            raise ConfigurationError(
                f"sparse_source is '{text}', and there is no source '{name}'; choose one of "
                f'{", ".join(SOURCE_NAMES)}, or several with commas between'
            )
        if names.count(name) > 1:
            raise ConfigurationError(
                f"sparse_source is '{text}' and names {name} twice; name each source once"
            )
    if NONE in names and len(names) > 1:
        raise ConfigurationError(
            f"sparse_source is '{text}'; none excludes other sources: leave it out"
        )
    return tuple(name for name in names if name != NONE)


def needs_extrinsics(text: str) -> bool:
    """Return whether one of the sources of a setting needs a sensor's pose."""
    names = source_names(text)
    return any(SPARSE_SOURCES[name].needs_extrinsics for name in names if name != GROUND)


def source_of_topic(topic: str, msgtype: str) -> str:
    """Return the kind in ``SPARSE_SOURCES`` of a topic by its type and, of several, its name."""
    kinds = [name for name, source in SPARSE_SOURCES.items() if source.msgtype == msgtype]
    named = [kind for kind in kinds if (word := SPARSE_SOURCES[kind].word) and word in topic]
    return (named or kinds)[0]
