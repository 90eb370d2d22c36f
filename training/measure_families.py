# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure the processor time of an image by networks of published sizes, with random weights.

    python training/measure_families.py unet depth-anything-small
    python training/measure_families.py dpt-large --backend openvino

A name is a size below, an embedded checkpoint or a folder. Seconds are of all cores together, so
that other work on the machine changes them little; the first image is not counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from marigold_ros.commands.terminal.options import image_size, integer
from marigold_ros.threads import settle_threads

settle_threads()

# width, layers, heads, and their outputs; neck, width of fusion: Depth Anything v2
VISION = {
    'small': (384, 12, 6, [3, 6, 9, 12], [48, 96, 192, 384], 64),
    'base': (768, 12, 12, [3, 6, 9, 12], [96, 192, 384, 768], 128),
    'large': (1024, 24, 16, [5, 12, 18, 24], [256, 512, 1024, 1024], 256),
}
SIZES = {
    **{f'depth-anything-{size}': ('DepthAnything', size) for size in VISION},
    **{f'prompt-depth-anything-{size}': ('PromptDepthAnything', size) for size in VISION},
    'dpt-large': ('DPT', ''),
    'glpn': ('GLPN', ''),
    'zoedepth': ('ZoeDepth', ''),
    'diffusion-depth-swin-large': ('', 'kitti.yaml'),
}
RECIPES = Path(__file__).parents[0] / 'recipes' / 'diffusion_depth'
DPT_SIZE = {'image_processor_type': 'DPTImageProcessor', 'keep_aspect_ratio': True}


def main() -> int:
    """Build, load and time each, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='+', metavar='NAME', help=', '.join(SIZES))
    parser.add_argument('--backend', default='torch', help='torch, openvino (default: torch)')
    parser.add_argument(
        '--size',
        type=image_size('HxW'),
        default=(480, 640),
        help='of the image, HxW (default: 480x640)',
    )
    parser.add_argument('--runs', type=integer(1), default=3, help='images (default: 3)')
    args = parser.parse_args()

    from marigold_ros.config import RuntimeConfig
    from marigold_ros.errors import MarigoldError
    from marigold_ros.models import load_model, use_threads
    import numpy as np

    use_threads(2)
    height, width = args.size
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for name in args.names:
        with TemporaryDirectory() as folder:
            if name in SIZES:
                write_random(Path(folder), *SIZES[name])
            try:
                runtime = RuntimeConfig(backend=args.backend)
                source = folder if name in SIZES else name
                model: Any = load_model(source, 'cpu', 'float32', runtime=runtime)
                model.predict(rgb)
                began = process_time()
                for _ in range(args.runs):
                    model.predict(rgb)
            except MarigoldError as error:
                print(f'measure_families: {error}', file=sys.stderr)
                return 1
        each = (process_time() - began) / args.runs
        seen = 'x'.join(map(str, model.processing_size(height, width, None)))
        weights = model.parameters / 1e6
        print(f'{name:28} {weights:6.1f} M weights, {seen:>9}: {each:7.2f} core s', flush=True)
    return 0


def write_random(folder: Path, kind: str, size: str) -> None:
    """Write a folder of random weights of a published size."""
    if not kind:
        write_diffusion_depth(folder, RECIPES / size)
        return
    import transformers

    network = getattr(transformers, f'{kind}ForDepthEstimation')
    config = getattr(transformers, f'{kind}Config')
    processor: dict[str, Any] = {'image_processor_type': f'{kind}ImageProcessor'}
    if size:
        width, layers, heads, outputs, neck, fusion = VISION[size]
        backbone = transformers.Dinov2Config(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            image_size=518,
            patch_size=14,
            out_indices=outputs,
            reshape_hidden_states=False,
        )
        necks = {'neck_hidden_sizes': neck, 'fusion_hidden_size': fusion}
        made = config(backbone_config=backbone, reassemble_hidden_size=width, **necks)
        processor |= {'ensure_multiple_of': 14, 'size': {'height': 518, 'width': 518}}
        processor |= DPT_SIZE if kind == 'DepthAnything' else {'keep_aspect_ratio': True}
    elif kind == 'DPT':
        vision = {'hidden_size': 1024, 'num_hidden_layers': 24, 'num_attention_heads': 16}
        outputs = {'backbone_out_indices': [5, 11, 17, 23], 'is_hybrid': False}
        necks = {'neck_hidden_sizes': [256, 512, 1024, 1024], 'intermediate_size': 4096}
        made = config(**vision, **outputs, **necks)
    elif kind == 'GLPN':
        sizes = {'hidden_sizes': [64, 128, 320, 512], 'depths': [3, 8, 27, 3]}
        made = config(**sizes, decoder_hidden_size=64)
        processor['size_divisor'] = 32
    else:
        bins = {'name': 'nyu', 'n_bins': 64, 'min_depth': 1e-3, 'max_depth': 10.0}
        made = config(bin_configurations=[bins])
    network(made).save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps(processor))
    # Random networks predict no disparity whose unit could be measured.
    (folder / 'marigold_ros.json').write_text('{"disparity_unit": 1.0}')


def write_diffusion_depth(folder: Path, recipe: Path) -> None:
    """Write a DiffusionDepth as a recipe says, its backbone random."""
    from marigold_training.families.diffusion_depth import FAMILY
    import yaml

    values = yaml.safe_load(recipe.read_text(encoding='utf-8'))
    values['init']['weights'] = 'random'
    chain = FAMILY.initialise(values, 0)
    FAMILY.export(folder, chain.eval(), values['facts'], '')


if __name__ == '__main__':
    raise SystemExit(main())
