"""Whether a benchmark had the machine for itself."""

from __future__ import annotations

import os
from pathlib import Path

from smolcli.system.cpu import throttled

MOST_STOLEN = 0.02  # of the machine's time that its host takes for others, before that is told
MOST_OTHERS = 0.1  # the same of other programs


class Watch:
    """Looks at what else the machine was at, between its making and `notices`."""

    def __init__(self) -> None:
        self._begun = _times(), _own(), throttled()

    def notices(self, worked: float = 0.0) -> list[str]:
        """What may have made the measurement worse, in words; none on a quiet machine, or one that does not tell.

        `worked` are the CPU seconds that a child which has not ended took part with.
        """
        before, own_before, throttled_before = self._begun
        now = _times()
        found = []
        if passed := sum(now.values()) - sum(before.values()):
            stolen = (now["steal"] - before["steal"]) / passed
            idle = sum(now[name] - before[name] for name in ("idle", "iowait", "steal"))
            ticks = (_own() - own_before + worked) * os.sysconf("SC_CLK_TCK")
            others = (passed - idle - ticks) / passed
            if stolen > MOST_STOLEN:
                found.append(f"the machine is noisy: its host gave {stolen:.0%} of its time to others")
            if others > MOST_OTHERS:
                found.append(f"the machine is noisy: other programs took {others:.0%} of its time; end them")
        if (held := throttled() - throttled_before) > 0:
            found.append(f"the machine is noisy: {held:.1f} s of work were held back by a CPU quota")
        return found


def _times() -> dict[str, int]:
    """Ticks of all CPUs by what they were at, from /proc/stat."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        return dict(zip(names, map(int, first[1:9]), strict=True))
    except (OSError, ValueError):
        return {}


def _own() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
