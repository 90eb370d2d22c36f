# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Split a scan into scan lines that the fit may see and scan lines that score it.

Scoring points that the fit has seen would be circular. So ``heldout`` fits to every 8th scan line
only, as if the robot carried an 8-beam scanner, and scores the others; or to every 8th degree of
azimuth, which leaves gaps from top to bottom. A random split would leave nearly every
scored point a fitted neighbour one pixel away.
"""

from dataclasses import dataclass, replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError, CalibrationError
from marigold_ros.evaluation.protocols.scan_lines import azimuth_blocks, find_scan_lines, ScanLines
from marigold_ros.frame import Frame, SparseDepth
from marigold_ros.geometry.camera.lidar_projection import project_lidar
from marigold_ros.geometry.camera.rectification import is_rectified, rectified, rectified_valid
import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """One scan, split into points to fit and points to score, which share no pixel."""

    in_fit: np.ndarray  # (N,) bool, rows of the scan that the fit may see
    fit: SparseDepth  # those in view of the camera
    score: SparseDepth  # points of the other scan lines in view; ``index`` counts in the scan
    scan_lines: ScanLines

    def to_fit(self, frame: Frame) -> Frame:
        """Return the frame that was split, with the points that the fit may see."""
        scan, *others = frame.inputs
        sigma = None if scan.points_sigma is None else scan.points_sigma[self.in_fit]
        points = np.asarray(scan.points_lidar)[self.in_fit, :3]
        scan = replace(scan, points_lidar=points, points_sigma=sigma)
        return replace(frame, inputs=(scan, *others))


def lines_to_split(points: np.ndarray, ring: np.ndarray | None, held_out: str) -> ScanLines:
    """Find scan lines, or blocks of azimuth: for ``azimuth``, and of a planar laser."""
    lines = None if held_out == 'azimuth' else find_scan_lines(points, ring)
    return azimuth_blocks(points) if lines is None or lines.count < 2 else lines


def choose_fit_lines(scan_lines: ScanLines, every: int) -> np.ndarray:
    """Return for each point whether its scan line is for the fit; (N,) bool."""
    if every < 2:
        raise AlignmentError(f'fit-every is {every}; at least 2, or no scan line is left to score')
    # The middle of each group, so that neither the sky nor the bumper's edge is always the fit's.
    middle = min(every, scan_lines.count) // 2
    return np.asarray(scan_lines.index % every == middle)


def hold_out(
    frame: Frame,
    config: AlignmentConfig,
    every: int = 8,
    ring: np.ndarray | None = None,
    held_out: str = 'rings',
    seen: SparseDepth | None = None,
) -> HeldOut:
    """
    Split the scan of a frame into scan lines, or blocks of azimuth, to fit and to score.

    Parameters
    ----------
    frame : Frame
        With camera, scan and extrinsics.
    config : AlignmentConfig
        Depth range and occlusion test of the projection. Scored points pass the occlusion test of
        the whole scan, so that the camera can see each of them.
    every : int
        Every n-th scan line is for the fit.
    ring : (N,) int or None
        Scan line of each row of the scan, where the driver reports it.
    held_out : {'rings', 'azimuth'}
        What is kept together, as of :func:`lines_to_split`.
    seen : SparseDepth or None
        The whole scan as :func:`project_scan` projects it, where that is known already.

    Raises
    ------
    CalibrationError
        If camera or extrinsics are missing.
    InputError
        If the scan is empty or malformed.
    AlignmentError
        If ``every`` is below 2.

    """
    if not can_hold_out(frame):
        raise _unfit()
    points = np.asarray(frame.points_lidar)[:, :3]
    lines = lines_to_split(points, ring, held_out)
    in_fit = choose_fit_lines(lines, every)
    seen = project_scan(frame, points, config) if seen is None else seen
    fit = project_scan(frame, points[in_fit], config)
    index = np.asarray(seen.index)
    fitted = np.zeros(frame.rgb.shape[:2], bool)
    fitted[fit.v, fit.u] = True
    scored = ~in_fit[index] & ~fitted[seen.v, seen.u]
    score = SparseDepth(seen.u[scored], seen.v[scored], seen.z[scored], index[scored])
    return HeldOut(in_fit, fit, score, lines)


def can_hold_out(frame: Frame) -> bool:
    """Return whether a frame has a scan, camera and extrinsics."""
    parts = (frame.points_lidar, frame.camera, frame.T_cam_lidar)
    return all(part is not None for part in parts) and len(parts[0]) > 0  # type: ignore[arg-type]


def project_scan(frame: Frame, points: np.ndarray, config: AlignmentConfig) -> SparseDepth:
    """Project LiDAR points (n, 3) into the rectified image of a frame, as the pipeline does."""
    camera, T_cam_lidar = frame.camera, frame.T_cam_lidar
    if camera is None or T_cam_lidar is None:
        raise _unfit()
    valid = None if is_rectified(camera) else rectified_valid(camera)
    return project_lidar(points, T_cam_lidar, rectified(camera), config, valid)


def _unfit() -> CalibrationError:
    return CalibrationError(
        'a scan can only be held out of a frame with points_lidar, camera and T_cam_lidar; '
        'check camera_info and the transform camera <- LiDAR'
    )
