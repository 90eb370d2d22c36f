# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""An exported network answers as its model does, or nothing is written."""

import os
import signal

from diffusers import LCMScheduler
from marigold_ros.__main__ import main
from marigold_ros.errors import ConfigurationError, MarigoldError, WriteError
from marigold_ros.models import load_model, onnx_export
from marigold_ros.models.metric_scale import MetricModel, MetricScale
from marigold_ros.models.onnx_export import export_model
import numpy as np
import pytest

onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra onnx')
onnx = pytest.importorskip('onnx', reason='needs the extra onnx')


QUICK = ('small_checkpoint', 'unet_folder', 'relative_folder')
OTHERS = (
    *('prime_depth_folder', 'diffusion_depth_folder', 'metric_folder', 'depth_pro', 'glpn'),
    *('prompt_depth_anything', 'zoedepth'),
)


@pytest.mark.parametrize(
    'folder', [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_the_network_answers_as_the_model(request, kin_folders, folder, image, tmp_path):
    of_kin = kin_folders / folder
    name = of_kin if of_kin.exists() else request.getfixturevalue(folder)
    model = load_model(str(name), 'cpu', 'float32')
    path = tmp_path / 'out' / 'model.onnx'
    path.parent.mkdir()
    done = export_model(model, path, 60, 90)
    assert [file.name for file in path.parent.iterdir()] == ['model.onnx']
    height, width = done['size']
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    rgb = image(height, width, seed=4)
    seen = np.moveaxis(rgb[None] / np.float32(255), -1, 1)
    (got,) = session.run(['relative'], {'image': seen})
    wanted = model.predict(rgb, ensemble_size=1).relative
    assert got.shape == (1, 1, height, width)
    np.testing.assert_allclose(got[0, 0], wanted, atol=1e-4 * max(1.0, np.ptp(wanted)))
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts == {key: model.description[key] for key in ('name', 'space', 'sha256')}


def test_a_network_that_onnx_cannot_hold_is_refused(kin_folders, tmp_path):
    model = load_model(str(kin_folders / 'tipsv2_dpt'), 'cpu', 'float32')
    with pytest.raises(ConfigurationError, match='cannot be written as ONNX'):
        export_model(model, tmp_path / 'model.onnx', 60, 90)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('change', [-0.01, np.nan])
def test_a_network_off_at_one_pixel_is_not_written(unet_folder, tmp_path, monkeypatch, change):
    model = load_model(str(unet_folder), 'cpu', 'float32')
    session, off = onnx_export.onnx_session, np.zeros(model.as_network(64, 96).size, np.float32)
    off[40, 60] = change
    monkeypatch.setattr(
        onnx_export, 'onnx_session', lambda path: lambda given: session(path)(given) + off
    )
    with pytest.raises(MarigoldError, match=r"differs from PyTorch's by (0\.\d+|nan)"):
        export_model(model, tmp_path / 'model.onnx', 64, 96)
    assert list(tmp_path.iterdir()) == []


def test_what_no_network_holds_is_refused(small_checkpoint, unet_folder, tmp_path):
    path = tmp_path / 'model.onnx'
    average = load_model(f'{small_checkpoint}+{unet_folder}', 'cpu', 'float32')
    with pytest.raises(ConfigurationError, match='is no single network'):
        export_model(average, path, 64, 96)
    model = load_model(str(small_checkpoint), 'cpu', 'float32')
    scale = MetricScale(model.space, 1.0, 0.0, 0.8, 80.0, 0.1)
    with pytest.raises(ConfigurationError, match='has a metric scale'):
        export_model(MetricModel(model, scale), path, 64, 96)
    model.scheduler = LCMScheduler.from_config(model.scheduler.config)
    with pytest.raises(ConfigurationError, match='draws new noise at each step'):
        export_model(model, path, 64, 96)


def test_the_command_writes_a_file(unet_folder, tmp_path, capsys):
    path = tmp_path / 'model.onnx'
    assert main(['export', str(unet_folder), '--onnx', str(path), '--size', '96x128']) == 0
    assert path.is_file()
    assert 'space log' in capsys.readouterr().out
    os.mkfifo(pipe := tmp_path / 'pipe')  # as a device
    assert main(['export', str(unet_folder), '--onnx', str(pipe)]) == 1
    assert f"--onnx '{pipe}' is no file; give a file" in capsys.readouterr().err
    assert pipe.is_fifo()
    with pytest.raises(SystemExit):
        main(['export', str(unet_folder), '--onnx', str(path), '--size', '480x-1'])
    assert "'480x-1' is not of the form HxW" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(unet_folder, tmp_path):
    path = tmp_path / 'model.onnx'
    path.mkdir()
    model = load_model(str(unet_folder), 'cpu', 'float32')
    with pytest.raises(WriteError, match=r'model.onnx could not be written \(Is a directory\)'):
        export_model(model, path, 96, 128)
    assert list(tmp_path.iterdir()) == [path]


def test_sigterm_leaves_no_draft(unet_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, 'onnx_session', lambda _: signal.raise_signal(signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        path = str(tmp_path / 'model.onnx')
        assert main(['export', str(unet_folder), '--onnx', path, '--size', '96x128']) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.iterdir()) == []
