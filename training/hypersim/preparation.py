# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Hypersim's raw scenes brought to the layout that sources/hypersim.py reads, scene by scene.

A scene's table is written when the scene is done, so that a second run does only what is missing
or was broken.
"""

from __future__ import annotations

from collections.abc import Sequence
import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
import io
from pathlib import Path
from typing import Any

import cv2
from marigold_ros.errors import InputError
from marigold_ros.learning.data.storage import write_whole
from marigold_ros.learning.parallel import run_jobs
import numpy as np
from tqdm import tqdm

from hypersim.raw_frames import hdf5, read_frame

SPLITS = ('train', 'val', 'test')
META = 'metadata_images_split_scene_v1.csv'
PARTS = '.parts'
FACTS = ('mean', 'std', 'min', 'max')
COLUMNS = [
    *('scene_name', 'camera_name', 'frame_id'),
    *('rgb_path', *(f'rgb_{fact}' for fact in FACTS)),
    *('depth_path', *(f'depth_{fact}' for fact in FACTS)),
    'invalid_ratio',
]


@dataclass(frozen=True)
class SceneJob:
    """One scene of one split: its frames as (camera, number), and where it comes from and goes."""

    raw: Path
    out: Path
    scene: str
    frames: tuple[tuple[str, int], ...]

    @property
    def table(self) -> Path:
        """What is known of the frames that are done."""
        return self.out / PARTS / f'{self.scene}.csv'


def find_jobs(
    raw: Path, out: Path, table: Path, splits: Sequence[str] = SPLITS, scenes: str = '*'
) -> dict[str, list[SceneJob]]:
    """
    Read which frames belong to which split.

    Parameters
    ----------
    raw, out : Path
        The raw data's folder of scenes; where the splits' folders are made.
    table : Path
        The official table of frames, see ``META``.
    splits : sequence of str
    scenes : str
        Pattern of their names; splits that have none of these are left out.

    Returns
    -------
    dict of split to its scenes

    Raises
    ------
    InputError
        If the table is missing or lacks a column, or a split has no frame.

    """
    found: dict[str, dict[str, list[tuple[str, int]]]] = {split: {} for split in splits}
    try:
        with table.open(newline='', encoding='utf-8') as file:
            for row in csv.DictReader(file):
                split, scene = row['split_partition_name'], row['scene_name']
                public = row['included_in_public_release'].strip().lower() == 'true'
                if public and split in found and fnmatchcase(scene, scenes):
                    frame = row['camera_name'], int(row['frame_id'])
                    found[split].setdefault(scene, []).append(frame)
    except OSError as error:
        raise InputError(
            f'table {table} cannot be read ({error.strerror}); fetch {META} from the data set'
        ) from error
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError(f'{table} is not {META}: {error!r}', cause='fields') from error
    empty = [split for split in found if not found[split]]
    if empty and (scenes == '*' or len(empty) == len(found)):
        raise InputError(
            f"split '{empty[0]}' is empty: {table} names no public frame of scenes like "
            f"'{scenes}'; choose of {', '.join(SPLITS)}, or other scenes",
            cause='empty',
        )
    return {
        split: [SceneJob(raw, out / split, scene, tuple(f)) for scene, f in sorted(items.items())]
        for split, items in found.items()
        if items
    }


def prepare_split(
    split: str, jobs: Sequence[SceneJob], workers: int = 1, progress: bool = True
) -> list[str]:
    """
    Prepare the scenes of a split that are not done, then write its list and its table.

    Parameters
    ----------
    split : str
    jobs : sequence of SceneJob
    workers : int
        Processes, a scene each.
    progress : bool

    Returns
    -------
    list of str
        What is broken, in words; it is left out of the list and tried again by the next run.

    Raises
    ------
    ConfigurationError
        If h5py is not installed.

    """
    hdf5()
    broken: list[str] = []
    total = sum(len(job.frames) for job in jobs)
    with (
        tqdm(total=total, desc=f'prepare {split}', unit='frame', disable=not progress) as bar,
        run_jobs(prepare_scene, jobs, workers) as answers,
    ):
        for job, found in zip(jobs, answers, strict=True):
            broken += found
            bar.update(len(job.frames))
    write_lists(split, jobs[0].out)
    return broken


def prepare_scene(job: SceneJob) -> list[str]:
    """Prepare the frames of a scene that are not done; returns what is broken, in words."""
    rows = {(row['camera_name'], int(row['frame_id'])): row for row in _read_table(job.table)}
    missing = [frame for frame in job.frames if frame not in rows]
    if not missing:
        return []
    if not (job.raw / job.scene).is_dir():
        return [f'{job.raw / job.scene} is missing with its {len(missing)} frames; fetch it']
    broken = []
    for camera, number in missing:
        try:
            rows[camera, number] = prepare_frame(job, camera, number)
        except InputError as error:
            broken.append(str(error))
    _write_table(job.table, [rows[frame] for frame in sorted(rows)])
    return broken


def prepare_frame(job: SceneJob, camera: str, number: int) -> dict[str, Any]:
    """
    Write image and depth of a frame.

    Returns
    -------
    dict
        Its row of the table; without paths where nothing in view has depth, and nothing is
        written then.

    Raises
    ------
    InputError
        Naming the file that is missing, damaged or implausible.

    """
    rgb, millimetres, valid = read_frame(job.raw / job.scene / 'images', camera, number)
    row: dict[str, Any] = {'scene_name': job.scene, 'camera_name': camera, 'frame_id': number}
    row['invalid_ratio'] = float(np.mean(~valid))
    if not valid.any():
        return row
    for kind, name, values in (
        ('rgb', 'rgb', rgb),
        ('depth', 'depth_plane', millimetres / 1000.0),
    ):
        row[f'{kind}_path'] = f'{job.scene}/{name}_{camera}_fr{number:04d}.png'
        for fact in FACTS:
            row[f'{kind}_{fact}'] = float(getattr(np, fact)(values))
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    for kind, image in (('rgb', bgr), ('depth', millimetres)):
        write_whole(job.out / row[f'{kind}_path'], cv2.imencode('.png', image)[1].tobytes())
    return row


def write_lists(split: str, folder: Path) -> int:
    """Write the list and the table of all frames of a split that are done; returns its length."""
    rows = [row for path in sorted((folder / PARTS).glob('*.csv')) for row in _read_table(path)]
    _write_table(folder / f'filename_meta_{split}.csv', rows)
    listed = [row for row in rows if row['depth_path']]
    lines = [f'{row["rgb_path"]} {row["depth_path"]}\n' for row in listed]
    write_whole(folder / f'filename_list_{split}.txt', ''.join(lines).encode())
    return len(lines)


def _read_table(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
