# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A student learns from a checkpoint's autoencoder, takes its place, and resumes exactly."""

from __future__ import annotations

from itertools import cycle
import json
import os
from pathlib import Path
import re
import subprocess
import sys

from diffusers import AutoencoderTiny, MarigoldDepthPipeline
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_training.distillation import compare, Distillation, held_out, measured_size, Student
from marigold_training.objectives.losses import distill_loss
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import decode, encode
from marigold_training.run.recipe import TrainingRun
import numpy as np
import pytest
from safetensors.torch import load_file
import torch
import yaml

STAGE = {'name': 'distill', 'objective': 'distill', 'batch_size': 2, 'warmup': 1, 'save_every': 1}
SOURCE = {'kind': 'synthetic', 'height': 32, 'width': 48, 'count': 6, 'size': [32, 48]}


@pytest.fixture(scope='module')
def run_in(small_checkpoint, accelerator):
    def make(
        folder: Path, steps: int = 3, student: dict | None = None, kind=Distillation, **more
    ) -> Distillation:
        recipe = {
            'name': 'toy-vae',
            'init': {'kind': 'checkpoint', 'path': str(small_checkpoint)},
            'student': {'width': 8, **(student or {})},
            'sources': [SOURCE],
            'stages': [{**STAGE, 'steps': steps, 'learning_rate': 2e-3}],
            'facts': {'space': 'depth', 'noise': 'gaussian', 'default_processing_pixels': 32 * 48},
            **more,
        }
        path = folder.with_suffix('.yaml')
        path.write_text(yaml.safe_dump(recipe))
        return kind(path, folder, folder.parent / 'data', accelerator)

    return make


@pytest.fixture
def new_run(run_in, tmp_path):
    return lambda name='run', **more: run_in(tmp_path / name, **more)


@pytest.fixture(scope='module')
def export(run_in, tmp_path_factory):
    """Return the folder that a run of two steps exports."""
    run = run_in(tmp_path_factory.mktemp('export') / 'run', steps=2)
    assert run.train()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('marigold_training.distillation.SCENES', 2)
        return run.export()


def loss(run: Distillation) -> float:
    """Mean of the loss over all images."""
    mixture = run.mixture(run.stages[0], 0)
    with torch.no_grad():
        losses = [run.chain(distill_loss, mixture[i], Draws(0, i, (0, 1))) for i in range(3)]
        return torch.stack(losses).mean().item()


def test_a_few_steps_lower_the_loss_and_leave_the_teacher_alone(new_run):
    run = new_run(steps=12)
    teacher = {k: v.clone() for k, v in run.chain.autoencoder.state_dict().items()}
    before = loss(run)
    assert run.train()
    assert loss(run) < 0.8 * before
    for key, value in run.chain.autoencoder.state_dict().items():
        assert torch.equal(value, teacher[key]), key


class Shifted(torch.nn.Module):
    """The teacher with latents of images that are off by a shift, and maps by half of it."""

    def __init__(self, teacher, shift: float) -> None:
        super().__init__()
        self.config, self.teacher, self.shift = teacher.config, teacher, shift

    def encode(self, image):
        latent = self.teacher.encode(image).latent_dist.mode()
        return AutoencoderTinyOutput(latent + self.shift / self.config.scaling_factor)

    def decode(self, latent):
        return DecoderOutput(self.teacher.decode(latent).sample + self.shift)


@pytest.mark.parametrize('shift', [0.0, 0.1])
def test_the_loss_is_the_written_sum_of_the_student_being_off(new_run, shift):
    run = new_run()
    run.chain.student = Shifted(run.chain.autoencoder, shift)
    run.chain.predict = lambda rgb_latent, noisy, timestep: torch.zeros_like(noisy)
    expected = shift + shift**2 + shift / 2  # latents, their squares, maps
    assert loss(run) == pytest.approx(expected, rel=1e-3, abs=2e-4)


@pytest.mark.slow  # trains three times
def test_a_stopped_run_ends_bitwise_as_an_unstopped_one(new_run):
    whole = new_run('whole')
    assert whole.train()
    asked = iter([False, True])
    assert not new_run('cut').train(stop=lambda: next(asked))
    resumed = new_run('cut')
    assert resumed.train()
    for key, value in whole.chain.state_dict().items():
        assert torch.equal(value, resumed.chain.state_dict()[key]), key


def test_the_exported_student_serves_its_checkpoint(export, small_checkpoint, caplog):
    model = load_model(str(small_checkpoint), device='cpu', vae=str(export))
    assert model.description['autoencoder'] == 'AutoencoderTiny'
    student = AutoencoderTiny.from_pretrained(export)
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        latent = encode(student, image)
        torch.testing.assert_close(model.encode(image), latent, atol=1e-4, rtol=1e-4)
        expected = decode(student, latent).clamp(0.0, 1.0)
        torch.testing.assert_close(model.decode(latent), expected, atol=1e-4, rtol=1e-4)
    assert model.predict(np.zeros((32, 48, 3), np.uint8)).relative.shape == (32, 48)
    assert not caplog.records  # diffusers has nothing to say of the configuration


def test_the_result_opens_in_diffusers_pipeline(export, small_checkpoint):
    student = AutoencoderTiny.from_pretrained(export)
    pipe = MarigoldDepthPipeline.from_pretrained(
        small_checkpoint, vae=student, text_encoder=None, tokenizer=None
    )
    pipe.set_progress_bar_config(disable=True)
    text = load_file(small_checkpoint / 'empty_text_embedding.safetensors')
    pipe.empty_text_embedding = text['empty_text_embedding']
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    generator = torch.Generator().manual_seed(0)
    there = pipe(rgb, 1, processing_resolution=0, generator=generator).prediction[0, :, :, 0]
    model = load_model(str(small_checkpoint), device='cpu', vae=str(export))
    here = model.predict(rgb, 1, processing_resolution=0, reference_exact=True, seed=0)
    np.testing.assert_allclose(here.relative, there, atol=2e-3)


def test_card_and_metrics_have_figures_of_student_and_teacher(export):
    card = (export / 'README.md').read_text()
    figures = json.loads((export.parent / 'metrics.json').read_text())
    assert figures['teacher']['speed'] == 1.0
    for name in ('map_difference', 'latent_difference'):
        assert figures['teacher'][name] < 1e-5 < figures['student'][name]
    for row in figures.values():
        assert all(np.isfinite(value) and value >= 0.0 for value in row.values())
        assert f'{row["round_trip"]:.4f}' in card
    assert re.search(r"load_model\('small', vae=folder\)", card)


def test_the_round_trip_is_that_of_the_decoded_truth(new_run):
    run = new_run()
    scenes = held_out(measured_size(run.recipe['facts']), 'depth', 2)
    truths = cycle(scene for scene in scenes for _ in ('map', 'answer'))

    class Perfect(Shifted):
        """Decodes the truth, whatever the latent."""

        def decode(self, latent):
            return DecoderOutput(next(truths).relative.expand(-1, 3, -1, -1) * 2 - 1)

    run.chain.student = Perfect(run.chain.autoencoder, 0.0)
    figures = compare(run.chain, run.recipe['facts'], torch.device('cpu'), scenes=2, rounds=1)
    # Only what lies beyond the percentiles is lost.
    assert figures['student']['round_trip'] < 0.05 < figures['teacher']['round_trip']
    assert figures['student']['latent_difference'] < 1e-5


@pytest.mark.parametrize('shift', [0.0, 0.1])
def test_answer_difference_compares_whole_predictions(new_run, shift):
    run = new_run()
    run.chain.student = Shifted(run.chain.autoencoder, shift)
    run.chain.predict = lambda rgb_latent, noisy, timestep: torch.zeros_like(noisy)
    figures = compare(run.chain, run.recipe['facts'], torch.device('cpu'), scenes=1, rounds=1)
    assert figures['teacher']['answer_difference'] == pytest.approx(0.0, abs=1e-5)
    assert figures['student']['answer_difference'] == pytest.approx(shift / 2, rel=1e-2, abs=1e-5)


# what is wrong


@pytest.mark.parametrize(
    ('more', 'words'),
    [
        ({'student': {'wide': 8}}, "student has 'wide'; .*'width'"),
        ({'student': {'encoder_blocks': [1, 3]}}, 'has 4 sizes'),
        ({'student': {'width': 0}}, 'at least 1'),
        ({'init': {'kind': 'small'}}, 'kind: checkpoint'),
        ({'facts': {'space': 'log', 'noise': 'gaussian'}}, "facts.space.*'log'.*'depth'"),
        ({'facts': {'space': 'depth', 'noise': 'zeros'}}, "facts.noise.*'zeros'.*'gaussian'"),
        ({'stages': [{'name': 'a', 'objective': 'pixel', 'steps': 1}]}, 'must have distill'),
        ({'stages': [{**STAGE, 'steps': 1, 'trains': ['student', 'unet']}]}, 'must have distill'),
        ({'stages': [{**STAGE, 'steps': 1, 'gradient_checkpointing': True}]}, 'leave it out'),
        ({'kind': TrainingRun}, 'give its sizes as student'),
    ],
)
def test_a_recipe_without_distillation_is_refused(new_run, more, words):
    with pytest.raises(ConfigurationError, match=words):
        new_run(**more)


def test_a_student_has_its_teachers_latents_and_scale_1():
    student = Student(width=8).build(levels=4, latent_channels=8, seed=1)
    assert student.config.latent_channels == 8
    assert student.config.scaling_factor == 1.0
    assert student.encode(torch.zeros(1, 3, 32, 40)).latents.shape == (1, 8, 4, 5)
    again = Student(width=8).build(levels=4, latent_channels=8, seed=1)
    for one, other in zip(student.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow  # a process that trains and exports
def test_the_script_prints_both_and_the_folder(small_checkpoint, run_in, tmp_path):
    run_in(tmp_path / 'run', steps=1)  # writes the recipe beside it
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, str(root / 'training' / 'finetune.py')]
    line += [str(tmp_path / 'run.yaml'), '--out', str(tmp_path / 'out'), '--workers', '0']
    line += ['--data', str(tmp_path / 'data'), '--device', 'cpu', '--precision', 'no']
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    for words in ('| teacher | ', '| student | ', 'speed', str(tmp_path / 'out' / 'toy-vae')):
        assert words in done.stdout
