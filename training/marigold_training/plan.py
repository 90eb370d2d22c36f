# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Cost of a recipe before it starts: FLOP and peaks of memory of its stages, hours on this machine.

The first two are counted on networks without weights. FLOP, weights, gradients, Adam's moments
and the average are exact; activations are an estimate: each layer's output is kept once, with 4
bytes a number for norms and activation functions, 2 for convolutions and products in half
precision, plus the cast weights that the backward pass needs; attention keeps no matrix of tokens
by tokens.
The memory of driver and allocator is not included (usually half a GB and a tenth).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
import math
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import EMBEDDED
from marigold_ros.models.benchmarks.measuring import PER_STEP, work_of_frame
from marigold_ros.models.benchmarks.random_networks import empty_networks
from marigold_ros.models.locate import FUSION, PROMPT, read_json
from marigold_ros.models.marigold.memory import autoencoder_bytes
from marigold_ros.models.marigold.prompt import PointPrompt
from marigold_ros.models.prime_depth.checkpoint import FrozenBase
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.runtime.usage import free_memory
from marigold_ros.models.weights import count_parameters
from marigold_training.data.mixture import in_multiples, MULTIPLE
from marigold_training.families.marigold import ADAPTERS
from marigold_training.families.prime_depth import DECODER, LAYERS
from marigold_training.networks.initialise import initialise, prompt_width
from marigold_training.objectives.adapters import add_adapters, has_adapters, OWN
from marigold_training.objectives.trained_networks import ENCODED_PIXELS
from marigold_training.run.recipe import network_of, read_recipe
from marigold_training.run.stages import read_stages, Stage
from marigold_training.run.step_time import networks_to_time, time_steps
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Networks = tuple[Any, ...]  # U-Net, autoencoder, and the prompt where there is one
EMPTY_TOKENS = 2  # of the empty prompt
Size = tuple[int, int]
# Objectives through the decoder.
ONE_STEP = ('pixel', 'anchored', 'e2e', 'l1_gradient')
PRODUCTS = (nn.Conv2d, nn.Linear)  # computed in two bytes in half precision
NOTHING_KEPT = (nn.Dropout, nn.Identity)
TIMED, TIME_LIMIT_S = 10, 60.0  # steps of a stage, and after which one is enough
_MARGIN = 1.25  # of memory, for what is estimated
_LARGE = 5e9  # bytes from which on a batch takes a CPU as many times as long as an image


@dataclass(frozen=True)
class StagePlan:
    """Cost of a stage: images, mean FLOP of an image, bytes of memory by purpose."""

    name: str
    images: int
    flop: float
    memory: dict[str, float]


def plan_recipe(path: Path, half: bool = True) -> tuple[tuple[Any, ...], list[StagePlan]]:
    """
    Plan all stages of a recipe file on one device, without its data and weights.

    Returns the networks, without weights unless small, and the plans; neither of small families,
    whose hours say enough. Networks of a folder that
    does not exist are assumed to have the shape of Stable Diffusion 2.
    """
    recipe = read_recipe(path)
    network = network_of(recipe)
    if network == FUSION or 'student' in recipe:
        raise ConfigurationError(
            f'--plan is for depth models; what {path.name} trains is small: leave it out'
        )
    if network not in ('marigold', 'prime_depth'):
        return (), []
    stages = read_stages(recipe['stages'], recipe.get('common', {}))
    averaged = any(stage.average for stage in stages)
    if network == 'prime_depth':
        base, refiner = refiner_of(recipe)
        plans = [plan_refiner(recipe, stage, base, refiner, half, averaged) for stage in stages]
        return (base.unet, base.autoencoder, refiner), plans
    networks: Networks = networks_of(recipe)
    if recipe.get(ADAPTERS):
        add_adapters(networks[0], recipe[ADAPTERS], 0)
    if any(PROMPT in stage.trains for stage in stages):
        channels = networks[1].config.block_out_channels
        networks = *networks, PointPrompt(channels, prompt_width(recipe['init']))
    plans = []
    for stage in stages:
        sizes = sizes_of(recipe['sources'], stage.scale)
        total = sum(weight for weight, _ in sizes)
        flop = sum(w * work_of_image(stage, networks, size) for w, size in sizes) / total
        largest = max((size for _, size in sizes), key=lambda size: size[0] * size[1])
        plans.append(
            StagePlan(
                stage.name,
                stage.steps * stage.batch_size * stage.accumulation,
                flop,
                memory_of(stage, networks, largest, half, averaged),
            )
        )
    return networks, plans


def networks_of(recipe: Mapping[str, Any]) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """Return U-Net and autoencoder of a recipe's ``init`` without downloads."""
    entry = recipe['init']
    path = str(entry.get('path', ''))
    if entry.get('kind') == 'small':
        chain = initialise(entry, 0, recipe['facts']['space'])
        return chain.unet, chain.autoencoder
    for folder in (EMBEDDED / path, Path(path).expanduser()):
        if entry.get('kind') == 'checkpoint' and (folder / 'unet' / 'config.json').is_file():
            with torch.device('meta'):
                return (
                    UNet2DConditionModel.from_config(read_json(folder / 'unet' / 'config.json')),
                    AutoencoderKL.from_config(read_json(folder / 'vae' / 'config.json')),
                )
    return empty_networks()


def refiner_of(recipe: Mapping[str, Any]) -> tuple[FrozenBase, Refiner]:
    """Return the frozen networks and the refiner of a recipe of PrimeDepth, without weights."""
    entry = recipe['init']
    if not isinstance(entry.get('base'), str):
        raise ConfigurationError('--plan of a PrimeDepth needs init.base, the frozen checkpoint')
    sizes = entry.get('decoder', DECODER), entry.get('layers', LAYERS)
    unet, autoencoder = networks_of({'init': {'kind': 'checkpoint', 'path': entry['base']}})
    with torch.device('meta'):
        refiner = Refiner(unet.config, EMPTY_TOKENS, *sizes)
    return FrozenBase(entry['base'], Path(entry['base']), '', autoencoder, unet), refiner


def plan_refiner(
    recipe: Mapping[str, Any],
    stage: Stage,
    base: FrozenBase,
    refiner: Refiner,
    half: bool,
    averaged: bool,
) -> StagePlan:
    """Count the cost of a stage of a PrimeDepth: the frozen pass once, the refiner three times."""
    flops, kept = [], {}
    sizes = sizes_of(recipe['sources'], stage.scale)
    for weight, (height, width) in sizes:
        image = torch.empty(1, 3, height, width, device='meta')
        frozen, trained = FlopCounterMode(display=False), FlopCounterMode(display=False)
        with frozen:
            noise = torch.empty(base.noise_shape(height, width), device='meta')
            preimage = base.preimage(image, refiner.text, noise)
        counter = KeptBytes(half)
        handles = counter.watch(refiner, False)
        with trained:
            refiner(preimage)
        for handle in handles:
            handle.remove()
        flops.append(weight * (frozen.get_total_flops() + 3 * trained.get_total_flops()))
        read = [x for x in (*preimage.features, *preimage.maps) if x is not None]
        held = counter.total + counter.product * sum(x.numel() for x in read)
        encoding = autoencoder_bytes(base.autoencoder, (height, width), counter.product)
        kept[height * width] = (stage.batch_size * encoding, stage.batch_size * held)
    own, frozen_weights = count_parameters(refiner), count_parameters(base.autoencoder, base.unet)
    memory = _bytes(own + frozen_weights, own, own * averaged, *kept[max(kept)])
    images = stage.steps * stage.batch_size * stage.accumulation
    return StagePlan(stage.name, images, sum(flops) / sum(w for w, _ in sizes), memory)


def sizes_of(sources: Sequence[Mapping[str, Any]], scale: float) -> list[tuple[float, Size]]:
    """Return weight and image size (H, W) of each source in a stage."""
    found = []
    for entry in sources:
        height, width = (side * scale for side in entry['size'])
        weight = float(entry.get('weight', entry.get('count', 1)))
        found.append((weight, in_multiples((height, width))))
    return found


def work_of_image(stage: Stage, networks: Networks, size: Size) -> float:
    """
    Count the FLOP of one image, forward and backward.

    The backward pass costs two forward passes, one through frozen layers and those with adapters;
    gradient checkpointing adds a forward pass.
    """
    work = _forward_work(networks, size)
    encode, unet, decode = work['encode'], work[PER_STEP], work['decode']
    again = float(stage.gradient_checkpointing)
    trained, passed = 3.0 + again, 2.0 + again
    if stage.objective == 'autoencoder':
        return 2.0 * trained * (encode + decode)
    denoising = passed if has_adapters(networks[0]) else trained
    if stage.objective not in ONE_STEP:
        return 2.0 * encode + denoising * unet
    own, denoises = 'autoencoder' in stage.trains, 'unet' in stage.trains
    total = (trained if own else 1.0) * encode + (denoising if denoises else 1.0) * unet
    total += (trained if own else passed) * decode
    if PROMPT in stage.trains:
        total += trained * (_prompted_work(networks, size) - decode)
    if stage.objective == 'anchored':  # to the map of the initial networks
        total += encode + unet + decode
    # The depth image is encoded as a target of the latent, see `pixel_loss`.
    latent = stage.objective in ('pixel', 'anchored') and denoises and not own
    return total + (encode if latent else 0.0)


def _prompted_work(networks: Networks, size: Size) -> float:
    with FlopCounterMode(display=False) as counter:
        _decode_with_points(networks, size, 1, lambda *_: None)
    return float(counter.get_total_flops())


def _decode_with_points(
    networks: Networks, size: Size, batch: int, watch: Callable[[Any, bool], Any]
) -> None:
    """Decode latents for images (H, W) with points, by copies that ``watch`` gets before."""
    _, like, prompt = networks
    with torch.device('meta'):
        autoencoder = AutoencoderKL.from_config(like.config).train()
        own = PointPrompt(like.config.block_out_channels, prompt.width)
        height, width = (side // MULTIPLE for side in size)
        latent = torch.empty(batch, like.config.latent_channels, height, width)
        raster = torch.empty(batch, 2, *size)
    watch(autoencoder, True)
    watch(own, False)
    own.decode(autoencoder, latent, raster)


def _forward_work(networks: Networks, size: Size) -> dict[str, float]:
    unet, autoencoder = networks[:2]
    model: Any = SimpleNamespace(  # what is counted needs no weights
        unet=unet,
        autoencoder=autoencoder,
        kinds=(type(unet), type(autoencoder)),
        factor=MULTIPLE,
        text=torch.empty(1, 2, unet.config.cross_attention_dim, device='meta'),
    )
    return work_of_frame(model, size, 1, 1)


def memory_of(
    stage: Stage, networks: Networks, size: Size, half: bool, averaged: bool = False
) -> dict[str, float]:
    """
    Count the bytes of a stage at image size (H, W) on one device, by purpose, and the peak.

    Encoding precedes the activations: the peak includes the larger. ``averaged``: whether any
    stage of the run averages its weights.
    """
    parts = dict(zip(('unet', 'autoencoder', PROMPT), networks, strict=False))
    trained = sum(trained_parameters(parts[name]) for name in stage.trains)
    itemsize = 2 if half else 4
    together = min(2 * stage.batch_size, max(1, ENCODED_PIXELS // (size[0] * size[1])))
    own = count_parameters(*networks)
    copies = 2 if stage.objective == 'anchored' else 1  # those trained, and the initial ones
    encoding = together * autoencoder_bytes(networks[1], size, itemsize)
    if stage.objective == 'autoencoder':
        encoding = 0  # included in the activations
    activations = activations_of(stage, networks, size, half)
    return _bytes(copies * own, trained, own * averaged, encoding, activations)


def _bytes(
    weights: int, trained: int, averaged: int, encoding: float, activations: float
) -> dict[str, float]:
    """Return the bytes of numbers of weights by purpose, and their peak."""
    held = {
        'weights': 4.0 * weights,
        'gradients': 4.0 * trained,
        'moments': 8.0 * trained,
        'average': 4.0 * averaged,
    }
    peak = sum(held.values()) + max(encoding, activations)
    return {**held, 'encoding': float(encoding), 'activations': activations, 'peak': peak}


def trained_parameters(network: nn.Module) -> int:
    """Return the number of weights that training changes: of adapters, where there are some."""
    adapters = [w.numel() for name, w in network.named_parameters() if OWN in name]
    return sum(adapters) if adapters else count_parameters(network)


def activations_of(stage: Stage, networks: Networks, size: Size, half: bool) -> float:
    """Estimate the bytes that a batch keeps for the backward pass."""
    kept = KeptBytes(half)
    if stage.trains == (PROMPT,):

        def watch(network: Any, may_repeat: bool) -> None:
            kept.watch(network, may_repeat and stage.gradient_checkpointing)

        _decode_with_points(networks, size, stage.batch_size, watch)
        return kept.total
    with torch.device('meta'):
        unet, autoencoder = (type(net).from_config(net.config).train() for net in networks[:2])
        # Images and depth images, where the autoencoder is trained.
        batch = stage.batch_size * (2 if stage.objective == 'autoencoder' else 1)
        height, width = (side // MULTIPLE for side in size)
        latent = torch.empty(batch, autoencoder.config.latent_channels, height, width)
        image = torch.empty(batch, 3, *size)
        text = torch.empty(batch, 2, unet.config.cross_attention_dim)
        moment = torch.zeros((), dtype=torch.long)
    for network in (unet, autoencoder):
        kept.watch(network, stage.gradient_checkpointing)
    if stage.objective == 'autoencoder':
        autoencoder.encode(image)
        autoencoder.decode(latent)
        return kept.total
    unet(torch.cat([latent, latent], 1), moment, text)
    if stage.objective in ONE_STEP:
        autoencoder.decode(latent)
        if 'autoencoder' in stage.trains:
            autoencoder.encode(image)
    return kept.total


class KeptBytes:
    """Counts the bytes that networks keep for the backward pass."""

    def __init__(self, half: bool) -> None:
        self.product = 2 if half else 4
        self._bytes = self._largest = 0.0

    @property
    def total(self) -> float:
        """Bytes kept, including the largest block that is recomputed."""
        return self._bytes + self._largest

    def watch(self, network: Any, checkpointing: bool) -> list[Any]:
        """Count what a network keeps from now on, through hooks; returns their handles."""
        if checkpointing:
            network.enable_gradient_checkpointing(self._again)
        return [
            layer.register_forward_hook(self._count)
            for layer in network.modules()
            if not list(layer.children()) and not isinstance(layer, NOTHING_KEPT)
        ]

    def _count(self, layer: nn.Module, _given: Any, output: Any) -> None:
        product = isinstance(layer, PRODUCTS)
        if isinstance(output, torch.Tensor):
            self._bytes += output.numel() * (self.product if product else 4)
        if product and self.product == 2:
            self._bytes += 2 * count_parameters(layer)

    def _again(self, block: Callable[..., Any], *given: Any) -> Any:
        """Run a block of which only the output is kept."""
        before = self._bytes
        output = block(*given)
        self._largest = max(self._largest, self._bytes - before)
        tensors = output if isinstance(output, tuple) else (output,)
        self._bytes = before + sum(self.product * x.numel() for x in tensors)
        return output


def format_plan(networks: Sequence[nn.Module], plans: Sequence[StagePlan]) -> str:
    """Format plans as text."""
    sizes = [count_parameters(network) / 1e6 for network in networks]
    third = 'prompt' if isinstance(networks[-1], PointPrompt) else 'refiner'
    named = zip(('U-Net', 'autoencoder', third), sizes, strict=False)
    lines = ['parameters: ' + ', '.join(f'{name} {size:.1f} M' for name, size in named)]
    for plan in plans:
        lines.append(
            f'{plan.name}: {plan.images} images of {_flop(plan.flop)} are '
            f'{_flop(plan.images * plan.flop)}'
        )
        memory = ', '.join(f'{name} {value / 1e9:.2f}' for name, value in plan.memory.items())
        lines.append(f'  memory in GB: {memory}')
    total = sum(plan.images * plan.flop for plan in plans)
    peak = max(plan.memory['peak'] for plan in plans)
    lines.append(f'in all {_flop(total)}; peak of memory {peak / 1e9:.1f} GB')
    return '\n'.join(lines)


def _flop(value: float) -> str:
    """Format FLOP with a prefix."""
    for prefix, unit in (('E', 1e18), ('P', 1e15), ('T', 1e12)):
        if value >= unit:
            return f'{value / unit:.2f} {prefix}FLOP'
    return f'{value / 1e9:.2f} GFLOP'


def hours_of(path: Path, plans: Sequence[StagePlan], accelerator: Accelerator) -> str:
    """
    Time ten steps of each stage of a recipe file; say in words how long it trains here.

    ``plans`` are its plans, if there are any: what needs more memory than is free is not tried.
    """
    needed = max((plan.memory['peak'] for plan in plans), default=0.0)
    free = free_memory(accelerator.device)
    if free is not None and needed * _MARGIN > free:
        return (
            f'hours were not measured: {needed / 1e9:.1f} GB of memory are needed, and '
            f'{free / 1e9:.1f} are free; plan on the machine that is to train'
        )
    recipe, hours = read_recipe(path), {}
    chain = networks_to_time(recipe)
    for stage in read_stages(recipe['stages'], recipe.get('common', {})):
        if stage.objective == 'anchored':
            chain.start = (deepcopy(chain).requires_grad_(False).eval(),)
        sizes = sizes_of(recipe['sources'], stage.scale)
        largest = max((size for _, size in sizes), key=math.prod)
        pixels = sum(weight * math.prod(size) for weight, size in sizes)
        share = pixels / sum(weight for weight, _ in sizes) / math.prod(largest)
        images = stage.batch_size if needed > _LARGE and accelerator.device.type == 'cpu' else 1
        once = replace(stage, accumulation=1, batch_size=stage.batch_size // images)
        seconds = median(time_steps(chain, once, largest, accelerator, TIMED, TIME_LIMIT_S))
        hours[stage.name] = images * seconds * share * stage.steps * stage.accumulation / 3600
    each = ', '.join(f'{name} {value:.2g}' for name, value in hours.items())
    return (
        f'hours on this machine: {sum(hours.values()):.2g} ({each}), from {TIMED} steps of each '
        'stage on random images; rendering, loading and validation come beside them'
    )
