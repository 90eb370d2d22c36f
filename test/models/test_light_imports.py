# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
import json
import subprocess
import sys

from marigold_ros.models import light_imports
import pytest

pytestmark = pytest.mark.slow  # processes that import all of diffusers
HEAVY = ('transformers', 'peft', 'scipy.stats', 'torch._dynamo', 'sympy')
RUNTIMES = ('openvino', 'onnxruntime')

LIGHT = f"""
import json, sys
import numpy as np
from marigold_ros.models import load_model
from marigold_ros.models.runtime.disk_cache import network_key
model = load_model('tiny', device='cpu')
image = np.random.default_rng(7).integers(0, 255, (48, 64, 3), dtype=np.uint8)
answers = model.predict(image).relative.tolist(), network_key(model.unet, {{}})
heavy = [name for name in {HEAVY + RUNTIMES!r} if name in sys.modules]

import diffusers
from diffusers.models.transformers import FluxTransformer2DModel, Transformer2DModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel as own
from diffusers.models.unets import UNet2DConditionModel, UNet2DModel
import scipy.stats, torch, transformers
from marigold_ros.models import light_imports
light_imports.prepare_compiler()
from diffusers.models.attention_processor import Attention
print(json.dumps(dict(
    answers=answers,
    heavy=heavy,
    same=[Transformer2DModel is own, UNet2DConditionModel is type(model.unet)],
    pipelines=[
        kind.__module__.partition('.pipeline_')[0]
        for kind in (diffusers.MarigoldDepthPipeline, diffusers.StableDiffusionPipeline)
    ],
    installed=diffusers.utils.is_transformers_available() and diffusers.utils.is_peft_available(),
    compiler=torch._dynamo.__spec__.loader is not None and hasattr(torch._dynamo, 'optimize'),
    left=[
        name
        for name in (*light_imports.CLOSED, *light_imports.UNUSED, light_imports.COMPILER)
        if name in sys.modules and getattr(sys.modules[name], '__spec__', None) is None
    ],
)))
"""


def run(code):
    """Return what a fresh process prints, in which no other test has set threads."""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def found():
    """What a fresh process sees that loads a model, and then uses the rest of diffusers."""
    return json.loads(run(LIGHT).splitlines()[-1])


def test_a_prediction_imports_no_package_that_it_does_not_use(found):
    assert found['heavy'] == []


def test_the_node_imports_a_model_as_lightly():
    code = (
        'from dataclasses import replace\n'
        'from marigold_ros.config import NodeConfig\n'
        'from marigold_ros.node.loading import load\n'
        'config = NodeConfig()\n'
        "load(replace(config, model=replace(config.model, model='tiny')))\n"
        'import sys\n'
        f'print([name for name in {HEAVY!r} if name in sys.modules])\n'
    )
    assert run(code).splitlines()[-1] == '[]'


def test_prediction_and_key_are_those_of_networks_imported_as_usual(found):
    code = 'import diffusers.models.transformers\n' + LIGHT.partition('heavy = ')[0]
    done = run(code + 'print(json.dumps(answers))')
    assert found['answers'] == json.loads(done.splitlines()[-1])


def test_the_rest_of_diffusers_works_afterwards(found):
    assert found['same'] == [True, True]
    assert found['pipelines'] == [
        'diffusers.pipelines.marigold',
        'diffusers.pipelines.stable_diffusion',
    ]
    assert found['installed']
    assert found['compiler']


def test_nothing_stays_in_place_of_a_package(found):
    assert found['left'] == []


def test_frames_can_import_scipy_while_networks_are_imported():
    code = (
        'from concurrent.futures import ThreadPoolExecutor\n'
        'from marigold_ros.geometry.blas_threads import one_blas_thread\n'
        'from marigold_ros.models import light_imports\n'
        'import_module, frames, found = light_imports.import_module, ThreadPoolExecutor(1), []\n'
        'def import_beside_a_frame(name):\n'
        '    if name in light_imports.NETWORKS:\n'
        '        found.append(frames.submit(one_blas_thread().__enter__).exception())\n'
        '    return import_module(name)\n'
        'light_imports.import_module = import_beside_a_frame\n'
        'light_imports.import_networks()\n'
        'print(found)\n'
    )
    assert run(code).splitlines()[-1] == str([None] * len(light_imports.NETWORKS))


def test_another_structure_of_diffusers_is_imported_as_usual():
    code = (
        'from marigold_ros.models import light_imports\n'
        "light_imports.NETWORKS += ('diffusers.models.of_another_version',)\n"
        'light_imports.import_networks()\n'
        'import sys\n'
        "assert not any(name.startswith('diffusers') for name in sys.modules)\n"
        "assert 'transformers' not in sys.modules\n"
    )
    run(code)
