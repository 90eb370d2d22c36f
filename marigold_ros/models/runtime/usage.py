# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Time and memory that work on a device takes, and the memory that is left."""

from collections.abc import Callable
import resource
import sys
from time import perf_counter
from typing import Any

import torch


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def milliseconds(function: Callable[[], Any], device: torch.device) -> float:
    """Time one call, with all work on the device done before and after."""
    wait_for(device)
    start = perf_counter()
    function()
    wait_for(device)
    return 1e3 * (perf_counter() - start)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that may still be allocated; None where the system does not report it."""
    if device.type == 'cuda':
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return bytes_of_proc('/proc/meminfo', 'MemAvailable:')


def bytes_of_proc(path: str, key: str) -> int | None:
    """Return the value of a key in one of Linux' memory reports; None where there is none."""
    try:
        with open(path, encoding='ascii') as file:
            line = next(line for line in file if line.startswith(key))
        return 1024 * int(line.split()[1])
    except (OSError, StopIteration, ValueError):
        return None


class PeakMemory:
    """
    Peak memory since construction: allocations on a GPU, or the resident set on a CPU.

    Where the system cannot forget an earlier peak of the process, :attr:`whole_process` is True.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.whole_process = False
        if device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            with open('/proc/self/clear_refs', 'w', encoding='ascii') as file:
                file.write('5')  # proc(5): reset the peak resident set size
        except OSError:
            self.whole_process = True

    def read(self) -> int:
        """Return the peak in bytes."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device)
        peak = bytes_of_proc('/proc/self/status', 'VmHWM:')
        if peak is not None:
            return peak
        self.whole_process = True
        unit = 1 if sys.platform == 'darwin' else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
