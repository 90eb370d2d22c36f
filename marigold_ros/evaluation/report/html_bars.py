# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One horizontal bar of the report, as HTML and SVG that need no script."""

from __future__ import annotations

from html import escape


def bar(
    name: str,
    share: float,
    text: str,
    own: bool,
    whisker: tuple[float, float] | None = None,
    tail: float = 0.0,
) -> str:
    """
    Draw one row of a ``<div class="bars">``.

    Parameters
    ----------
    name, text : str
        Plain text before and after the bar.
    share : float
        Its length, of 1.
    own : bool
        Whether it stands out.
    whisker : (float, float) or None
        Ends of a thin line, of 1.
    tail : float
        Where a lighter bar behind it ends, of 1.

    """
    kind = ' own' if own else ''
    parts = []
    if tail > share:
        parts.append(f'<rect class="tail" width="{100 * tail:.2f}%" height="18" rx="3"/>')
    parts.append(f'<rect class="fill" width="{100 * share:.2f}%" height="18" rx="3"/>')
    if whisker:
        low, high = (f'{100 * end:.2f}%' for end in whisker)
        parts.append(f'<line class="whisker" x1="{low}" x2="{high}" y1="9" y2="9"/>')
        parts += [
            f'<line class="whisker" x1="{end}" x2="{end}" y1="5" y2="13"/>' for end in (low, high)
        ]
    return (
        f'<span class="name{kind}">{escape(name)}</span>'
        f'<svg class="bar{kind}" aria-hidden="true">{"".join(parts)}</svg>'
        f'<span class="figure{kind}">{escape(text)}</span>'
    )
