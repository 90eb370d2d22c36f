# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Assemble a page from the files in ``page/``: one HTML file that needs nothing beside it.

A content security policy lets only the page's own script run, by its hash, and fetches nothing:
text of a bag is escaped where it is written, and harmless where that was forgotten.
"""

import base64
from collections.abc import Iterable, Mapping
import hashlib
import html
import json
from pathlib import Path
from string import Template
from typing import Any

from marigold_ros.errors import shown

_FILES = Path(__file__).parent / 'page'
_SCRIPTS = ('charts.js', 'frames.js', 'cloud.js', 'save.js', 'main.js')


def escape(text: str) -> str:
    """Return text of anybody as HTML, in one line of limited length."""
    return html.escape(shown(text))


def make_page(title: str, body: str, data: Mapping[str, Any]) -> str:
    """
    Return a page as an HTML document.

    ``title`` is plain text, ``body`` HTML with escaped texts, ``data`` what the scripts draw, as
    JSON types.
    """
    script = '\n'.join(
        ["'use strict';", *(_read(name).replace("'use strict';\n", '') for name in _SCRIPTS)]
    )
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


def table(heads: Iterable[str], rows: Iterable[str], kind: str = '') -> str:
    """Return a table of HTML rows under plain heads; ``kind`` is its class."""
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    opening = f'<table class="{kind}">' if kind else '<table>'
    return f'{opening}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def scrolled(content: str) -> str:
    """Return a table that scrolls sideways where it is too wide, by keys too."""
    return f'<div class="wide" tabindex="0">{content}</div>'


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding='utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode('utf-8')).digest()
    return f'sha256-{base64.b64encode(digest).decode("ascii")}'


def _island(data: Mapping[str, Any]) -> str:
    """Return JSON that no text inside can end: neither ``</script>`` nor ``<!--`` survives."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')
