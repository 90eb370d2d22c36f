# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Guidance by points: planted latents, identities, errors; very small networks."""

from dataclasses import replace

from diffusers import DDIMScheduler, LCMScheduler
from marigold_ros.config import EngineConfig, GuidedConfig, RuntimeConfig
from marigold_ros.errors import AlignmentError, ConfigurationError, InputError
from marigold_ros.frame import SparseDepth
from marigold_ros.models import load_model
from marigold_ros.models.marigold.guidance import affine_fit, guide_clean, prepare_points
from marigold_ros.models.resizing import upsample_bilinear
import numpy as np
import pytest
import torch

CPU = torch.device('cpu')
FEW = GuidedConfig(steps=6)
STILL = GuidedConfig(steps=1, latent_rate=0.0, affine_rate=0.0)


@pytest.fixture(scope='module')
def model(small_checkpoint):
    return load_model(str(small_checkpoint), device='cpu')


@pytest.fixture
def rgb(image):
    return image(72, 96)


def points(depth, count=80, seed=0) -> SparseDepth:
    rng = np.random.default_rng(seed)
    v, u = rng.integers(0, depth.shape[0], count), rng.integers(0, depth.shape[1], count)
    return SparseDepth(u, v, depth[v, u].astype(np.float32))


def slope(shape=(72, 96)) -> np.ndarray:
    """Depth of 3 to 12 m that grows to the left, as the random network happens to see it."""
    return np.tile(np.linspace(12.0, 3.0, shape[1], dtype=np.float32), (shape[0], 1))


def misfit(metric, sparse) -> float:
    return float(np.abs(metric[sparse.v, sparse.u] - sparse.z).mean())


@pytest.mark.parametrize('size', [(72, 96), (36, 48), (31, 57), (100, 130)])
def test_points_read_what_the_enlarged_map_has_there(size):
    relative = torch.rand(1, 1, *size)
    sparse = points(slope())
    prepared = prepare_points(sparse, 'depth', (72, 96), size, CPU)
    enlarged = upsample_bilinear(relative, (72, 96))[0, 0].numpy()
    np.testing.assert_allclose(
        prepared.read(relative).numpy(), enlarged[sparse.v, sparse.u], atol=1e-6
    )


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_points_span_0_to_1_whatever_their_unit(space):
    one, thousand = (
        prepare_points(points(slope() * k), space, (72, 96), (72, 96), CPU) for k in (1.0, 1000.0)
    )
    assert (one.wanted.min(), one.wanted.max()) == (0.0, 1.0)
    torch.testing.assert_close(one.wanted, thousand.wanted)


def planted(model, seed):
    """A latent of the small model, its map, and points of it in metres."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(1, 4, 9, 12, generator=generator)
    with torch.no_grad():
        relative = model.preview(latent)
    depth = 5.0 + 20.0 * relative[0, 0].numpy()
    return latent, depth, points(depth - depth.min() + 2.0)


def test_a_planted_latent_is_recovered_at_the_points(model):
    latent, _, sparse = planted(model, seed=1)
    prepared = prepare_points(sparse, 'depth', (72, 96), (72, 96), CPU)
    start = latent + 0.5 * torch.randn(latent.shape, generator=torch.Generator().manual_seed(2))

    def residual(answer, scale, shift):
        with torch.no_grad():
            predicted = scale * prepared.read(model.preview(answer)) + shift
        return float((predicted - prepared.wanted).abs().mean())

    unmoved = guide_clean(start, prepared, model.preview, STILL)
    moved = guide_clean(start, prepared, model.preview, GuidedConfig(steps=60))
    before = residual(unmoved.latent, unmoved.scale, unmoved.shift)
    fitted = guide_clean(start, prepared, model.preview, GuidedConfig(steps=5, affine_rate=0.0))
    assert (fitted.scale, fitted.shift) == (unmoved.scale, unmoved.shift)
    assert not torch.equal(fitted.latent, start)
    assert before > 0.05
    assert residual(moved.latent, moved.scale, moved.shift) < 0.1 * before
    torch.testing.assert_close(unmoved.latent, start)


@pytest.mark.parametrize(
    ('noise', 'resolution', 'upsampling'),
    [('zeros', None, 'bilinear'), ('zeros', 60, 'bilateral'), ('gaussian', 60, 'bilinear')],
)
def test_a_latent_that_is_not_moved_has_the_plain_map_fitted_to_the_points(
    scaled_checkpoint, rgb, noise, resolution, upsampling
):
    model, plainly = load_model(str(scaled_checkpoint), device='cpu'), EngineConfig(noise=noise)
    options = {'processing_resolution': resolution, 'denoising_steps': 2}
    plain = model.predict(rgb, engine=plainly, **options).relative
    sparse, engine = points(slope() + 20.0 * plain), replace(plainly, upsampling=upsampling)
    found = model.predict_guided(rgb, sparse, STILL, engine=engine, **options).relative
    affine_fit = np.polyfit(plain[sparse.v, sparse.u].astype(float), sparse.z, 1)
    if noise == 'gaussian':  # from the range of the points on
        affine_fit = np.ptp(sparse.z), sparse.z.min()
    fitted = np.polyval(affine_fit, model.predict(rgb, engine=engine, **options).relative)
    # All but a few cells, which a plain prediction clips.
    assert np.isclose(found, fitted, rtol=1e-4).mean() > 0.98


@pytest.mark.parametrize(
    ('gradients', 'options', 'timesteps'),
    [
        (10, {'denoising_steps': 4}, [999] * 2 + [749] * 3 + [499] * 2 + [249] * 3),
        (2, {}, [999, 499]),  # trailing, whatever the checkpoint says
        (2, {'engine': EngineConfig(timestep_spacing='leading')}, [501, 1]),
        (51, {}, [*range(999, 20, -20), 19, 19]),
    ],
)
def test_gradients_are_divided_among_the_steps(
    model, rgb, monkeypatch, gradients, options, timesteps
):
    leading = DDIMScheduler.from_config(model.scheduler.config, timestep_spacing='leading')
    monkeypatch.setattr(model, 'scheduler', leading)
    latents, seen = [], []

    def watch(_, given):
        latents.append(given[0])
        seen.append(int(given[1]))

    guided = GuidedConfig(steps=gradients)
    with model.unet.register_forward_pre_hook(watch):
        model.predict_guided(rgb, points(slope()), guided, processing_resolution=32, **options)
    assert seen == timesteps
    assert all(latent.requires_grad for latent in latents)


@pytest.mark.parametrize('noise', [pytest.param('gaussian', marks=pytest.mark.slow), 'zeros'])
@pytest.mark.parametrize('rate', [0.005, 0.1])
def test_guided_depth_beats_the_best_affine_fit_at_the_points(model, rgb, noise, rate):
    sparse, engine = points(slope()), EngineConfig(noise=noise)
    plain = model.predict(rgb, engine=engine).relative
    affine_fit = np.polyfit(plain[sparse.v, sparse.u], sparse.z, 1)
    guided = model.predict_guided(rgb, sparse, GuidedConfig(affine_rate=rate), engine=engine)
    assert guided.space == 'metric'
    assert guided.spread is None
    assert guided.relative.shape == rgb.shape[:2]
    assert misfit(guided.relative, sparse) < 0.6 * misfit(np.polyval(affine_fit, plain), sparse)


@pytest.mark.slow  # 86 gradients
def test_more_steps_are_never_worse_at_the_points(model, rgb):
    sparse, engine = points(slope()), EngineConfig(noise='zeros')
    residuals = [
        misfit(model.predict_guided(rgb, sparse, engine=engine, guided=guided).relative, sparse)
        for guided in map(GuidedConfig, (1, 5, 20, 60))
    ]
    for earlier, later in zip(residuals, residuals[1:], strict=False):
        assert later < 1.05 * earlier
    assert residuals[-1] < 0.5 * residuals[0]


@pytest.mark.parametrize(
    ('noise', 'space'),
    [
        ('gaussian', 'log'),
        ('zeros', 'disparity'),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (('gaussian', 'depth'), ('gaussian', 'disparity'), ('zeros', 'depth'))
        ),
        pytest.param('zeros', 'log', marks=pytest.mark.slow),
    ],
)
def test_k_times_the_metres_give_k_times_the_depth(copy, edit, rgb, space, noise):
    edit(copy / 'marigold_ros.json', space=space)
    model, engine = load_model(str(copy), device='cpu'), EngineConfig(noise=noise)
    sparse = points(slope()[:, ::-1] if space == 'disparity' else slope())
    far = replace(sparse, z=7.3 * sparse.z)
    one, other = (
        model.predict_guided(rgb, p, engine=engine, guided=FEW).relative for p in (sparse, far)
    )
    # Where disparity falls to nothing depth has no bound, and no digits.
    bounded = one < 100.0
    assert bounded.mean() > 0.5
    np.testing.assert_allclose(other[bounded], 7.3 * one[bounded], rtol=2e-3)
    limited = model.predict_guided(rgb, sparse, FEW, 9.0, engine=engine).relative
    expected = np.minimum(one, 9.0) if space == 'disparity' else one
    np.testing.assert_allclose(limited, expected, rtol=1e-6)


def test_a_seed_decides_and_plain_predictions_stay_as_they_were(model, rgb):
    before = model.predict(rgb, reference_exact=True).relative
    plain = model.predict(rgb).relative
    sparse = points(slope())
    first = model.predict_guided(rgb, sparse, seed=3, guided=FEW).relative
    np.testing.assert_array_equal(
        model.predict_guided(rgb, sparse, seed=3, guided=FEW).relative, first
    )
    other = model.predict_guided(rgb, sparse, seed=4, guided=FEW).relative
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(model.predict(rgb).relative, plain)
    np.testing.assert_array_equal(model.predict(rgb, reference_exact=True).relative, before)
    # Nor do weights that were laid out for the reference stop gradients.
    model.predict_guided(rgb, sparse, guided=FEW)


def test_a_guided_ensemble_has_a_spread(model, rgb):
    sparse = points(slope())
    answer = model.predict_guided(rgb, sparse, ensemble_size=3, guided=FEW)
    assert answer.relative.shape == answer.spread.shape == rgb.shape[:2]
    assert (answer.spread >= 0).all()
    assert answer.spread.max() > 0.01


def test_a_guided_ensemble_answers_in_metres(model, rgb):
    sparse, zeros = points(slope()), EngineConfig(noise='zeros')  # equal members
    one, three = (
        model.predict_guided(rgb, sparse, ensemble_size=n, guided=STILL, engine=zeros)
        for n in (1, 3)
    )
    np.testing.assert_allclose(three.relative, one.relative, rtol=1e-5)
    assert three.spread.max() < 1e-4


def test_checkpointing_changes_memory_and_not_the_answer(model, rgb):
    sparse = points(slope())
    plain, saved = (
        model.predict_guided(rgb, sparse, guided=replace(FEW, checkpointing=c)).relative
        for c in (False, True)
    )
    np.testing.assert_allclose(plain, saved, rtol=1e-4)
    assert not model.unet.is_gradient_checkpointing


@pytest.mark.parametrize(
    ('dtype', 'noise'),
    [
        ('float16', 'zeros'),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (('float16', 'gaussian'), ('bfloat16', 'zeros'), ('bfloat16', 'gaussian'))
        ),
    ],
)
def test_half_precision_guides_and_keeps_its_weights(small_checkpoint, model, rgb, dtype, noise):
    half = load_model(str(small_checkpoint), device='cpu', dtype=dtype)
    weights = {name: w.clone() for name, w in half.unet.state_dict().items()}
    sparse, engine = points(slope()), EngineConfig(noise=noise)
    answer = half.predict_guided(rgb, sparse, engine=engine).relative
    assert answer.dtype == np.float32
    exact = model.predict_guided(rgb, sparse, engine=engine).relative
    assert misfit(answer, sparse) < 1.2 * misfit(exact, sparse)
    assert half.dtype == half.text.dtype == getattr(torch, dtype)
    for name, weight in half.unet.state_dict().items():
        assert torch.equal(weight, weights[name]), name


NOTHING = np.zeros(0, int)


@pytest.mark.parametrize(
    ('sparse', 'words'),
    [
        (SparseDepth(NOTHING, NOTHING, np.zeros(0, np.float32)), '0 usable points of 0'),
        (SparseDepth([1, 2], [3, 4], np.array([2.0, 5.0])), '2 usable points'),
        (SparseDepth([1, 2, 3], [3, 4, 5], np.full(3, 4.0)), 'different depths'),
        (SparseDepth([1, 2, 3], [3, 4, 5], np.array([4.0, np.nan, -1.0])), '1 usable points'),
        (SparseDepth([1, 2, 96], [3, 4, 5], np.array([1.0, 2, 3])), 'camera'),
        (SparseDepth([1, -2, 3], [3, 4, 5], np.array([1.0, 2, 3])), 'camera'),
        (SparseDepth([1, 2, 3], [3, 72, 5], np.array([1.0, 2, 3])), 'camera'),
    ],
)
def test_points_that_cannot_guide_are_refused(model, rgb, sparse, words):
    with pytest.raises(AlignmentError, match=words):
        model.predict_guided(rgb, sparse)


def test_points_that_contradict_a_denoised_map_are_refused(model, rgb):
    engine = EngineConfig(noise='zeros')
    plain = model.predict(rgb, engine=engine).relative
    with pytest.raises(AlignmentError, match='pairing'):
        model.predict_guided(rgb, points(10.0 - 5.0 * plain), engine=engine)


def test_a_map_that_is_flat_at_the_points_is_refused():
    wanted = torch.linspace(0.0, 1.0, 9)
    assert affine_fit(0.1 + 0.01 * wanted, wanted) == pytest.approx((100.0, -10.0), rel=1e-4)
    with pytest.raises(AlignmentError, match='varies by 0.0003'):
        affine_fit(0.1 + 0.001 * wanted, wanted)


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'runtime': RuntimeConfig(backend='openvino')}, 'runtime.backend openvino.*torch and'),
        ({'runtime': RuntimeConfig(compile='auto')}, 'runtime.compile auto'),
        ({'scheduler': LCMScheduler()}, 'LCM'),
    ],
)
def test_networks_without_gradients_are_refused_with_the_remedy(model, rgb, changed, words):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setattr(model, name, value)
        with pytest.raises(ConfigurationError, match=words):
            model.predict_guided(rgb, points(slope()))


def test_too_little_memory_is_an_error_that_names_the_remedy(model, rgb, monkeypatch):
    def preview(latent):
        raise torch.OutOfMemoryError('no')

    monkeypatch.setattr(model, 'preview', preview)
    with pytest.raises(InputError, match='guided.checkpointing') as caught:
        model.predict_guided(rgb, points(slope()))
    assert caught.value.cause == 'size'


@pytest.mark.parametrize(
    'wrong', [{'ensemble_size': 0}, {'denoising_steps': 51}, {'seed': -1}], ids=str
)
def test_arguments_out_of_range_are_refused(model, rgb, wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        model.predict_guided(rgb, points(slope()), **wrong)


def test_what_is_no_image_is_refused(model, rgb):
    with pytest.raises(InputError, match='an image is'):
        model.predict_guided(rgb / np.float32(255), points(slope()))
