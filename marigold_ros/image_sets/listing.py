# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Pairing of image and depth files: from a list, or by two patterns.

In a pattern ``*`` matches any text within one name and ``**/`` any folders. An image and a depth
file form a pair when the stars of both patterns match the same texts; a final ``.*``, the suffix,
does not count. So ``rgb/*.jpg`` pairs with ``depth/*.png`` by the stem, and ``*/image.*`` with
``*/depth_mm.png`` by the folder. In sorted lists one missing file would shift all that follow.
"""

from collections.abc import Iterable
from pathlib import Path
import re

from marigold_ros.errors import ConfigurationError, InputError

Entry = tuple[str, str]
_WILD = re.compile(r'(\*\*/|\*)')


def split_lines(text: str, path: Path | str, columns: int, form: str) -> list[list[str]]:
    """Return the names on each line of a list; InputError with the form of a line for too few."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and len(words) < columns:
            raise InputError(f"{path} line {number} is '{line.strip()}'; {form}", cause='fields')
        if words:
            check_different(*words[:2])
            found.append(words)
    return found


def match(names: Iterable[str], images: str, depths: str) -> tuple[list[Entry], list[str]]:
    """
    Pair files by patterns as described above.

    Returns sorted (image, depth), and problems in words: files without a counterpart or with two.
    Raises ConfigurationError if the patterns have different numbers of stars, or none, or fit the
    same file.
    """
    of_images, of_depths = _pattern(images), _pattern(depths)
    if of_images.groups != of_depths.groups or not of_images.groups:
        raise ConfigurationError(
            f"'{images}' has {of_images.groups} counted stars and '{depths}' "
            f'{of_depths.groups}; '
            "use the same number, at least one, in both (a final '.*' does not count)"
        )
    found: tuple[dict, dict] = ({}, {})
    problems = []
    for name in sorted(names):
        for pattern, kept in zip((of_images, of_depths), found, strict=True):
            key = pattern.fullmatch(name)
            if key and key.groups() in kept:
                problems.append(f'{name} and {kept[key.groups()]} match the same pattern')
            elif key:
                kept[key.groups()] = name
    rgb, depth = found
    for key in sorted(set(rgb) & set(depth)):
        check_different(rgb[key], depth[key])
    problems += [f'{rgb[key]} has no depth' for key in sorted(set(rgb) - set(depth))]
    problems += [f'{depth[key]} has no image' for key in sorted(set(depth) - set(rgb))]
    return [(rgb[key], depth[key]) for key in sorted(set(rgb) & set(depth))], problems


def check_different(image: str, depth: str) -> None:
    """Raise ConfigurationError for a file that would be its own truth."""
    if image == depth:
        raise ConfigurationError(
            f'{image} is both image and depth, and would be scored against itself; give two '
            'patterns or columns that name different files'
        )


def find(names: Iterable[str], images: str) -> list[str]:
    """Return the files that match a pattern, sorted."""
    pattern = _pattern(images)
    return sorted(name for name in names if pattern.fullmatch(name))


def _pattern(text: str) -> re.Pattern[str]:
    stem = text.removesuffix('.*')
    parts = [
        {'*': '([^/]*)', '**/': '((?:[^/]+/)*)'}.get(part, re.escape(part))
        for part in _WILD.split(stem)
    ]
    return re.compile(''.join(parts) + (r'\.[^./]+' if stem != text else ''))
