# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Where a data set's files lie: a folder, or an uncompressed tar that is read without unpacking.

The tar's members are found once, at the start; after that each one is read at its place. Both
can be handed to other processes: nothing is kept open.
"""

from __future__ import annotations

from functools import cached_property
import os
from pathlib import Path
import tarfile

from marigold_ros.errors import InputError


class Folder:
    """Files below a folder, by their names relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All files, sorted; hidden ones and those in hidden folders are left out."""
        found = []
        for folder, inner, files in os.walk(self.path, followlinks=True):
            inner[:] = [name for name in inner if not name.startswith('.')]
            base = Path(folder).relative_to(self.path)
            found += [(base / name).as_posix() for name in files if not name.startswith('.')]
        return tuple(sorted(found))

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises InputError where there are none."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise _unreadable(self.path, name, error) from error

    def state(self, name: str) -> tuple[int, int] | None:
        """Size in bytes and time of change in ns, None where the file is missing."""
        try:
            facts = os.stat(self.path / name)
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns


class Tar:
    """Members of an uncompressed tar file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = path.stat().st_mtime_ns
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, mode='r:') as archive:
                for member in archive:
                    if member.isfile():
                        self._places[_plain(member.name)] = member.offset_data, member.size
                end = archive.offset
            self._check_end(end)
        except (tarfile.TarError, EOFError) as error:
            raise InputError(
                f'{path} cannot be read as an uncompressed tar ({error}); fetch it again, or '
                'unpack it and give the folder',
                cause='truncated',
            ) from error

    def _check_end(self, place: int) -> None:
        """The module takes a cut between or within headers for the end."""
        with self.path.open('rb') as file:
            file.seek(place)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f'no end mark at byte {place}')

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All members, sorted."""
        return tuple(sorted(self._places))

    def read(self, name: str) -> bytes:
        """Return a member's bytes; raises InputError where it is missing or cut off."""
        if _plain(name) not in self._places:
            raise InputError(f'{self.path} has no member {name}; check the list', 'missing')
        offset, size = self._places[_plain(name)]
        try:
            with self.path.open('rb') as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise _unreadable(self.path, name, error) from error
        if len(data) < size:
            raise InputError(
                f'{self.path} ends within {name}: {len(data)} of {size} bytes; fetch it again',
                cause='truncated',
            )
        return data

    def state(self, name: str) -> tuple[int, int] | None:
        """Size in bytes and the tar's time of change in ns, None where there is no member."""
        place = self._places.get(_plain(name))
        return None if place is None else (place[1], self._time)


Storage = Folder | Tar


def open_storage(path: Path) -> Storage:
    """
    Open a data set's folder or tar.

    Raises
    ------
    InputError
        If there is neither, or the tar is compressed or damaged.

    """
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Tar(path)
    raise InputError(
        f"{path} is neither a folder nor a .tar; check 'folder' in the recipe and the folder of "
        'data that it starts from',
        cause='missing',
    )


def _plain(name: str) -> str:
    """Tars are written with and without a leading './'."""
    return name.removeprefix('./')


def _unreadable(path: Path, name: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f'{path / name} is missing; fetch it or take it off the list', 'missing')
    return InputError(f'{path / name} cannot be read ({error.strerror}); check the disk')
