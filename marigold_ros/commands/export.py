# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write a model as one ONNX network, for runtimes without PyTorch.

  python -m marigold_ros export tiny --onnx tiny.onnx --size 480x640

The network takes `image`, (1, 3, H, W) float32 RGB in [0, 1], and returns `relative`,
(1, 1, H, W); its metadata name the space. H and W are those at which the model sees images of
--size: the network has this size only, and the caller resizes. The depth is compared with
PyTorch's first; the exit code is 1, and nothing is written, if it differs.
"""

import argparse
import signal

from marigold_ros.commands.terminal.options import add_option, check_file, image_size
from marigold_ros.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('model', metavar='MODEL', help='name, folder or hub id')
    add_option(parser, '--onnx', str, 'OUT', 'the file, as tiny.onnx', required=True)
    add_option(parser, '--size', image_size('HxW'), 'HxW', "of the camera's images", (480, 640))
    add_option(parser, '--vae', str, 'PATH', 'another autoencoder')


def run(args: argparse.Namespace) -> int:
    """Export, check and print; return the exit code."""
    from marigold_ros.config import RuntimeConfig
    from marigold_ros.models import load_model
    from marigold_ros.models.onnx_export import export_model

    path = check_file('--onnx', args.onnx)
    if path.exists() and not path.is_file():  # a device, as /dev/null, would be replaced
        raise ConfigurationError(f"--onnx '{path}' is no file; give a file, as tiny.onnx")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which leaves no draft
    model = load_model(args.model, 'cpu', 'float32', args.vae, RuntimeConfig(backend='torch'))
    done = export_model(model, path, *args.size)
    height, width = done['size']
    print(
        f'{path}: image (1, 3, {height}, {width}) to relative (1, 1, {height}, {width}), space '
        f"{model.space}; depth differs from PyTorch's by {done['difference']:.1g} of the largest"
    )
    return 0
