# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The parameter list: every setting with its default, its meaning and its range.

Frozen dataclasses of :mod:`marigold_ros.settings`. ROS parameters and their descriptors, the YAML
file, command-line options and docs/parameters.md all derive from these fields, because lists kept
in several places drift apart. A nested group becomes a prefix (``alignment.min_points``) unless it
is marked flat. Nothing here imports ROS or torch.
"""

from dataclasses import dataclass
import math
import re
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.settings import check_below, group, setting, Settings, start_setting
from marigold_ros.sparse_sources import source_names, SPARSE_SOURCES


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Which checkpoint runs, and where."""

    model: str = setting(
        'unet',
        'checkpoint: name of an embedded one, folder, or what `models get` fetched (name or hub '
        'id); several with + between them are averaged; ~/reload loads a changed value',
    )
    vae: str = setting(
        '',
        'folder or hub id of another autoencoder, such as madebyollin/taesd; empty keeps that '
        'of the checkpoint; ~/reload reads it too',
    )
    device: str = start_setting(
        'auto', 'auto (a GPU if there is one), cpu, cuda, cuda:1, …; a missing device is an error'
    )
    dtype: str = start_setting(
        'auto',
        'precision of the networks; auto is float16 on a GPU, and on a CPU float32, or '
        'bfloat16 for OpenVINO and large networks where the CPU supports it',
        choices=('auto', 'float32', 'bfloat16', 'float16'),
    )
    torch_threads: int = start_setting(
        0, 'CPU threads of the model; 0 is all cores but one', (0, 256)
    )

    @property
    def arguments(self) -> tuple[str, str, str, str | None]:
        """Return the first arguments of ``load_model``; None is the checkpoint's autoencoder."""
        return self.model, self.device, self.dtype, self.vae or None


@dataclass(frozen=True)
class RuntimeConfig(Settings):
    """How the networks run; predictions stay the same up to rounding."""

    backend: str = start_setting(
        'auto',
        'runtime of the networks; openvino (an extra, except on x86-64 Linux) is faster on CPUs '
        'and compiles for some seconds; onnxruntime (an extra) runs on CPUs, and by TensorRT or '
        'CUDA on GPUs; auto is torch, but in the node (and with warm_up) openvino on a CPU where '
        'it is installed; torch, imported once it is needed, answers while it compiles a model of '
        'less than 100 million weights for a new size',
        choices=('auto', 'torch', 'openvino', 'onnxruntime'),
    )
    channels_last: bool = start_setting(
        True, 'store the channels of a pixel contiguously in memory'
    )
    compile: str = start_setting(
        'off',
        'torch.compile for each image size, which takes minutes the first time; auto is frozen '
        'weights on a CPU and CUDA graphs on a GPU',
        choices=('off', 'auto', 'default', 'reduce-overhead', 'max-autotune'),
    )
    cache_dir: str = start_setting(
        '',
        'folder of networks and compiled code for the next start; empty is '
        '~/.cache/marigold_ros/compiled',
    )
    warm_up: str = start_setting(
        '', "image sizes to run once at loading, such as '480x640,720x1280'; empty is none"
    )

    @property
    def converted(self) -> bool:
        """Whether networks are converted for another runtime than PyTorch."""
        return self.backend in ('openvino', 'onnxruntime')

    @property
    def plain(self) -> bool:
        """Whether PyTorch runs the networks as they are: with gradients, for any batch."""
        return not self.converted and self.compile == 'off'


@dataclass(frozen=True)
class EngineConfig(Settings):
    """How an image is denoised, merged and upsampled; by default as its checkpoint chooses."""

    noise: str = setting(
        'checkpoint',
        'initial noise: as the checkpoint was trained, gaussian by the seed of each call, '
        'fixed (the first seed until a reset), or zeros',
        choices=('checkpoint', 'gaussian', 'fixed', 'zeros'),
    )
    timestep_spacing: str = setting(
        'auto',
        "auto is the checkpoint's own, but trailing instead of leading below 10 steps and of "
        'linspace in one',
        choices=('auto', 'leading', 'trailing'),
    )
    warm_start: float = setting(
        0.0,
        'share of the previous latent in the initial noise; 0 makes frames independent, 0.1 is '
        'usual for video; harmful where denoising starts from zeros',
        (0.0, 0.9),
    )
    scene_cut: float = setting(
        0.15,
        'mean absolute difference of thumbnails (0 to 1) above which temporal state is reset',
        (0.0, 1.0),
    )
    merge: str = setting(
        'fitted',
        "merging of ensemble members: robust closed-form fit (fitted) or the paper's objective "
        '(reference)',
        choices=('fitted', 'reference'),
    )
    upsampling: str = setting(
        'bilinear',
        'interpolation to the size of the image: bilinear, or bilateral, which follows its edges',
        choices=('bilinear', 'bilateral'),
    )
    batch_limit: int = setting(
        0, 'largest number of members that run at once; 0 is as many as memory allows', (0, 20)
    )


@dataclass(frozen=True)
class AlignmentConfig(Settings):
    """How sparse depth puts a prediction into metres."""

    method: str = setting(
        'fused',
        'none: no metric depth; fixed: scale and shift below; median: scale only; '
        'least_squares: scale and shift, not robust; global: robust scale and shift; local: '
        'global and a smooth bounded correction; fused: points, edges of the image and the local '
        'map, each by the errors to be expected of it',
        choices=('none', 'fixed', 'median', 'least_squares', 'global', 'local', 'fused'),
    )
    fusion: str = setting(
        'auto',
        'network of method fused: auto is the one in the folder fusion of the checkpoint, or the '
        'embedded one; none mixes in closed form; or a folder; ~/reload reads it too',
    )
    scale: float = setting(1.0, 'scale of method fixed, in the space of the model', (1e-6, 1e6))
    shift: float = setting(0.0, 'shift of method fixed, in the space of the model', (-1e6, 1e6))
    shift_min: float = setting(
        -1000.0, 'lower bound of the fitted shift, in the space of the model', (-1e6, 0.0)
    )
    shift_max: float = setting(
        1000.0,
        'upper bound of the fitted shift; with shift_min and shift_max 0 only a scale is fitted',
        (0.0, 1e6),
    )
    mean_weight: float = setting(
        0.85,
        'weight of the squared mean residual in the fit; matters only at the bounds of the shift',
        (0.0, 100.0),
    )
    min_depth: float = setting(
        0.1, 'metres; nearer points are ignored, nearer results are invalid', (0.001, 100.0)
    )
    max_depth: float = setting(100.0, 'metres; farther points are ignored', (0.01, 10000.0))
    min_points: int = setting(20, 'least number of points in view for a fit', (3, 100000))
    min_inlier_ratio: float = setting(
        0.4, 'least share of points that agree with the fit', (0.0, 1.0)
    )
    min_depth_ratio: float = setting(
        1.1, "least ratio of the points' 95th to 5th percentile of depth for a fit", (1.0, 100.0)
    )
    noise_floor: float = setting(
        0.03, 'metres; range noise of the sensor at zero distance', (0.0, 10.0)
    )
    noise_slope: float = setting(
        0.02, 'growth of the expected residual with depth, metres per metre', (0.001, 1.0)
    )
    robust_rounds: int = setting(5, 'rounds of Tukey re-weighting', (0, 50))
    occlusion_window: int = setting(
        7, 'pixels; side of the window of the occlusion test; 1 disables it', (1, 31)
    )
    occlusion_threshold: float = setting(
        1.5,
        'metres, beyond 100 m percent of depth; points this far behind the nearest of their '
        'window are hidden',
        (0.0, 100.0),
    )
    field_limit: float = setting(
        3.0, 'bound of the local correction factor: between 1/limit and limit', (1.0, 10.0)
    )
    field_reach: float = setting(
        0.06, 'reach of a point in the local correction, share of the image diagonal', (0.001, 1.0)
    )
    hold_limit: float = setting(
        1.0, 'seconds for which the last fit is used while points are missing', (0.0, 60.0)
    )
    hold_growth: float = setting(
        0.2, 'growth of sigma while a fit is held, as a share of depth per second', (0.0, 10.0)
    )
    smoothing: float = setting(
        0.6,
        'share of the previous depth where image and depth are unchanged; 0 makes frames '
        'independent',
        (0.0, 0.9),
    )
    contradiction: str = setting(
        'refuse',
        'what points that do not fit the image make: refuse gives no metres, warn a warning',
        choices=('refuse', 'warn'),
    )
    ground_alone: str = setting(
        'ground',
        'what is published where metres rest on the ground plane alone: ground, the pixels that '
        'image and map show to be ground; all, obstacles too, which a weak model puts too far',
        choices=('ground', 'all'),
    )
    conservative_k: float = setting(
        0.0,
        'standard deviations by which depth is published nearer than estimated, for obstacle '
        'layers; pixels without sigma are then invalid',
        (0.0, 5.0),
    )
    min_confidence: float = setting(
        0.0,
        'percent; pixels of less confidence, which is 100 less sigma in percent of depth, are '
        'invalid; 0 keeps all',
        (0.0, 100.0),
    )

    def check(self) -> None:
        """Check that the depth range is not empty."""
        check_below('alignment.min_depth', self.min_depth, 'alignment.max_depth', self.max_depth)


@dataclass(frozen=True)
class GuidedConfig(Settings):
    """How points steer the denoising; rates as in Marigold-DC (arXiv 2412.13389)."""

    steps: int = setting(
        50,
        'optimiser steps; a model that denoises from noise takes as many DDIM steps, at most '
        '50, unless denoising_steps is set',
        (1, 1000),
    )
    latent_rate: float = setting(
        0.05, 'learning rate of the latent, whose standard deviation is 1', (0.0, 1.0)
    )
    affine_rate: float = setting(
        0.005, 'learning rate of scale and shift, in units of the range of the points', (0.0, 0.1)
    )
    checkpointing: bool = setting(
        False,
        'recompute activations for the gradients instead of storing them: less memory, more time',
    )


# Denoising steps and members; None is the checkpoint's own. With the right timestep spacing
# more steps sharpen but do not improve a member, while members of several steps differ enough for
# an ensemble to pay (arXiv 2409.11355): quality is bought with members.
PROFILES = {
    'checkpoint': (None, None),
    'fast': (1, 1),
    'balanced': (4, 3),
    'quality': (4, 10),
    'paper': (50, 10),
}
_NUMBERS = ', '.join(f'{name} {own}' for name, own in PROFILES.items() if own[0])


@dataclass(frozen=True)
class PredictionConfig(Settings):
    """How a model predicts one image."""

    profile: str = setting(
        'checkpoint',
        f'denoising steps and ensemble size: checkpoint (its own), {_NUMBERS}',
        choices=tuple(PROFILES),
    )
    denoising_steps: int = setting(
        0, 'DDIM steps per ensemble member; 0 is the number of the profile', (0, 50)
    )
    ensemble_size: int = setting(
        0, 'independent samples merged per frame; 0 is the number of the profile', (0, 20)
    )
    processing_resolution: int = setting(
        -1,
        "longest side at the model in pixels; 0 is native, -1 the checkpoint's choice",
        (-1, 8192),
    )
    seed: int = setting(0, 'seed of the noise; the same seed gives the same depth', (0, 2**31 - 1))
    engine: EngineConfig = group(EngineConfig)

    @property
    def prediction(self) -> dict[str, Any]:
        """
        Return the arguments of a model's ``predict`` besides the image.

        The one place where 0 and -1, which ROS parameters need, become None: the checkpoint's own.
        """
        steps, members = PROFILES[self.profile]
        native = self.processing_resolution
        return {
            'denoising_steps': self.denoising_steps or steps,
            'ensemble_size': self.ensemble_size or members,
            'processing_resolution': None if native < 0 else native,
            'seed': self.seed,
            'engine': self.engine,
        }


@dataclass(frozen=True)
class PipelineConfig(PredictionConfig):
    """What happens to one frame."""

    guidance: str = start_setting(
        'none',
        'points: steer the denoising by the sparse depth of the frame once its fit is '
        'accepted; tens of times slower, for labelling and not for real time',
        choices=('none', 'points'),
    )
    guided: GuidedConfig = group(GuidedConfig)
    sky: str = setting(
        'nan',
        'depth of recognised sky: nan (unknown), inf (too far, REP 117) or as fitted; with the '
        'first two, the cloud has no points there',
        choices=('nan', 'inf', 'fitted'),
    )
    alignment: AlignmentConfig = group(AlignmentConfig)

    def check(self) -> None:
        """Check that guidance has a fit to begin with."""
        if self.guidance != 'none' and self.alignment.method in ('none', 'fixed'):
            raise ConfigurationError(
                f'guidance is {self.guidance} and alignment.method {self.alignment.method}, which '
                'does not fit the points; choose global or local'
            )


def check_guidance(pipeline: PipelineConfig, runtime: RuntimeConfig) -> None:
    """Check that the networks give the gradients that guidance needs."""
    if pipeline.guidance != 'none' and not runtime.plain:
        raise ConfigurationError(
            f'guidance is {pipeline.guidance}, which needs gradients; runtime.backend '
            f'{runtime.backend} with runtime.compile {runtime.compile} gives none: set them to '
            'torch and off'
        )


@dataclass(frozen=True)
class LidarConfig(Settings):
    """How scans are paired with images."""

    max_dt: float = setting(
        0.06, 'seconds; largest difference between stamps of an image and its scan', (0.0, 10.0)
    )
    wait: float = setting(
        0.05, 'seconds to wait for a better scan once the prediction is ready', (0.0, 2.0)
    )
    # Up to a minute: clocks of PTP (TAI) are 37 s ahead of UTC, those of GPS 18 s.
    time_offset: float = setting(0.0, 'seconds added to the stamps of scans', (-60.0, 60.0))
    buffer: float = setting(2.0, 'seconds of scans that are kept', (0.1, 60.0))
    fixed_frame: str = start_setting(
        '',
        'frame that is static in the world and never jumps, such as odom: scans are moved to '
        'the stamp of the image, and the previous depth to the present pose; empty disables '
        'this',
    )


@dataclass(frozen=True)
class PointsConfig(Settings):
    """The published cloud."""

    stride: int = setting(1, 'every n-th row and column', (1, 64))
    max_rate: float = setting(
        0.0, 'largest number of clouds per second; 0 is one per frame', (0.0, 1000.0)
    )
    min_depth: float = setting(0.0, 'metres; nearer points are NaN', (0.0, 10000.0))
    max_depth: float = setting(100.0, 'metres; farther points are NaN', (0.01, 10000.0))
    sigma: bool = setting(False, 'add the field sigma, metres')
    normals: bool = setting(
        False, 'add the fields normal_x, normal_y, normal_z: unit normals towards the camera'
    )
    flying_angle: float = setting(
        80.0,
        'degrees; points between two surfaces are omitted where depth is steeper than a plane '
        'at this angle between ray and normal; 90 keeps all',
        (30.0, 90.0),
    )

    def check(self) -> None:
        """Check that the limits leave points."""
        check_below('points.min_depth', self.min_depth, 'points.max_depth', self.max_depth)


@dataclass(frozen=True)
class ExtrinsicsConfig(Settings):
    """Pose of the LiDAR in the optical frame of the camera; unset: from tf2."""

    translation: tuple[float, ...] = start_setting(
        (), 'x y z of the LiDAR in the optical frame, metres; all nan: from tf2', size=3
    )
    rotation_xyzw: tuple[float, ...] = start_setting(
        (), 'unit quaternion x y z w of the LiDAR in the optical frame; all nan: from tf2', size=4
    )

    def check(self) -> None:
        """Check that both are given or neither is, and that the quaternion has unit length."""
        if (len(self.translation), len(self.rotation_xyzw)) not in ((0, 0), (3, 4)):
            raise ConfigurationError(
                f'extrinsics.translation has {len(self.translation)} values and '
                f'extrinsics.rotation_xyzw {len(self.rotation_xyzw)}; '
                'give 3 and 4, or leave both unset'
            )
        if self.rotation_xyzw:
            norm = math.sqrt(sum(x * x for x in self.rotation_xyzw))
            if abs(norm - 1.0) > 1e-3:
                raise ConfigurationError(
                    f'extrinsics.rotation_xyzw has length {norm:.4f}; a rotation needs a '
                    'quaternion of length 1 in the order x y z w'
                )


@dataclass(frozen=True)
class GroundConfig(Settings):
    """Where the ground is, for sparse_source ground."""

    height: float = setting(
        0.0,
        'height of the camera above the ground, metres; 0: camera and ground from tf, by frame',
        (0.0, 100.0),
    )
    pitch: float = setting(
        0.0,
        'degrees by which the camera looks down; counts where height does',
        (-80.0, 80.0),
    )
    frame: str = setting(
        'base_footprint', 'tf frame that lies on the ground with its z axis up; without height'
    )
    pitch_error: float = setting(
        1.0,
        'standard deviation of the pitch in degrees, as by suspension and slopes',
        (0.01, 10.0),
    )


_SPARSE_TOPICS = [
    f'{name} (topic {source.topic}, {source.message_name})'
    for name, source in SPARSE_SOURCES.items()
]
_RELIABILITIES = ('auto', 'reliable', 'best_effort')


@dataclass(frozen=True)
class NodeConfig(Settings):
    """All parameters of the ROS node."""

    model: ModelConfig = group(ModelConfig, flat=True)
    pipeline: PipelineConfig = group(PipelineConfig, flat=True)
    autostart: bool = start_setting(
        True, 'configure and activate at start; false leaves that to a lifecycle manager'
    )
    cameras: tuple[str, ...] = start_setting(
        (),
        'names of cameras that share one model, each with a node in the namespace of its name; '
        'an empty name: one camera',
    )
    image_transport: str = start_setting(
        'raw',
        'raw subscribes to the topic image, compressed to its resolved name with /compressed '
        'appended (jpeg or png); ffmpeg, h264, theora, webp: republish them as raw',
        choices=('raw', 'compressed'),
    )
    image_rectified: str = start_setting(
        'auto',
        'whether images are rectified; auto, as for bags: a word of the topic begins with «rect»',
        choices=('auto', 'yes', 'no'),
    )
    sparse_source: str = start_setting(
        'pointcloud',
        f'sources of sparse depth, with commas between: {", ".join(_SPARSE_TOPICS)}; ground, the '
        'plane below the camera, without a sensor; or none',
    )
    frame_id: str = setting('', 'frame_id that replaces that of the images; empty keeps theirs')
    image_reliability: str = start_setting(
        'auto', 'QoS of the images; auto follows the publishers', choices=_RELIABILITIES
    )
    info_reliability: str = start_setting(
        'auto', 'QoS of camera_info; auto follows the publishers', choices=_RELIABILITIES
    )
    lidar_reliability: str = start_setting(
        'auto', 'QoS of the sparse depth; auto follows the publishers', choices=_RELIABILITIES
    )
    max_rate: float = setting(
        0.0, 'largest number of frames per second; 0 is unlimited', (0.0, 1000.0)
    )
    max_input_age: float = setting(
        0.0, 'seconds; older images are dropped; 0 disables this', (0.0, 3600.0)
    )
    compute_without_listeners: bool = setting(False, 'run the model even if nobody subscribes')
    unload_on_deactivate: bool = setting(
        False, 'free the memory of the model while inactive; activation loads it again'
    )
    output_resolution: str = setting(
        'input',
        'size of depth and cloud: that of the image (input) or that at which the model sees it '
        '(processing); camera_info is scaled accordingly',
        choices=('input', 'processing'),
    )
    depth_encoding: str = setting(
        '32FC1',
        'encoding of ~/depth/image_rect: 32FC1 in metres or 16UC1 in millimetres',
        choices=('32FC1', '16UC1'),
    )
    depth_max: float = setting(
        100.0, 'metres; largest depth in ~/depth/image_rect/compressedDepth', (1.0, 10000.0)
    )
    color_min_depth: float = setting(0.5, 'metres; near end of ~/depth/color', (0.01, 10000.0))
    color_max_depth: float = setting(80.0, 'metres; far end of ~/depth/color', (0.02, 10000.0))
    lidar: LidarConfig = group(LidarConfig)
    points: PointsConfig = group(PointsConfig)
    extrinsics: ExtrinsicsConfig = group(ExtrinsicsConfig)
    ground: GroundConfig = group(GroundConfig)
    runtime: RuntimeConfig = group(RuntimeConfig)

    def check(self) -> None:
        """Check sources, camera names and the colour range, and that guidance has gradients."""
        source_names(self.sparse_source)
        for name in self.cameras:
            if not re.fullmatch('[A-Za-z][A-Za-z0-9_]*', name):
                raise ConfigurationError(
                    f"cameras holds '{name}'; a name becomes a namespace: give letters, digits "
                    'and _, the first a letter'
                )
        if len(set(self.cameras)) != len(self.cameras):
            raise ConfigurationError(f'cameras is {", ".join(self.cameras)}; give each name once')
        check_guidance(self.pipeline, self.runtime)
        low, high = self.color_min_depth, self.color_max_depth
        check_below('color_min_depth', low, 'color_max_depth', high)
