# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run several models on the same image and average their maps."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import logging
from typing import Any

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction
from marigold_ros.models.average.merge import merge
from marigold_ros.models.locate import is_local
from marigold_ros.models.protocol import DEFAULTS, FullDepthModel, PredictOptions
import numpy as np

log = logging.getLogger(__name__)
SIGN = '+'  # between the names of the members


def is_average(name: str) -> bool:
    """Return whether a name is that of several models, and no folder with the sign in it."""
    return SIGN in name and not is_local(name)


def member_names(name: str) -> list[str]:
    """Split ``tiny+unet`` into the names of its members; raises ConfigurationError."""
    names = [part.strip() for part in name.split(SIGN)]
    if not all(names) or len(set(names)) < len(names):
        raise ConfigurationError(
            f"model is '{name}'; an average names different models with {SIGN} between them, as "
            'tiny+unet'
        )
    return names


class AverageModel(FullDepthModel):
    """
    The average of models, in the space of the first.

    A later member that fails is left out of that image; the log says so where the one before had
    it. An error of the first is raised: in another's units a fit of earlier frames would give
    wrong metres. Wrong images and settings raise at once.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = list(members)  # at least two FullDepthModels
        self.stream = AverageStream([member.stream for member in members])
        self.space, self.device = members[0].space, members[0].device
        self.runtime = members[0].runtime
        self._left_out: set[int] = set()  # of the last image

    @property
    def description(self) -> dict[str, Any]:
        """Facts of the first member, and those of all under ``members``."""
        facts = [dict(member.description) for member in self.members]
        digest = hashlib.sha256(''.join(str(one['sha256']) for one in facts).encode())
        return {
            'name': SIGN.join(str(one['name']) for one in facts),
            'path': facts[0]['path'],
            'sha256': digest.hexdigest(),
            'family': 'average',
            'kind': f'average of {len(facts)} models',
            'space': self.space,
            'parameters': sum(one['parameters'] for one in facts),
            'device': str(self.device),
            'dtype': facts[0]['dtype'],
            'runtime': facts[0]['runtime'],
            'notes': [f'{one["name"]}: {note}' for one in facts for note in one['notes']],
            'members': facts,
        }

    @property
    def answered_by(self) -> str:
        """The runtime of the first member's last answer."""
        return self.members[0].answered_by

    @property
    def takes_any_batch(self) -> bool:
        return all(member.takes_any_batch for member in self.members)

    def new_stream(self) -> AverageStream:
        """Return the state of another camera: one of each member."""
        return AverageStream([member.new_stream() for member in self.members])

    def reset(self) -> None:
        """Forget what earlier frames have left in the members."""
        for member in self.members:
            member.reset()

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size at which the first member sees an image."""
        return self.members[0].processing_size(height, width, processing_resolution)

    def check_options(self, options: PredictOptions) -> None:
        """Ask every member; see the base."""
        for member in self.members:
            member.check_options(options)

    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[AverageStream],
        options: PredictOptions = DEFAULTS,
    ) -> list[Prediction]:
        """Predict the averaged maps of images of one size; options go to every member."""
        answers = []
        for index, member in enumerate(self.members):
            try:
                own = [stream.members[index] for stream in streams]
                answers.append(member.predict_together(rgbs, own, options))
                self._left_out.discard(index)
            except Exception as error:  # whatever a network's library raises
                if index == 0 or _is_of_all(error):
                    raise
                if index not in self._left_out:  # not at each image of a live camera
                    name = member.description['name']
                    log.warning('%s is left out of the average: %s', name, error)
                self._left_out.add(index)
        return [merge(group) for group in zip(*answers, strict=True)]


def _is_of_all(error: Exception) -> bool:
    """Return whether an error is of the caller's making; short memory is of one member."""
    short = isinstance(error, InputError) and error.cause == 'size'
    return isinstance(error, (ConfigurationError, InputError)) and not short


class AverageStream:
    """The state of a camera in each member."""

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = list(members)

    def reset(self) -> None:
        """Forget the last frame."""
        for member in self.members:
            member.reset()
