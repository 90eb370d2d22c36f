# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Architecture: which room may import which, without circles, and how large files and rooms may be.

Imports are read from the source of every module. Imports inside functions count for the direction,
for circles and for ROS; for torch only those at module level do, because a command may load a
model once it is running.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import subprocess
import sys

from marigold_ros.models.registry import FAMILIES
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'marigold_ros'
TRAINING = ROOT / 'training' / 'marigold_training'
BOTH = [folder for folder in (PACKAGE, TRAINING) if folder.is_dir()]
SCRIPTS = {
    path.stem
    for name in ('training', 'benchmarks', 'test/trials', 'test/hostile')
    for path in (ROOT / name).glob('*')
    if path.suffix == '.py' or (path / '__init__.py').exists()
}

GROUND = {
    'bags',
    'config',
    'errors',
    'frame',
    'fusion_channels',
    'image_sets',
    'kernels',
    'message_codec',
    'pairing',
    'point_kinds',
    'reasons',
    'processes',
    'settings',
    'spaces',
    'sparse_sources',
    'threads',
    'whole_files',
}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    '__init__': GROUND,
    'geometry': GROUND,
    'synthetic': GROUND,
    'models': GROUND,
    'evaluation': GROUND | {'geometry'},
    'pipeline': GROUND | {'geometry', 'models'},
    'replay': GROUND | {'geometry', 'models', 'evaluation', 'pipeline'},
    'node': GROUND | {'geometry', 'models', 'pipeline'},
    'live_run': GROUND | {'geometry', 'models', 'evaluation', 'synthetic', 'pipeline', 'node'},
}
# Shells stand on top: nothing below imports them. Commands and web import ROS in functions only.
SHELLS = {'node', 'live_run'}
MAY_IMPORT['live_run'] |= {'replay'}
MAY_IMPORT['web'] = MAY_IMPORT['replay'] | {'replay', 'live_run'}
MAY_IMPORT['commands'] = {*MAY_IMPORT, 'commands'}
MAY_IMPORT['__main__'] = MAY_IMPORT['commands']
# The training package is a shell of its own: nothing of marigold_ros imports it.
FOR_TRAINING = {*MAY_IMPORT, '__init__'} - SHELLS - {'web', '__main__'}

MOST_FILES, MOST_LINES = 15, 600
ARRAYS = {'numpy', 'scipy', 'cv2'}
THIRD_PARTY = {
    **dict.fromkeys(GROUND, {'numpy', 'cv2', 'rosbags'}),
    'bags': {'numpy', 'cv2', 'rosbags', 'apsw', 'lz4'},  # the last two are of rosbags
    '__init__': set(),
    **dict.fromkeys(('evaluation', 'synthetic'), ARRAYS),
    'geometry': ARRAYS | {'threadpoolctl'},
    'kernels': {'numpy', 'numba'},
}
SERVER = {'starlette', 'uvicorn', 'anyio'}
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


@cache
def imports_of(path: Path, package: Path) -> tuple[Import, ...]:
    """All imports of a module under their absolute names."""
    folder = path.relative_to(package.parent).parent.parts
    return tuple(_imports(ast.parse(path.read_text(encoding='utf-8')), folder, True, False))


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
        if package.name == TRAINING.name:
            room = package.name
        for item in imports_of(path, package):
            broken = _broken_rule(room, item, package.name)
            if broken:
                found.append(f'{inside.as_posix()}:{item.line}: {broken}')
    return found


def _broken_rule(room: str, item: Import, package: str) -> str | None:
    parts = item.name.split('.')
    top = parts[0]
    if top == TRAINING.name:
        return None if package == TRAINING.name else f'{room} imports {top}'
    if top == PACKAGE.name:
        target = parts[1] if len(parts) > 1 else '__init__'
        if target.startswith('__') or target == room:
            return None
        allowed = FOR_TRAINING if package == TRAINING.name else MAY_IMPORT.get(room, set())
        if target not in allowed:
            return f'{room} imports {target}'
        early = item.at_module_level and not item.for_typing
        lazy_only = room in ('commands', 'web') and target in SHELLS and early
        return f'{room} imports {target} at module level' if lazy_only else None
    if top in {'training', *SCRIPTS}:
        return f'{room} imports {top}, which is not installed'
    if item.for_typing:
        return None
    if top in ROS and room not in SHELLS:
        return f'{room} imports {top}; only {" and ".join(sorted(SHELLS))} import ROS'
    if top in SERVER and room != 'web':
        return f'{room} imports {top}; only web does'
    if top in TORCH and item.at_module_level and room not in ('models', TRAINING.name):
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


@pytest.mark.parametrize('package', BOTH)
def test_imports_point_down(package):
    assert offences(package) == []


def test_the_robots_tests_need_no_training_package():
    tests = ROOT / 'test'
    importing = {
        path.relative_to(tests).parts[0]
        for path in tests.rglob('*.py')
        if TRAINING.name in path.read_text(encoding='utf-8')
        and any(item.name.split('.')[0] == TRAINING.name for item in imports_of(path, tests))
    }
    assert importing <= {'training'}


@pytest.mark.parametrize(
    ('source', 'offence'),
    [
        ('import marigold_ros.node.depth_node', 'marigold_training imports node'),
        ('from marigold_ros.web.app import App', 'marigold_training imports web'),
        ('import finetune', 'imports finetune, which is not installed'),
        ('def f():\n    import rclpy', 'marigold_training imports rclpy'),
    ],
)
def test_the_training_package_stays_off_the_shells(tmp_path, monkeypatch, source, offence):
    monkeypatch.setitem(globals(), 'SCRIPTS', {'finetune'})
    path = tmp_path / 'marigold_training' / 'run' / 'loop.py'
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding='utf-8')
    (found,) = offences(path.parents[1])
    assert offence in found


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
        ('models/engine.py', 'from sensor_msgs.msg import Image', 'import ROS'),
        ('models/engine.py', "import importlib\nimportlib.import_module('rclpy')", 'rclpy'),
        ('models/engine.py', 'import training.finetune', 'which is not installed'),
        ('replay/photos.py', 'import marigold_training.run.loop', 'imports marigold_training'),
        (
            'pipeline.py',
            'try:\n    import torch\nexcept ImportError:\n    torch = None',
            ':2: pipe',
        ),
        ('replay/photos.py', 'import starlette', 'only web does'),
        ('web/app.py', 'import marigold_ros.live_run', 'live_run at module level'),
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


def import_graph(package: Path) -> dict[str, set[str]]:
    """Modules of a package and the modules of it that each imports, wherever the import stands."""
    modules = {}
    for path in package.rglob('*.py'):
        parts = path.relative_to(package.parent).with_suffix('').parts
        modules['.'.join(parts).removesuffix('.__init__')] = path
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for item in imports_of(path, package):
            parent = item.name.rpartition('.')[0]
            target = item.name if item.name in modules else parent
            if target in modules and target != name:
                graph[name].add(target)
    return graph


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of nodes that reach each other, each sorted."""
    reached = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            for target in graph[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        reached[start] = seen
    groups = {
        tuple(sorted(b for b in seen if a in reached[b] and a in seen))
        for a, seen in reached.items()
    }
    return sorted(group for group in groups if len(group) > 1)


def rooms_of(graph: dict[str, set[str]], package: str, depth: int) -> dict[str, set[str]]:
    """The same graph between rooms: a module below the depth stands for its folder."""

    def place(module: str) -> str:
        parts = module.split('.')
        return '.'.join(parts[:depth]) if len(parts) > depth else module

    merged: dict[str, set[str]] = {}
    for name, targets in graph.items():
        if name == package:
            continue
        inside = merged.setdefault(place(name), set())
        # A room's face may hand on names of its sub-rooms.
        inside.update(place(t) for t in targets if t.count('.') > 1)
    return {
        name: {t for t in targets if t in merged and t != name} for name, targets in merged.items()
    }


@pytest.mark.parametrize('package', BOTH)
def test_modules_do_not_import_in_a_circle(package):
    assert circles(import_graph(package)) == []


def test_sub_rooms_do_not_import_in_a_circle():
    assert circles(rooms_of(import_graph(PACKAGE), PACKAGE.name, 3)) == []
    assert circles(rooms_of(import_graph(TRAINING), TRAINING.name, 2)) == []


def test_a_planted_circle_is_found(tmp_path):
    package = tmp_path / 'marigold_ros'
    for module, source in (
        ('bags/a.py', 'from marigold_ros.bags.b import x'),
        ('bags/b.py', 'def f():\n    from marigold_ros.bags import c'),
        ('bags/c.py', 'from marigold_ros.bags.a import y'),
        ('bags/d.py', 'from marigold_ros.bags.a import y'),
    ):
        (package / module).parent.mkdir(parents=True, exist_ok=True)
        (package / module).write_text(source, encoding='utf-8')
    expected = tuple(f'marigold_ros.bags.{name}' for name in 'abc')
    assert circles(import_graph(package)) == [expected]


def sources() -> list[Path]:
    folders = (PACKAGE, *(ROOT / name for name in ('training', 'benchmarks', 'test', 'launch')))
    return [path for folder in folders for path in folder.rglob('*.py')]


def test_no_file_is_longer_than_600_lines():
    long = [p.name for p in sources() if len(p.read_text('utf-8').splitlines()) > MOST_LINES]
    assert long == []


def test_no_folder_holds_more_than_15_files():
    count = Counter(p.parent for p in sources() if p.name != '__init__.py')
    wide = {p.relative_to(ROOT).as_posix(): n for p, n in count.items() if n > MOST_FILES}
    assert wide == {}


def test_every_room_says_what_lives_there():
    for path in (*PACKAGE.rglob('__init__.py'), *TRAINING.rglob('__init__.py')):
        text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
        assert len(text) > 40, f'{path.relative_to(ROOT)} has no docstring that describes the room'


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


@pytest.mark.parametrize(
    'room', ['geometry', 'evaluation', 'synthetic', 'message_codec', 'bags', 'pipeline']
)
def test_importing_an_array_room_loads_neither_torch_nor_ros(room):
    assert loaded_after(f'import marigold_ros.{room}') & (TORCH | ROS) == set()


def test_the_node_takes_its_parameters_without_torch():
    pytest.importorskip('rclpy')
    assert loaded_after('import marigold_ros.node.main') & TORCH == set()


def test_the_node_loads_its_default_model_without_diffusers():
    statement = """
from marigold_ros.config import NodeConfig
from marigold_ros.node.loading import load
load(NodeConfig())
"""
    loaded = loaded_after(statement)
    assert 'torch' in loaded
    assert loaded & {'diffusers', 'transformers'} == set()


def test_families_say_whether_they_import_diffusers():
    uses = {
        name: any(
            item.name.split('.')[0] == 'diffusers' and not item.for_typing
            for path in (ROOT / family.loader.split(':')[0].replace('.', '/')).parent.glob('*.py')
            for item in imports_of(path, PACKAGE)
        )
        for name, family in FAMILIES.items()
    }
    assert uses == {name: family.diffusers for name, family in FAMILIES.items()}


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
