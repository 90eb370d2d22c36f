# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bags as commands meet them, made of the short drive, and a ramp in place of the network."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def loaded_ramp(ramp, monkeypatch):
    """Make commands load a model that predicts a ramp; returns it."""
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *given: ramp)
    return ramp


@pytest.fixture(scope='session')
def copy_without(changed_drive, short_drive):
    """Give a function that copies a bag without some of its topics."""

    def copy(path, *topics, source=short_drive):
        def change(topic, message, log_ns):
            return None if topic in topics else (topic, {}, log_ns)

        return changed_drive(path, change, source=source)

    return copy


@pytest.fixture
def drive_without(copy_without, tmp_path):
    """Give a function that copies the drive without some of its topics."""
    return lambda *topics, name='bag': copy_without(tmp_path / name, *topics)


@pytest.fixture
def cut_drive(changed_drive, tmp_path):
    """Give a function that copies the drive and cuts its file off; returns folder and file."""

    def copy(name='bag', storage='mcap'):
        bag = changed_drive(tmp_path / name, storage=storage)
        (file,) = (path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))
        os.truncate(file, int(0.7 * file.stat().st_size) // 4096 * 4096)  # whole pages
        return bag, file

    return copy
