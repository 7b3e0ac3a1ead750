"""The limits within which a GGUF pair agrees with its checkpoint (verify.py): one row for each quantization.

A sound pair is to be refused once in tens of thousands, a wrong conversion always (tests/converters/test_verify.py).
What sound pairs reach is measured by benchmarks/verify_limits.py over seeds and by benchmarks/quantizations.py;
docs/gguf.md has the numbers.
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


# At least 4 standard deviations from the mean of ten vision halves of the 256M shape of docs/gguf.md, in the looser one
# of the two halves, and no stricter than for a finer quantization: by a normal distribution one sound pair in 30,000
# exceeds it. q4_1 has the limits of q4_0 for text, since the language weights of that shape were stored as q4_1.
# The cosine of q3_k_m is for file types that are not in the table; no vision half is written in it.
THRESHOLDS: Mapping[str, Thresholds] = {
    "f32": Thresholds(0.98, 1e-4, 0.9999),
    "f16": Thresholds(0.98, 1e-4, 0.9999),
    "bf16": Thresholds(0.94, 2e-3, 0.9999),
    "q8_0": Thresholds(0.90, 8e-2, 0.999),
    "q6_k": Thresholds(0.87, 9e-2, 0.99),
    "q5_k_m": Thresholds(0.75, 0.5, 0.99),
    "q5_1": Thresholds(0.70, 0.7, 0.99),
    "q5_0": Thresholds(0.70, 1.5, 0.99),
    "q4_k_m": Thresholds(0.70, 1.5, 0.97),
    "q4_1": Thresholds(0.58, 1.5, 0.97),
    "q4_0": Thresholds(0.58, 1.5, 0.96),
    "q3_k_m": Thresholds(0.58, 1.5, 0.9),
}


def thresholds_of(quantization: str) -> Thresholds:
    """Return the limits of a quantization; those of the coarsest for a file type that is not in the table."""
    return THRESHOLDS.get(quantization, THRESHOLDS["q3_k_m"])
