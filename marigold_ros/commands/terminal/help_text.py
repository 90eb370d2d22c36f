# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Parsing and help of commands: misspelt options, text wrapped to the terminal, settings."""

import argparse
from collections.abc import Iterable
import itertools
import re
import textwrap
from typing import Any, NoReturn

from marigold_ros.errors import shown
from marigold_ros.settings import nearest, Parameter


class CommandParser(argparse.ArgumentParser):
    """Parses the options of a command; errors are one line, and name the nearest option."""

    def check_names(self, given: Iterable[str]) -> None:
        """Exit with 2 for an option that the command does not have."""
        known = list(self._option_string_actions)
        for text in itertools.takewhile(lambda word: word != '--', given):
            name = text.partition('=')[0]
            if name.startswith('--') and name not in known:
                near = nearest(name, known)
                meant = f'did you mean {near}?' if near else 'see --help'
                self.error(f"there is no option '{name}'; {meant}")

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line."""
        self.exit(2, f'error: {shown(message)} (usage: {self.prog} --help)\n')


class WrappedHelp(argparse.HelpFormatter):
    """Wraps paragraphs to the terminal; indented lines stay lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return '\n'.join(_wrapped(paragraph, width) for paragraph in _paragraphs(text))


def _paragraphs(text: str) -> Iterable[str]:
    """Split into paragraphs, of one line each where lines are indented; '' is a blank line."""
    for block in re.split(r'(\n\s*\n)', text.strip('\n')):
        if not block.strip():
            yield ''
        elif any(line.startswith(' ') for line in block.splitlines()):
            yield from block.splitlines()
        else:
            yield ' '.join(block.split())


def _wrapped(line: str, width: int) -> str:
    # Under the second column where there are two.
    start = re.match(r'\s*(\S+\s{2,})?', line)
    margin = ' ' * len(start.group() if start else '')
    return textwrap.fill(
        line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


class SettingsHelp(argparse.Action):
    """Prints the settings that --set takes, and exits."""

    def __init__(
        self, option_strings: list[str], dest: str, settings: Iterable[Parameter], help: str
    ) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)
        self._settings = settings

    def __call__(self, parser: argparse.ArgumentParser, *_given: Any) -> None:
        """Print and exit."""
        lines = ['settings for --set, with their defaults:', '']
        for item in self._settings:
            default = 'unset' if item.default == () else item.default
            lines += [f'  {item.name}={default}', f'      {item.text}']
        formatter = WrappedHelp(prog=parser.prog)
        formatter.add_text('\n'.join(lines))
        print(formatter.format_help(), end='')
        parser.exit()
