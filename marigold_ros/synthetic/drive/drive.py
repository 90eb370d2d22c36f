# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A drive through one synthetic scene, as a bag: images, LiDAR scans, true depth, transforms.

Decision: camera and LiDAR rays meet the same solids, each from its own origin, so that what one
sees past an obstacle and the other does not is as real as in a recording. The LiDAR's noise is
drawn per scan; the image's random numbers start anew with each frame, which keeps textures on
their surfaces and exposure still, as with a camera on manual settings.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marigold_ros.bags.writer import BagWriter
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Camera
from marigold_ros.message_codec import camera_info_fields, encode_cloud, encode_depth, encode_image
from marigold_ros.synthetic.appearance.shading import shade
from marigold_ros.synthetic.drive.journey import draw_journey, Mounting, PoseAt
from marigold_ros.synthetic.drive.lidar import LidarModel, scan
from marigold_ros.synthetic.raycast.description import ViewCamera
from marigold_ros.synthetic.raycast.surfaces import render_geometry
import numpy as np

IMAGE, CAMERA_INFO = '/camera/image_raw', '/camera/camera_info'
LIDAR, TRUTH, TRANSFORMS = '/velodyne_points', '/camera/depth_truth', '/tf_static'
ODOMETRY = '/tf'
BASE_FRAME, CAMERA_FRAME, LIDAR_FRAME = 'base_link', 'camera_optical', 'velodyne'
FIXED_FRAME = 'odom'
ODOMETRY_RATE = 50  # 1/s
START_NS = 1_700_000_000 * 1_000_000_000
SCAN_DELAY_NS = 3_000_000  # scans come a few ms after their image, as in real recordings
FIELD_OF_VIEW_DEG = 75.0
NANOSECONDS = 1_000_000_000
LIMITS = {'frames': (1, 10000), 'width': (32, 4096), 'height': (32, 4096), 'lidar_beams': (2, 256)}


@dataclass(frozen=True)
class DriveFrame:
    """
    Measurements of camera and LiDAR at one step.

    ``rgb`` (H, W, 3) uint8; ``depth`` (H, W) float32 z in metres, +Inf for sky; ``points`` (N,)
    structured as in `lidar.scan`; the stamps of image and scan in ns; ``T_world_cam`` (4, 4) the
    pose of the camera.
    """

    rgb: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    stamp_ns: int
    scan_stamp_ns: int
    T_world_cam: np.ndarray


@dataclass(frozen=True)
class Drive:
    """
    A drawn drive: the camera, the mounting of both sensors, and its frames, rendered on demand.

    ``pose`` maps seconds from the first image to T_world_base (4, 4).
    """

    camera: Camera
    mounting: Mounting
    frames: Iterator[DriveFrame]
    pose: PoseAt


def simulate_drive(
    frames: int = 40,
    rate: float = 10.0,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    kind: str = 'street',
    lidar_beams: int = 32,
) -> Drive:
    """
    Draw a drive through a 'street' or 'room'; the frames are rendered while they are read.

    ``frames`` is the number of images (``width`` x ``height`` pixels, ``rate`` a second), each
    with one scan. The same seed gives the same drive on the same machine. Raises
    ConfigurationError if an argument is out of its range, or no free way was found for this seed.
    """
    counts = {'frames': frames, 'width': width, 'height': height, 'lidar_beams': lidar_beams}
    _check(counts, rate)
    journey_seed, look_seed, lidar_seed = np.random.SeedSequence(seed).spawn(3)
    duration = (frames - 1) / rate + SCAN_DELAY_NS / NANOSECONDS
    scene, mounting, pose = draw_journey(np.random.default_rng(journey_seed), kind, duration)
    focal = width / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW_DEG) / 2)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    lidar = LidarModel(beams=lidar_beams)

    def run() -> Iterator[DriveFrame]:
        lidar_rng = np.random.default_rng(lidar_seed)
        for index in range(frames):
            seconds = index / rate
            stamp_ns = START_NS + round(seconds * NANOSECONDS)
            T_world_cam = pose(seconds) @ mounting.T_base_cam
            view = ViewCamera(K, T_world_cam, width, height)
            geometry = render_geometry(scene, view)
            rgb = shade(scene, geometry, np.random.default_rng(look_seed))
            scan_seconds = seconds + SCAN_DELAY_NS / NANOSECONDS
            points = scan(scene, pose(scan_seconds) @ mounting.T_base_lidar, lidar, lidar_rng)
            scan_stamp_ns = stamp_ns + SCAN_DELAY_NS
            yield DriveFrame(rgb, geometry.depth, points, stamp_ns, scan_stamp_ns, T_world_cam)

    return Drive(Camera(K, width, height, distortion=(0.0,) * 5), mounting, run(), pose)


def write_drive(path: str | Path, frames: int = 40, **settings: Any) -> Path:
    """
    Write a synthetic drive as a ROS 2 bag.

    Topics: ``/camera/image_raw`` (rgb8), ``/camera/camera_info``, ``/camera/depth_truth`` (32FC1
    metres, +Inf for sky: nothing within range, REP 117), ``/velodyne_points`` (x y z intensity
    ring), ``/tf_static`` (base_link to camera_optical and to velodyne), ``/tf`` (odom to base_link
    without error, 50 a second).

    ``path`` is the folder to make, which is returned; ``settings`` are further arguments of
    `simulate_drive`. Raises as that, and BagError if the path exists or cannot be written.
    """
    drive = simulate_drive(frames, **settings)
    with BagWriter(path) as bag:
        bag.write(TRANSFORMS, 'tf2_msgs/msg/TFMessage', _transforms(drive.mounting), START_NS)
        step_ns, tick_ns = NANOSECONDS // ODOMETRY_RATE, START_NS
        for frame in drive.frames:
            # One step beyond the scan, so that every stamp lies between two poses.
            while tick_ns <= frame.scan_stamp_ns + step_ns:
                odometry = _odometry(drive.pose, tick_ns)
                bag.write(ODOMETRY, 'tf2_msgs/msg/TFMessage', odometry, tick_ns)
                tick_ns += step_ns
            _write_frame(bag, drive.camera, frame)
    return Path(path)


def _check(counts: dict[str, int], rate: float) -> None:
    for name, value in counts.items():
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ConfigurationError(f'{name} is {value}; choose a value in [{low}, {high}]')
    if not 0.1 <= rate <= 1000:
        raise ConfigurationError(f'rate is {rate:g}; choose a value in [0.1, 1000] 1/s')


def _write_frame(bag: BagWriter, camera: Camera, frame: DriveFrame) -> None:
    header = {'frame_id': CAMERA_FRAME, 'stamp': frame.stamp_ns}
    messages: list[tuple[str, str, dict[str, Any]]] = [
        (CAMERA_INFO, 'sensor_msgs/msg/CameraInfo', camera_info_fields(camera)),
        (IMAGE, 'sensor_msgs/msg/Image', asdict(encode_image(frame.rgb, 'rgb8'))),
        (TRUTH, 'sensor_msgs/msg/Image', asdict(encode_depth(frame.depth))),
    ]
    for topic, msgtype, fields in messages:
        bag.write(topic, msgtype, {'header': header, **fields}, frame.stamp_ns)
    header = {'frame_id': LIDAR_FRAME, 'stamp': frame.scan_stamp_ns}
    cloud = {'header': header, **asdict(encode_cloud(frame.points[None]))}
    bag.write(LIDAR, 'sensor_msgs/msg/PointCloud2', cloud, frame.scan_stamp_ns)


def _transforms(mounting: Mounting) -> dict[str, Any]:
    """Return the fields of a TFMessage with the mounting of both sensors on the vehicle."""
    poses = ((CAMERA_FRAME, mounting.T_base_cam), (LIDAR_FRAME, mounting.T_base_lidar))
    return {'transforms': [_transform(BASE_FRAME, child, T, START_NS) for child, T in poses]}


def _odometry(pose: PoseAt, stamp_ns: int) -> dict[str, Any]:
    """Return the fields of a TFMessage with the vehicle in the frame where it started."""
    T = np.linalg.solve(pose(0.0), pose((stamp_ns - START_NS) / NANOSECONDS))
    return {'transforms': [_transform(FIXED_FRAME, BASE_FRAME, T, stamp_ns)]}


def _transform(parent: str, child: str, T: np.ndarray, stamp_ns: int) -> dict[str, Any]:
    """Return the fields of a TransformStamped."""
    rotation = tuple(quaternion_xyzw(T[:3, :3]))
    return {
        'header': {'frame_id': parent, 'stamp': stamp_ns},
        'child_frame_id': child,
        'transform': {'translation': tuple(T[:3, 3]), 'rotation': rotation},
    }


def quaternion_xyzw(rotation: np.ndarray) -> np.ndarray:
    """Turn a rotation matrix (3, 3) into a unit quaternion (4,), w not negative."""
    # The eigenvector form has no case distinction and no weak angles (Bar-Itzhack 2000).
    r = rotation
    trace_free = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    vector = np.linalg.eigh(trace_free)[1][:, -1]  # eigh reads the lower triangle
    return vector if vector[3] >= 0 else -vector
