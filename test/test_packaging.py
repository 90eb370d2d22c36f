# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What surrounds the code agrees with it: version, dependencies, licence lines, file sizes."""

from __future__ import annotations

import ast
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

from packaging.requirements import Requirement
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'marigold_ros'
OWN_FOLDERS = ('marigold_ros', 'test', 'training', 'launch')
LARGEST = 16 * 2**20
LONGEST = 300
# Files that may be longer, and why.
LONG_FILES = {'config.py': 'one table of all settings'}
# Modules whose ROS package has another name, or that belong to no package.xml of ours.
ROS_PACKAGE_OF = {'tf2_ros': 'tf2_ros_py'}
# Tests that want these skip there.
WITHOUT_WHEELS = {'3.14': {'ray'}}
NOT_FROM_ROS = {'marigold_ros', 'numpy', 'cv2', 'scipy', 'torch', 'yaml', 'rosbags'}


def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def dependencies() -> set[str]:
    return {element.text for element in manifest() if element.tag.endswith('depend')}


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith('#')]


def install_requires() -> list[Requirement]:
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    listed = next(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == 'install_requires'
    )
    return [Requirement(text) for text in ast.literal_eval(listed)]


def own_files() -> list[Path]:
    """All files that a commit would hold."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z']
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('not a git checkout: no telling own files from built ones')
    return [ROOT / name for name in listing.stdout.split('\0') if name and (ROOT / name).is_file()]


def own_modules() -> list[Path]:
    inside = [path for name in OWN_FOLDERS for path in sorted((ROOT / name).rglob('*.py'))]
    return [ROOT / 'setup.py', *inside]


def test_setup_py_has_the_version_of_package_xml():
    command = [sys.executable, '-W', 'ignore', 'setup.py', '--version']
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split()[-1] == manifest().findtext('version')


def test_setup_py_ships_everything_in_the_package_that_is_not_python():
    command = [sys.executable, '-W', 'ignore', '-c', SHOW_PACKAGE_DATA]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    shipped = set(answer.stdout.split('\n')[-2].split('|'))
    for path in PACKAGE.rglob('*'):
        if path.is_file() and path.suffix not in ('.py', '.pyc'):
            assert path.relative_to(PACKAGE).as_posix() in shipped


SHOW_PACKAGE_DATA = """
import runpy, setuptools
setuptools.setup = lambda **arguments: print('|'.join(arguments['package_data']['marigold_ros']))
runpy.run_path('setup.py')
"""


def test_package_xml_is_format_3_and_ament_python():
    assert manifest().get('format') == '3'
    assert manifest().findtext('export/build_type') == 'ament_python'


def test_package_xml_lists_every_ros_package_that_the_code_imports():
    imported = set()
    for path in [*(PACKAGE / 'node').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split('.')[0])
    ours = imported - set(sys.stdlib_module_names) - NOT_FROM_ROS
    assert {ROS_PACKAGE_OF.get(name, name) for name in ours} - dependencies() == set()


def test_install_requires_are_ranges_and_the_pins_lie_within_them():
    ranges = {requirement.name.lower(): requirement for requirement in install_requires()}
    pins = requirements('requirements.txt')
    assert {pin.name.lower() for pin in pins} >= set(ranges)
    for requirement in ranges.values():
        assert '==' not in str(requirement.specifier)
    for pin in pins:
        version = str(pin.specifier).removeprefix('==')
        if pin.name.lower() in ranges:
            assert ranges[pin.name.lower()].specifier.contains(version), pin


@pytest.mark.parametrize(
    'name', ['requirements.txt', 'requirements-dev.txt', 'requirements-ros.txt']
)
def test_requirements_are_exact_and_unambiguous_for_every_python(name):
    for version in ('3.10', '3.11', '3.12', '3.13', '3.14'):
        machine = {
            'python_version': version,
            'sys_platform': 'linux',
            'platform_machine': 'x86_64',
        }
        chosen = [
            pin.name
            for pin in requirements(name)
            if pin.marker is None or pin.marker.evaluate(machine)
        ]
        assert len(chosen) == len(set(chosen))
        missing = {pin.name for pin in requirements(name)} - set(chosen)
        assert missing <= WITHOUT_WHEELS.get(version, set())
    assert all(str(pin.specifier).startswith('==') for pin in requirements(name))


def test_no_file_is_larger_than_a_plain_git_host_accepts():
    large = [path.relative_to(ROOT) for path in own_files() if path.stat().st_size > LARGEST]
    assert large == []


def test_every_module_states_licence_and_owner():
    lines = [
        '# SPDX-License-Identifier: Apache-2.0',
        '# Copyright 2026 The marigold_ros developers',
    ]
    missing = []
    for path in own_modules():
        text = path.read_text(encoding='utf-8').splitlines()
        if text and text[0].startswith('#!'):
            text = text[1:]
        if text[:2] != lines:
            missing.append(path.relative_to(ROOT).as_posix())
    assert missing == []


def test_no_module_is_longer_than_a_reader_can_hold():
    length = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding='utf-8').splitlines())
        for path in PACKAGE.rglob('*.py')
    }
    too_long = {name for name, lines in length.items() if lines > LONGEST}
    assert too_long - set(LONG_FILES) == set()
    assert set(LONG_FILES) <= too_long  # an allowance that is not needed any more goes
