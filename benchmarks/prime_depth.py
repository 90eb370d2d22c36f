# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Time a frame of PrimeDepth against one denoising step and decoding with the same networks.

    python benchmarks/prime_depth.py --model runs/prime/prime-depth-tiny
    python benchmarks/prime_depth.py --narrow 4 --size 384x512

--narrow has random networks in the shape of Stable Diffusion 2 with so many times fewer channels,
and the published label decoder, narrowed as much. A frame is encoding, the pass through the frozen
U-Net with its features and attention maps, refiner and label decoder. Both sides take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
import sys
from time import perf_counter
from typing import Any

from marigold_ros.threads import settle_threads

settle_threads()

PARTS = ('encode', 'U-Net with maps', 'refiner', 'frame', 'U-Net', 'decode')


def main() -> int:
    """Load or build the networks, time both sides, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument('--model', help='folder of a PrimeDepth')
    chosen.add_argument('--narrow', type=int, help='divisor of 8 and of the channels of SD 2')
    parser.add_argument('--size', default='144x192', help='of the image, HxW (default: 144x192)')
    parser.add_argument('--rounds', type=int, default=10, help='default: 10')
    parser.add_argument('--threads', type=int, default=1, help='default: 1')
    args = parser.parse_args()

    from marigold_ros.errors import MarigoldError
    from marigold_ros.models import use_threads
    from marigold_ros.models.locate import find_folder
    from marigold_ros.models.prime_depth.checkpoint import load_refiner
    import torch

    use_threads(args.threads)
    height, width = (int(side) for side in args.size.split('x'))
    try:
        base, refiner = (
            load_refiner(find_folder(args.model)) if args.model else narrow_networks(args.narrow)
        )
        image = torch.rand(1, 3, height, width) * 2.0 - 1.0
        with torch.inference_mode():
            times = measure(base, refiner, image, args.rounds)
    except MarigoldError as error:
        print(f'prime_depth: {error}', file=sys.stderr)
        return 1
    for name in PARTS:
        print(f'{name:16} {1e3 * median(times[name]):9.1f} ms')
    ratios = [
        frame / (step + decode)
        for frame, step, decode in zip(*(times[n] for n in PARTS[3:]), strict=True)
    ]
    print(f'frame / (U-Net + decode), median of {args.rounds} rounds: {median(ratios):.2f}')
    return 0


def narrow_networks(divisor: int) -> tuple[Any, Any]:
    """Build networks in the shape of Stable Diffusion 2 with fewer channels, and a refiner."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from marigold_ros.models.prime_depth.checkpoint import FrozenBase
    from marigold_ros.models.prime_depth.refiner import Refiner
    from marigold_training.families.prime_depth import DECODER, LAYERS

    unet = UNet2DConditionModel(
        block_out_channels=tuple(side // divisor for side in (320, 640, 1280, 1280)),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        norm_num_groups=32 // divisor,
        use_linear_projection=True,
    )
    decoder = [side // divisor for side in DECODER]
    autoencoder = AutoencoderKL(
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
        block_out_channels=tuple(decoder),
        layers_per_block=2,
        norm_num_groups=32 // divisor,
    )
    base = FrozenBase('random', Path('random'), '', autoencoder.eval(), unet.eval())
    return base, Refiner(unet.config, 2, decoder, LAYERS).eval()


def measure(base: Any, refiner: Any, image: Any, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each part in each round, after one round to warm up."""
    from marigold_ros.models.prime_depth.preimage import read_preimage as read
    import torch

    times: dict[str, list[float]] = {name: [] for name in PARTS}
    channels = base.autoencoder.config.latent_channels
    noise = torch.randn(base.noise_shape(image.shape[-2], image.shape[-1]))
    latent = noise[1]
    both = latent.repeat(1, base.unet.config.in_channels // channels, 1, 1)

    def timed(name: str, function: Callable[..., Any], *given: Any) -> Any:
        began = perf_counter()
        found = function(*given)
        times[name].append(perf_counter() - began)
        return found

    for _ in range(rounds + 1):
        timed('frame', lambda: refiner(base.preimage(image, refiner.text, noise)))
        timed('U-Net', base.unet, both, 1, refiner.text)
        timed('decode', base.autoencoder.decode, latent)
        timed('encode', base.autoencoder.encode, image)
        timed('refiner', refiner, timed('U-Net with maps', read, base.unet, latent, refiner.text))
    return {name: values[1:] for name, values in times.items()}


if __name__ == '__main__':
    raise SystemExit(main())
