# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Prepare Hypersim's raw HDF5 files for training; run it again and it does what is missing.

    python training/prepare_hypersim.py RAW OUT --workers 8
    python training/prepare_hypersim.py RAW OUT --splits train --scenes 'ai_001_*'

RAW holds the scenes (ai_001_001, …) and metadata_images_split_scene_v1.csv. OUT gets a folder for
each split with images, depth in mm, filename_list_<split>.txt and filename_meta_<split>.csv.
Broken files are named and left out; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys


def main(arguments: list[str] | None = None) -> int:
    """Find the frames, prepare split by split, name what is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('raw', type=Path, help='folder of the raw scenes')
    parser.add_argument('out', type=Path, help='folder to fill')
    parser.add_argument('--table', type=Path, help='table of frames (default: the one in RAW)')
    parser.add_argument('--splits', nargs='+', default=['train', 'val', 'test'])
    parser.add_argument('--scenes', default='*', help='pattern of scene names (default: all)')
    parser.add_argument('--workers', type=int, default=1, help='processes, a scene each')
    args = parser.parse_args(arguments)

    from hypersim.preparation import find_jobs, META, prepare_split
    from marigold_ros.errors import MarigoldError

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
    for problem in broken:
        print(f'broken: {problem}', file=sys.stderr)
    return 1 if broken else 0


if __name__ == '__main__':
    raise SystemExit(main())
