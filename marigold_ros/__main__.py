# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The command line: ``python -m marigold_ros COMMAND``.

Only the chosen command's module is imported, and that module imports torch, OpenCV or ROS only
once it runs; so ``--help`` is instant. Unknown errors keep their traceback.
"""

import argparse
import codecs
from collections.abc import Iterable, Sequence
from contextlib import suppress
import errno
from importlib import import_module
from importlib.metadata import entry_points, PackageNotFoundError, version
from importlib.util import find_spec
import json
import os
import select
import sys
from types import ModuleType
from typing import TextIO

from marigold_ros.commands.terminal.help_text import CommandParser, WrappedHelp
from marigold_ros.errors import MarigoldError, UsageError
from marigold_ros.settings import nearest
from marigold_ros.threads import settle_memory, settle_threads

COMMANDS = {
    'demo': 'run the real node over DDS on a synthetic drive or a bag, score it, draw a report',
    'node': 'run the ROS 2 node',
    'predict': 'write relative depth for images, without ROS',
    'serve': 'open a page in the browser for photos, videos and bags',
    'inspect': 'show what a bag holds for depth, and the command to run next',
    'evaluate': 'replay bags through the pipeline and score it, without ROS',
    'compare': 'compare results of evaluate, with confidence intervals',
    'label': 'write metric depth into copies of bags, without ROS',
    'benchmark': 'time a Marigold stage by stage, or whole frames with any model',
    'export': 'write a model as one ONNX network',
    'models': 'list checkpoints, fetch one from the Hugging Face hub, check or convert one',
}
# Entry points of this group are modules like those of `commands`, with a SUMMARY for the list; so
# the training package adds its commands, which nothing here imports.
FURTHER = 'marigold_ros.commands'

_PIPE_CLOSED = 141  # as the shell reports SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command; ``arguments`` without the program's name, None takes the process's.

    Returns the exit code: 0 success, 1 a known error, 2 a wrong option or setting, 130
    interrupted, 141 nobody reads stdout any more.
    """
    _open_closed()
    try:
        try:
            return _run(arguments)
        finally:
            # Also of --help; at exit it would be too late for a quiet end.
            print(end='', flush=True)
    except BrokenPipeError:
        # The reader stopped, as `head` does.
        if not _close_broken((sys.stdout, sys.stderr)):
            raise
        return _PIPE_CLOSED
    except OSError as error:
        if 'No usable temporary directory' in str(error):  # of tempfile
            print(f'error: {error.strerror}; name one that is writable as TMPDIR', file=sys.stderr)
            return 1
        if error.errno != errno.ENOSPC:
            raise
        with suppress(OSError):  # of a stream that is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f'error: cannot write ({error.strerror}); free some space', file=sys.stderr)
        return 1


def _open_closed() -> None:
    """Open closed streams: a file would take their number, and what libraries print."""
    for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding='utf-8')  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _close_broken(streams: Iterable[TextIO]) -> bool:
    """Let streams that nobody reads write nowhere, also at exit; return whether there are any."""
    found = False
    for stream in streams:
        with suppress(OSError):  # of a stream that is no file
            waiting = select.poll()
            waiting.register(stream.fileno(), select.POLLOUT)
            if any(event & select.POLLERR for _, event in waiting.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                found = True
    return found


def _as_json(error: UnicodeError) -> tuple[str, int]:
    """Replace what a stream cannot encode by escapes of JSON."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _run(arguments: Sequence[str] | None) -> int:
    settle_threads()
    settle_memory()
    # File names may be no UTF-8, and a terminal's encoding may lack letters; --json stays JSON.
    codecs.register_error('json', _as_json)
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='json')
    parser = _command_parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        parser.print_help(sys.stderr)
        parser.exit(2)
    chosen = parser.parse_args(given)
    try:
        module = _module_of(chosen.command)
        options = CommandParser(
            prog=f'python -m marigold_ros {chosen.command}',
            description=module.__doc__,
            formatter_class=WrappedHelp,
            allow_abbrev=False,
        )
        module.add_arguments(options)
        # A command that passes arguments on (node) has a default of that name.
        if options.get_default('passed_on') is None:
            options.check_names(chosen.arguments)
            args = options.parse_args(chosen.arguments)
        else:
            args, args.passed_on = options.parse_known_args(chosen.arguments)
        return int(module.run(args) or 0)
    except MarigoldError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except ModuleNotFoundError as error:
        if (error.name or 'marigold_ros').partition('.')[0] == 'marigold_ros':
            raise
        print(
            f'error: {error.name} is not installed for {sys.executable}; activate the environment '
            'that `make setup` makes (`source .venv/bin/activate`), or install it there',
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130


def depth_node() -> int:
    """Run the command ``node``: the executable of ``ros2 run``."""
    return main(['node', *sys.argv[1:]])


class _ProgramParser(CommandParser):
    """Looks for the commands of other packages, which takes 50 ms, only to list them."""

    def format_help(self) -> str:
        known = {**COMMANDS, **{name: _module_of(name).SUMMARY for name in _further_commands()}}
        width = max(map(len, known))
        listing = '\n'.join(f'  {name:{width}}  {text}' for name, text in known.items())
        self.epilog = f'commands:\n{listing}\n\nEach has its own --help.'
        return super().format_help()


def _command_parser() -> argparse.ArgumentParser:
    parser = _ProgramParser(
        prog='python -m marigold_ros',
        description='Metric depth for ROS 2 from one camera and sparse LiDAR.',
        formatter_class=WrappedHelp,
    )
    parser.add_argument('--version', action='version', version=f'marigold_ros {_version()}')
    parser.add_argument('command', type=_command, metavar='COMMAND')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='of the command')
    return parser


def _command(name: str) -> str:
    """Return the name of a command; asks for the nearest one where there is none."""
    if name in COMMANDS:
        return name
    known = (*COMMANDS, *_further_commands())
    if name in known:
        return name
    near = nearest(name, known)
    meant = f'did you mean {near}?' if near else f'choose one of {", ".join(known)}'
    raise argparse.ArgumentTypeError(f"there is no command '{name}'; {meant}")


def _further_commands() -> tuple[str, ...]:
    """Return the names of the commands that installed packages add."""
    found = entry_points(group=FURTHER)
    return tuple(p.name for p in found if find_spec(p.module.partition('.')[0]) is not None)


def _module_of(command: str) -> ModuleType:
    if command in COMMANDS:
        return import_module(f'marigold_ros.commands.{command}')
    return entry_points(group=FURTHER)[command].load()


def _version() -> str:
    try:
        return version('marigold_ros')
    except PackageNotFoundError:
        return 'that is not installed'


if __name__ == '__main__':
    sys.exit(main())
