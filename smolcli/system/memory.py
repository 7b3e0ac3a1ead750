"""The memory that processes take and may take, in bytes."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from smolcli.system.cpu import control_groups

MADV_DONTNEED = 4  # on Linux
# In messages of PyTorch, whatever the device.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "_STATUS_ALLOC_FAILED")
PEAK_FIELD = b"VmHWM:"  # in /proc/PID/status, in KiB


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process in bytes, or 0 if the system does not report it.

    On Linux not from getrusage, which includes the memory of the parent from before the exec.
    """
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:
            status = file.read()
        return int(status.partition(PEAK_FIELD)[2].split(maxsplit=1)[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_bytes(
    info: Path = Path("/proc/meminfo"),
    cgroup: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> int:
    """Return the bytes of memory that may still be allocated, by Linux's estimate and within this process's cgroups.

    On other systems it is half of the machine's memory. `info`, `cgroup` and `membership` are for tests.
    """
    try:
        rows = dict(line.split(":") for line in info.read_text(encoding="ascii").splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    folders = control_groups(cgroup, membership, "memory")
    return max(0, min([free, *(left for folder in folders if (left := _left_in_cgroup(folder)) is not None)]))


def _left_in_cgroup(folder: Path) -> int | None:
    """Return the bytes up to a cgroup's limit, not counting cached files that can be dropped; None without a limit."""
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError, KeyError):
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            limit, usage = (int((folder / name).read_text(encoding="ascii")) for name in (limit_file, usage_file))
            return limit - usage + int(stat["inactive_file"])
    return None


def private_bytes(pid: int) -> int:
    """Return the resident memory of a process without mapped files, in bytes, or 0 if the system does not report it."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def drop_from_page_cache(path: Path) -> None:
    """Free the resident pages of a file that this process has mapped; pages that are used again are read again.

    Only for maps that nobody writes to. Does nothing on a system without /proc.
    """
    with suppress(OSError, AttributeError, TypeError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        target = os.path.realpath(path)
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                addresses, *_, name = line.rstrip("\n").split(maxsplit=5)
                if name == target:
                    start, end = (int(address, 16) for address in addresses.split("-"))
                    madvise(start, end - start, MADV_DONTNEED)


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` is a MemoryError, or an error of PyTorch's that says so.

    Its OutOfMemoryError is for a GPU's tensors alone: the driver, cuBLAS and the CPU have messages of a RuntimeError.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    """
    is_class = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_class or any(words in str(error) for words in OUT_OF_MEMORY)
