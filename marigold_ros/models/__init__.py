# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth models behind one door: ``load_model`` gives an object with ``predict``.

Torch waits passively for its threads: on few cores its spinning threads slow down every other
process (97 ms became 6.6 ms beside a running training). The variable has to be set before torch is
imported; a user's own value wins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if TYPE_CHECKING:
    from marigold_ros.config import RuntimeConfig
    from marigold_ros.models.marigold.engine import MarigoldModel

EMBEDDED = Path(__file__).resolve().parent.parent / 'checkpoints'


def list_checkpoints() -> list[str]:
    """Return the names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob('*/model_index.json'))


def load_model(
    name: str = 'tiny',
    device: str = 'auto',
    dtype: str = 'auto',
    vae: str | None = None,
    runtime: RuntimeConfig | None = None,
) -> MarigoldModel:
    """
    Load a checkpoint.

    Parameters
    ----------
    name : str
        An embedded checkpoint's name, a folder in diffusers layout, or a hub id ``owner/model``
        or ``owner/model@revision``.
    device : str
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, …
    dtype : {'auto', 'float32', 'bfloat16', 'float16'}
        Arithmetic; auto is float16 on a GPU, and on a CPU float32, or bfloat16 for large networks
        where the CPU has it.
    vae : str or None
        Folder or hub id of another autoencoder, such as ``madebyollin/taesd``, in place of the
        checkpoint's own.
    runtime : RuntimeConfig or None
        What makes the networks fast: memory layout, folding, compilation, warm-up.

    Returns
    -------
    MarigoldModel
        Ready to predict; ``description['notes']`` says what its user should know.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, or it is incomplete, damaged or pickled.
    ConfigurationError
        If the device does not exist here, the dtype is unknown, or code cannot be compiled.

    """
    from marigold_ros.models.marigold.checkpoint import load_networks
    from marigold_ros.models.marigold.engine import MarigoldModel
    from marigold_ros.models.locate import find_autoencoder, find_folder
    from marigold_ros.models.runtime.devices import choose_device, choose_dtype

    chosen = choose_device(device)
    networks = load_networks(find_folder(name), None if vae is None else find_autoencoder(vae))
    arithmetic = choose_dtype(dtype, chosen, networks.parameters)
    model = MarigoldModel(networks, chosen, arithmetic, runtime)
    model.warm_up()
    return model


def use_threads(count: int = 0) -> int:
    """
    Set how many threads the model runs on; 0 is all cores but one.

    Node and commands share this rule: the number of threads decides the last bits of the sums, so
    that only with the same number is a replay identical to what was published.

    Returns
    -------
    int
        The number that was set.

    """
    import torch

    threads = count or max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(threads)
    return threads
