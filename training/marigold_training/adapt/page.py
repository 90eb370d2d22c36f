# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The page and the model card of an adaptation."""

from collections.abc import Mapping, Sequence
from html import escape
import math

from marigold_ros.evaluation.protocols.oracle import oracle_depth
from marigold_ros.evaluation.report.drawing import colourise_depth, depth_ticks
from marigold_ros.evaluation.report.frames import inline
from marigold_ros.evaluation.report.html_page import make_page
from marigold_training.adapt.judge import FLICKER, Judged, MEASURES, RANGES, Scores
from marigold_training.adapt.proof import AFTER, BEFORE, Proof
import numpy as np

HEADS = {'abs_rel': 'AbsRel', 'mae': 'MAE m', 'rmse': 'RMSE m', 'delta1': 'δ1'}
FURTHER = {
    **{name: f'{low:g} to {high:g} m' for name, (low, high) in RANGES.items()},
    FLICKER: 'flicker',
}
SHOWN = 3  # frames
NOTE = (
    'Means over the judged frames. The columns by range are AbsRel of the points at this depth. '
    'Flicker is the median change of log depth, relative to the LiDAR, from one judged frame to '
    'the next. Differences are of AbsRel; those of the fusion network are means over the three '
    'patterns of points.'
)


def proof_page(proof: Proof, judged: Sequence[Judged], facts: Mapping[str, str]) -> str:
    """Return the HTML document: what is installed, tables, and images of some judged frames."""
    lines = ''.join(f'<p>{escape(line)}</p>' for line in proof.reasons)
    parts = [
        '<h1>Adaptation</h1>',
        f'<p class="lead">{proof.frames} judged frames over {proof.seconds:.1f} s, which no '
        f'network was trained on: {escape(proof.scope)}.</p>',
        f'<section><div class="panel">{lines}<p>{NOTE}</p></div></section>',
        _section(proof.of_maps, proof.maps),
    ]
    if proof.unfitted:
        parts.append(_section('Metric depth without LiDAR, not fitted', proof.unfitted))
    for split, rows in proof.fused.items():
        parts.append(_section(f'Published depth from {split}, scored at the others', rows))
    parts.append(_images(judged))
    run = ''.join(f'<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>' for a, b in facts.items())
    parts.append(
        f'<section><h2>Run</h2><div class="panel"><table class="facts">{run}</table></div>'
        '</section>'
    )
    return make_page('Adaptation', '\n'.join(parts), {'charts': {}, 'cloud': None})


def _section(title: str, rows: Mapping[str, Scores]) -> str:
    head = ''.join(f'<th>{escape(text)}</th>' for text in ('', *HEADS.values(), *FURTHER.values()))
    body = ''.join(
        f'<tr{_own(row)}><td>{escape(row)}</td>'
        + ''.join(f'<td>{_number(scores[name])}</td>' for name in MEASURES)
        + '</tr>'
        for row, scores in rows.items()
    )
    return (
        f'<section><h2>{escape(title)}</h2><div class="panel"><div class="wide"><table><tr>{head}'
        f'</tr>{body}</table></div></div></section>'
    )


def _number(value: float) -> str:
    return f'{value:.3f}' if math.isfinite(value) else '–'


def _own(row: str) -> str:
    return ' class="own"' if row == AFTER else ''


def _images(judged: Sequence[Judged]) -> str:
    """Return image, and maps before and after fitted to all points, of some judged frames."""
    places = np.unique(np.linspace(0, len(judged) - 1, min(SHOWN, len(judged))).round())
    panels = []
    for place in map(int, places):
        one = judged[place]
        z = one.lidar.z
        low, high = (float(x) for x in np.quantile(z, (0.02, 0.98)))
        scale = low, max(high, 1.1 * low)
        near, *_, far = depth_ticks(*scale)
        drawn = {f'image {place + 1} of {len(judged)}': one.frame.rgb}
        for name in (BEFORE, AFTER):
            title = f'map {name}; {near} (yellow); {far} (violet)'
            prediction = one.predictions[name]
            seen = prediction.relative[one.lidar.v, one.lidar.u]
            limits = (0.5 * low, 2.0 * high)
            depth = oracle_depth(prediction.relative, z, prediction.space, limits, seen)
            drawn[title] = colourise_depth(depth, *scale)
        figures = ''.join(
            f'<figure><img alt="{escape(name)}" width="{panel.shape[1]}" '
            f'height="{panel.shape[0]}" src="{inline(panel)}">'
            f'<figcaption>{escape(name)}</figcaption></figure>'
            for name, panel in drawn.items()
        )
        panels.append(f'<div class="panel"><div class="layers">{figures}</div></div>')
    return f'<section><h2>Maps</h2>{"".join(panels)}</section>'


def adaptation_card(name: str, proof: Proof, facts: Mapping[str, str]) -> str:
    """Return the model card, in Markdown."""
    return CARD.format(
        name=name,
        frames=proof.frames,
        seconds=proof.seconds,
        scope=proof.scope,
        of_maps=proof.of_maps,
        reasons='\n'.join(f'- {line}' for line in proof.reasons),
        maps=_markdown(proof.maps) + _unfitted(proof),
        fused='\n'.join(f'From {name}:\n{_markdown(rows)}' for name, rows in proof.fused.items()),
        facts='\n'.join(f'- {key}: {value}' for key, value in facts.items()),
    )


def _unfitted(proof: Proof) -> str:
    if not proof.unfitted:
        return ''
    return f'\nMetric depth without LiDAR, not fitted:\n{_markdown(proof.unfitted)}'


def _markdown(rows: Mapping[str, Scores]) -> str:
    heads = [*HEADS.values(), *FURTHER.values()]
    lines = [f'| | {" | ".join(heads)} |', '|---' * (len(heads) + 1) + '|']
    lines += [
        f'| {row} | {" | ".join(_number(scores[name]) for name in MEASURES)} |'
        for row, scores in rows.items()
    ]
    return '\n' + '\n'.join(lines) + '\n'


CARD = """# {name}

A model and a fusion network (folder `fusion`), adapted to recordings of one robot by its
LiDAR. Judged on {frames} frames over {seconds:.1f} s that no network was trained on: {scope}.

{reasons}

Not for safety-critical use; check it on other recordings of the robot first.

{of_maps}:
{maps}
Published depth from some points, scored at the others:

{fused}
{facts}

Licences of base and recordings apply to these weights. Use the folder as `model` of the node.
`proof.html` and `results.json` have the figures.
"""
