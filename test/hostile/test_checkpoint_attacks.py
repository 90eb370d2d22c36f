# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Checkpoints that mean harm end in one sentence: nothing is run, fetched or read elsewhere."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
import json
from pathlib import Path
import shutil
import socket

from checkpoint_attacks import ATTACKS, edit, HARMLESS, mutate, SOUND, tensors
from marigold_ros.__main__ import main
from marigold_ros.errors import CheckpointError, MarigoldError
from marigold_ros.models import EMBEDDED, load_model
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_ros.models.locate import offline
from marigold_ros.models.runtime.usage import PeakMemory
from marigold_ros.models.weights import build_within
import numpy as np
import pytest
from safetensors.torch import save_file
import torch

CPU = torch.device('cpu')
MOST_MEMORY = 2e9  # bytes, beyond what is used already
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope='session')
def sound(tmp_path_factory):
    """Give a function that writes a sound checkpoint of a family, once."""
    root, written = tmp_path_factory.mktemp('sound'), set()

    def write(kind: str) -> Path:
        if kind not in written:
            (root / kind).mkdir()
            SOUND[kind](root / kind)
            written.add(kind)
        return root / kind

    return write


@pytest.fixture
def asked(monkeypatch):
    """Let no socket connect; return what was tried."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError('the network is not there')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    return tried


# Those that another family has too are slow.
_FIRST = {name: kind for kind, name, _ in reversed(ATTACKS)}
_CASES = [
    pytest.param(
        kind,
        name,
        attack,
        marks=[] if _FIRST[name] == kind else pytest.mark.slow,
        id=f'{kind} {name}',
    )
    for kind, name, attack in ATTACKS
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(('kind', 'name', 'attack'), _CASES)
def test_a_harmful_checkpoint_is_one_sentence(sound, asked, tmp_path, kind, name, attack):
    folder = Path(shutil.copytree(sound(kind), tmp_path / 'folder'))
    attack(folder)
    there = set(tmp_path.rglob('*'))
    memory = PeakMemory(CPU)  # since here, whatever this process once held
    before = memory.read()
    if name in HARMLESS:
        assert np.isfinite(load_model(str(folder), device='cpu').predict(IMAGE).relative).all()
    else:
        with pytest.raises(CheckpointError) as error:
            load_model(str(folder), device='cpu')
        assert len(str(error.value).splitlines()) == 1
    assert not memory.whole_process
    assert memory.read() - before < MOST_MEMORY
    assert asked == []
    assert set(tmp_path.rglob('*')) == there  # nothing was written, no pickle was opened


@pytest.mark.parametrize('kind', SOUND)
def test_no_family_needs_the_network(sound, asked, kind):
    assert load_model(str(sound(kind)), device='cpu').predict(IMAGE).relative.shape == (48, 64)
    assert asked == []


@pytest.mark.parametrize('before', [False, True])
def test_what_is_loaded_offline_asks_no_hub(asked, monkeypatch, before):
    from huggingface_hub import constants, HfApi, is_offline_mode
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', before)
    with pytest.raises(OfflineModeIsEnabled), offline():
        HfApi().model_info('someone/model')
    assert is_offline_mode() == before
    assert asked == []


def test_weights_that_no_pass_reads_may_be_missing(sound, tmp_path):
    folder = shutil.copytree(sound('dpt'), tmp_path / 'published')

    def leave_out(weights):
        for name in [one for one in weights if '.layers.0.residual_layer1.' in one]:
            del weights[name]

    tensors('model.safetensors', leave_out)(folder)
    expected = load_model(str(sound('dpt')), device='cpu').predict(IMAGE)
    found = load_model(str(folder), device='cpu').predict(IMAGE)
    np.testing.assert_array_equal(found.relative, expected.relative)


def test_keys_that_are_not_of_the_architecture_are_not_read(sound, tmp_path):
    folder = Path(shutil.copytree(sound('depth_anything'), tmp_path / 'talkative'))
    for key in ('architectures', 'custom', 'name_or_path', 'fusion_config'):
        edit(folder, 'config.json', key, value=['../x', {'y': 10**9}])
    load_model(str(folder), device='cpu')


@pytest.mark.parametrize(
    'changes', [{'blocks': [10**5, 1, 2, 3]}, {'channels': [32, 64, 112, 40_000]}]
)
def test_a_fusion_network_that_its_weights_do_not_hold_is_refused(tmp_path, changes):
    folder = Path(shutil.copytree(EMBEDDED / 'fusion', tmp_path / 'fusion'))
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match='must belong together'):
        load_fusion_network(folder)


def test_parts_that_another_thread_builds_are_not_counted(tmp_path):
    """As of the model that a node loads beside the one in use."""
    save_file({'weight': torch.ones(1, 1)}, tmp_path / 'model.safetensors')

    def build():
        with ThreadPoolExecutor(1) as other:
            other.submit(lambda: [torch.nn.Linear(1, 1) for _ in range(300)]).result()
        return torch.nn.Linear(1, 1)

    assert build_within([tmp_path / 'model.safetensors'], build).weight.is_meta


def test_check_reports_a_binary_list_of_sums_of_any_family(sound, tmp_path, capsys):
    folder = Path(shutil.copytree(sound('unet'), tmp_path / 'unet'))
    (folder / 'SHA256SUMS').write_bytes(bytes(range(128, 256)))
    assert main(['models', 'check', str(folder)]) == 1
    assert 'SHA256SUMS cannot be read' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['unet', 'depth_anything', 'glpn'])
def test_changed_checkpoints_load_or_are_refused(sound, asked, tmp_path, kind):
    for seed in range(5):
        folder = Path(shutil.copytree(sound(kind), tmp_path / str(seed)))
        mutate(folder, np.random.default_rng(seed))
        with suppress(MarigoldError):
            load_model(str(folder), device='cpu').predict(IMAGE)
        shutil.rmtree(folder)
    assert asked == []
