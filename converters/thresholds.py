"""The limits within which a GGUF pair agrees with its checkpoint (verify.py): one row for each quantization.

A sound pair is to be refused once in thousands, a wrong conversion always (tests/converters/test_verify.py). What sound
pairs reach is measured by benchmarks/verify_limits.py over seeds and by benchmarks/quantizations.py; docs/gguf.md has
the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """What a quantization must reach: share of equal top tokens, mean KL divergence in nats, mean cosine."""

    top1: float
    kl: float
    cosine: float


# Looser than what nano and the 256M shape of docs/gguf.md lost, each with one vision half. The top-1 agreement of q8_0
# lies 3 standard deviations below the mean of two vision halves of the 256M shape, which gave 0.947 and 0.977.
THRESHOLDS: Mapping[str, Thresholds] = {
    "f32": Thresholds(0.98, 1e-3, 0.9999),
    "f16": Thresholds(0.98, 1e-3, 0.9999),
    "bf16": Thresholds(0.97, 1e-2, 0.999),
    "q8_0": Thresholds(0.90, 2e-2, 0.999),
    "q6_k": Thresholds(0.90, 5e-2, 0.99),
    "q5_k_m": Thresholds(0.75, 3e-1, 0.99),
    "q5_1": Thresholds(0.75, 3e-1, 0.99),
    "q5_0": Thresholds(0.75, 3e-1, 0.99),
    "q4_k_m": Thresholds(0.65, 6e-1, 0.97),
    "q4_1": Thresholds(0.65, 6e-1, 0.97),
    "q4_0": Thresholds(0.65, 6e-1, 0.97),
    "q3_k_m": Thresholds(0.60, 1.0, 0.9),
}


def thresholds_of(quantization: str) -> Thresholds:
    """Return the limits of a quantization; those of the coarsest for a file type that is not in the table."""
    return THRESHOLDS.get(quantization, THRESHOLDS["q3_k_m"])
