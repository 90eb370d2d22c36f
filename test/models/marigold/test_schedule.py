# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Steps against diffusers' scheduler: the same timesteps and the same bits."""

from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.schedule import choose_spacing, ddim_schedule, marigold_scheduler
import numpy as np
import pytest
import torch

BASE = {
    'beta_start': 0.00085,
    'beta_end': 0.012,
    'beta_schedule': 'scaled_linear',
    'set_alpha_to_one': False,
    'clip_sample': False,
    'steps_offset': 1,
    'prediction_type': 'v_prediction',
}


def v1_0(**changes) -> DDIMScheduler:
    return DDIMScheduler(**{**BASE, 'timestep_spacing': 'leading', **changes})


def v1_1(**changes) -> DDIMScheduler:
    settings = {'timestep_spacing': 'trailing', 'rescale_betas_zero_snr': True}
    return DDIMScheduler(**{**BASE, **settings, **changes})


def test_the_schedule_of_new_networks_is_that_of_stable_diffusion_down_to_pure_noise():
    """Its roots of the share of the image, moved and scaled to end at zero (2305.08891)."""
    scheduler = marigold_scheduler()
    share = np.sqrt(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
    expected = (share - share[-1]) * share[0] / (share[0] - share[-1])
    np.testing.assert_allclose(scheduler.alphas_cumprod.sqrt(), expected, atol=1e-5)
    assert scheduler.final_alpha_cumprod == scheduler.alphas_cumprod[0]
    config = scheduler.config
    assert (config.prediction_type, config.timestep_spacing) == ('v_prediction', 'trailing')
    assert not config.clip_sample


@pytest.mark.parametrize(
    ('steps', 'expected'),
    [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249]), (10, list(range(999, 0, -100)))],
)
def test_trailing_steps_start_at_pure_noise(steps, expected):
    assert ddim_schedule(v1_1(), steps).timesteps.tolist() == expected


@pytest.mark.parametrize(
    ('steps', 'expected'),
    [(1, [1]), (2, [501, 1]), (4, [751, 501, 251, 1]), (50, list(range(981, 0, -20)))],
)
def test_leading_steps_are_the_published_ones(steps, expected):
    assert ddim_schedule(v1_0(), steps).timesteps.tolist() == expected


@pytest.mark.parametrize('steps', range(1, 51))
def test_every_number_of_steps_gives_that_many(steps):
    for scheduler in (v1_0(), v1_1()):
        schedule = ddim_schedule(scheduler, steps)
        assert len(schedule.steps) == len(schedule.timesteps) == steps


def test_a_spacing_that_starts_far_from_noise_is_replaced_where_steps_are_few():
    assert [choose_spacing(v1_0(), n) for n in (1, 4, 9, 10, 50)] == ['trailing'] * 3 + [
        'leading'
    ] * 2
    assert choose_spacing(v1_1(), 1) == 'trailing'
    linspace = v1_0(timestep_spacing='linspace')
    assert [choose_spacing(linspace, n) for n in (1, 2, 50)] == ['trailing'] + ['linspace'] * 2
    assert ddim_schedule(linspace, 2).timesteps.tolist() == [999, 0]
    assert ddim_schedule(v1_0(), 2, 'trailing').timesteps.tolist() == [999, 499]


@settings(max_examples=2 * settings().max_examples)
@given(
    st.integers(1, 50),
    st.sampled_from(['v_prediction', 'epsilon', 'sample']),
    st.sampled_from(['leading', 'trailing', 'linspace']),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_each_step_is_diffusers_to_the_last_bit(steps, kind, spacing, zero_snr, clip, seed):
    if kind == 'epsilon':
        zero_snr = False
    scheduler = DDIMScheduler(
        **{
            **BASE,
            'prediction_type': kind,
            'timestep_spacing': spacing,
            'rescale_betas_zero_snr': zero_snr,
            'clip_sample': clip,
            'clip_sample_range': 0.7,
            'set_alpha_to_one': clip,
            'steps_offset': 1 - clip,
        }
    )
    schedule = ddim_schedule(scheduler, steps)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    latent = theirs = torch.randn(1, 4, 6, 7, generator=generator)
    for t, step in zip(scheduler.timesteps, schedule.steps, strict=True):
        output = torch.randn(latent.shape, generator=generator)
        expected = scheduler.step(output, t, theirs)
        denoised, latent = schedule.advance(step, output, latent)
        theirs = expected.prev_sample
        assert step.timestep == t
        assert torch.equal(denoised, expected.pred_original_sample)
        assert torch.equal(latent, theirs)


def test_reading_a_schedule_leaves_the_scheduler_as_it_was():
    scheduler = v1_0()
    before = scheduler.timesteps.clone()
    ddim_schedule(scheduler, 3, 'trailing')
    assert torch.equal(scheduler.timesteps, before)
    assert scheduler.config.timestep_spacing == 'leading'


@pytest.mark.parametrize('steps', [0, -1, 11])
def test_steps_beyond_the_schedule_are_refused(steps):
    with pytest.raises(ConfigurationError, match=rf'denoising_steps is {steps};.*10 timesteps'):
        ddim_schedule(v1_1(num_train_timesteps=10), steps)


def test_epsilon_of_pure_noise_is_refused():
    with pytest.raises(ConfigurationError, match='epsilon.*999'):
        ddim_schedule(v1_1(prediction_type='epsilon'), 1)


def test_timesteps_beyond_the_schedule_are_refused():
    scheduler = DDIMScheduler(num_train_timesteps=50, steps_offset=1, timestep_spacing='leading')
    with pytest.raises(ConfigurationError, match='50 timesteps with leading spacing'):
        ddim_schedule(scheduler, 50)
    assert len(ddim_schedule(scheduler, 25).steps) == 25
