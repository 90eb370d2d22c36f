# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The contract of depth models: light to import, and kept by what load_model returns."""

import inspect
import subprocess
import sys

from marigold_ros.models import load_model
from marigold_ros.models.protocol import ExtendedDepthModel
import pytest


def test_models_and_their_protocol_import_without_torch():
    code = 'import sys, marigold_ros.models.protocol; print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split() == ['False'], done.stderr


MEMBERS = sorted(
    name
    for kind in ExtendedDepthModel.__mro__[:2]
    for name in vars(kind)
    if not name.startswith('_')
)


@pytest.mark.parametrize('name', MEMBERS)
def test_a_loaded_model_has_each_member_with_its_arguments(small_checkpoint, name):
    model = load_model(str(small_checkpoint), device='cpu')
    wanted, found = getattr(ExtendedDepthModel, name), getattr(model, name)
    if callable(wanted):
        expected = [n for n in inspect.signature(wanted).parameters if n != 'self']
        assert set(expected) <= set(inspect.signature(found).parameters)
