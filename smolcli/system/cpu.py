"""How many cores this process may really use (its affinity and its cgroup's quota, not the host's count), and what
they can do."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """At least 1. `cgroup` is where the cgroup file systems are mounted, `membership` names this process's groups."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in control_groups(cgroup, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([mine, *(math.ceil(quota) for quota in quotas)]))


def cpu_features() -> frozenset[str]:
    """What the CPU can do and the kernel lets it, in Linux's names, as amx_tile; empty where that is not told."""
    info = cpu_info()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def cpu_info() -> dict[str, str]:
    """The first CPU's lines of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def throttled(cgroup: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Seconds for which threads of this process's control groups were held back by a CPU quota, all in all."""
    return max((_held_back(folder) for folder in control_groups(cgroup, membership)), default=0.0)


def _held_back(folder: Path) -> float:
    """throttled_usec of cpu.stat in version 2, throttled_time in nanoseconds in version 1."""
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
    try:
        rows = [line.split() for line in (folder / "cpu.stat").read_text(encoding="ascii").splitlines()]
        return sum(units[name] * int(value) for name, value in rows if name in units)
    except (OSError, ValueError):
        return 0.0


def control_groups(cgroup: Path, membership: Path, controller: str = "cpu") -> list[Path]:
    """The process's own group and every group above it, in version 2 and in version 1's `controller`."""
    folders = [cgroup, cgroup / controller]
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            root = cgroup if controllers == "" else cgroup / controller
            own = root / path.lstrip("/")
            folders += [own, *(above for above in own.parents if above.is_relative_to(root))]
    return folders


def _quota(folder: Path) -> float | None:
    """CPUs allowed by cpu.max (version 2) or cpu.cfs_quota_us (version 1); None where there is no limit."""
    try:
        if (file := folder / "cpu.max").exists():
            quota, period = file.read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if quota.strip() != "max" and int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
