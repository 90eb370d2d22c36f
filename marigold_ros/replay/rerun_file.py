# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write results of frames as a recording for the viewer of rerun, which needs no ROS.

Everything is in the optical frame of the camera. Depth, sigma and relative depth are stored in
half precision (0.05 %), images as JPEG, the cloud thinned: ten times smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
import math
from numbers import Real
from pathlib import Path
from typing import Any

from marigold_ros.config import PointsConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import FrameResult
from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth
import numpy as np

MOST_POINTS = 50_000  # of a frame
_ERRORS = ('heldout_abs_rel', 'truth_abs_rel')


def require_rerun() -> None:
    """Raise ConfigurationError if the SDK is missing."""
    if find_spec('rerun') is None:
        raise ConfigurationError(
            'a recording for rerun needs its SDK, which is not installed; pip install rerun-sdk, '
            'or leave --rerun out'
        )


class RerunFile:
    """A file that :meth:`add` fills, to be used in a ``with``; ``points`` limits the cloud."""

    def __init__(self, path: Path, points: PointsConfig) -> None:
        self._path, self._points = path, points
        self._stream: Any = None

    def __enter__(self) -> RerunFile:
        require_rerun()
        import rerun

        self._stream = rerun.RecordingStream('marigold_ros')
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream.save(self._path)
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(
                f'{self._path} cannot be written ({error}); choose another --rerun'
            ) from error
        self._stream.log('/', rerun.ViewCoordinates.RDF, static=True)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.disconnect()

    def add(self, result: FrameResult, row: Mapping[str, Any]) -> None:
        """Write the results of a frame; ``row`` has its scores and times, as per_frame.csv."""
        import rerun

        log = self._stream.log
        self._stream.set_time('stamp', timestamp=np.datetime64(result.stamp_ns, 'ns'))
        height, width = result.rgb.shape[:2]
        if result.camera is not None:
            log(
                'camera',
                rerun.Pinhole(image_from_camera=result.camera.K, width=width, height=height),
            )
        log('camera/image', rerun.Image(result.rgb).compress(jpeg_quality=90))
        log('relative', rerun.Image(result.relative.astype(np.float16)))
        for name, metres in (('depth', result.metric), ('sigma', result.sigma)):
            if metres is None:
                log(name, rerun.Clear(recursive=False))
            else:
                finite = np.where(np.isfinite(metres), metres, 0.0).astype(np.float16)
                log(name, rerun.DepthImage(finite, meter=1.0))
        log('cloud', self._cloud(result))
        for name, value in _scalars(result, row).items():
            log(name, rerun.Scalars(value))

    def _cloud(self, result: FrameResult) -> Any:
        import rerun

        camera, metric = result.camera, result.metric
        if camera is None or metric is None:
            return rerun.Clear(recursive=False)
        fitted = metric if result.alignment.metric is None else result.alignment.metric
        stride = max(self._points.stride, math.ceil(math.sqrt(metric.size / MOST_POINTS)))
        depth = depth_of_cloud(metric, fitted, camera.K, self._points)
        points = unproject_depth(depth, camera.K)[::stride, ::stride]
        valid = np.isfinite(points).all(axis=-1)
        return rerun.Points3D(points[valid], colors=result.rgb[::stride, ::stride][valid])


def _scalars(result: FrameResult, row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a frame that are finite, by their paths."""
    fit = result.alignment
    values: dict[str, Any] = {
        'fit/scale': fit.scale,
        'fit/shift': fit.shift,
        'fit/rms': fit.rms,
        'fit/points': fit.n_points,
        'fit/inliers': fit.n_inliers,
        'fit/map_share': (fit.shares or {}).get('map'),
        'fit/age_s': fit.age_ns / 1e9,
        **{f'error/{name}': row.get(name) for name in _ERRORS},
        **{f'time/{name}': value for name, value in row.items() if name.endswith('_ms')},
    }
    if result.metric is not None and result.sigma is not None:
        values['sigma_share/median'] = np.nanmedian(result.sigma / result.metric)
    numbers = {name: value for name, value in values.items() if isinstance(value, Real)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
