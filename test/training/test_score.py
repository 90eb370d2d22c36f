# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scoring a checkpoint: the figures of a card, and another autoencoder in its place."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
import json
from pathlib import Path
import re
import runpy
import sys
from typing import ClassVar

from ablate import main as ablate
import cv2
from diffusers import AutoencoderTiny
from marigold_ros.errors import CheckpointError, ConfigurationError, InputError
from marigold_ros.evaluation.baselines import surface_depth
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.spaces import from_metres, to_metres
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.data.pairs import Pair
from marigold_training.held_out import GENERATORS
from marigold_training.prompted_score import score_prompted
from marigold_training.run.score import beside_quadric, contact_sheet, score, score_held_out
from marigold_training.second_generator.generator import make_second_sample
import numpy as np
import pytest
from score import main
import torch

ONE_EACH = {key: replace(scenes, count=1) for key, scenes in GENERATORS.items()}
ROOT = Path(__file__).resolve().parents[2]


class Knowing:
    """Answers the truth of the scenes that it will be asked about."""

    def __init__(self) -> None:
        samples = make_sample(0), make_second_sample(0)
        self.truth = {sample.rgb.tobytes(): sample.depth for sample in samples}

    def predict(self, rgb) -> Prediction:
        depth = self.truth[rgb.tobytes()]
        return Prediction(np.where(np.isfinite(depth), depth, 0.0).astype(np.float32), None)


def test_points_are_scored_by_the_same_model_without_them():
    sample = make_sample(0, 96, 72)
    scene = Pair(sample.rgb, np.where(np.isfinite(sample.depth), sample.depth, np.nan))
    bent = np.linspace(0.2, 0.9, 96, dtype=np.float32) * np.ones((72, 1), np.float32)

    class Prompted:
        description: ClassVar[dict] = {}

        def predict(self, rgb, **_):
            return Prediction(bent, space='depth')

        def predict_prompted(self, rgb, sparse, **_):
            assert (np.abs(sparse.z / scene.depth[sparse.v, sparse.u] - 1.0) < 1e-6).all()
            return Prediction(np.nan_to_num(scene.depth, nan=50.0).astype('f'), space='metric')

    rows = score_prompted(Prompted(), [('room', scene)])
    assert len(rows) == 6
    for name, row in rows.items():
        assert row['with'] == pytest.approx(row['ratio'] * row['without'])
        assert row['with'] < 1e-6 if name.startswith('map') else row['ratio'] < 1.0
    with pytest.raises(ConfigurationError, match='models that take points'):
        score_prompted(Knowing(), [('room', scene)])


def test_held_out_figures_cover_both_generators_and_all_methods():
    rows = score_held_out(Knowing(), ONE_EACH.values(), mean_map_scenes=2)
    assert [name.split(': ') for name in rows] == [
        [where, method]
        for where in ('1 held-out scenes', '1 scenes of the second generator')
        for method in ('model', 'quadric', 'quadric and model', 'plane', 'mean map')
    ]
    for name, row in rows.items():
        assert set(row) == {'abs_rel', 'delta1'}
        assert (row['abs_rel'] < 1e-3) == name.endswith('model'), name


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity', 'metric'])
def test_beside_the_quadric_a_map_adds_what_the_surface_lacks(space):
    """Truth that is a surface in a space plus a part of a map there is fitted exactly."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:24, 0:32] / 32.0
    metres = np.exp(rng.uniform(0.0, 2.0, (24, 32)))
    own = 'disparity' if space == 'metric' else space
    relative = metres if space == 'metric' else from_metres(metres, own)
    bent = from_metres(5.0 + u, own) + 0.3 * (v - 0.3) ** 2 * (own != 'disparity')
    truth = to_metres(0.4 * from_metres(metres, own) + bent, own, 1e3)
    valid = rng.random(truth.shape) < 0.5
    points = SparseDepth(*np.nonzero(valid)[::-1], truth[valid].astype(np.float32))
    alone = surface_depth(points, *np.meshgrid(np.arange(32), np.arange(24)), (32, 24), 2)
    found = beside_quadric(relative, truth, valid, space)
    error, error_alone = (np.abs(x / truth - 1.0)[valid].mean() for x in (found, alone))
    assert error < 0.05 * error_alone


def test_a_metric_models_own_metres_are_scored_beside_its_fit():
    class Double(Knowing):
        def predict(self, rgb):
            return Prediction(2.0 * super().predict(rgb).relative, None, 'metric')

    sample = make_sample(0)
    table = score(Double(), [('one', Pair(sample.rgb, sample.depth))], 1)
    assert table['model']['abs_rel'] < 1e-3
    assert table['own metres']['abs_rel'] > 0.5


def test_a_diverged_model_is_named():
    model = Knowing()
    model.truth = {rgb: np.full_like(depth, np.nan) for rgb, depth in model.truth.items()}
    model.predict = lambda rgb: Prediction(model.truth[rgb.tobytes()], None)
    with pytest.raises(CheckpointError, match='not finite.*lower learning_rate'):
        score_held_out(model, ONE_EACH.values(), mean_map_scenes=1)


def test_the_contact_sheet_leaves_out_images_whose_depth_is_unknown(tmp_path):
    sample = make_sample(0, 96, 72)
    unknown = Pair(sample.rgb, np.full((72, 96), np.nan, np.float32))
    known = Pair(sample.rgb, sample.depth)

    class Flat:
        def predict(self, rgb):
            return Prediction(np.linspace(0, 1, 96, dtype=np.float32) * np.ones((72, 1)), None)

    path = tmp_path / 'sheet.png'
    contact_sheet(Flat(), [('a', unknown), ('b', known)], path)
    assert cv2.imread(str(path)).shape == (192, 2 * 3 * 256, 3)
    with pytest.raises(InputError, match='no image has known depth at 100 pixels'):
        contact_sheet(Flat(), [('a', unknown)], path)


@pytest.mark.slow  # a run, an export and its scores
def test_a_scored_export_has_its_figures_on_the_card(open_run, tmp_path, monkeypatch):
    few = partial(score_held_out, mean_map_scenes=2)
    monkeypatch.setattr('marigold_training.run.recipe.score_held_out', few)
    run = open_run({'objective': 'one_step'}, {'generators': ONE_EACH})
    run.train()
    folder = run.export(scored=True)
    kept = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    card = (folder / 'README.md').read_text()
    for name, row in kept.items():
        assert f'| {name} | {row["abs_rel"]:.4f} | {row["delta1"]:.4f} |' in card
    assert len(kept) == 10
    assert run.measured().strip() in card


@pytest.fixture
def student(tmp_path) -> Path:
    torch.manual_seed(3)
    sides = {'encoder_block_out_channels': (8,) * 4, 'decoder_block_out_channels': (8,) * 4}
    AutoencoderTiny(
        latent_channels=4, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4, **sides
    ).save_pretrained(tmp_path / 'student')
    return tmp_path / 'student'


def test_a_sheet_that_cannot_be_written_ends_the_script_before_it_scores(
    small_checkpoint, monkeypatch, capsys
):
    given = ['--second', '1', '--pictures', '/dev/null/sheet.png']
    monkeypatch.setattr(sys, 'argv', ['score.py', '--model', str(small_checkpoint), *given])
    assert main() == 1
    printed = capsys.readouterr()
    assert 'sheet.png could not be written' in printed.err
    assert printed.out == ''


@pytest.mark.parametrize(
    ('known', 'words'),
    [
        ({'a': 3072, 'b': None}, '1 problem; repair .*b/image.png'),
        ({'a': 99, 'b': 0}, 'none of 2 images has known depth at 100 pixels'),
    ],
)
def test_pairs_that_cannot_be_scored_end_the_script(tmp_path, monkeypatch, capsys, known, words):
    for name, count in known.items():
        (tmp_path / name).mkdir()
        depth = np.where(np.arange(48 * 64) < (count or 0), 3000, 0).reshape(48, 64)
        cv2.imwrite(str(tmp_path / name / 'image.png'), np.zeros((48, 64, 3), np.uint8))
        if count is not None:
            cv2.imwrite(str(tmp_path / name / 'depth_mm.png'), depth.astype(np.uint16))
    monkeypatch.setattr('marigold_ros.models.load_model', _interrupt)
    monkeypatch.setattr(sys, 'argv', ['score.py', '--pairs', str(tmp_path)])
    assert main() == 1
    assert re.search(words, capsys.readouterr().err, re.DOTALL)


@pytest.mark.slow  # runs the script twice
def test_the_script_scores_another_autoencoder(
    small_checkpoint, student, tmp_path, monkeypatch, capsys
):
    def scored(*more: str) -> dict:
        given = ['score.py', '--model', str(small_checkpoint), '--second', '1', '--json', *more]
        monkeypatch.setattr(sys, 'argv', given)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / 'training' / 'score.py'), None, '__main__')
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    own, other = scored(), scored('--vae', str(student), '--pictures', str(tmp_path / 'new/sheet'))
    assert cv2.imread(str(tmp_path / 'new/sheet')) is not None  # PNG, whatever its name
    assert own['quadric'] == other['quadric']
    assert own['model'] != other['model']


def _interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ('script', 'arguments', 'interrupted'),
    [
        (main, [], 'marigold_ros.models.load_model'),
        (ablate, ['--model', 'tiny-diffusion'], 'marigold_training.run.score.render_scenes'),
    ],
)
def test_ctrl_c_ends_a_script_without_a_traceback(monkeypatch, script, arguments, interrupted):
    monkeypatch.setattr(interrupted, _interrupt)
    monkeypatch.setattr(sys, 'argv', ['script', *arguments])
    assert script() == 130
