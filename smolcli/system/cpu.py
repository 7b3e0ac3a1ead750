"""The CPU: the cores that this process may use, their features, and throttling by control groups (cgroups)."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores by affinity and cgroup quota, which may be fewer than the machine has; at least 1.

    `cgroup` is where the cgroup file systems are mounted, `membership` is the file that names this process's groups.
    """
    by_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in control_groups(cgroup, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([by_affinity, *(math.ceil(quota) for quota in quotas)]))


def cpu_features() -> frozenset[str]:
    """Return the CPU features that the kernel enables, by their names in Linux such as amx_tile; empty elsewhere."""
    info = cpu_info()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def cpu_info() -> dict[str, str]:
    """Return the fields of the first CPU in /proc/cpuinfo; empty if there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def throttled(cgroup: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Return the seconds, since their start, for which a CPU quota has stopped threads of this process's cgroups."""
    return max((_throttled_seconds(folder) for folder in control_groups(cgroup, membership)), default=0.0)


def _throttled_seconds(folder: Path) -> float:
    """Read cpu.stat: throttled_usec in cgroup version 2, throttled_time, in nanoseconds, in version 1."""
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
    try:
        rows = [line.split() for line in (folder / "cpu.stat").read_text(encoding="ascii").splitlines()]
        return sum(units[name] * int(value) for name, value in rows if name in units)
    except (OSError, ValueError):
        return 0.0


def control_groups(cgroup: Path, membership: Path, controller: str = "cpu") -> list[Path]:
    """Return the folders of the process's cgroup and of every group above it, of version 2 and of version 1.

    Version 1 has a tree for each `controller`.
    """
    folders = [cgroup, cgroup / controller]
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            root = cgroup if controllers == "" else cgroup / controller
            group = root / path.lstrip("/")
            folders += [group, *(parent for parent in group.parents if parent.is_relative_to(root))]
    return folders


def _quota(folder: Path) -> float | None:
    """Return the CPUs allowed by cpu.max (version 2) or cpu.cfs_quota_us (version 1), or None without a limit."""
    try:
        if (file := folder / "cpu.max").exists():
            quota, period = file.read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if quota.strip() != "max" and int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
