# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""An exported fusion network opens as it was; other and damaged folders are refused."""

from __future__ import annotations

import json
from pathlib import Path

from marigold_ros.errors import CheckpointError
from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.models.locate import verify_sums
from marigold_training.fusion.export import export_fusion
from marigold_training.fusion.model_card import learning_curve
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = FusionNetwork((8, 16), (1, 2), (8, 4))
    # A new head is zero, and would hide what comes before it.
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


@pytest.fixture
def folder(network, tmp_path):
    export_fusion(tmp_path / 'fusion', network.half().float(), '# fusion\n')
    return tmp_path / 'fusion'


def outputs(network: FusionNetwork) -> np.ndarray:
    x = torch.randn(1, len(CHANNELS), 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(x).numpy()


def test_an_exported_network_answers_as_before(network, folder):
    loaded = load_fusion_network(folder)
    np.testing.assert_array_equal(outputs(loaded), outputs(network))
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert list(verify_sums(folder)) == ['model.safetensors']


def change(folder: Path, **keys: object) -> None:
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**config, **keys}))


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        ({'kind': 'other'}, "kind 'other', needs 'fusion'"),
        ({'version': 1}, 'version 1, needs 2'),
        ({'inputs': ['red']}, 'other inputs than this version computes'),
        ({'candidates': list(CANDIDATES[::-1])}, 'other candidates than'),
        ({'channels': [8, 0]}, r'channels \[8, 0\]'),
        ({'blocks': [1]}, r'blocks \[1\]'),
        ({'inner': [8]}, r'inner \[8\]'),
        ({'channels': [8, 24]}, 'does not belong to config.json'),
    ],
)
def test_a_folder_of_another_network_is_refused(folder, keys, words):
    change(folder, **keys)
    with pytest.raises(CheckpointError, match=words):
        load_fusion_network(folder)


def test_missing_and_damaged_weights_are_refused(folder):
    path = folder / 'model.safetensors'
    weights = load_file(path)
    weights['head.bias'][0] = float('nan')
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r'head\.bias is not finite'):
        load_fusion_network(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match='cannot be loaded'):
        load_fusion_network(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r'no model\.safetensors'):
        load_fusion_network(folder)


def test_the_learning_curve_is_that_of_the_log(tmp_path):
    log = tmp_path / 'log.jsonl'
    assert learning_curve(log) == ''
    lines = [{'step': 20, 'loss': 1.0}]
    lines += [{'step': 100 * i, 'quality': 1 / i} for i in range(1, 31)]
    log.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    rows = [row.split('|')[1:3] for row in learning_curve(log).splitlines() if '| 0' in row]
    assert len(rows) <= 10
    for step, quality in rows[1:]:
        assert float(quality) == pytest.approx(100 / int(step), abs=1e-4)
    assert int(rows[-1][0]) == 3000
