"""Prints the comparison of two programs that were measured in turns."""

from __future__ import annotations

import statistics


def compared(subject: str, ours: list[float], theirs: list[float], unit: str) -> None:
    """Print the medians of both sides and the median ratio of a round, which a slower machine changes less."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    first, second = statistics.median(ours), statistics.median(theirs)
    print(
        f"{subject}: {first:.4g} and {second:.4g} {unit}; ratio of a round {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f})",
        flush=True,
    )
