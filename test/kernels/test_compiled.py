# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Compiled functions answer as Python does, and are kept on disk where that can be done."""

import ast
import os
from pathlib import Path
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
import marigold_ros
from marigold_ros.kernels.compiled import compiled
import numba
import numpy as np

SCRIPT = """
import logging
import resource
import sys

from marigold_ros.kernels.compiled import compiled

@compiled()
def double(x):
    return 2 * x

if 'twice' in sys.argv:
    logging.basicConfig(level='INFO')
    double(21.0)
if 'full' in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print(double(21))
"""


@compiled(any_order=True)
def total(values):
    found = 0.0
    for value in values:
        found += value
    return found


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_sums_in_any_order_are_exact_to_rounding(values):
    np.testing.assert_allclose(total(np.array(values)), np.sum(values), rtol=1e-9, atol=1e-6)


@compiled()
def mean(values):
    return total(values) / len(values)


def test_compiled_functions_call_each_other():
    assert mean(np.arange(5.0)) == 2.0


def test_compiled_functions_hold_nothing_of_other_modules():
    # Numba keeps them until their own file changes.
    for path in Path(marigold_ros.__file__).parent.rglob('*.py'):
        content = ast.parse(path.read_text(encoding='utf-8')).body
        imports = [node for node in content if isinstance(node, ast.ImportFrom)]
        foreign = {alias.name for node in imports for alias in node.names}
        for function in content:
            if any('compiled(' in ast.unparse(d) for d in getattr(function, 'decorator_list', ())):
                inside = (node for part in function.body for node in ast.walk(part))
                names = {node.id for node in inside if isinstance(node, ast.Name)}
                assert not names & foreign, f'{path}: {function.name}'


def test_a_function_is_compiled_where_nothing_can_be_kept(monkeypatch, caplog):
    njit = numba.njit

    def without_a_place(**settings):
        if settings.pop('cache', False):
            raise RuntimeError('no locator available')
        return njit(**settings)

    monkeypatch.setattr(numba, 'njit', without_a_place)
    assert compiled()(lambda x: x + 1)(1) == compiled()(lambda x: x + 1)(1) == 2
    assert caplog.text.count('cannot be kept (neither in __pycache__') == 1


def run_script(folder, *arguments, warning='', **environment):
    """Run SCRIPT; return what is kept of its function, with the time of writing."""
    script, kept = folder / 'script.py', folder / 'kept'
    if not script.exists():  # as changed source is compiled anew
        script.write_text(SCRIPT)
    root = str(Path(__file__).resolve().parents[2])
    environment |= {**os.environ, 'NUMBA_CACHE_DIR': str(kept), 'PYTHONPATH': root}
    command = [sys.executable, str(script), *arguments]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert answer.stdout.strip() == '42'
    assert answer.stderr.count(warning) == 1 if warning else not answer.stderr
    return {path: path.stat().st_mtime_ns for path in kept.rglob('*.nb?')}


def test_what_is_compiled_is_kept_and_damaged_files_are_written_anew(tmp_path):
    written = run_script(tmp_path)
    assert {path.suffix for path in written} == {'.nbi', '.nbc'}
    assert run_script(tmp_path) == written
    sizes = {path: path.stat().st_size for path in written}
    for damaged in sizes:
        damaged.write_bytes(damaged.read_bytes()[:100])
        written = run_script(tmp_path, warning='is damaged')
        assert {path: path.stat().st_size for path in written} == sizes
    assert run_script(tmp_path) == written


def test_the_first_compilation_is_logged_once(tmp_path):
    line = 'INFO:marigold_ros.kernels.compiled:compiling functions for this machine, once'
    run_script(tmp_path, 'twice', warning=line)
    run_script(tmp_path, 'twice')


def test_a_function_runs_where_numba_compiles_nothing(tmp_path):
    assert run_script(tmp_path, NUMBA_DISABLE_JIT='1') == {}


def test_a_function_is_compiled_on_a_full_disk(tmp_path):
    assert run_script(tmp_path, 'full', warning='set NUMBA_CACHE_DIR') == {}
