# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command line itself: instant help, exit codes, one-line errors."""

import errno
from importlib.metadata import version
import importlib.util
import itertools
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile
import types

from marigold_ros.__main__ import COMMANDS, main
from marigold_ros.errors import BagError, UsageError
from marigold_ros.threads import settle_threads
import pytest

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ('torch', 'rclpy', 'cv2', 'numpy', 'scipy')
THERE = [c for c in COMMANDS if importlib.util.find_spec(f'marigold_ros.commands.{c}')]


@pytest.mark.parametrize('command', ['', *THERE])
def test_help_loads_nothing_heavy(command):
    code = (
        'import sys, marigold_ros.__main__ as m\n'
        'try:\n'
        f'    m.main({[*([command] if command else []), "--help"]!r})\n'
        'except SystemExit as stop:\n'
        '    assert stop.code == 0\n'
        f'sys.exit(str([name for name in {HEAVY!r} if name in sys.modules] or ""))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ''
    assert 'usage: python -m marigold_ros' in done.stdout


def test_the_help_of_the_program_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f'  {name} ' in text for name in COMMANDS)


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['nonsense'],
        ['evaluate'],
        *(['evaluate', 'bag', '--out', 'x', '--fit-every', n] for n in ('1', str(2**63))),
        *(['evaluate', 'x', '--out', 'x', '--depth-scale', n] for n in ('0', 'inf')),
        ['predict', 'x.mp4', '--limit', str(2**63)],
        *(['models', '--torch-threads', n] for n in ('-1', '257')),
        *(['serve', f'--port={port}'] for port in ('99999', '-1', 'http')),
        ['evaluate', 'bag', '--out', 'x', '--set', 'no_equals_sign'],
        ['evaluate', 'bag', '--out', 'x', '--stamps', 'sundial'],
        *(['benchmark', '--size', size] for size in ('480', '0x4')),
        ['benchmark', '--runs', '0'],
        ['benchmark', '--against', 'nobody'],
        *(['demo', '--rate', rate] for rate in ('0', 'fast')),
        ['demo', '--frames', '0'],
        ['demo', '--size', '3'],
        ['label', '--out', 'x'],
        ['models', 'burn'],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert 'usage:' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['evaluate', 'bag', '--ouput', 'x'], "no option '--ouput'; did you mean --out?"),
        (['evaluate', 'bag', '--out', 'x', '--frobnicate'], "'--frobnicate'; see --help"),
        (['label', 'bag', '--out=x', '--jbos=2'], "no option '--jbos'; did you mean --jobs?"),
        (['evaluate', 'bag'], 'required: --out'),
        (['evalute'], 'did you mean evaluate?'),
        (['zzz'], 'choose one of demo, node, predict'),
    ],
)
def test_a_wrong_option_or_command_is_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1


def test_a_python_without_the_requirements_is_told_to_activate_the_environment():
    """A package that is missing, in a process that cannot see the installed ones."""
    line = [sys.executable, '-S', '-m', 'marigold_ros', 'inspect', 'bag']
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith('error: ')
    assert f'is not installed for {sys.executable}; activate the environment' in done.stderr
    assert done.stderr.count('\n') == 1


def replace_command(monkeypatch, end):
    """Replace a command by one that raises ``end``, or returns it."""

    def run(args):
        if isinstance(end, BaseException):
            raise end
        return end

    module = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, 'marigold_ros.commands.models', module)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--version'])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f'marigold_ros {version("marigold_ros")}\n'


@pytest.mark.parametrize('columns', [80, 120])
def test_help_is_wrapped_to_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', str(columns))
    for command, option in itertools.product(('evaluate', 'demo'), ('--help', '--help-settings')):
        with pytest.raises(SystemExit) as stop:
            main([command, option])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        # Choices of one option are not divided.
        lengths = [len(line) for line in text.splitlines() if '{' not in line]
        assert columns - 10 < max(lengths) < columns
        assert ('alignment.method=' in text) == (option == '--help-settings')


@pytest.mark.parametrize(
    ('error', 'code', 'line'),
    [
        (UsageError('seed is many; give a number'), 2, 'error: seed is many; give a number'),
        (BagError('nothing here; give a bag'), 1, 'error: nothing here; give a bag'),
        (BagError('a\n  b\nc'), 1, 'error: a b c'),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
)
def test_a_known_end_is_one_line_and_its_exit_code(monkeypatch, capsys, error, code, line):
    replace_command(monkeypatch, error)
    assert main(['models']) == code
    assert capsys.readouterr().err == f'{line}\n'


@pytest.mark.parametrize('error', [ZeroDivisionError(), BrokenPipeError('of a worker')])
def test_an_unknown_error_keeps_its_traceback(monkeypatch, error):
    replace_command(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        main(['models'])
    assert caught.value is error


@pytest.mark.parametrize(('end', 'code'), [(1, 1), (0, 0), (None, 0)])
def test_the_exit_code_of_a_command_is_the_programs(monkeypatch, end, code):
    replace_command(monkeypatch, end)
    assert main(['models']) == code


def test_the_node_gets_all_arguments_as_they_are(monkeypatch):
    received = []
    replacement = types.ModuleType('marigold_ros.node.main')
    replacement.main = lambda argv: received.append(argv) or 0
    monkeypatch.setitem(sys.modules, 'marigold_ros.node', types.ModuleType('marigold_ros.node'))
    monkeypatch.setitem(sys.modules, 'marigold_ros.node.main', replacement)
    arguments = ['--ros-args', '-p', 'model:=tiny', '-r', 'image:=/camera/image_raw']
    assert main(['node', *arguments]) == 0
    assert received == [['marigold_ros', *arguments]]


def test_without_rclpy_the_node_says_how_to_get_it(monkeypatch, capsys):
    for name in ('rclpy', 'marigold_ros.node.main'):
        monkeypatch.setitem(sys.modules, name, None)
    error = ModuleNotFoundError("No module named 'rclpy'", name='rclpy')
    real_import = __import__

    def without_ros(name, *rest):
        if name == 'marigold_ros.node.main':
            raise error
        return real_import(name, *rest)

    monkeypatch.setattr('builtins.__import__', without_ros)
    assert main(['node']) == 1
    text = capsys.readouterr().err
    assert 'rclpy' in text
    assert 'requirements-ros.txt' in text
    assert text.count('\n') == 1


def test_idle_threads_wait_passively_unless_the_user_differs():
    settled = {}
    settle_threads(settled)
    assert settled == {
        'OMP_WAIT_POLICY': 'PASSIVE',
        'OPENBLAS_NUM_THREADS': '1',
        'OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER': '0',
        'OPENCV_THREAD_POOL_ACTIVE_WAIT_THREADS_LIMIT': '0',
    }
    chosen = {'OPENBLAS_NUM_THREADS': '4', 'OMP_WAIT_POLICY': 'ACTIVE'}
    environment = dict(chosen)
    settle_threads(environment)
    assert environment == {**settled, **chosen}


def test_threads_are_settled_before_numpy_or_torch_load():
    code = (
        'import os, sys, marigold_ros.__main__ as m\n'
        'try:\n'
        '    m.main(["models", "--help"])\n'
        'except SystemExit:\n'
        '    assert not {"numpy", "torch", "cv2"} & set(sys.modules)\n'
        '    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"\n'
    )
    environment = {k: v for k, v in os.environ.items() if k != 'OPENBLAS_NUM_THREADS'}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True, capture_output=True)


@pytest.mark.parametrize('arguments', [['--help'], ['models']])
def test_a_reader_that_stops_reading_ends_the_command_quietly(arguments):
    command = [sys.executable, '-m', 'marigold_ros', *arguments]
    buffered = {k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, text=True, env=buffered, timeout=60
        )
    assert done.stderr == ''
    assert done.returncode == 141


def test_json_stays_json_where_the_terminal_lacks_letters(tmp_path):
    command = [sys.executable, '-m', 'marigold_ros', 'predict', 'größer 🙂', '--json', '--out']
    environment = {**os.environ, 'PYTHONIOENCODING': 'ascii'}
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True)
    assert json.loads(done.stdout)['failed'][0]['input'] == 'größer 🙂'


@pytest.mark.usefixtures('looks_in_a_child')
def test_a_system_without_a_temporary_folder_is_one_line(monkeypatch, tmp_path, capsys):
    def find():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, 'gettempdir', find)
    (tmp_path / 'x.mcap').write_bytes(b'x')
    assert main(['inspect', str(tmp_path / 'x.mcap')]) == 1
    assert re.fullmatch('error: No usable .*; name one .* as TMPDIR\n', capsys.readouterr().err)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_under_stdout_is_one_line():
    command = [sys.executable, '-m', 'marigold_ros', 'models', '--help']
    environment = {**os.environ, 'PYTHONUNBUFFERED': ''}  # argparse keeps its errors to itself
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
    assert done.returncode == 1
    assert done.stderr == 'error: cannot write (No space left on device); free some space\n'


@pytest.mark.parametrize(
    ('command', 'code'),
    [('models --help >&-', 0), ('inspect /nowhere 2>&-', 1), ('models --help >&- 2>&-', 0)],
)
def test_a_command_without_a_stream_prints_nothing_elsewhere(command, code):
    line = ['sh', '-c', f'"$0" -m marigold_ros {command}', sys.executable]
    done = subprocess.run(line, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, b'', b'')
