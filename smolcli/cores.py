"""How many cores this process may really use: its affinity and its cgroup's quota, not the host's count."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """At least 1. `cgroup` is where the cgroup file systems are mounted, `membership` names this process's groups."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(cgroup, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([mine, *(math.ceil(quota) for quota in quotas)]))


def _folders(cgroup: Path, membership: Path) -> list[Path]:
    """The process's own group and every group above it, in version 2 and in version 1's cpu controller."""
    folders = [cgroup, cgroup / "cpu"]
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            root = cgroup if controllers == "" else cgroup / "cpu"
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
