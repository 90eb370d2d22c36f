# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Latents of all images on disk, for stages that train the U-Net only.

The frozen autoencoder is half of the compute there, so every image is encoded once, plain and
mirrored; batches contain the same images, mirrored alike, as without the cache.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
import hashlib
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.processes import never, Stop
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import (
    Batch,
    collate,
    ignore_signals,
    in_multiples,
    LatentBatch,
    make_batch,
    make_example,
    Mixture,
    Part,
)
from marigold_training.data.record_blocks import RecordBlocks
from marigold_training.objectives.trained_networks import latents_of, TrainedNetworks
from marigold_training.run.sharding import whole
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

LAYOUT = 2  # version of the files; another number invalidates all caches
ALLOWED = ('flip', 'smallest_crop')  # of the augmentation; the latter needs a crop to matter
PLAIN, MIRRORED = Augmentation(flip=0.0), Augmentation(flip=1.0)


def check_augmentation(how: Augmentation) -> None:
    """Raise ConfigurationError if images are augmented by more than mirroring."""
    for item in fields(how):
        value = getattr(how, item.name)
        if item.name not in ALLOWED and value:
            raise ConfigurationError(
                f'augment.{item.name} is {value} and a stage has latent_cache: its images are '
                f'encoded once, so they can only be mirrored; set {item.name} to 0, or '
                'latent_cache to false'
            )


class LatentBlocks(RecordBlocks):
    """
    Latents of all images of one source at one size.

    Parameters
    ----------
    part : Part
        Source and size.
    folder : Path
        Of all caches.
    facts : list
        What determines the latents besides the part.
    views : int
        1 stores the images as they are, 2 their mirror images as well.
    channels, factor : int
        Of a latent, and pixels along a side of its cell.

    """

    def __init__(
        self, part: Part, folder: Path, facts: list[Any], views: int, channels: int, factor: int
    ) -> None:
        self.views = views
        height, width = in_multiples(part.size)
        about = {'source': part.source.name, 'pictures': len(part.source), 'size': [height, width]}
        shape = height // factor, width // factor
        record = np.dtype(
            [
                ('rgb', np.float16, (views, channels, *shape)),
                ('depth', np.float16, (views, channels, *shape)),
                ('mask', np.bool_, (views, *shape)),
            ]
        )
        facts = [facts, about, part.source.fingerprint()]
        remedy = 'set latent_cache to false'
        super().__init__(folder, facts, about, record, len(part.source), remedy)

    def read(self, index: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return an image's latents (C, h, w) float16 and mask (1, h, w) bool.

        Raises InputError if the file is damaged or missing.
        """
        record = self.record_at(index)
        rgb, depth, mask = (record[name][int(mirrored)] for name in ('rgb', 'depth', 'mask'))
        return rgb, depth, mask[None]


class LatentMixture(Dataset):
    """
    The batches of a mixture as latents from disk.

    Parameters
    ----------
    mixture : Mixture
        Chooses the images of each batch.
    chain : TrainedNetworks
        Its autoencoder, as it is now, encodes them.
    folder : Path
        Gets one folder for each autoencoder, space, size and source.
    accelerator : Accelerator
        Device, precision and processes that encode.

    Raises
    ------
    ConfigurationError
        If the mixture augments images by more than mirroring.

    """

    def __init__(
        self, mixture: Mixture, chain: TrainedNetworks, folder: Path, accelerator: Accelerator
    ) -> None:
        check_augmentation(mixture.augmentation)
        self.mixture = mixture
        views = 2 if mixture.augmentation.flip else 1
        rule = asdict(mixture.targets)
        facts = [LAYOUT, _digest(chain), mixture.space, views, accelerator.mixed_precision, rule]
        config = chain.autoencoder.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        self.caches = [
            LatentBlocks(part, folder, facts, views, config.latent_channels, factor)
            for part in mixture.parts
        ]

    def __getitem__(self, number: int) -> LatentBatch:
        """Return this process's rows of batch ``number``."""
        which, visits = self.mixture.plan.visits(number)
        flip = self.mixture.augmentation.flip
        rows = []
        for index, rng in visits:
            _, drawn = rng.random(2)  # as for images, where the first decides on a crop
            rows.append(self.caches[which].read(index, mirrored=bool(drawn < flip)))
        rgb_latent, depth_latent, mask = (
            torch.from_numpy(np.stack(values)).float() for values in zip(*rows, strict=True)
        )
        name = self.mixture.parts[which].source.name
        return LatentBatch(rgb_latent, depth_latent, mask, name, self.mixture.plan.rows)

    def fill(
        self,
        chain: TrainedNetworks,
        accelerator: Accelerator,
        workers: int = 0,
        stop: Stop = never,
    ) -> bool:
        """
        Encode this process's share of the missing latents; returns False if it was stopped.

        Parameters
        ----------
        chain, accelerator
            As above.
        workers : int
            Processes that read images ahead; 0 reads in this one.
        stop : function without arguments
            Once it returns true, filling ends; finished blocks stay.

        Raises
        ------
        MarigoldError
            If the disk is too small or becomes full; finished blocks stay valid.
        CheckpointError
            If a latent is not finite in float16.

        """
        together = len(self.mixture.plan.rows)
        return all(
            _Filler(part, self.mixture, cache, chain, accelerator).fill(together, workers, stop)
            for part, cache in zip(self.mixture.parts, self.caches, strict=True)
        )


@dataclass(frozen=True)
class _Filler:
    """Encodes the missing blocks of one source."""

    part: Part
    mixture: Mixture
    blocks: LatentBlocks
    chain: TrainedNetworks
    accelerator: Accelerator

    def fill(self, together: int, workers: int, stop: Stop) -> bool:
        """Encode this process's share, ``together`` images at a time; see LatentMixture."""
        missing = self.blocks.missing()
        if not missing:
            return True
        self.blocks.begin(len(missing))
        # By number: another process may have written a block before this one listed them.
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        jobs = [
            (number, some)
            for number in missing
            if number % world == rank
            for some in _in_parts(self.blocks.members(number), together)
        ]
        loader = DataLoader(
            _Views(self.part, self.mixture, self.blocks.views),
            sampler=[some for _, some in jobs],
            batch_size=1,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=ignore_signals,
        )
        waiting: list[np.ndarray] = []
        with tqdm(
            total=sum(len(some) for _, some in jobs),
            desc=f'encode {self.part.source.name}',
            disable=not self.accelerator.is_main_process,
        ) as bar:
            for (number, some), batch in zip(jobs, loader, strict=True):
                if stop():
                    return False
                waiting.append(self._encode(batch.to(self.accelerator.device), some[0]))
                if some[-1] == self.blocks.members(number)[-1]:
                    self.blocks.write(number, np.concatenate(waiting))
                    waiting = []
                bar.update(len(some))
        return True

    def _encode(self, batch: Batch, first: int) -> np.ndarray:
        """Records (n,) of n images that are followed by their mirror images."""
        with self.accelerator.autocast():
            rgb, depth, mask = latents_of(self.chain, batch)
        views = self.blocks.views
        records = np.empty(len(rgb) // views, self.blocks.record)
        for name, latent in (('rgb', rgb), ('depth', depth)):
            half = latent.half().cpu()  # (views * n, C, h, w)
            if not torch.isfinite(half).all():
                raise CheckpointError(
                    f'latents of {self.part.source.name} from image {first} on are not finite '
                    'in float16; set latent_cache to false, or train the autoencoder again if '
                    'they are not finite there either'
                )
            records[name] = half.unflatten(0, (views, -1)).transpose(0, 1).numpy()
        known = mask[:, 0].unflatten(0, (views, -1)).transpose(0, 1)
        records['mask'] = known.cpu().numpy() > 0
        return records


def _in_parts(images: range, together: int) -> Iterator[range]:
    for start in range(0, len(images), together):
        yield images[start : start + together]


class _Views(Dataset):
    """Images of a part, followed by their mirror images, as a Batch."""

    def __init__(self, part: Part, mixture: Mixture, views: int) -> None:
        self.part, self.views = part, views
        self.space, self.targets = mixture.space, mixture.targets

    def __getitem__(self, indices: range) -> Batch:
        pairs = [self.part.source.read(index) for index in indices]
        rng = np.random.default_rng(0)  # without influence: nothing is random here
        examples = [
            make_example(pair, self.part.size, self.space, how, rng, self.targets)
            for how in (PLAIN, MIRRORED)[: self.views]
            for pair in pairs
        ]
        return make_batch(examples, self.part.source.name)


def _digest(chain: TrainedNetworks) -> str:
    """SHA-256 of the autoencoder's weights and scale."""
    digest = hashlib.sha256(str(chain.autoencoder.config.scaling_factor).encode())
    for name, value in sorted(whole(chain.autoencoder.state_dict()).items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
