# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Containers and workflows name what exists; neither is built or run by these tests."""

from pathlib import Path
import re

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILES = sorted((ROOT / 'docker').glob('*Dockerfile'))


def workflow():
    text = (ROOT / '.github' / 'workflows' / 'ci.yml').read_text(encoding='utf-8')
    return yaml.safe_load(text)['jobs']


def commands(job):
    return '\n'.join(step.get('run', '') for step in job['steps'])


def test_every_distribution_is_built_and_tested():
    job = workflow()['colcon']
    assert job['strategy']['matrix']['distribution'] == ['humble', 'jazzy', 'lyrical', 'rolling']
    assert '${{ matrix.distribution }}' in job['container']
    assert 'colcon build' in commands(job)
    assert 'colcon test --return-code-on-test-failure' in commands(job)
    named = re.findall(r'src/marigold_ros/(\S+)', commands(job))
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_lint_tests_and_docs_are_targets_of_make():
    targets = workflow()['make']['strategy']['matrix']['target']
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert targets == ['lint', 'test', 'test-all', 'docs']
    assert all(re.search(rf'^{target}:', makefile, re.M) for target in targets)


def test_every_step_uses_an_action_or_runs_a_command():
    for job in workflow().values():
        assert job['runs-on'] == 'ubuntu-latest'
        for step in job['steps']:
            assert ('uses' in step) != ('run' in step)
            if 'uses' in step:  # a tag may move, a commit does not
                assert re.fullmatch(r'actions/[\w-]+@[0-9a-f]{40}', step['uses'])


@pytest.mark.parametrize('path', DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_exists(path):
    text = path.read_text(encoding='utf-8')
    copied = re.findall(r'^COPY (\S+) ', text, re.M)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert 'not built here' in text
    assert f'docker build -f docker/{path.name}' in text


def test_both_containers_are_there():
    assert [path.name for path in DOCKERFILES] == ['Dockerfile', 'jetson.Dockerfile']
    first = (ROOT / 'docker' / 'Dockerfile').read_text(encoding='utf-8')
    assert re.search(r'^FROM ros:jazzy-perception$', first, re.M)
