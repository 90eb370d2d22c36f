# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What is asked of the machine without torch is what torch says."""

import ctypes
from importlib.machinery import ModuleSpec

from marigold_ros.models.runtime import processor
import pytest
import torch

CUDA = "cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
ROCM = "cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n"
CPU = 'cuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n'


def test_bfloat16_is_found_where_torch_finds_it():
    checks = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    expected = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    assert processor.has_bfloat16() == expected


@pytest.mark.parametrize(
    ('version', 'driver', 'none'),
    [(CPU, True, True), (CUDA, True, False), (CUDA, False, True), (ROCM, False, False)]
    + [(unknown, False, False) for unknown in ('', 'something = 1\n', None)],
)
def test_a_gpu_needs_a_build_and_a_driver(version, driver, none, tmp_path, monkeypatch):
    def load(name):
        if not driver:
            raise OSError(name)

    if version is not None:
        (tmp_path / 'version.py').write_text(version)
    spec = ModuleSpec('torch', None, origin=str(tmp_path / '__init__.py'))
    monkeypatch.setattr(processor, 'find_spec', lambda name: spec)
    monkeypatch.setattr(ctypes, 'CDLL', load)
    assert processor.has_no_gpu() == none
