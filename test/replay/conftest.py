# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What tests of replays share."""

import csv
import json

import pytest


@pytest.fixture
def figures():
    """Return a function that reads the results in a folder, as far as they can be repeated."""
    return _figures


def _figures(folder):
    """All that does not depend on the hour."""
    results = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
    for name in ('rate', 'latency_ms', 'fps', 'memory'):
        results.pop(name)
    for other in results.get('models', {}).values():
        other.pop('latency_ms')
    results['verdict'].pop('speed')
    results['verdict']['text'].pop('speed')
    results['provenance'].pop('created')
    with (folder / 'per_frame.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    return results, [
        {key: value for key, value in row.items() if not key.endswith('total_ms')} for row in rows
    ]
