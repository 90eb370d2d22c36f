# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Pairs from ROS bags: images with a depth topic, or with LiDAR projected to sparse depth.

Points of a LiDAR keep their scan line and azimuth, for objectives that hold some of them out. A
bag is read once, in order, into a folder of files, because training needs random access; blocks of
time and held scan lines are chosen from these files. Images without depth are skipped and counted;
undecodable messages are errors, as for files.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import Any
import zipfile

import cv2
from marigold_ros.bags.frames import bag_frames, BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.config import AlignmentConfig, LidarConfig
from marigold_ros.errors import CalibrationError, ConfigurationError, InputError, MarigoldError
from marigold_ros.evaluation.protocols.scan_lines import azimuth_blocks, find_scan_lines
from marigold_ros.evaluation.results.results import versions
from marigold_ros.frame import Camera, SparseDepth
from marigold_ros.geometry.camera.hidden_points import not_hidden
from marigold_ros.geometry.camera.lidar_projection import check_transform, project_lidar
from marigold_ros.geometry.camera.rectification import rectified, rectified_valid, rectify_image
from marigold_ros.image_sets.decode import decode_image_file
from marigold_ros.processes import never, run_jobs, Stop
from marigold_training.data.file_pairs import implausible, raise_problems
from marigold_training.data.pairs import LidarPair, Pair
import numpy as np
from tqdm import tqdm

INDEX = 'index.json'
# Of files and pairs; another number extracts all bags again, as another version of the package.
LAYOUT = 4
SUFFIXES = ('.bag', '.mcap', '.db3')


@dataclass(frozen=True)
class _Choice:
    """Which messages of a bag to use, and how."""

    image: str | None
    camera_info: str | None
    depth: str | None
    lidar: str | None
    T_cam_lidar: tuple[tuple[float, ...], ...] | None
    every: int
    min_depth: float
    max_depth: float
    stamps: str


@dataclass(frozen=True)
class Shot:
    """An image with depth: its ``number`` over all bags, its bag's, and its stamp in ns."""

    number: int
    bag: int
    stamp_ns: int


class BagPairs:
    """
    Images with depth of some bags, or of all bags in a folder.

    Parameters
    ----------
    data : Path
        Base of ``folder``; the extracted pairs go to ``data/bags``.
    folder : str or list of str
        A bag, or a folder of bags; or several of them.
    image, camera_info, depth, lidar : str or None
        Topics; None finds them by content. Dense depth is used if ``depth`` is given, or if
        ``lidar`` is not and the bag has a topic with 'depth_truth' in its name; it must be
        registered to the image and share its stamps.
    T_cam_lidar : 4 lists of 4 numbers or None
        Camera from LiDAR; None reads /tf_static.
    every : int
        Uses every n-th image.
    min_depth, max_depth : float, metres
        Depth outside is unknown. There is no sky: infinite depth means out of range.
    frames : list of [first, end] or None
        Blocks of images to use, by their numbers over all bags, ``end`` not included; None for
        all.
    hold_lines : int
        Every n-th scan line is never used; 0 uses all.
    stamps : {'header', 'log'}
        Pair images and scans by header stamp, or by time of recording.

    """

    def __init__(
        self,
        data: Path,
        folder: str | Sequence[str],
        image: str | None = None,
        camera_info: str | None = None,
        depth: str | None = None,
        lidar: str | None = None,
        T_cam_lidar: Sequence[Sequence[float]] | None = None,
        every: int = 1,
        min_depth: float = AlignmentConfig.min_depth,
        max_depth: float = AlignmentConfig.max_depth,
        frames: Sequence[Sequence[int]] | None = None,
        hold_lines: int = 0,
        stamps: str = 'header',
    ) -> None:
        if hold_lines < 0 or hold_lines == 1:
            raise ConfigurationError(
                f'hold_lines is {hold_lines}; choose 0 for none, or 2 or more for every n-th line'
            )
        if every < 1:
            raise ConfigurationError(f'every is {every}; choose 1 for all images, or more')
        if depth and lidar:
            raise ConfigurationError(f'depth is {depth} and lidar {lidar}; give one of them')
        AlignmentConfig(min_depth=min_depth, max_depth=max_depth)  # checks the range
        pose = None
        if T_cam_lidar is not None:
            pose = tuple(map(tuple, check_transform(np.asarray(T_cam_lidar)).tolist()))
        folders = [folder] if isinstance(folder, str) else list(folder)
        self.name = f'bag {", ".join(folders)}'
        self._choice = _Choice(
            image, camera_info, depth, lidar, pose, every, min_depth, max_depth, stamps
        )
        self._jobs = [
            (path, data / 'bags' / f'{path.stem}-{_fingerprint(path, self._choice)[:12]}')
            for entry in folders
            for path in _bags_in(data / entry)
        ]
        self._blocks = None if frames is None else [_block(entry) for entry in frames]
        self._hold_lines = hold_lines
        self._chosen: list[tuple[Path, Shot]] | None = None

    def __len__(self) -> int:
        """Return the number of pairs, extracting them first if necessary."""
        return len(self._files_by_shot())

    @property
    def shots(self) -> list[Shot]:
        """The images in use, in order."""
        return [shot for _, shot in self._files_by_shot()]

    def read(self, index: int) -> Pair:
        """Return one pair; raises InputError naming a broken file."""
        rgb, known = self._files(index)
        if 'line' in known:
            return self._scan(rgb, known).pair()
        depth = np.full(rgb.shape[:2], np.nan, np.float32)
        depth.flat[known['pixel']] = known['depth']
        return Pair(rgb, depth)

    def read_lidar(self, index: int) -> LidarPair:
        """Return one image with its scan; raises InputError without LiDAR, or as ``read``."""
        rgb, known = self._files(index)
        if 'line' not in known:
            stem, _ = self._files_by_shot()[index]
            raise InputError(
                f'{self.name} has dense depth (pair {stem}); give its LiDAR topic as lidar'
            )
        return self._scan(rgb, known)

    def key(self, index: int) -> str:
        """Return a text that changes when the bag, a pair's place in it or its points do."""
        stem, _ = self._files_by_shot()[index]
        return f'{stem.parent.name}/{stem.name} hold_lines {self._hold_lines}'

    def _scan(self, rgb: np.ndarray, known: dict[str, np.ndarray]) -> LidarPair:
        """Return an image with the points of its scan that are on no held line."""
        v, u = np.divmod(known['pixel'].astype(np.intp), rgb.shape[1])
        points = SparseDepth(u, v, known['depth'])
        pair = LidarPair(rgb, points, known['visible'], known['line'], known['azimuth'])
        return pair.chosen(~on_held_line(pair.line, self._hold_lines))

    def _files(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Read image and arrays of a pair."""
        stem, _ = self._files_by_shot()[index]
        try:
            rgb = decode_image_file(stem.with_suffix('.png').read_bytes(), f'{stem}.png')
            with np.load(stem.with_suffix('.npz')) as known:
                arrays = {name: known[name] for name in known.files}
            if len(arrays['pixel']) != len(arrays['depth']):
                raise ValueError('pixels and depth do not match')
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(
                f'{stem} is damaged ({error}); delete {stem.parent} and start again'
            ) from error
        return rgb, arrays

    def fingerprint(self) -> str:
        """Return a text that changes when a bag or the choice of messages does."""
        chosen = f' frames {self._blocks}' if self._blocks is not None else ''
        chosen += f' hold_lines {self._hold_lines}' if self._hold_lines else ''
        return ' '.join(to.name for _, to in self._jobs) + chosen

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Extract the pairs of all bags; raises InputError naming every broken bag."""
        jobs = [(path, to, self._choice) for path, to in self._jobs if not (to / INDEX).exists()]
        problems: list[str] = []
        with run_jobs(_extract, jobs, workers, stop) as results:
            bar = tqdm(results, total=len(jobs), desc=f'read {self.name}', disable=not jobs)
            for found in bar:
                problems += found
        raise_problems(problems, self.name)
        for _, to, _ in jobs:
            for reason, count in _read_index(to)['left_out'].items():
                tqdm.write(f'{to.name}: {count} images skipped: {reason}')

    def _files_by_shot(self) -> list[tuple[Path, Shot]]:
        if self._chosen is None:
            self.prepare()
            found, first = [], 0
            for bag, (_, to) in enumerate(self._jobs):
                index = _read_index(to)
                for place, (number, stamp_ns) in enumerate(index['pairs']):
                    found.append((to / f'{place:06d}', Shot(first + number, bag, stamp_ns)))
                first += index['images']
            self._chosen = [item for item in found if self._is_in_block(item[1].number)]
        return self._chosen

    def _is_in_block(self, number: int) -> bool:
        return self._blocks is None or any(low <= number < end for low, end in self._blocks)


def on_held_line(line: np.ndarray, every: int) -> np.ndarray:
    """Return for scan lines (M,) whether they are held: every n-th, none for 0."""
    return line % every == every // 2 if every else np.zeros(len(line), bool)


def _block(entry: Any) -> tuple[int, int]:
    good = isinstance(entry, (list, tuple)) and [type(x) for x in entry] == [int, int]
    if not good or not 0 <= entry[0] < entry[1]:
        raise ConfigurationError(
            f'frames has {entry!r}; give blocks [first, end] of image numbers, 0 <= first < end'
        )
    return entry[0], entry[1]


def _read_index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INDEX).read_text(encoding='utf-8'))


def _bags_in(path: Path) -> list[Path]:
    if path.is_file() or (path / 'metadata.yaml').is_file():
        return [path]
    inner = sorted(path.iterdir()) if path.is_dir() else []
    found = [p for p in inner if (p / 'metadata.yaml').is_file() or p.suffix in SUFFIXES]
    if not found:
        raise InputError(
            f'{path} is no bag and contains none (a folder with metadata.yaml or a file ending in '
            f"{', '.join(SUFFIXES)}); check 'folder' in the recipe",
            cause='missing',
        )
    return found


def _fingerprint(path: Path, choice: _Choice) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    made_by = LAYOUT, versions().get('marigold_ros', '')
    text = json.dumps([*made_by, str(path.resolve()), facts, asdict(choice)])
    return hashlib.sha256(text.encode()).hexdigest()


def _extract(job: tuple[Path, Path, _Choice]) -> list[str]:
    """Write all pairs of a bag or none; returns its problems, in words."""
    path, target, choice = job
    draft = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        # A killed process, of the same number in a container, may have left its draft.
        draft.mkdir(parents=True, exist_ok=True)
        problems, images, pairs, skipped = _write_pairs(path, draft, choice)
        if not problems and not pairs:
            why = '; '.join(f'{count} times {reason}' for reason, count in skipped.items())
            problems = [f'{path} has no image with depth ({why or "no images"})']
        if not problems:
            facts = {'bag': str(path), 'images': images, 'pairs': pairs, 'left_out': skipped}
            (draft / INDEX).write_text(json.dumps(facts, indent=1), encoding='utf-8')
            _put_in_place(draft, target)
    except MarigoldError as error:
        return [str(error)]
    except OSError as error:
        return [f'{target} could not be written ({error}); free some space and start again']
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return problems


def _put_in_place(draft: Path, target: Path) -> None:
    try:
        os.replace(draft, target)
    except OSError:
        if not (target / INDEX).exists():  # another process may have written the same
            raise


def _write_pairs(
    path: Path, folder: Path, choice: _Choice
) -> tuple[list[str], int, list[tuple[int, int]], Counter[str]]:
    """Return problems, the number of images, number and stamp of each pair, and omissions."""
    problems: list[str] = []
    skipped: Counter[str] = Counter()
    images = 0
    pairs: list[tuple[int, int]] = []
    config = AlignmentConfig(min_depth=choice.min_depth, max_depth=choice.max_depth)
    pose = None if choice.T_cam_lidar is None else np.array(choice.T_cam_lidar)
    with BagReader(path) as reader:
        topics = _topics(reader, choice)
        for number, item in enumerate(
            bag_frames(reader, topics, LidarConfig(), pose, choice.stamps)
        ):
            images += 1
            if number % choice.every:
                continue
            where = f'{path} image {number} of {topics.image} (stamp {item.stamp_ns})'
            if item.error is not None:
                problems.append(f'{where}: {item.error}')
                continue
            pair = pair_of(item, config)
            if isinstance(pair, str):
                skipped[pair] += 1
                continue
            depth = pair.points.z if isinstance(pair, LidarPair) else pair.depth
            wrong = implausible(depth, (config.min_depth, config.max_depth))
            if wrong:
                problems.append(f'{where}: its depth {wrong}')
                continue
            _write(pair, folder / f'{len(pairs):06d}', config)
            pairs.append((number, item.stamp_ns))
    return problems, images, pairs, skipped


def _topics(reader: BagReader, choice: _Choice) -> BagTopics:
    found = reader.choose_topics(choice.image, choice.camera_info, choice.lidar, choice.depth)
    if choice.lidar or not found.truth:
        return replace(found, truth=None)
    return replace(found, lidar=None)


def pair_of(item: BagFrame, config: AlignmentConfig) -> Pair | LidarPair | str:
    """Return image and depth, or the reason why there is no pair."""
    frame = item.frame
    if frame is None or (item.truth is None and frame.points_lidar is None):
        return item.warning or 'no depth near the image'
    if item.truth is not None:
        rgb = frame.rgb
        try:
            if item.truth_is_rectified and frame.camera is not None:
                rgb = rectify_image(rgb, frame.camera)
        except CalibrationError as error:
            return str(error)
        return Pair(rgb, item.truth) if np.isfinite(item.truth).any() else 'no finite depth'
    if frame.camera is None or frame.T_cam_lidar is None or frame.points_lidar is None:
        return item.warning or 'no camera_info or no transform from LiDAR to camera'
    try:
        pair = _project(
            frame.rgb, frame.camera, frame.points_lidar, frame.T_cam_lidar, item.ring, config
        )
    except (CalibrationError, InputError) as error:
        return str(error)
    return pair if pair.visible.any() else 'no LiDAR point in view'


def _project(
    rgb: np.ndarray,
    camera: Camera,
    points_lidar: np.ndarray,
    T_cam_lidar: np.ndarray,
    ring: np.ndarray | None,
    config: AlignmentConfig,
) -> LidarPair:
    """Project the scan of a frame into its rectified image."""
    finite = np.isfinite(points_lidar).all(axis=1)
    scan = points_lidar[finite]
    line = find_scan_lines(scan, None if ring is None else ring[finite]).index
    azimuth = azimuth_blocks(scan).index
    points = project_lidar(
        scan,
        T_cam_lidar,
        rectified(camera),
        replace(config, occlusion_window=1),
        rectified_valid(camera),
    )
    visible = not_hidden(
        points.u, points.v, points.z, config.occlusion_window, config.occlusion_threshold
    )
    rgb = rectify_image(rgb, camera)
    return LidarPair(rgb, points, visible, line[points.index], azimuth[points.index])


def _write(pair: Pair | LidarPair, stem: Path, config: AlignmentConfig) -> None:
    bgr = cv2.cvtColor(pair.rgb, cv2.COLOR_RGB2BGR)
    # Speed over size: the files are read many times.
    _, data = cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    stem.with_suffix('.png').write_bytes(data.tobytes())
    path = stem.with_suffix('.npz')
    if isinstance(pair, LidarPair):
        points = pair.points
        np.savez_compressed(
            path,
            pixel=(points.v * pair.rgb.shape[1] + points.u).astype(np.int32),
            depth=points.z,
            visible=pair.visible,
            line=pair.line.astype(np.uint16),
            azimuth=pair.azimuth.astype(np.uint16),
        )
        return
    depth = pair.depth.astype(np.float32).ravel()
    within = (depth >= config.min_depth) & (depth <= config.max_depth)
    pixel = np.flatnonzero(within).astype(np.int32)
    np.savez_compressed(path, pixel=pixel, depth=depth[pixel])
