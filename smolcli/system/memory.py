"""What memory processes take, and how to take less."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from smolcli.system.cpu import control_groups

DONT_NEED = 4  # MADV_DONTNEED of Linux
PEAK = b"VmHWM:"  # in /proc/PID/status, in KiB


def peak() -> int:
    """The most bytes of memory that this process has had resident at a time; 0 where the system does not tell.

    On Linux getrusage counts what the process was before it became this program: its parent's memory.
    """
    try:
        with open("/proc/self/status", "rb") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(PEAK))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available(
    info: Path = Path("/proc/meminfo"),
    cgroup: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> int:
    """Bytes of memory that may still be taken, by Linux's estimate and within the limits of this process's groups.

    Elsewhere half of what the machine has.
    """
    try:
        rows = dict(line.split(":") for line in info.read_text(encoding="ascii").splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    folders = control_groups(cgroup, membership, "memory")
    return max(0, min([free, *(left for folder in folders if (left := _left(folder)) is not None)]))


def _left(folder: Path) -> int | None:
    """Of a group's limit, files that could be read again not counted; None where there is none."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        with suppress(OSError, ValueError, KeyError):
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            most, taken = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
            return most - taken + int(stat["inactive_file"])
    return None


def own(pid: int) -> int:
    """Bytes of memory that a process has for itself, without files mapped; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def drop_from_page_cache(path: Path) -> None:
    """Gives the pages back that this process has of a mapped file; what is needed of them again is read again.

    Only for maps that nobody writes to. Does nothing where the system has no /proc.
    """
    with suppress(OSError, AttributeError, TypeError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        wanted = os.path.realpath(path)
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                place, *_, name = line.rstrip("\n").split(maxsplit=5)
                if name == wanted:
                    begin, end = (int(number, 16) for number in place.split("-"))
                    madvise(begin, end - begin, DONT_NEED)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says so: Python's, PyTorch's on a GPU (a class) or on a CPU (a RuntimeError)."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)
