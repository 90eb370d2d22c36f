# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Which room may import which: read from the source of every module, checked against one table.

Imports inside functions count for the direction and for ROS; for torch only those at module level
do, because a command may load a model once it is running.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'marigold_ros'

GROUND = {
    *(
        'config',
        'settings',
        'errors',
        'frame',
        'spaces',
        'message_codec',
        'pairing',
        'bags',
        'threads',
    )
}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    '__init__': GROUND,
    'geometry': GROUND,
    'synthetic': GROUND,
    'models': GROUND,
    'evaluation': GROUND | {'geometry'},
    'pipeline': GROUND | {'geometry', 'models'},
    'learning': GROUND | {'geometry', 'models', 'evaluation', 'synthetic'},
    'replay': GROUND | {'geometry', 'models', 'evaluation', 'learning', 'pipeline'},
    'node': GROUND | {'geometry', 'models', 'evaluation', 'synthetic', 'pipeline'},
}
# Shells stand on top: nothing below imports them. `commands` starts the node, inside a function.
MAY_IMPORT['commands'] = {*MAY_IMPORT, 'commands', 'node'}
MAY_IMPORT['__main__'] = MAY_IMPORT['commands']

ARRAYS = {'numpy', 'scipy', 'cv2'}
THIRD_PARTY = {
    **dict.fromkeys(GROUND, {'numpy', 'cv2', 'rosbags'}),
    '__init__': set(),
    **dict.fromkeys(('geometry', 'evaluation', 'synthetic'), ARRAYS),
}
TORCH = {'torch', 'torchvision', 'diffusers', 'accelerate', 'transformers'}
ROS = {
    'action_msgs',
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'diagnostic_updater',
    'geometry_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'message_filters',
    'nav_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosbag2_py',
    'rosgraph_msgs',
    'rosidl_runtime_py',
    'sensor_msgs',
    'sensor_msgs_py',
    'std_msgs',
    'std_srvs',
    'stereo_msgs',
    'tf2_msgs',
    'tf2_ros',
    'unique_identifier_msgs',
    'visualization_msgs',
}


@dataclass(frozen=True)
class Import:
    """One imported name, where it stands, and whether it runs when its module is imported."""

    name: str
    line: int
    at_module_level: bool
    for_typing: bool = False


def imports_of(path: Path, package: Path) -> Iterator[Import]:
    """All imports of a module under their absolute names."""
    folder = path.relative_to(package.parent).parent.parts
    yield from _imports(ast.parse(path.read_text(encoding='utf-8')), folder, True, False)


def _imports(
    node: ast.AST, folder: tuple[str, ...], module_level: bool, typing: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for name in _names(child, folder):
            yield Import(name, child.lineno, module_level, typing)
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        guarded = isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test)
        yield from _imports(child, folder, module_level and not inside, typing or guarded)


def _names(node: ast.AST, folder: tuple[str, ...]) -> list[str]:
    """Absolute names that one statement or call imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = folder[: len(folder) - node.level + 1] if node.level else ()
        module = '.'.join([*base, *([node.module] if node.module else [])])
        # `from marigold_ros import bags` imports a room, not a name of the package's __init__.
        return [f'{module}.{alias.name}' for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).rpartition('.')[2]
        if called in ('import_module', '__import__') and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def offences(package: Path) -> list[str]:
    """Every import that breaks a rule, as `file:line: what` in words."""
    found = []
    for path in sorted(package.rglob('*.py')):
        inside = path.relative_to(package)
        room = inside.parts[0].removesuffix('.py')
        for item in imports_of(path, package):
            broken = _broken_rule(room, item, package.name)
            if broken:
                found.append(f'{inside.as_posix()}:{item.line}: {broken}')
    return found


def _broken_rule(room: str, item: Import, package: str) -> str | None:
    parts = item.name.split('.')
    top = parts[0]
    if top == package:
        target = parts[1] if len(parts) > 1 else '__init__'
        if target.startswith('__') or target == room:
            return None
        if target not in MAY_IMPORT.get(room, set()):
            return f'{room} imports {target}'
        lazy_only = room == 'commands' and target == 'node' and item.at_module_level
        return 'commands imports node at module level' if lazy_only else None
    if top == 'training':
        return f'{room} imports the shell training'
    if item.for_typing:
        return None
    if top in ROS and room != 'node':
        return f'{room} imports {top}; only node imports ROS'
    if top in TORCH and item.at_module_level and room not in ('models', 'learning'):
        return f'{room} imports {top} at module level'
    allowed = THIRD_PARTY.get(room)
    if allowed is not None and top not in allowed and top not in sys.stdlib_module_names:
        return f'{room} imports {top}; it may use {", ".join(sorted(allowed)) or "nothing"}'
    return None


def test_every_room_has_a_rule():
    rooms = {
        path.name.removesuffix('.py')
        for path in PACKAGE.iterdir()
        if path.suffix == '.py' or (path / '__init__.py').exists()
    }
    assert rooms - set(MAY_IMPORT) == set()


def test_imports_point_down():
    assert offences(PACKAGE) == []


@pytest.mark.parametrize(
    ('module', 'source', 'offence'),
    [
        ('geometry/camera.py', 'import torch', 'geometry/camera.py:1: geometry imports torch'),
        ('geometry/camera.py', 'def f():\n    import rclpy', 'geometry/camera.py:2'),
        ('geometry/camera.py', 'from marigold_ros.models import load_model', 'imports models'),
        ('geometry/camera.py', 'import matplotlib', 'geometry imports matplotlib'),
        ('frame.py', 'from .geometry import align', 'frame imports geometry'),
        ('bags/reader.py', 'from ..pipeline import FramePipeline', 'bags imports pipeline'),
        ('bags/reader.py', 'from marigold_ros import node', 'bags imports node'),
        ('models/engine.py', 'import marigold_ros.commands.demo', 'models imports commands'),
        ('models/engine.py', 'from sensor_msgs.msg import Image', 'only node imports ROS'),
        ('models/engine.py', "import importlib\nimportlib.import_module('rclpy')", 'rclpy'),
        ('learning/loop.py', 'import training.finetune', 'the shell training'),
        (
            'pipeline.py',
            'try:\n    import torch\nexcept ImportError:\n    torch = None',
            ':2: pipe',
        ),
        ('commands/demo.py', 'from diffusers import DDIMScheduler', 'at module level'),
        ('commands/demo.py', 'import marigold_ros.node.depth_node', 'node at module level'),
        ('node/depth_node.py', 'import marigold_ros.commands.demo', 'node imports commands'),
    ],
)
def test_an_offender_is_named(tmp_path, module, source, offence):
    path = tmp_path / 'marigold_ros' / module
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding='utf-8')
    found = offences(tmp_path / 'marigold_ros')
    assert len(found) == 1
    assert offence in found[0]


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('models/engine.py', 'import torch\nfrom diffusers import DDIMScheduler'),
        ('node/depth_node.py', 'import rclpy\nfrom marigold_ros.pipeline import FramePipeline'),
        ('commands/node.py', 'def run():\n    from marigold_ros.node.main import main'),
        ('commands/demo.py', 'def run():\n    import torch'),
        ('evaluation/metrics.py', 'import numpy\nfrom marigold_ros.geometry import align'),
        ('pipeline.py', 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch'),
    ],
)
def test_what_is_allowed_passes(tmp_path, module, source):
    path = tmp_path / 'marigold_ros' / module
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding='utf-8')
    assert offences(tmp_path / 'marigold_ros') == []


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    report = "print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    answer = subprocess.run(
        [sys.executable, '-c', f'import sys\n{statement}\n{report}'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.rpartition('LOADED')[2].split())


@pytest.mark.parametrize('room', ['geometry', 'evaluation', 'synthetic', 'message_codec', 'bags'])
def test_importing_an_array_room_loads_neither_torch_nor_ros(room):
    assert loaded_after(f'import marigold_ros.{room}') & (TORCH | ROS) == set()


def test_help_loads_neither_torch_nor_ros():
    statement = """
import runpy
sys.argv = ['marigold_ros', '--help']
try:
    runpy.run_module('marigold_ros', run_name='__main__')
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
"""
    assert loaded_after(statement) & (TORCH | ROS) == set()
