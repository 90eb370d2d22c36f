# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Prepare Hypersim's raw HDF5 files for training; a second run resumes.

    python training/prepare_hypersim.py RAW OUT --workers 8
    python training/prepare_hypersim.py RAW OUT --splits train --scenes 'ai_001_*'

RAW holds the scenes (ai_001_001, …) and metadata_images_split_scene_v1.csv. OUT gets a folder for
each split with images, depth in mm, filename_list_<split>.txt and filename_meta_<split>.csv. A
scene's table is written when the scene is done. Broken files are named and skipped, with exit
code 1; the next run tries them again. Ctrl-C ends it with 130.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
import io
from pathlib import Path
import sys
from typing import Any

import cv2
from marigold_ros.commands.terminal.options import integer
from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.processes import run_jobs
from marigold_ros.whole_files import write_whole
from marigold_training.hypersim_frames import hdf5, read_frame
import numpy as np
from tqdm import tqdm

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
    """One scene of one split: its folders and its frames as (camera, number)."""

    raw: Path
    out: Path
    scene: str
    frames: tuple[tuple[str, int], ...]

    @property
    def table(self) -> Path:
        """Path of the table of finished frames."""
        return self.out / PARTS / f'{self.scene}.csv'


def find_jobs(
    raw: Path, out: Path, table: Path, splits: Sequence[str] = SPLITS, scenes: str = '*'
) -> dict[str, list[SceneJob]]:
    """
    Read the frames of each split.

    Parameters
    ----------
    raw, out : Path
        Folder of the raw scenes; folder for the splits.
    table : Path
        The official table of frames, ``META``.
    splits : sequence of str
    scenes : str
        Pattern of their names; splits without a match are skipped.

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


def prepare_split(split: str, jobs: Sequence[SceneJob], workers: int = 1) -> list[str]:
    """
    Prepare the unfinished scenes of a split, then write its list and table.

    Parameters
    ----------
    split : str
    jobs : sequence of SceneJob
    workers : int
        Processes, a scene each.

    Returns
    -------
    list of str
        The broken files, in words; they are not listed.

    Raises
    ------
    ConfigurationError
        If h5py is not installed.

    """
    hdf5()
    broken: list[str] = []
    total = sum(len(job.frames) for job in jobs)
    with (
        tqdm(total=total, desc=f'prepare {split}', unit='frame') as bar,
        run_jobs(prepare_scene, jobs, workers) as results,
    ):
        for job, found in zip(jobs, results, strict=True):
            broken += found
            bar.update(len(job.frames))
    write_lists(split, jobs[0].out)
    return broken


def prepare_scene(job: SceneJob) -> list[str]:
    """Prepare the unfinished frames of a scene; returns the broken files, in words."""
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
        Its row of the table; without paths if nothing in view has depth: no file is written.

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
    """Write list and table of a split's finished frames; returns the length of the list."""
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


def main(arguments: list[str] | None = None) -> int:
    """Find the frames, prepare split by split, name broken files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('raw', type=Path, help='folder of the raw scenes')
    parser.add_argument('out', type=Path, help='folder to fill')
    parser.add_argument('--table', type=Path, help='table of frames (default: the one in RAW)')
    parser.add_argument('--splits', nargs='+', default=['train', 'val', 'test'])
    parser.add_argument('--scenes', default='*', help='pattern of scene names (default: all)')
    parser.add_argument('--workers', type=integer(1), default=1, help='processes, a scene each')
    args = parser.parse_args(arguments)

    broken: list[str] = []
    try:
        jobs = find_jobs(
            args.raw, args.out, args.table or args.raw / META, args.splits, args.scenes
        )
        for split, scenes in jobs.items():
            broken += prepare_split(split, scenes, args.workers)
    except MarigoldError as error:
        print(f'prepare_hypersim: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped; the same command resumes', file=sys.stderr)
        return 130
    for problem in broken:
        print(f'broken: {problem}', file=sys.stderr)
    return 1 if broken else 0


if __name__ == '__main__':
    raise SystemExit(main())
