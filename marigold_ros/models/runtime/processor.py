# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What this machine computes with, asked without torch, whose import takes seconds."""

import ctypes
from importlib.util import find_spec
from pathlib import Path
import re

# Parameters from which a network is large: on a CPU bfloat16 is worth its rounding, and for an
# image PyTorch takes as long as OpenVINO to convert it.
LARGE = 100_000_000


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; others would be slower than in float32."""
    try:
        flags = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace').split()
    except OSError:  # of other systems none is known
        return False
    return not {'avx512_bf16', 'amx_tile'}.isdisjoint(flags)


def has_no_gpu() -> bool:
    """Whether torch certainly finds no GPU: its build is for CPUs, or there is no driver."""
    spec = find_spec('torch')
    version = Path(str(spec and spec.origin)).with_name('version.py')
    try:
        text = version.read_text(encoding='utf-8')
    except OSError:
        return False
    built_for = dict(re.findall(r'^(cuda|hip)\b.*= (.*)$', text, re.MULTILINE))
    if 'cuda' not in built_for or built_for.get('hip', 'None') != 'None':
        return False
    if built_for['cuda'] == 'None':
        return True
    try:
        ctypes.CDLL('libcuda.so.1')
    except OSError:
        return True
    return False
