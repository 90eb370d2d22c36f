# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Compiled functions answer as Python does, are kept on disk, and do without a place for that."""

import os
from pathlib import Path
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.kernels.compiled import compiled
import numba
import numpy as np

SCRIPT = """
from marigold_ros.kernels.compiled import compiled

@compiled()
def double(x):
    return 2 * x

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


def test_a_function_is_compiled_where_nothing_can_be_kept(monkeypatch):
    njit = numba.njit

    def without_a_place(**settings):
        if settings.pop('cache', False):
            raise RuntimeError('no locator available')
        return njit(**settings)

    monkeypatch.setattr(numba, 'njit', without_a_place)
    assert compiled()(lambda x: x + 1)(1) == 2


def test_what_is_compiled_is_kept_for_the_next_process(tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    root = str(Path(__file__).resolve().parents[2])
    kept = tmp_path / 'kept'
    environment = {**os.environ, 'NUMBA_CACHE_DIR': str(kept), 'PYTHONPATH': root}
    written = []
    for _ in range(2):
        command = [sys.executable, str(tmp_path / 'script.py')]
        answer = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert answer.stdout.strip() == b'42'
        written.append({path: path.stat().st_mtime_ns for path in kept.rglob('*.nbc')})
    assert len(written[0]) == 1
    assert written[0] == written[1]
