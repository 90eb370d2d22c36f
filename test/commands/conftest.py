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


@pytest.fixture
def drive_without(changed_drive, tmp_path):
    """Give a function that copies the drive without some of its topics."""

    def copy(*topics, name='bag'):
        def change(topic, message, log_ns):
            return None if topic in topics else (topic, {}, log_ns)

        return changed_drive(tmp_path / name, change)

    return copy


@pytest.fixture
def cut_drive(changed_drive, tmp_path):
    """Give a function that copies the drive and cuts its file off; returns folder and file."""

    def copy(name='bag', storage='mcap'):
        bag = changed_drive(tmp_path / name, storage=storage)
        (file,) = (path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))
        os.truncate(file, int(0.7 * file.stat().st_size) // 4096 * 4096)  # whole pages
        return bag, file

    return copy
