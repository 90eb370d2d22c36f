# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write relative depth for images, without ROS and without metres.

For each image, DIR gets NAME_relative.png (16 bit, 0 to 65535), NAME_relative.npy (float32, 0 to
1) and NAME_color.png (near warm, far cold). Relative depth is known up to scale and shift only. A
model that predicts metres writes millimetres (PNG) and metres (NPY).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
import sys
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.options import (
    add_model_options,
    add_setting_option,
    load_chosen_model,
    make_folder,
    read_settings,
)
from marigold_ros.config import PipelineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.settings import group, Settings

if TYPE_CHECKING:
    from marigold_ros.frame import Prediction
    import numpy as np


@dataclass(frozen=True)
class PredictConfig(Settings):
    """All settings of a prediction."""

    pipeline: PipelineConfig = group(PipelineConfig, flat=True)
    runtime: RuntimeConfig = group(RuntimeConfig)

    def check(self) -> None:
        """Refuse guidance, which needs points."""
        if self.pipeline.guidance != 'none':
            raise ConfigurationError(
                f'guidance is {self.pipeline.guidance}, but images have no points; evaluate a '
                'bag, or set guidance to none'
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument('--json', action='store_true', help='print files and timings as JSON')
    add_model_options(parser)
    add_setting_option(parser, PredictConfig)


def run(args: argparse.Namespace) -> int:
    """Predict all images; return 1 if one of them could not be read."""
    config = read_settings(PredictConfig, args.settings)
    folder = make_folder(args.out)
    model = load_chosen_model(args, config.runtime)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path, name in zip(args.images, unique_names(args.images), strict=True):
        try:
            rgb = read_image(path)
            start = perf_counter()
            prediction = model.predict(rgb, **config.pipeline.prediction)
        except InputError as error:
            print(f'error: {path}: {error}', file=sys.stderr)
            failed.append({'input': str(path), 'error': str(error)})
            continue
        predict_ms = 1e3 * (perf_counter() - start)
        files = write_prediction(folder, name, prediction)
        height, width = prediction.relative.shape
        facts = {'input': str(path), 'width': width, 'height': height, 'space': prediction.space}
        names = [str(file) for file in files]
        done.append({**facts, 'files': names, 'predict_ms': round(predict_ms, 1)})
        if not args.json:
            print(f'{path}: {predict_ms:.0f} ms, {", ".join(file.name for file in files)}')
    if args.json:
        from marigold_ros.evaluation.results.results import to_json

        print(to_json({'model': model.description, 'pictures': done, 'failed': failed}))
    return 1 if failed else 0


def unique_names(paths: list[str]) -> list[str]:
    """Return the stem of each file name; equal stems get _2, _3 and so on."""
    names: list[str] = []
    for path in paths:
        stem = name = Path(path).stem
        count = 1
        while name in names:
            count += 1
            name = f'{stem}_{count}'
        names.append(name)
    return names


def read_image(path: str | Path) -> np.ndarray:
    """
    Read an image file as (H, W, 3) uint8 RGB, rotated upright by its EXIF data.

    Raises
    ------
    InputError
        If the file is missing, unreadable or not an image.

    """
    import cv2
    import numpy as np

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f'the file cannot be read ({error.strerror}); check the path') from error
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise InputError(
            f'OpenCV cannot read the {data.size} bytes as an image; give a JPEG, PNG, TIFF, …'
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_prediction(folder: Path, name: str, prediction: Prediction) -> list[Path]:
    """Write the three files of one image."""
    import cv2
    from marigold_ros.evaluation.report.drawing import colourise_relative
    import numpy as np

    relative = prediction.relative.astype(np.float32)
    metric = prediction.space == 'metric'
    codes = relative * np.float32(1000.0 if metric else 65535.0)
    sixteen = np.rint(np.clip(codes, 0.0, 65535.0)).astype(np.uint16)
    shown = relative / max(float(relative.max()), 1e-6) if metric else relative
    colour = colourise_relative(shown, 'bgr', near_is_low=prediction.space != 'disparity')
    files = [folder / f'{name}_{end}' for end in ('relative.png', 'relative.npy', 'color.png')]
    files[0].write_bytes(cv2.imencode('.png', sixteen)[1].tobytes())
    np.save(files[1], relative)
    files[2].write_bytes(cv2.imencode('.png', colour)[1].tobytes())
    return files
