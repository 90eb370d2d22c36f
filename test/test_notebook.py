# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The notebook runs from top to bottom, and its pipeline beats the interpolation beside it."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat', reason='needs nbclient')
NOTEBOOK = Path(__file__).resolve().parents[1] / 'docs' / 'library.ipynb'

pytestmark = pytest.mark.slow  # a kernel of its own loads the model


def test_notebook_runs_and_beats_interpolation():
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    probe = 'print(scores["linear interpolation"]["abs_rel"] / scores["this pipeline"]["abs_rel"])'
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    NotebookClient(notebook, timeout=120, kernel_name='python3').execute()
    assert float(notebook.cells[-1].outputs[0].text) > 1
