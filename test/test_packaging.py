# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What surrounds the code agrees with it: version, dependencies, licence lines, file sizes."""

from __future__ import annotations

import ast
from importlib import metadata
import json
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'marigold_ros'
TRAINING = ROOT / 'training' / 'marigold_training'
OWN_FOLDERS = ('marigold_ros', 'test', 'training', 'benchmarks', 'launch')
LARGEST = 16 * 2**20
# Modules whose ROS package has another name, or that belong to no package.xml of ours.
ROS_PACKAGE_OF = {'tf2_ros': 'tf2_ros_py'}
# Tests that want these skip there.
WITHOUT_WHEELS = {'3.14': {'ray'}}
NOT_FROM_ROS = {
    'marigold_ros',
    'marigold_training',
    'numpy',
    'cv2',
    'scipy',
    'torch',
    'yaml',
    'rosbags',
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def dependencies() -> set[str]:
    return {element.text for element in manifest() if element.tag.endswith('depend')}


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith('#')]


def setup_argument(name: str) -> Any:
    """Return a literal argument of ``setup(...)`` in setup.py."""
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    return next(
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == name
    )


def install_requires() -> list[Requirement]:
    return [Requirement(text) for text in setup_argument('install_requires')]


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


def test_changelog_and_citation_have_the_version_of_package_xml():
    version = manifest().findtext('version')
    newest = re.search(r'^(\S+) \((\S+)\)\n-+$', read('CHANGELOG.rst'), re.MULTILINE)
    citation = yaml.safe_load(read('CITATION.cff'))
    assert newest
    assert newest.groups() == (version, str(citation['date-released']))
    assert citation['version'] == version


def test_setup_py_ships_all_data_files_of_the_package():
    shipped = set(setup_call()['package_data']['marigold_ros'])
    for path in PACKAGE.rglob('*'):
        if path.is_file() and path.suffix != '.py' and path.parent.name != '__pycache__':
            assert path.relative_to(PACKAGE).as_posix() in shipped


def test_type_checkers_of_users_see_the_types():
    assert (PACKAGE / 'py.typed').is_file()  # PEP 561; shipped as all data files
    assert 'py.typed' in setup_call()['package_data']['marigold_ros']


@pytest.mark.parametrize(('robot_only', 'packages'), [('', [PACKAGE, TRAINING]), ('1', [PACKAGE])])
def test_setup_py_installs_every_room_and_nothing_else(robot_only, packages):
    rooms = {
        path.parent.relative_to(package.parent).as_posix().replace('/', '.')
        for package in packages
        for path in package.rglob('__init__.py')
    }
    folders = {path.parent for package in packages for path in package.rglob('*.py')}
    call = setup_call(MARIGOLD_ROBOT_ONLY=robot_only)
    assert set(call['packages']) == rooms
    assert len(rooms) == len(folders)  # a folder without __init__.py would not be installed
    commands = call['entry_points']['marigold_ros.commands']
    assert [name.split(' ')[0] for name in commands] == ['adapt'] * (len(packages) - 1)


def setup_call(**environment: str) -> dict[str, Any]:
    """Return the packages, their files and commands that setup.py hands to setuptools."""
    command = [sys.executable, '-W', 'ignore', '-c', SHOW_SETUP]
    variables = {**os.environ, **environment}
    answer = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


SHOW_SETUP = """
import json, runpy, setuptools
keys = 'packages', 'package_data', 'entry_points'
setuptools.setup = lambda **arguments: print(json.dumps({key: arguments[key] for key in keys}))
runpy.run_path('setup.py')
"""


IN_A_BUILD_FOLDER = """
from distutils.core import run_setup
from setuptools.command.develop import develop
develop.run = lambda self: None
command = run_setup('setup.py', stop_after='init').get_command_obj('develop')
command.run()
command.run()
"""


def test_colcons_links_lead_to_both_packages(tmp_path):
    """With --symlink-install its build folder holds links, and alone is on the path."""
    for name in ('setup.py', 'setup.cfg', 'marigold_ros', 'training/marigold_training'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, '-W', 'ignore', '-c', f'import setuptools{IN_A_BUILD_FOLDER}']
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / TRAINING.name / '__init__.py').samefile(TRAINING / '__init__.py')


def test_package_xml_is_format_3_and_ament_python():
    assert manifest().get('format') == '3'
    assert manifest().findtext('export/build_type') == 'ament_python'


def test_package_xml_lists_every_ros_package_imported():
    imported = set()
    for path in [*(PACKAGE / 'node').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split('.')[0])
    ours = imported - set(sys.stdlib_module_names) - NOT_FROM_ROS
    assert {ROS_PACKAGE_OF.get(name, name) for name in ours} - dependencies() == set()


def test_the_executable_runs_in_the_activated_environment(tmp_path):
    """Colcon is the system's program, and would write the system's Python into the script."""
    pytest.importorskip('setuptools', reason='colcon uses the setuptools of ROS')
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(tmp_path)]
    command += ['install_scripts', '--install-dir', str(tmp_path / 'bin')]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    script = (tmp_path / 'bin' / 'depth_node').read_text(encoding='utf-8')
    assert script.splitlines()[0] == '#!/usr/bin/env python3'


def run_pytest(*arguments: str, first: str = 'pass') -> subprocess.CompletedProcess:
    """Run pytest as `colcon test` does, without plugins; ``first`` may take something away."""
    code = f'import sys, pytest; {first}; sys.exit(pytest.main(sys.argv[1:]))'
    command = [sys.executable, '-c', code, '--tb=short', '-p', 'no:timeout', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow  # starts pytest anew
def test_pytest_runs_without_the_plugins_that_it_is_configured_for_or_that_a_distribution_has(
    tmp_path, monkeypatch
):
    facts = tmp_path / 'some_plugin-1.0.dist-info'
    facts.mkdir()
    (facts / 'METADATA').write_text('Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n')
    plugins = ''.join(f'{n} = some_plugin\n' for n in ('launch_testing', 'launch_ros', 'anyio'))
    (facts / 'entry_points.txt').write_text(f'[pytest11]\n{plugins}')
    (tmp_path / 'some_plugin.py').write_text('raise ImportError("loaded")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    done = run_pytest('-p', 'no:cacheprovider', 'test/test_spaces.py')
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_torch_or_pytest_7_all_tests_are_skipped_with_the_reason():
    first = 'sys.modules.update(torch=None, rosbags=None); del pytest.version_tuple'
    done = run_pytest('-p', 'no:cacheprovider', '-rs', first=first)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
    assert 'torch, rosbags, pytest 7 not installed for' in done.stdout
    assert 'python -m colcon test' in done.stdout


def test_the_sdist_holds_what_a_checkout_does():
    rules = [line.split() for line in read('MANIFEST.in').splitlines()]
    named = {name for rule, *names in rules if rule == 'include' for name in names}
    within = [names for rule, *names in rules if rule == 'recursive-include']

    def is_packed(path: Path) -> bool:
        top, *inner = path.parts
        folders = [names for folder, *names in within if path.is_relative_to(folder)]
        return (
            top in ('marigold_ros', 'setup.py', 'setup.cfg', 'MANIFEST.in')
            or any(path.match(name) for names in folders for name in names)
            or (not inner and any(path.match(name) for name in named))
        )

    files = [path.relative_to(ROOT) for path in own_files()]
    assert [str(path) for path in files if not is_packed(path)] == []


def test_warnings_are_errors_with_the_pinned_pytest(request):
    pinned = Path(pytest.__file__).is_relative_to(sys.prefix) and sys.prefix != sys.base_prefix
    assert ('error' in request.config.getini('filterwarnings')) == pinned


def test_pins_lie_within_the_ranges_of_install_requires():
    ranges = {requirement.name.lower(): requirement for requirement in install_requires()}
    pins = requirements('requirements.txt')
    assert {pin.name.lower() for pin in pins} >= set(ranges)
    for requirement in ranges.values():
        assert '==' not in str(requirement.specifier)
    for pin in pins:
        version = str(pin.specifier).removeprefix('==')
        if pin.name.lower() in ranges:
            assert ranges[pin.name.lower()].specifier.contains(version), pin


def test_the_set_up_with_numpy_1_installs_every_requirement():
    lines = read('docs/getting-started.md').splitlines()
    (command,) = (line for line in lines if "pip install 'numpy<2'" in line)
    words = shlex.split(command.replace('<(', '').replace('src/marigold_ros/', '').rstrip(')'))
    at = words.index('-r')
    pins = subprocess.run(words[at + 1 :], cwd=ROOT, capture_output=True, text=True, check=True)
    pinned = {Requirement(pin).name for pin in pins.stdout.splitlines() if pin and pin[0] != '#'}
    named = {Requirement(word).name for word in words[2:at]}
    assert named == {'numpy', 'opencv-python-headless'}
    assert pinned | named == {one.name for one in requirements('requirements.txt')}
    assert pinned & named == set()


def test_tests_get_the_extras_that_they_use():
    pinned = {pin.name for name in ('', '-dev') for pin in requirements(f'requirements{name}.txt')}
    extras = setup_argument('extras_require')
    wanted = {Requirement(text).name for extra in extras.values() for text in extra}
    assert wanted - pinned == {'tensorboard', 'wandb'}  # tests have modules of their own


def test_what_only_tests_and_extras_use_is_not_installed_to_run():
    run_time = {pin.name for pin in requirements('requirements.txt')}
    assert run_time.isdisjoint(pin.name for pin in requirements('requirements-dev.txt'))


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


# Distributions whose modules have other names.
MODULE_OF = {
    'opencv-python-headless': 'cv2',
    'pillow': 'PIL',
    'pyyaml': 'yaml',
    'rerun-sdk': 'rerun',
}
LOCKS = sorted((ROOT / 'supply_chain').glob('*[!v].txt'))


def declared() -> list[str]:
    extras = setup_argument('extras_require').values()
    return [*setup_argument('install_requires'), *(text for extra in extras for text in extra)]


def declared_modules() -> set[str]:
    names = {Requirement(text).name.lower() for text in declared()}
    return {MODULE_OF.get(name, name.replace('-', '_')) for name in names}


def test_arrays_are_stacked_as_the_oldest_numpy_can():
    """dtype and casting of these came with NumPy 1.24; install_requires allows 1.22."""
    stacking = {'stack', 'vstack', 'hstack'}
    newer = [
        f'{path.relative_to(ROOT)}:{node.lineno}'
        for path in own_modules()
        if 'stack(' in (text := path.read_text(encoding='utf-8'))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in {('np', name) for name in stacking}
        and {'dtype', 'casting'} & {keyword.arg for keyword in node.keywords}
    ]
    assert newer == []


def test_what_is_imported_is_declared():
    ros = {*dependencies(), *ROS_PACKAGE_OF}
    known = {*declared_modules(), *ros, *sys.stdlib_module_names, PACKAGE.name, TRAINING.name}
    undeclared = {
        f'{path.relative_to(ROOT)}: {name}'
        for folder in (PACKAGE, TRAINING)
        for path in folder.rglob('*.py')
        for name in imported_modules(path)
        if name not in known
    }
    assert undeclared == set()


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or '').partition('.')[0])
    return found


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '2.5.1'),  # transformers 5.20 takes it for not installed
        ('rosbags', '0.11.6'),  # bags/guarded.py cannot be imported
        ('peft', '0.19.1'),  # transformers 5.20 refuses it, and diffusers is not imported with it
        ('scipy', '1.15.3'),  # nnls misses the minimum
        ('opencv-python-headless', '4.5.5.64'),  # connectedComponents(connectivity=4) crashes
    ],
)
def test_versions_that_do_not_work_are_not_accepted(name, version):
    accepted = [
        requirement for text in declared() if (requirement := Requirement(text)).name == name
    ]
    assert accepted
    assert not any(requirement.specifier.contains(version) for requirement in accepted)


def test_every_requirement_ends_at_a_major_version():
    assert [text for text in declared() if '<' not in text] == []


@pytest.mark.parametrize('path', LOCKS, ids=lambda path: path.stem)
def test_locks_hold_the_pins_with_their_hashes(path):
    texts = [path.read_text(), path.with_name(f'{path.stem}-dev.txt').read_text()]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith('#')]
    locked = {}
    for line in lines:
        package, digest = line.split(' --hash=sha256:')
        name, locked_version = package.split('==')
        assert len(digest) == 64
        assert name not in locked
        locked[name] = locked_version
    python = path.name.removeprefix('python').partition('-')[0]
    machine = {'python_version': python, 'sys_platform': 'linux', 'platform_machine': 'x86_64'}
    names = [f'requirements{name}.txt' for name in ('', '-ros', '-dev')]
    for pin in (pin for name in names for pin in requirements(name)):
        name = pin.name.lower().replace('_', '-')
        if name != 'torch' and (pin.marker is None or pin.marker.evaluate(machine)):
            assert pin.specifier.contains(locked[name]), pin


def test_the_bill_of_materials_lists_what_is_installed():
    script = ROOT / 'supply_chain' / 'sbom.py'
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    bill = json.loads(done.stdout)
    assert (bill['bomFormat'], bill['metadata']['component']['name']) == (
        'CycloneDX',
        'marigold-ros',
    )
    versions = {item['name']: item['version'] for item in bill['components']}
    assert versions['numpy'] == metadata.version('numpy')
    assert len({item['bom-ref'] for item in bill['components']}) == len(bill['components'])
