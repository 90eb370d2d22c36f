# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Images labelled by another model: without depth, for a distillation, or between LiDAR points.

Of images without depth a model is run once on each, and its depth kept in a file. A relative map
has no metres: its ends become 1 m and 50 m, which is the same training target as any other choice,
because targets are normalised in the model's own space. Where there is a LiDAR, the map is fitted
to its points.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
import hashlib
from io import BytesIO
import json
from pathlib import Path
from typing import Any

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.sigma.counted_errors import count_errors, sigma_map
from marigold_ros.image_sets.decode import decode_image_file
from marigold_ros.image_sets.listing import find
from marigold_ros.image_sets.storage import open_storage
from marigold_ros.models import load_model
from marigold_ros.models.average.model import is_average, member_names
from marigold_ros.models.locate import find_folder, fingerprint
from marigold_ros.models.protocol import DepthModel
from marigold_ros.processes import never, Stop, Stopped
from marigold_ros.spaces import from_metres, to_metres
from marigold_ros.whole_files import write_whole
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.file_pairs import raise_problems
from marigold_training.data.pairs import Pair
from marigold_training.recipe_keys import check_arguments
import numpy as np
from tqdm import tqdm

NEAR_M, FAR_M = 1.0, 50.0  # at the ends of a relative map
FARTHEST_M = 1e3  # of a disparity near zero
ABOUT = 'about.json'
FITTED = AlignmentConfig(method='local')
# Of a teacher's labels between LiDAR points: weight of a sure one, beside 1 of a point, relative
# deviation at which it is halved, and above which there is no label.
SURE_WEIGHT, HALVING, LARGEST_DEVIATION = 0.5, 0.1, 0.3


class _Labelled:
    """Images whose labels a teacher makes once, one file each; it is loaded when first needed."""

    def __init__(self, data: Path, name: str, teacher: str) -> None:
        self.name, self.teacher = f'{name} by {teacher}', teacher
        self._labels = data / 'labels' / _identity(teacher)[:16]

    @cached_property
    def _model(self) -> DepthModel:
        return load_model(self.teacher)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the model, which other processes do not need."""
        return {key: value for key, value in vars(self).items() if key != '_model'}

    def _label_missing(
        self, files: Sequence[Path], label: Callable[[int], None], stop: Stop
    ) -> None:
        """Call ``label`` with the number of each file that is missing, and drop the model."""
        missing = [number for number, path in enumerate(files) if not path.is_file()]
        for number in tqdm(missing, desc=f'label {self.name}', disable=not missing):
            if stop():
                raise Stopped('stopped while images were labelled')
            label(number)
        vars(self).pop('_model', None)  # its memory is needed for training

    def _kept(self, path: Path) -> np.ndarray:
        """Read a label in float32; raises InputError naming a damaged file."""
        try:
            return np.load(path).astype(np.float32)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(
                f'{path} is damaged ({error}); delete it and start again', cause='truncated'
            ) from error

    def _keep(self, path: Path, label: np.ndarray) -> None:
        """Write a label in float16."""
        file = BytesIO()
        np.save(file, label.astype(np.float16))
        write_whole(path, file.getvalue())


class TeacherPairs(_Labelled):
    """
    Images of a folder or tar, with the depth that a model predicts.

    Parameters
    ----------
    data : Path
        Base of ``folder``; the depth goes to ``data/labels``, 2 bytes a pixel.
    folder : str
        Folder or uncompressed tar of the images.
    model : str
        As ``model`` of the node: a name, a folder, a hub id, or several to be averaged.
    images : str
        Pattern of the files; see listing.py.

    """

    def __init__(self, data: Path, folder: str, model: str, images: str = '**/*.*') -> None:
        super().__init__(data, folder, model)
        self._storage = open_storage(data / folder)
        self._names = find(self._storage.names, images)
        if not self._names:
            raise InputError(
                f"no files like '{images}' in {data / folder}; check folder and images of the "
                'source',
                cause='empty',
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    @cached_property
    def space(self) -> str:
        """Space of the teacher's predictions."""
        about = self._labels / ABOUT
        if not about.is_file():
            facts = {'model': self.teacher, 'space': self._model.space}
            write_whole(about, json.dumps(facts).encode())
        return str(json.loads(about.read_text(encoding='utf-8'))['space'])

    def read(self, index: int) -> Pair:
        """Return one pair; raises InputError naming a broken file."""
        rgb, path = self._image(index), self._label(index)
        if not path.is_file():
            self._store(index, rgb)
        return Pair(rgb, self._kept(path))

    def fingerprint(self) -> str:
        """Return a hash of the model, its settings, and every image's size and time."""
        digest = hashlib.sha256(self._labels.name.encode())
        for index in range(len(self)):
            digest.update(self._label(index).name.encode())
        return digest.hexdigest()

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Predict the depth of all images that have none yet.

        Raises InputError naming broken images, and Stopped once ``stop`` returns true.
        """
        problems = []

        def label(index: int) -> None:
            try:
                self._store(index, self._image(index))
            except InputError as error:
                problems.append(str(error))

        self._label_missing([self._label(i) for i in range(len(self))], label, stop)
        raise_problems(problems, self.name)

    def _image(self, index: int) -> np.ndarray:
        name = self._names[index]
        path = str(self._storage.path / name)
        return decode_image_file(self._storage.read(name), path)

    def _label(self, index: int) -> Path:
        name = self._names[index]
        facts = f'{self._storage.path.resolve()} {name} {self._storage.state(name)}'
        return self._labels / f'{hashlib.sha256(facts.encode()).hexdigest()[:24]}.npy'

    def _store(self, index: int, rgb: np.ndarray) -> None:
        depth = stand_in_depth(self._model.predict(rgb).relative, self.space)
        self._keep(self._label(index), depth)


class TaughtBagPairs(_Labelled):
    """
    Pairs of bags with LiDAR, and between its points the depth of a model that is fitted to them.

    The labels are weighted by their deviation, as alignment states it.

    Parameters
    ----------
    data : Path
        Base of ``folder``; the labels go to ``data/labels``, 4 bytes a pixel.
    folder, **own
        As of ``BagPairs``.
    teacher : str
        As ``model`` of the node: a name, a folder, a hub id, or several to be averaged.

    """

    def __init__(self, data: Path, folder: str | Sequence[str], teacher: str, **own: Any) -> None:
        check_arguments("source 'taught_bag'", own, partial(BagPairs, data, folder))
        self.bag = BagPairs(data, folder, **own)
        super().__init__(data, self.bag.name, teacher)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.bag)

    def read(self, index: int) -> Pair:
        """Return one pair with labels; raises InputError naming a broken file."""
        path = self._label(index)
        if not path.is_file():
            self._store(index)
        depth, deviation = self._kept(path)
        weight = SURE_WEIGHT / (1.0 + np.square(deviation / HALVING))
        depth[~(deviation <= LARGEST_DEVIATION)] = np.nan
        return replace(self.bag.read(index), labels=np.stack([depth, weight], axis=-1))

    def fingerprint(self) -> str:
        """Return a text that changes when a bag, the choice of messages or the model does."""
        return f'{self.bag.fingerprint()} by {self._labels.name}'

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Extract the pairs and label those without labels; raises as ``TeacherPairs``."""
        self.bag.prepare(workers, stop)
        self._label_missing([self._label(i) for i in range(len(self))], self._store, stop)

    def _label(self, index: int) -> Path:
        name = hashlib.sha256(self.bag.key(index).encode()).hexdigest()
        return self._labels / f'{name[:24]}.npy'

    def _store(self, index: int) -> None:
        pair = self.bag.read_lidar(index)
        prediction = self._model.predict(pair.rgb)
        label = fitted_label(prediction, pair.points.chosen(pair.visible))
        self._keep(self._label(index), label)


def fitted_label(prediction: Prediction, points: SparseDepth) -> np.ndarray:
    """Return depth, metres, and its relative deviation (2, H, W); NaN where the fit fails."""
    fit = align_map(prediction, points, FITTED)
    errors = count_errors(None, prediction, points, fit, FITTED)
    sigma = sigma_map(errors, prediction, fit, FITTED, points)
    if fit.state != 'fitted' or fit.metric is None or sigma is None:
        return np.full((2, *prediction.relative.shape), np.nan, np.float32)
    return np.stack([fit.metric, sigma / fit.metric])


def stand_in_depth(values: np.ndarray, space: str) -> np.ndarray:
    """
    Return depth (H, W) that is affine in a space to values (H, W) of that space.

    Relative values from 0 to 1 become 1 m to 50 m, or 50 m to 1 m in disparity; ``metric`` stays.
    """
    if space == 'metric':
        return values
    ends = from_metres(np.array([NEAR_M, FAR_M]), space)
    low, high = sorted(ends)
    return to_metres(low + (high - low) * values, space, FARTHEST_M)


def _identity(model: str) -> str:
    """Return a hash of the weights and settings of a model, or of several."""
    names = member_names(model) if is_average(model) else [model]
    paths = [path for name in names for path in find_folder(name).rglob('*')]
    files = sorted(path for path in paths if path.suffix in ('.safetensors', '.bin', '.json'))
    return hashlib.sha256(f'{names} {fingerprint(files)}'.encode()).hexdigest()
