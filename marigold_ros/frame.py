# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The records that rooms exchange: camera, frame, prediction, sparse depth, alignment, result.

Frozen dataclasses of arrays, each equal to itself alone; no maths, no ROS, no torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import math

from marigold_ros.errors import AlignmentError, CalibrationError, InputError
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason, sentence
from marigold_ros.spaces import SPACES
import numpy as np


@dataclass(frozen=True, eq=False)
class Camera:
    """
    A pinhole camera, with the distortion of its raw image.

    Parameters
    ----------
    K : (3, 3) float, pixels
        Intrinsics of the image that this camera describes.
    width, height : int, pixels
        Size of that image.
    distortion : (n,) float
        Coefficients of ``distortion_model`` for the raw image; empty or zeros means rectified.
    distortion_model : str
        ``plumb_bob``, ``rational_polynomial`` or ``equidistant``, as in sensor_msgs/CameraInfo.
    R, P : (3, 3) float or None
        Rectifying rotation (None: identity), and intrinsics of its image in pixels (None: ``K``).

    Raises
    ------
    CalibrationError
        If a matrix is not finite, K or P not a pinhole's, R no rotation to 0.01, or a size < 1.

    """

    K: np.ndarray
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    distortion_model: str = 'plumb_bob'
    R: np.ndarray | None = None
    P: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'K', intrinsics(self.K))
        if self.P is not None:
            object.__setattr__(self, 'P', intrinsics(self.P, 'P'))
        if self.R is not None:
            object.__setattr__(self, 'R', _matrix(self.R, 'R'))
            check_rotation(self.R, 'R', 0.01, 'check camera_info, where zeros mean none')
        object.__setattr__(self, 'distortion', tuple(float(d) for d in self.distortion))
        if self.width < 1 or self.height < 1:
            raise CalibrationError(
                f'camera is {self.width}x{self.height}; sides are positive: check camera_info'
            )

    def require_size(self, shape: tuple[int, ...], remedy: str) -> None:
        """Raise CalibrationError, with the remedy, if an image of shape (H, W) is not its own."""
        if (self.height, self.width) != shape:
            raise CalibrationError(
                f'camera_info is for {self.width}x{self.height}, the image is '
                f'{shape[1]}x{shape[0]}; they must agree: {remedy}'
            )


def intrinsics(value: np.ndarray, name: str = 'K') -> np.ndarray:
    """Return a pinhole matrix as its own (3, 3) float64, or raise CalibrationError."""
    matrix = _matrix(value, name)
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise CalibrationError(
            f'focal lengths of {name} are {matrix[0, 0]:g} and {matrix[1, 1]:g} px; they '
            'must be positive: calibrate the camera (a K of zeros means uncalibrated)'
        )
    if matrix[2].tolist() != [0.0, 0.0, 1.0]:
        raise CalibrationError(
            f'the last row of {name} is {matrix[2].tolist()}, not 0 0 1; is {name} transposed?'
        )
    return matrix


def _matrix(value: np.ndarray, name: str, side: int = 3, of: str = 'camera_info') -> np.ndarray:
    """Return a finite square float64, which later changes do not reach; CalibrationError."""
    matrix = np.asarray(value, dtype=np.float64).copy()
    if matrix.shape != (side, side) or not np.isfinite(matrix).all():
        raise CalibrationError(
            f'{name} has shape {matrix.shape} and finite={bool(np.isfinite(matrix).all())}; '
            f'it must be a finite ({side}, {side}) matrix: check {of}'
        )
    return matrix


def check_rotation(R: np.ndarray, name: str, tolerance: float, remedy: str) -> None:
    """Raise CalibrationError if a matrix (3, 3) is no rotation, to a tolerance."""
    error, volume = float(np.abs(R @ R.T - np.eye(3)).max()), float(np.linalg.det(R))
    if error > tolerance or volume < 0:
        raise CalibrationError(
            f'{name} misses orthonormality by {error:.2g}, allowed are {tolerance:g}, and has '
            f'determinant {volume:.3f}, +1 of a rotation, -1 of a mirrored axis: {remedy}'
        )


def _pixels(column: np.ndarray, name: str) -> np.ndarray:
    """Return integers of one type, with a sign; an empty list has no type of its own."""
    column = np.asarray(column) if np.size(column) else np.zeros(0, int)
    if not np.issubdtype(column.dtype, np.integer):
        raise InputError(f'{name} of sparse depth is {column.dtype}; np.rint it', cause='shape')
    return column.astype(np.int64, copy=False)


@dataclass(frozen=True, eq=False)
class SparseDepth:
    """
    Depth known at some pixels: LiDAR as the camera sees it.

    Parameters
    ----------
    u, v : (M,) int, pixels
        Column and row.
    z : (M,) float32, metres
        Depth along the optical axis.
    index : (M,) int or None
        Row of each point in the scan that it came from.
    counts : mapping of str to int
        Points of the scan, dropped by cause, and kept: ``points``, ``not_finite``,
        ``out_of_range``, ``outside``, ``farther_in_pixel``, ``occluded``, ``kept``.
    sigma : (M,) float or None, metres
        Standard deviation of each point beyond the noise of the settings; given as NaN it is 0.
    kind : PointKind
        What the points say of the image around them.
    part : (M,) int or None
        Which of several sources each point is of.

    """

    u: np.ndarray
    v: np.ndarray
    z: np.ndarray
    index: np.ndarray | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    sigma: np.ndarray | None = None
    kind: PointKind = PointKind.LIDAR
    part: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ('u', 'v', 'z', 'index', 'sigma', 'part'):
            column = getattr(self, name)
            if column is None and name not in 'uvz':
                continue
            if np.ndim(column) != 1 or np.shape(column) != np.shape(self.u):
                text = f'sparse depth has u {np.shape(self.u)}, {name} {np.shape(column)}'
                raise InputError(f'{text}; all must be one-dimensional and of one length', 'shape')
            column = _pixels(column, name) if name in 'uv' else np.asarray(column)
            if name == 'z' and column.dtype not in (np.float32, np.float64):  # whole metres
                column = column.astype(np.float32)
            if name == 'sigma' and np.isnan(column).any():  # a sum of weights would be NaN
                column = np.nan_to_num(column, posinf=np.inf)
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.z)

    def chosen(self, which: np.ndarray) -> 'SparseDepth':
        """Return some of the points, by a mask (M,) or indices, without their rows and counts."""
        sigma = None if self.sigma is None else self.sigma[which]
        part = None if self.part is None else self.part[which]
        u, v, z = self.u[which], self.v[which], self.z[which]
        return replace(self, u=u, v=v, z=z, index=None, counts={}, sigma=sigma, part=part)

    def kept(self, which: np.ndarray, **dropped: int) -> 'SparseDepth':
        """Return some of the points as `chosen`, with their rows; count the others by cause."""
        index = None if self.index is None else self.index[which]
        some, counts = self.chosen(which), Counter(self.counts)
        counts.update(dropped, kept=len(some) - counts['kept'])
        return replace(some, index=index, counts=dict(counts))

    def require_inside(self, shape: tuple[int, ...]) -> None:
        """Raise AlignmentError if a point lies outside an image of ``shape`` (H, W)."""
        (height, width, *_), u, v = shape, self.u, self.v
        if len(u) and (min(u.min(), v.min()) < 0 or u.max() >= width or v.max() >= height):
            raise AlignmentError(
                f'sparse depth reaches from ({u.min()}, {v.min()}) to ({u.max()}, {v.max()}), the '
                f'image is {width}x{height}; project the points with its camera'
            )

    def as_input(
        self, shape: tuple[int, ...], least: int, name: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return u, v and float64 z of the points with depth, for a network that takes points.

        Raises AlignmentError if one lies outside an image of ``shape`` (H, W), or there are fewer
        than ``least``, or all have one depth, by whose range networks divide; ``name`` is what
        takes them, in words.
        """
        usable = self.chosen(np.isfinite(self.z) & (self.z > 0))
        usable.require_inside(shape)
        z = usable.z.astype(np.float64)
        if len(z) < least or not z.max() > 1.000001 * z.min():
            raise AlignmentError(
                f'{name} has {len(z)} usable points of {len(self)}; it needs at least {least}, at '
                'different depths: check T_cam_lidar and the LiDAR'
            )
        return usable.u, usable.v, z

    @staticmethod
    def joined(parts: 'Sequence[SparseDepth]') -> 'SparseDepth':
        """Return all points of some parts, in their order; the weakest claim of any holds."""
        if len(parts) == 1:
            return parts[0]
        u, v, z = (np.concatenate([getattr(part, name) for part in parts]) for name in 'uvz')
        stated = [np.zeros(len(p), np.float32) if p.sigma is None else p.sigma for p in parts]
        any_stated = any(part.sigma is not None for part in parts)
        sigma = np.concatenate(stated) if any_stated else None
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)
        kind = PointKind.weakest(part.kind for part in parts)
        return SparseDepth(u, v, z, counts=dict(counts), sigma=sigma, kind=kind)


@dataclass(frozen=True, eq=False)
class GroundPlane:
    """The ground below a camera: the points ``normal @ p = height`` of its frame."""

    normal: np.ndarray  # (3,), unit vector downwards in the frame of the rectified image
    height: float  # metres, of the camera above the ground
    pitch_error: float  # radians, standard deviation of the camera's tilt against the ground


@dataclass(frozen=True, eq=False)
class SparseInput:
    """
    Sparse depth of one source: points, a depth image, points at pixels, the ground, or none.

    Parameters
    ----------
    source : str
        Its name, as in the setting ``sparse_source``.
    points_lidar, T_cam_lidar : (N, 3) float in metres and (4, 4) float, or None
        Points in the sensor's frame, and ``p_cam = T_cam_lidar @ p_lidar``.
    points_sigma : (N,) float or None, metres
        Standard deviation of each of ``points_lidar``, where it is known; NaN where it is not.
    kind : PointKind
        Of ``points_lidar``.
    sparse_image : (h, w) float or None, metres
        A depth image: registered to the image as taken (as rectified if it ``is_rectified``), or
        of a camera of its own, ``sparse_camera``, whose pose is then ``T_cam_lidar``.
    sparse_camera : Camera or None
        Of a depth image that is not registered to the image.
    sparse : SparseDepth or None
        Points at pixels of the image.
    ground : GroundPlane or None
        Where the ground is: the pipeline looks for it in the prediction.
    no_points : Reason or None
        Why there is no sparse depth; None for the usual reason.
    stamp_ns : int or None, nanoseconds
        Of its scan.

    """

    source: str
    points_lidar: np.ndarray | None = None
    T_cam_lidar: np.ndarray | None = None
    points_sigma: np.ndarray | None = None
    kind: PointKind = PointKind.LIDAR
    sparse_image: np.ndarray | None = None
    sparse_camera: Camera | None = None
    is_rectified: bool = False
    sparse: SparseDepth | None = None
    ground: GroundPlane | None = None
    no_points: Reason | None = None
    stamp_ns: int | None = None


@dataclass(frozen=True)
class SourceReport:
    """Points that one of several sources gave for a frame; ``refusal``: why none, or doubts."""

    source: str
    points: int
    refusal: Reason | None = None

    @property
    def reason(self) -> str:
        """The refusal in words; empty without one."""
        return sentence(self.refusal)


@dataclass(frozen=True, init=False, eq=False)
class Frame:
    """
    One camera frame: image, camera, pose, and the sparse depth of its sources.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The image.
    camera : Camera or None
        Of ``rgb``; without it there is neither a fit to a scan nor a cloud.
    points_lidar, T_cam_lidar : (N, 3) float in metres and (4, 4) float, or None
        The paired scan in the LiDAR's frame, and ``p_cam = T_cam_lidar @ p_lidar``: short for an
        input of them alone, so replace ``inputs`` to change them.
    stamp_ns : int, nanoseconds
        Acquisition time of the image.
    T_world_camera : (4, 4) float or None
        Pose of the camera in a fixed frame (odometry); carries depth between frames.
    inputs : sequence of SparseInput
        Sparse depth by source. Of several, replays score with the first, ``lidar``.
    no_camera : Reason or None
        Why a camera is missing that should be known: no focal length is assumed in its place.

    Raises
    ------
    InputError
        If ``rgb`` is no image, or a scan is given beside ``inputs``.
    CalibrationError
        If the camera is of another size, or ``T_world_camera`` not finite or not (4, 4).

    """

    rgb: np.ndarray
    camera: Camera | None
    stamp_ns: int
    T_world_camera: np.ndarray | None
    inputs: tuple[SparseInput, ...]
    no_camera: Reason | None

    def __init__(
        self,
        rgb: np.ndarray,
        camera: Camera | None = None,
        points_lidar: np.ndarray | None = None,
        T_cam_lidar: np.ndarray | None = None,
        stamp_ns: int = 0,
        T_world_camera: np.ndarray | None = None,
        inputs: Sequence[SparseInput] = (),
        no_camera: Reason | None = None,
    ) -> None:
        if points_lidar is not None or T_cam_lidar is not None:
            if inputs:
                raise InputError('give points_lidar or inputs; a scan may be one of inputs')
            inputs = (SparseInput('pointcloud', points_lidar, T_cam_lidar),)
        shape, dtype = np.shape(rgb), getattr(rgb, 'dtype', type(rgb))
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
            raise InputError(
                f'rgb has shape {shape} and dtype {dtype}; an image is (H, W, 3) uint8',
                cause='shape',
            )
        if camera is not None:
            camera.require_size(shape[:2], 'check which camera_info the node listens to')
        if T_world_camera is not None:
            T_world_camera = _matrix(T_world_camera, 'T_world_camera', 4, 'the odometry')
        self.__dict__.update(rgb=rgb, camera=camera, stamp_ns=stamp_ns, inputs=tuple(inputs))
        self.__dict__.update(T_world_camera=T_world_camera, no_camera=no_camera)

    @property
    def lidar(self) -> SparseInput | None:
        """The first input, which scores where a replay holds points out."""
        return self.inputs[0] if self.inputs else None

    @property
    def scan_ns(self) -> int | None:
        """The stamp of the first scan among the inputs, nanoseconds."""
        return next((one.stamp_ns for one in self.inputs if one.stamp_ns is not None), None)

    @property
    def ground(self) -> GroundPlane | None:
        """The plane of the ground, if it is among the inputs."""
        return next((item.ground for item in self.inputs if item.ground is not None), None)

    @property
    def points_lidar(self) -> np.ndarray | None:
        """The scan (N, 3) of ``lidar``, metres, in its frame."""
        return None if self.lidar is None else self.lidar.points_lidar

    @property
    def T_cam_lidar(self) -> np.ndarray | None:
        """The pose (4, 4) of ``lidar`` in the camera's frame."""
        return None if self.lidar is None else self.lidar.T_cam_lidar


@dataclass(frozen=True, eq=False)
class CurrentFrame:
    """The frame being processed."""

    grey: np.ndarray  # (h, w) float32, from `thumbnail`
    stamp_ns: int
    K: np.ndarray | None = None  # (3, 3), pixels, of the rectified image
    T_world_camera: np.ndarray | None = None  # (4, 4), pose of the camera in a fixed frame


# `Prediction.censored` of a model whose values are never clipped.
UNBOUNDED = (float('-inf'), float('inf'))


@dataclass(frozen=True, eq=False)
class Prediction:
    """
    A depth model's prediction for one image.

    Parameters
    ----------
    relative : (H, W) float32
        Known up to scale and shift in ``space``; for space ``metric`` it is depth in metres.
    spread : (H, W) float32 or None
        Deviation between ensemble members, in the unit of ``relative``.
    space : {'depth', 'log', 'disparity', 'metric'}
        The quantity that ``relative`` is affine in.
    censored : (low, high)
        Values outside may have been clipped: they are bounds, no measurements. By default those
        of a map that is clipped to [0, 1]; ``UNBOUNDED`` for one that is not.
    domain_gap : float
        From 0 to 1, how unlike the training images the image is: 0.5 is exceeded by one in twenty
        of these; NaN where that is unknown.
    relative_error : float
        Mean relative error that the model states of its metric depth; NaN where it states none.
    members : (n, H, W) float32 or None
        Maps of an average's models in the unit of ``relative``, which is their mean.
    focal_share : float
        Focal length over the root of the image's area, both in pixels, for which metric depth
        holds: with twice the focal length, an object looks alike at twice the distance. NaN where
        depth does not hang on it.

    """

    relative: np.ndarray
    spread: np.ndarray | None = None
    space: str = 'depth'
    censored: tuple[float, float] = (0.01, 0.99)
    domain_gap: float = math.nan
    relative_error: float = math.nan
    members: np.ndarray | None = None
    focal_share: float = math.nan

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise InputError(
                f"space is '{self.space}'; choose one of {', '.join(SPACES)}", cause='shape'
            )
        if np.ndim(self.relative) != 2:
            raise InputError(
                f'relative has shape {np.shape(self.relative)}; a prediction is (H, W)',
                cause='shape',
            )
        object.__setattr__(self, 'relative', np.asarray(self.relative))


@dataclass(frozen=True, eq=False)
class Alignment:
    """
    The metric fit of a prediction, or the reason why there is none.

    Parameters
    ----------
    state : {'fitted', 'held', 'none'}
        Fitted to this frame's points, held from earlier frames, or not metric.
    refusal, hold_refusal, map_refusal : Reason or None
        Why there is no fit to this frame's points; why none is held instead; why fused depth made
        no use of the map. ``reason`` and ``map_reason`` are their texts.
    scale, shift : float
        ``inverse(scale * relative + shift)`` is depth in metres; NaN while the state is ``none``.
    space : str
        The prediction's space.
    metric : (H, W) float32 or None, metres
        Depth along the optical axis, NaN invalid; None while the state is ``none``.
    field : (h, w) float or None
        Local correction, a factor on depth.
    inlier : (M,) bool or None
        Which of the sparse points the fit kept.
    held_out : (M,) float or None
        Log ratio of measured depth to that of a field fitted without the neighbourhood.
    saw_points : bool
        Whether the map was predicted with the points, so that only ``held_out`` judges it.
    n_points, n_inliers : int
        Points offered and kept.
    rms : float, metres
        Root mean square of the inliers' residuals of the final map.
    spread_log : float
        Robust deviation of log depth at the points (1.4826 MAD): the relative error of the fit.
    condition : float
        Condition number of the normal equations.
    age_ns : int
        How old the held fit is; 0 when fitted.
    sigma : (H, W) float32 or None, metres
        Standard deviation of ``metric`` where the method states it (``fused``).
    map_share : (rows, columns) float32 or None
        Share of the map in fused depth, over the image; None where it has none.
    led_by, shares : str, mapping of str to float or None
        ``map``, ``points`` or ``memory``: what had the largest share, and all shares; unless
        fused empty and None.

    """

    state: str = 'none'
    refusal: Reason | None = None
    scale: float = float('nan')
    shift: float = float('nan')
    space: str = 'depth'
    metric: np.ndarray | None = None
    field: np.ndarray | None = None
    inlier: np.ndarray | None = None
    held_out: np.ndarray | None = None
    saw_points: bool = False
    n_points: int = 0
    n_inliers: int = 0
    rms: float = float('nan')
    spread_log: float = float('nan')
    condition: float = float('nan')
    age_ns: int = 0
    sigma: np.ndarray | None = None
    map_share: np.ndarray | None = None
    led_by: str = ''
    shares: Mapping[str, float] | None = None
    hold_refusal: Reason | None = None
    map_refusal: Reason | None = None

    @property
    def reason(self) -> str:
        """Why the state is not ``fitted``, in words; empty otherwise."""
        return sentence(self.refusal, self.hold_refusal)

    @property
    def map_reason(self) -> str:
        """Why fused depth made no use of the map, in words; empty otherwise."""
        return sentence(self.map_refusal)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """
    The results of one frame.

    Parameters
    ----------
    relative, space : (H, W) float32, str
        The prediction at the image's size, and its space, as of ``Prediction``.
    alignment : Alignment
        The fit; its ``state`` states whether the result is metric.
    metric, sigma : (H, W) float32 or None, metres
        Depth (NaN invalid; ``conservative_k``, ``sky`` applied) and deviation, read-only where
        later frames need them; None unless metric.
    spread : (H, W) float32 or None
        Ensemble deviation of ``relative``.
    camera : Camera or None
        Describes all these images (rectified, no distortion).
    rgb, stamp_ns : (H, W, 3) uint8, int
        The image they belong to (rectified when the input was not), and its stamp.
    sparse : SparseDepth or None
        The points that were offered to the fit, in order of pixels.
    timings_ms : mapping of str to float
        Milliseconds per stage, and ``total``.
    counts : mapping of str to int
        Pixels: ``invalid`` (NaN in ``metric``), ``below_min_depth``, ``beyond_max_depth``, `sky`,
        ``withheld``.
    calibration : str
        Significant errors of the LiDAR's mounting or clock, in words; mostly empty.
    caution : Reason or None
        Why metric depth must be used with care.
    domain_gap : float
        Of the prediction.
    sources : sequence of SourceReport
        What each of several sources gave; empty with one source.

    """

    relative: np.ndarray
    space: str
    alignment: Alignment
    metric: np.ndarray | None
    sigma: np.ndarray | None
    spread: np.ndarray | None
    camera: Camera | None
    rgb: np.ndarray
    sparse: SparseDepth | None
    stamp_ns: int
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    calibration: str = ''
    caution: Reason | None = None
    domain_gap: float = math.nan
    sources: tuple[SourceReport, ...] = ()
