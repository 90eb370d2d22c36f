# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Scores a run while it trains, on images that stay the same, through the engine that users run.

The engine gets copies of the weights: it changes their layout and their arithmetic. Nothing is
drawn from a global generator, so that a run ends the same with and without validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import chain as joined
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.data.sources.folder import FolderPairs
from marigold_ros.learning.networks.small_networks import usual_size
from marigold_ros.learning.objectives.objectives import Chain
from marigold_ros.learning.parallel import never, Stop
from marigold_ros.learning.run.score import (
    contact_sheet,
    FEWEST,
    known,
    Labelled,
    read,
    rendered,
    score,
)
from marigold_ros.models.marigold.checkpoint import Facts, Networks
from marigold_ros.models.marigold.engine import MarigoldModel
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.settings import nearest_name
from marigold_ros.synthetic.scenes.scene import make_sample
from second_generator.generator import make_second_sample
import torch

KEYS = ('scenes', 'second', 'pairs')
SHOWN = 8  # images
METHODS = ('model', 'quadric')  # the best quadric stays the same: the mark to be below
Weights = Mapping[str, torch.Tensor]
Table = dict[str, dict[str, float]]


class Validation:
    """
    What a run is scored on.

    Parameters
    ----------
    entry : mapping
        A recipe's ``validation``: ``scenes`` held-out scenes, ``second`` scenes of the second
        generator, ``pairs`` a folder of folders with ``image.*`` and ``depth_mm.png``.
    facts : mapping
        A recipe's ``facts``: how the checkpoint will run.
    data : Path
        Where a relative ``pairs`` starts.

    Raises
    ------
    ConfigurationError
        If a key is unknown or a number is none.
    InputError
        If the folder has no pairs.

    """

    def __init__(self, entry: Mapping[str, Any], facts: Mapping[str, Any], data: Path) -> None:
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f'validation is {entry!r}; give keys of {", ".join(KEYS)}')
        for key in entry:
            if key not in KEYS:
                raise ConfigurationError(f"validation has '{key}'; {nearest_name(key, [*KEYS])}")
        self._counts = {key: entry.get(key, 0) for key in ('scenes', 'second')}
        for key, count in self._counts.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise ConfigurationError(
                    f'validation.{key} is {count!r}; give how many, 0 is none'
                )
        self._pairs = None
        if entry.get('pairs'):
            self._pairs = FolderPairs(
                data, str(entry['pairs']), images='*/image.*', depths='*/depth_mm.png'
            )
        self.facts = facts_of(facts)

    def __bool__(self) -> bool:
        """Return whether there is anything to score on."""
        return self._pairs is not None or any(self._counts.values())

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Look through the folder of pairs; raises InputError naming every broken file."""
        if self._pairs is not None:
            self._pairs.prepare(workers, stop)

    @cached_property
    def sets(self) -> dict[str, list[Labelled]]:
        """The images by the key that asked for them; rendered once."""
        sets = {
            'scenes': list(rendered(make_sample, self._counts['scenes'])),
            'second': list(rendered(make_second_sample, self._counts['second'])),
            'pairs': [] if self._pairs is None else list(read(self._pairs)),
        }
        return {name: pairs for name, pairs in sets.items() if pairs}

    @property
    def shown(self) -> list[Labelled]:
        """The images that are drawn: eight, taken from the sets in turns."""
        turns = joined.from_iterable(zip_longest(*self.sets.values()))
        worth = (item for item in turns if item and known(item[1])[1].sum() >= FEWEST)
        return list(islice(worth, SHOWN))

    def run(
        self, chain: Chain, weights: Weights, device: torch.device, image: Path
    ) -> dict[str, Table]:
        """
        Score weights and draw what they predict.

        Parameters
        ----------
        chain : Chain
            Whose architecture; it is left as it is.
        weights : mapping
            In place of the chain's own, as its ``state_dict``.
        device : torch.device
            Where the model runs.
        image : Path
            PNG to write.

        Returns
        -------
        dict
            Key of the recipe to method (model, quadric) to ``abs_rel``, ``delta1``, ``pictures``.

        """
        with torch.random.fork_rng(devices=[]):
            model = engine_model(chain, weights, self.facts, device)
            figures = {}
            for name, pairs in self.sets.items():
                table = score(model, pairs, len(pairs))
                figures[name] = {key: table[key] for key in METHODS if key in table}
            image.parent.mkdir(parents=True, exist_ok=True)
            contact_sheet(model, self.shown, str(image))
        return figures


def engine_model(
    chain: Chain, weights: Weights, facts: Facts, device: torch.device
) -> MarigoldModel:
    """
    Make the model that users run from a chain's architecture and copies of weights.

    Parameters
    ----------
    chain : Chain
        With the schedule, the empty prompt and the latents' scale, which is in the autoencoder's
        configuration.
    weights : mapping
        As the chain's ``state_dict``.
    facts : Facts
        What the checkpoint will say of itself.
    device : torch.device

    Returns
    -------
    MarigoldModel
        Which shares no memory with ``weights``.

    """
    count = sum(p.numel() for p in chain.parameters())
    dtype = choose_dtype('auto', device, count)
    networks = {}
    for name in ('autoencoder', 'unet'):
        own = getattr(chain, name)
        with torch.device('meta'):  # weights come from outside; none are drawn
            copy = type(own).from_config(own.config)
        prefix = f'{name}.'
        values = {
            key.removeprefix(prefix): value.detach().to(device, dtype, copy=True)
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        copy.load_state_dict(values, assign=True)
        networks[name] = copy.requires_grad_(False).eval()
    parts = Networks(
        facts,
        networks['autoencoder'],
        networks['unet'],
        chain.scheduler,
        chain.text.detach().clone(),
    )
    return MarigoldModel(parts, device, dtype)


def facts_of(entry: Mapping[str, Any], name: str = 'validation') -> Facts:
    """Give the facts that a checkpoint exported with these will be read with."""
    return Facts(
        name=name,
        folder=Path(name),
        space=entry['space'],
        noise=entry.get('noise', 'gaussian'),
        denoising_steps=entry.get('default_denoising_steps', 1),
        ensemble_size=entry.get('default_ensemble_size', 1),
        processing_resolution=entry.get('default_processing_resolution', max(usual_size(entry))),
        processing_pixels=entry.get('default_processing_pixels', 0),
    )
