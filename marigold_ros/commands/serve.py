# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Open a page in the browser for photos, videos and bags: depth to look at, reports, a live view.

Nothing leaves this machine, and only this machine can open the page. With --host others can too,
by the token in the address that is printed. Uploads are deleted at the end, which is Ctrl-C.
"""

from __future__ import annotations

import argparse
from typing import Any

from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_setting_option,
    at_least,
    load_chosen_model,
    read_settings,
    RuntimeSettings,
)
from marigold_ros.commands.terminal.output import note
from marigold_ros.errors import MarigoldError

_MEGABYTE = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='address to listen on, such as 0.0.0.0 for all (default: %(default)s)',
    )
    parser.add_argument(
        '--port',
        type=port_number,
        default=8090,
        metavar='N',
        help='port; 0 is any free one (default: %(default)s)',
    )
    parser.add_argument(
        '--max-upload',
        type=at_least(1),
        default=2000,
        metavar='MB',
        help='largest video or bag (default: %(default)s)',
    )
    add_model_options(parser)
    add_setting_option(parser, RuntimeSettings)


def port_number(text: str) -> int:
    """Parse a port."""
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}' is no port; give a number from 0 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    runtime = read_settings(RuntimeSettings, args.settings).runtime
    try:
        from marigold_ros.web.server import run_server
    except ImportError as error:
        if (error.name or '').startswith('marigold_ros'):
            raise
        raise MarigoldError(
            f'the page needs {error.name}, which is missing: pip install starlette uvicorn'
        ) from error
    from marigold_ros.web.uploads import Limits

    def load(name: str) -> Any:
        vae = args.vae if name == args.model else ''
        chosen = argparse.Namespace(**{**vars(args), 'model': name, 'vae': vae})
        return load_chosen_model(chosen, runtime)

    limits = Limits(other=args.max_upload * _MEGABYTE)
    run_server(
        args.host,
        args.port,
        limits,
        load,
        args.model,
        lambda address: note(f'open {address} in a browser; Ctrl-C ends'),
    )
    return 0
