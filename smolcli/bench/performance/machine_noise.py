"""Finds out whether other programs or the host disturbed a benchmark."""

from __future__ import annotations

import os
from pathlib import Path

from smolcli.bench.report.results import UNSURE
from smolcli.system.cpu import throttled

MAX_STOLEN = 0.02  # fraction of CPU time that the host gave to others; a notice says more
MAX_OTHERS = 0.1  # fraction of CPU time that other programs used; a notice says more


class NoiseWatch:
    """Compares the use of the CPUs between its construction and a call of `notices`."""

    def __init__(self) -> None:
        self._started = _cpu_ticks(), _own_seconds(), throttled()

    def notices(self, engine_seconds: float = 0.0) -> list[str]:
        """What may have disturbed the measurement, one sentence each; empty on a quiet or an unknown machine.

        `engine_seconds` are the CPU seconds that a child used which is still running.
        """
        before, own_before, throttled_before = self._started
        ticks = _cpu_ticks()
        notices = []
        if total := sum(ticks.values()) - sum(before.values()):
            stolen = (ticks["steal"] - before["steal"]) / total
            idle = sum(ticks[name] - before[name] for name in ("idle", "iowait", "steal"))
            own = (_own_seconds() - own_before + engine_seconds) * os.sysconf("SC_CLK_TCK")
            others = (total - idle - own) / total
            if stolen > MAX_STOLEN:
                notices.append(f"{UNSURE}the host gave {stolen:.0%} of the CPU to others; run again when it is quiet")
            if others > MAX_OTHERS:
                notices.append(f"{UNSURE}other programs took {others:.0%} of the CPU; run again when it is quiet")
        if (delay := throttled() - throttled_before) > 0:
            notices.append(f"{UNSURE}a CPU quota held the work back for {delay:.1f} s; raise the quota")
        return notices


def _cpu_ticks() -> dict[str, int]:
    """The ticks of all CPUs by their use, from /proc/stat; empty where that cannot be read."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        return dict(zip(names, map(int, first[1:9]), strict=True))
    except (OSError, ValueError):
        return {}


def _own_seconds() -> float:
    """The CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
