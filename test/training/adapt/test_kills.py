# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""An adaptation that is killed while it writes, at every stage, ends with the same bytes."""

from __future__ import annotations

from multiprocessing import get_context
import os
from pathlib import Path
import runpy
import signal
import sys

import pytest

FACTS = {'space': 'log', 'noise': 'zeros', 'default_processing_pixels': 32 * 48}
INIT = {
    'kind': 'small',
    'autoencoder': {'channels': [8, 8, 16, 16], 'latent_channels': 4},
    'unet': {'channels': [16, 32]},
}
# Each process is killed before it completes this write: with the bag read, amid training the map,
# and with both networks trained and none exported; the last process ends by itself.
KILLED_AT = (2, 5, 15)


def adapt(folder: Path, name: str, killed_at: int) -> None:
    """Adapt the smallest networks; the process kills itself at a write."""
    from accelerate import Accelerator
    from marigold_training.adapt import adaptation, keep, recipes
    from marigold_training.adapt.adaptation import Adaptation, AdaptOptions
    from marigold_training.fusion import validation
    import torch

    torch.set_num_threads(1)
    few = {'SCENES': 2, 'LINE_EXAMPLES': 4, 'SCENE_EXAMPLES': 1, 'STOP_SCENES': 1}
    for constant, count in {**few, 'ROWS': 2, 'VALIDATIONS': 1}.items():
        setattr(recipes, constant, count)
    adaptation.load_fusion = lambda folder: None
    adaptation.judge_model = adaptation.judge_fusion = lambda *args: (True, [])
    validation.SIZE = (64, 96)
    keep.SCENES, keep.SHARES = 1, (0.0, 0.5)
    writes, replace = iter(range(1, 10**6)), os.replace

    def replace_or_die(source: str | Path, target: str | Path) -> None:
        if next(writes) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = replace_or_die
    options = AdaptOptions(
        (str(folder / 'drive'),),
        str(folder / 'base'),
        folder / name,
        {},
        steps=recipes.Budget(3, 2, 3),
    )
    Adaptation(options, Accelerator(cpu=True, mixed_precision='bf16')).run(lambda: False)


@pytest.mark.slow  # a process for each kill
def test_an_adaptation_killed_at_several_writes_ends_bitwise_the_same(tmp_path, monkeypatch):
    from marigold_ros.synthetic.drive.drive import write_drive
    from marigold_training.networks.export import write_checkpoint
    from marigold_training.networks.initialise import initialise

    write_drive(tmp_path / 'drive', frames=10, seed=3, width=96, height=64, rate=2.0)
    chain = initialise(INIT, 5, 'log')
    parts = chain.autoencoder, chain.unet
    write_checkpoint(tmp_path / 'base', *parts, FACTS, scheduler=chain.scheduler)
    context = get_context('forkserver')  # a process without threads, with everything imported
    context.set_forkserver_preload(['marigold_training.adapt.adaptation', 'accelerate'])

    def exit_of(name: str, killed_at: int = 0) -> int | None:
        # A process that is started takes these over.
        monkeypatch.setattr(sys, 'argv', [__file__, str(tmp_path), name, str(killed_at)])
        process = context.Process(target=runpy.run_path, args=(__file__, None, '__main__'))
        process.start()
        process.join(300)
        return process.exitcode

    assert exit_of('whole') == 0
    for killed_at in KILLED_AT:
        assert exit_of('killed', killed_at) == -signal.SIGKILL
        assert not (tmp_path / 'killed').exists()
    assert exit_of('killed') == 0
    names = [path.relative_to(tmp_path / 'whole') for path in (tmp_path / 'whole').rglob('*')]
    files = [name for name in names if name.suffix == '.safetensors']
    assert len(files) == 4
    for name in [*files, Path('training_features.json')]:
        whole, killed = ((tmp_path / run / name).read_bytes() for run in ('whole', 'killed'))
        assert whole == killed, name


if __name__ == '__main__':
    adapt(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
