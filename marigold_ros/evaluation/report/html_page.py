# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Puts a page together from the files in ``page/``: one HTML file that needs nothing beside it.

Decision: a content security policy lets only this page's own script run, by its hash, and fetches
nothing. Text of a bag is escaped where it is written; were that forgotten once, it could still do
nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
import hashlib
from html import escape
import json
from pathlib import Path
from string import Template
from typing import Any

_FILES = Path(__file__).parent / 'page'
_SCRIPTS = ('charts.js', 'frames.js', 'cloud.js', 'main.js')


def make_page(title: str, body: str, data: Mapping[str, Any]) -> str:
    """
    Make a page.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML, its texts escaped.
    data : mapping
        What the scripts draw, of what JSON has.

    Returns
    -------
    str
        The HTML document.

    """
    script = '\n'.join(_read(name).replace("'use strict';\n", '') for name in _SCRIPTS)
    script = f"'use strict';\n{script}"
    style = _read('report.css')
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return Template(_read('template.html')).substitute(
        policy=policy,
        title=escape(title),
        style=style,
        body=body,
        data=_island(data),
        script=script,
    )


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding='utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode('utf-8')).digest()
    return f'sha256-{base64.b64encode(digest).decode("ascii")}'


def _island(data: Mapping[str, Any]) -> str:
    """JSON that no text inside can end: neither ``</script>`` nor ``<!--`` survives."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')
