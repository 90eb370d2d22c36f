# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The data sets of publications as validation during training, by the published protocols.

NYU, KITTI, ETH3D, ScanNet and DIODE in the layouts of prs-eth/Marigold, fitted and scored by the
rules of ``evaluation.protocols.oracle``: as ``evaluate --dataset`` does.
"""

from collections.abc import Iterator, Mapping
import hashlib
from itertools import islice
import json
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.protocols.oracle import PUBLISHED, published_pairs
from marigold_ros.image_sets.image_set import ImageChoice, ImageSet
from marigold_ros.image_sets.layouts import LAYOUTS
from marigold_ros.models.protocol import DepthModel
from marigold_ros.processes import never, Stop, Stopped
from marigold_ros.whole_files import write_whole
from marigold_training.data.file_pairs import raise_problems
from marigold_training.data.pairs import Pair
from marigold_training.recipe_keys import check_keys
import numpy as np

SETS = tuple(LAYOUTS)
KEYS = ('folder', 'list', 'images')
SHOWN_SIDE = 1280  # px at most of an image on a contact sheet


class PublishedSet:
    """
    Images of one data set.

    Parameters
    ----------
    name : str
        Of SETS.
    entry : mapping
        ``folder`` (or tar) and ``list``, below ``data``; ``images``: how many, from the first of
        the list; all by default.
    data : Path

    Raises
    ------
    ConfigurationError
        If a key is missing, unknown or invalid.
    InputError
        If a file is missing or the list is damaged.

    """

    def __init__(self, name: str, entry: Mapping[str, Any], data: Path) -> None:
        if not isinstance(entry, Mapping) or not {'folder', 'list'} <= set(entry):
            raise ConfigurationError(
                f'validation.{name} is {entry!r}; give {{folder: ..., list: ...}}, the data set '
                'and its list of files'
            )
        check_keys(f'validation.{name}', entry, KEYS)
        count = entry.get('images')
        if count is not None and (type(count) is not int or count < 1):
            raise ConfigurationError(f'validation.{name}.images is {count!r}; give a number')
        self.name, self.stamps = name, data / 'verified'
        listed = data / str(entry['list'])
        if not listed.is_file():
            raise InputError(f"no file {listed}; check 'list' of validation.{name}", 'missing')
        self._images = ImageSet(data / str(entry['folder']), ImageChoice(name, str(listed)))
        self._count = len(self._images) if count is None else min(count, len(self._images))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def pairs(self) -> Iterator[Pair]:
        """Yield images with truth, NaN unknown; raises InputError naming a broken file."""
        for item in islice(self._images.frames(), self._count):
            if item.error is not None:
                raise item.error
            assert item.frame is not None
            assert item.truth is not None
            yield Pair(item.frame.rgb, item.truth)

    def prepare(self, stop: Stop = never) -> None:
        """Read every file once; raises InputError naming broken ones, and Stopped."""
        facts = json.dumps([self.name, self._count, self._images.state])
        stamp = self.stamps / f'{hashlib.sha256(facts.encode()).hexdigest()[:24]}.txt'
        if stamp.exists():
            return
        problems = []
        for item in islice(self._images.frames(), self._count):
            if stop():
                raise Stopped
            problems += [] if item.error is None else [str(item.error)]
        raise_problems(problems, f'validation.{self.name}')
        write_whole(stamp, f'{self.name}: {self._count} images are complete\n'.encode())

    def score(self, model: DepthModel) -> dict[str, float]:
        """Return the mean of each metric over the images, and their number as ``pictures``."""
        rule, rows = PUBLISHED[f'marigold-{self.name}'], []
        for pair in self.pairs():
            prediction = model.predict(pair.rgb)
            known = published_pairs(prediction.relative, pair.depth, prediction.space, rule)
            row = depth_metrics(known.predicted, known.truth)
            if row['n']:
                rows.append({key: row[key] for key in METRICS if key in row})
        if not rows:
            raise InputError(
                f'validation.{self.name}: none of {self._count} images has a pixel of known depth '
                'that counts; check the data set and its list',
                cause='empty',
            )
        means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        return {**means, 'pictures': len(rows)}

    def shown(self) -> Pair:
        """Return the first image at no more than 1280 px."""
        pair = next(self.pairs())
        step = -(-max(pair.depth.shape) // SHOWN_SIDE)
        return pair.cut(slice(None, None, step), slice(None, None, step))
