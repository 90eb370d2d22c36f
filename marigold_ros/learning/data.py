# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Synthetic training pictures: rendered once into a cache, changed anew at each visit.

Each shape of picture is a bucket of its own, and a batch comes from one bucket. The cache is two
memory-mapped arrays and a list of what is done; part by part, so that an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from marigold_ros.errors import InputError
from marigold_ros.synthetic.scene import make_sample
import numpy as np
import torch
from tqdm import tqdm

QUANTILES = (0.02, 0.98)


@dataclass(frozen=True)
class Bucket:
    """Pictures of one size."""

    height: int
    width: int
    count: int
    kind: str | None = None


class PictureCache:
    """
    Rendered pictures on disk.

    Parameters
    ----------
    folder : Path
        Made when missing.
    bucket : Bucket
        Size and number of the pictures.
    first_seed : int
        Picture i is drawn from seed ``first_seed + i``: a range per split keeps splits apart.

    """

    def __init__(self, folder: Path, bucket: Bucket, first_seed: int) -> None:
        self.bucket = bucket
        self.first_seed = first_seed
        folder.mkdir(parents=True, exist_ok=True)
        stem = f'{bucket.kind or "mixed"}_{bucket.height}x{bucket.width}_{first_seed}'
        shape = (bucket.count, bucket.height, bucket.width)
        self.rgb = _open(folder / f'{stem}_rgb.npy', (*shape, 3), np.uint8)
        self.depth = _open(folder / f'{stem}_depth.npy', shape, np.float32)
        self.done = _open(folder / f'{stem}_done.npy', (bucket.count,), np.bool_)

    def fill(self, workers: int = 1, limit: int | None = None) -> None:
        """Render what is missing, with a progress bar."""
        missing = np.flatnonzero(~np.asarray(self.done))[:limit]
        if not len(missing):
            return
        size = (self.bucket.width, self.bucket.height, self.bucket.kind)
        jobs = [(self.first_seed + int(i), *size) for i in missing]
        with get_context('spawn').Pool(workers) as pool:
            results = pool.imap(_render, jobs, chunksize=8)
            for i, (rgb, depth) in zip(
                missing, tqdm(results, total=len(jobs), desc='render'), strict=True
            ):
                self.rgb[i], self.depth[i], self.done[i] = rgb, depth, True

    def ready(self) -> np.ndarray:
        """Return the indices of the pictures that are rendered."""
        return np.flatnonzero(np.asarray(self.done))


def _open(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if path.exists():
        array = np.load(path, mmap_mode='r+')
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f'{path.name} holds {array.shape} {array.dtype}, the recipe asks for {shape}; '
                'delete the cache folder or name another one',
                cause='shape',
            )
        return array
    return np.lib.format.open_memmap(path, mode='w+', dtype=dtype, shape=shape)


def _render(job: tuple[int, int, int, str | None]) -> tuple[np.ndarray, np.ndarray]:
    seed, width, height, kind = job
    sample = make_sample(seed, width=width, height=height, kind=kind)
    return sample.rgb, sample.depth


def normalise_log_depth(depth: np.ndarray) -> np.ndarray:
    """
    Map depth to [0, 1] by the 2nd and 98th percentile of its logarithm; sky is 1.

    Parameters
    ----------
    depth : (H, W) float, metres
        Exact depth; inf is sky.

    Returns
    -------
    (H, W) float32
        The target that Marigold's normaliser would give in log space.

    """
    near = np.isfinite(depth)
    if not near.any():
        return np.ones(depth.shape, np.float32)
    log = np.log(np.maximum(depth, 1e-3, where=near, out=np.ones_like(depth)))
    low, high = np.quantile(log[near], QUANTILES)
    relative = np.clip((log - low) / max(high - low, 1e-3), 0.0, 1.0)
    return np.where(near, relative, 1.0).astype(np.float32)


def batches(
    caches: list[PictureCache], batch_size: int, scale: float, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """
    Yield endless training batches.

    Parameters
    ----------
    caches : list of PictureCache
        One is chosen per batch, in proportion to its pictures.
    batch_size : int
        Pictures per batch.
    scale : float in (0, 1]
        Of each side, towards multiples of 8 (pictures by area average, depth by sampling).
    rng : numpy Generator
        Source of every choice.

    Yields
    ------
    rgb : (B, 3, h, w) float32 in [-1, 1]
    relative : (B, 1, h, w) float32 in [0, 1]
    sky : (B, 1, h, w) bool

    """
    indices = [cache.ready() for cache in caches]
    weights = np.array([len(i) for i in indices], float)
    while True:
        which = rng.choice(len(caches), p=weights / weights.sum())
        cache, rows = caches[which], rng.choice(indices[which], batch_size, replace=False)
        size = [max(8, 8 * round(side * scale / 8)) for side in cache.depth.shape[1:]]
        depth = [_sampled(np.asarray(cache.depth[i]), size) for i in rows]
        relative = np.stack([normalise_log_depth(d) for d in depth])
        picture = torch.from_numpy(np.stack([np.asarray(cache.rgb[i]) for i in rows]))
        picture = picture.permute(0, 3, 1, 2).float() / 255.0
        picture = torch.nn.functional.interpolate(picture, size, mode='area')
        picture = change_colours(picture, rng) * 2.0 - 1.0
        target = torch.from_numpy(relative)[:, None]
        sky = torch.from_numpy(~np.isfinite(np.stack(depth)))[:, None]
        if rng.random() < 0.5:
            picture, target, sky = picture.flip(-1), target.flip(-1), sky.flip(-1)
        yield picture.contiguous(), target.contiguous(), sky.contiguous()


def _sampled(depth: np.ndarray, size: list[int]) -> np.ndarray:
    """Depth at the centres of a coarser grid: averaging would invent depths at edges."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(size, depth.shape, strict=True)
    )
    return depth[np.ix_(rows, columns)]


def change_colours(picture: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Draw exposure, white balance, contrast, gamma, saturation, blur and noise per picture."""
    count = len(picture)

    def draw(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

    grey = picture.mean(1, keepdim=True)
    picture = grey + (picture - grey) * draw(0.2, 1.4)
    picture = picture * draw(0.85, 1.15, 3) * draw(0.6, 1.4)
    middle = picture.mean((1, 2, 3), keepdim=True)
    picture = (middle + (picture - middle) * draw(0.6, 1.4)).clamp(0.0, 1.0)
    picture = picture.clamp(min=1e-4) ** torch.exp(draw(-0.5, 0.5))
    if rng.random() < 0.3:
        picture = torch.nn.functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    noise = torch.from_numpy(rng.standard_normal(picture.shape, dtype=np.float32))
    return (picture + noise * draw(0.0, 0.03)).clamp(0.0, 1.0)
