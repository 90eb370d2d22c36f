# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Every published layout opens, states its own defaults, and answers as diffusers does."""

import json
import logging
import os
from pathlib import Path
import shutil

from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from marigold_ros.config import EngineConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.marigold.checkpoint import load_networks
from marigold_ros.models.marigold.denoiser import consistency_generators
from marigold_ros.models.marigold.engine import COLOUR_NOTE
from marigold_ros.models.marigold.schedule import ddim_schedule
from marigold_ros.models.protocol import PredictOptions
import numpy as np
import pytest
from safetensors.torch import load_file
import torch
from transformers import CLIPTextModel


def make_v1_0(folder: Path, edit, **changes) -> None:
    """Give a folder the layout of v1-0: leading steps, no zero SNR, no defaults."""
    edit(
        folder / 'scheduler' / 'scheduler_config.json',
        **{'timestep_spacing': 'leading', 'rescale_betas_zero_snr': False, **changes},
    )
    edit(
        folder / 'model_index.json',
        _class_name='MarigoldPipeline',
        default_denoising_steps=None,
        prediction_type=None,
    )
    (folder / 'marigold_ros.json').unlink()


def make_lcm(folder: Path, edit) -> None:
    make_v1_0(folder, edit)
    config = json.loads((folder / 'scheduler' / 'scheduler_config.json').read_text())
    known = {k: v for k, v in config.items() if not k.startswith('_')}
    LCMScheduler.from_config(known).save_pretrained(folder / 'scheduler')


def taesd(latent_channels: int = 4) -> AutoencoderTiny:
    torch.manual_seed(1)
    channels = (8, 8, 8, 8)
    return AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=latent_channels,
    )


def compare(model, pipe, rgb, steps) -> None:
    expected = pipe(
        rgb,
        num_inference_steps=steps,
        processing_resolution=128,
        generator=torch.Generator('cpu').manual_seed(3),
    ).prediction[0, :, :, 0]
    got = model.predict(rgb, steps, 1, 128, seed=3, reference_exact=True)
    np.testing.assert_allclose(got.relative, expected, atol=2e-4)


@pytest.mark.parametrize('steps', [1, 2, 4, 10])
def test_v1_0_answers_as_diffusers_does_with_leading_steps(copy, edit, oracle, image, steps):
    make_v1_0(copy, edit)
    model = load_model(str(copy), device='cpu')
    compare(model, oracle(model), image(75, 100), steps)


def test_v1_0_runs_few_steps_trailing_and_notes_it_once(copy, edit, image, caplog):
    make_v1_0(copy, edit)
    model = load_model(str(copy), device='cpu')
    assert model.facts.denoising_steps == 10
    assert model.facts.processing_resolution == 128
    rgb = image(48, 64)
    with caplog.at_level(logging.WARNING):
        few = [model.predict(rgb, n, 1, 64).relative for n in (1, 2, 1)]
        model.predict(rgb, 10, 1, 64)
    assert len([r for r in caplog.records if 'trailing' in r.message]) == 1
    assert any('trailing' in note for note in model.description['notes'])
    for spacing in ('trailing', 'leading'):
        chosen = EngineConfig(timestep_spacing=spacing)
        answer = model.predict(rgb, 2, 1, 64, engine=chosen).relative
        assert np.array_equal(answer, few[1]) == (spacing == 'trailing')


def test_a_single_step_of_linspace_runs_trailing_and_says_so(copy, edit, oracle, image):
    make_v1_0(copy, edit, timestep_spacing='linspace')
    model, rgb = load_model(str(copy), device='cpu'), image(48, 64)
    one, two = (model.predict(rgb, steps, 1, 64).relative for steps in (1, 2))
    assert [note.split(':')[0] for note in model.notes if 'spacing' in note] == [
        "the checkpoint's linspace timestep spacing is replaced by trailing"
    ]
    compare(model, oracle(model), image(75, 100), 1)  # as diffusers does, from timestep 0
    edit(copy / 'scheduler' / 'scheduler_config.json', timestep_spacing='trailing')
    trailing = load_model(str(copy), device='cpu')
    assert np.array_equal(one, trailing.predict(rgb, 1, 1, 64).relative)
    assert not np.array_equal(two, trailing.predict(rgb, 2, 1, 64).relative)


@pytest.mark.parametrize(
    ('kind', 'clip'),
    [
        (PNDMScheduler, None),
        (EulerDiscreteScheduler, None),
        (UniPCMultistepScheduler, None),
        (DDIMScheduler, 1.0),
        (DDPMScheduler, 1.0),
    ],
)
def test_latents_are_clipped_only_by_the_schedules_of_classes_that_clip(copy, kind, clip):
    kind(prediction_type='v_prediction').save_pretrained(copy / 'scheduler')
    schedule = ddim_schedule(load_networks(copy).scheduler, 1, 'trailing')
    assert schedule.clip == clip


@pytest.mark.parametrize('steps', [1, 2, 4])
def test_an_lcm_checkpoint_answers_as_diffusers_does(copy, edit, oracle, image, steps):
    make_lcm(copy, edit)
    model = load_model(str(copy), device='cpu')
    assert model.facts.denoising_steps == 1
    assert any('LCM' in note for note in model.description['notes'])
    compare(model, oracle(model), image(64, 96), steps)


def test_normals_of_e2e_ft_are_refused_by_their_name(copy, edit):
    (copy / 'marigold_ros.json').unlink()
    edit(copy / 'model_index.json', _class_name='StableDiffusionPipeline')
    normals = copy.rename(copy.with_name('marigold-e2e-ft-normals'))
    with pytest.raises(CheckpointError, match='predicts surface normals; choose a depth'):
        load_model(str(normals), device='cpu')
    depth = normals.rename(normals.with_name('paranormals'))
    assert load_model(str(depth), device='cpu').facts.noise == 'zeros'


def test_a_checkpoint_that_decodes_colours_is_named_at_its_first_image(copy, image, caplog):
    model = load_model(str(copy), device='cpu')
    with torch.no_grad():
        model.autoencoder.decoder.conv_out.weight.zero_()
        model.autoencoder.decoder.conv_out.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    for _ in range(2):
        model.predict(image(48, 64), 1, 1, 64)
    assert [r.message for r in caplog.records if 'surface normals' in r.message] == [
        f'{model.facts.name}: {COLOUR_NOTE}'
    ]
    assert COLOUR_NOTE in model.description['notes']


def test_an_lcm_ensemble_depends_on_neither_batches_nor_other_images(copy, edit, image):
    make_lcm(copy, edit)
    model = load_model(str(copy), device='cpu')
    whole = model.predict(image(64, 96), 3, 3, 96).relative
    one = EngineConfig(batch_limit=1)
    apart = model.predict(image(64, 96), 3, 3, 96, engine=one).relative
    np.testing.assert_allclose(whole, apart, atol=1e-4)
    streams = [model.new_stream(), model.new_stream()]
    rgbs = [image(64, 96, seed=1), image(64, 96)]
    for limit in (0, 2):
        options = PredictOptions(3, 3, 96, engine=EngineConfig(batch_limit=limit))
        both = model.predict_together(rgbs, streams, options)
        np.testing.assert_allclose(whole, both[1].relative, atol=1e-3)


def test_members_of_an_lcm_draw_noise_of_their_own_with_each_seed():
    kept = [consistency_generators(torch.zeros(4, 1, 1, 1), 4, seed, 3) for seed in range(3)]
    own = [one for batches in kept for batch in batches for one in batch]
    assert len({float(torch.randn(1, generator=one)) for one in own}) == 12


@pytest.mark.parametrize(
    ('lcm', 'known', 'words'),
    [(True, 'original_inference_steps', 'distilled'), (False, 'num_train_timesteps', 'schedule')],
)
def test_more_steps_than_a_checkpoint_knows_are_refused(copy, edit, image, lcm, known, words):
    if lcm:
        make_lcm(copy, edit)
    edit(copy / 'scheduler' / 'scheduler_config.json', **{known: 5})
    model, rgb = load_model(str(copy), device='cpu'), image(32, 32)
    model.check_options(PredictOptions(5))
    for call in (lambda: model.check_options(PredictOptions(6)), lambda: model.predict(rgb, 6)):
        with pytest.raises(ConfigurationError, match=f'denoising_steps is 6.*{words}'):
            call()


def test_an_lcm_that_predicts_epsilon_of_pure_noise_is_refused(copy, edit):
    make_lcm(copy, edit)
    schedule = {'prediction_type': 'epsilon', 'rescale_betas_zero_snr': True}
    edit(copy / 'scheduler' / 'scheduler_config.json', **schedule)
    model = load_model(str(copy), device='cpu')
    with pytest.raises(ConfigurationError, match=r'epsilon.*timestep 999.*rescale_betas_zero_snr'):
        model.check_options(PredictOptions(2))


@pytest.mark.parametrize('name', ['scale_invariant', 'shift_invariant'])
def test_an_exact_merge_up_to_scale_and_shift_is_refused_where_it_is_not_the_checkpoints(
    copy, edit, name
):
    edit(copy / 'model_index.json', **{name: False})
    model = load_model(str(copy), device='cpu')
    model.check_options(PredictOptions(1, 3))
    model.check_options(PredictOptions(1, 1, reference_exact=True))
    with pytest.raises(ConfigurationError, match=f'merges 3 members.*copy has.*{name}.*size 1'):
        model.check_options(PredictOptions(1, 3, reference_exact=True))
    edit(copy / 'model_index.json', **{name: True})
    load_model(str(copy), device='cpu').check_options(PredictOptions(1, 3, reference_exact=True))


def test_an_end_to_end_checkpoint_starts_from_zeros_in_one_step(copy, edit, oracle, image):
    make_v1_0(copy, edit, timestep_spacing='trailing')
    edit(copy / 'model_index.json', _class_name='StableDiffusionPipeline')
    model = load_model(str(copy), device='cpu')
    assert (model.facts.noise, model.facts.denoising_steps) == ('zeros', 1)
    rgb = image(96, 128)
    # As a tensor, because the pipeline reads the size of an array from the wrong axes here.
    expected = oracle(model)(
        torch.from_numpy(rgb).permute(2, 0, 1) / 255.0,
        num_inference_steps=1,
        processing_resolution=128,
        latents=torch.zeros(1, 4, 12, 16),
    ).prediction[0, :, :, 0]
    got = model.predict(rgb, processing_resolution=128, reference_exact=True).relative
    np.testing.assert_allclose(got, expected, atol=2e-4)
    first, second = (model.predict(rgb, seed=s).relative for s in (0, 1))
    assert np.array_equal(first, second)


def test_one_module_denoises_as_predict_does(copy, edit, image):
    make_v1_0(copy, edit)
    edit(
        copy / 'model_index.json',
        _class_name='StableDiffusionPipeline',
        default_denoising_steps=2,
    )
    model = load_model(str(copy), device='cpu')
    rgb = image(96, 128)
    with torch.inference_mode():
        found = model.as_network(96, 128)(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255.0)
    wanted = model.predict(rgb, processing_resolution=0).relative
    np.testing.assert_allclose(found[0, 0], wanted, atol=1e-5)


@pytest.mark.parametrize('kind', ['epsilon', 'sample'])
def test_other_prediction_types_answer_as_diffusers_does(copy, edit, oracle, image, kind):
    make_v1_0(copy, edit, timestep_spacing='trailing', prediction_type=kind)
    model = load_model(str(copy), device='cpu')
    assert model.facts.denoising_steps == 4
    compare(model, oracle(model), image(64, 64), 2)


@pytest.mark.parametrize('variant', [None, 'fp16'])
@pytest.mark.parametrize('shard', ['10GB', '100KB'])
def test_half_precision_variants_and_shards_open(copy, image, variant, shard):
    before = load_model(str(copy), device='cpu').predict(image(32, 48)).relative
    unet = UNet2DConditionModel.from_pretrained(copy / 'unet')
    for path in (copy / 'unet').glob('*.safetensors'):
        path.unlink()
    kind = torch.float16 if variant else torch.float32
    torch.nn.Module.to(unet, kind).save_pretrained(
        copy / 'unet', variant=variant, max_shard_size=shard
    )
    assert (len(list((copy / 'unet').glob('*.safetensors'))) > 1) == (shard == '100KB')
    after = load_model(str(copy), device='cpu').predict(image(32, 48)).relative
    np.testing.assert_allclose(after, before, atol=0.02 if variant else 1e-5)


def test_full_weights_win_over_half_precision_copies_beside_them(copy, image):
    before = load_model(str(copy), device='cpu').predict(image(32, 48)).relative
    unet = UNet2DConditionModel.from_pretrained(copy / 'unet')
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.Module.to(unet, torch.float16).save_pretrained(copy / 'unet', variant='fp16')
    after = load_model(str(copy), device='cpu').predict(image(32, 48)).relative
    assert np.array_equal(after, before)


@pytest.mark.parametrize('apart', [False, True])
def test_a_small_autoencoder_runs_inside_or_apart(copy, tmp_path, oracle, image, apart):
    if not apart:
        for path in (copy / 'vae').iterdir():
            path.unlink()
    folder = tmp_path / 'taesd' if apart else copy / 'vae'
    taesd().save_pretrained(folder)
    model = load_model(str(copy), device='cpu', vae=str(folder) if apart else None)
    assert model.description['autoencoder'] == 'AutoencoderTiny'
    compare(model, oracle(model), image(64, 96), 2)


def test_an_autoencoder_of_other_latents_is_refused(copy, tmp_path):
    taesd(8).save_pretrained(tmp_path / 'taesd')
    with pytest.raises(CheckpointError, match='8 latent channels'):
        load_model(str(copy), device='cpu', vae=str(tmp_path / 'taesd'))
    with pytest.raises(CheckpointError, match="no autoencoder 'nowhere'"):
        load_model(str(copy), device='cpu', vae='nowhere')


def test_a_unet_that_takes_more_than_marigold_has_is_refused(copy):
    """Lotus and GeoWizard have the channels of a Marigold, and choose a task by a class."""
    config = UNet2DConditionModel.load_config(copy / 'unet')
    task = {'class_embed_type': 'projection', 'projection_class_embeddings_input_dim': 4}
    UNet2DConditionModel.from_config(config, **task).save_pretrained(copy / 'unet')
    with pytest.raises(CheckpointError, match="class_embed_type 'projection'.*Lotus.*choose a v1"):
        load_model(str(copy), device='cpu')


@pytest.fixture
def text_encoder(copy, write_text_encoder) -> None:
    """Replace the copy's stored embedding by a tiny text encoder and a tokenizer."""
    (copy / 'empty_text_embedding.safetensors').unlink()
    write_text_encoder(copy)


@pytest.mark.usefixtures('text_encoder')
def test_the_empty_prompt_is_embedded_once_and_kept(copy, monkeypatch):
    first = load_model(str(copy), device='cpu')
    assert first.text.shape == (1, 2, 32)
    encoder = CLIPTextModel.from_pretrained(copy / 'text_encoder')
    with torch.no_grad():
        expected = encoder(torch.tensor([[0, 1]]))[0]
    torch.testing.assert_close(first.text, expected)
    stored = load_file(copy / 'empty_text_embedding.safetensors')['empty_text_embedding']
    assert torch.equal(stored, first.text)
    monkeypatch.setattr(CLIPTextModel, 'from_pretrained', None)
    second = load_model(str(copy), device='cpu')
    assert torch.equal(second.text, first.text)
    assert second.sha256 == first.sha256


@pytest.mark.usefixtures('text_encoder')
def test_a_read_only_checkpoints_embedding_goes_to_the_cache(copy, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    replace = os.replace

    def refuse(draft, path):
        if path.parent == copy:
            raise PermissionError('read-only')
        replace(draft, path)

    monkeypatch.setattr(os, 'replace', refuse)
    first = load_model(str(copy), device='cpu')
    assert not (copy / 'empty_text_embedding.safetensors').exists()
    assert len(first.sha256) == 64
    (kept,) = (tmp_path / 'cache' / 'marigold_ros').iterdir()
    kept.write_bytes(b'half')
    assert torch.equal(load_model(str(copy), device='cpu').text, first.text)
    monkeypatch.setattr(CLIPTextModel, 'from_pretrained', None)
    assert torch.equal(load_model(str(copy), device='cpu').text, first.text)
    os.utime(copy / 'text_encoder' / 'config.json', (0, 0))  # another encoder
    with pytest.raises(CheckpointError):
        load_model(str(copy), device='cpu')


@pytest.mark.usefixtures('text_encoder')
def test_a_text_encoder_without_tokenizer_is_an_error(copy):
    shutil.rmtree(copy / 'tokenizer')
    with pytest.raises(CheckpointError, match='tokenizer'):
        load_model(str(copy), device='cpu')
