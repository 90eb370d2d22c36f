# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the README says is what the code has."""

from pathlib import Path
import re

from marigold_ros.node.interface.parameter_file import parameter_table

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_the_table_of_parameters_is_the_one_that_config_makes():
    table = README.split('--table`) -->\n')[1].split('<!-- parameters: end')[0]
    assert table.strip() == parameter_table().strip(), (
        'run python -m marigold_ros.node.interface.parameter_file --table and paste it'
    )


def test_every_file_that_the_readme_links_exists():
    targets = re.findall(r'\]\(([^)#:]+)\)', README)
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing


def test_every_command_that_the_readme_shows_exists():
    shown = set(re.findall(r'-m marigold_ros ([a-z]+)', README))
    modules = {path.stem for path in (ROOT / 'marigold_ros' / 'commands').glob('*.py')}
    assert shown
    assert shown <= modules
