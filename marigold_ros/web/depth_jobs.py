# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Jobs on photos and videos: depth to look at first, then the files that ``predict`` writes."""

from collections.abc import Mapping
import json
import math
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
from marigold_ros.errors import InputError
from marigold_ros.evaluation.report.cloud import MOST_POINTS, pack_points
from marigold_ros.evaluation.report.drawing import depth_scale, depth_ticks
from marigold_ros.frame import Prediction
from marigold_ros.replay.photos import (
    colourise,
    mesh_note,
    open_video,
    photo_mesh,
    read_image,
    side_by_side,
    USUAL_FOV,
    write_meshes,
    write_prediction,
)
from marigold_ros.replay.video_writer import VideoWriter
from marigold_ros.web.jobs import Job
from marigold_ros.web.models import ModelStore
import numpy as np

_SHOWN_PX = 1280  # longest side of the images on the page
_MOST_SHOWN = 100  # frames of a video on the page
_CLOUD = 'cloud.json'
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 88]


def show_photo(
    job: Job, path: Path, models: ModelStore, model: str, settings: Mapping[str, Any]
) -> None:
    """Predict a photo with these settings; the result is there before the files are written."""
    job.step(f'predicting with {model}')
    remarks: list[str] = []
    rgb = read_image(path, remarks.append)
    loaded = models.get(model)
    start = perf_counter()
    prediction = loaded.predict(rgb, **settings)
    took_ms = 1e3 * (perf_counter() - start)
    frame = _write_shown(job, 'photo', rgb, prediction)
    facts = _facts(rgb, prediction, model, models.remark(model), *remarks)
    job.result.update(**facts, predict_ms=round(took_ms), frames=[frame])
    job.step('making the point cloud')
    _write_cloud(job, rgb, prediction)
    job.step('writing the files')
    target = job.folder, Path(job.name).stem, rgb, prediction
    written = write_prediction(*target) + write_meshes(*target)
    job.files.update({file.name: file for file in written})
    job.result['downloads'] = [file.name for file in written]


def show_video(
    job: Job, path: Path, models: ModelStore, model: str, settings: Mapping[str, Any]
) -> None:
    """Predict all images of a video; the newest one is always there to look at."""
    job.step(f'predicting with {model}')
    loaded = models.get(model)
    target = job.folder / f'{Path(job.name).stem}_depth.mp4'
    shown: list[dict[str, Any]] = []
    every, seconds = 1, 0.0
    with open_video(path) as video, VideoWriter(target, video.rate) as writer:
        for number, rgb in enumerate(video.images):
            start = perf_counter()
            prediction = loaded.predict(rgb, **settings)
            seconds += perf_counter() - start
            writer.add(side_by_side(rgb, prediction))
            if not number:
                facts = _facts(rgb, prediction, model, models.remark(model))
                job.result.update(facts, rate=video.rate)
            if number % every == 0:
                frame = _write_shown(job, f'image {number}', rgb, prediction)
                shown = [*shown, {**frame, 'number': number}]
            if len(shown) > _MOST_SHOWN:
                shown, every = shown[::2], 2 * every
            predict_ms = round(1e3 * seconds / writer.written)
            job.result.update(frames=shown, predict_ms=predict_ms, images=writer.written)
            job.step(f'predicting with {model}', writer.written, video.count)
    if not writer.written:
        raise InputError(f'{job.name} has no image that OpenCV can read; check the file')
    remarks = job.result['remark'], video.missing(writer.written)
    job.result['remark'] = '; '.join(filter(None, remarks))
    job.files[target.name] = target
    job.result['downloads'] = [target.name]


def _facts(rgb: np.ndarray, prediction: Prediction, model: str, *remarks: str) -> dict[str, Any]:
    return {
        'width': rgb.shape[1],
        'height': rgb.shape[0],
        'model': model,
        'remark': '; '.join(filter(None, remarks)),
        'metric': prediction.space == 'metric',
    }


def _resized(rgb: np.ndarray, prediction: Prediction, factor: float) -> tuple[Any, Prediction]:
    """Reduce image and prediction; a factor above 1 changes nothing."""
    if factor >= 1:
        return rgb, prediction
    size = max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor))
    # Means across depth edges would be points in the air.
    relative = cv2.resize(prediction.relative, size, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return small, Prediction(relative, space=prediction.space)


def _write_cloud(job: Job, rgb: np.ndarray, prediction: Prediction) -> None:
    """Write the cloud that the page shows."""
    factor = math.sqrt(MOST_POINTS / rgb[..., 0].size)
    small, reduced = _resized(rgb, prediction, factor)
    mesh = photo_mesh(small, reduced)
    focal = max(small.shape[:2]) / 2 / math.tan(math.radians(USUAL_FOV / 2))
    packed = pack_points(mesh.points, mesh.rgb, 1 / focal) if len(mesh.points) else None
    note = mesh_note(prediction)
    content = {'points': packed, 'note': f'{note[0].upper()}{note[1:]}.'}
    path = job.folder / _CLOUD
    path.write_text(json.dumps(content), encoding='utf-8')
    job.files[path.name] = path
    job.result['cloud'] = _CLOUD


def _write_shown(job: Job, name: str, rgb: np.ndarray, prediction: Prediction) -> dict[str, Any]:
    """Write image and depth at the size of a screen; return their names and the scale's labels."""
    small, reduced = _resized(rgb, prediction, _SHOWN_PX / max(rgb.shape[:2]))
    metric = prediction.space == 'metric'
    ticks = depth_ticks(*depth_scale(reduced.relative)) if metric else {'near': 0.0, 'far': 1.0}
    frame: dict[str, Any] = {'ticks': ticks}  # with places from 0 to 1
    for kind, image in (('image', small), ('depth', colourise(reduced))):
        path = job.folder / f'{name}_{kind}.jpg'
        path.write_bytes(cv2.imencode('.jpg', image[..., ::-1], _JPEG)[1].tobytes())
        job.files[path.name] = path
        frame[kind] = path.name
    return frame
