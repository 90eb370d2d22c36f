# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What commands print: notes and progress on stderr, aligned tables, figures of an evaluation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import math
import sys
from typing import Any

from marigold_ros.errors import number, shown

_LONGEST_CELL = 200  # of a table; names in ROS have up to 255
_COLUMNS = ('abs_rel', 'median_abs_rel', 'rmse', 'mae', 'bias', 'delta1')
_ALONE = 'oracle (model alone)'  # no bound of published depth, which points correct
_SURFACES = {
    'boundary_f1': 'edges F1 {:.3f}',
    'flying_rate': 'flying pixels per good one {:.3f}',
    'planarity': 'deviation from flat {:.2%}',
    'plane_angle_deg': 'planes tilted by {:.1f} degrees',
}


def note(text: str) -> None:
    """Print a line on stderr; stdout is for the figures."""
    print(shown(text), file=sys.stderr, flush=True)


def page(lines: Iterable[str]) -> str:
    """Return lines as text to print: what strangers wrote in one of them stays in it."""
    return '\n'.join(map(shown, lines))


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns, the first to the left, the others to the right."""
    rows = [[shown(cell, _LONGEST_CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def step_bar(total: int, what: str) -> Any:
    """Return a bar on stderr that ``update()`` moves on and that vanishes at the end."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=None, leave=False)


@contextmanager
def frame_bar(total: int, what: str | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal; yield a function of the frames done so far."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what and shown(what, 80), unit='frame', disable=None) as bar:

        def move_to(done: int) -> None:
            bar.update(done - bar.n)

        yield move_to


def summary(results: dict[str, Any], folder: str) -> str:
    """Return the headline figures as a table for a terminal."""
    # Imports of numpy and OpenCV are inside functions for an instant --help.
    from marigold_ros.evaluation.metrics.metric_table import METRICS
    from marigold_ros.evaluation.results.results import (
        difference_text,
        frames_text,
        further_baselines,
        is_dataset,
        model_scores,
        warning_texts,
    )

    titles = ((METRICS[name].title if name in METRICS else 'median') for name in _COLUMNS)
    found = results['verdict']
    lines = [
        f'verdict: {found["title"]}',
        *(f'  {name:10}{text}' for name, text in found['text'].items()),
        frames_text(results),
    ]
    heads = f'{"".join(f"{title:>9}" for title in titles)}  frames   95 % interval of AbsRel'
    rows = [('', heads)]
    for model, protocol, scores in model_scores(results):
        rows.append((_row_name(model, protocol, results), _protocol_row(scores)))
    for name, values in further_baselines(results).items():
        paired = results['baselines_paired'][name]['abs_rel']
        difference = f'{paired["n_frames"]:8d}   difference {difference_text(paired)}'
        rows.append((f'baseline {name}', _figures(values) + difference))
    width = max(24, *(len(name) for name, _ in rows))
    lines += [f'{name:{width}}{figures}' for name, figures in rows]
    lines += _more(results)
    covered = results['protocols'].get('heldout', {}).get('sigma_coverage')
    if covered:
        lines.append(
            f'held-out points within 1 sigma: {covered["1"]:.1%}, within 2: {covered["2"]:.1%}'
        )
    if not results['protocols']:
        missing = 'neither LiDAR in view nor true depth'
        missing = 'none has depth in range' if is_dataset(results) else missing
        lines.append(f'nothing could be scored: {missing}')
    if 'robustness' in results:
        lines += _robustness_lines(results['robustness'])
    lines += warning_texts(results)
    lines.append(f'report: {folder}/report.html')
    return page(lines)


def _row_name(model: str, protocol: str, results: dict[str, Any]) -> str:
    name = _ALONE if protocol == 'oracle' else protocol
    if results.get('models') and protocol in ('heldout', 'truth'):
        name += f' ({results["provenance"]["options"]["alignment.method"]})'
    return name if model == 'this model' else f'{model}: {name}'


def _robustness_lines(found: dict[str, Any]) -> list[str]:
    """Tabulate AbsRel by corruption and strength: of the first protocol and of the oracle."""
    lines = [f'{"AbsRel at strength":24}' + ''.join(f'{s:9d}' for s in found['strengths'])]
    for kind, protocols in found['corruptions'].items():
        for place, (protocol, curve) in enumerate(protocols.items()):
            if place == 0 or protocol == 'oracle':
                figures = ''.join(f'{number(x, 3):>9}' for x in curve['abs_rel'])
                lines.append(f'{f"{kind} ({protocol})":24}{figures}')
    return lines


def why_unscored(results: dict[str, Any]) -> str:
    """Return one sentence: why no frame could be scored, and the remedy."""
    from marigold_ros.evaluation.results.results import is_dataset

    read = results['frames']['read']
    if is_dataset(results):
        rejected = ', '.join(f'{n} {cause}' for cause, n in results['frames']['rejected'].items())
        return (
            f'none of {read} images could be scored (rejected: {rejected or "0"}): a score needs '
            'true depth from alignment.min_depth to alignment.max_depth; check --depths and '
            '--depth-scale'
        )
    warnings: dict[str, int] = results['provenance'].get('warnings', {})
    reason = max(warnings, key=lambda text: warnings[text], default='')
    reason = reason or results['provenance']['scoring']['first_not_metric']
    return (
        f'none of {read} images could be scored ({reason or "no LiDAR and no true depth"}): a '
        'score needs a LiDAR point in view (camera_info, the transform camera <- LiDAR, scans '
        'near the images) or true depth (--truth)'
    )


def _protocol_row(scores: Mapping[str, Any]) -> str:
    values = {**scores['macro'], 'median_abs_rel': scores['median_abs_rel']}
    ends = scores.get('interval', {}).get('abs_rel')
    interval = f'   {ends[0]:.3f} to {ends[1]:.3f}' if ends else ''
    return f'{_figures(values)}{scores["n_frames"]:8d}{interval}'


def _figures(values: Mapping[str, Any]) -> str:
    return ''.join(f'{number(values[name], 3):>9}' for name in _COLUMNS)


def _more(results: dict[str, Any]) -> list[str]:
    """Return a line for each further measurement."""
    lines = []
    for name, scores in results['protocols'].items():
        share = scores['macro']['coverage']
        if name in ('heldout', 'truth') and share < 1:
            lines.append(
                f'{name}: depth at {share:.1%} of the points, elsewhere the nearest fit point'
            )
        if name in ('heldout', 'truth') and scores['by_range']:
            bins = ', '.join(f'{p["from"]:.0f} m {p["abs_rel"]:.3f}' for p in scores['by_range'])
            near = scores['near_field']
            error = number(near['abs_rel'], 3)
            lines.append(f'{name}, below {near["to"]:.0f} m {error}; from {bins}')
    oracle = results['provenance']['scoring']['oracle']
    if oracle['rule'] != 'own' and 'oracle' in results['protocols']:
        lines.append(f'oracle {oracle["rule"]}: {oracle["text"]}')
    drift = results['temporal'].get('scale_drift')
    if drift and math.isfinite(drift['ratio']):
        lines.append(f'scale drift from frame to frame: {drift["ratio"]:.2%}')
    flicker = results['temporal'].get('flicker')
    if flicker:
        by = ' and '.join(name for name, pairs in flicker['matched_by'].items() if pairs)
        mean, median = flicker['value'], flicker['median']
        lines.append(f'flicker of static points, by {by}: mean {mean:.2%}, median {median:.2%}')
    found = results['surfaces']
    words = [text.format(found[name]) for name, text in _SURFACES.items() if name in found]
    if words:
        lines.append(f'surfaces: {", ".join(words)}')
    area = results['protocols'].get('heldout', {}).get('sigma')
    if area:
        random = area['ause_of_random_order']
        lines.append(
            f'ranking of errors by sigma: AUSE {area["ause"]:.3f}, random order {random:.3f}'
        )
    return lines
