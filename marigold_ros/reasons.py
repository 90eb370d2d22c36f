# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Reasons as data: a code and the values that belong to it; the sentence is made where it is shown.

One table holds every sentence by which a frame, a sensor, a fit or a map is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marigold_ros.errors import shown

_FEW_POINTS = (
    '{usable} usable points of {offered} in view, needs {needed}; check T_cam_lidar, camera_info, '
    'the LiDAR, that frame_id of the images is optical (z forward), or lower alignment.min_points'
)
SENTENCES = {
    # Of another module, or of an error: the text as it stands.
    'text': '{text}',
    # Sparse depth of a frame.
    'no_sparse_depth': (
        'no sparse depth came with this frame; check sparse_source, its topic and lidar.max_dt'
    ),
    'no_camera': (
        'no usable camera_info; points cannot be projected without it: publish or correct it'
    ),
    'no_transform': (
        'no transform camera <- LiDAR is known; publish it on tf, or set extrinsics.translation '
        'and extrinsics.rotation_xyzw'
    ),
    'too_far': (
        'no point is in view, and half of all are farther than {typical:.0f} m where '
        'alignment.max_depth is {most:g} m: check that their driver gives metres, not millimetres'
    ),
    'nothing_measured': 'no point has a depth; check that the sensor works and is not covered',
    'none_in_view': (
        'no point is in view; check the transform of the sensor, and that frame_id of the images '
        'is optical (z forward)'
    ),
    'not_of_this_image': (
        'image and points contradict each other: where depth of the points steps, the edges of '
        'the image are {strength:.1f} times as strong as elsewhere, and twice with a scan that '
        'fits; check transform, axes and stamps of the LiDAR, and camera_info'
    ),
    'scattered': (
        '{share:.0%} of the points lie behind others at the same place, and hardly a quarter of a '
        'scan that fits: noise, a wrong transform, or an occlusion test that is too strict '
        '(alignment.occlusion_window, alignment.occlusion_threshold)'
    ),
    'sources_disagree': (
        'its depth is {factor} times that of {other} at {places} places; check scale and pose'
    ),
    'source_outvoted': (
        'left out: its depth is {factor} times that of {other} at {places} places, and '
        '{others} sources contradict it alike; check scale and pose'
    ),
    'until_it_fits': '{why}; metres come back once it fits',
    # The plane of the ground.
    'ground_out_of_view': (
        'the ground could be seen in {share:.0%} of the image, {needed:.0%} are needed; check '
        'that the camera looks down at it, and ground.pitch or the transform'
    ),
    'ground_disagrees': (
        '{share:.0%} of the image below the horizon agree with the ground plane, {needed:.0%} are '
        'needed: a wall, stairs or things hide the ground, or ground.pitch is wrong'
    ),
    'ground_hidden': (
        '{share:.0%} of the nearest visible ground agree with the ground plane, {needed:.0%} are '
        'needed: something hides it, or ground.pitch is wrong'
    ),
    'ground_too_short': (
        'the visible ground spans {low:.1f} to {high:.1f} m, a ratio of {ratio:.2f}; {needed:g} '
        'is needed: tilt the camera less'
    ),
    'below_ground': (
        '{share:.0%} of the image below the horizon lie below the ground plane, at most '
        '{allowed:.0%} may: stairs or a slope downwards, or ground.pitch is wrong'
    ),
    'ground_tilted': (
        'the map shows a plane tilted by {tilt:.0f} degrees from the ground, at most '
        '{allowed:.0f} may be: a ramp or a wall, or ground.pitch is wrong'
    ),
    'ground_alone': (
        'metres from the ground plane alone: what stands on it is {obstacles}; add a source that '
        'measures, see docs/without-a-lidar.md'
    ),
    # The fit of the map.
    'method_none': 'alignment.method is none; choose fused for metric depth',
    'few_points': 'the fit has ' + _FEW_POINTS,
    'one_depth': (
        "the points' depth spans {low:.2f} to {high:.2f} m, a ratio of {ratio:.3f}; the fit needs "
        '{needed:g}: show more than one wall, or lower alignment.min_depth_ratio'
    ),
    'constant_map': (
        'the prediction is constant at the points (condition {condition:.2g}, allowed '
        '{allowed:.0e}); check the image (lens covered, all black?) and the model'
    ),
    'scale_not_positive': (
        'the fitted scale is {scale:.3g} ± {error:.2g}; it must be positive by two standard '
        'errors: map and points contradict each other, check T_cam_lidar, camera_info, the pairing'
    ),
    'few_agree': (
        '{agree} of {points} points agree with the fit, {needed:.0%} are needed; '
        'check T_cam_lidar and camera_info, or lower alignment.min_inlier_ratio'
    ),
    'metric_disagrees': (
        '{agree} of {points} points agree with the metric prediction, {needed:.0%} are needed; '
        'check T_cam_lidar, camera_info and model, or lower alignment.min_inlier_ratio'
    ),
    # Fusion.
    'blind': '{why} Without points its depth is unknown',
    'few_to_fuse': 'fusion has ' + _FEW_POINTS,
    'points_contradict': (
        'the points contradict each other: half of them are more than {typical:.0%} off what '
        'their neighbours say; check T_cam_lidar, camera_info, the pairing and the LiDAR'
    ),
    'map_gains_nothing': (
        'at points held out the map errs by {of_map:.0%}, interpolation by {of_points:.0%}'
    ),
    # Why an earlier fit or depth is not held.
    'fit_too_old': ('the last fit is {age_s:.2f} s old, alignment.hold_limit is {allowed_s:g} s'),
    'held_depth_off': ('held depth is off by {sigmas:.1f} sigma at the {points} points in view'),
}


@dataclass(frozen=True)
class Reason:
    """Why there is no depth, no fit or no share: ``str`` of it is the sentence for people."""

    code: str  # key of ``SENTENCES``
    # What the sentence names: measured values, limits, counts.
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return shown(SENTENCES[self.code].format(**self.values))


NO_SPARSE_DEPTH = Reason('no_sparse_depth')


def as_reason(text: object) -> Reason | None:
    """Return the reason for a text or an error; None for an empty one."""
    return Reason('text', {'text': str(text)}) if str(text) else None


def sentence(*reasons: Reason | None) -> str:
    """Return the text of all reasons that there are; '' without any."""
    return '; '.join(str(reason) for reason in reasons if reason is not None)
