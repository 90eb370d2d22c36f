# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Open a page in the browser for photos, videos and bags: depth to look at, reports, a live view.

Nothing leaves this machine, and only who has the token in the printed address can open the page,
from other machines too with --host. Uploads are deleted at the end, which is Ctrl-C.
"""

import argparse
from typing import Any

from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_option,
    add_setting_option,
    integer,
    load_chosen_model,
    read_settings,
    RuntimeSettings,
)
from marigold_ros.commands.terminal.output import note
from marigold_ros.errors import needing, UsageError

_MEGABYTE = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    text = 'address to listen on, such as 0.0.0.0 for all'
    add_option(parser, '--host', str, 'ADDRESS', text, '127.0.0.1')
    add_option(parser, '--port', integer(0, 65535), 'N', 'port; 0 is any free one', 8090)
    add_option(parser, '--max-upload', integer(1), 'MB', 'largest video or bag', 2000)
    add_model_options(parser)
    add_setting_option(parser, RuntimeSettings)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    runtime = read_settings(RuntimeSettings, args.settings).runtime
    if not args.host:  # which would be all addresses
        raise UsageError('--host is empty; give an address, such as 127.0.0.1 or 0.0.0.0')
    with needing('the page', 'pip install starlette uvicorn'):
        from marigold_ros.web.server import run_server
    from marigold_ros.web.uploads import Limits

    def load(name: str) -> Any:
        vae = args.vae if name == args.model else ''
        return load_chosen_model(args, runtime, model=name, vae=vae)

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
