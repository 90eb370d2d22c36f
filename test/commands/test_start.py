# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Commands that answer at once import only what they use."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

CODE = """
import sys
from marigold_ros.__main__ import main
code = main(sys.argv[2:])
unused = [name for name in sys.argv[1].split(',') if name in sys.modules]
sys.exit(f'{code} {unused}')
"""
NETWORKS = ('transformers', 'peft', 'torch._dynamo', 'sympy', 'openvino', 'onnxruntime')


def ended(unused, *arguments):
    """Run a command in a process of its own; return its code and which modules it imported."""
    call = [sys.executable, '-c', CODE, ','.join(unused), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True)
    return done.stderr.splitlines()[-1]


def test_inspecting_a_bag_imports_no_network_and_no_scipy(short_drive):
    assert ended((*NETWORKS, 'torch', 'diffusers', 'scipy'), 'inspect', short_drive) == '0 []'


@pytest.mark.slow  # a process that imports torch
def test_predicting_a_photo_imports_the_networks_that_run_and_no_more(tmp_path):
    photo = tmp_path / 'photo.png'
    cv2.imwrite(str(photo), np.full((48, 64, 3), 90, np.uint8))
    out = tmp_path / 'out'
    assert ended((*NETWORKS, 'scipy'), 'predict', photo, '--out', out) == '0 []'
    assert (out / 'photo_relative.npy').is_file()
