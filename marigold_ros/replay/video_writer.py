# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Videos that browsers play, by PyAV (the extra ``video``), and without it others by OpenCV."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
import errno
from fractions import Fraction
from importlib.util import find_spec
import os
from pathlib import Path
import shutil

import cv2
from marigold_ros.errors import brief, InputError, WriteError
import numpy as np


class VideoWriter:
    """
    Writes RGB images of one size to an .mp4 file; use it in a ``with`` block.

    As H.264 where PyAV is, else as MPEG-4 part 2, which browsers do not play. An earlier file
    stays until the block ends, and for good where the disk is full.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self._rate = path, rate
        # Without the name of the file, which may be as long as names can be.
        self._draft = path.parent / f'.{os.getpid()}.{id(self)}.mp4'
        self._encoder: _H264 | _Mpeg4 | None = None
        self._size = (0, 0)
        self.written = 0

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, kind: object, error: BaseException | None, *trace: object) -> None:
        try:
            if self._encoder is not None:
                is_kept = not isinstance(error, WriteError)
                # After an error, what could not be written either is no news.
                with suppress(WriteError) if error else nullcontext(), self._writing():
                    self._encoder.close(is_kept)
                    if is_kept:
                        os.replace(self._draft, self.path)
        finally:
            with suppress(OSError):
                self._draft.unlink()

    def add(self, rgb: np.ndarray) -> None:
        """
        Append an image.

        Raises InputError if it has another size, or no video of it can be begun, and WriteError
        on a full disk.
        """
        # The codecs take even sides only.
        rgb = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]
        size = rgb.shape[1], rgb.shape[0]
        if self._encoder is None:
            self._size = size
            try:
                self._begin_draft()
            except OSError as error:
                raise InputError(f'cannot write {self.path}: {error.strerror}') from error
            encoder = _H264 if has_h264() else _Mpeg4
            try:  # a relative name with a colon would be an address
                self._encoder = encoder(self._draft.resolve(), self._rate, size)
            except Exception as error:  # PyAV raises many kinds
                raise InputError(
                    f'no video of {size[0]}x{size[1]} px at {self._rate:g} Hz can be written '
                    f'({brief(error)}); reduce the images'
                ) from error
        if size != self._size:  # OpenCV would leave it out without a word
            raise InputError(
                f'an image of {size[0]}x{size[1]} follows images of {self._size[0]}x'
                f'{self._size[1]} in {self.path.name}; give images of one size'
            )
        with self._writing():
            self._encoder.add(np.ascontiguousarray(rgb))
        self.written += 1

    def _begin_draft(self) -> None:
        """Create the draft; raises OSError also where it could not be renamed at the end."""
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._draft.open('wb').close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(
                f'cannot write {self.path} ({error.strerror}): free some space on its disk'
            ) from error


def has_h264() -> bool:
    """Return whether videos are written as browsers play them."""
    return find_spec('av') is not None


class _H264:
    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        import av

        self._frame_of = av.VideoFrame.from_ndarray
        self._file = av.open(str(path), 'w')
        # NTSC's is 30000 / 1001.
        rational = Fraction(rate).limit_denominator(1001)
        self._stream = self._file.add_stream('libx264', rational, {'preset': 'veryfast'})
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = 'yuv420p'
        self._stream.codec_context.open()

    def add(self, rgb: np.ndarray) -> None:
        self._file.mux(self._stream.encode(self._frame_of(rgb, 'rgb24')))

    def close(self, is_kept: bool) -> None:
        try:
            if is_kept:  # FFmpeg crashes on images after a header that the disk did not take
                self._file.mux(self._stream.encode())
        finally:  # else the garbage collector does, and prints what the disk did not take
            self._file.close()


class _Mpeg4:
    """OpenCV reports nothing that it could not write, so both ends of that are checked here."""

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self._path = path
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate, size)
        if not self._writer.isOpened():
            raise InputError(f'OpenCV cannot write {path}; check the name')

    def add(self, rgb: np.ndarray) -> None:
        if shutil.disk_usage(self._path.parent).free < rgb.nbytes:
            raise _full_disk()
        self._writer.write(rgb[..., ::-1].copy())

    def close(self, is_kept: bool) -> None:
        self._writer.release()
        # Without its index, at the end, it does not open.
        if is_kept and not cv2.VideoCapture(str(self._path)).isOpened():
            raise _full_disk()


def _full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
