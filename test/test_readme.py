# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""README and docs/ agree with the code: links, images, commands, rooms; the notebook runs."""

from __future__ import annotations

import ast
from pathlib import Path
import re

from marigold_ros.__main__ import main
from marigold_ros.config import NodeConfig
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.node.interface.launch_arguments import SPARSE_TOPICS
from marigold_ros.node.interface.parameter_file import parameter_table
from marigold_ros.settings import parameters
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / 'README.md'
PAGES = sorted((ROOT / 'docs').glob('*.md'))
DOCUMENTS = [
    README,
    *PAGES,
    *(ROOT / name for name in ('training/README.md', 'CONTRIBUTING.md', 'SECURITY.md')),
]

every_document = pytest.mark.parametrize(
    'path', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def prose(path: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r'^```.*?^```', '', path.read_text(encoding='utf-8'), flags=re.M | re.S)


def links(path: Path) -> list[str]:
    """Return the targets of relative links and images."""
    found = re.findall(r'\]\(([^)\s]+)\)', prose(path))
    return [target for target in found if not re.match(r'[a-z]+:', target)]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site and code hosts make them."""
    titles = re.findall(r'^#+ (.+)$', prose(path), flags=re.M)
    words = (re.sub(r'[^\w\s-]', '', title.lower()).strip() for title in titles)
    return {re.sub(r'\s+', '-', text) for text in words}


def test_the_readme_has_at_most_200_lines():
    assert len(README.read_text(encoding='utf-8').splitlines()) <= 200


@every_document
def test_every_relative_link_and_image_exists(path):
    for target in links(path):
        name, _, anchor = target.partition('#')
        file = (path.parent / name).resolve() if name else path
        assert file.is_file(), f'{path.name} links {target}'
        if anchor:
            assert anchor in anchors(file), f'{path.name} links {target}'


def test_pages_are_written_for_the_site():
    outside = [(path.name, t) for path in PAGES for t in links(path) if t.startswith('..')]
    assert outside == []  # it holds docs/ only
    # What belongs to an item of a list is indented by four, and ends with an empty line.
    broken = r'\n\n {1,3}\S|\n {4}[^-\s\d].*\n(?:-|\d+\.) '
    assert [path.name for path in PAGES if re.search(broken, prose(path))] == []


def test_images_of_the_documentation_are_below_3_mb():
    sizes = {
        path.name: path.stat().st_size
        for folder in (ROOT / 'resource', ROOT / 'docs' / 'images')
        for path in folder.glob('*.*')
    }
    assert sizes['demo.webp'] > 0
    assert {name: size for name, size in sizes.items() if size > 3_000_000} == {}


@every_document
def test_every_command_shown_exists_with_its_options(path):
    text = path.read_text(encoding='utf-8').replace('\\\n', '')
    for name, arguments in re.findall(r'-m marigold_ros ([a-z]+)([^`#\n]*)', text):
        options = re.findall(r'--[a-z-]+', arguments)
        with pytest.raises(SystemExit, match='0'):
            main([name, '--help', *options])


def test_the_readme_shows_its_moving_picture_and_the_three_paths():
    assert 'resource/demo.webp' in links(README)
    shown = set(re.findall(r'-m marigold_ros ([a-z]+)', README.read_text(encoding='utf-8')))
    assert {'predict', 'demo', 'evaluate', 'label'} <= shown


def exists_somewhere(name: str) -> bool:
    """Whether a path exists from the root, a package, or where pages say that it begins."""
    folders = (
        *('', 'marigold_ros', 'marigold_ros/geometry'),
        *('training', 'training/marigold_training', 'training/recipes'),
    )
    return any((ROOT / folder / name).exists() for folder in folders)


@every_document
def test_every_file_and_folder_named_exists(path):
    text = path.read_text(encoding='utf-8')
    whole = r'(?<![\w/])((?:training|test|config|marigold_ros|docs)/[\w./-]*\w)'
    assert [name for name in re.findall(whole, text) if not (ROOT / name).exists()] == []
    # `src/` is of other repositories.
    part = r'`(?!src/)((?:[\w-]+/)+[\w.-]+\.(?:py|js|sh|yaml|xml|ipynb))`'
    assert [name for name in re.findall(part, text) if not exists_somewhere(name)] == []


def test_every_place_that_the_design_page_names_exists():
    text = (ROOT / 'docs' / 'design.md').read_text(encoding='utf-8')
    rows = text.split('| where is…')[1].split('\n\n')[0]
    named = re.findall(r'`([\w/]+(?:\.py|/))`', rows)
    assert len(named) > 15
    assert [name for name in named if not exists_somewhere(name)] == []


def test_every_page_is_in_the_navigation_of_the_site_and_in_the_index():
    site = yaml.safe_load((ROOT / 'mkdocs.yml').read_text(encoding='utf-8'))
    named = set(re.findall(r'[\w-]+\.md', str(site['nav'])))
    listed = {'index.md', *links(ROOT / 'docs' / 'index.md')}
    assert named == listed == {path.name for path in PAGES}


def test_the_table_of_parameters_is_the_one_that_config_makes():
    text = (ROOT / 'docs' / 'parameters.md').read_text(encoding='utf-8')
    table = text.split('--table`) -->\n')[1].split('<!-- parameters: end')[0]
    assert table.strip() == parameter_table().strip(), (
        'run python -m marigold_ros.node.interface.parameter_file --table and paste it'
    )


def test_parameters_in_the_readme_have_their_defaults():
    rows = re.findall(r'^\| `([\w.]+)` \| `([^`]+)` \|', README.read_text(encoding='utf-8'), re.M)
    made = re.findall(r'^\| `([\w.]+)` \| `([^`]+)` \|', parameter_table(), re.M)
    assert len(rows) == 10
    assert set(rows) <= set(made)


@every_document
def test_settings_named_in_the_text_exist(path):
    names = {parameter.name for parameter in parameters(NodeConfig)}
    groups = {name.partition('.')[0] for name in names if '.' in name}
    named = re.findall(rf'`((?:{"|".join(groups)})\.\w+)[:`]', prose(path))
    assert [name for name in named if name not in names] == []


def test_the_evaluation_page_defines_every_metric():
    text = (ROOT / 'docs' / 'evaluation.md').read_text(encoding='utf-8')
    assert [name for name in METRICS if f'`{name}`' not in text] == []


@pytest.mark.parametrize('name', ['depth.launch.py', 'replay.launch.py'])
def test_the_interface_page_names_every_launch_argument(name):
    text = (ROOT / 'docs' / 'ros-interface.md').read_text(encoding='utf-8')
    tree = ast.parse((ROOT / 'launch' / name).read_text(encoding='utf-8'))
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    rows = [row for table in tables for row in table.elts]
    named = [row.elts[0].value for row in rows if not isinstance(row, ast.Starred)]
    assert len(named) > 4
    named += [topic for topic, _, _ in SPARSE_TOPICS]
    assert [argument for argument in named if f'`{argument}`' not in text] == []


def test_the_design_page_describes_every_room():
    text = (ROOT / 'docs' / 'design.md').read_text(encoding='utf-8')
    package = ROOT / 'marigold_ros'
    rooms = {p.parent.relative_to(package) for p in package.glob('*/**/__init__.py')}
    rooms = {room.parts for room in rooms if len(room.parts) <= 2}
    assert [parts for parts in rooms if f'`{parts[-1]}`' not in text] == []


@pytest.mark.parametrize('name', ['README.md', 'docs/design.md'])
def test_the_drawing_of_the_architecture_has_every_room(name):
    text = (ROOT / name).read_text(encoding='utf-8')
    drawing = re.search(r'^```text\n( shells .*?)^```', text, flags=re.M | re.S)[1]
    package = ROOT / 'marigold_ros'
    rooms = {path.parent.name for path in package.glob('*/__init__.py')}
    rooms |= {path.stem for path in package.glob('[!_]*.py')}
    assert rooms - set(re.findall(r'\w+', drawing)) == set()


@pytest.mark.slow  # a kernel of its own loads the model
def test_notebook_runs_and_beats_interpolation():
    nbformat = pytest.importorskip('nbformat', reason='needs nbclient')
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / 'docs' / 'library.ipynb', as_version=4)
    probe = 'print(scores["linear interpolation"]["abs_rel"] / scores["this pipeline"]["abs_rel"])'
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    NotebookClient(notebook, timeout=120, kernel_name='python3').execute()
    assert float(notebook.cells[-1].outputs[0].text) > 1
