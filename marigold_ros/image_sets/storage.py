# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Files of a data set in a folder or an uncompressed tar.

A tar's members are indexed once and then read in place. Folders and tars keep no file open, so
that other processes can have copies.
"""

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
        """All files, sorted; hidden ones are skipped, and folders named once, however linked."""
        found, seen, tops = list[str](), set[str](), [self.path]
        for top in tops:  # linked folders come after all others, so that those keep their names
            for folder, inner, files in os.walk(top):
                real = os.path.realpath(folder)
                if real in seen:
                    inner.clear()
                    continue
                seen.add(real)
                inner[:] = sorted(name for name in inner if not name.startswith('.'))
                tops += [path for name in inner if (path := Path(folder, name)).is_symlink()]
                base = Path(folder).relative_to(self.path)
                found += [(base / name).as_posix() for name in files if not name.startswith('.')]
        return tuple(sorted(found))

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises InputError if it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise _unreadable(self.path, name, error) from error

    def state(self, name: str) -> tuple[int, int] | None:
        """Return size in bytes and modification time in ns, None if the file is missing."""
        try:
            facts = os.stat(self.path / name)
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns


class Tar:
    """Members of an uncompressed tar, read in place; raises InputError if it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size, self._time = path.stat().st_size, path.stat().st_mtime_ns
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, mode='r:') as archive:
                for member in archive:
                    if member.offset_data + member.size > size:  # as a sparse one can state
                        raise tarfile.ReadError(f'{member.name} ends after it')
                    if member.isfile():
                        self._places[_plain(member.name)] = member.offset_data, member.size
                end = archive.offset
            self._check_end(end)
        # What a header states can be more than the library or the memory takes.
        except (tarfile.TarError, EOFError, ValueError, OverflowError, MemoryError) as error:
            raise InputError(
                f'{path} cannot be read as an uncompressed tar ({error}); fetch it again, or '
                'unpack it and give the folder',
                cause='truncated',
            ) from error
        # Without hidden ones, as ._a.png of macOS.
        self.names = tuple(sorted(name for name in self._places if '/.' not in f'/{name}'))

    def _check_end(self, place: int) -> None:
        """Raise unless an end mark follows: tarfile takes a cut at a header for the end."""
        with self.path.open('rb') as file:
            file.seek(place)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f'no end mark at byte {place}')

    def read(self, name: str) -> bytes:
        """Return a member's bytes; raises InputError if it is missing or truncated."""
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
        """Return size in bytes and the tar's modification time in ns, None if missing."""
        place = self._places.get(_plain(name))
        return None if place is None else (place[1], self._time)


Storage = Folder | Tar


def open_storage(path: Path) -> Storage:
    """Open a folder or tar; raises InputError if it is missing, compressed or damaged."""
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Tar(path)
    raise InputError(
        f"{path} is neither a folder nor a .tar; check 'folder' in the recipe and the base folder "
        'of the data',
        cause='missing',
    )


def _plain(name: str) -> str:
    """Drop a leading './', which some tars have."""
    return name.removeprefix('./')


def _unreadable(path: Path, name: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(
            f'{path / name} is missing; fetch it or remove it from the list', 'missing'
        )
    return InputError(f'{path / name} cannot be read ({error.strerror}); check the disk')
