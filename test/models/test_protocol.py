# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The contract of depth models: light to import, and kept by what load_model returns."""

import inspect
import subprocess
import sys

from marigold_ros.config import PredictionConfig
from marigold_ros.models import load_model
from marigold_ros.models.protocol import DepthModel, PredictOptions
import numpy as np
import pytest


def test_models_and_their_protocol_import_without_torch():
    code = 'import sys, marigold_ros.models.protocol; print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split() == ['False'], done.stderr


@pytest.mark.parametrize(
    'member', sorted(name for name in vars(DepthModel) if not name.startswith('_'))
)
def test_a_loaded_model_has_each_member(small_checkpoint, member):
    assert hasattr(load_model(str(small_checkpoint), device='cpu'), member)


def test_the_arguments_of_predict_are_the_fields_of_its_options():
    names = [*inspect.signature(DepthModel.predict).parameters]
    fields = [*vars(PredictOptions())]
    assert names == ['self', 'rgb', *fields[:4], 'more']
    assert fields[4:] == ['engine', 'reference_exact']
    # What the configuration hands over to predict.
    assert PredictOptions(**PredictionConfig().prediction) == PredictOptions()


def test_an_argument_that_predict_does_not_have_is_an_error(small_checkpoint):
    model = load_model(str(small_checkpoint), device='cpu')
    with pytest.raises(TypeError, match='denoising_step'):
        model.predict(np.zeros((8, 8, 3), np.uint8), denoising_step=1)
