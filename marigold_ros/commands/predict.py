# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write relative depth for photos, videos or a camera, without ROS and without metres.

For each image, DIR gets NAME_side_by_side.png (the image, its depth and the scale of the colours),
NAME_color.png, NAME_relative.png (16 bit, 0 to 65535) and NAME_relative.npy (float32, 0 to 1). A
video gives NAME_depth.mp4, image and depth side by side. Relative depth is known up to scale and
shift only; --ply and --glb assume both. A model that predicts metres writes millimetres (PNG, 0
beyond 65.535 m) and metres (NPY).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice, product
import os
from pathlib import Path
import signal
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_option,
    add_setting_option,
    integer,
    load_chosen_model,
    make_folder,
    number_type,
    read_settings,
    refuse_given,
)
from marigold_ros.commands.terminal.output import frame_bar, note, page
from marigold_ros.config import PredictionConfig, RuntimeConfig
from marigold_ros.errors import counted, InputError, UsageError
from marigold_ros.settings import group, Settings

if TYPE_CHECKING:
    from marigold_ros.frame import Prediction
    from marigold_ros.models.protocol import DepthModel
    from marigold_ros.replay.video_writer import VideoWriter

RESULTS = 'relative.png', 'relative.npy', 'color.png', 'side_by_side.png', 'depth.mp4'
JOINED, JOINED_HZ = 'images_depth.mp4', 10.0  # the video of all images
field_of_view = number_type(
    float, lambda angle: 1 <= angle <= 170, 'a number of degrees from 1 to 170'
)


@dataclass(frozen=True)
class PredictConfig(Settings):
    """All settings of a prediction."""

    prediction: PredictionConfig = group(PredictionConfig, flat=True)
    runtime: RuntimeConfig = group(RuntimeConfig)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'inputs',
        nargs='*',
        metavar='FILE',
        help='images, videos, folders of them, or patterns in quotation marks',
    )
    add_option(parser, '--camera', integer(0), 'N', 'a camera of this computer, until Ctrl-C')
    add_option(parser, '--out', str, 'DIR', 'folder for the results', 'out/predict')
    add_option(parser, '--limit', integer(1), 'N', 'images of a video or camera (default: all)')
    parser.add_argument(
        '--ply', action='store_true', help='also write NAME.ply, a coloured point cloud'
    )
    parser.add_argument('--glb', action='store_true', help='also write NAME.glb, a coloured mesh')
    text = 'field of view of the photos across their longer side, for --ply and --glb'
    add_option(parser, '--fov', field_of_view, 'DEGREES', text, 60.0)
    parser.add_argument(
        '--video',
        action='store_true',
        help=f'also join the images, in their order, to {JOINED} ({JOINED_HZ:g} Hz)',
    )
    parser.add_argument('--json', action='store_true', help='print files and timings as JSON')
    add_model_options(parser)
    add_setting_option(parser, PredictConfig)


def run(args: argparse.Namespace) -> int:
    """Predict all inputs; return 1 if one of them could not be read."""
    if not args.inputs and args.camera is None:
        raise UsageError('nothing to predict was given; name images or videos, or --camera 0')
    config = read_settings(PredictConfig, args.settings)
    from marigold_ros.models import families_of
    from marigold_ros.replay.photos import expand, is_video
    from marigold_ros.replay.video_writer import has_h264, VideoWriter

    files, left_out = expand(args.inputs)
    for text in left_out:
        note(text)
    folder = make_folder(args.out)
    _check_options(args, [is_video(file) for file in files])
    families_of(args.model)  # before torch is imported, which takes a second
    load = partial(load_chosen_model, args, config.runtime)
    found: dict[str, list[dict[str, Any]]] = {'pictures': [], 'videos': [], 'failed': []}
    camera = {} if args.camera is None else {f'camera_{args.camera}': args.camera}
    taken = [*camera, *[JOINED.removesuffix('_depth.mp4')] * args.video]
    names = unique_names(files, taken)
    _check_inputs_stay(folder, files, [*names, *taken])
    earlier = set(folder.iterdir())
    sources: dict[str, Path | int] = {**dict(zip(names, files, strict=True)), **camera}
    for ending in (signal.SIGTERM, signal.SIGHUP):  # close videos, as Ctrl-C does, unless ignored
        signal.signal(ending, signal.getsignal(ending) or signal.default_int_handler)
    with VideoWriter(folder / JOINED, JOINED_HZ) as joined:
        work = _Work(load, config.prediction.prediction, folder, joined, args)
        for name, source in sources.items():
            shown = f'camera {source}' if isinstance(source, int) else str(source)
            try:
                facts = work.add(source, name)
            except InputError as error:
                note(f'error: {shown}: {error}')
                found['failed'].append({'input': shown, 'error': str(error)})
                continue
            found['videos' if 'images' in facts else 'pictures'].append({'input': shown, **facts})
            if not args.json:
                written = ', '.join(Path(file).name for file in facts['files'])
                print(page([f'{shown}: {facts["predict_ms"]:.0f} ms, {written}']))
    done = bool(found['pictures'] or found['videos'])
    if joined.written:
        facts = {'images': joined.written, 'files': [str(joined.path)]}
        found['videos'].append({'input': 'all images', **facts})
        if not args.json:
            print(f'{counted(joined.written, "image")}: {JOINED}')
    if work.not_joined:
        text = f'{work.not_joined[0]}; left out: {len(work.not_joined)}'
        note(f'error: {text}')
        found['failed'].append({'input': 'all images', 'error': text})
    if args.json:
        from marigold_ros.evaluation.results.results import to_json

        print(to_json({'model': work.model.description if done else None, **found}))
    elif done:
        if work.mesh_note:
            note(f'cloud and mesh: {work.mesh_note}')
        if found['videos'] and not has_h264():
            note("browsers do not play these videos; `pip install 'marigold_ros[video]'` mends it")
        done_files = (file for kind in found.values() for f in kind for file in f.get('files', ()))
        replaced = len(earlier.intersection(map(Path, done_files)))
        text = f', {replaced} of them in place of earlier ones' if replaced else ''
        note(f'by {_model_text(args.model, work.model.description)}; files are in {folder}{text}')
    return 1 if found['failed'] else 0


def _check_options(args: argparse.Namespace, are_videos: list[bool]) -> None:
    """Refuse options that mean nothing for the files and the camera that are given."""
    moving = args.camera is not None or any(are_videos)
    if (args.ply or args.glb) and moving:
        raise UsageError('--ply and --glb are for images; videos and cameras have none')
    if not (args.ply or args.glb):
        refuse_given(args, add_arguments, ['fov'], 'is for --ply and --glb; give one of them too')
    if not moving:
        reason = 'is for videos and cameras, and there is none; leave it out, or name fewer images'
        refuse_given(args, add_arguments, ['limit'], reason)
    if all(are_videos):
        refuse_given(args, add_arguments, ['video'], 'joins images; name some, or leave it out')


@dataclass
class _Work:
    """Predicts images and videos with one model, and writes the results to one folder."""

    load: Callable[[], DepthModel]
    settings: dict[str, Any]
    folder: Path
    joined: VideoWriter
    args: argparse.Namespace
    not_joined: list[str] = field(default_factory=list)  # why images are not in it
    mesh_note: str = ''  # what cloud and mesh of the last image assume

    @cached_property
    def model(self) -> DepthModel:
        """The model, loaded once there is an image for it."""
        return self.load()

    def add(self, source: Path | int, name: str) -> dict[str, Any]:
        """Predict an image, a video or the camera of a number; raises InputError."""
        from marigold_ros.replay.photos import is_video

        if isinstance(source, int) or is_video(source):
            return self._video(source, name)
        return self._image(source, name)

    def _image(self, path: Path, name: str) -> dict[str, Any]:
        from marigold_ros.replay.photos import read_image, side_by_side, write_prediction

        longest = os.fsencode(f'{name}_{max(RESULTS, key=len)}')
        if len(longest) > os.pathconf(self.folder, 'PC_NAME_MAX'):
            raise InputError('its name is too long for those of its results; shorten it')
        rgb = read_image(path, lambda text: note(f'{path}: {text}'))
        model = self.model  # not part of the time
        start = perf_counter()
        prediction = model.predict(rgb, **self.settings)
        predict_ms = 1e3 * (perf_counter() - start)
        height, width = prediction.relative.shape
        files = write_prediction(self.folder, name, rgb, prediction)
        facts = {
            'width': width,
            'height': height,
            'space': prediction.space,
            'files': [str(file) for file in files + self._write_mesh(name, rgb, prediction)],
            'predict_ms': round(predict_ms, 1),
        }
        if self.args.video:
            try:
                self.joined.add(side_by_side(rgb, prediction))
            except InputError as error:
                self.not_joined.append(str(error))
        return {**facts, 'mesh': self.mesh_note} if self.mesh_note else facts

    def _write_mesh(self, name: str, rgb: Any, prediction: Prediction) -> list[Path]:
        """Write the cloud and the mesh that are asked for."""
        if not (self.args.ply or self.args.glb):
            return []
        from marigold_ros.replay.photos import mesh_note, write_meshes

        fov, kinds = self.args.fov, [k for k in ('ply', 'glb') if getattr(self.args, k)]
        self.mesh_note = mesh_note(prediction, fov)
        files = write_meshes(self.folder, name, rgb, prediction, kinds, fov)
        if len(files) < len(kinds):
            note(f'{name}: no mesh, as no 2x2 pixels are a surface that is not steep')
        return files

    def _video(self, source: Path | int, name: str) -> dict[str, Any]:
        from marigold_ros.replay.photos import open_video, side_by_side
        from marigold_ros.replay.video_writer import VideoWriter

        seconds = 0.0
        path = self.folder / f'{name}_depth.mp4'
        with open_video(source) as video, VideoWriter(path, video.rate) as writer:
            limit = self.args.limit
            total = min(video.count, limit) if limit else video.count
            # Ctrl-C is how a camera ends.
            end = suppress(KeyboardInterrupt) if isinstance(source, int) else nullcontext()
            with frame_bar(total, name) as bar, end:
                for rgb in islice(video.images, limit):
                    model = self.model  # not part of the time
                    start = perf_counter()
                    prediction = model.predict(rgb, **self.settings)
                    seconds += perf_counter() - start
                    writer.add(side_by_side(rgb, prediction))
                    bar(writer.written)
        if not writer.written:
            raise InputError('it has no image that OpenCV can read; check the file or camera')
        if not limit and (missing := video.missing(writer.written)):
            note(f'{source}: {missing}')
        return {
            'images': writer.written,
            'files': [str(path)],
            'predict_ms': round(1e3 * seconds / writer.written, 1),
        }


def _model_text(name: str, description: Mapping[str, Any]) -> str:
    from marigold_ros.evaluation.results.verdict import demonstration
    from marigold_ros.models.locate import is_embedded

    return f'{name}, {demonstration(description)}' if is_embedded(name) else name


def _check_inputs_stay(folder: Path, files: list[Path], names: list[str]) -> None:
    """Refuse to write the results of one input over another."""
    # Unlike those of Path, this raises nothing for a link that leads to itself.
    inputs = {os.path.realpath(file): file for file in files}
    for name, end in product(names, RESULTS):
        if lost := inputs.get(os.path.realpath(folder / f'{name}_{end}')):
            raise UsageError(f'results of {name} would replace {lost}; give another --out')


def unique_names(paths: list[Path], taken: Sequence[str] = ()) -> list[str]:
    """Return the stems of files, none of them ``taken``; equal ones get their folder or _2, …."""
    names: list[str] = []
    stems = Counter(path.stem for path in paths)
    for path in paths:
        folder = path.absolute().parent.name
        stem = name = f'{folder}_{path.stem}' if stems[path.stem] > 1 and folder else path.stem
        count = 1
        while name in names or name in taken:
            count += 1
            name = f'{stem}_{count}'
        names.append(name)
    return names
