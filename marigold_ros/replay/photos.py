# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Photos, videos and cameras by OpenCV, and their depth as images and as meshes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
import io
import math
import os
from pathlib import Path

import cv2
from marigold_ros.bags.limited import look
from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.evaluation.report.drawing import (
    colourise_depth,
    colourise_relative,
    depth_scale,
    with_depth_legend,
    with_relative_legend,
)
from marigold_ros.frame import Prediction
from marigold_ros.geometry.cloud.files import write_glb, write_ply
from marigold_ros.geometry.cloud.mesh import Mesh, mesh_of_depth
from marigold_ros.image_sets import decode
from marigold_ros.message_codec.image_files import check_work, JPEG, PNG
from marigold_ros.message_codec.images import encode_depth
from marigold_ros.spaces import from_metres, to_metres
from marigold_ros.whole_files import write_whole
import numpy as np

# Of damaged videos FFmpeg prints what the error says better; read when it first opens one.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
_JPEG_SUFFIXES = '.jpg', '.jpeg', '.jfif'  # the last of browsers on Windows
IMAGE_SUFFIXES = *_JPEG_SUFFIXES, '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.avif'
# Of phones; OpenCV and Pillow lack the patented codec.
UNREAD_SUFFIXES = ('.heic', '.heif')
UNREAD_REMEDY = 'HEIC cannot be read; convert it (heif-convert a.heic a.jpg), or export JPEG'
_AVIF, _ORIENTATION = (b'ftypavif', b'ftypavis'), 0x112  # how it begins, EXIF's tag
_MOST_PNG_SIDE = 1_000_000  # of libpng
_PLAIN_RATE = 30.0  # of sources that do not state theirs, or one that nobody plays, Hz
USUAL_FOV = 60.0  # of photos, degrees across the longer side
FAR_TO_NEAR = 5.0  # assumed of the farthest and the nearest point of relative depth


def expand(inputs: Sequence[str]) -> tuple[list[Path], list[str]]:
    """
    Return the files that are meant by files, folders and patterns, each in order of name.

    Returns also, for each folder with others, what of it is left out: counts by kind. Hidden files
    of a folder, such as `._IMG_1.jpg` of macOS, are no images. Raises InputError for a folder that
    is closed or without images and videos, and a pattern that no file fits.
    """
    files: list[Path] = []
    notes: list[str] = []
    for text in inputs:
        if not text:
            raise InputError('the name of an input is empty; give a file, or . for this folder')
        # Unlike methods of Path, those of os.path raise nothing for a closed folder or no user.
        path = Path(os.path.expanduser(text))
        if os.path.isdir(path):
            known = IMAGE_SUFFIXES + VIDEO_SUFFIXES
            try:
                inside = sorted(p for p in path.iterdir() if not p.name.startswith('.'))
            except OSError as error:
                raise InputError(f'{text} cannot be read ({error.strerror})') from error
            found = [p for p in inside if p.suffix.lower() in known]
            others = _kinds(p for p in inside if p.suffix.lower() not in known)
            if not found:
                raise InputError(
                    f'{text} holds no image and no video ({", ".join(known)}){others and ", but "}'
                    f'{others}; bags are for `python -m marigold_ros evaluate`'
                )
            if others:
                notes.append(f'left out of {text}: {others}')
        elif not os.path.exists(path) and any(sign in text for sign in '*?['):
            found = [Path(name) for name in sorted(glob(str(path), recursive=True))]
            if not found:
                raise InputError(f"no file fits '{text}'; check folder and pattern")
        else:
            found = [path]
        files += found
    return files, notes


def _kinds(paths: Iterable[Path]) -> str:
    """Return in words how many files there are of each kind."""
    counts = Counter('folder(s)' if p.is_dir() else p.suffix.lower() or 'no suffix' for p in paths)
    words = ', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))
    return words + f' ({UNREAD_REMEDY})' * any(kind in counts for kind in UNREAD_SUFFIXES)


def is_video(path: Path) -> bool:
    """Return whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_image(path: str | Path, say: Callable[[str], object] | None = None) -> np.ndarray:
    """
    Read an image file as (H, W, 3) uint8 RGB, turned upright as it says.

    Of 16 bits those that the image uses are kept; ``say`` reports it if they are fewer. Raises
    InputError if the file is missing, unreadable, no image, or takes too much to decode.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError('it is a folder, pipe or device; give a file')
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f'the file cannot be read ({error.strerror}); check the path') from error
    content = data.tobytes()
    check_work(content, 'the image')
    if data.size and not content.startswith((JPEG, PNG)):
        _look('try_image', Path(path))
    flags, orientation = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, 0
    if content[4:12] in _AVIF and (orientation := _avif_orientation(content)):
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _quiet_opencv():
            bgr = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # of some damaged files, and of more pixels than it takes
        bgr = None
    if bgr is None and Path(path).suffix.lower() in UNREAD_SUFFIXES:
        raise InputError(UNREAD_REMEDY)
    if bgr is None:
        raise InputError(
            f'OpenCV cannot read the {data.size} bytes as an image: they are cut off, damaged or '
            'of an unknown kind; copy or save it again, or give a JPEG, PNG, TIFF, …'
        )
    upright = _turned(decode.to_8_bit(bgr, 'it', say), orientation)
    return cv2.cvtColor(upright, cv2.COLOR_BGR2RGB)


def _avif_orientation(content: bytes) -> int:
    """Return what of an AVIF says how it is turned, as EXIF's number; 0 if that is not known."""
    from PIL import Image

    try:
        # Of boxes that OpenCV does not read; they, and not EXIF data, turn an AVIF.
        with Image.open(io.BytesIO(content)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # of a Pillow without AVIF, and of damaged files
        return 0


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image (H, W, 3) upright by EXIF's number."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return image[::-1] if orientation in (3, 4, 7, 8) else image


def _look(function: str, path: Path) -> None:
    """Let a child process with limits decode a file first; raises InputError if it hits one."""
    try:
        look(f'{decode.__name__}:{function}', path)
    except MarigoldError as error:
        raise InputError(str(error), 'size') from error


@dataclass(frozen=True)
class Video:
    """An open video or camera: its images, (H, W, 3) uint8 RGB, their rate in Hz and number."""

    images: Iterator[np.ndarray]
    rate: float
    count: int  # 0: not known

    def missing(self, read: int) -> str:
        """Return in words that fewer images were read than the file states, else ''."""
        if read >= self.count:
            return ''
        return (
            f'{read} images can be read, where its header leads to {self.count}; it is cut off or '
            'damaged, or its rate varies'
        )


@contextmanager
def open_video(source: Path | int) -> Iterator[Video]:
    """Open a video file, or the camera of a number; raises InputError if it cannot be opened."""
    if isinstance(source, Path) and not os.path.isfile(source):
        raise InputError('there is no such file; check the path')
    # FFmpeg takes a relative name with a colon for an address.
    name = source if isinstance(source, int) else str(source.absolute())
    if isinstance(name, str) and name.encode(errors='ignore') != os.fsencode(name):
        raise InputError('its path is not UTF-8, which OpenCV needs of videos; rename it')
    if isinstance(source, Path):
        _look('try_video', source)
    with _quiet_opencv():
        capture = cv2.VideoCapture(name)
    try:
        if not capture.isOpened():
            what = 'there is no such camera' if isinstance(source, int) else 'it is no video'
            raise InputError(f'OpenCV cannot open it: {what}, or one of a kind unknown to OpenCV')
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Recordings of browsers have no rate but their clock's, 1000 Hz, which it also counts.
        known = 0.1 <= rate < 1000
        yield Video(_images(capture), rate if known else _PLAIN_RATE, max(int(known * count), 0))
    finally:
        capture.release()


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep warnings of OpenCV off stderr, where an error follows that says it."""
    log = getattr(cv2.utils, 'logging', None)
    level = None if log is None else log.setLogLevel(0)
    try:
        yield
    finally:
        if log is not None:
            log.setLogLevel(level)


def _images(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        there, bgr = capture.read()
        if not there:
            return
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def colourise(prediction: Prediction) -> np.ndarray:
    """
    Draw a prediction, near bright and far dark, as (H, W, 3) uint8 RGB.

    Raises InputError for a relative map that is not finite, and a metric one without any depth.
    """
    finite = np.isfinite(prediction.relative)
    if not (finite.any() if prediction.space == 'metric' else finite.all()):
        raise InputError(
            'its prediction is not finite; check the model by `models check`, or choose another '
            'dtype, as float32'
        )
    if prediction.space == 'metric':
        return colourise_depth(prediction.relative, *depth_scale(prediction.relative))
    return colourise_relative(prediction.relative, near_is_low=prediction.space != 'disparity')


def side_by_side(rgb: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Draw an image (H, W, 3), beside it its depth, and below them the scale of the colours."""
    both = np.hstack([rgb, colourise(prediction)])
    if prediction.space == 'metric':
        return with_depth_legend(both, *depth_scale(prediction.relative))
    return with_relative_legend(both)


def write_prediction(
    folder: Path, name: str, rgb: np.ndarray, prediction: Prediction
) -> list[Path]:
    """Write the four files of one image; MarigoldError as `colourise` and `write_whole`."""
    colour, relative = colourise(prediction), prediction.relative.astype(np.float32)
    if prediction.space == 'metric':
        codes = encode_depth(relative, '16UC1').data.view('<u2').reshape(relative.shape)
    else:
        codes = np.rint(np.clip(relative * np.float32(65535.0), 0.0, 65535.0)).astype(np.uint16)
    array = io.BytesIO()
    np.save(array, relative)
    contents = {
        'relative.png': _png(codes),
        'relative.npy': array.getvalue(),
        'color.png': _png(colour[..., ::-1]),
        'side_by_side.png': _png(side_by_side(rgb, prediction)[..., ::-1]),
    }
    files = {folder / f'{name}_{end}': content for end, content in contents.items()}
    for path, content in files.items():
        write_whole(path, content)
    return list(files)


def _png(image: np.ndarray) -> bytes:
    height, width = image.shape[:2]
    if max(height, width) > _MOST_PNG_SIDE:  # OpenCV returns nothing
        raise InputError(
            f'a result has {width}x{height} px, and may have {_MOST_PNG_SIDE} on a side as a PNG; '
            'reduce the image'
        )
    return cv2.imencode('.png', image)[1].tobytes()


def photo_mesh(rgb: np.ndarray, prediction: Prediction, fov: float = USUAL_FOV) -> Mesh:
    """
    Return what a photo (H, W, 3) uint8 shows as a coloured mesh.

    Metric depth makes a mesh in metres. Relative depth makes one without a unit: the nearest
    possible point is at 1, the farthest at ``FAR_TO_NEAR``. ``fov`` is the field of view across
    the longer side, in degrees; :func:`mesh_note` says what is assumed.
    """
    height, width = rgb.shape[:2]
    focal = max(height, width) / 2 / math.tan(math.radians(fov / 2))
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return mesh_of_depth(_assumed_depth(prediction), K, rgb)


def write_meshes(
    folder: Path,
    name: str,
    rgb: np.ndarray,
    prediction: Prediction,
    kinds: Collection[str] = ('ply', 'glb'),
    fov: float = USUAL_FOV,
) -> list[Path]:
    """Write what a photo shows as a cloud, ``ply``, and a mesh, ``glb``, if it has triangles."""
    mesh, note = photo_mesh(rgb, prediction, fov), mesh_note(prediction, fov)
    files = []
    if 'ply' in kinds:
        files.append(folder / f'{name}.ply')
        axes = 'x right, y up, z towards the viewer'
        write_ply(files[-1], mesh.upright, mesh.rgb, [note, axes])
    if 'glb' in kinds and len(mesh.faces):
        files.append(folder / f'{name}.glb')
        write_glb(files[-1], mesh, note)
    return files


def mesh_note(prediction: Prediction, fov: float = USUAL_FOV) -> str:
    """Return in words what unit a mesh of a photo has, and what its shape depends on."""
    view = f'a field of view of {fov:g} degrees across the longer side'
    if prediction.space == 'metric':
        return f'in metres; assumes {view}'
    return f'no unit; assumes that the farthest is {FAR_TO_NEAR:g} times the nearest, and {view}'


def _assumed_depth(prediction: Prediction) -> np.ndarray:
    """Return metric depth as it is, and relative depth between assumed ends, (H, W) float32."""
    relative, space = prediction.relative.astype(np.float32), prediction.space
    if space == 'metric':
        return relative
    low, high = np.sort(from_metres(np.array([1.0, FAR_TO_NEAR], np.float32), space))
    return to_metres(low + (high - low) * relative.clip(0.0, 1.0), space, FAR_TO_NEAR)
